"""Change of t statistics by a perturbation of the series, in units of the noise of t."""

from collections.abc import Iterable, Mapping

import numpy as np

from bids_sr.io.array_types import Array, Float
from bids_sr.stats.glm.design import Design, contrast_vector


class _Fit:
    """Ordinary least squares of time series that come volume by volume."""

    def __init__(self, design: Float, first: Array) -> None:
        left, sizes, right = np.linalg.svd(design, full_matrices=False)
        rank = int((sizes > 1e-10 * sizes[0]).sum())
        self.basis, self.back = left[:, :rank], right[:rank].T / sizes[:rank]
        self.dof = len(design) - rank
        self.first = first.astype(np.float64)
        self.squares, self.products = np.zeros(len(first)), np.zeros((rank, len(first)))
        self.rows = 0

    def add(self, signal: Array) -> None:
        """The next volume, (V,)."""
        y = signal - self.first
        self.squares += y * y
        self.products += self.basis[self.rows][:, None] * y
        self.rows += 1

    def t(self, contrast: Float) -> Float:
        """t of a contrast (P,), (V,); 0 where a voxel does not vary."""
        weights = contrast @ self.back
        residual = np.maximum(self.squares - (self.products**2).sum(0), 0) / self.dof
        error = np.sqrt(residual * (weights @ weights))
        return np.divide(weights @ self.products, error, out=np.zeros(len(error)), where=error > 0)


def t_change(
    pairs: Iterable[tuple[Array, Array]],
    design: Design,
    contrasts: Mapping[str, Mapping[str, float]],
) -> dict[str, float]:
    """Return the RMS change of t over voxels, by contrast.

    1 is the noise of t. One volume of each is in memory.

    For each row of the design, which holds a constant, `pairs` has values (V,) of the one form and
    of the other. ValueError for another number of volumes than rows, DesignError for a contrast
    that cannot be estimated.
    """
    fits: list[_Fit] = []
    rows = 0
    for pair in pairs:
        if not fits:
            fits = [_Fit(design.matrix, pair[0]), _Fit(design.matrix, pair[0])]
        if rows < len(design.matrix):
            for fit, signal in zip(fits, pair, strict=True):
                fit.add(signal)
        rows += 1
    if rows != len(design.matrix) or not fits:
        raise ValueError(f"{rows} volumes and a design of {len(design.matrix)} rows")
    changes = {}
    for name, weights in contrasts.items():
        vector = contrast_vector(design, name, weights)
        one, other = (fit.t(vector) for fit in fits)
        changes[name] = float(np.sqrt(np.mean((other - one) ** 2)))
    return changes
