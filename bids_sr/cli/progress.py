"""Progress of a run on the console: a bar on a terminal, else a line per stage or minute.

Share and time left are those of the graph, by the processor time that its steps declare.
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
from bids_sr.cli.stages import STAGES, stage_of
from bids_sr.evaluation.verdict_text import verdict_line
from bids_sr.notices import whom_text
from bids_sr.pipeline.nodes import owner_of
from bids_sr.preflight.plan_text import duration
from bids_sr.steps.judgment import judge
from bids_sr.workflows.judge_run import FIRST_VERDICT

if TYPE_CHECKING:
    from networkx import DiGraph
    from nipype.pipeline.engine import Node as NipypeNode
    from tqdm import tqdm

_OTHER = ""
_BETWEEN = frozenset(
    {
        _OTHER,
        "average_series",
        "mask_in_template",
        "invert_coreg",
        "label_tissues",
        "show_in_space",
        "figures",
        "store",
    }
)
"""What runs in between as soon as it can, and begins no stage."""


_LOOK_S = 2.0
_FIRST = 0.05  # of the work, before which no time left is told: the plan has told the estimate


_TRUST = 0.1  # of a run: how much the estimate before it counts beside what is seen


class _TimeLeft:
    """Share that is done of the declared processor time, and time left at the pace seen so far.

    `steps` are the declared seconds of each step; before anything is seen they are expected to
    take `slower` times as long on so many `processors`. `now` is seconds since the start.
    """

    def __init__(
        self, steps: Mapping[str, float], *, processors: float = 1.0, slower: float = 1.0
    ) -> None:
        self._left = dict(steps)
        self._total = sum(steps.values())
        self._slower = slower
        self._expected = slower * self._total / processors
        self._since: dict[str, float] = {}

    def start(self, name: str, now: float) -> None:
        """A step begins."""
        self._since[name] = now

    def end(self, name: str, now: float) -> None:
        """A step is done."""
        self._left.pop(name, None)
        self._since.pop(name, None)

    def share(self, now: float) -> float:
        """Share done, 0 to 1; a step that runs counts by its time, and never as done."""
        if not self._left or not self._total:
            return float(not self._left)
        left = (
            max(0.1 * declared, declared - (now - self._since.get(name, now)) / self._slower)
            for name, declared in self._left.items()
        )
        return 1 - sum(left) / self._total

    def seconds(self, now: float) -> float:
        """Time left (s)."""
        share = self.share(now)
        return (now + _TRUST * self._expected) / (share + _TRUST) * (1 - share)


class Progress:
    """Progress display, which the scheduler calls for every node by its full name.

    It is called when a node starts, ends or fails. A verdict is shown as soon as it is there.

    `graph`: all steps of the run, with the processor time that they declare as ``seconds``.
    `processors`: steps that run at one time. `slower`: how many times as long as declared they are
    expected to take. `stream`: where a bar may be drawn; None takes the standard output. `clock`:
    gives the time (s); it never goes back.
    """

    def __init__(
        self,
        graph: "DiGraph[NipypeNode]",
        say: Callable[[str], None],
        *,
        processors: float = 1.0,
        slower: float = 1.0,
        stream: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        look_s: float = _LOOK_S,
    ) -> None:

        steps = {node.fullname: getattr(node, "seconds", 0.0) for node in graph.nodes()}
        self._left = _TimeLeft(steps, processors=processors, slower=slower)
        began = clock()
        self._say = say
        self._clock = lambda: clock() - began
        self._said = 0.0
        self._told = set[tuple[str, str]]()
        self.judged = set[str]()
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

    def __call__(self, node: "NipypeNode", status: str) -> None:
        """Take note that `node` starts, ended or failed."""
        label = whom_text(*owner_of(node))
        stage = stage_of(getattr(node.interface, "step", None))
        with self._lock:
            if status == "exception":
                self.line(f"step failed: {node.fullname}")
            if status == "start":
                self._running[node.fullname] = label, stage, self._clock()
                self._left.start(node.fullname, self._clock())
                if stage not in _BETWEEN and (label, STAGES[stage]) not in self._told:
                    self._told.add((label, STAGES[stage]))
                    self._tell(label, stage)
                return
            began = self._running.pop(node.fullname, None)
            self._left.end(node.fullname, self._clock())
            if began and status == "end" and getattr(node.interface, "step", None) is judge:
                verdict = json.loads(Path(node.result.outputs.verdict).read_text(encoding="utf-8"))
                if (
                    node.fullname.endswith(f".{FIRST_VERDICT}.judge")
                    and verdict.get("status") == "not applied"
                ):
                    verdict["headline"] = ""  # networks, which are judged later, may be applied
                self.line(f"{label}: {verdict_line(verdict)}")
                self.judged.add(label)
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
        text = f"{label}: {STAGES[stage]}" if stage != _OTHER else "working"
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
        """Print a line without breaking the bar."""
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
