"""General linear model with autoregressive noise, in blocks of voxels.

The model is fitted by generalized least squares with the autocorrelation estimated by
`bids_sr.glm.noise`. Results of a voxel are weighted means over a few noise models, and the first
samples are also whitened exactly. Differences to nilearn's `run_glm`:

- Autocorrelation is pooled over voxels, and corrected for the bias that the design causes in
  residuals. With separate AR(1) coefficients per voxel, 27 per mille of voxels pass p < .001 in
  runs of 60 volumes, and longer models are worse (`benchmarks/FINDINGS.md`).
- The memory of the noise model is stated in seconds (`bids_sr.glm.lag_bands`).
- Degrees of freedom are counted once, by rank. z is computed with fewer degrees of freedom if
  voxels that share a model differ in their noise (`bids_sr.glm.autoregression.effective_dof`).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bids_sr.glm.autoregression import (
    effective_dof,
    orthonormal,
    prediction_filters,
    step_processes,
)
from bids_sr.glm.lag_bands import LagBands
from bids_sr.glm.noise import VOXELS_PER_BATCH, NoiseModel, exceeds_rounding
from bids_sr.io.arrays import Array, Float, Real, iterate_parts
from bids_sr.io.frozen import frozen

_DERIVATIVE_STEP = 1e-3  # step of an autocorrelation for numerical derivatives
_MODELS_PER_BATCH = 64  # noise models
_ROUNDING = 1e-15  # rounding error of a sum of squares, relative to the sum
_TINY = 1e-300  # replaces residuals of 0, which have no logarithm
# largest |z|; the tail of the normal distribution beyond this is below the smallest double
_Z_MAX = 37.0
_HILL_DOF, _HILL_T = 60, 10.0  # smallest degrees of freedom and largest t of Hill's expansion


@frozen
class _Precisions:
    """Inverse covariances of series, each of an autoregressive process of order p.

    The unit is the variance that a process cannot predict. The matrices are symmetric Toeplitz
    matrices minus a positive matrix in each of two corners of p rows, which are mirror images of
    each other (Gohberg and Semencul 1972). `diagonals` are the values of the main diagonal and of
    the diagonals of each band of lags on either side (M, q + 1), and `roots` have the products
    with their transpose that are subtracted in the first corner (M, p, p).
    """

    bands: LagBands
    diagonals: Float
    roots: Float

    @classmethod
    def from_filters(cls, filters: Float, bands: LagBands) -> "_Precisions":
        """Return the precisions for filters of prediction errors (M, p + 1)."""
        n_models, n_lags = len(filters), bands.n_lags
        lagged = [
            (filters[:, : n_lags + 1 - lag] * filters[:, lag:]).sum(axis=1)
            for lag in range(n_lags + 1)
        ]
        diagonals = np.stack([lagged[0], *bands.average(np.stack(lagged[1:]))], axis=1)
        # Row i has the weights of y_0 … y_(p - 1) in the error that would predict y_(-1 - i).
        roots = np.zeros((n_models, n_lags, n_lags))
        for i in range(n_lags):
            roots[:, i, : n_lags - i] = filters[:, i + 1 :]
        return cls(bands=bands, diagonals=diagonals, roots=roots)

    def multiply(self, columns: Float) -> Float:
        """Return the products (M, T, N) of the matrices with columns (T, N)."""
        products = np.tensordot(self.diagonals, _sum_shifts(columns, self.bands), axes=1)
        for rows in _select_corner_rows(self.bands.n_lags):
            products[:, rows] -= self.roots.transpose(0, 2, 1) @ (self.roots @ columns[rows])
        return np.asarray(products)


@frozen
class _WhitenedModel:
    """Whitened least squares for a noise model.

    `projection` (R, T) maps a series to coefficients in an orthonormal basis of the whitened
    design. `weights` (C, R) map coefficients to contrasts. `effective` are the effective degrees
    of freedom of t, (C,). `diagonals` and `root` are as in `_Precisions`.
    """

    projection: Float
    weights: Float
    effective: Float
    diagonals: Float
    root: Float


@frozen
class _WhitenedCell:
    """Whitened least squares for the K noise models of a cell, see `_WhitenedModel`.

    The shapes are: `projections` (K R, T), `weights` (K, C, R), `effective` (K, C),
    `log_variances` of the effects, relative to the residual variance (K, C), `diagonals`, all but
    the first doubled (K, q + 1), and `roots` (K, 1, p, p).
    """

    projections: Float
    weights: Float
    effective: Float
    log_variances: Float
    diagonals: Float
    roots: Float

    @classmethod
    def join(cls, models: Sequence[_WhitenedModel]) -> "_WhitenedCell":
        """Join the models of a cell."""
        diagonals = 2 * np.stack([model.diagonals for model in models])
        diagonals[:, 0] /= 2
        weights = np.stack([model.weights for model in models])
        return cls(
            projections=np.concatenate([model.projection for model in models]),
            weights=weights,
            effective=np.stack([model.effective for model in models]),
            log_variances=np.log(np.square(weights).sum(axis=2)),
            diagonals=diagonals,
            roots=np.stack([model.root for model in models])[:, None],
        )

    def compute_energy(self, products: Float, ends: Float) -> Float:
        """Return the sums of squares (K, N) of whitened series.

        They are computed from lag products, summed over the lags of each band (q + 1, N), and the
        samples at both ends (2, p, N). End samples are ordered from the outside to the inside.
        """
        corners = self.roots @ ends
        return self.diagonals @ products - np.einsum("kepn,kepn->kn", corners, corners)


class _BatchFit(NamedTuple):
    """Effects, variances and effective degrees of freedom of C contrasts in n voxels, (C, n) each.

    They are 0, 0 and the degrees of freedom of the design in constant voxels.
    """

    effect: Float
    variance: Float
    effective: Float


class ContrastModel:
    """Design, contrasts and noise model of one run, for fitting successive blocks of voxels.

    Given the noise model, the result of a voxel only depends on its own time series, not on the
    block.

    The columns of the design `matrix` (T, P) span a constant. `contrasts` are weights of the
    columns (C, P). `rank` is the rank of the design; None to compute it.
    """

    def __init__(
        self, matrix: Float, contrasts: Float, noise: NoiseModel, *, rank: int | None = None
    ) -> None:
        self.matrix = np.asarray(matrix, dtype=np.float64)
        self.contrasts = np.atleast_2d(np.asarray(contrasts, dtype=np.float64))
        self.dof = self.matrix.shape[0] - (
            int(np.linalg.matrix_rank(self.matrix)) if rank is None else rank
        )
        if self.dof < 1:
            raise ValueError(
                f"the design matrix has {self.matrix.shape[0]} rows, which leave no degrees of "
                "freedom"
            )
        # The basis has the rank of the design, also if columns are collinear.
        self._basis = orthonormal(self.matrix)
        self._weights = self.contrasts @ np.linalg.pinv(self.matrix) @ self._basis
        self._noise = noise
        self._forms = _QuadraticForms(self._basis, noise.bands)
        self._models: dict[int, _WhitenedModel] = {}  # solved models by their row of `noise.rho`

    def fit(self, signals: Real, voxels: slice = slice(None)) -> dict[str, Float]:
        """Estimate C contrasts in unfiltered signals; return maps (C, N) by name.

        `signals` has one voxel per column (T, N), and `voxels` is the range of these voxels in the
        noise model. ``effect`` is the signal change of a sustained block in the unit of the
        series, and ``variance`` its variance. ``t`` is 0 for constant voxels. ``z`` is the normal
        deviate with the same tail probability (`t_to_z`) and ``effective`` degrees of freedom;
        these are fewer than `dof` if voxels with the same noise model differ in their noise.
        """
        n = signals.shape[1]
        labels, shares = self._noise.labels[voxels], self._noise.shares[voxels]
        # Voxels of a cell are fitted together.
        sort_order = np.argsort(labels, kind="stable")
        sorted_signals = np.take(signals, sort_order, axis=1, mode="clip")
        sorted_shares = np.ascontiguousarray(shares[sort_order].T)
        cells, starts = np.unique(labels[sort_order], return_index=True)
        self._prepare(cells)
        effect, variance, effective = (np.zeros((len(self.contrasts), n)) for _ in range(3))
        for cell, start, stop in zip(cells, starts, [*starts[1:], n], strict=True):
            model = self._join_cell(cell)
            for batch in iterate_parts(stop - start, VOXELS_PER_BATCH):
                columns = slice(start + batch.start, start + batch.stop)
                effect[:, columns], variance[:, columns], effective[:, columns] = self._fit_batch(
                    model, sorted_signals[:, columns], sorted_shares[:, columns]
                )
        t = np.divide(effect, np.sqrt(variance), out=np.zeros_like(effect), where=variance > 0)
        maps = {
            "effect": effect,
            "variance": variance,
            "t": t,
            "z": np.stack([t_to_z(*row) for row in zip(t, effective, strict=True)]),
            "effective": effective,
        }
        original_order = np.argsort(sort_order)
        return {name: values[:, original_order] for name, values in maps.items()}

    def _prepare(self, cells: Array) -> None:
        """Solve the noise models of some cells, several at a time."""
        indices = np.unique(self._noise.cells[cells]).tolist()
        unsolved = [index for index in indices if index not in self._models]
        for batch in iterate_parts(len(unsolved), _MODELS_PER_BATCH):
            self._models.update(
                zip(unsolved[batch], self._solve_models(unsolved[batch]), strict=True)
            )

    def _solve_models(self, indices: Sequence[int]) -> Iterator[_WhitenedModel]:
        """Yield whitened least squares for some noise models."""
        rho, spread, bands = (
            self._noise.rho[indices],
            self._noise.spread[indices],
            self._noise.bands,
        )
        n_models, n_bands = rho.shape
        filters = prediction_filters(rho, bands)
        stepped_filters, steps = step_processes(rho, bands, _DERIVATIVE_STEP)
        variances = self._compute_variances(
            np.concatenate([filters[:, None], stepped_filters], axis=1).reshape(
                -1, bands.n_lags + 1
            )
        )
        variances = variances.reshape(n_models, n_bands + 1, -1)
        log_slopes = np.log(variances[:, 1:] / variances[:, :1]) / steps[:, :, None]
        uncertainty = np.einsum("gpc,gpq,gqc->gc", log_slopes, spread, log_slopes)
        precisions = _Precisions.from_filters(filters, bands)
        roots = np.asarray(np.linalg.cholesky(self._forms.compute(precisions)), dtype=np.float64)
        projections = np.linalg.solve(roots, precisions.multiply(self._basis).transpose(0, 2, 1))
        weights = self._whiten_weights(roots).transpose(0, 2, 1)
        effective = effective_dof(self.dof, uncertainty)
        for index in range(n_models):
            yield _WhitenedModel(
                projection=projections[index],
                weights=weights[index],
                effective=effective[index],
                diagonals=precisions.diagonals[index],
                root=precisions.roots[index],
            )

    def _compute_variances(self, filters: Float) -> Float:
        """Compute variances of the effects (M, C), in units of the process' unpredicted variance.

        `filters` are the prediction filters of M processes (M, p + 1).
        """
        forms = self._forms.compute(_Precisions.from_filters(filters, self._noise.bands))
        roots = np.asarray(np.linalg.cholesky(forms), dtype=np.float64)
        return np.square(self._whiten_weights(roots)).sum(axis=1)

    def _whiten_weights(self, roots: Float) -> Float:
        """Return the weights of the contrasts in the whitened basis, (M, R, C)."""
        shape = (len(roots), *self._weights.T.shape)
        weights = np.linalg.solve(roots, np.broadcast_to(self._weights.T, shape))
        return np.asarray(weights, dtype=np.float64)

    def _join_cell(self, cell: int) -> _WhitenedCell:
        """Return the models of a cell, which `_prepare` has solved."""
        return _WhitenedCell.join([self._models[index] for index in self._noise.cells[cell]])

    def _fit_batch(self, model: _WhitenedCell, signals: Real, shares: Float) -> _BatchFit:
        """Estimate the contrasts in voxels of one cell.

        `signals` has one voxel per column (T, n), and `shares` is the share of each of the cell's
        K models in each voxel (K, n).
        """
        from bids_sr.spatial.lag_products import add_lag_products, center

        n_times, n = signals.shape
        bands = self._noise.bands
        y, moments = np.empty((n_times, n)), np.empty((3, n))
        center(np.ascontiguousarray(signals), y, moments)
        products = np.zeros((len(bands.stops) + 1, n))
        add_lag_products(y, np.array([0, *bands.stops]), products)
        coefficients = (model.projections @ y).reshape(len(model.weights), -1, n)
        ends = np.stack([y[rows] for rows in _select_corner_rows(bands.n_lags)])
        energy = model.compute_energy(products, ends)
        # Smaller residuals than the rounding error are not meaningful.
        residual_energy = np.maximum(
            energy - np.einsum("krn,krn->kn", coefficients, coefficients), _ROUNDING * energy
        )
        effect = np.einsum("kn,kcn->cn", shares, model.weights @ coefficients)
        # Variances of the models are averaged as logarithms (geometric mean), because they can
        # differ by large factors in cells far from the mean.
        log_residual = np.log(np.maximum(residual_energy, _TINY) / self.dof)
        variance = np.exp(model.log_variances.T @ shares + (shares * log_residual).sum(axis=0))
        effective = model.effective.T @ shares
        is_constant = ~exceeds_rounding(n_times, products[0], moments[2])
        effect[:, is_constant], variance[:, is_constant] = 0, 0
        effective[:, is_constant] = self.dof
        return _BatchFit(effect, variance, effective)


class _QuadraticForms:
    """Quadratic forms of an orthonormal basis (T, R) with M precisions of one set of bands."""

    def __init__(self, basis: Float, bands: LagBands) -> None:
        self._lagged = basis.T @ _sum_shifts(basis, bands)
        self._corners = [basis[rows] for rows in _select_corner_rows(bands.n_lags)]

    def compute(self, precisions: _Precisions) -> Float:
        """Return the forms (M, R, R)."""
        forms = np.asarray(np.tensordot(precisions.diagonals, self._lagged, axes=1), np.float64)
        for corner in self._corners:
            errors = precisions.roots @ corner
            forms -= errors.transpose(0, 2, 1) @ errors
        return forms


def _sum_shifts(columns: Float, bands: LagBands) -> Float:
    """Return columns (T, P), and sums of their shifts over each band (q + 1, T, P).

    Columns are shifted forward and back.
    """
    shifts = bands.shift(columns, 1) + bands.shift(columns, -1)
    return np.concatenate([columns[None], bands.widths[:, None, None] * shifts])


def _select_corner_rows(order: int) -> tuple[slice, slice]:
    """Return the first and the last rows of a series, from the outside to the inside."""
    return slice(order), slice(None, -order - 1, -1)


def compute_t(effect: Array, variance: Array) -> Array:
    """Return effects over the square root of their variance, 0 without a variance."""
    has_variance = variance > 0
    return np.where(has_variance, effect / np.sqrt(np.where(has_variance, variance, 1)), 0)


def t_to_z(t: Float, dof: float | Float) -> Float:
    """Convert t to normal deviates with the same tail probability, |z| ≤ 37.

    If there are many degrees of freedom and |t| ≤ 10, z is computed from an expansion with a
    relative error below 2e-10 (Hill 1970, Algorithm 395, as a deviate). Other values are computed
    from the tail probability, so that large values keep their accuracy.
    """
    from scipy import special

    magnitude = np.abs(t)
    # Values with fewer degrees of freedom are replaced below.
    hill_dof = np.maximum(dof, _HILL_DOF)
    square = (hill_dof - 0.5) * np.log1p(np.square(np.minimum(magnitude, _HILL_T)) / hill_dof)
    scaled_dof = 48 * np.square(hill_dof - 0.5)
    tail = ((-0.4 * square - 3.3) * square - 24) * square - 85.5
    tail /= 0.8 * np.square(square) + 100 + scaled_dof
    z = np.asarray(np.sqrt(square) * (1 + (tail + square + 3) / scaled_dof))
    is_exact = (dof < _HILL_DOF) | ~(magnitude <= _HILL_T)
    tail_probability = special.stdtr(np.broadcast_to(dof, z.shape)[is_exact], -magnitude[is_exact])
    z[is_exact] = -special.ndtri(tail_probability)
    return np.copysign(np.minimum(z, _Z_MAX), t)
