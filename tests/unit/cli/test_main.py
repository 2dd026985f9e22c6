"""Test all exit codes of the main command, and the files it writes."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import bids_sr
from bids_sr.bids import Subject
from bids_sr.cli import main
from bids_sr.config import Settings
from bids_sr.config.lock import output_lock
from bids_sr.io.atomic_files import DiskFullError, temporary_name
from bids_sr.notices import Notice
from bids_sr.preflight.plan import Estimate


@dataclass
class FakePlan:
    problems: tuple[str, ...] = ()
    subjects: tuple[Subject, ...] = (Subject(label="01", t1w=(), runs=()),)
    runs: tuple[SimpleNamespace, ...] = ()
    series: tuple[str, ...] = ("acquired",)
    warnings: tuple[Notice, ...] = ()
    skipped: dict[str, tuple[str, ...]] = field(default_factory=dict)
    estimate: Estimate = field(default_factory=lambda: Estimate(output_gb=1.25, work_gb=3.5))


@dataclass
class FakeOutcome:
    crashes: tuple[Notice, ...] = ()
    missing: tuple[str, ...] = ()
    reports: tuple[Path, ...] = (Path("sub-01.html"),)


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Return a function that runs `main` with given results of the checks and of the
    processing.
    """

    def _call(
        *options: str,
        plan: FakePlan | None = None,
        data: tuple[str, ...] = (),
        work: object = None,
    ) -> int:
        def run_work(
            settings: Settings, checked: object, print_line: Callable[[str], None]
        ) -> object:
            if isinstance(work, BaseException):
                raise work
            return work or FakeOutcome()

        preflight, participant = (
            ModuleType("bids_sr.preflight"),
            ModuleType("bids_sr.cli.participant_level"),
        )
        vars(preflight).update(
            check=lambda settings: plan or FakePlan(),
            check_machine=lambda checked, settings: (),
            check_data=lambda checked, forced, search_outliers: tuple(
                Notice(what=file) for file in data
            ),
            exclude_runs=lambda checked, problems: checked,
            drop_unfit_references=lambda checked, problems: (checked, problems),
            describe_skipped_runs=list,
            cost_text=lambda checked, settings: "about 3 min",
            choice_lines=lambda checked, settings: [],
            notes=lambda checked, settings: list(checked.warnings),
            format_problems=lambda problems: (
                f"{len(problems)} problems: {' '.join(map(str, problems))}"
            ),
            dry_run_text=lambda checked, settings: "1 participant, 3 min",
        )
        vars(participant).update(run_participants=run_work)
        stages = ModuleType("bids_sr.cli.stages")
        vars(stages).update(estimate_with_time=lambda checked, settings: checked.estimate)
        monkeypatch.setitem(sys.modules, "bids_sr.cli.stages", stages)
        monkeypatch.setattr(bids_sr, "preflight", preflight, raising=False)
        monkeypatch.setitem(sys.modules, "bids_sr.preflight", preflight)
        monkeypatch.setitem(sys.modules, "bids_sr.cli.participant_level", participant)
        return main.main([str(tmp_path / "in"), str(tmp_path / "out"), "participant", *options])

    return _call


