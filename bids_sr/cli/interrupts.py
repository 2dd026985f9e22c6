"""Signals that stop a run: the first requests it, the second or a timeout forces it.

SIGINT, SIGTERM (schedulers, containers) and SIGHUP (a closed terminal) become `KeyboardInterrupt`.
This exception may be lost in a callback of a library or in a long call of compiled code. A thread,
which the interpreter also runs in these cases, therefore ends the process before schedulers kill
it.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

INTERRUPTED = 130
# Seconds that a run has to stop by itself; SLURM and containers often allow 10 s.
_GRACE_S = 8.0

_IMMEDIATE_END = "stopped immediately, as requested"
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOP_BYTE = 0


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Make signals interrupt the code in the context.

    After a signal, the process must end. Signals that were ignored before, as with `nohup`, remain
    ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    handled_signals = [
        signum for signum in _STOP_SIGNALS if signal.getsignal(signum) is not signal.SIG_IGN
    ]
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    received_signals: list[int] = []

    def interrupt(signum: int, _frame: FrameType | None) -> None:
        received_signals.append(signum)
        if len(received_signals) > 1:
            _end_now(_IMMEDIATE_END)
        raise KeyboardInterrupt

    previous = {signum: signal.signal(signum, interrupt) for signum in handled_signals}
    wakeup = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    threading.Thread(
        target=_watch, args=(read_end, frozenset(handled_signals)), daemon=True
    ).start()
    try:
        yield
    finally:
        if received_signals:
            # a fork server that is still loading would otherwise continue for seconds
            _end_children()
        signal.set_wakeup_fd(wakeup)
        for signum, handler in previous.items():
            signal.signal(signum, handler)
        os.write(write_end, bytes([_STOP_BYTE]))
        os.close(write_end)


def _watch(read_end: int, handled_signals: frozenset[signal.Signals]) -> None:
    """Read signal numbers; end the process at the second signal, or after the grace period."""
    timer: threading.Timer | None = None
    with open(read_end, "rb", buffering=0) as stream:
        while (number := stream.read(1)) and number[0] != _STOP_BYTE:
            if number[0] not in handled_signals:
                continue
            if timer is not None:
                _end_now(_IMMEDIATE_END)
            timer = threading.Timer(
                _GRACE_S,
                _end_now,
                args=(
                    f"did not stop within {_GRACE_S:g} s of the stop request and was terminated",
                ),
            )
            timer.daemon = True
            timer.start()


def _end_now(reason: str) -> None:
    """End this process and its children at once, leaving locks and unfinished steps."""
    _end_children()
    with contextlib.suppress(OSError):
        os.write(2, f"bids-sr: {reason}. Rerun the same command to resume.\n".encode())
    os._exit(INTERRUPTED)


def _end_children() -> None:
    """Kill the child processes of this process, except Python's resource tracker."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            fields = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if (
                int(fields[1]) == os.getpid()
                and b"resource_tracker" not in entry.with_name("cmdline").read_bytes()
            ):
                os.kill(int(entry.parent.name), signal.SIGKILL)
