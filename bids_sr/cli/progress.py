"""Progress of a run on the console: a bar on a terminal, otherwise a line per stage or minute.

The completed share and the remaining time refer to the steps of the graph and their expected
processor time.
"""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

from bids_sr.cli.console import wrap_after_time
from bids_sr.cli.heartbeat import INTERVAL_S, heartbeat
from bids_sr.engine.nodes import get_owner
from bids_sr.engine.step import Stage
from bids_sr.engine.store import store
from bids_sr.evaluation.steps.run_verdict import decide_verdict
from bids_sr.evaluation.verdict_lines import verdict_line
from bids_sr.io.notices import whom_text
from bids_sr.report.figure_steps.overview import draw_overview
from bids_sr.survey.preflight.plan_text import format_minutes
from bids_sr.workflows.evaluate_run import FIRST_VERDICT

if TYPE_CHECKING:
    from networkx import DiGraph
    from nipype.pipeline.engine import Node as NipypeNode
    from tqdm import tqdm

# their steps run as soon as possible, in between; None for nodes without a step
_UNANNOUNCED_STAGES = frozenset({Stage.EXPORT, Stage.FIGURES, Stage.STORAGE, None})

_FIRST_SCREEN = f"store_{draw_overview.__name__}"  # name of the node that stores it
_UPDATE_INTERVAL_S = 2.0  # s
_MIN_SHARE = 0.05  # share of the work before which the remaining time is not shown
# weight of the initial estimate relative to the observed pace, as a share of the run
_ESTIMATE_WEIGHT = 0.1
_MIN_STEP_SHARE = 0.1  # share of its expected time that a running step has at least left


class Progress:
    """Progress display, called by the scheduler whenever a node starts, ends or fails.

    Verdicts are shown as soon as they exist. `graph` has all steps of the run, whose attribute
    ``seconds`` is the expected processor time. `write_page` writes the page of a participant
    (label) when the first screen of a run is stored. `processors` is the number of steps that run
    in parallel, and `slower` the expected slowdown relative to the expected time. `stream` is for
    a progress bar, by default the standard output. `clock` returns the time (s) of a monotonic
    clock. `update_interval_s` is the interval between updates.
    """

    def __init__(
        self,
        graph: "DiGraph[NipypeNode]",
        print_line: Callable[[str], None],
        *,
        write_page: Callable[[str], object] = lambda _: None,
        processors: float = 1.0,
        slower: float = 1.0,
        stream: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        update_interval_s: float = _UPDATE_INTERVAL_S,
    ) -> None:
        from networkx import topological_sort

        steps = {node.fullname: getattr(node, "seconds", 0.0) for node in graph.nodes()}
        chains: dict[str, float] = {}
        for node in reversed(list(topological_sort(graph))):
            later = (chains[successor.fullname] for successor in graph.successors(node))
            chains[node.fullname] = steps[node.fullname] + max(later, default=0.0)
        self._time_left = _TimeLeft(steps, chains, processors=processors, slower=slower)
        start = clock()
        self._print_line, self._write_page = print_line, write_page
        self._clock = lambda: clock() - start
        self._last_output = 0.0
        self._announced = set[tuple[str, Stage | None]]()
        self._verdicts = dict[str, str]()  # by run
        self._screens = set[str]()  # nodes that have stored a first screen
        # node → (participant or run, stage, start time)
        self._running: dict[str, tuple[str, Stage | None, float]] = {}
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
        self._exit_stack = contextlib.ExitStack()
        self._exit_stack.enter_context(heartbeat(self.beat, update_interval_s))

    @property
    def reported_runs(self) -> set[str]:
        """Runs whose verdict was printed."""
        return set(self._verdicts)

    @property
    def share(self) -> float:
        """Completed share of the processor time (0 to 1), which never decreases."""
        return self._time_left.share(self._clock())

    @property
    def minutes_left(self) -> float:
        """Remaining time (min)."""
        return self._time_left.seconds(self._clock()) / 60

    def __call__(self, node: "NipypeNode", status: str) -> None:
        """Record that a node starts, ends or has failed."""
        label = whom_text(*get_owner(node))
        step = getattr(node.interface, "step", None)
        with self._lock:
            if status == "exception":
                self.line(f"step failed: {node.fullname}")
            if status == "start":
                self._record_start(node, label, step and step.stage)
                return
            was_running = self._running.pop(node.fullname, None) is not None
            self._time_left.end(node.fullname)
            if was_running and status == "end" and step is decide_verdict:
                self._print_verdict(node, label)
            self._update_bar()
        # the scheduler stores files itself, without a start, and may report the end twice
        is_stored = status == "end" and step is store and node.inputs.awaited
        if is_stored and node.name == _FIRST_SCREEN and node.fullname not in self._screens:
            self._screens.add(node.fullname)
            with contextlib.suppress(OSError):  # the page is written again at the end
                self._write_page(get_owner(node)[0])

    def _record_start(self, node: "NipypeNode", label: str, stage: Stage | None) -> None:
        """Record the start of a node, and show its stage if it is new for a participant or run."""
        self._running[node.fullname] = label, stage, self._clock()
        self._time_left.start(node.fullname, self._clock())
        if stage in _UNANNOUNCED_STAGES or (label, stage) in self._announced:
            return
        self._announced.add((label, stage))
        self._show_stage(label, stage)

    def _print_verdict(self, node: "NipypeNode", label: str) -> None:
        """Print the verdict of a run from the output of its node."""
        verdict = json.loads(Path(node.result.outputs.verdict).read_text(encoding="utf-8"))
        is_preliminary = node.fullname.endswith(f".{FIRST_VERDICT}.decide_verdict")
        if is_preliminary and verdict.get("status") == "not applied":
            verdict["headline"] = ""  # networks are evaluated later and may be applied
        text = verdict_line(verdict)
        if text != self._verdicts.get(label):  # the verdict with networks is often the same
            self.line(wrap_after_time(f"{label}: {text}"))
        self._verdicts[label] = text

    def beat(self) -> None:
        """Update the bar, or repeat a printed line after almost a minute without output."""
        with self._lock:
            self._update_bar()
            if self._bar is not None or self._clock() - self._last_output < INTERVAL_S:
                return
            entries = (entry for entry in self._running.values() if entry[1])
            label, stage, _ = min(
                entries,
                key=lambda entry: (entry[1] in _UNANNOUNCED_STAGES, entry[2]),
                default=("", None, 0.0),
            )
            self._show_stage(label, stage)

    def _show_stage(self, label: str, stage: Stage | None) -> None:
        """Print or show the current stage."""
        text = f"{label}: {stage}" if stage else "working"
        if self._bar is None:
            self._last_output = self._clock()
            time_text = (
                f", {format_minutes(self.minutes_left)} left" if self.share >= _MIN_SHARE else ""
            )
            self._print_line(f"{text} ({100 * self.share:.0f} %{time_text})")
        else:
            self._stage = text
            self._update_bar()

    def _update_bar(self) -> None:
        """Update the progress bar."""
        if self._bar is not None:
            self._bar.n = round(100 * self.share, 1)
            self._bar.set_description_str(
                f"{format_minutes(self.minutes_left)} left · {self._stage}"
            )

    def line(self, text: str) -> None:
        """Print a line without disrupting the bar."""
        if self._bar is not None:
            self._bar.clear()
        self._print_line(text)
        if self._bar is not None:
            self._bar.refresh()

    def close(self) -> None:
        """Remove the bar, and stop all output."""
        self._exit_stack.close()
        if self._bar is not None:
            self._bar.close()


