"""Progress of a run on the console: one bar on a terminal, elsewhere one line a stage and one a minute at least.

The time left starts from the estimate of the plan and moves to what the finished stages took: after a share `f` of the
estimated work, in `t` minutes, it is ``(1 - f) * ((1 - f) * estimate + t)``.
"""

import contextlib
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import IO, TYPE_CHECKING, NoReturn

from bids_sr.cli.heartbeat import EVERY_S, heartbeat
from bids_sr.preflight.pace import duration

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node, Workflow
    from tqdm import tqdm

    from bids_sr.preflight import Plan

OTHER = ""
STAGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "anat_wf": ("anatomy: bias field, brain mask, template, atlas", ("anatomical and registration",)),
    "pair": ("T2* pair: registration", ("anatomical and registration",)),
    "train": ("training", ("training", "calibration")),
    "variance": ("variance maps of the run", ("training", "calibration")),
    "motion_wf": ("head motion and slice timing", ("motion",)),
    "bold_registration": ("registration of the run", ("anatomical and registration",)),
    "series": ("super-resolution and baselines", ("series",)),
    "maps_figures": ("figures of the maps", ("report",)),
    "maps": ("activation maps", ("activation",)),
    "comparison": ("evaluation", ()),
    "evaluation": ("evaluation", ("evaluation", "shuffles")),
    "guards": ("evaluation: quality control", ()),
    "truth": ("evaluation: high-resolution reference", ()),
    "clusters": ("evaluation: clusters", ()),
    "image": ("evaluation: image quality", ()),
    "confounds": ("head motion and slice timing", ()),
    "anat_figures": ("figures", ()),
    "summary": ("figures", ()),
    "prepare": ("structural scans: bias field, brain, registration", ("preparation",)),
    "fused": ("structural scans: training and super-resolution of all contrasts", ("training",)),
    "measured": ("structural scans: metrics and figures", ("measures and figures",)),
    "figures": ("figures", ("report",)),
}
"""Start of a workflow's name → what its stage is called, and the rows of the plan's estimate (by their start)."""
_FIGURES = re.compile(r"_(maps|run|evaluation|overview|variance|calibration|training_[a-z0-9]+)_figures$")
"""End of the names of the workflows of a run's figures."""


def stage_of(fullname: str) -> tuple[str, str]:
    """Participant or run, and key of `STAGES`, of a node; ``OTHER`` where it belongs to none.

    >>> stage_of("bids_sr_wf.sub_01_wf.sub_01_task_tap_wf.maps_srgan_wf.fit")
    ('sub-01_task-tap', 'maps')
    >>> stage_of("bids_sr_wf.sub_01_wf.sub_01_task_tap_maps_figures.mosaic")[1]
    'maps_figures'
    """
    parts = fullname.split(".")
    stage = next((key for part in parts[2:] for key in STAGES if part.startswith(key)), OTHER)
    label = parts[1].removesuffix("_wf").removesuffix("_scans") if len(parts) > 1 else ""
    if len(parts) > 3 and parts[2].startswith("sub_"):
        label = parts[2].removesuffix("_wf")
    if drawn := _FIGURES.search(label):
        label, stage = label[: drawn.start()], "maps_figures" if drawn[1] == "maps" else "figures"
    words = label.split("_")
    return "_".join(f"{key}-{value}" for key, value in zip(words[::2], words[1::2], strict=False)), stage


def stage_minutes(plan: "Plan", there: Collection[str] = STAGES) -> dict[str, float]:
    """Estimated processor minutes of each stage of `STAGES`; those that are `there` share the rows of the estimate."""
    rows, shared = plan.estimate.rows, Counter(starts for key, (_, starts) in STAGES.items() if key in there)
    return {
        key: sum(row.minutes for row in rows if row.stage.startswith(starts)) / max(1, shared[starts])
        for key, (_, starts) in STAGES.items()
    }


def nodes_that_run(workflow: "Workflow") -> list[str]:
    """Full names of the nodes that the scheduler will start: nipype takes those out that only hand on fields."""
    from nipype.interfaces.utility import IdentityInterface

    names = workflow.list_node_names()
    run = (name for name in names if not isinstance(workflow.get_node(name).interface, IdentityInterface))
    return [f"{workflow.name}.{name}" for name in run]


_LOOK_S = 2.0
_MOST = 0.9  # of a step that runs, counted as done by its time before it ends


class Progress:
    """Tells how far a run is; the scheduler calls it for every node, by its full name, that starts, ends or fails.

    The estimate of the plan says what each stage weighs and how long all takes, which `slower` multiplies, see
    `bids_sr.preflight.pace`. `say` prints one line; a bar goes to `stream` if that is a terminal.
    """

    def __init__(
        self, nodes: Iterable[str], plan: "Plan", say: Callable[[str], None], *, slower: float = 1.0,
        stream: IO[str] | None = None, clock: Callable[[], float] = time.monotonic, look_s: float = _LOOK_S,
    ) -> None:  # fmt: skip
        names = list(nodes)
        counts = Counter(stage_of(name)[1] for name in names)
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
        label, stage = stage_of(node.fullname)
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
