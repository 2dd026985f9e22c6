"""Voxels that the participants of a group map have in common, and who is left out for them.

A voxel of a group map needs all its participants, so that one slab could remove most of the brain.
The participant whose absence gains most common voxels is left out, one at a time, while the gain
is above a fifth of the voxels that the others have in common.
"""

from collections.abc import Collection, Mapping

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


def may_leave_out(gains: Collection[int], n_common: int) -> bool:
    """Return whether a participant may have to be left out.

    `gains` are upper limits, one per participant, of the number of voxels that are gained without
    the participant. `n_common` is the number of voxels that all participants have in common.
    """
    return len(gains) > LEAST_PARTICIPANTS and _is_too_large(max(gains), n_common)


def leave_out_by_coverage(covered: Mapping[str, Array]) -> list[CoverageExclusion]:
    """Return the participants who are left out, in this order.

    At least three participants remain. Of several participants with the same gain, the first by
    label is left out. `covered` has the voxels of each participant by label, as bits
    (`numpy.packbits`).
    """
    labels = sorted(covered)
    if not labels:
        return []
    n_missing = np.zeros(8 * covered[labels[0]].size, dtype=np.int32)
    sum_of_numbers = np.zeros(n_missing.size, dtype=np.int64)

    def add(number: int, sign: int) -> None:
        missing = np.unpackbits(~covered[labels[number]]).astype(bool)
        n_missing[missing] += sign
        sum_of_numbers[missing] += sign * number

    for number in range(len(labels)):
        add(number, 1)
    remaining = set(range(len(labels)))
    # padding bits are missing in all participants
    exclusions = []
    while len(remaining) > LEAST_PARTICIPANTS:
        # where one participant lacks a voxel, the sum of numbers is the number of the participant
        gains = np.bincount(sum_of_numbers[n_missing == 1], minlength=len(labels))
        number = int(np.argmax(gains))
        gain, n_common = int(gains[number]), int((n_missing == 0).sum())
        if not _is_too_large(gain, n_common):
            break
        remaining.remove(number)
        add(number, -1)
        exclusions.append(
            CoverageExclusion(
                participant=labels[number],
                n_others=len(remaining),
                n_common=n_common,
                gain=gain,
            )
        )
    return exclusions


def _is_too_large(gain: int, n_common: int) -> bool:
    """Return whether a gain (voxels) is above the limit."""
    return gain > _LARGEST_GAIN * (n_common + gain)
