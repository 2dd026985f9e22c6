"""Messages during long work that prints nothing itself."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from bids_sr.cli.messages import print_line

INTERVAL_S = 50.0
"""Seconds between repeated lines: at least one per minute, even if the thread wakes up late."""


@contextlib.contextmanager
def report_running(label: str, interval_s: float = INTERVAL_S) -> Iterator[None]:
    """Report at regular intervals that silent work is still running."""
    start = time.monotonic()
    with heartbeat(
        lambda: print_line(
            f"{label}: still running after {(time.monotonic() - start) / 60:.0f} min"
        ),
        interval_s,
    ):
        yield


@contextlib.contextmanager
def heartbeat(send_beat: Callable[[], None], interval_s: float) -> Iterator[None]:
    """Call `send_beat` at regular intervals, in a separate thread, while the context is active."""
    stop_event = threading.Event()

    def run() -> None:
        while not stop_event.wait(interval_s):
            send_beat()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop_event.set()
        thread.join()
