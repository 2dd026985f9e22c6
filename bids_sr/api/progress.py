"""Progress output of `verbose`."""

import sys
import time
from collections.abc import Callable


def make_step_printer(label: str, verbose: int) -> Callable[[str], object]:
    """Return a function that prints the current step with the elapsed time, if verbose.

    `label` is the name of the estimator and its method, which precedes each line in brackets.
    """
    if not verbose:
        return str
    start_time = time.monotonic()

    def print_line(text: str) -> None:
        sys.stdout.write(f"[{label}] {time.monotonic() - start_time:.0f} s: {text}\n")
        sys.stdout.flush()

    return print_line
