"""Progress of a run on the console: one bar on a terminal, elsewhere one line a stage and one a minute at least.

The time left starts from the estimate of the plan and moves to what the finished stages took: after a share `f` of the
estimated work, in `t` minutes, it is ``(1 - f) * ((1 - f) * estimate + t)``.
"""

import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import IO, TYPE_CHECKING, NoReturn

from bids_sr.cli.heartbeat import EVERY_S, heartbeat
from bids_sr.pipeline.graph import run_of
from bids_sr.preflight.pace import duration

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node
    from tqdm import tqdm

    from bids_sr.preflight import Plan

OTHER = ""
STAGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "register_pair": ("T2* pair: registration", ()),
    "estimate_variance": ("variance maps of the run", ("training", "calibration")),
    "prepare_scans": ("structural scans: bias field, brain, registration", ("preparation",)),
    "structural": ("structural scans: training and super-resolution of all contrasts", ("training",)),
    "anatomy": ("anatomy: bias field, brain mask, template, atlas", ("anatomical and registration",)),
    "registration": ("registration", ("anatomical and registration",)),
    "imported": ("what other programs made", ("anatomical and registration",)),
    "motion": ("head motion and slice timing", ("motion",)),
    "seed_regressors": ("time series of the seeds", ()),
    "calibration_run": ("calibration", ()),
    "training": ("training", ("training", "calibration")),
    "super_resolution": ("super-resolution and baselines", ("series",)),
    "activation": ("activation maps", ("activation",)),
    "active_regions": ("evaluation: regions and clusters", ()),
    "evaluation": ("evaluation", ("evaluation", "shuffles")),
    "quality": ("evaluation: quality control", ()),
    "judgment": ("evaluation", ()),
    "primary": ("files for other tools", ()),
    "figures": ("figures", ("report",)),
}
"""Step, or the module in which it stands → what its stage is called, and the rows of the estimate (their start)."""


def stage_of(node: "Node") -> str:
    """Key of `STAGES` for what a node runs; ``OTHER`` where it belongs to no stage, as what stores or joins."""
    step = getattr(node.interface, "step", None)
    known = () if step is None else (step.__name__, *step.__module__.split(".")[:1:-1])
    return next((name for name in known if name in STAGES), OTHER)


def stage_minutes(plan: "Plan", there: Collection[str] = STAGES) -> dict[str, float]:
    """Estimated processor minutes of each stage of `STAGES`; those that are `there` share the rows of the estimate."""
    rows, shared = plan.estimate.rows, Counter(starts for key, (_, starts) in STAGES.items() if key in there)
    return {
        key: sum(row.minutes for row in rows if row.stage.startswith(starts)) / max(1, shared[starts])
        for key, (_, starts) in STAGES.items()
    }


_LOOK_S = 2.0
_MOST = 0.9  # of a step that runs, counted as done by its time before it ends


class Progress:
    """Tells how far a run is; the scheduler calls it for every node, by its full name, that starts, ends or fails.

    The estimate of the plan says what each stage weighs and how long all takes, which `slower` multiplies, see
    `bids_sr.preflight.pace`. `say` prints one line; a bar goes to `stream` if that is a terminal.
    """

    def __init__(
        self, nodes: Iterable["Node"], plan: "Plan", say: Callable[[str], None], *, slower: float = 1.0,
        stream: IO[str] | None = None, clock: Callable[[], float] = time.monotonic, look_s: float = _LOOK_S,
    ) -> None:  # fmt: skip
        counts = Counter(map(stage_of, nodes))
        minutes = {**stage_minutes(plan, counts), OTHER: 0.02 * plan.estimate.minutes}
        weights = {key: minutes[key] / count for key, count in counts.items()}
        if not any(weights.values()):
            weights = dict.fromkeys(counts, 1.0)
        self._weights = weights
        self._total = sum(weights[key] * count for key, count in counts.items()) or 1.0
        self._estimate, self._say = plan.estimate.minutes * slower, say
        self._processors = plan.estimate.processors
        self._clock, self._began, self._said = clock, clock(), clock()
        self._done, self._ended, self._told = 0.0, set[str](), set[tuple[str, str]]()
        self._running: dict[str, tuple[str, str, float]] = {}  # node → participant or run, stage, since when
        self._lock = threading.RLock()
        stream = stream or sys.stdout
        self._bar: tqdm[NoReturn] | None = None
        self._stage = ""
        if stream.isatty():
            import tqdm as bars

            self._bar = bars.tqdm(
                total=100, file=stream, bar_format="{percentage:3.0f} % |{bar:30}| {desc}", leave=False
            )
        self._open = contextlib.ExitStack()
        self._open.enter_context(heartbeat(self.beat, look_s))

    @property
    def share(self) -> float:
        """Share of the estimated work that is done, 0 to 1; steps that run count by the time that they have run."""
        under_way = 0.0
        for _, stage, since in self._running.values():
            weight = self._weights.get(stage, 0.0)
            expected = weight / self._total * self._estimate * self._processors * 60  # s, on one processor
            under_way += weight * min(_MOST, (self._clock() - since) / expected if expected > 0 else 0.0)
        return min(1.0, (self._done + under_way) / self._total)

    @property
    def minutes_left(self) -> float:
        """What is still to be waited for, by the estimate and by what the finished stages took."""
        rest, took = 1 - self.share, (self._clock() - self._began) / 60
        return rest * (rest * self._estimate + took)

    def __call__(self, node: "Node", status: str) -> None:
        """Take note that `node` starts, ended or failed."""
        label, stage = run_of(node.fullname), stage_of(node)
        with self._lock:
            if status == "exception":
                self.line(f"failed: {node.fullname}")
            if status == "start":
                self._running[node.fullname] = label, stage, self._clock()
                if stage != OTHER and (label, stage) not in self._told:
                    self._told.add((label, stage))
                    self._tell(label, stage)
                return
            self._running.pop(node.fullname, None)
            if node.fullname not in self._ended:
                self._ended.add(node.fullname)
                self._done += self._weights.get(stage, 0.0)
                self._show()

    def beat(self) -> None:
        """Keep the bar moving; where lines are printed, repeat one if nothing was said for almost a minute."""
        with self._lock:
            self._show()
            if self._bar is not None or self._clock() - self._said < EVERY_S:
                return
            known = (each for each in self._running.values() if each[1] != OTHER)
            label, stage, _ = min(known, key=lambda each: each[2], default=("", OTHER, 0.0))
            self._tell(label, stage)

    def _tell(self, label: str, stage: str) -> None:
        text = f"{label}: {STAGES[stage][0]}" if stage != OTHER else "working"
        if self._bar is None:
            self._said = self._clock()
            self._say(f"{text} ({100 * self.share:.0f} %, {duration(self.minutes_left)} left)")
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
