"""Run participants as tasks of an array on a real SLURM: killed, out of memory, cancelled, at the
time limit; then the same command again.

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
from data.dataset import BidsMaker
from slurmmaker import program

from bids_sr.cli.slurm import main as slurm_main
from bids_sr.engine.slurm.submission import read_done

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

    def _submit(*options: str, mem: str = "1300M") -> int:
        fixed = ["--sr-method", "bspline", "--skip-bids-validation", "-w", "work", "--nprocs", "1"]
        own_options = ["--setup", "setup.sh", *options]
        return slurm_main.main(["data", "out", *own_options, "--", *fixed, "--mem", mem])

    yield _submit
    subprocess.run(["scancel", f"--user={os.getuid()}"], check=True)
    until(lambda: not active(site), 30)


def active(site: Path) -> list[str]:
    """Return the pending and running jobs and tasks of this user."""
    command = ["squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.3)


def starts(site: Path) -> list[str]:
    """Return the participants in the order of their starts."""
    file = site / "play" / "starts"
    return file.read_text().split() if file.exists() else []


def done(site: Path) -> set[str]:
    return read_done(site / "out")


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


def test_all_participants_and_the_group_level_succeed(submit: Call, site: Path) -> None:
    assert submit("--batch", "2") == 0
    until(lambda: not active(site), 60)
    assert done(site) == {*NAMES}
    assert (site / "play" / "group").read_text().split() == list(NAMES)
    assert sorted(starts(site)) == list(NAMES)
    assert submit("--no-group") == 0
    assert not active(site)


@pytest.mark.usefixtures("confined")
def test_the_same_command_submits_only_tasks_that_failed(submit: Call, site: Path) -> None:
    for name, play in (
        ("sub-01", "slow"),
        ("sub-02", "memory"),
        ("sub-03", "slow"),
        ("sub-04", "crash"),
    ):
        (site / "play" / name).write_text(play)
    assert submit() == 0
    until(lambda: {"sub-01", "sub-03"} <= set(starts(site)), 60)
    subprocess.run(["kill", "-KILL", str(pid_of(site, "sub-01"))], check=True)
    job = min(active(site), key=lambda job: int(job.partition("_")[0])).partition("_")[0]
    subprocess.run(["scancel", f"{job}_3"], check=True)
    until(lambda: not active(site), 60)
    assert done(site) == {"sub-05"}
    assert (site / "play" / "group").read_text().split() == ["sub-05"]
    (site / "play" / "sub-01").unlink(missing_ok=True)
    (site / "play" / "sub-02").write_text("memory")  # fits into more memory
    assert submit(mem="3G") == 0
    until(lambda: not active(site), 60)
    assert done(site) == {*NAMES}
    assert (site / "play" / "group").read_text().split() == list(NAMES)
    assert starts(site).count("sub-05") == 1


@pytest.mark.timeout(600)
def test_a_task_that_reaches_its_time_limit_is_submitted_again(submit: Call, site: Path) -> None:
    # runs until SIGTERM; ends at once after the second start
    (site / "play" / "sub-01").write_text("slow")
    assert submit("--time", "1") == 0
    until(lambda: "sub-05" in done(site), 60)
    until(lambda: not active(site), 120)
    assert done(site) >= {*NAMES[1:]}
    assert "sub-01" not in done(site)
    assert submit("--time", "1") == 0
    until(lambda: not active(site), 60)
    assert done(site) == {*NAMES}
    assert [starts(site).count(name) for name in NAMES] == [2, 1, 1, 1, 1]


def test_a_submission_that_slurm_rejects_is_an_error(
    submit: Call, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit("--partition", "nowhere") == 2
    assert "invalid partition" in capsys.readouterr().err
    assert not list((site / "out").rglob("settings.toml"))
