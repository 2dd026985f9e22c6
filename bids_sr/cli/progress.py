"""Progress of a run on the console: a bar on a terminal, else a line per stage or minute.

The time left is the estimate of what is not done yet, times the pace so far: the minutes that the
run has taken over those that were estimated for what it has done. A step that runs counts by its
time at the pace of the steps that ended, and never as done; so one that takes longer than it
should slows the pace, and raises the time left.
"""

import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import IO, TYPE_CHECKING, NoReturn

from bids_sr.cli.heartbeat import EVERY_S, heartbeat
from bids_sr.notices import whom_text
from bids_sr.pipeline.graph import whom_of
from bids_sr.preflight.pace import duration

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node
    from tqdm import tqdm

    from bids_sr.preflight import Plan

_OTHER = ""
_ANATOMICAL, _TRAINING, _EVALUATION = ("anatomical",), ("training", "calibration"), ("evaluation",)
_STAGES: Mapping[str, tuple[str, tuple[str, ...], float]] = {
    "register_pair": ("registration", _ANATOMICAL, 0.3),
    "estimate_variance": ("variance maps of the run", _TRAINING, 1),
    "prepare_scans": ("structural scans: bias field, brain, registration", ("preparation",), 1),
    "structural": (
        "structural scans: training and super-resolution of all contrasts",
        ("training",),
        1,
    ),
    "anatomy": ("anatomy: bias field, brain mask, template, atlas", _ANATOMICAL, 9),
    "registration": ("registration", _ANATOMICAL, 1),
    "imported": ("what other programs made", _ANATOMICAL, 1),
    "motion": ("head motion and slice timing", ("motion",), 1),
    "seed_regressors": ("time series of the seeds", ("activation",), 0.1),
    "calibration_run": ("calibration", _TRAINING, 0.1),
    "training": ("training", _TRAINING, 3),
    "super_resolution": ("super-resolution and baselines", ("series",), 1),
    "activation": ("activation maps", ("activation",), 1),
    "active_regions": ("evaluation", _EVALUATION, 0.1),
    "evaluation": ("evaluation", _EVALUATION, 1),
    "quality": ("evaluation", _EVALUATION, 0.1),
    "judgment": ("evaluation", _EVALUATION, 0.1),
    "primary": ("files for other tools", ("report",), 0.01),
    "figures": ("figures", ("report",), 1),
}
"""Step, or the module in which it stands → what its stage is called, the rows of the estimate
(their start), and its part of them beside the other stages that share them, as the README's
example took them."""
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


def _stage_minutes(plan: "Plan", there: Collection[str]) -> dict[str, float]:
    """Return the estimated processor minutes of each stage of `_STAGES`.

    Stages that are `there` share the rows of the estimate.
    """
    rows, known = plan.estimate.rows, [_STAGES[key] for key in _STAGES if key in there]
    return {
        key: sum(row.minutes for row in rows if row.stage.startswith(starts))
        * part
        / (sum(each for _, others, each in known if others == starts) or part)
        for key, (_, starts, part) in _STAGES.items()
    }


_LOOK_S = 2.0
_MOST = 0.9  # of a step that runs, counted as done by its time before it ends
_TRUSTED = 0.05  # of the estimated time, which counts like a part that was done as estimated
_FIRST = 0.05  # of the work, before which no time left is told: the plan has told the estimate


class Progress:
    """Progress display, which the scheduler calls for every node by its full name.

    It is called when a node starts, ends or fails.

    The estimate of the plan says what each stage weighs and how long all takes, which `slower`
    multiplies, see `bids_sr.preflight.pace`. `say` prints one line; a bar goes to `stream` if that
    is a terminal.

    Parameters
    ----------
    nodes : Iterable['Node']
        All steps of the run.
    plan : 'Plan'
        What the call will do.
    say : Callable[[str], None]
        Takes each message as a line of text.
    slower : float
        How many times as long as estimated the run is expected to take.
    stream : IO[str] | None
        Where a bar may be drawn; None takes the standard output.
    clock : Callable[[], float]
        Gives the time (s); it never goes back.
    look_s : float
        Pause between two looks at the time (s).
    """

    def __init__(
        self,
        nodes: Iterable["Node"],
        plan: "Plan",
        say: Callable[[str], None],
        *,
        slower: float = 1.0,
        stream: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        look_s: float = _LOOK_S,
    ) -> None:
        counts = Counter(map(_stage_of, nodes))
        minutes = {**_stage_minutes(plan, counts), _OTHER: 0.02 * plan.estimate.minutes}
        weights = {key: minutes[key] / count for key, count in counts.items()}
        if not any(weights.values()):
            weights = dict.fromkeys(counts, 1.0)
        self._weights = weights
        self._total = sum(weights[key] * count for key, count in counts.items()) or 1.0
        self._estimate, self._say = plan.estimate.minutes * slower, say
        self._processors = plan.estimate.processors
        self._clock, self._began, self._said = clock, clock(), clock()
        self._done, self._ended, self._told = 0.0, set[str](), set[tuple[str, str]]()
        self._pace_of_ended, self._furthest = 1.0, 0.0
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
        """Share of the estimated work that is done (0 to 1), which never decreases.

        See the module's docstring.
        """
        under_way = 0.0
        for _, stage, since in self._running.values():
            weight = self._weights.get(stage, 0.0)
            # s
            expected = (
                weight / self._total * self._estimate * self._processors * 60 * self._pace_of_ended
            )
            under_way += weight * min(
                _MOST, (self._clock() - since) / expected if expected > 0 else 0.0
            )
        self._furthest = max(self._furthest, min(1.0, (self._done + under_way) / self._total))
        return self._furthest

    @property
    def minutes_left(self) -> float:
        """What is still to be waited for; see the module's text."""
        share = self.share
        return (1 - share) * self._estimate * self._pace(share)

    def _pace(self, share: float) -> float:
        """Return the ratio of minutes taken to minutes estimated for a share of the work.

        At first it is as estimated.
        """
        took, trusted = (self._clock() - self._began) / 60, _TRUSTED * self._estimate
        return (took + trusted) / (share * self._estimate + trusted) if trusted else 1.0

    def __call__(self, node: "Node", status: str) -> None:
        """Take note that `node` starts, ended or failed."""
        label, stage = whom_text(*whom_of(node)), _stage_of(node)
        with self._lock:
            if status == "exception":
                self.line(f"failed: {node.fullname}")
            if status == "start":
                self._running[node.fullname] = label, stage, self._clock()
                if stage not in _BETWEEN and (label, _STAGES[stage][0]) not in self._told:
                    self._told.add((label, _STAGES[stage][0]))
                    self._tell(label, stage)
                return
            self._running.pop(node.fullname, None)
            if node.fullname not in self._ended:
                self._ended.add(node.fullname)
                self._done += self._weights.get(stage, 0.0)
                self._pace_of_ended = max(1.0, self._pace(self.share))
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
        text = f"{label}: {_STAGES[stage][0]}" if stage != _OTHER else "working"
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
