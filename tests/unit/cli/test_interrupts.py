"""A signal ends the process in time, even if the main thread does not stop."""

import signal
import subprocess
import sys
import time

import pytest

LINES = {
    "sleeping": "time.sleep(60)",
    "lost": """
try:
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(60)""",
    "compiled": "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)",
}


def _start(work: str, grace: float = 1.0, ignored: str = "") -> subprocess.Popen[str]:
    code = (
        "import hashlib, signal, subprocess, sys, time\n"
        # a background job inherits SIGINT as ignored
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"{ignored}\n"
        "from bids_sr.cli import interrupts, main as run\n"
        f"interrupts._GRACE_S = {grace}\n"
        "def work(argv):\n"
        "    child = subprocess.Popen(['sleep', '60'])\n"
        "    print(child.pid, flush=True)\n    "
        + LINES[work].strip("\n").replace("\n", "\n    ")
        + "\n"
        "    return 0\n"
        "run._run = work\nsys.exit(run.main([]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _child_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    child = int(process.stdout.readline())
    time.sleep(0.5)  # wait until the work has started
    return child


@pytest.mark.parametrize("work", ["lost", "compiled"])
def test_work_that_does_not_stop_is_ended_with_its_children(work: str) -> None:
    process = _start(work)
    child = _child_of(process)
    start = time.monotonic()
    process.terminate()
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert 0.9 < time.monotonic() - start < 6
    assert (
        "did not stop within 1 s of the stop request and was terminated. Rerun the same command"
        in stderr
    )
    assert not _alive(child)


def test_a_second_signal_ends_the_process_immediately() -> None:
    process = _start("lost", grace=60)
    child = _child_of(process)
    process.terminate()
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=5)
    assert process.returncode == 130
    assert "stopped immediately" in stderr
    assert not _alive(child)


def test_a_signal_ignored_by_the_parent_remains_ignored() -> None:
    process = _start("sleeping", ignored="signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    child = _child_of(process)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.terminate()
    assert process.wait(timeout=20) == 130
    assert not _alive(child)


def _alive(pid: int) -> bool:
    for _ in range(20):
        try:
            with open(f"/proc/{pid}/stat") as stream:
                if stream.read().rpartition(")")[2].split()[0] == "Z":
                    return False
        except FileNotFoundError:
            return False
        time.sleep(0.1)
    return True
