"""Test the console: progress with time left, first and last lines, and the index page."""

import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import networkx as nx
import pytest
from data.dataset import BidsMaker
from graphmaker import planned_graph
from networkx import DiGraph

from bids_sr.cli.console import make_end_lines, make_start_lines
from bids_sr.cli.heartbeat import report_running
from bids_sr.cli.main import main
from bids_sr.cli.progress import _NO_STAGE, Progress
from bids_sr.cli.stages import find_stage
from bids_sr.config import Settings
from bids_sr.config.sections.paths import Paths
from bids_sr.execution.execute import RunOutcome
from bids_sr.io.dataset_description import dataset_root, write_dataset
from bids_sr.metrics.flags import FLAGS
from bids_sr.metrics.rows import MetricRow, table_text
from bids_sr.notices import Notice
from bids_sr.pipeline.nipype_workflow import make_workflow
from bids_sr.pipeline.step import Step
from bids_sr.pipeline.store import store
from bids_sr.preflight import Plan
from bids_sr.preflight.pace import (
    REFERENCE_S,
    _available_processors,
    kernel_seconds,
    measure_slowdown,
)
from bids_sr.report import index_page
from bids_sr.report.index_page import write_index
from bids_sr.report.participants_page import _labels_with_report, _neighbor_links
from bids_sr.steps.activation import map_series
from bids_sr.steps.anatomy import mask_brain
from bids_sr.steps.clusters import list_clusters
from bids_sr.steps.evaluation import compare_halves
from bids_sr.steps.figures.anatomy import summarize_subject
from bids_sr.steps.motion import estimate_motion
from bids_sr.steps.primary_dataset import average_series
from bids_sr.steps.run_verdict import decide_verdict
from bids_sr.steps.super_resolution import super_resolve
from bids_sr.version import __version__

RUN = "bids_sr_wf.sub_01_wf.sub_01_task_tap_wf"


class Node(SimpleNamespace):
    """A node that can be part of a graph."""

    __hash__ = object.__hash__


def node(name: str, step: Step[..., Any] | None, seconds: float = 0.0) -> Node:
    """Return a node as reported by the scheduler: its name, step and duration in seconds."""
    return Node(
        fullname=name,
        interface=SimpleNamespace(step=step),
        owner=("01", "sub-01_task-tap"),
        seconds=seconds,
    )


