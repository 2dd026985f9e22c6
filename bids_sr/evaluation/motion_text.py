"""Head motion of a run, in words, and whether it was large."""

import math
from collections.abc import Sequence

from bids_sr.metrics.number_text import number

MOVED_MM, MOVED_SHARE = 0.5, 0.2
"""Framewise displacement (mm) of a volume that moved, and the share of such volumes that is said
before all else.
"""


def moved(displacement: Sequence[float]) -> tuple[float, float] | None:
    """Return mean displacement (mm) and share of moved volumes among the known; None without.

    >>> moved([float("nan"), 0.2, 0.8])
    (0.5, 0.5)

    `displacement`: framewise displacement of each volume (mm); NaN where not known.
    """
    known = [value for value in displacement if math.isfinite(value)]
    return (
        (sum(known) / len(known), sum(value > MOVED_MM for value in known) / len(known))
        if known
        else None
    )


def moved_much(displacement: Sequence[float]) -> bool:
    """Whether the head moved so much that it is said before all else.

    `displacement`: framewise displacement of each volume (mm); NaN where not known. True from a
    mean of 0.5 mm, or 20 percent of moved volumes.
    """
    mean, share = moved(displacement) or (0.0, 0.0)
    return mean >= MOVED_MM or share >= MOVED_SHARE


def motion_text(displacement: Sequence[float]) -> str:
    """That the head moved much, where it did, from framewise displacements (mm); else empty.

    >>> motion_text([float("nan"), 0.1, 0.9, 0.8])
    'Large head motion: the mean framewise displacement (FD) is 0.60 mm, and FD exceeds 0.5 mm in\
 67 % of the volumes.'
    >>> motion_text([0.1, 0.2])
    ''

    `displacement`: framewise displacement of each volume (mm); NaN where not known.
    """
    if not moved_much(displacement):
        return ""
    mean, share = moved(displacement) or (0.0, 0.0)
    return (
        f"Large head motion: the mean framewise displacement (FD) is {mean:.2f} mm, and FD exceeds"
        f" {MOVED_MM:g} mm in {number(share, '.0%')} of the volumes."
    )
