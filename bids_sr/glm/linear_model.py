"""General linear model with autoregressive noise, in blocks of voxels.

The model is fitted by generalized least squares with the autocorrelation estimated by
`bids_sr.glm.noise`. Results of a voxel are weighted means over a few noise models, and the first
samples are also whitened exactly. Differences to nilearn's `run_glm`:

- Autocorrelation is pooled over voxels, and corrected for the bias that the design causes in
  residuals. With separate AR(1) coefficients per voxel, t exceeds p < .001 up to 3.4 times as
  often as nominal in runs of 60 volumes, and longer models are worse (`benchmarks/null_noise.py`).
- Degrees of freedom are counted once, by rank. z is computed with fewer degrees of freedom if
  voxels that share a model differ in their noise (`bids_sr.glm.autoregression.effective_dof`).
"""

import numpy as np
from scipy.linalg import toeplitz

from bids_sr.frozen import frozen
from bids_sr.glm.autoregression import effective_dof, levinson, orthonormal
from bids_sr.glm.noise import AT_ONCE, NoiseModel, exceeds_rounding
from bids_sr.io.arrays import Float, Real, iterate_parts

_NUDGE = 1e-3  # step of an autocorrelation for numerical derivatives
_ROUNDING = 1e-15  # rounding error of a sum of squares, relative to the sum
_TINY = 1e-300
# largest |z|; the tail of the normal distribution beyond this is below the smallest double
_Z_MAX = 37.0
_HILL_DOF, _HILL_T = 60, 10.0  # smallest degrees of freedom and largest t of Hill's expansion


@frozen
class _PrecisionFactors:
    """Inverse covariance of series that share one autoregressive process of order p.

    The unit is the variance that the process cannot predict. All diagonals are constant except in
    two corners of p rows, which are mirror images of each other.
    """

    diagonals: Float  # (p + 1,) values of the main diagonal and of p diagonals on either side
    corner: Float  # (p, p) correction of the diagonals in the first corner of the matrix

    @classmethod
    def from_autocorrelations(cls, rho: Float) -> "_PrecisionFactors":
        """Return the precision for autocorrelations (p,) at lags 1 … p."""
        predictors, unexplained = levinson(rho[None])
        order = len(rho)
        # Rows of the matrix are prediction errors; with this many rows, the corners do not
        # overlap.
        white = np.eye(3 * order + 1)
        for t, row in enumerate(white):
            n_earlier = min(t, order)
            row[t - n_earlier : t] = -predictors[n_earlier][0][::-1]
            row /= np.sqrt(unexplained[0, n_earlier] / unexplained[0, -1])
        full_matrix = white.T @ white
        diagonals = full_matrix[order, order : 2 * order + 1]
        return cls(
            diagonals=diagonals, corner=full_matrix[:order, :order] - toeplitz(diagonals[:order])
        )

    def __call__(self, columns: Float) -> Float:
        """Return the product of the matrix with columns (T, N)."""
        result = self.diagonals[0] * columns
        for lag, value in enumerate(self.diagonals[1:], 1):
            result[lag:] += value * columns[:-lag]
            result[:-lag] += value * columns[lag:]
        for corner_rows in (slice(len(self.corner)), slice(None, -len(self.corner) - 1, -1)):
            result[corner_rows] += self.corner @ columns[corner_rows]
        return result

    def energy(self, products: Float, ends: Float) -> Float:
        """Return the sums of squares (N,) of whitened series.

        They are computed from lag products (p + 1, N) and the samples at both ends (2, p, N). End
        samples are ordered from the outside to the inside.
        """
        inner = 2 * self.diagonals @ products - self.diagonals[0] * products[0]
        return inner + (ends * (self.corner @ ends)).sum(axis=(0, 1))


@frozen
class _Whitened:
    """Whitened least squares for one noise model.

    `fit` (R, T) maps a series to coefficients in an orthonormal basis of the whitened design.
    `weights` (C, R) map coefficients to contrasts. `effective` are the effective degrees of
    freedom of t.
    """

    precision: _PrecisionFactors
    fit: Float
    weights: Float
    effective: Float


def t_to_z(t: Float, dof: float | Float) -> Float:
    """Convert t to normal deviates with the same tail probability, |z| ≤ 37.

    If there are many degrees of freedom and |t| ≤ 10, z is computed from an expansion with a
    relative error below 2e-10 (Hill 1970, Algorithm 395, as a deviate). Other values are computed
    from the tail probability, so that large values keep their accuracy.
    """
    from scipy import special

    size = np.abs(t)
    many = np.maximum(dof, _HILL_DOF)  # values with fewer degrees of freedom are replaced below
    square = (many - 0.5) * np.log1p(np.square(np.minimum(size, _HILL_T)) / many)
    large = 48 * np.square(many - 0.5)
    tail = ((-0.4 * square - 3.3) * square - 24) * square - 85.5
    tail /= 0.8 * np.square(square) + 100 + large
    z = np.asarray(np.sqrt(square) * (1 + (tail + square + 3) / large))
    is_exact = (dof < _HILL_DOF) | ~(size <= _HILL_T)
    z[is_exact] = -special.ndtri(
        special.stdtr(np.broadcast_to(dof, z.shape)[is_exact], -size[is_exact])
    )
    return np.copysign(np.minimum(z, _Z_MAX), t)


