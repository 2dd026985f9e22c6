"""What the console shows: progress with time left, start and end, the report command."""

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
from bidsmaker import BidsMaker
from graphmaker import planned_graph
from networkx import DiGraph

from bids_sr.cli.console import end_lines, line_of, start_lines
from bids_sr.cli.heartbeat import still
from bids_sr.cli.main import main
from bids_sr.cli.progress import _OTHER, Progress
from bids_sr.cli.stages import stage_of
from bids_sr.config import Settings
from bids_sr.config.groups.paths import Paths
from bids_sr.execution.execute import RunOutcome
from bids_sr.io.dataset_description import dataset_of
from bids_sr.metrics.flags import FLAGS
from bids_sr.metrics.rows import MetricRow, table_text
from bids_sr.notices import Notice
from bids_sr.pipeline.nipype_workflow import workflow_of
from bids_sr.pipeline.step import Step
from bids_sr.pipeline.store import store
from bids_sr.preflight import Plan
from bids_sr.preflight.pace import REFERENCE_S, _available_processors, kernel_seconds, pace_now
from bids_sr.report import index_page
from bids_sr.report.index_page import write_index
from bids_sr.report.participants_page import _labels_with_report, _neighbor_links
from bids_sr.steps.activation import map_series
from bids_sr.steps.anatomy import mask_brain
from bids_sr.steps.clusters import list_clusters
from bids_sr.steps.evaluation import compare_halves
from bids_sr.steps.figures.anatomy import summarize_subject
from bids_sr.steps.judgment import judge
from bids_sr.steps.motion import estimate_motion
from bids_sr.steps.primary_dataset import average_series
from bids_sr.steps.super_resolution import super_resolve

RUN = "bids_sr_wf.sub_01_wf.sub_01_task_tap_wf"


class Node(SimpleNamespace):
    """A node that can stand in a graph."""

    __hash__ = object.__hash__


