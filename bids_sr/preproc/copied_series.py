"""Find copies of a series by thermal noise, which no two measured series share.

People who do the same task also share breathing and movements on cue, and echoes of a run share
all of them. These changes have few spatial patterns. Second differences in time without their
largest components are therefore noise, which remains in a copy that was rescaled, slightly moved
or smoothed. The first or last volumes of a copy may be missing. Copies on another grid, and copies
that were denoised, are not found.
"""

import base64
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bids_sr.io.arrays import Array, Float32
from bids_sr.io.frozen import frozen
from bids_sr.io.json_values import as_list
from bids_sr.io.orientation import storage_order

COPY_CORRELATION = 0.3
"""Smallest correlation of the noise of a copy.

Simulated people and real runs are far below (`benchmarks/results/copied_series.md`).
"""
_MAX_LAG = 5  # volumes
_FIRST_VOLUME, _N_VOLUMES = 5, 60  # compared volumes; the first volumes are not steady
_N_DIFFERENCES = _N_VOLUMES - 2
_N_POINTS = 1200  # approximate number of points on the grid of a record, background included
_N_COMPONENTS = 10  # removed from second differences, at most a quarter of them
_MIN_VALUES = 2000  # volumes times points of a comparison; fewer can be similar by chance
_MIN_EQUAL_VOLUMES = 5
_LEVELS = 32  # integer levels per standard deviation of the noise


@frozen
class NoiseRecord:
    """Noise of a series on a coarse grid, to compare series without their files.

    `shape` is the matrix of the series with axes in the order closest to RAS. `noise` are second
    differences in time without their largest components (volumes, points), 0 outside the head.
    `checksums` are the checksums of all volumes.
    """

    shape: tuple[int, ...]
    noise: np.ndarray
    checksums: frozenset[int]

    @classmethod
    def from_json(cls, content: Mapping[str, object]) -> "NoiseRecord":
        """Return the record of a file; raises `KeyError` or `ValueError` if it is damaged."""
        values = np.frombuffer(base64.b64decode(str(content["Noise"])), np.int8)
        points = np.frombuffer(base64.b64decode(str(content["Points"])), "<u2")
        shape = tuple(int(str(size)) for size in as_list(content["Matrix"]))
        noise = np.zeros((_N_DIFFERENCES, _count_points(shape)), np.int8)
        noise[:, points] = values.reshape(_N_DIFFERENCES, len(points))
        checksums = frozenset(int(str(value)) for value in as_list(content["VolumeChecksums"]))
        return cls(shape=shape, noise=noise, checksums=checksums)

    def to_json(self) -> dict[str, object]:
        """Return the content of a file: points of the head, and their noise in 8 bits."""
        points = np.flatnonzero(self.noise.any(axis=0)).astype("<u2")
        return {
            "Description": "Thermal noise at points of a coarse grid, to find copies",
            "Matrix": list(self.shape),
            "Points": base64.b64encode(points.tobytes()).decode(),
            "Noise": base64.b64encode(self.noise[:, points].tobytes()).decode(),
            "VolumeChecksums": sorted(self.checksums),
        }


class SeriesSample:
    """Voxels on a coarse grid in some volumes of a series, collected volume by volume.

    `shape` is the stored matrix, and `affine` the voxel-to-world matrix (4 x 4, RAS+ mm). Samples
    do not depend on the storage order. `checksums` are the checksums of the volumes so far.
    """

    def __init__(self, shape: Sequence[int], affine: Array) -> None:
        self._order = storage_order(affine, np.eye(4))
        self._stored_shape = (shape[0], shape[1], shape[2])
        self._shape = self._order.turn_shape(self._stored_shape)
        self._volumes: list[Array] = []
        self._n_volumes = 0
        self.checksums: set[int] = set()

    def add(self, volume: np.ndarray) -> None:
        """Add the stored values of the next volume, in the order of the file."""
        self.checksums.add(zlib.crc32(volume.data))
        if _FIRST_VOLUME <= self._n_volumes < _FIRST_VOLUME + _N_VOLUMES:
            turned = self._order.turn(volume.reshape(self._stored_shape, order="F"))
            step = _find_step(self._shape)
            self._volumes.append(turned[::step, ::step, ::step].astype(np.float32).ravel())
        self._n_volumes += 1

    def record_noise(self) -> NoiseRecord:
        """Return the noise of the collected volumes."""
        noise = np.zeros((_N_DIFFERENCES, _count_points(self._shape)), np.int8)
        if len(self._volumes) > 2:
            values = np.array(self._volumes)
            mean = np.nan_to_num(values.mean(axis=0), nan=0, posinf=0, neginf=0)
            head = mean >= mean.mean()
            changes = _separate_noise(np.diff(values[:, head], n=2, axis=0))
            noise[: len(changes), head] = np.clip(np.rint(_LEVELS * changes), -127, 127)
        return NoiseRecord(shape=self._shape, noise=noise, checksums=frozenset(self.checksums))


