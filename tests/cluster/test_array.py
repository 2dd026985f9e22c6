"""Run participants as tasks of an array on a real SLURM: killed, out of memory, cancelled, at the
time limit; then a retry.

``BIDS_SR_TEST_SLURM`` names the folder of ``slurm-up`` and ``slurm-down``, which start and stop a
cluster of one machine. A short shell script replaces bids-sr, because only its submission is
tested.
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bidsmaker import BidsMaker
from slurmmaker import program

from bids_sr.slurm import commands
from bids_sr.slurm.cli import main as slurm_main
from bids_sr.slurm.job_states import JobStatus, State
from bids_sr.slurm.manage import read_overview
from bids_sr.slurm.submission import submissions

SCRIPTS = os.environ.get("BIDS_SR_TEST_SLURM", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        not SCRIPTS,
        reason="BIDS_SR_TEST_SLURM does not name the folder of slurm-up and slurm-down",
    ),
]
PROGRAM = """
folder={folder}
level=$3 label=${{!#}}
[ "$level" = group ] && {{ ls "$folder/finished" >"$folder/group"; exit 0; }}
echo "$label" >>"$folder/starts"
case "$(cat "$folder/$label" 2>/dev/null)" in
    memory) rm "$folder/$label"; {python} -c 'x = bytearray(2400 << 20)' ;;
    slow) trap 'rm "$folder/$label"; exit 130' TERM; for _ in $(seq 1200); do sleep 0.1; done ;;
    crash) rm "$folder/$label"; exit 1 ;;
    *) sleep 1 ;;
esac || exit
touch "$folder/finished/$label"
"""
NAMES = ("sub-01", "sub-02", "sub-03", "sub-04", "sub-05")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Start a cluster whose control groups limit memory, if the machine allows it."""
    root = tmp_path_factory.mktemp("slurm")
    environment = {
        **os.environ,
        "MEM_MB": "8000",
        "KILL_WAIT": "3",
    }
    subprocess.run([f"{SCRIPTS}/slurm-up", root], env=environment, check=True, capture_output=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(root / "etc/slurm.conf"))
        yield root
    subprocess.run([f"{SCRIPTS}/slurm-down", root], check=False, capture_output=True)


Call = Callable[..., int]


@pytest.fixture
def site(cluster: Path, tmp_path: Path) -> Path:
    """Make a folder with a blank, a quote and a percent sign in its name, with data, and the
    program in ``bin``.
    """
    root = tmp_path / "it's 5%j of it"
    data = BidsMaker(root / "data")
    for name in NAMES:
        data.subject(name.removeprefix("sub-"))
    (root / "play" / "finished").mkdir(parents=True)
    body = PROGRAM.format(
        folder=shlex.quote(str(root / "play")), python=shlex.quote(sys.executable)
    )
    program(root / "bin" / "bids-sr", body)
    (root / "setup.sh").write_text(f"PATH={shlex.quote(str(root / 'bin'))}:$PATH\n")
    return root


@pytest.fixture
def submit(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    monkeypatch.chdir(site)

    def _submit(*options: str) -> int:
        fixed = [
            "--sr-method",
            "bspline",
            "--skip-bids-validation",
            "-w",
            "work",
            "--setup",
            "setup.sh",
            "--cpus",
            "1",
        ]
        return slurm_main.main(["data", "out", *fixed, *options])

    yield _submit
    slurm_main.main(["cancel", str(site / "out")])
    until(lambda: not any(fate.open for fate in fates(site).values()), 30)


def fates(site: Path) -> dict[str, JobStatus]:
    return {fate.participant: fate for fate in read_overview(site / "out").statuses}


def until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.3)


def states(site: Path) -> dict[str, tuple[State, str]]:
    return {name: (fate.state, fate.code) for name, fate in fates(site).items()}


def pid_of(site: Path, name: str) -> int:
    needle = str(site / "out").encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if needle in words and name.encode() in words:
            return int(entry.name)
    raise AssertionError(f"no process works on {name}")


