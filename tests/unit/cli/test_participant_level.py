"""The participant level around the graph: which logs a report belongs to."""

import json
from pathlib import Path
from typing import Any

import pytest
from bidsmaker import BidsMaker

from bids_sr.cli import participant_level, stages
from bids_sr.cli.main import main
from bids_sr.cli.stages import stage_of
from bids_sr.config import machine
from bids_sr.config.memory import BASE_GB
from bids_sr.execution import execute
from bids_sr.execution.records import Finish
from bids_sr.notices import Notice, record
from bids_sr.preflight.plan import Estimate


def call(maker: BidsMaker, *options: str) -> int:
    """The code of a call that works in the current folder."""
    line = [str(maker.root), "out", "participant", "-w", "work", "--skip-bids-validation"]
    return main([*line, *options])


def test_the_methods_text_is_written_as_markdown_and_bibtex_alone_where_that_is_asked_for(
    maker: BidsMaker,
) -> None:
    assert call(maker, "--boilerplate-only", "--md-only-boilerplate") == 0
    assert {path.suffix for path in Path("out").glob("CITATION.*")} == {".md", ".bib"}
    assert call(maker, "--boilerplate-only") == 0
    assert Path("out/CITATION.html").exists()
    assert call(maker, "--boilerplate-only", "--md-only-boilerplate") == 0
    assert not Path("out/CITATION.html").exists()  # it may say something else


def test_the_methods_text_alone_describes_trainings_that_an_earlier_call_has_ended(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ("--boilerplate-only", "--md-only-boilerplate", "--sr-method", "srgan")
    assert call(maker, *line) == 0
    text = Path("out/CITATION.md").read_text()
    assert "The network srgan will be trained on the participant's own" in text
    assert "with the recipe fast" in text
    assert "Sentences in the future tense describe steps that were not completed" in text
    card = {"card_version": 1, "method": "srgan", "recipe": "fast", "factor": [2, 2, 1]}
    card |= {"resolution": {"lowres_mm": [6, 6, 4]}, "contrast": "T2starw", "seed": 0}
    card |= {"orientation": "I-S", "weights_sha256": "0" * 64}
    card |= {"phases": {"search": {"iterations": 8, "stopped_by": "time"}}}
    folder = Path("step")
    folder.mkdir()
    (folder / "srgan.json").write_text(json.dumps(card))
    monkeypatch.setattr(Finish, "ended", lambda _: lambda placed: folder)
    assert call(maker, *line) == 0
    text = Path("out/CITATION.md").read_text()
    assert "The network srgan was trained on the participant's own pair" in text
    assert "Training of srgan was stopped by the time limit after 8 steps" in text
    assert "will be" not in text
    assert "future tense" not in text


def test_the_working_directory_is_cleaned_of_our_own_steps_alone(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise RuntimeError("far enough")

    monkeypatch.setattr(execute, "execute", stop)
    step, own = Path("work/bids_sr_wf/sub_01_wf/step"), Path("work/of-somebody-else")
    other = Path("work/bids_sr_wf/sub_09_wf/step")  # where another call may work
    for folder in (step, own, other):
        folder.mkdir(parents=True)
    for options in ([], ["--clean-workdir", "--boilerplate-only"]):
        call(maker, *options)
        assert step.exists()
    call(maker, "--clean-workdir")
    assert (step.exists(), own.exists(), other.exists()) == (False, True, True)


def test_the_page_of_a_stopped_run_says_that_it_was_not_finished(
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


def test_the_time_that_is_told_is_that_of_the_steps_that_are_left(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise RuntimeError("far enough")

    def expected(*given: Any) -> Estimate:
        told.append(stages.expected(*given))
        return told[-1]

    told: list[Estimate] = []
    monkeypatch.setattr(execute, "execute", stop)
    monkeypatch.setattr(participant_level, "expected", expected)
    call(maker)
    left = Finish.left
    monkeypatch.setattr(
        Finish, "left", lambda self: {one for one in left(self) if stage_of(one.step) == "figures"}
    )
    call(maker)
    assert [row.stage for row in told[1].rows] == [told[0].rows[0].stage, "figures"]
    assert told[1].minutes < told[0].minutes / 2


def test_in_a_job_whose_resident_memory_is_summed_up_less_runs_side_by_side(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the memory was named, the program takes no less than that."""

    def stop(*_: object, nprocs: int, mem_gb: float, **__: object) -> None:
        given.append((nprocs, mem_gb))
        raise RuntimeError("far enough")

    given: list[tuple[int, float]] = []
    monkeypatch.setattr(execute, "execute", stop)
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "4096")
    kept = machine.sums_resident()
    for options in (["--nprocs", "4"], ["--nprocs", "4", "--mem", "3G"]):
        call(maker, *options)
    monkeypatch.setattr(machine, "sums_resident", lambda *_: False)
    call(maker, "--nprocs", "4")
    assert kept
    assert [workers for workers, _ in given] == [3, 4, 4]
    assert given[0][1] == pytest.approx(0.9 * 4.295 - 0.9 - BASE_GB - 2 * 0.7, abs=0.01)
    assert given[2][1] == pytest.approx(4.295 - BASE_GB - 3 * 0.25, abs=0.01)


def test_a_report_made_again_shows_the_errors_of_the_run_that_made_the_outputs(
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
    unlucky = Notice(what="bids_sr_wf.sub_01_wf.unlucky", why="ValueError: no", code="crashed")
    record(logs, [unlucky])
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
    for later in ("2019", "2021"):  # the clock was set: names of logs tell no order
        (out / "logs" / later).mkdir()
        (out / "logs" / later / "CITATION.md").write_text(f"Made in {later}.\n")
    noted = out / "logs" / "latest" / "sub-01.json"
    noted.parent.mkdir()
    noted.write_text('{"run": "2019", "settings": "", "rows": []}')
    assert main([*argv, "--reports-only"]) == 0
    assert "Made in 2019" in (out / "sub-01.html").read_text()
