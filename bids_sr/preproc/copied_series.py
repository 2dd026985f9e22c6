"""Find copies of a series by noise and head motion, which no two measured series share.

Signals that runs have in common, such as responses to the same events, are slow and disappear in
second differences in time. Noise remains the same in a copy that was rescaled, slightly moved or
smoothed. The first or last volumes of a copy may be missing.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.confound_names import MOTION_PARAMETERS
from bids_sr.io.orientation import storage_order

MIN_COPY_CORRELATION = 0.5
"""Smallest correlation of a copy. Runs of a participant have at most .3, and smoothed copies .56.
"""
_MAX_LAG = 5  # volumes
_FIRST_VOLUME, _N_VOLUMES = 5, 60  # compared volumes; the first volumes are not steady
_MIN_CHANGES = 30  # of head motion; fewer can be similar by chance
_N_MOTION_VOLUMES = 80  # of head motion, with zeros for lags at both ends
_N_VOXELS = 8000  # approximate number of sampled voxels, background included
_MIN_VOLUMES, _MIN_VOXELS = 15, 50
_CLIP = 4.5  # times the median change; single movements do not decide


class SeriesSample:
    """Voxels on a coarse grid in some volumes of a series, collected volume by volume.

    `shape` is the stored matrix, and `affine` the voxel-to-world matrix (4 x 4, RAS+ mm). Samples
    do not depend on the storage order.
    """

    def __init__(self, shape: Sequence[int], affine: Array) -> None:
        self._order = storage_order(affine, np.eye(4))
        self._shape = (shape[0], shape[1], shape[2])
        self._step = max(1, round((np.prod(self._shape) / _N_VOXELS) ** (1 / 3)))
        self.grid = self._order.turn_shape(self._shape)
        self._volumes: list[Array] = []
        self._n_volumes = 0

    def add(self, volume: np.ndarray) -> None:
        """Add the stored values of the next volume, in the order of the file."""
        if _FIRST_VOLUME <= self._n_volumes < _FIRST_VOLUME + _N_VOLUMES:
            turned = self._order.turn(volume.reshape(self._shape, order="F"))
            step = self._step
            self._volumes.append(turned[::step, ::step, ::step].astype(np.float32).ravel())
        self._n_volumes += 1

    @property
    def values(self) -> Array:
        """Sampled voxels by volume (T, N)."""
        return np.array(self._volumes)


def correlate_series(first: SeriesSample, second: SeriesSample) -> float:
    """Return the correlation of second differences over voxels of the head.

    It is the median over volumes at the best lag; NaN if the series have different grids or too
    few volumes or voxels. Differences that alternate from volume to volume, such as label and
    control, are not noise and are subtracted.
    """
    if first.grid != second.grid or min(len(first.values), len(second.values)) < _MIN_VOLUMES:
        return np.nan
    inside = _find_head(first.values) & _find_head(second.values)
    if np.count_nonzero(inside) < _MIN_VOXELS:
        return np.nan
    changes = [_measure_changes(sample.values[:, inside]) for sample in (first, second)]
    n_common = min(map(len, changes))
    correlations = []
    for lag in range(-_MAX_LAG, _MAX_LAG + 1):
        earlier, later = (
            change[max(shift, 0) : n_common + min(shift, 0)]
            for change, shift in zip(changes, (lag, -lag), strict=True)
        )
        correlations.append(float(np.median((earlier * later).sum(axis=1))))
    return max(correlations)


def _find_head(values: Array) -> Array:
    """Return which voxels (N) are brighter than the average, given values by volume (T, N)."""
    mean = values.mean(axis=0)
    return mean > mean[np.isfinite(mean)].mean()  # False for NaN


def _measure_changes(values: Array) -> Array:
    """Return second differences in time (T - 2, N), with mean 0 and norm 1 in each volume."""
    changes = np.diff(values, n=2, axis=0)
    for start in (0, 1):
        changes[start::2] -= changes[start::2].mean(axis=0)
    return _normalize(changes - changes.mean(axis=1, keepdims=True))


def find_equal_motion(runs: Sequence[Array]) -> Iterator[tuple[int, int, float]]:
    """Yield the indices of each pair of runs with the same head motion, and its correlation.

    The correlation is over changes of all parameters at the best lag. `runs` are motion parameters
    by volume (T, 6); short runs are not compared.
    """
    padded = np.zeros((len(runs), len(MOTION_PARAMETERS), _N_MOTION_VOLUMES), np.float32)
    for index, parameters in enumerate(runs):
        changes = np.nan_to_num(np.diff(parameters[_FIRST_VOLUME:], n=2, axis=0)).T
        changes = changes[:, : _N_MOTION_VOLUMES - 2 * _MAX_LAG]
        if changes.shape[1] < _MIN_CHANGES:
            continue
        limit = _CLIP * np.median(np.abs(changes), axis=1, keepdims=True)
        clipped = _normalize(np.clip(changes, -limit, limit))
        padded[index, :, _MAX_LAG : _MAX_LAG + changes.shape[1]] = clipped
    flat = _normalize(padded.reshape(len(runs), len(MOTION_PARAMETERS) * _N_MOTION_VOLUMES))
    for index, row in enumerate(padded):
        shifted = [np.roll(row, lag, axis=1).ravel() for lag in range(-_MAX_LAG, _MAX_LAG + 1)]
        correlations = (flat[index + 1 :] @ _normalize(np.array(shifted)).T).max(axis=1)
        for other in np.flatnonzero(correlations > MIN_COPY_CORRELATION):
            yield index, index + 1 + int(other), float(correlations[other])


def _normalize(values: Array) -> Array:
    """Return values with norm 1 along the last axis, where they are not all 0."""
    norms = np.linalg.norm(values, axis=-1, keepdims=True)
    return values / np.where(norms > 0, norms, 1)
