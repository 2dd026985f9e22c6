"""A signal ends the program in time, with its children, even if the main thread does not stop."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import pytest

PROGRAM = """
import ctypes, signal, subprocess, sys, time
from bids_sr.cli.exit_codes import run_program

signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal
signal.signal(signal.SIGHUP, signal.SIG_DFL)
{before}
child = subprocess.Popen(["sleep", "60"])

def work(_arguments):
    print(child.pid, flush=True)
    {work}
    return 0

sys.exit(run_program("bids-sr", work, interrupted=""))
"""
SLEEP = "time.sleep(60)"
# an exception in a callback of a library is lost
LOST = f"""try:
        {SLEEP}
    except KeyboardInterrupt:
        {SLEEP}"""
# a mutex that is locked twice: compiled code that no signal interrupts
BLOCKED = """mutex = ctypes.create_string_buffer(64)
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)"""
IGNORED = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"


@pytest.mark.parametrize(
    ("work", "before", "signals", "shortest_s", "longest_s"),
    [
        (SLEEP, "", (signal.SIGINT,), 0, 6),
        (SLEEP, "", (signal.SIGTERM,), 0, 6),
        (SLEEP, "", (signal.SIGHUP,), 0, 6),
        (SLEEP, IGNORED, (signal.SIGHUP, signal.SIGTERM), 0, 6),
        (LOST, "", (signal.SIGTERM, signal.SIGINT), 0, 6),
        (BLOCKED, "", (signal.SIGTERM, signal.SIGINT), 0, 6),
        (BLOCKED, "", (signal.SIGTERM,), 7, 20),
    ],
    ids=["INT", "TERM", "HUP", "ignored", "second", "second in compiled code", "timeout"],
)
def test_signals_end_the_program_with_exit_code_130(
    work: str, before: str, signals: Sequence[signal.Signals], shortest_s: float, longest_s: float
) -> None:
    """Only the last of the signals ends it, within seconds; without a second one after 8 s."""
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(work=work, before=before)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    child = int(program.stdout.readline())
    for number in signals[:-1]:
        time.sleep(0.3)
        program.send_signal(number)
    time.sleep(0.3)
    assert program.poll() is None
    start = time.monotonic()
    program.send_signal(signals[-1])
    assert program.wait(timeout=30) == 130
    assert shortest_s <= time.monotonic() - start < longest_s
    assert not is_alive(child)


def is_alive(pid: int) -> bool:
    """Return whether a process still runs after at most 2 s."""
    for _ in range(20):
        try:
            with open(f"/proc/{pid}/stat") as stream:
                if stream.read().rpartition(")")[2].split()[0] == "Z":
                    return False
        except FileNotFoundError:
            return False
        time.sleep(0.1)
    return True
