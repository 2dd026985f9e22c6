"""Summary of head motion in a run."""

import math
from collections.abc import Sequence

from bids_sr.engine.number_text import number
from bids_sr.evaluation.statements import Statement

MOVED_MM, MOVED_SHARE = 0.5, 0.2
"""Framewise displacement (mm) of a moved volume, and share of moved volumes; motion of a run is
large if its mean displacement or its share of moved volumes is at least this value.
"""


def is_motion_large(displacement: Sequence[float]) -> bool:
    """Return True if the head moved so much that the verdict starts with it.

    Motion is large if the mean framewise displacement is at least 0.5 mm or if at least 20 % of
    the volumes moved. NaN values of `displacement` (mm, per volume) are ignored.
    """
    mean, share = motion_summary(displacement) or (0.0, 0.0)
    return mean >= MOVED_MM or share >= MOVED_SHARE


def describe_motion(displacement: Sequence[float], *, subject: str = "Head motion") -> str:
    """Return the head motion of a run as a sentence without a period; "" if it is unknown.

    >>> describe_motion([float("nan"), 0.1, 0.9, 0.8], subject="Large head motion")
    'Large head motion: mean framewise displacement (FD) 0.60 mm, above 0.5 mm in 67 % of the\
 volumes'

    NaN values of `displacement` (framewise displacement in mm, per volume) are ignored.
    """
    if (motion := motion_summary(displacement)) is None:
        return ""
    mean, share = motion
    return Statement.MOTION.format(
        subject=subject,
        mean=f"{mean:.2f}",
        limit=f"{MOVED_MM:g}",
        share=number(share, ".0%"),
    )


def motion_summary(displacement: Sequence[float]) -> tuple[float, float] | None:
    """Return the mean framewise displacement (mm) and the share of volumes that moved.

    >>> motion_summary([float("nan"), 0.2, 0.8])
    (0.5, 0.5)

    NaN values of `displacement` (framewise displacement in mm, per volume) are ignored. None is
    returned if no value is finite.
    """
    finite = [value for value in displacement if math.isfinite(value)]
    return (
        (sum(finite) / len(finite), sum(value > MOVED_MM for value in finite) / len(finite))
        if finite
        else None
    )
