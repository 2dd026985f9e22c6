"""Progress of a run on the console: a bar on a terminal, else a line per stage or minute.

Share and time left are those of the graph, by the processor time that its steps declare.

Stages of a call, and what each takes: sums over the steps that it places.
"""

import contextlib
import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

from bids_sr.bids.pairs import as_downsampled
from bids_sr.cli.console import EVERY_S, heartbeat
from bids_sr.config import Settings
from bids_sr.config.machine import BASE_GB, Sizes, step_gb
from bids_sr.evaluation.verdict_text import verdict_line
from bids_sr.notices import whom_text
from bids_sr.pipeline.nodes import owner_of
from bids_sr.preflight.estimates import estimate
from bids_sr.preflight.plan import Estimate, Plan, Row, duration
from bids_sr.steps.evaluation import judge
from bids_sr.version import __version__
from bids_sr.workflows.judge_run import FIRST_VERDICT

if TYPE_CHECKING:
    from networkx import DiGraph
    from nipype.pipeline.engine import Node as NipypeNode
    from tqdm import tqdm

    from bids_sr.bids import BoldRun
    from bids_sr.pipeline.nodes import Node
    from bids_sr.pipeline.step import AnyStep


STAGES: Mapping[str, str] = {
    "prepare_scans": "structural scans: bias correction, brain extraction and registration",
    "prepare_control": "structural scans: bias correction, brain extraction and registration",
    "prepare_lowres": "structural scans: bias correction, brain extraction and registration",
    "structural": "structural scans: training and super-resolution of all contrasts",
    "anatomy": "anatomical images: bias-field correction, brain mask, template registration and"
    " atlas",
    "imported": "series from other programs",
    "motion": "head-motion and slice-timing correction",
    "register_pair": "registration",
    "registration": "registration",
    "seed_series": "seed time series",
    "component_series": "seed time series",
    "register_calibration": "calibration",
    "measure_calibration": "calibration",
    "estimate_variance": "prior variance maps",
    "training": "training",
    "super_resolution": "super-resolution and baseline methods",
    "compared_series": "series from other programs",
    "activation": "activation maps",
    "active_regions": "evaluation",
    "evaluation": "evaluation",
    "quality": "evaluation",
    "average_series": "files for other software",
    "mask_in_template": "files for other software",
    "invert_coreg": "files for other software",
    "label_tissues": "files for other software",
    "show_in_space": "files for other software",
    "figures": "figures",
    "store": "storing the outputs",
}
"""Step, or the module in which it stands → what its stage is called, in the order of the work."""
_START, _START_S = "starting the program and writing the reports", 14.0


def stage_of(step: "AnyStep | None") -> str:
    """Return the key of `STAGES` for a step.

    `step`: step of the graph; None for what only joins. Returns the name of a step or module, or
    an empty text.
    """
    known = () if step is None else (step.__name__, *step.__module__.split(".")[:1:-1])
    return next((name for name in known if name in STAGES), "")


def expected(plan: Plan, settings: Settings, steps: "Iterable[Node] | None" = None) -> Estimate:
    """Return the cost of a call with the time and memory of each stage.

    `steps`: those that it runs; None places all, of downsampled data with ``--retrospective``.
    Memory and disk are those of `preflight`, processor time is as the steps declare it.
    """
    from bids_sr.workflows.participant import scope_of_all

    plan = replace(plan, subjects=as_downsampled(plan.subjects, settings))
    cost = estimate(plan, settings)
    seconds, memory = {_START: _START_S}, {_START: BASE_GB}
    seconds_of = declared_seconds(plan, cost.sizes)
    if steps is None:
        scopes = scope_of_all(settings, plan, __version__).inward()
        steps = (node for one in scopes for node in one.nodes)
    for node in steps:
        stage = STAGES[stage_of(node.step)]
        seconds[stage] = seconds.get(stage, 0.0) + seconds_of(node)
        own = step_gb(node.step.memory, cost.sizes)
        memory[stage] = max(memory.get(stage, 0.0), own)
    rows = tuple(
        Row(stage=stage, minutes=seconds[stage] / 60, memory_gb=memory[stage])
        for stage in dict.fromkeys([_START, *STAGES.values()])
        if stage in seconds
    )
    minutes = sum(row.minutes for row in rows) / cost.processors
    return replace(cost, minutes=minutes, rows=rows)


def declared_seconds(plan: Plan, sizes: Sizes) -> "Callable[[Node], float]":
    """Return what tells the processor time that a step declares for its run (s).

    `sizes`: of the largest structural images, for steps of participants.
    """
    runs: dict[tuple[str, str], BoldRun] = {}
    for run in plan.runs:
        subject = run.entities["subject"]
        runs.setdefault((subject, ""), run)  # for steps of the participant
        runs.setdefault((subject, run.stem), run)

    def seconds(node: "Node") -> float:
        subject, name = node.scope.owner
        run = runs.get((subject, name)) or runs.get((subject, ""))
        if run is None:
            return node.cost.seconds(high=sizes.scans)
        low = math.prod(run.shape) / 1e6
        high = low * math.prod(run.factor)
        return node.cost.seconds(
            low=low,
            high=high,
            volumes=(high if node.scope.high_resolution else low) * run.n_volumes,
            t1w=sizes.t1w,
        )

    return seconds


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