def node(name: str, of: Step[..., Any] | None, seconds: float = 0.0) -> Node:
    """What the scheduler tells of a node: its name, the step that it runs, and its time."""
    return Node(
        fullname=name,
        interface=SimpleNamespace(step=of),
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
    """A graph in which each node waits for the one before."""
    graph = DiGraph()
    nx.add_path(graph, nodes)
    return graph


def test_stages_have_the_names_of_their_steps() -> None:
    assert [stage_of(each.interface.step) for each in NODES] == [
        "motion",
        "super_resolution",
        "activation",
    ]
    assert stage_of(mask_brain) == "anatomy"
    assert stage_of(store) == "store"
    # joins
    assert stage_of(None) == _OTHER


def test_progress_moves_from_the_estimate_to_what_steps_took() -> None:
    said: list[str] = []
    now = [0.0]
    progress = Progress(chain(NODES), said.append, stream=io.StringIO(), clock=lambda: now[0])
    assert progress.minutes_left == 10
    for k, each in enumerate(NODES):
        progress(each, "start")
        now[0] += (60, 900, 600)[k]
        progress(each, "end")
        progress(each, "end")  # told twice, counted once
        assert progress.share == pytest.approx((0.1, 0.6, 1.0)[k])
        low, high = ((9, 9), (5, 10), (0, 0))[k]  # one slow step is no slow machine
        assert low <= progress.minutes_left <= high
    assert said[0] == "sub-01_task-tap: head-motion and slice-timing correction (0 %)"
    assert said[2].startswith("sub-01_task-tap: activation maps (60 %")
    assert len(said) == 3


def test_a_slow_machine_has_more_time_left_and_failures_are_named() -> None:
    said: list[str] = []
    progress = Progress(
        chain(NODES), said.append, slower=3.0, stream=io.StringIO(), clock=lambda: 0.0
    )
    assert progress.minutes_left == 30
    progress(NODES[0], "exception")
    assert said == [f"step failed: {RUN}.estimate_motion"]


def test_a_verdict_is_shown_when_it_is_there(tmp_path: Path) -> None:
    """And not that of an earlier call, which the end of this one shows."""
    (file := tmp_path / "verdict.json").write_text(json.dumps({"headline": "It is finer."}))
    judged = node(f"{RUN}.judge", judge)
    judged.result = SimpleNamespace(outputs=SimpleNamespace(verdict=str(file)))
    said: list[str] = []
    progress = Progress(chain([judged]), said.append, stream=io.StringIO(), clock=lambda: 0.0)
    progress(judged, "end")
    assert not said
    progress(judged, "start")
    progress(judged, "end")
    progress.close()
    assert said[1:] == ["sub-01_task-tap: It is finer."]
    assert progress.judged == {"sub-01_task-tap"}


def test_figures_and_files_begin_no_stage_and_none_is_told_twice() -> None:
    said: list[str] = []
    progress = Progress(
        chain(NODES), said.append, stream=io.StringIO(), clock=lambda: 0.0, look_s=3600
    )
    for name, step in (
        ("bids_sr_wf.sub_01_wf.summarize_subject", summarize_subject),
        (f"{RUN}.average_series", average_series),
        (f"{RUN}.compare_halves", compare_halves),
        (f"{RUN}.judge", judge),
        (f"{RUN}.list_clusters", list_clusters),
    ):
        progress(node(name, step), "start")
    assert said == ["sub-01_task-tap: evaluation (0 %)"]
    progress.close()


def test_on_a_terminal_one_bar_takes_the_place_of_the_lines() -> None:
    said: list[str] = []
    terminal = Terminal()
    progress = Progress(chain(NODES), said.append, stream=terminal, clock=lambda: 0.0)
    progress(NODES[0], "start")
    progress(NODES[0], "end")
    progress.close()
    assert not said
    assert "10 %" in terminal.getvalue()
    assert "head-motion" in terminal.getvalue()


def test_the_share_of_a_whole_graph_ends_at_one(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    graph = planned_graph(maker, tmp_path)
    workflow = workflow_of(graph, base_dir=tmp_path, need_gb=lambda need: need.always)
    progress = Progress(workflow._create_flat_graph(), lambda text: None, stream=io.StringIO())
    executed = workflow._create_flat_graph().nodes()
    assert progress.minutes_left > 0.1
    for each in executed:
        progress(each, "end")
    assert progress.share == pytest.approx(1)
    assert progress.minutes_left == pytest.approx(0, abs=1e-6)
    unnamed = {str(placed) for placed in graph.nodes if stage_of(placed.step) == _OTHER}
    assert unnamed == set(), "a line a minute says what runs"


@pytest.mark.parametrize(
    ("processors", "kernel_s", "had", "slower", "busy"),
    [
        (1, 2 * REFERENCE_S, 1.0, 2, 1),
        (1.7, REFERENCE_S, 0.5, 4, 4),
        (8, REFERENCE_S, 2.0, 4, 4),  # more processes than processors
        (1, 1e3, 1.0, 40, 1),
    ],
)
def test_the_pace_of_a_machine(
    processors: float,
    kernel_s: float,
    had: float,
    slower: float,
    busy: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert 0 < kernel_seconds() < 5
    monkeypatch.setattr("bids_sr.preflight.pace.kernel_seconds", lambda: kernel_s)
    monkeypatch.setattr("bids_sr.preflight.pace._available_processors", lambda threads: had)
    assert pace_now.__wrapped__(processors) == (slower, busy)


def test_busy_processors_are_seen_at_once_and_idle_ones_are_not_taken_for_busy() -> None:
    """The average load of the last minute would know nothing of processes that have just begun."""
    mine = min(os.sched_getaffinity(0))
    keep, alone = os.sched_getaffinity(0), 0.0
    os.sched_setaffinity(0, {mine})
    try:
        alone = _available_processors(1)
        spin = [sys.executable, "-c", "while True: pass"]
        others = [subprocess.Popen(spin) for _ in range(3)]
        try:
            time.sleep(0.2)
            shared = _available_processors(1)
        finally:
            for each in others:
                each.kill()
                each.wait()
    finally:
        os.sched_setaffinity(0, keep)
    assert 0 < shared < 0.7 * alone <= 1.1


def test_a_line_is_said_once_a_minute_while_a_long_step_runs() -> None:
    said: list[str] = []
    now = [0.0]
    progress = Progress(
        chain(NODES), said.append, stream=io.StringIO(), clock=lambda: now[0], look_s=3600
    )
    progress(NODES[1], "start")
    for second in range(1, 241):
        now[0] = second
        progress.beat()
    progress.close()
    assert len(said) == 5
    assert all(
        line.startswith("sub-01_task-tap: super-resolution and baseline methods (")
        for line in said
    )
    done = [int(re.findall(r"\((\d+) %", line)[0]) for line in said]
    assert done == sorted(done)
    assert done[-1] > done[0]  # though no step has ended


def test_work_that_says_nothing_is_said_to_go_on() -> None:
    said: list[str] = []
    with still(said.append, "checking the dataset", every_s=0.01):
        time.sleep(0.2)
    assert len(said) > 2
    assert set(said) == {"checking the dataset: still running after 0 min"}
    before = len(said)
    time.sleep(0.05)
    assert len(said) == before


def settings(out: Path) -> Settings:
    return Settings(paths=Paths(bids_dir=Path("/data"), output_dir=out, work_dir=Path("/work")))


def test_the_start_says_where_which_runs_and_each_note_once(tmp_path: Path) -> None:
    notes = (
        Notice(what="sub-01", why="no T1w image", level="note"),
        Notice(what="sub-02", why="no T1w image", level="note"),
    )
    told = start_lines(Plan(warnings=notes), settings(tmp_path))
    lines = [*map(line_of, told)]
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


def test_the_end_says_the_verdict_and_where_everything_is(tmp_path: Path) -> None:
    func = tmp_path / "sub-01" / "func"
    func.mkdir(parents=True)
    said = {
        "headline": "It is finer.",
        "not_applied_text": "sbl was not applied.",
        "motion_text": "It moved.",
    }
    others = [
        {
            "headline": "NORDIC is more accurate.",
            "text": "NORDIC is more accurate. Within the acquired band by .1.",
        }
    ]
    said = {**said, "compared": others}
    (func / "sub-01_task-tap_desc-verdict_metrics.json").write_text(json.dumps(said))
    (func / "sub-01_task-rest_desc-verdict_metrics.json").write_text("{ cut short")
    (func / "sub-01_task-other_desc-verdict_metrics.json").write_text(
        json.dumps({"headline": "Of an earlier call."})
    )
    runs = tuple(
        SimpleNamespace(stem=f"sub-01_task-{task}", entities={"subject": "01"})
        for task in ("tap", "rest")
    )
    plan = Plan(
        subjects=(SimpleNamespace(label="01", runs=runs),), series=("raw", "zerofill", "sbl")
    )  # type: ignore[arg-type]
    for name in ("desc-raw", "res-hr_desc-sbl"):  # zerofill is not stored at the standard level
        (func / f"sub-01_task-tap_{name}_bold.nii.gz").touch()
    for name in ("sbl", "srgan"):  # the second is of an earlier call
        (dataset_of(tmp_path, name) / "sub-01").mkdir(parents=True)
    dataset_of(tmp_path, "raw").mkdir()  # of a call that crashed, or wrote the methods text alone
    pages = tuple(tmp_path / f"sub-{k}.html" for k in range(9))
    shown = "\n".join(
        line_of(each) for each in end_lines(plan, settings(tmp_path), RunOutcome(reports=pages))
    )
    assert shown.count("exported") == 1
    assert "statmap" not in shown, "at the smallest level no map is stored"
    (func / "sub-01_task-tap_contrast-all_stat-t_desc-raw_statmap.nii.gz").touch()
    assert any(
        "*_statmap.nii.gz in the same directory" in each.why
        for each in end_lines(plan, settings(tmp_path), RunOutcome())
    )
    assert f"{dataset_of(tmp_path, 'sbl')}: Preprocessed series" in shown.replace(
        "\n            ", " "
    )
    assert "bids-sr-srgan" not in shown
    (there := dataset_of(tmp_path, "sbl") / "sub-01" / "func").mkdir(parents=True)
    (there / "sub-01_task-tap_desc-preproc_bold.json").write_text('{"Applied": false}')
    outcome = RunOutcome(judged=frozenset({"sub-01_task-tap"}))
    again = "\n".join(map(line_of, end_lines(plan, settings(tmp_path), outcome))).replace(
        "\n            ", " "
    )
    assert "It is finer" not in again, "it was told when it was there"
    assert f"all 2 runs are listed in {tmp_path / 'index.html'}." in again
    assert (
        "bids-sr-sbl: sbl was not applied, so these runs are NOT super-resolved but zero filled:"
        " sub-01_task-tap. Prepr" in again
    )
    assert (
        "sub-01_task-tap: It moved. sbl was not applied. It is finer. NORDIC is more accurate."
        in shown
    )
    assert "  compared  NORDIC is more accurate. Within the acquired band by .1." in shown
    assert "Of an earlier call" not in shown
    assert f"*_desc-NAME_bold.nii.gz in {func}, where NAME is one of: raw sbl" in shown.replace(
        "\n            ", " "
    )
    assert shown.count(".html") == 6 + 2  # of all participants
    assert "and 3 more" in shown


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    figures = tmp_path / "out" / "sub-01" / "figures"
    figures.mkdir(parents=True)
    (figures / "sub-01_desc-summary_T1w.html").write_text("<p>found</p>")
    return tmp_path / "out"


def test_reports_are_made_again_and_opened(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda uri: opened.append(uri) or True)
    (outputs / "group.html").write_text("<p>all</p>")
    assert main(["report", str(outputs), "--open"]) == 0
    assert opened == [
        (outputs / name).absolute().as_uri() for name in ("sub-01.html", "group.html")
    ]
    assert "found" in (outputs / "sub-01.html").read_text()
    assert str(outputs / "sub-01.html") in capsys.readouterr().out
    monkeypatch.setattr("webbrowser.open", lambda uri: False)
    assert main(["report", str(outputs), "--participant-label", "sub-01", "--open"]) == 0
    assert "no web browser" in capsys.readouterr().err


def test_a_page_over_all_participants_is_made_and_linked(outputs: Path) -> None:
    for label in ("02", "03"):
        figures = outputs / f"sub-{label}" / "figures"
        figures.mkdir(parents=True)
        (figures / f"sub-{label}_desc-summary_T1w.html").write_text("<p>found</p>")
    func = outputs / "sub-02" / "func"
    func.mkdir()
    (func / "sub-02_task-tap_desc-verdict_metrics.json").write_text(
        json.dumps({"headline": "It is <finer>."})
    )
    assert main(["report", str(outputs)]) == 0
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


def test_the_page_over_all_has_evidence_motion_warnings_and_who_was_not_applied(
    outputs: Path,
) -> None:
    """With a reference the explained variance, without one no number: nothing that a run tells of
    itself is one.
    """
    func, run = outputs / "sub-01" / "func", "sub-01_task-tap"
    func.mkdir()
    here = {"region": "acquired40", "contrast": "all", "series": "sbl"}
    measured = [
        MetricRow(
            **here,
            statistic="ev",
            band="beyond",
            reference="measured",
            value=0.514,
            lower=0.497,
            upper=0.529,
        ),
        MetricRow(
            **here,
            minus="bspline",
            statistic="ev",
            band="beyond",
            reference="measured",
            value=0.5,
            lower=0.4,
            upper=0.6,
        ),
    ]
    tested = MetricRow(
        series="sbl",
        statistic="tested_share",
        reference="oneLevelDown",
        region="brain",
        value=0.27,
        lower=0.2,
        upper=0.33,
        n=7,
    )
    always = [
        MetricRow(series="sbl", statistic="verdict_applied", value=1.0),
        MetricRow(series="run", statistic="flag_broad", value=1.0, contrast="all"),
    ]
    verdict = {"headline": "Found.", "best": "sbl", "not_applied": ["srgan"], "limits": []}
    (func / f"{run}_desc-confounds_timeseries.tsv").write_text(
        "framewise_displacement\nn/a\n0.2\n0.2\n1.1\n"
    )

    def page(rows: list[MetricRow], **changes: Any) -> list[str]:
        (func / f"{run}_desc-evaluation_metrics.tsv").write_text(table_text([*always, *rows]))
        (func / f"{run}_desc-verdict_metrics.json").write_text(json.dumps({**verdict, **changes}))
        text = write_index(outputs).read_text().replace("\N{NO-BREAK SPACE}", " ")
        cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", text, flags=re.DOTALL)
        return [re.sub(r"<[^>]+>", " ", cell).strip() for cell in cells]

    cells = page([*measured, tested])
    for cell in ("sbl 51 % [50, 53]", "0.50", "33 %", "srgan", "task-tap", "Found."):
        assert cell in cells
    assert cells[cells.index("task-tap") + 1] == "srgan", (
        "what is not super-resolved is said first"
    )
    assert any(FLAGS["broad"].failed in cell for cell in cells)
    cells = page([tested])
    assert not any(
        word in cell
        for cell in cells
        for word in ("98", "27 %", "explained variance", "one level down")
    )
    (func / f"{run}_desc-evaluation_metrics.tsv").write_text("cut sh")
    assert "task-tap" in write_index(outputs).read_text()


def test_the_page_over_all_is_of_what_is_there_in_the_end(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process makes a report while the page is written."""
    real = index_page.write_page

    def late(target: Path, **content: Any) -> None:
        real(target, **content)
        (outputs / "sub-01.html").write_text("<p>made meanwhile</p>")

    monkeypatch.setattr(index_page, "write_page", late)
    assert '<a href="sub-01.html">' in write_index(outputs).read_text()


def test_reports_of_nothing_are_refused(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert main(["report", str(outputs), "--participant-label", "02"]) == 2
    shown = capsys.readouterr().err
    assert "no figures written by bids-sr" in shown
    assert "choose one of 01" in shown


@pytest.mark.parametrize("flag", ["--help-all", "--help_all"])
def test_help_shows_what_matters_and_help_all_the_rest(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--help"]) == 0
    short = capsys.readouterr().out
    assert main([flag]) == 0
    whole = capsys.readouterr().out
    assert "--n-ensemble" in whole
    assert "--n-ensemble" not in short
    assert sum(line.lstrip().startswith("-") for line in short.splitlines()) <= 12 + 3
    assert len(short.splitlines()) < 80 < len(whole.splitlines())
