"""Test ``bids-sr-slurm``: errors before submission, printed text, and exit codes."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from bidsmaker import BidsMaker
from slurmmaker import program

from bids_sr.cli.stages import estimate_with_time
from bids_sr.config import Settings
from bids_sr.preflight import check
from bids_sr.slurm.cli import main as slurm_main
from bids_sr.slurm.cli.prepare import _estimate_costs
from bids_sr.slurm.submission import submissions

ROOT = Path(__file__).parents[4]
Call = Callable[..., int]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    maker = BidsMaker(tmp_path / "bids")
    for label in ("01", "02", "03"):
        maker.subject(label)
    return maker.root


@pytest.fixture
def call(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Return a function that submits with replacements of the SLURM programs; `squeue` prints the
    file `queue`.
    """
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    program(
        tmp_path / "bin" / "sbatch",
        f'echo "$@" >>"{tmp_path}/sbatch"; grep -c . "{tmp_path}/sbatch"',
    )
    program(tmp_path / "bin" / "squeue", f'cat "{tmp_path}/queue"')
    program(tmp_path / "bin" / "scancel", f'echo "$@" >"{tmp_path}/scancel"')
    program(tmp_path / "bin" / "scontrol", "echo 'MaxArraySize = 1001'")
    (tmp_path / "queue").write_text("")

    def _call(*options: str) -> int:
        fixed = ["--sr-method", "bspline", "--skip-bids-validation", "-w", str(tmp_path / "work")]
        return slurm_main.main([str(data), str(tmp_path / "out"), *fixed, *options])

    return _call


def untouched(tmp_path: Path) -> bool:
    return not (tmp_path / "out").exists() and not (tmp_path / "sbatch").exists()


def test_print_only_shows_what_would_be_submitted(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        call(
            "--print-only",
            "--array",
            "2-3%1",
            "--partition",
            "long",
            "--time",
            "2:00:00",
            "--mem",
            "6G",
        )
        == 0
    )
    text = capsys.readouterr().out
    assert "#SBATCH --array=2-3%1\n" in text
    assert "#SBATCH --partition=long\n" in text
    assert "#SBATCH --time=0-02:00:00\n" in text
    assert "#SBATCH --mem=8735M\n" in text
    assert "No jobs were submitted" in text
    assert not (tmp_path / "sbatch").exists()
    (submission,) = submissions(tmp_path / "out")
    assert submission.participants == ("sub-02", "sub-03")


