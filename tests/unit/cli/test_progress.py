"""Progress of a run: share, time left, lines and bar."""

import csv
import io
import json
import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from networkx import DiGraph, path_graph, relabel_nodes, topological_sort

from bids_sr.cli.heartbeat import report_running
from bids_sr.cli.parser import parse_settings
from bids_sr.cli.progress import Progress
from bids_sr.cli.stages import estimate_with_time, make_time_function
from bids_sr.engine.nipype_workflow import make_workflow
from bids_sr.engine.step import Step
from bids_sr.engine.store import store
from bids_sr.evaluation.steps.run_verdict import decide_verdict
from bids_sr.glm.steps.activation import map_series
from bids_sr.preproc.steps.motion import estimate_motion
from bids_sr.sr.steps.super_resolution import super_resolve
from bids_sr.survey.preflight import pace
from bids_sr.survey.preflight.pace import REFERENCE_S, kernel_seconds, measure_slowdown
from bids_sr.workflows.call_checks import check
from bids_sr.workflows.participant import make_graph

RUN = "sub-01_task-tap"
EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "studyforrest"
RECORDED_RUN = Path(__file__).parent / "recorded_run.tsv"


class Node(SimpleNamespace):
    """A node that can be part of a graph."""

    __hash__ = object.__hash__


def node(name: str, step: Step[..., Any] | None, seconds: float = 0.0, **more: Any) -> Node:
    """Return a node as reported by the scheduler: its name, step and expected time."""
    interface = SimpleNamespace(step=step)
    return Node(fullname=name, interface=interface, owner=("01", RUN), seconds=seconds, **more)


NODES = [
    node("motion", estimate_motion, 60.0),
    node("sbl", super_resolve, 300.0),
    node("maps", map_series, 240.0),
]


class Display(Progress):
    """Progress whose clock and lines belong to the test."""

    def __init__(
        self,
        *nodes: Node,
        graph: DiGraph | None = None,
        stream: io.StringIO | None = None,
        **options: Any,
    ) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        nodes = nodes or tuple(NODES)
        graph = graph or relabel_nodes(path_graph(len(nodes), DiGraph), dict(enumerate(nodes)))
        super().__init__(
            graph,
            self.lines.append,
            stream=stream or io.StringIO(),
            clock=lambda: self.now,
            update_interval_s=3600,
            **options,
        )


def test_the_time_left_follows_the_measured_time() -> None:
    """A single slow step does not mean a slow machine."""
    progress = Display()
    assert (progress.share, progress.minutes_left) == (0, 10)
    for step_node, seconds, share, low, high in zip(
        NODES, (60, 900, 600), (0.1, 0.6, 1.0), (9, 5, 0), (9, 10, 0), strict=True
    ):
        progress(step_node, "start")
        progress.now += seconds
        for _ in range(2):  # the scheduler reports the end twice
            progress(step_node, "end")
        assert progress.share == pytest.approx(share)
        assert low <= progress.minutes_left <= high
    assert [re.findall(r"\d+ %", line) for line in progress.lines] == [["0 %"], ["10 %"], ["60 %"]]
    assert all(line.startswith(RUN) for line in progress.lines)
    assert Display(slower=3.0, processors=2.0).minutes_left == 30, "one step after the other"
    parallel = DiGraph()
    parallel.add_nodes_from(NODES)
    assert Display(graph=parallel, slower=3.0, processors=2.0).minutes_left == 15


@pytest.mark.parametrize(
    ("name", "status", "shown"),
    [
        ("judge", "applied", True),
        ("first_verdict.decide_verdict", "applied", True),
        # networks are evaluated later and may be applied
        ("first_verdict.decide_verdict", "not applied", False),
    ],
)
def test_a_verdict_is_printed_when_it_is_written(
    name: str, status: str, shown: bool, tmp_path: Path
) -> None:
    """Verdicts of an earlier call, whose step does not start, are not printed."""
    (file := tmp_path / "verdict.json").write_text(
        json.dumps({"headline": "It is finer.", "status": status})
    )
    outputs = SimpleNamespace(verdict=str(file))
    judge = node(f"wf.{name}", decide_verdict, result=SimpleNamespace(outputs=outputs))
    progress = Display(judge)
    progress(judge, "end")
    assert (progress.lines, progress.reported_runs) == ([], set())
    progress(judge, "start")
    progress(judge, "end")
    assert progress.lines[-1].startswith(RUN)
    assert ("It is finer." in progress.lines[-1]) == shown
    assert progress.reported_runs == {RUN}
    n_lines = len(progress.lines)
    progress(judge, "start")
    progress(judge, "end")
    assert len(progress.lines) == n_lines, "the same verdict is printed once"


def test_a_line_is_printed_once_per_minute_during_a_long_step() -> None:
    progress = Display()
    progress(NODES[1], "start")
    for second in range(1, 241):
        progress.now = second
        progress.beat()
    percentages = [int(re.findall(r"\((\d+) %", line)[0]) for line in progress.lines]
    assert len(percentages) == 5
    assert percentages == sorted(percentages)
    assert percentages[-1] > percentages[0]  # progress increases although no step has ended


