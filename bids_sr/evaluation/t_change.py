"""Change of t statistics caused by a perturbation of the series, relative to the noise of t."""

from collections.abc import Iterable

import numpy as np

from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.design import Design, contrast_vector
from bids_sr.glm.streamed_fit import StreamedFit
from bids_sr.io.arrays import Array, Float


def _compute_t(fit: StreamedFit, weights: Float, dof: int) -> Float:
    """Return t (V,) of a contrast; 0 in voxels without residual variance."""
    error = np.sqrt(fit.residual_variance(dof) * (weights @ weights))
    return np.divide(fit.products @ weights, error, out=np.zeros(len(error)), where=error > 0)


def t_change(
    pairs: Iterable[tuple[Array, Array]],
    design: Design,
    contrasts: Contrasts,
) -> dict[str, float]:
    """Return the root-mean-square change of t over voxels, by contrast.

    A change of 1 is as large as the noise of t. Only one volume of each series is in memory.

    Parameters
    ----------
    pairs : Iterable[tuple[Array, Array]]
        Values (V,) of one volume in the first and in the second series, for each row of the
        design.
    design : Design
        Model of the run without dummy volumes; it contains a constant.
    contrasts : Contrasts
        Weights of conditions (at rest: seeds) by contrast.

    Returns
    -------
    dict[str, float]
        Root mean square of the change, in units of t, by contrast.

    Raises
    ------
    ValueError
        If the number of volumes differs from the number of rows of the design.
    DesignError
        If a contrast is not estimable.
    """
    left_vectors, singular_values, right_vectors = np.linalg.svd(
        design.matrix, full_matrices=False
    )
    basis = left_vectors[:, : design.rank]
    # maps coefficients of the basis to coefficients of the columns of the design
    to_columns = right_vectors[: design.rank].T / singular_values[: design.rank]
    fits = _fit_pairs(pairs, basis)
    changes = {}
    for name, weights in contrasts.items():
        vector = contrast_vector(design, name, weights) @ to_columns
        first_t, second_t = (_compute_t(fit, vector, design.dof) for fit in fits)
        changes[name] = float(np.sqrt(np.mean((second_t - first_t) ** 2)))
    return changes


def _fit_pairs(pairs: Iterable[tuple[Array, Array]], basis: Float) -> list[StreamedFit]:
    """Fit an orthonormal basis (rows, rank) to both series; pairs are as in `t_change`.

    Raises `ValueError` if the number of volumes differs from the number of rows.
    """
    fits: list[StreamedFit] = []
    n_volumes = 0
    for pair in pairs:
        if not fits:
            fits = [StreamedFit(basis, pair[0].astype(np.float64)) for _ in pair]
        if n_volumes < len(basis):
            for fit, signal in zip(fits, pair, strict=True):
                fit.add(signal[None])
        n_volumes += 1
    if n_volumes != len(basis) or not fits:
        raise ValueError(
            f"the number of volumes ({n_volumes}) differs from the number of rows in the design "
            f"matrix ({len(basis)})"
        )
    return fits