class ContrastModel:
    """Design, contrasts and noise model of one run, for fitting successive blocks of voxels.

    Given the noise model, the result of a voxel only depends on its own time series, not on the
    block.

    Parameters
    ----------
    matrix : ndarray
        Design (T, P), whose columns span a constant.
    contrasts : ndarray
        Weights of the columns (C, P).
    noise : NoiseModel
        Noise model of the voxels.
    rank : int | None
        Rank of the design; None to compute it.
    """

    def __init__(
        self, matrix: Float, contrasts: Float, noise: NoiseModel, *, rank: int | None = None
    ) -> None:
        self.matrix = np.asarray(matrix, dtype=np.float64)
        self.contrasts = np.atleast_2d(np.asarray(contrasts, dtype=np.float64))
        if self.contrasts.shape[1] != self.matrix.shape[1]:
            raise ValueError(
                f"the contrasts have {self.contrasts.shape[1]} weights, but the design matrix "
                f"has {self.matrix.shape[1]} columns"
            )
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
        self._groups: dict[int, _Whitened] = {}

    def _compute_whitening(self, precision: _PrecisionFactors) -> tuple[Float, Float]:
        """Return the matrix of whitened coefficients (R, T), and contrast weights in them."""
        whitened_basis = precision(self._basis).T
        root = np.linalg.cholesky(whitened_basis @ self._basis)
        return np.linalg.solve(root, whitened_basis), np.linalg.solve(root, self._weights.T).T

    def _variance_factors(self, rho: Float) -> Float:
        """Return variances of the effects (C,), in units of the process' unpredicted variance."""
        return np.square(
            self._compute_whitening(_PrecisionFactors.from_autocorrelations(rho))[1]
        ).sum(axis=1)

    def _solve(self, group: int) -> _Whitened:
        rho = self._noise.rho[group]
        spread = self._noise.spread[group]
        precision = _PrecisionFactors.from_autocorrelations(rho)
        factors = self._variance_factors(rho)
        fit, weights = self._compute_whitening(precision)
        log_slopes = np.stack(
            [
                np.log(self._variance_factors(rho + row) / factors) / _NUDGE
                for row in _NUDGE * np.eye(len(rho))
            ]
        )
        uncertainty = np.einsum("pc,pq,qc->c", log_slopes, spread, log_slopes)
        return _Whitened(
            precision=precision,
            fit=fit,
            weights=weights,
            effective=effective_dof(self.dof, uncertainty),
        )

    def fit(self, signals: Real, voxels: slice = slice(None)) -> dict[str, Float]:
        """Estimate C contrasts in unfiltered signals; return maps (C, N) by name.

        Parameters
        ----------
        signals : ndarray
            Time series, one voxel per column (T, N).
        voxels : slice
            Positions of these voxels in the noise model.

        Returns
        -------
        dict[str, ndarray]
            ``effect`` is the signal change of a sustained block in the unit of the series, and
            ``variance`` its variance. ``t`` is 0 for constant voxels. ``z`` is the normal deviate
            with the same tail probability (`t_to_z`) and ``effective`` degrees of freedom; these
            are fewer than `dof` if voxels with the same noise model differ in their noise.
        """
        from bids_sr.spatial.lag_products import add_lag_products, center

        n = signals.shape[1]
        order = self._noise.rho.shape[1]
        labels = self._noise.labels[voxels]
        if len(labels) != n:
            raise ValueError(
                f"the time series has {n} voxels, but noise was estimated for {len(labels)} voxels"
            )
        # Voxels are sorted, so that voxels of a cell are contiguous.
        sort_order = np.argsort(labels, kind="stable")
        signals = np.take(signals, sort_order, axis=1, mode="clip")
        labels, shares = labels[sort_order], self._noise.shares[voxels][sort_order].T
        mean, largest = np.zeros(n), np.zeros(n)
        products, ends = np.zeros((order + 1, n)), np.zeros((2, order, n))
        for part in iterate_parts(n, AT_ONCE):
            batch = np.ascontiguousarray(signals[:, part])
            y, moments = np.empty_like(batch, dtype=np.float64), np.empty((3, batch.shape[-1]))
            center(batch, y, moments)
            mean[part], _, largest[part] = moments
            ends[..., part] = y[:order], y[: -order - 1 : -1]
            sums = np.zeros((order + 1, y.shape[1]))
            add_lag_products(y, sums)
            products[:, part] = sums
        effect, variance, effective = (np.zeros((len(self.contrasts), n)) for _ in range(3))
        for cell in np.unique(labels):
            members = slice(*np.searchsorted(labels, [cell, cell + 1]))
            centered = np.subtract(signals[:, members], mean[members], dtype=np.float64)
            for group, share in zip(self._noise.cells[cell], shares[:, members], strict=True):
                if group not in self._groups:
                    self._groups[group] = self._solve(group)
                model = self._groups[group]
                coefficients = model.fit @ centered
                energy = model.precision.energy(products[:, members], ends[..., members])
                # Smaller residuals than the rounding error are not meaningful.
                residual_energy = np.maximum(
                    energy - np.square(coefficients).sum(axis=0), _ROUNDING * energy
                )
                effect[:, members] += share * (model.weights @ coefficients)
                # Variances of the models are averaged as logarithms (geometric mean), because they
                # can differ by large factors in cells far from the mean.
                size = np.log(np.maximum(residual_energy, _TINY) / self.dof)
                factors = np.log(np.square(model.weights).sum(axis=1))
                variance[:, members] += share * (factors[:, None] + size)
                effective[:, members] += share * model.effective[:, None]
            np.exp(variance[:, members], out=variance[:, members])
        constant = ~exceeds_rounding(len(signals), products[0], largest)
        effect[:, constant], variance[:, constant], effective[:, constant] = 0, 0, self.dof
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
