"""Voxels that the participants of a group map have in common, and who is left out for them.

A voxel of a group map needs all its participants, so that one slab could remove most of the brain.
The participant whose absence gains most common voxels is left out, one at a time, while the gain
is above a fifth of the voxels that the others have in common.
"""

from collections.abc import Mapping

import numpy as np

from bids_sr.group.map_plan import LEAST_PARTICIPANTS
from bids_sr.io.arrays import Array

_LARGEST_GAIN = 0.2  # share of the voxels that the others have in common


def leave_out_by_coverage(covered: Mapping[str, Array]) -> dict[str, str]:
    """Return the participants who are left out, in this order, with the reason.

    At least three participants remain. Of several participants with the same gain, the first by
    label is left out. `covered` has the voxels (N,) of each participant (``sub-…``).
    """
    remaining = sorted(covered)
    missing = ~np.array([covered[label] for label in remaining], dtype=bool)
    reasons: dict[str, str] = {}
    while len(remaining) > LEAST_PARTICIPANTS:
        n_missing = missing.sum(axis=0)
        gains = (missing & (n_missing == 1)).sum(axis=1)
        number = int(np.argmax(gains))
        gain, n_common = int(gains[number]), int((n_missing == 0).sum())
        if gain <= _LARGEST_GAIN * (n_common + gain):
            break
        missing = np.delete(missing, number, axis=0)
        label = remaining.pop(number)
        reasons[label] = (
            f"too few voxels have values. Without the participant, the other {len(remaining)}"
            f" participants have {n_common + gain:,} voxels in common; with the participant,"
            f" {n_common:,} voxels ({gain:,} are gained)"
        )
    return reasons
