"""The participant level around the graph, whose steps do not run: methods text, working
directory, estimates and reports.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from data.dataset import BidsMaker

from bids_sr.cli import participant_level, stages
from bids_sr.cli.main import main
from bids_sr.config.lock import output_lock
from bids_sr.engine import execute
from bids_sr.engine.records import FinishedSteps
from bids_sr.engine.step import Stage
from bids_sr.io.notices import Notice, record
from bids_sr.survey.preflight.plan import Estimate
from bids_sr.version import __version__

OUT, PAGE = Path("out"), Path("out/sub-01.html")
SMALL = ("--sr-method", "bspline", "--smoothing", "0")
"""Options of a small graph."""


def call(maker: BidsMaker, *options: str) -> int:
    """Return the exit code of a call in the current folder."""
    line = [str(maker.root), str(OUT), "participant", "-w", "work", "--skip-bids-validation"]
    return main([*line, *options])


@pytest.fixture
def execution(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Interrupt calls where steps would run, and list the options of the execution."""
    calls: list[dict[str, Any]] = []

    def interrupt(*_: object, **options: Any) -> None:
        calls.append(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(execute, "execute", interrupt)
    return calls


def test_methods_texts_describe_finished_and_stopped_training(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ("--boilerplate-only", "--sr-method", "srgan")
    assert call(maker, *line) == 0
    html, text = OUT / "CITATION.html", OUT / "CITATION.md"
    assert html.exists()
    assert "srgan will be trained" in text.read_text()
    card = {"card_version": 1, "method": "srgan", "recipe": "fast", "factor": [2, 2, 1]}
    card |= {"resolution": {"lowres_mm": [6, 6, 4]}, "contrast": "T2starw", "seed": 0}
    card |= {"orientation": "I-S", "weights_sha256": "0" * 64}
    card |= {"phases": {"search": {"iterations": 8, "stopped_by": "time"}}}
    folder = Path("step")
    folder.mkdir()
    (folder / "srgan.json").write_text(json.dumps(card))
    monkeypatch.setattr(FinishedSteps, "finished_folder", lambda _: lambda placed: folder)
    assert call(maker, *line, "--set", "run.md_only_boilerplate=true") == 0
    assert not html.exists()  # it would be outdated
    assert {path.suffix for path in OUT.glob("CITATION.*")} == {".md", ".bib"}
    assert "srgan was trained" in text.read_text()
    assert "after 8 steps" in text.read_text()
    assert "will be" not in text.read_text()


def test_clean_workdir_removes_only_steps_of_this_call(
    maker: BidsMaker, execution: list[dict[str, Any]]
) -> None:
    step, unrelated = Path("work/bids_sr_wf/sub_01_wf/step"), Path("work/of-somebody-else")
    other_participant = Path("work/bids_sr_wf/sub_09_wf/step")  # another call may use this folder
    for folder in (step, unrelated, other_participant):
        folder.mkdir(parents=True)
    Path("work/bids_sr_wf/version.txt").write_text(__version__)
    call(maker, "--set", "run.clean_workdir=true", "--boilerplate-only")
    assert step.exists()
    call(maker, *SMALL, "--set", "run.clean_workdir=true")
    assert (step.exists(), unrelated.exists(), other_participant.exists()) == (False, True, True)


def test_two_calls_do_not_train_shared_networks_at_the_same_time(
    tmp_path: Path,
    execution: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    maker = BidsMaker(tmp_path / "scans")
    for label in ("01", "02", "03"):
        for resolution, mm in (("fine", 3.0), ("coarse", 6.0)):
            maker.image(f"sub-{label}_acq-{resolution}_T1w.nii.gz", "anat", (mm, mm, mm))
    options = ("--sr-target", "anat", "--set", "anat.split=1,1,1", "--participant-label")
    call(maker, *options, "01", "--dry-run")
    text = capsys.readouterr().out
    first, test = (re.findall(f"{name}: sub-(\\d+)", text)[0] for name in ("training", "test"))
    with output_lock(OUT, Path("work"), participants=[first], run_uuid="another"):
        assert call(maker, *options, test) == 2
    assert f"another run is working on sub-{first}" in " ".join(capsys.readouterr().err.split())
    assert not execution
    assert call(maker, *options, test) == 130
    assert len(execution) == 1


def test_the_report_of_an_interrupted_run_is_marked_unfinished(
    maker: BidsMaker, execution: list[dict[str, Any]]
) -> None:
    """A methods text of an earlier run is kept."""
    assert call(maker, "--boilerplate-only") == 0
    figures = OUT / "sub-01/figures"
    figures.mkdir(parents=True)
    (figures / "sub-01_desc-summary_T1w.html").write_text("<p>found</p>")
    (OUT / "CITATION.md").write_text("What was done.\n")
    assert call(maker, "--reports-only") == 0
    finished = PAGE.read_text()
    for _ in range(2):
        assert call(maker, *SMALL) == 130
        assert PAGE.read_text().count("started at 20") == 1
    assert (OUT / "CITATION.md").read_text() == "What was done.\n"
    assert call(maker, "--reports-only") == 0
    assert PAGE.read_text().count("started at 20") == finished.count("started at 20") == 0


def test_a_finished_run_writes_reports_and_names_runs_that_are_only_zero_filled(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of other calls are not mentioned."""
    assert call(maker, "--boilerplate-only") == 0
    monkeypatch.setattr(execute, "execute", lambda *_, **__: execute.RunOutcome())
    func = OUT / "sub-01" / "func"
    func.mkdir(parents=True)
    for task in ("tap", "other"):
        verdict = func / f"sub-01_task-{task}_desc-verdict_metrics.json"
        verdict.write_text('{"not_applied": ["sbl"]}')
    assert call(maker, "--sr-method", "sbl") == 0
    assert PAGE.exists()
    (OUT / "index.html").unlink()
    assert call(maker, "--sr-method", "sbl") == 0
    assert (OUT / "index.html").exists()
    text = (OUT / "CITATION.md").read_text()
    assert "sbl was not applied to sub-01_task-tap," in text


def test_the_time_estimate_includes_only_remaining_steps(
    maker: BidsMaker,
    execution: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The console states which steps are reused."""
    estimates: list[Estimate] = []

    def keep_estimate(*arguments: Any) -> Estimate:
        estimates.append(stages.estimate_with_time(*arguments))
        return estimates[-1]

    monkeypatch.setattr(participant_level, "estimate_with_time", keep_estimate)
    call(maker, *SMALL)
    assert "reused" not in capsys.readouterr().out
    left = FinishedSteps.unfinished_steps
    monkeypatch.setattr(
        FinishedSteps,
        "unfinished_steps",
        lambda self: {node for node in left(self) if node.step.stage is Stage.FIGURES},
    )
    call(maker, *SMALL)
    (reused,) = re.findall(r"reused +(?:.+\n)(?: {12}.+\n)*", capsys.readouterr().out)
    words = " ".join(reused.split())
    n_reused, n_steps = map(int, re.findall(r"\d+", words)[:2])
    assert 0 < n_reused < n_steps
    assert "activation maps" in words
    assert "figures" not in words
    assert [row.stage for row in estimates[1].rows] == [estimates[0].rows[0].stage, "figures"]
    assert estimates[1].minutes < estimates[0].minutes / 2


def test_a_regenerated_report_shows_errors_and_methods_of_the_recorded_run(
    maker: BidsMaker,
) -> None:
    """Names of logs do not determine their order, because the clock may have changed."""
    (OUT / "sub-01" / "figures").mkdir(parents=True)
    (OUT / "sub-01/figures/sub-01_desc-summary_T1w.html").write_text("<p>found</p>")
    for name in ("2019", "2020", "2021"):
        (log := OUT / "logs" / name).mkdir(parents=True)
        (log / "settings.toml").touch()
        (log / "CITATION.md").write_text(f"Made in {name}.\n")
        crash = Notice(what=f"wf.sub_01_wf.crash{name}", why="ValueError: no", code="crashed")
        record(log, [crash])
    latest = OUT / "logs" / "latest" / "sub-01.json"
    latest.parent.mkdir()
    latest.write_text('{"run": "2019", "settings": "", "rows": []}')
    assert call(maker, "--reports-only") == 0
    page = PAGE.read_text()
    assert [f"Made in {name}" in page for name in ("2019", "2020", "2021")] == [True, False, False]
    assert "crash2019" in page
