"""Times within a volume, in seconds after its start.

The reference time of a volume is defined here once, for the design, for slice-timing correction
and for StartTime in sidecars.
"""

from collections.abc import Sequence


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
