"""Voxels that the participants of a group map have in common, and who is left out for them.

A voxel of a group map needs all its participants, so that one slab could remove most of the brain.
The participant whose absence gains most common voxels is left out, one at a time, while the gain
is above a fifth of the voxels that the others have in common.
"""

from collections.abc import Mapping

import numpy as np

from bids_sr.group.map_plan import LEAST_PARTICIPANTS
from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen

_LARGEST_GAIN = 0.2  # share of the voxels that the others have in common


@frozen
class CoverageExclusion:
    """Participant who is left out of a group map because of the voxels of the others.

    `n_common` is the number of voxels that all participants have in common, and `gain` the number
    of voxels that only this `participant` (``sub-…``) lacks.
    """

    participant: str
    n_others: int
    n_common: int
    gain: int

    @property
    def reason(self) -> str:
        """Reason for the exclusion, with the numbers of voxels."""
        return (
            f"too few voxels have values. Without the participant, the other {self.n_others}"
            f" participants have {self.n_common + self.gain:,} voxels in common; with the"
            f" participant, {self.n_common:,} voxels ({self.gain:,} are gained)"
        )


def leave_out_by_coverage(covered: Mapping[str, Array]) -> list[CoverageExclusion]:
    """Return the participants who are left out, in this order.

    At least three participants remain. Of several participants with the same gain, the first by
    label is left out. `covered` has the voxels (N,) of each participant by label.
    """
    remaining = sorted(covered)
    exclusions: list[CoverageExclusion] = []
    if len(remaining) <= LEAST_PARTICIPANTS:
        return exclusions
    missing = ~np.stack([covered[label] for label in remaining])
    while len(remaining) > LEAST_PARTICIPANTS:
        n_missing = missing.sum(axis=0)
        gains = (missing & (n_missing == 1)).sum(axis=1)
        number = int(np.argmax(gains))
        gain, n_common = int(gains[number]), int((n_missing == 0).sum())
        if gain <= _LARGEST_GAIN * (n_common + gain):
            break
        missing = np.delete(missing, number, axis=0)
        exclusions.append(
            CoverageExclusion(
                participant=remaining.pop(number),
                n_others=len(remaining),
                n_common=n_common,
                gain=gain,
            )
        )
    return exclusions
