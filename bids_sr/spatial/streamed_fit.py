"""Least squares over volumes that arrive in batches, without the series in memory."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np

from bids_sr.io.arrays import Array, Float

_VolumeT = TypeVar("_VolumeT")
_VOLUMES_PER_BATCH = 16
_STRIP_VOXELS = 8192  # voxels whose sums stay in the CPU cache


def divide_into_batches(volumes: Iterable[_VolumeT]) -> Iterator[list[_VolumeT]]:
    """Yield lists of successive volumes; sums over several volumes are faster."""
    iterator = iter(volumes)
    while batch := list(islice(iterator, _VOLUMES_PER_BATCH)):
        yield batch


class StreamedFit:
    """Running sums over volumes: y, y², and the products of y with each column of a basis.

    Here y is the signal minus the first volume. Products have the precision of the basis. `basis`
    has orthonormal columns (rows, columns). The first volume may have any shape.
    """

    def __init__(self, basis: Array, first: Array) -> None:
        self.first = first.ravel()
        self.basis = basis
        self.rows = 0
        n_voxels = first.size
        self.total, self.squares = np.zeros(n_voxels), np.zeros(n_voxels)
        self.products = np.zeros((n_voxels, basis.shape[1]), dtype=basis.dtype)

    def add(self, volumes: Array | Sequence[Array]) -> None:
        """Add the next volumes, (n, voxels), or n arrays of voxels."""
        basis_rows = self.basis[self.rows : self.rows + len(volumes)]
        self.rows += len(volumes)
        for start in range(0, self.first.size, _STRIP_VOXELS):
            strip = slice(start, start + _STRIP_VOXELS)
            # One strip of all volumes is copied at a time, because it stays in the CPU cache.
            y = np.stack([volume[strip] for volume in volumes]) - self.first[strip]
            self.total[strip] += y.sum(axis=0)
            self.squares[strip] += np.einsum("tn,tn->n", y, y)
            self.products[strip] += y.T @ basis_rows

    @property
    def mean(self) -> Float:
        """Mean over the volumes, (voxels,)."""
        return self.first + self.total / self.rows

    def residual_variance(self, dof: int, rank: int | None = None) -> Float:
        """Return the variance of residuals from the first `rank` columns, (voxels,).

        `dof` are the degrees of freedom. All columns are used if `rank` is None. The variance is
        at least 0.
        """
        fitted = self.products[:, :rank]
        explained = np.einsum("nr,nr->n", fitted, fitted, dtype=np.float64)
        return np.maximum(self.squares - explained, 0) / dof
