"""Summary of head motion in a run, and a sentence if the motion was large."""

import math
from collections.abc import Sequence

from bids_sr.metrics.number_text import number

MOVED_MM, MOVED_SHARE = 0.5, 0.2
"""Framewise displacement (mm) of a moved volume, and share of moved volumes; motion of a run is
large if its mean displacement or its share of moved volumes is at least this value.
"""


def motion_summary(displacement: Sequence[float]) -> tuple[float, float] | None:
    """Return the mean framewise displacement (mm) and the share of volumes that moved.

    >>> motion_summary([float("nan"), 0.2, 0.8])
    (0.5, 0.5)

    Parameters
    ----------
    displacement : Sequence[float]
        Framewise displacement of each volume (mm); NaN values are ignored.

    Returns
    -------
    tuple[float, float] | None
        Mean and share; None if no value is finite.
    """
    finite = [value for value in displacement if math.isfinite(value)]
    return (
        (sum(finite) / len(finite), sum(value > MOVED_MM for value in finite) / len(finite))
        if finite
        else None
    )


def is_motion_large(displacement: Sequence[float]) -> bool:
    """Return True if the head moved so much that the verdict starts with it.

    Motion is large if the mean framewise displacement is at least 0.5 mm or if at least 20 % of
    the volumes moved. NaN values of `displacement` (mm, per volume) are ignored.
    """
    mean, share = motion_summary(displacement) or (0.0, 0.0)
    return mean >= MOVED_MM or share >= MOVED_SHARE


def motion_text(displacement: Sequence[float]) -> str:
    """Return a sentence on large head motion, or "" if motion was not large.

    >>> motion_text([float("nan"), 0.1, 0.9, 0.8])
    'Large head motion: the mean framewise displacement (FD) is 0.60 mm, and FD exceeds 0.5 mm in\
 67 % of the volumes.'
    >>> motion_text([0.1, 0.2])
    ''

    NaN values of `displacement` (framewise displacement in mm, per volume) are ignored.
    """
    if not is_motion_large(displacement):
        return ""
    mean, share = motion_summary(displacement) or (0.0, 0.0)
    return (
        f"Large head motion: the mean framewise displacement (FD) is {mean:.2f} mm, and FD exceeds"
        f" {MOVED_MM:g} mm in {number(share, '.0%')} of the volumes."
    )
