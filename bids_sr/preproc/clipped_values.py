"""Voxels whose signal was clipped at the largest value that could be stored."""

import math

import numpy as np

from bids_sr.io.arrays import Array, MaskArray

_MIN_VOLUMES_SHARE = 0.05  # a clipped voxel has the largest value in this share of the volumes
# Clipped values form a spike: there are many more of them than of each value just below. The band
# below is at least this share of the largest value, and this number of steps between values.
_BAND_SHARE, _MIN_BAND_STEPS = 0.02, 3.0
_MIN_SPIKE_RATIO, _MIN_EXCESS = 2.0, 10.0  # ratio to the expected count, and difference from it
_MIN_VOXELS = 3  # a single brightest voxel may have one value throughout a run


class ClippedVoxelSearch:
    """Search for clipped voxels while the volumes of a run are read in order.

    Values may be scaled by a positive factor, which does not change the result.
    """

    def __init__(self) -> None:
        self._largest = -math.inf
        self._step = math.inf  # smallest difference between the largest and another value
        self._counts: Array | None = None
        self._n_volumes = 0
        self._n_expected = 0.0

    def add(self, volume: Array) -> None:
        """Add the next volume (any shape, the same for all volumes)."""
        self._n_volumes += 1
        largest = float(volume.max())
        if not largest >= self._largest:
            return
        if self._counts is None or largest > self._largest:
            self._largest, self._step, self._n_expected = largest, math.inf, 0.0
            self._counts = np.zeros(volume.shape, dtype=np.uint32)
        is_largest = volume == largest
        self._counts += is_largest
        others = volume[~is_largest]
        if others.size:
            self._step = min(self._step, largest - float(others.max()))
            band = max(_BAND_SHARE * abs(largest), _MIN_BAND_STEPS * self._step)
            n_below = int(np.count_nonzero(others >= largest - band))
            self._n_expected += n_below * self._step / band

    def find(self) -> tuple[float, MaskArray] | None:
        """Return the largest value and the voxels that were clipped at it; None if none were.

        The voxels have the shape of a volume, and have the largest value in at least 5 % of the
        volumes.
        """
        if self._counts is None:
            return None
        is_clipped = self._counts >= max(1, _MIN_VOLUMES_SHARE * self._n_volumes)
        n_largest = int(self._counts.sum())
        if (
            n_largest <= _MIN_SPIKE_RATIO * self._n_expected + _MIN_EXCESS
            or np.count_nonzero(is_clipped) < _MIN_VOXELS
        ):
            return None
        return self._largest, is_clipped