def test_all_participants_and_the_group_level_succeed(
    submit: Call, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit("--wait", "--batch", "2", "--mem", "1300M") == 0
    assert "5 participants: 5 done, group level done" in capsys.readouterr().out
    assert (site / "play" / "group").read_text().split() == list(NAMES)
    assert [fates(site)[name].job.partition("_")[2] for name in NAMES] == ["1", "1", "2", "2", "3"]


@pytest.mark.usefixtures("confined")
def test_failures_are_classified_others_complete_and_a_retry_succeeds(
    submit: Call, site: Path
) -> None:
    for name, play in (
        ("sub-01", "slow"),
        ("sub-02", "memory"),
        ("sub-03", "slow"),
        ("sub-04", "crash"),
    ):
        (site / "play" / name).write_text(play)
    assert submit("--mem", "1300M") == 0
    until(
        lambda: {fates(site)[name].state for name in ("sub-01", "sub-03")} == {State.RUNNING}, 60
    )
    until((site / "play" / "starts").exists, 10)
    until(lambda: "sub-01" in (site / "play" / "starts").read_text(), 10)
    subprocess.run(["kill", "-KILL", str(pid_of(site, "sub-01"))], check=True)
    assert slurm_main.main(["cancel", str(site / "out"), "--participant-label", "sub-03"]) == 0
    assert slurm_main.main(["status", str(site / "out")]) in (0, 1)
    until(lambda: not any(fate.open for fate in fates(site).values()), 60)
    assert states(site) == {
        "sub-01": (State.FAILED, "killed"),
        "sub-02": (State.FAILED, "memory"),
        "sub-03": (State.FAILED, "cancelled"),
        "sub-04": (State.FAILED, "crashed"),
        "sub-05": (State.DONE, ""),
        "group": (State.DONE, ""),
    }
    assert (site / "play" / "group").read_text().split() == ["sub-05"]
    (site / "play" / "sub-01").unlink()
    (site / "play" / "sub-02").write_text("memory")  # fits into twice the memory
    assert slurm_main.main(["retry", str(site / "out"), "--wait"]) == 0
    assert (site / "play" / "group").read_text().split() == list(NAMES)
    assert (site / "play" / "starts").read_text().split().count("sub-05") == 1
    assert {
        array.tasks: array.request.memory_mb for array in submissions(site / "out")[-1].arrays
    } == {
        (("sub-01",), ("sub-03",), ("sub-04",)): 1922,
        (("sub-02",),): 3844,
    }


def test_pending_tasks_are_cancelled(submit: Call, site: Path) -> None:
    (site / "play" / "sub-01").write_text("slow")
    assert submit("--array", "1-2%1", "--mem", "1300M") == 0
    until((site / "play" / "starts").exists, 60)
    assert slurm_main.main(["cancel", str(site / "out")]) == 0
    until(lambda: not any(fate.open for fate in fates(site).values()), 60)
    assert {why for _, why in states(site).values()} == {"cancelled"}
    assert (site / "play" / "starts").read_text().split() == ["sub-01"]


@pytest.mark.timeout(600)
def test_a_task_at_its_time_limit_is_requeued_and_completes(submit: Call, site: Path) -> None:
    # runs until SIGTERM; ends at once after the second start
    (site / "play" / "sub-01").write_text("slow")
    assert submit("--array", "1-2", "--time", "1", "--mem", "1300M") == 0
    until(lambda: fates(site)["sub-01"].state is State.REQUEUED, 100)
    assert fates(site)["group"].state is State.PENDING  # the group also waits for the second start
    until(lambda: not any(fate.open for fate in fates(site).values()), 300)
    assert {name: fate.state for name, fate in fates(site).items()} == dict.fromkeys(
        ("sub-01", "sub-02", "group"), State.DONE
    )
    assert fates(site)["sub-01"].starts == 2


def test_a_submission_that_slurm_rejects_is_an_error(
    submit: Call, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit("--partition", "nowhere") == 2
    assert "invalid partition" in capsys.readouterr().err
    assert not list((site / "out").rglob("submission.json"))
    assert commands.queue(["bids-sr-nothing"]) == {}
    # the fixture cancels this submission
    assert submit("--no-group", "--array", "1", "--mem", "1300M") == 0
