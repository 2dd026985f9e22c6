"""Least squares over volumes that come one by one, without their series in memory."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

import numpy as np

from bids_sr.io.arrays import Array, Float

_Volume = TypeVar("_Volume")
_AT_ONCE = 16  # volumes
_STRIP = 8192  # voxels whose sums stay in the processor's cache


def in_batches(volumes: Iterable[_Volume]) -> Iterator[list[_Volume]]:
    """Take several volumes at a time, as sums over them go faster."""
    left = iter(volumes)
    while batch := list(islice(left, _AT_ONCE)):
        yield batch


class StreamedFit:
    """Running sums over volumes: y, y², and y times each column of a basis.

    Here y is the signal less the first volume. Products have the precision of the basis.

    `basis`: (rows, columns), orthonormal.
    """

    def __init__(self, basis: Array, first: Array) -> None:
        self.first = first.ravel()
        self.basis = basis
        self.rows = 0
        n = first.size
        self.total, self.squares = np.zeros(n), np.zeros(n)
        self.products = np.zeros((n, basis.shape[1]), dtype=basis.dtype)

    def add(self, volumes: Array) -> None:
        """The next volumes, (n, voxels)."""
        part = self.basis[self.rows : self.rows + len(volumes)]
        self.rows += len(volumes)
        for start in range(0, self.first.size, _STRIP):
            at = slice(start, start + _STRIP)
            y = volumes[:, at] - self.first[at]
            self.total[at] += y.sum(axis=0)
            self.squares[at] += np.einsum("tn,tn->n", y, y)
            self.products[at] += y.T @ part

    @property
    def mean(self) -> Float:
        """Mean over the volumes, (voxels,)."""
        return self.first + self.total / self.rows

    def residual_variance(self, dof: int, rank: int | None = None) -> Float:
        """Of the residuals, (voxels,), where the first `rank` columns (all) span the model.

        Variance in squared signal units, at least 0.
        """
        fitted = self.products[:, :rank]
        explained = np.einsum("nr,nr->n", fitted, fitted, dtype=np.float64)
        return np.maximum(self.squares - explained, 0) / dof
