"""Progress of a run on the console: a bar on a terminal, else a line per stage or minute.

Share and time left are those of the graph, see `bids_sr.cli.time_left`.
"""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

from bids_sr.cli.heartbeat import EVERY_S, heartbeat
from bids_sr.cli.time_left import TimeLeft, Work
from bids_sr.execution.usage import kind_of
from bids_sr.notices import whom_text
from bids_sr.pipeline.graph import whom_of
from bids_sr.preflight.pace import duration
from bids_sr.stats.evaluation.verdict_text import verdict_line
from bids_sr.steps.judgment import judge

if TYPE_CHECKING:
    from networkx import DiGraph
    from nipype.pipeline.engine import Node
    from tqdm import tqdm

_OTHER = ""
_STAGES: Mapping[str, str] = {
    "register_pair": "registration",
    "estimate_variance": "variance maps of the run",
    "prepare_scans": "structural scans: bias field, brain, registration",
    "structural": "structural scans: training and super-resolution of all contrasts",
    "anatomy": "anatomy: bias field, brain mask, template, atlas",
    "registration": "registration",
    "imported": "what other programs made",
    "motion": "head motion and slice timing",
    "seed_regressors": "time series of the seeds",
    "calibration_run": "calibration",
    "training": "training",
    "super_resolution": "super-resolution and baselines",
    "activation": "activation maps",
    "active_regions": "evaluation",
    "evaluation": "evaluation",
    "quality": "evaluation",
    "judgment": "evaluation",
    "primary": "files for other tools",
    "figures": "figures",
}
"""Step, or the module in which it stands → what its stage is called."""
_BETWEEN = frozenset({_OTHER, "primary", "figures"})
"""What runs in between as soon as it can, and begins no stage."""


def _stage_of(node: "Node") -> str:
    """Return the key of `_STAGES` for a node, or ``_OTHER`` if it only stores or joins.

    Parameters
    ----------
    node : 'Node'
        Step with its interface.

    Returns
    -------
    str
        Name of a step or module, or an empty text.
    """
    step = getattr(node.interface, "step", None)
    known = () if step is None else (step.__name__, *step.__module__.split(".")[:1:-1])
    return next((name for name in known if name in _STAGES), _OTHER)


_LOOK_S = 2.0
_FIRST = 0.05  # of the work, before which no time left is told: the plan has told the estimate


class Progress:
    """Progress display, which the scheduler calls for every node by its full name.

    It is called when a node starts, ends or fails. A verdict is shown as soon as it is there.

    Parameters
    ----------
    graph : 'DiGraph[Node]'
        All steps of the run, with the processor time that they declare as ``seconds``.
    say : Callable[[str], None]
        Takes each message as a line of text.
    processors : float
        Steps that run at one time.
    slower : float
        How many times as long as declared the steps are expected to take.
    stream : IO[str] | None
        Where a bar may be drawn; None takes the standard output.
    clock : Callable[[], float]
        Gives the time (s); it never goes back.
    look_s : float
        Pause between two looks at the time (s).
    """

    def __init__(
        self,
        graph: "DiGraph[Node]",
        say: Callable[[str], None],
        *,
        processors: float = 1.0,
        slower: float = 1.0,
        stream: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        look_s: float = _LOOK_S,
    ) -> None:
        from networkx import topological_sort

        steps = {
            node.fullname: Work(
                kind=kind_of(node),
                seconds=getattr(node, "seconds", 0.0),
                then=[each.fullname for each in graph.successors(node)],
            )
            for node in topological_sort(graph)
        }
        self._left = TimeLeft(steps, processors=processors, slower=slower)
        self._say, self._clock, self._said = say, clock, clock()
        self._told = set[tuple[str, str]]()
        # node → participant or run, stage, since when
        self._running: dict[str, tuple[str, str, float]] = {}
        self._lock = threading.RLock()
        stream = stream or sys.stdout
        self._bar: tqdm[NoReturn] | None = None
        self._stage = ""
        if stream.isatty():
            import tqdm as bars

            self._bar = bars.tqdm(
                total=100,
                file=stream,
                bar_format="{percentage:3.0f} % |{bar:30}| {desc}",
                leave=False,
            )
        self._open = contextlib.ExitStack()
        self._open.enter_context(heartbeat(self.beat, look_s))

    @property
    def share(self) -> float:
        """Share of the processor time that is done (0 to 1), which never decreases."""
        return self._left.share(self._clock())

    @property
    def minutes_left(self) -> float:
        """What is still to be waited for."""
        return self._left.seconds(self._clock()) / 60

    def __call__(self, node: "Node", status: str) -> None:
        """Take note that `node` starts, ended or failed."""
        label, stage = whom_text(*whom_of(node)), _stage_of(node)
        with self._lock:
            if status == "exception":
                self.line(f"failed: {node.fullname}")
            if status == "start":
                self._running[node.fullname] = label, stage, self._clock()
                self._left.start(node.fullname, self._clock())
                if stage not in _BETWEEN and (label, _STAGES[stage]) not in self._told:
                    self._told.add((label, _STAGES[stage]))
                    self._tell(label, stage)
                return
            began = self._running.pop(node.fullname, None)
            self._left.end(node.fullname, self._clock())
            if began and status == "end" and getattr(node.interface, "step", None) is judge:
                verdict = json.loads(Path(node.result.outputs.verdict).read_text(encoding="utf-8"))
                self.line(f"{label}: {verdict_line(verdict)}")
            self._show()

    def beat(self) -> None:
        """Keep the bar moving, or repeat a printed line after almost a minute of silence."""
        with self._lock:
            self._show()
            if self._bar is not None or self._clock() - self._said < EVERY_S:
                return
            known = (each for each in self._running.values() if each[1] != _OTHER)
            label, stage, _ = min(
                known, key=lambda each: (each[1] in _BETWEEN, each[2]), default=("", _OTHER, 0.0)
            )
            self._tell(label, stage)

    def _tell(self, label: str, stage: str) -> None:
        text = f"{label}: {_STAGES[stage]}" if stage != _OTHER else "working"
        if self._bar is None:
            self._said = self._clock()
            left = f", {duration(self.minutes_left)} left" if self.share >= _FIRST else ""
            self._say(f"{text} ({100 * self.share:.0f} %{left})")
        else:
            self._stage = text
            self._show()

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.n = round(100 * self.share, 1)
            self._bar.set_description_str(f"{duration(self.minutes_left)} left · {self._stage}")

    def line(self, text: str) -> None:
        """Print a line without breaking the bar.

        Parameters
        ----------
        text : str
            What there is to say.
        """
        if self._bar is not None:
            self._bar.clear()
        self._say(text)
        if self._bar is not None:
            self._bar.refresh()

    def close(self) -> None:
        """Take the bar away, and say nothing any more."""
        self._open.close()
        if self._bar is not None:
            self._bar.close()