NODES = [
    node(f"{RUN}.estimate_motion", estimate_motion, 60.0),
    node(f"{RUN}.sbl.super_resolve", super_resolve, 300.0),
    node(f"{RUN}.sbl.map_series", map_series, 240.0),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def chain(nodes: Sequence[Node]) -> DiGraph:
    """Return a graph of nodes, each dependent on the previous node."""
    graph = DiGraph()
    nx.add_path(graph, nodes)
    return graph


def test_steps_are_assigned_to_stages() -> None:
    assert [find_stage(step_node.interface.step) for step_node in NODES] == [
        "motion",
        "super_resolution",
        "activation",
    ]
    assert find_stage(mask_brain) == "anatomy"
    assert find_stage(store) == "store"
    # join nodes
    assert find_stage(None) == _NO_STAGE


def test_progress_adapts_the_estimate_to_the_measured_time() -> None:
    lines: list[str] = []
    now = [0.0]
    progress = Progress(chain(NODES), lines.append, stream=io.StringIO(), clock=lambda: now[0])
    assert progress.minutes_left == 10
    for k, step_node in enumerate(NODES):
        progress(step_node, "start")
        now[0] += (60, 900, 600)[k]
        progress(step_node, "end")
        progress(step_node, "end")  # the scheduler reports the end twice
        assert progress.share == pytest.approx((0.1, 0.6, 1.0)[k])
        low, high = ((9, 9), (5, 10), (0, 0))[k]  # a single slow step does not mean a slow machine
        assert low <= progress.minutes_left <= high
    assert lines[0] == "sub-01_task-tap: head-motion and slice-timing correction (0 %)"
    assert lines[2].startswith("sub-01_task-tap: activation maps (60 %")
    assert len(lines) == 3


def test_a_slow_machine_has_more_time_left_and_failures_are_printed() -> None:
    lines: list[str] = []
    progress = Progress(
        chain(NODES), lines.append, slower=3.0, stream=io.StringIO(), clock=lambda: 0.0
    )
    assert progress.minutes_left == 30
    progress(NODES[0], "exception")
    assert lines == [f"step failed: {RUN}.estimate_motion"]


def test_a_verdict_is_printed_when_it_is_written(tmp_path: Path) -> None:
    """Verdicts of an earlier call are not printed as progress."""
    (file := tmp_path / "verdict.json").write_text(json.dumps({"headline": "It is finer."}))
    reported_runs = node(f"{RUN}.judge", decide_verdict)
    reported_runs.result = SimpleNamespace(outputs=SimpleNamespace(verdict=str(file)))
    lines: list[str] = []
    progress = Progress(
        chain([reported_runs]), lines.append, stream=io.StringIO(), clock=lambda: 0.0
    )
    progress(reported_runs, "end")
    assert not lines
    progress(reported_runs, "start")
    progress(reported_runs, "end")
    progress.close()
    assert lines[1:] == ["sub-01_task-tap: It is finer."]
    assert progress.reported_runs == {"sub-01_task-tap"}


def test_figures_begin_no_stage_and_a_stage_is_printed_once() -> None:
    lines: list[str] = []
    progress = Progress(
        chain(NODES), lines.append, stream=io.StringIO(), clock=lambda: 0.0, update_interval_s=3600
    )
    for name, step in (
        ("bids_sr_wf.sub_01_wf.summarize_subject", summarize_subject),
        (f"{RUN}.average_series", average_series),
        (f"{RUN}.compare_halves", compare_halves),
        (f"{RUN}.judge", decide_verdict),
        (f"{RUN}.list_clusters", list_clusters),
    ):
        progress(node(name, step), "start")
    assert lines == ["sub-01_task-tap: evaluation (0 %)"]
    progress.close()


def test_a_terminal_has_a_progress_bar_instead_of_lines() -> None:
    lines: list[str] = []
    terminal = Terminal()
    progress = Progress(chain(NODES), lines.append, stream=terminal, clock=lambda: 0.0)
    progress(NODES[0], "start")
    progress(NODES[0], "end")
    progress.close()
    assert not lines
    assert "10 %" in terminal.getvalue()
    assert "head-motion" in terminal.getvalue()


def test_progress_of_a_complete_graph_ends_at_100_percent(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    graph = planned_graph(maker, tmp_path)
    workflow = make_workflow(graph, base_dir=tmp_path, need_gb=lambda need: need.always)
    progress = Progress(workflow._create_flat_graph(), lambda text: None, stream=io.StringIO())
    executed = workflow._create_flat_graph().nodes()
    assert progress.minutes_left > 0.1
    for step_node in executed:
        progress(step_node, "end")
    assert progress.share == pytest.approx(1)
    assert progress.minutes_left == pytest.approx(0, abs=1e-6)
    without_stage = {str(placed) for placed in graph.nodes if find_stage(placed.step) == _NO_STAGE}
    assert without_stage == set(), "every running step needs a stage name"


@pytest.mark.parametrize(
    ("processors", "kernel_s", "available", "slower", "busy"),
    [
        (1, 2 * REFERENCE_S, 1.0, 2, 1),
        (1.7, REFERENCE_S, 0.5, 4, 4),
        (8, REFERENCE_S, 2.0, 4, 4),  # more processes than processors
        (1, 1e3, 1.0, 40, 1),
    ],
)
def test_pace_depends_on_kernel_time_and_available_processors(
    processors: float,
    kernel_s: float,
    available: float,
    slower: float,
    busy: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert 0 < kernel_seconds() < 5
    monkeypatch.setattr("bids_sr.preflight.pace.kernel_seconds", lambda: kernel_s)
    monkeypatch.setattr("bids_sr.preflight.pace._available_processors", lambda threads: available)
    assert measure_slowdown.__wrapped__(processors) == (slower, busy)


def test_busy_processors_are_detected_at_once() -> None:
    """The load average of the last minute would not include processes that have just started."""
    processor = min(os.sched_getaffinity(0))
    affinity, idle_share = os.sched_getaffinity(0), 0.0
    os.sched_setaffinity(0, {processor})
    try:
        idle_share = _available_processors(1)
        spin = [sys.executable, "-c", "while True: pass"]
        busy_processes = [subprocess.Popen(spin) for _ in range(3)]
        try:
            time.sleep(0.2)
            busy_share = _available_processors(1)
        finally:
            for process in busy_processes:
                process.kill()
                process.wait()
    finally:
        os.sched_setaffinity(0, affinity)
    assert 0 < busy_share < 0.7 * idle_share <= 1.1


def test_a_line_is_printed_once_per_minute_during_a_long_step() -> None:
    lines: list[str] = []
    now = [0.0]
    progress = Progress(
        chain(NODES),
        lines.append,
        stream=io.StringIO(),
        clock=lambda: now[0],
        update_interval_s=3600,
    )
    progress(NODES[1], "start")
    for second in range(1, 241):
        now[0] = second
        progress.beat()
    progress.close()
    assert len(lines) == 5
    assert all(
        line.startswith("sub-01_task-tap: super-resolution and baseline methods (")
        for line in lines
    )
    percentages = [int(re.findall(r"\((\d+) %", line)[0]) for line in lines]
    assert percentages == sorted(percentages)
    assert percentages[-1] > percentages[0]  # progress increases although no step has ended


def test_silent_work_is_reported_as_still_running() -> None:
    lines: list[str] = []
    with report_running(lines.append, "checking the dataset", interval_s=0.01):
        time.sleep(0.2)
    assert len(lines) > 2
    assert set(lines) == {"checking the dataset: still running after 0 min"}
    before = len(lines)
    time.sleep(0.05)
    assert len(lines) == before


def settings(out: Path) -> Settings:
    return Settings(paths=Paths(bids_dir=Path("/data"), output_dir=out, work_dir=Path("/work")))


def test_first_lines_list_directories_runs_and_each_note_once(tmp_path: Path) -> None:
    warnings = (
        Notice(what="sub-01", why="no T1w image", level="note"),
        Notice(what="sub-02", why="no T1w image", level="note"),
    )
    lines = [*make_start_lines(Plan(warnings=warnings), settings(tmp_path))]
    assert [line.split()[0] for line in lines] == [
        "dataset",
        "output",
        "settings",
        "work",
        "runs",
        "note",
    ]
    assert str(tmp_path) in lines[1]
    assert "sub-01 and 1 more" in lines[-1]


def test_last_lines_list_verdicts_and_locations_of_outputs(tmp_path: Path) -> None:
    func = tmp_path / "sub-01" / "func"
    func.mkdir(parents=True)
    verdict = {
        "headline": "It is finer.",
        "not_applied_text": "sbl was not applied.",
        "motion_text": "It moved.",
    }
    compared_series = [
        {
            "headline": "NORDIC is more accurate.",
            "text": "NORDIC is more accurate. Within the acquired band by .1.",
        }
    ]
    verdict = {**verdict, "compared": compared_series}
    (func / "sub-01_task-tap_desc-verdict_metrics.json").write_text(json.dumps(verdict))
    (func / "sub-01_task-rest_desc-verdict_metrics.json").write_text("{ cut short")
    (func / "sub-01_task-other_desc-verdict_metrics.json").write_text(
        json.dumps({"headline": "Of an earlier call."})
    )
    runs = tuple(
        SimpleNamespace(stem=f"sub-01_task-{task}", entities={"subject": "01"})
        for task in ("tap", "rest")
    )
    plan = Plan(
        subjects=(SimpleNamespace(label="01", runs=runs),), series=("acquired", "zerofill", "sbl")
    )  # type: ignore[arg-type]
    for name in (
        "space-boldref_desc-acquired",
        "space-boldref_res-hr_desc-sbl",
    ):  # zerofill is not stored at the standard level
        (func / f"sub-01_task-tap_{name}_bold.nii.gz").touch()
    for name in ("sbl", "srgan"):  # srgan is from an earlier call
        (dataset_root(tmp_path, name) / "sub-01").mkdir(parents=True)
    dataset_root(
        tmp_path, "acquired"
    ).mkdir()  # from a call that crashed or wrote only the methods text
    pages = tuple(tmp_path / f"sub-{k}.html" for k in range(9))
    text = "\n".join(make_end_lines(plan, settings(tmp_path), RunOutcome(reports=pages)))
    assert text.count("exported") == 1
    assert "statmap" not in text, "no maps are stored at the smallest level"
    (
        func / "sub-01_task-tap_space-boldref_contrast-all_stat-t_desc-acquired_statmap.nii.gz"
    ).touch()
    assert any(
        "*_statmap.nii.gz in the same directory" in line
        for line in make_end_lines(plan, settings(tmp_path), RunOutcome())
    )
    root = dataset_root(tmp_path, "sbl")
    assert f"For XCP-D, fitlins, nilearn: {root}" in text.replace("\n            ", " ")
    assert "bids-sr-srgan" not in text
    (func_dir := dataset_root(tmp_path, "sbl") / "sub-01" / "func").mkdir(parents=True)
    (func_dir / "sub-01_task-tap_desc-preproc_bold.json").write_text('{"Applied": false}')
    outcome = RunOutcome(reported_runs=frozenset({"sub-01_task-tap"}))
    text_without_verdict = "\n".join(make_end_lines(plan, settings(tmp_path), outcome)).replace(
        "\n            ", " "
    )
    assert "It is finer" not in text_without_verdict, "the verdict was already printed as progress"
    assert f"all 2 runs are listed in {tmp_path / 'index.html'}." in text_without_verdict
    assert (
        "bids-sr-sbl. sbl was not applied, so these runs are NOT super-resolved but zero filled:"
        " sub-01_task-tap" in text_without_verdict
    )
    assert (
        "sub-01_task-tap: It moved. sbl was not applied. It is finer. NORDIC is more accurate."
        in text
    )
    assert "  compared  NORDIC is more accurate. Within the acquired band by .1." in text
    assert "Of an earlier call" not in text
    files = f"*_desc-NAME_bold.nii.gz in {func}, where NAME is one of: acquired sbl"
    assert files in text.replace("\n            ", " ")
    assert text.count(".html") == 6 + 2  # links of all participants
    assert "and 3 more" in text


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    figures = tmp_path / "out" / "sub-01" / "figures"
    figures.mkdir(parents=True)
    (figures / "sub-01_desc-summary_T1w.html").write_text("<p>found</p>")
    return tmp_path / "out"


def test_the_index_page_links_all_participants(outputs: Path) -> None:
    for label in ("02", "03"):
        figures = outputs / f"sub-{label}" / "figures"
        figures.mkdir(parents=True)
        (figures / f"sub-{label}_desc-summary_T1w.html").write_text("<p>found</p>")
    func = outputs / "sub-02" / "func"
    func.mkdir()
    (func / "sub-02_task-tap_desc-verdict_metrics.json").write_text(
        json.dumps({"headline": "It is <finer>."})
    )
    write_dataset(outputs, bids_dir=outputs.parent / "data", version=__version__)
    assert main(["data", str(outputs), "participant", "--reports-only"]) == 0
    page = (outputs / "index.html").read_text()
    assert "It is &lt;finer&gt;." in page
    for place in ("sub-01.html", "sub-02.html", "sub-03.html"):
        assert f'<a href="{place}">' in page
    assert page.count("No run was evaluated.") == 2
    assert "group.html" not in page
    links = {
        label: re.findall(
            r'class="chip" href="([^"#]+)"', (outputs / f"sub-{label}.html").read_text()
        )
        for label in ("01", "02", "03")
    }
    assert links == {
        "01": ["sub-02.html", "index.html"],
        "02": ["sub-01.html", "sub-03.html", "index.html"],
        "03": ["sub-02.html", "index.html"],
    }
    (outputs / "group.html").write_text("<p>all</p>")
    (outputs / "sub-03.html").unlink()
    (outputs / "sub-01" / "func").mkdir()
    (outputs / "sub-01" / "func" / "sub-01_task-tap_desc-verdict_metrics.json").write_text("[]")
    text = write_index(outputs).read_text()
    assert '<a href="group.html">' in text
    assert "sub-03 (no report)" in text
    assert _labels_with_report(outputs) == {"01", "02"}
    assert _neighbor_links("02", ["01", "02"]) == {
        "‹ sub-01": "sub-01.html",
        "All participants": "index.html",
    }
    assert "sub-03 ›" in _neighbor_links("02", ["02", "03"])


def test_the_index_page_lists_accuracy_motion_flags_and_methods_not_applied(
    outputs: Path,
) -> None:
    """Explained variance is listed only with a high-resolution reference; self-test scores are not
    listed.
    """
    func, run = outputs / "sub-01" / "func", "sub-01_task-tap"
    func.mkdir()
    location = {"region": "acquired40", "contrast": "all", "series": "sbl"}
    reference_rows = [
        MetricRow(
            **location,
            statistic="ev",
            band="beyond",
            reference="measured",
            value=0.514,
            lower=0.497,
            upper=0.529,
        ),
        MetricRow(
            **location,
            minus="bspline",
            statistic="ev",
            band="beyond",
            reference="measured",
            value=0.5,
            lower=0.4,
            upper=0.6,
        ),
    ]
    self_test = MetricRow(
        series="sbl",
        statistic="tested_share",
        reference="oneLevelDown",
        region="brain",
        value=0.27,
        lower=0.2,
        upper=0.33,
        n=7,
    )
    common_rows = [
        MetricRow(series="sbl", statistic="verdict_applied", value=1.0),
        MetricRow(series="run", statistic="flag_broad", value=1.0, contrast="all"),
    ]
    verdict = {"headline": "Found.", "best": "sbl", "not_applied": ["srgan"], "limits": []}
    (func / f"{run}_desc-confounds_timeseries.tsv").write_text(
        "framewise_displacement\nn/a\n0.2\n0.2\n1.1\n"
    )

    def page(rows: list[MetricRow], **changes: Any) -> list[str]:
        (func / f"{run}_desc-evaluation_metrics.tsv").write_text(table_text([*common_rows, *rows]))
        (func / f"{run}_desc-verdict_metrics.json").write_text(json.dumps({**verdict, **changes}))
        text = write_index(outputs).read_text().replace("\N{NO-BREAK SPACE}", " ")
        cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", text, flags=re.DOTALL)
        return [re.sub(r"<[^>]+>", " ", cell).strip() for cell in cells]

    cells = page([*reference_rows, self_test])
    for cell in ("sbl 51 % [50, 53]", "0.50", "33 %", "srgan", "task-tap", "Found."):
        assert cell in cells
    assert cells[cells.index("task-tap") + 1] == "srgan", "methods not applied come first"
    assert any(FLAGS["broad"].failed in cell for cell in cells)
    cells = page([self_test])
    assert not any(
        word in cell
        for cell in cells
        for word in ("98", "27 %", "explained variance", "one level down")
    )
    (func / f"{run}_desc-evaluation_metrics.tsv").write_text("cut sh")
    assert "task-tap" in write_index(outputs).read_text()


def test_the_index_page_includes_a_report_written_meanwhile(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process writes a report while the page is written."""
    real = index_page.write_page

    def write_with_late_report(target: Path, **content: Any) -> None:
        real(target, **content)
        (outputs / "sub-01.html").write_text("<p>made meanwhile</p>")

    monkeypatch.setattr(index_page, "write_page", write_with_late_report)
    assert '<a href="sub-01.html">' in write_index(outputs).read_text()


@pytest.mark.parametrize("flag", ["--help-all", "--help_all"])
def test_help_is_short_and_help_all_is_complete(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--help"]) == 0
    short = capsys.readouterr().out
    assert main([flag]) == 0
    full = capsys.readouterr().out
    assert "--sr-target" in full
    assert "--sr-target" not in short
    assert len(short) < len(full)
