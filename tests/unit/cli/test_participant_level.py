"""Test the participant level around the graph: methods text, working directory, estimates and
reports.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from data.dataset import BidsMaker

from bids_sr.cli import participant_level, stages
from bids_sr.cli.main import main
from bids_sr.cli.stages import find_stage
from bids_sr.config import machine
from bids_sr.config.memory import BASE_GB
from bids_sr.execution import execute
from bids_sr.execution.records import FinishedSteps
from bids_sr.notices import Notice, record
from bids_sr.preflight.plan import Estimate
from bids_sr.version import __version__


def call(maker: BidsMaker, *options: str) -> int:
    """Return the exit code of a call in the current folder."""
    line = [str(maker.root), "out", "participant", "-w", "work", "--skip-bids-validation"]
    return main([*line, *options])


def test_md_only_boilerplate_writes_no_html(
    maker: BidsMaker,
) -> None:
    assert call(maker, "--boilerplate-only", "--set", "run.md_only_boilerplate=true") == 0
    assert {path.suffix for path in Path("out").glob("CITATION.*")} == {".md", ".bib"}
    assert call(maker, "--boilerplate-only") == 0
    assert Path("out/CITATION.html").exists()
    assert call(maker, "--boilerplate-only", "--set", "run.md_only_boilerplate=true") == 0
    assert not Path("out/CITATION.html").exists()  # the HTML file may be outdated


def test_boilerplate_only_describes_completed_training_in_the_past_tense(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ("--boilerplate-only", "--set", "run.md_only_boilerplate=true", "--sr-method", "srgan")
    assert call(maker, *line) == 0
    text = Path("out/CITATION.md").read_text()
    assert "The network srgan will be trained on the participant's own" in text
    assert "with the recipe fast" in text
    assert "Unfinished steps are described" in text
    card = {"card_version": 1, "method": "srgan", "recipe": "fast", "factor": [2, 2, 1]}
    card |= {"resolution": {"lowres_mm": [6, 6, 4]}, "contrast": "T2starw", "seed": 0}
    card |= {"orientation": "I-S", "weights_sha256": "0" * 64}
    card |= {"phases": {"search": {"iterations": 8, "stopped_by": "time"}}}
    folder = Path("step")
    folder.mkdir()
    (folder / "srgan.json").write_text(json.dumps(card))
    monkeypatch.setattr(FinishedSteps, "finished_folder", lambda _: lambda placed: folder)
    assert call(maker, *line) == 0
    text = Path("out/CITATION.md").read_text()
    assert "The network srgan was trained on the participant's own pair" in text
    assert "Training of srgan was stopped by the time limit after 8 steps" in text
    assert "will be" not in text
    assert "Unfinished" not in text


def test_clean_workdir_removes_only_steps_of_this_call(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise RuntimeError("far enough")

    monkeypatch.setattr(execute, "execute", stop)
    step, unrelated = Path("work/bids_sr_wf/sub_01_wf/step"), Path("work/of-somebody-else")
    other_participant = Path("work/bids_sr_wf/sub_09_wf/step")  # another call may use this folder
    for folder in (step, unrelated, other_participant):
        folder.mkdir(parents=True)
    Path("work/bids_sr_wf/version.txt").write_text(__version__)
    for options in ([], ["--set", "run.clean_workdir=true", "--boilerplate-only"]):
        call(maker, *options)
        assert step.exists()
    call(maker, "--set", "run.clean_workdir=true")
    assert (step.exists(), unrelated.exists(), other_participant.exists()) == (False, True, True)


def test_the_report_of_an_interrupted_run_is_marked_unfinished(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(execute, "execute", stop)
    page, figures = Path("out/sub-01.html"), Path("out/sub-01/figures")
    assert call(maker, "--boilerplate-only") == 0
    figures.mkdir(parents=True)
    (figures / "sub-01_desc-summary_T1w.html").write_text("<p>found</p>")
    assert call(maker, "--reports-only") == 0
    assert "has not finished" not in page.read_text()
    Path("out/CITATION.md").write_text("What was done.\n")
    for _ in range(2):
        assert call(maker) == 130
        assert page.read_text().count("Processing of this participant started at 20") == 1
    assert Path("out/CITATION.md").read_text() == "What was done.\n", "and no more"
    assert call(maker, "--reports-only") == 0
    assert "has not finished" not in page.read_text()


def test_the_time_estimate_includes_only_remaining_steps(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise RuntimeError("far enough")

    def expected(*arguments: Any) -> Estimate:
        estimates.append(stages.estimate_with_time(*arguments))
        return estimates[-1]

    estimates: list[Estimate] = []
    monkeypatch.setattr(execute, "execute", stop)
    monkeypatch.setattr(participant_level, "estimate_with_time", expected)
    call(maker)
    left = FinishedSteps.unfinished_steps
    monkeypatch.setattr(
        FinishedSteps,
        "unfinished_steps",
        lambda self: {node for node in left(self) if find_stage(node.step) == "figures"},
    )
    call(maker)
    assert [row.stage for row in estimates[1].rows] == [estimates[0].rows[0].stage, "figures"]
    assert estimates[1].minutes < estimates[0].minutes / 2


def test_fewer_workers_run_if_the_job_sums_resident_memory(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of workers is not reduced if the user specifies the memory."""

    def stop(*_: object, nprocs: int, mem_gb: float, **__: object) -> None:
        resources.append((nprocs, mem_gb))
        raise RuntimeError("far enough")

    resources: list[tuple[int, float]] = []
    monkeypatch.setattr(execute, "execute", stop)
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "4096")
    sums_resident = machine.sums_resident()
    for options in (["--nprocs", "4"], ["--nprocs", "4", "--mem", "3G"]):
        call(maker, *options)
    monkeypatch.setattr(machine, "sums_resident", lambda *_: False)
    call(maker, "--nprocs", "4")
    monkeypatch.setattr(machine, "sums_resident", lambda *_: True)
    call(maker, "--nprocs", "4", "--omp-nthreads", "4")  # a step gets all its threads
    assert sums_resident
    assert [workers for workers, _ in resources] == [3, 4, 4, 4]
    assert resources[0][1] == pytest.approx(0.9 * 4.295 - 0.9 - BASE_GB - 2 * 0.7, abs=0.01)
    assert resources[2][1] == pytest.approx(4.295 - BASE_GB - 3 * 0.25, abs=0.01)


