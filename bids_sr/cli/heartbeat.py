"""Signs of life during long work that prints nothing itself."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

EVERY_S = 50.0
"""Seconds between repeated lines: at least one per minute, even if the thread wakes up late."""


@contextlib.contextmanager
def heartbeat(beat: Callable[[], None], every_s: float) -> Iterator[None]:
    """Call `beat` again and again, from a thread of its own, while the work inside goes on."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(every_s):
            beat()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def still(say: Callable[[str], None], what: str, every_s: float = EVERY_S) -> Iterator[None]:
    """Say once a minute that some work, which says nothing itself, goes on."""
    began = time.monotonic()
    with heartbeat(
        lambda: say(f"{what}: still running after {(time.monotonic() - began) / 60:.0f} min"),
        every_s,
    ):
        yield