def test_submission_status_retry_and_cancel(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    (tmp_path / "queue").write_text("")
    assert call("--cpus", "3", "--array", "1-2") == 0
    assert len((tmp_path / "sbatch").read_text().splitlines()) == 2  # the array and the group job
    (submission,) = submissions(tmp_path / "out")
    assert submission.arrays[0].request.cpus == 3
    assert "nprocs = 3" in (submission.folder / "settings.toml").read_text()
    (tmp_path / "queue").write_text("1_1|RUNNING|None\n1_2|PENDING|None\n2|PENDING|Dependency\n")
    assert slurm_main.main(["status", out]) == 0
    assert "1 pending, 1 running, group level pending" in capsys.readouterr().out
    assert call("--participant-label", "01", "03") == 2
    assert (
        "sub-01: jobs for these participants are already pending or running"
        in capsys.readouterr().err
    )
    assert slurm_main.main(["cancel", out, "--participant-label", "sub-02"]) == 0
    assert (tmp_path / "scancel").read_text() == "1_2\n"
    values = {
        "participant": "sub-01",
        "state": "failed",
        "exit_code": 2,
        "started": 0,
        "ended": 9,
        "job": "1_1",
    }
    (submission.folder / "status" / "sub-01.json").write_text(json.dumps(values))
    (submission.folder / "status" / "group.json").write_text(
        json.dumps({**values, "participant": "group", "state": "done"})
    )
    (tmp_path / "queue").write_text("")
    assert slurm_main.main(["status", out]) == 1
    text = capsys.readouterr().out
    assert "sub-01\n  why: rejected (resources requested per start of the job: " in text
    assert "  fix: Correct the problem that is reported in the log" in text
    assert "sub-02\n  why: cancelled (" in text
    assert (
        slurm_main.main(["retry", out, "--participant-label", "01", "--mem", "7G", "--print-only"])
        == 0
    )
    assert "#SBATCH --mem=9395M" in capsys.readouterr().out
    assert slurm_main.main(["retry", out]) == 0
    text = capsys.readouterr().out
    assert "Resubmitting sub-01 sub-02 with " in text
    assert "Resubmitting the group-level job\n" in text
    assert len((tmp_path / "sbatch").read_text().splitlines()) == 4


def test_wait_exits_with_code_1_and_names_participants_without_status(
    call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "bids_sr.slurm.manage.wait.__kwdefaults__", {"sleep": lambda seconds: None}
    )
    # the queue is empty and no job left a status
    assert call("--wait", "--no-group") == 1
    text = capsys.readouterr().out
    assert "sub-02\n  why: job never started (" in text
    assert "group" not in text.split("Submitted jobs:")[1]


def test_all_problems_are_listed_at_once(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = call(
        "--array",
        "9",
        "--partition",
        "a b",
        "--setup",
        "nowhere",
        "--participant-label",
        "01",
        "77",
        "--boilerplate-only",
        "--mem",
        "100M",
    )
    text = capsys.readouterr().err
    assert code == 2
    for part in (
        "--array 9",
        "--partition a b",
        "--setup nowhere",
        "77",
        "--boilerplate-only",
        "--mem",
    ):
        assert part in text, part
    assert untouched(tmp_path)


def test_options_are_checked_before_slurm_is_called(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--cpus", "1") == 0
    for name in ("squeue", "scontrol"):
        program(tmp_path / "bin" / name, f'echo "{name}" >>"{tmp_path}/asked"; exit 1')
    out = str(tmp_path / "out")
    for option, exit_code in {
        "--array 9": call("--array", "9"),
        "--time soon": slurm_main.main(["retry", out, "--time", "soon"]),
    }.items():
        assert exit_code == 2, option
    text = capsys.readouterr().err
    for option in ("--array 9", "--time soon"):
        assert option in text
    assert not (tmp_path / "asked").exists()
    assert call() == 2
    assert "squeue failed with exit code 1" in capsys.readouterr().err


def test_a_slurm_plugin_is_rejected_in_array_tasks(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plugin.toml").write_text('plugin = "SLURM"\n')
    assert call("--use-plugin", str(tmp_path / "plugin.toml")) == 2
    assert "--use-plugin: tasks of a job array cannot submit jobs" in capsys.readouterr().err
    assert untouched(tmp_path)


def test_tasks_request_the_processors_of_the_plugin_file(call: Call, tmp_path: Path) -> None:
    (tmp_path / "plugin.yml").write_text("plugin: MultiProc\nplugin_args: {n_procs: 3}\n")
    assert call("--use-plugin", "plugin.yml", "--print-only") == 0
    (submission,) = submissions(tmp_path / "out")
    assert submission.arrays[0].request.cpus == 3


@pytest.mark.parametrize("command", ["submit", "retry"])
def test_an_ambiguous_memory_unit_is_rejected(
    command: str, call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if command == "submit":
        assert call("--mem", "8000") == 2
    else:
        assert slurm_main.main(["retry", str(tmp_path / "out"), "--mem", "8000"]) == 2
    assert "Specify 8000M or 8000G" in capsys.readouterr().err


def test_clean_workdir_is_rejected_if_tasks_may_be_requeued(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--set", "run.clean_workdir=true") == 2
    assert "--set run.clean_workdir=true: a requeued task" in (stderr := capsys.readouterr().err)
    assert "specify a new working directory with -w" in stderr
    assert untouched(tmp_path)


def test_more_tasks_than_an_array_allows_are_rejected(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program(tmp_path / "bin" / "scontrol", "echo 'MaxArraySize = 3'")
    assert call() == 2
    assert (
        "has 3 tasks, but this cluster allows at most 2 tasks per array. Use --batch 2"
        in capsys.readouterr().err
    )
    assert untouched(tmp_path)
    assert call("--batch", "2") == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--time", "soon"), "--time soon"),
        (("--batch", "0"), "--batch: 0"),
        (("--container", "nowhere.sif"), "--container nowhere.sif"),
        (("--arry", "1"), "did you mean '--array'"),
        (("--gpus", "-1"), "--gpus: -1"),
        (("--requeues", "-1"), "--requeues: -1"),
        (("--sr-method", "magic"), "magic"),
    ],
)
def test_invalid_options_are_rejected(
    options: tuple[str, ...],
    words: str,
    call: Call,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(*options) == 2
    assert words in capsys.readouterr().err
    assert untouched(tmp_path)


def test_a_missing_slurm_is_rejected_unless_print_only(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert call("--set", "run.clean_workdir=true") == 2
    assert "--set run.clean_workdir=true" in (stderr := capsys.readouterr().err)
    assert "--print-only" not in stderr, "SLURM is not called for options that cannot be submitted"
    assert call() == 2
    assert "--print-only" in capsys.readouterr().err
    assert untouched(tmp_path)
    assert call("--print-only") == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--setup", ""), "the path must not be empty"),
        (("--cpus", "0"), "--cpus: 0\n  why: expected at least"),
    ],
)
def test_invalid_values_are_rejected(
    options: tuple[str, ...],
    message: str,
    call: Call,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(*options) == 2
    assert message in capsys.readouterr().err
    assert untouched(tmp_path)


@pytest.mark.parametrize("command", ["status", "retry", "cancel"])
def test_commands_on_an_output_without_submissions_are_rejected(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert slurm_main.main([command, str(tmp_path)]) == 2
    assert "no submitted jobs" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--dry-run") == 0
    assert "3 participants in 3 tasks; each task requests 4 processors" in capsys.readouterr().out
    assert untouched(tmp_path)


def test_each_participant_is_estimated_separately(data: Path, tmp_path: Path) -> None:
    settings = Settings.from_mapping(
        {
            "paths": {"bids_dir": data, "output_dir": tmp_path / "out"},
            "superres": {"method": ["bspline"]},
            "selection": {"skip_bids_validation": True},
            "resources": {"nprocs": 1},
        }
    )
    plan = check(settings)
    costs = _estimate_costs(plan, settings)
    assert list(costs) == ["sub-01", "sub-02", "sub-03"]
    minutes_of_all = estimate_with_time(plan, settings).minutes
    assert all(0 < cost.minutes < minutes_of_all for cost in costs.values())
    assert all(0 < cost.memory_gb <= plan.estimate.memory_gb for cost in costs.values())


def test_the_hpc_page_documents_every_option() -> None:
    text = (ROOT / "docs/hpc.md").read_text()
    parsers = (
        slurm_main.build_parser(),
        slurm_main.build_command_parser("retry"),
        slurm_main.build_command_parser("cancel"),
    )
    flags = {
        flag for parser in parsers for action in parser._actions for flag in action.option_strings
    }
    slurm_actions = [
        action
        for action in parsers[0]._actions
        if action.dest.startswith(("slurmoptions.", "site."))
    ]
    assert [action.dest for action in slurm_actions if action.option_strings[0] not in text] == []
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - {"--gres"} <= flags