def test_a_regenerated_report_shows_errors_of_the_original_run(
    tmp_path: Path,
) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    out = tmp_path / "out"
    figures, logs = out / "sub-01" / "figures", out / "logs" / "20200101-000000_earlier"
    figures.mkdir(parents=True)
    logs.mkdir(parents=True)
    (figures / "sub-01_desc-summary_T1w.html").write_text("<p>found</p>")
    (logs / "CITATION.md").write_text("Made with care.\n")
    (logs / "settings.toml").touch()
    crash = Notice(what="bids_sr_wf.sub_01_wf.unlucky", why="ValueError: no", code="crashed")
    record(logs, [crash])
    argv = [
        str(maker.root),
        str(out),
        "participant",
        "-w",
        str(tmp_path / "work"),
        "--skip-bids-validation",
    ]
    assert main([*argv, "--reports-only"]) == 0
    page = (out / "sub-01.html").read_text()
    for part in ("bids_sr_wf.sub_01_wf.unlucky", "20200101-000000_earlier", "Made with care"):
        assert part in page
    assert "No errors to report" not in page
    # names of logs do not determine their order if the clock was changed
    for folder in ("2019", "2021"):
        (out / "logs" / folder).mkdir()
        (out / "logs" / folder / "CITATION.md").write_text(f"Made in {folder}.\n")
    latest = out / "logs" / "latest" / "sub-01.json"
    latest.parent.mkdir()
    latest.write_text('{"run": "2019", "settings": "", "rows": []}')
    assert main([*argv, "--reports-only"]) == 0
    assert "Made in 2019" in (out / "sub-01.html").read_text()
