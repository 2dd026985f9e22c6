"""Test ``bids-sr-slurm``: what is submitted, errors before submission, and exit codes."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from bidsmaker import BidsMaker
from slurmmaker import program, sbatch, start

from bids_sr.cli.parser import build_parser
from bids_sr.cli.stages import estimate_with_time
from bids_sr.config import Settings
from bids_sr.preflight import check
from bids_sr.slurm.cli import main as slurm_main
from bids_sr.slurm.cli.prepare import _estimate_costs
from bids_sr.slurm.records import find_records_dir

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
    """Return a function that submits with replacements of the SLURM programs.

    Its positional arguments precede ``--``.
    """
    sbatch(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)

    def _call(*own_options: str, program_options: tuple[str, ...] = ()) -> int:
        fixed = ["--sr-method", "bspline", "--skip-bids-validation", "-w", str(tmp_path / "work")]
        own = [str(data), str(tmp_path / "out"), *own_options]
        return slurm_main.main([*own, "--", *fixed, *program_options])

    return _call


def untouched(tmp_path: Path) -> bool:
    return not (tmp_path / "out").exists() and not (tmp_path / "sbatch").exists()


def folders(tmp_path: Path) -> list[Path]:
    """Return the directories of all submissions, oldest first."""
    files = (tmp_path / "out/logs/slurm").glob("*/settings.toml")
    return [file.parent for file in sorted(files, key=lambda file: file.stat().st_mtime_ns)]


def submitted(tmp_path: Path) -> list[list[str]]:
    """Return the participants of the array of each submission; a group job is ``group``."""
    return [
        (folder / "participants.txt").read_text().split()
        + ["group"] * (folder / "group.sbatch").exists()
        for folder in folders(tmp_path)
    ]


def finish(tmp_path: Path, *numbers: str, succeed: tuple[str, ...] = ()) -> None:
    """End jobs of the queue; participants and ``group`` of `succeed` are recorded as done."""
    queue = tmp_path / "queue"
    lines = queue.read_text().splitlines(keepends=True)
    queue.write_text("".join(line for line in lines if line.split("|")[0] not in numbers))
    # of a task, by which the program recognizes its output
    log_dir = tmp_path / "out" / "logs" / "run"
    log_dir.mkdir(exist_ok=True)
    (log_dir / "settings.toml").touch()
    for name in succeed:
        script = folders(tmp_path)[0] / ("group.sbatch" if name == "group" else "array.sbatch")
        digest = re.search(r"^digest=(\w+)", script.read_text(), re.MULTILINE)
        assert digest is not None
        (find_records_dir(tmp_path / "out") / name).write_text(digest[1])
        (tmp_path / "out" / name).mkdir(exist_ok=True)


def dependencies(tmp_path: Path) -> list[str]:
    """Return the dependency of each job, oldest first."""
    calls = (tmp_path / "sbatch").read_text().splitlines()
    return [
        match[1] if (match := re.search(r"--dependency=afterany:(\S+)", call)) else ""
        for call in calls
    ]


def test_the_same_command_again_submits_what_is_not_done(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call() == 0
    everything = ["sub-01", "sub-02", "sub-03", "group"]
    assert submitted(tmp_path) == [everything]
    assert dependencies(tmp_path) == ["", "1"]
    for _ in range(2):  # all are pending
        assert call() == 0
        assert "There is nothing to submit" in capsys.readouterr().out
    assert submitted(tmp_path) == [everything]
    finish(tmp_path, "1_1", "1_2", succeed=("sub-01",))
    # sub-02 has failed, and sub-03 is in the queue
    assert call() == 0
    assert submitted(tmp_path)[1:] == [["sub-02", "group"]]
    assert dependencies(tmp_path)[2:] == ["", "1:2:3"]
    assert (tmp_path / "scancel").read_text() == "--state=PENDING 2\n"
    finish(tmp_path, "1_3", "3_1", "4", succeed=("sub-02", "sub-03"))
    # the group level has failed
    assert call() == 0
    assert submitted(tmp_path)[2:] == [["group"]]
    assert dependencies(tmp_path)[4:] == [""]
    assert call() == 0
    finish(tmp_path, "5", succeed=("group",))
    assert call() == 0
    output = capsys.readouterr().out
    assert "3 participants are done, 0 pending or running, and 0 not done" in output
    assert len(submitted(tmp_path)) == 3


def test_records_of_tasks_are_found_by_the_next_call(call: Call, tmp_path: Path) -> None:
    body = 'mkdir -p "$2/${!#}" "$2/logs/run"; touch "$2/logs/run/settings.toml"'
    program(tmp_path / "bin" / "bids-sr", f'{body}; [ "${{!#}}" != sub-02 ]')
    (tmp_path / "setup.sh").write_text("")
    assert call("--setup", "setup.sh", "--no-group") == 0
    for task in (1, 2, 3):
        start(folders(tmp_path)[0] / "array.sbatch", task).wait(30)
    (tmp_path / "queue").write_text("")
    assert call("--setup", "setup.sh", "--no-group") == 0
    assert submitted(tmp_path)[1:] == [["sub-02"]]


def test_other_settings_are_refused_for_active_jobs_and_processed_afterwards(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--no-group") == 0
    other = ("--random-seed", "7")
    assert call("--no-group", program_options=other) == 2
    assert "scancel 1" in capsys.readouterr().err
    finish(tmp_path, "1_1", "1_2", "1_3", succeed=("sub-01", "sub-02", "sub-03"))
    # neither time nor memory change the results
    assert call("--no-group", "--time", "30", program_options=("--mem", "9G")) == 0
    assert len(submitted(tmp_path)) == 1
    assert call("--no-group", program_options=other) == 0
    assert submitted(tmp_path)[1:] == [["sub-01", "sub-02", "sub-03"]]


def test_participants_can_be_added(call: Call, tmp_path: Path) -> None:
    assert call(program_options=("--participant-label", "01", "03")) == 0
    assert submitted(tmp_path) == [["sub-01", "sub-03", "group"]]
    assert call() == 0
    # the first group job has other participants and stays
    assert submitted(tmp_path)[1:] == [["sub-02", "group"]]
    assert not (tmp_path / "scancel").exists()
    assert dependencies(tmp_path)[2:] == ["", "1:2:3"]


def test_the_array_continues_if_the_group_job_is_rejected(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accept = (tmp_path / "bin" / "sbatch").read_text()
    refuse = '[[ ${!#} != *group.sbatch ]] || { echo "too many jobs" >&2; exit 1; }'
    program(tmp_path / "bin" / "sbatch", f"{refuse}\n{accept}")
    assert call() == 2
    output = capsys.readouterr()
    assert "Submitted job array 1" in output.out
    assert "too many jobs" in output.err
    program(tmp_path / "bin" / "sbatch", accept)
    assert call() == 0
    assert submitted(tmp_path)[1:] == [["group"]]
    assert dependencies(tmp_path) == ["", "1"]


def test_print_only_shows_what_would_be_submitted(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ("--max-running", "1", "--partition", "long", "--time", "2:00:00")
    options = ("--mem", "6G", "--nprocs", "3", "--participant-label", "02", "03")
    assert call("--print-only", *own, program_options=options) == 0
    text = capsys.readouterr().out
    assert "#SBATCH --array=1-2%1\n" in text
    assert "#SBATCH --partition=long\n" in text
    assert "#SBATCH --time=0-02:00:00\n" in text
    assert "#SBATCH --cpus-per-task=3\n" in text
    assert "#SBATCH --mem=8258M\n" in text
    assert "No jobs were submitted" in text
    assert not (tmp_path / "sbatch").exists()
    assert submitted(tmp_path) == [["sub-02", "sub-03", "group"]]
    assert "nprocs = 3" in (folders(tmp_path)[0] / "settings.toml").read_text()
    subprocess.run(["bash", folders(tmp_path)[0] / "submit.sh"], check=True)
    assert call() == 0
    assert submitted(tmp_path)[1:] == [["sub-01", "group"]]


def test_all_problems_are_listed_at_once(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program(tmp_path / "bin" / "squeue", f'echo >"{tmp_path}/asked"; exit 1')
    own = ("--time", "soon", "--partition", "a b", "--setup", "nowhere")
    options = ("--participant-label", "01", "77", "--boilerplate-only", "--mem", "100M")
    assert call(*own, program_options=options) == 2
    text = capsys.readouterr().err
    for part in (*own[::2], "77", "--boilerplate-only", "--mem"):
        assert part in text, part
    assert untouched(tmp_path)
    assert not (tmp_path / "asked").exists(), "SLURM was called for invalid options"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--use-plugin", "plugin.toml"), "--use-plugin: tasks of a job array cannot submit jobs"),
        (("--clean-workdir",), "--clean-workdir: a requeued task"),
        (("--reports-only",), "--reports-only: this operation takes only seconds"),
        (("--mem", "8000"), "Specify 8000M or 8000G"),
        (("--sr-method", "magic"), "magic"),
        (("--smothing", "5"), "did you mean '--smoothing'"),
        (("--random-seed", "-1"), "--random-seed: -1"),
    ],
)
def test_options_of_bids_sr_are_checked_before_submission(
    options: tuple[str, ...],
    message: str,
    call: Call,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "plugin.toml").write_text('plugin = "SLURM"\n')
    assert call(program_options=options) == 2
    assert message in capsys.readouterr().err
    assert untouched(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--time", "soon"), "--time soon"),
        (("--batch", "0"), "--batch: 0"),
        (("--max-running", "0"), "--max-running: 0"),
        (("--gpus", "-1"), "--gpus: -1"),
        (("--container", "nowhere.sif"), "--container nowhere.sif"),
        (("--setup", ""), "the path must not be empty"),
        (("--partitoin", "x"), "did you mean '--partition'"),
        (("--mem", "8"), "write options of bids-sr after --"),
        (("-w", "work"), "write options of bids-sr after --"),
    ],
)
def test_invalid_options_are_rejected(
    options: tuple[str, ...],
    message: str,
    call: Call,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(*options) == 2
    assert message in capsys.readouterr().err
    assert untouched(tmp_path)


def test_more_tasks_than_an_array_allows_are_rejected(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program(tmp_path / "bin" / "scontrol", "echo 'MaxArraySize = 3'")
    assert call() == 2
    message = capsys.readouterr().err
    assert "3 tasks" in message
    assert "use --batch 2" in message
    assert untouched(tmp_path)
    assert call("--batch", "2") == 0
    lines = (folders(tmp_path)[0] / "participants.txt").read_text().splitlines()
    assert lines == ["sub-01 sub-02", "sub-03"]


def test_a_missing_slurm_is_rejected_unless_print_only(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--no-group") == 0
    shutil.rmtree(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert call() == 2
    assert "--print-only" in capsys.readouterr().err
    assert call("--print-only") == 0


def test_a_dry_run_writes_nothing(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(program_options=("--dry-run",)) == 0
    assert "3 participants in 3 tasks; each task requests 4 processors" in capsys.readouterr().out
    assert untouched(tmp_path)


def test_each_participant_is_estimated_separately(data: Path, tmp_path: Path) -> None:
    settings = Settings.from_mapping(
        {
            "paths": {"bids_dir": data, "output_dir": tmp_path / "out"},
            "superres": {"methods": ["bspline"]},
            "selection": {"skip_bids_validation": True},
            "resources": {"nprocs": 1},
        }
    )
    plan = check(settings)
    costs = _estimate_costs(plan, settings, ("sub-01", "sub-03"))
    assert list(costs) == ["sub-01", "sub-03"]
    minutes_of_all = estimate_with_time(plan, settings).minutes
    assert all(0 < cost.minutes < minutes_of_all for cost in costs.values())
    assert all(0 < cost.memory_gb <= plan.estimate.memory_gb for cost in costs.values())


def test_the_hpc_page_documents_every_option() -> None:
    text = (ROOT / "docs/hpc.md").read_text()
    own = {flag for action in slurm_main.build_parser()._actions for flag in action.option_strings}
    others = {
        flag for action in build_parser(show_all=True)._actions for flag in action.option_strings
    }
    documented = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert own - documented == {"-h", "--help", "--version"}
    assert documented - {"--gres", "--requeue"} <= own | others