def test_a_successful_call_exits_with_0_and_writes_settings(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notice = Notice(what="sub-01", why="no T1w image", level="note")
    assert call("--recipe", "paper", "-v", plan=FakePlan(warnings=(notice,))) == 0
    settings_files = list((tmp_path / "out" / "logs").glob("*/settings.toml"))
    assert len(settings_files) == 1
    settings = Settings.from_toml(settings_files[0])
    assert settings.superres.recipe == "paper"
    assert settings.run.run_uuid == settings_files[0].parent.name
    shown = capsys.readouterr()
    assert "recipe=paper*" in shown.out
    assert "no T1w image" in shown.out
    assert "sub-01.html" in shown.out
    assert shown.err == ""


def test_crashes_and_missing_outputs_are_printed(
    call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(work=FakeOutcome(crashes=(crash_notice(Path("crash-1.txt")),))) == 1
    assert call(work=FakeOutcome(missing=("wf.sink",))) == 1
    shown = capsys.readouterr().err
    assert "crash-1.txt" in shown
    assert "wf.sink" in shown


def test_an_unexpected_error_prints_its_traceback_and_exits_with_70(
    call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(work=RuntimeError("the reason")) == os.EX_SOFTWARE == 70
    assert "RuntimeError: the reason" in capsys.readouterr().err


def test_all_problems_are_reported_and_nothing_is_written(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(plan=FakePlan(problems=("first.nii", "second.tsv"))) == 2
    assert call(data=("third.nii.gz",)) == 2
    shown = capsys.readouterr().err
    assert "2 problems" in shown
    assert all(name in shown for name in ("first.nii", "second.tsv", "third.nii.gz"))
    assert not (tmp_path / "out").exists()


def test_an_invalid_command_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["in", "out", "group"]) == 2
    assert main.main(["in", "out", "participant", "--nonsense"]) == 2
    assert "fix:" in capsys.readouterr().err


def test_dry_run_shows_the_plan_and_writes_nothing(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--dry-run", data=("never asked",)) == 0
    assert "1 participant, 3 min" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_boilerplate_only_exports_nothing(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "out" / "CITATION.md"
    # from an earlier call
    (tmp_path / "out" / "derivatives" / "bids-sr-raw" / "sub-01").mkdir(parents=True)
    assert call("--boilerplate-only", work=FakeOutcome(reports=(text,))) == 0
    shown = capsys.readouterr().out
    assert f"methods   {text}" in shown
    assert "exported" not in shown


def crash_notice(file: Path, code: str = "crashed") -> Notice:
    return Notice(what="wf.fit", why="OSError", remedy="Do this.", code=code, file=str(file))


def test_a_crash_is_printed_with_reason_fix_and_file(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crash = crash_notice(tmp_path / "crash-1.txt")
    assert call(work=FakeOutcome(crashes=(crash,), missing=("wf.sub_01_wf.keep",))) == 1
    assert (
        f"crashed: wf.fit\n  why: OSError\n  fix: Do this.\n  see: {crash.file}\nmissing:"
        " wf.sub_01_wf.keep\n" in capsys.readouterr().err
    )


def test_a_full_disk_is_reported_once_instead_of_other_crashes(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crashes = tuple(
        crash_notice(tmp_path / f"crash-{n}.txt", "full" if n else "crashed") for n in range(3)
    )
    assert call(work=FakeOutcome(crashes=crashes, missing=("wf.keep",) * 30)) == 1
    assert capsys.readouterr().err == (
        f"bids-sr: disk full: wf.fit\n  why: OSError\n  fix: Do this.\n  see:"
        f" {tmp_path}/crash-1.txt\n"
        "In total, about 1.2 GB are required for the outputs and 3.5 GB for the working"
        " directory.\n"
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_outside_the_steps_is_reported_without_traceback(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    assert call(work=OSError(number, "full", str(tmp_path / "a.html"))) == 1
    shown = capsys.readouterr().err
    assert f"{tmp_path}/a.html" in shown
    assert "free on the file system" in shown
    assert "Traceback" not in shown
    assert call(work=DiskFullError(tmp_path / "b.html", 1_500_000)) == 1
    assert (
        f"{tmp_path}/b.html\n  why: no space is left on the disk, or the disk quota is exceeded."
        " 1.5 MB" in (capsys.readouterr().err)
    )


def test_a_concurrent_run_on_the_same_participant_is_rejected(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with output_lock(
        tmp_path / "out", tmp_path / "elsewhere", participants=["01"], run_uuid="first"
    ):
        assert call() == 2
        stderr = capsys.readouterr().err
        assert "another run is working on sub-01" in stderr
        assert "run first" in stderr
        assert call(plan=FakePlan(subjects=(Subject(label="02", t1w=(), runs=()),))) == 0
        assert call("--dry-run") == 0
    assert call() == 0
    assert not list(tmp_path.rglob("*.lease"))


def test_partial_files_of_a_killed_run_are_removed(
    call: Callable[..., int], tmp_path: Path
) -> None:
    partial = temporary_name(tmp_path / "out" / "sub-01" / "func" / "sub-01_task-tap_bold.nii.gz")
    partial.parent.mkdir(parents=True)
    partial.write_text("half")
    model = temporary_name(
        tmp_path / "out" / "sourcedata" / "models" / "sub-01" / "a_model.safetensors"
    )
    model.parent.mkdir(parents=True)
    model.write_text("half")
    # another run may be writing this file
    other_partial = temporary_name(tmp_path / "out" / "sub-02" / "a.json")
    other_partial.parent.mkdir()
    other_partial.write_text("half")
    assert call() == 0
    assert not partial.exists()
    assert not model.exists()
    assert other_partial.exists()


def test_an_interrupt_exits_with_130(
    call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(work=KeyboardInterrupt()) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_interrupt_with_exit_code_130(signal_number: signal.Signals) -> None:
    code = (
        "import signal, sys, time\nfrom bids_sr.cli import main as run\n"
        # a background job inherits SIGINT as ignored, a job under nohup SIGHUP
        "signal.signal(signal.SIGINT, signal.default_int_handler); signal.signal(signal.SIGHUP,"
        " signal.SIG_DFL)\ndef wait(argv):\n    print('ready', flush=True)\n   "
        " time.sleep(60)\nrun._run = wait\nsys.exit(run.main([]))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    os.kill(child.pid, signal_number)
    assert child.wait(timeout=20) == 130


def test_version_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("bids-sr ")
