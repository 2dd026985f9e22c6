"""Times within a volume, in seconds after its start, and times that count as equal.

The reference time of a volume is defined here once, for the design, for slice-timing correction
and for StartTime in sidecars. Scanners and converters round times, so that one time may have
several values in headers and sidecars.
"""

from collections.abc import Sequence
from itertools import pairwise

# s; headers contain float32 values, and some scanners round to milliseconds
_TR_TOLERANCE_S = 1e-3
_ROUNDING_S = 5e-3  # s; some scanners store times in steps of 2.5 ms
_ROUNDING_SHARE = 0.25  # of the smallest interval
_MIN_INTERVAL_S = 1e-3  # s; the acquisition of a slice takes longer
TIME_DIGITS = 6
"""Decimals (s) of differences between times that exceed the rounding of floating-point numbers."""


def is_same_tr(tr: float, other_tr: float) -> bool:
    """Return whether two repetition times (s) differ by at most 1 ms."""
    return round(abs(tr - other_tr), TIME_DIGITS) <= _TR_TOLERANCE_S


def acquisition_time_tolerance(times: Sequence[float]) -> float:
    """Return the largest difference (s) between acquisition times that count as equal.

    This is 5 ms or a quarter of the smallest interval between successive acquisitions, whichever
    is smaller. `times` are the acquisition times of slices or volumes (s), in any order.

    >>> acquisition_time_tolerance([0.0, 0.5, 0.25])
    0.005
    >>> acquisition_time_tolerance([0.0, 0.012, 0.012])
    0.003
    >>> acquisition_time_tolerance([0.0, 0.01, 0.02, 0.03])
    0.0025
    """
    intervals = (later - earlier for earlier, later in pairwise(sorted(times)))
    shortest = min((gap for gap in intervals if gap > _MIN_INTERVAL_S), default=float("inf"))
    return round(min(_ROUNDING_S, _ROUNDING_SHARE * shortest), TIME_DIGITS)


def reference_time(slice_times: Sequence[float], fraction: float) -> float:
    """Return a time (s after the start of a volume) within the range of its slice times.

    `slice_times` are the acquisition times of the slices (s after the start of a volume).
    `fraction` is a position in their range: 0 is the first slice, 0.5 the middle, 1 the last
    slice.

    >>> reference_time([0.0, 1.0, 0.5, 1.5], 0.5)
    0.75
    """
    return min(slice_times) + fraction * (max(slice_times) - min(slice_times))


def middle_of_acquisition(tr: float, delay: float = 0.0) -> float:
    """Return the middle of the acquisition of a volume (s after its start).

    `tr` is the repetition time (s), and `delay` a silent gap at its end (s; BIDS DelayTime).

    >>> middle_of_acquisition(10.0, delay=8.0)
    1.0
    """
    return (tr - delay) / 2