def test_silent_work_is_reported_as_still_running(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr("bids_sr.cli.heartbeat.print_line", lines.append)
    with report_running("checking", interval_s=0.01):
        time.sleep(0.2)
    assert len(lines) > 2
    assert all(line.startswith("checking") for line in lines)
    before = len(lines)
    time.sleep(0.05)
    assert len(lines) == before


@pytest.mark.parametrize(("kernel", "expected"), [(2.0, 2.0), (1e6, 40.0), (1e-6, 0.25)])
def test_the_slowdown_is_relative_to_reference_processors_and_limited(
    kernel: float, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 0 < kernel_seconds() < 5
    monkeypatch.setattr(pace, "kernel_seconds", lambda: kernel * REFERENCE_S)
    assert measure_slowdown.__wrapped__() == pytest.approx(expected)


@dataclass(frozen=True)
class Recorded:
    """A step of a recorded run: expected and actual processor seconds, and dependent steps."""

    expected: float
    took: float
    then: tuple[str, ...]


@pytest.fixture(scope="module")
def recorded_steps() -> dict[str, Recorded]:
    """Return the steps that the program plans for the example, with their recorded time.

    A step is listed before its dependent steps. The times are ``cpu_seconds`` of the steps in
    ``example-resources.tsv`` of ``benchmarks/resources.py SCRATCH --cases example``. Steps without
    a row run in the scheduler and are assumed to take their expected time.
    """
    with RECORDED_RUN.open(encoding="utf-8") as table:
        took = {row["step"]: float(row["took"]) for row in csv.DictReader(table, delimiter="\t")}
    arguments = [str(EXAMPLE), "out", "participant", "-w", "work", "--skip-bids-validation"]
    settings = parse_settings([*arguments, "--nprocs", "2"]).resolve(run_uuid="x")
    plan = check(settings)
    workflow = make_workflow(
        make_graph(settings, plan, "0"),
        base_dir=Path("work"),
        need_gb=lambda _: 1.0,
        seconds=make_time_function(plan, settings, estimate_with_time(plan, settings).sizes),
    )
    graph = workflow._create_flat_graph()
    names = {planned: planned.fullname.split(".", 2)[2] for planned in topological_sort(graph)}
    assert sum(took[name] for name in {*names.values()} & {*took}) > 0.9 * sum(took.values())
    return {
        name: Recorded(
            expected=(expected := getattr(planned, "seconds", 0.0)),
            took=took.get(name, max(expected, 0.01)),
            then=tuple(names[later] for later in graph.successors(planned)),
        )
        for planned, name in names.items()
    }


def replay(
    steps: dict[str, Recorded], load: Callable[[float], float], processors: int
) -> Iterator[tuple[float, float, float]]:
    """Run the steps by a simulated clock; yield time, share and seconds left every second.

    At `load` 2, a step takes twice its processor time.
    """
    open_inputs = {name: sum(name in entry.then for entry in steps.values()) for name in steps}
    critical_path: dict[str, float] = {}
    for name, entry in reversed(steps.items()):
        later = (critical_path[dependent] for dependent in entry.then)
        critical_path[name] = entry.expected + max(later, default=0.0)
    nodes = {name: node(name, None, entry.expected) for name, entry in steps.items()}
    graph = DiGraph((nodes[name], nodes[then]) for name in steps for then in steps[name].then)
    graph.add_nodes_from(nodes.values())
    progress = Display(graph=graph, processors=processors, slower=load(0))
    running: dict[str, float] = {}
    now, ready = 0.0, [name for name in steps if not open_inputs[name]]
    while ready or running:
        ready.sort(key=lambda name: -critical_path[name])
        while ready and len(running) < processors:
            name = ready.pop(0)
            running[name] = steps[name].took
            progress(nodes[name], "start")
        speed = 1 / load(now)
        step = min(min(running.values()) / speed, 1 - now % 1)
        now += step
        if now % 1 < 1e-6 or now % 1 > 1 - 1e-6:
            now = float(round(now))
            progress.now = now
            yield now, progress.share, 60 * progress.minutes_left
        for name in list(running):
            running[name] -= step * speed
            if running[name] < 1e-9:
                del running[name]
                progress(nodes[name], "end")
                for dependent in steps[name].then:
                    open_inputs[dependent] -= 1
                    if not open_inputs[dependent]:
                        ready.append(dependent)
    yield now, progress.share, 60 * progress.minutes_left


@pytest.mark.parametrize("processors", [1, 2, 4])
@pytest.mark.parametrize(
    "load",
    [lambda now: 1.0, lambda now: 3.0, lambda now: 2.0 + 0.5 * math.sin(now / 20)],
    ids=["idle", "loaded", "waves"],
)
def test_the_time_left_of_a_recorded_run_is_wrong_by_less_than_a_factor_of_two(
    recorded_steps: dict[str, Recorded], load: Callable[[float], float], processors: int
) -> None:
    """The error counts after a fifth of the run; "1 minute" is shown for at most 2 min."""
    estimates = list(replay(recorded_steps, load, processors))
    end, share, _ = estimates[-1]
    assert share == 1
    ratios = [seconds / (end - now) for now, _, seconds in estimates if end / 5 < now < end - 10]
    assert min(ratios) > 0.5
    assert max(ratios) < 2
    late = [abs(seconds - (end - now)) for now, _, seconds in estimates if now > end / 5]
    assert max(late) < 0.4 * end
    minute = [now for now, _, seconds in estimates if round(seconds / 60) == 1]
    assert max(minute, default=0) - min(minute, default=0) < 120


def test_the_page_is_written_when_the_first_screen_of_a_run_is_stored() -> None:
    written: list[str] = []
    nodes = []
    for name, awaited in (
        ("store_draw_overview", True),
        ("store_map_series", True),
        ("store_draw_overview", False),
    ):
        nodes.append(node(f"{len(nodes)}", store, inputs=SimpleNamespace(awaited=awaited)))
        nodes[-1].name = name
    progress = Display(*nodes, write_page=written.append)
    progress(nodes[0], "exception")
    assert written == []
    for store_node in nodes:
        for _ in range(2):  # the scheduler does not report the start, and reports the end twice
            progress(store_node, "end")
        assert written == ["01"]
