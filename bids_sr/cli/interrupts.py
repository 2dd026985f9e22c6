"""Signals that end a run: the first asks, the second (or a timeout) ends it at once.

SIGINT, SIGTERM (schedulers, containers) and SIGHUP (a terminal that is closed) become
`KeyboardInterrupt`. That may be lost on the way, in a callback of a library or in a long call of
compiled code; so a thread, which the interpreter wakes whatever the main one does, sees to it that
the process is gone before schedulers kill it the hard way.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

INTERRUPTED = 130
_GRACE_S = 8.0
"""How long a run may take to stop by itself; SLURM and containers often give 10 s."""

_AT_ONCE = "stopped immediately, as requested"
_ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOP = 0


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Make signals interrupt what runs in the context.

    If a signal came, the process has to end afterwards.

    A signal that was ignored before, as `nohup` has it, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    asked = [each for each in _ASKED if signal.getsignal(each) is not signal.SIG_IGN]
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    came: list[int] = []

    def interrupt(signum: int, frame: FrameType | None) -> None:
        came.append(signum)
        if len(came) > 1:
            _end_now(_AT_ONCE)
        raise KeyboardInterrupt

    before = {each: signal.signal(each, interrupt) for each in asked}
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading, frozenset(asked)), daemon=True).start()
    try:
        yield
    finally:
        if came:
            # a fork server that is still loading would notice seconds later that nobody needs it
            _end_children()
        signal.set_wakeup_fd(wakeup)
        for each, handler in before.items():
            signal.signal(each, handler)
        os.write(writing, bytes([_STOP]))
        os.close(writing)


def _watch(reading: int, asked: frozenset[signal.Signals]) -> None:
    """Read signal numbers; end the process at the second, or after the grace period."""
    late: threading.Timer | None = None
    with open(reading, "rb", buffering=0) as stream:
        while (number := stream.read(1)) and number[0] != _STOP:
            if number[0] not in asked:
                continue
            if late is not None:
                _end_now(_AT_ONCE)
            late = threading.Timer(
                _GRACE_S,
                _end_now,
                args=(
                    f"did not stop within {_GRACE_S:g} s of the stop request and was terminated",
                ),
            )
            late.daemon = True
            late.start()


def _end_now(why: str) -> None:
    """End this process and its children at once, leaving locks and unfinished steps."""
    _end_children()
    with contextlib.suppress(OSError):
        os.write(2, f"bids-sr: {why}. Rerun the same command to resume.\n".encode())
    os._exit(INTERRUPTED)


def _end_children() -> None:
    """Kill the child processes of this one, except Python's own cleanup process."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            fields = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if (
                int(fields[1]) == os.getpid()
                and b"resource_tracker" not in entry.with_name("cmdline").read_bytes()
            ):
                os.kill(int(entry.parent.name), signal.SIGKILL)