class _TimeLeft:
    """Completed share of the expected processor time, and remaining time at the observed pace.

    `steps` contains the expected seconds of each step, and `chains` those of the longest path from
    it, which more processors do not shorten. `processors` is the number of processors
    for the initial estimate, and `slower` the expected slowdown relative to the expected time.
    Methods take the time since the start (s) as `now`.
    """

    def __init__(
        self,
        steps: Mapping[str, float],
        chains: Mapping[str, float],
        *,
        processors: float = 1.0,
        slower: float = 1.0,
    ) -> None:
        self._step_s, self._chain_s = dict(steps), chains
        self._total = sum(steps.values())
        self._slowdown = slower
        self._expected_s = slower * self._total / processors
        self._start_times: dict[str, float] = {}

    def start(self, name: str, time: float) -> None:
        """Record the start of a step."""
        self._start_times[name] = time

    def end(self, name: str) -> None:
        """Record the end of a step."""
        self._step_s.pop(name, None)
        self._start_times.pop(name, None)

    def share(self, time: float) -> float:
        """Return the completed share (0 to 1).

        Running steps count by their elapsed time, but never as completed.
        """
        if not self._step_s or not self._total:
            return float(not self._step_s)
        return 1 - sum(self._count_left(name, time) for name in self._step_s) / self._total

    def seconds(self, time: float) -> float:
        """Return the remaining time (s)."""
        share = self.share(time)
        pace = (time + _ESTIMATE_WEIGHT * self._expected_s) / (share + _ESTIMATE_WEIGHT)
        chains = (
            self._chain_s[name] - step_s + self._count_left(name, time)
            for name, step_s in self._step_s.items()
        )
        return max(pace * (1 - share), self._slowdown * max(chains, default=0.0))

    def _count_left(self, name: str, time: float) -> float:
        """Return the expected seconds that a step has left."""
        step_s = self._step_s[name]
        elapsed_s = time - self._start_times.get(name, time)
        return max(_MIN_STEP_SHARE * step_s, step_s - elapsed_s / self._slowdown)
