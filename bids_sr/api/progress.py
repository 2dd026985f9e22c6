"""Output of `verbose`."""

import sys
import time
from collections.abc import Callable


def notes(what: str, verbose: int) -> Callable[[str], object]:
    """What prints the next piece of work, with the seconds so far, where `verbose` asks for it.

    `what`: name of the estimator and its method, in brackets before each line.
    """
    if not verbose:
        return str
    began = time.monotonic()

    def say(text: str) -> None:
        sys.stdout.write(f"[{what}] {time.monotonic() - began:.0f} s: {text}\n")
        sys.stdout.flush()

    return say
