"""Fewer searches for cyclic garbage while a call is planned, and at the group level."""

import contextlib
import gc
from collections.abc import Iterator

_N_OBJECTS = 100_000  # new objects between two searches; the default of Python is 700


@contextlib.contextmanager
def collect_rarely() -> Iterator[None]:
    """Search for cyclic garbage only after many new objects while the context is active.

    Imports, the graph of a call and the tables of a group create 100,000 objects and more that
    remain. The default searches all of them again and again, which takes a tenth of the time of a
    dry run. Do not use it around steps, whose cyclic garbage may contain large arrays.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(_N_OBJECTS, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