def find_copies(records: Sequence[NoiseRecord]) -> Iterator[tuple[int, int, float]]:
    """Yield the indices of each pair of series with the same noise, and its correlation.

    The correlation is over the points of both heads at the best lag. It is 1 for series that share
    at least half of their volumes.
    """
    by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        by_shape[record.shape].append(index)
    for indices in by_shape.values():
        correlations = correlate_noise([records[index] for index in indices])
        for row, first in enumerate(indices):
            for column, second in enumerate(indices[row + 1 :], row + 1):
                checksums = records[first].checksums, records[second].checksums
                n_shared = len(checksums[0] & checksums[1])
                if n_shared >= max(_MIN_EQUAL_VOLUMES, min(map(len, checksums)) / 2):
                    yield first, second, 1.0
                elif correlations[row, column] > COPY_CORRELATION:
                    yield first, second, float(correlations[row, column])


def correlate_noise(records: Sequence[NoiseRecord]) -> Array:
    """Return the correlations of the noise of series with one matrix (R, R), at the best lag.

    Series with too few volumes or points in common have 0.
    """
    noise = np.array([record.noise for record in records], np.float32)
    energies = np.square(noise).sum(axis=1)
    heads = (energies > 0).astype(np.float32)
    n_volumes = noise.any(axis=2).sum(axis=1)
    n_values = np.minimum.outer(n_volumes, n_volumes) * (heads @ heads.T)
    common_energies = energies @ heads.T  # of a series in the head of another
    largest = np.zeros((len(records), len(records)))
    for lag in range(_MAX_LAG + 1):
        later = noise[:, lag:].reshape(len(records), -1)
        products = later @ noise[:, : _N_DIFFERENCES - lag].reshape(len(records), -1).T
        largest = np.maximum(largest, np.maximum(products, products.T))
    scales = np.sqrt(common_energies * common_energies.T)
    return np.where(n_values >= _MIN_VALUES, largest / np.where(scales > 0, scales, 1), 0)


def _separate_noise(changes: Float32) -> Float32:
    """Return changes over time (T, N) without their largest components, with an SD of 1.

    Each voxel has the same weight, and so has each volume, so that single movements do not decide.
    """
    centered = changes - changes.mean(axis=1, keepdims=True)
    left, sizes, right = np.linalg.svd(_scale(centered, axis=0), full_matrices=False)
    n_removed = min(_N_COMPONENTS, len(sizes) // 4)
    noise = (left[:, n_removed:] * sizes[n_removed:]) @ right[n_removed:]
    return np.asarray(_scale(noise, axis=1), np.float32)


def _scale(values: Array, axis: int) -> Array:
    """Divide values by their root mean square along an axis, where it is not 0."""
    sizes = np.sqrt(np.square(values).mean(axis=axis, keepdims=True))
    return values / np.where(sizes > 0, sizes, 1)


def _find_step(shape: Sequence[int]) -> int:
    """Return the distance in voxels of the points on the grid of a record."""
    return max(1, round(float(np.prod(shape) / _N_POINTS) ** (1 / 3)))


def _count_points(shape: Sequence[int]) -> int:
    """Return the number of points on the grid of a record."""
    step = _find_step(shape)
    return int(np.prod([-(-size // step) for size in shape]))
