"""Change of t statistics by a perturbation of the series, in units of the noise of t."""

from collections.abc import Iterable

import numpy as np

from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.design import Design, contrast_vector
from bids_sr.glm.streamed_fit import StreamedFit
from bids_sr.io.arrays import Array, Float


def _t(fit: StreamedFit, weights: Float, dof: int) -> Float:
    """t (V,) of weights of the columns of a fit; 0 where a voxel does not vary."""
    error = np.sqrt(fit.residual_variance(dof) * (weights @ weights))
    return np.divide(fit.products @ weights, error, out=np.zeros(len(error)), where=error > 0)


def t_change(
    pairs: Iterable[tuple[Array, Array]],
    design: Design,
    contrasts: Contrasts,
) -> dict[str, float]:
    """Return the RMS change of t over voxels, by contrast.

    1 is the noise of t. One volume of each is in memory.

    For each row of the design, which holds a constant, `pairs` has values (V,) of the one form and
    of the other. ValueError for another number of volumes than rows, DesignError for a contrast
    that cannot be estimated.

    Parameters
    ----------
    pairs : Iterable[tuple[Array, Array]]
        Values of each volume in one form and in the other (V, each).
    design : Design
        Model of the run, dummies left out.
    contrasts : Contrasts
        Weights of conditions (at rest: seeds) by contrast.

    Returns
    -------
    dict[str, float]
        Root mean square of the change, in units of t, by contrast.

    Raises
    ------
    ValueError
        The volumes differ in number from the rows of the design.
    """
    left, sizes, right = np.linalg.svd(design.matrix, full_matrices=False)
    basis = left[:, : design.rank]
    back = right[: design.rank].T / sizes[: design.rank]
    fits: list[StreamedFit] = []
    rows = 0
    for pair in pairs:
        if not fits:
            fits = [StreamedFit(basis, pair[0].astype(np.float64)) for _ in pair]
        if rows < len(design.matrix):
            for fit, signal in zip(fits, pair, strict=True):
                fit.add(signal[None])
        rows += 1
    if rows != len(design.matrix) or not fits:
        raise ValueError(
            f"the number of volumes ({rows}) differs from the number of rows in the design "
            f"matrix ({len(design.matrix)})"
        )
    changes = {}
    for name, weights in contrasts.items():
        vector = contrast_vector(design, name, weights) @ back
        one, other = (_t(fit, vector, design.dof) for fit in fits)
        changes[name] = float(np.sqrt(np.mean((other - one) ** 2)))
    return changes
