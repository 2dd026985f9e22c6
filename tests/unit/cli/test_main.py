"""Exit codes of the main command, and the files it writes; checks and processing are replaced."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bids_sr.cli import main, participant_level
from bids_sr.config import Settings
from bids_sr.config.lock import output_lock
from bids_sr.engine import fork_server
from bids_sr.engine.execute import RunOutcome
from bids_sr.io.atomic_files import DiskFullError, temporary_name
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.inputs import Subject
from bids_sr.survey.preflight.plan import Estimate, Plan

SUB_01 = Subject(label="01", t1w=(), runs=())
PLAN = Plan(subjects=(SUB_01,), estimate=Estimate(output_gb=1.25, work_gb=3.5))
CRASH = Notice(what="wf.fit", why="OSError", remedy="Do this.", code="crashed", file="crash-1.txt")
Call = Callable[..., int]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Return a function that runs the command with a plan, damaged files and a result."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fork_server, "start_fork_server", lambda: None)

    def run(
        *options: str,
        plan: Plan = PLAN,
        damaged: tuple[str, ...] = (),
        result: RunOutcome | BaseException | None = None,
    ) -> int:
        def process(*_: object) -> RunOutcome:
            if isinstance(result, BaseException):
                raise result
            return result or RunOutcome()

        notices = tuple(Notice(what=file) for file in damaged)
        monkeypatch.setattr("bids_sr.workflows.call_checks.check", lambda settings: plan)
        monkeypatch.setattr("bids_sr.survey.preflight.estimates.check_machine", lambda *_: ())
        monkeypatch.setattr(
            "bids_sr.survey.preflight.voxel_checks.check_data", lambda *_, **__: notices
        )
        monkeypatch.setattr(participant_level, "run_participants", process)
        return main.main([str(tmp_path / "in"), str(tmp_path / "out"), "participant", *options])

    return run


def test_a_successful_call_writes_its_settings_and_lists_notes_and_reports(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note = Notice(what="sub-01", why="no T1w image", level="note")
    plan = Plan(subjects=(SUB_01,), warnings=(note,))
    result = RunOutcome(reports=(Path("sub-01.html"),))
    assert call("--recipe", "paper", "-v", plan=plan, result=result) == 0
    (file,) = (tmp_path / "out" / "logs").glob("*/settings.toml")
    settings = Settings.from_toml(file)
    assert (settings.superres.recipe, settings.run.run_uuid) == ("paper", file.parent.name)
    shown = capsys.readouterr()
    assert all(text in shown.out for text in ("recipe=paper*", note.why, "sub-01.html"))
    assert shown.err == ""


def test_crashed_steps_and_missing_outputs_exit_with_1(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(result=RunOutcome(crashes=(CRASH,))) == 1
    error = capsys.readouterr().err
    assert all(text in error for text in (CRASH.what, CRASH.why, CRASH.remedy, CRASH.file))
    assert call(result=RunOutcome(missing=("wf.sink",))) == 1
    assert "wf.sink" in capsys.readouterr().err


def test_a_full_disk_replaces_other_crashes(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    full = Notice(what="wf.keep", why="ENOSPC", code="full", file="crash-2.txt")
    crashes = (CRASH, full, full)
    assert call(result=RunOutcome(crashes=crashes, missing=("wf.sink",) * 30)) == 1
    error = capsys.readouterr().err
    assert error.count("crash-2.txt") == 1
    assert "crash-1.txt" not in error
    assert "wf.sink" not in error
    assert "1.2 GB" in error
    assert "3.5 GB" in error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, None])
def test_a_full_disk_outside_the_steps_is_no_unexpected_error(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int | None
) -> None:
    file = tmp_path / "a.html"
    full = DiskFullError(file, 1_500_000) if number is None else OSError(number, "", str(file))
    assert call(result=full) == 1
    error = capsys.readouterr().err
    assert str(file) in error
    assert ("1.5 MB" in error) == (number is None)
    assert "Traceback" not in error


def test_an_unexpected_error_exits_with_70_and_an_interruption_with_130(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(result=RuntimeError("the reason")) == os.EX_SOFTWARE == 70
    assert "RuntimeError: the reason" in capsys.readouterr().err
    assert call(result=KeyboardInterrupt()) == 130


def test_all_problems_are_reported_and_nothing_is_written(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problems = tuple(Notice(what=file) for file in ("first.nii", "second.tsv"))
    assert call(plan=Plan(problems=problems)) == 2
    assert call(damaged=("third.nii.gz",)) == 2
    error = capsys.readouterr().err
    assert all(name in error for name in ("first.nii", "second.tsv", "third.nii.gz"))
    assert not (tmp_path / "out").exists()


def test_a_dry_run_reads_no_voxels_and_writes_nothing(call: Call, tmp_path: Path) -> None:
    assert call("--dry-run", damaged=("not read",)) == 0
    assert not (tmp_path / "out").exists()


def test_a_concurrent_run_on_the_same_participant_is_rejected(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = tmp_path / "out", tmp_path / "elsewhere"
    with output_lock(*places, participants=["01"], run_uuid="first"):
        assert call() == 2
        error = capsys.readouterr().err
        assert "sub-01" in error
        assert "first" in error
        assert call(plan=Plan(subjects=(Subject(label="02", t1w=(), runs=()),))) == 0
        assert call("--dry-run") == 0
    assert call() == 0
    assert not list(tmp_path.rglob("*.lease"))


def test_partial_files_of_a_killed_run_are_removed(call: Call, tmp_path: Path) -> None:
    """Files of other participants are kept, because another run may be writing them, and files of
    other programs in the data.
    """
    partial_files = [
        temporary_name(tmp_path / "out" / name)
        for name in (
            "sub-01/func/sub-01_task-tap_bold.nii.gz",
            "sourcedata/models/sub-01/a_model.safetensors",
            "derivatives/bids-sr-sbl/sub-01/func/x_bold.nii.gz",
            "sub-02/a.json",
            "sourcedata/raw/sub-01/func/sub-01_task-tap_bold.nii.gz",
        )
    ]
    for file in partial_files:
        file.parent.mkdir(parents=True)
        file.write_text("half")
    assert call() == 0
    assert [file.exists() for file in partial_files] == [False, False, False, True, True]
