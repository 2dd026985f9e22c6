"""General linear model with autoregressive noise, in blocks of voxels.

Generalized least squares under the autocorrelation that `bids_sr.stats.glm.noise` finds, one
process for each group of like voxels; the first samples are whitened exactly too. Unlike nilearn's
`run_glm`

- the autocorrelation is pooled, and corrected for what the design takes out of residuals. With an
  AR(1) coefficient of each voxel's own, t passes p < .001 up to 3.4 times as often as it should in
  runs of 60 volumes, and longer models are worse (`benchmarks/null_noise.py`);
- degrees of freedom are counted once, by rank, and z is taken with fewer where voxels of one group
  differ in their noise (`bids_sr.stats.glm.autoregression.effective_dof`).
"""

import numpy as np
from scipy.linalg import toeplitz

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Float, Real, parts_of
from bids_sr.stats.glm.autoregression import effective_dof, levinson, orthonormal
from bids_sr.stats.glm.noise import Noise, moving

_NUDGE = 1e-3  # of an autocorrelation, for slopes
_ROUNDING = 1e-15  # of a sum of squares
_Z_MAX = 37.0  # a normal tail beyond this is below the smallest double


@frozen
class _Precision:
    """Inverse covariance of series that share one autoregressive process.

    It is in units of the variance that the process cannot predict, and has the same diagonals
    everywhere but in two corners of p rows, which are alike forward and backward.
    """

    diagonals: Float  # (p + 1,)
    corner: Float  # (p, p) what is added there

    @classmethod
    def of(cls, rho: Float) -> "_Precision":
        """For autocorrelations (p,) at lags 1 … p."""
        predictors, left = levinson(rho[None])
        order = len(rho)
        # what earlier samples do not predict: with so many rows the corners lie apart
        white = np.eye(3 * order + 1)
        for t, row in enumerate(white):
            known = min(t, order)
            row[t - known : t] = -predictors[known][0][::-1]
            row /= np.sqrt(left[0, known] / left[0, -1])
        whole = white.T @ white
        diagonals = whole[order, order : 2 * order + 1]
        return cls(diagonals=diagonals, corner=whole[:order, :order] - toeplitz(diagonals[:order]))

    def __call__(self, columns: Float) -> Float:
        """The matrix times columns (T, N)."""
        out = self.diagonals[0] * columns
        for lag, value in enumerate(self.diagonals[1:], 1):
            out[lag:] += value * columns[:-lag]
            out[:-lag] += value * columns[lag:]
        for end in (slice(len(self.corner)), slice(None, -len(self.corner) - 1, -1)):
            out[end] += self.corner @ columns[end]
        return out

    def energy(self, products: Float, ends: Float) -> Float:
        """Energy (N,) of series with lag products (p + 1, N) and ends (2, p, N), from outside."""
        inner = 2 * self.diagonals @ products - self.diagonals[0] * products[0]
        return inner + (ends * (self.corner @ ends)).sum(axis=(0, 1))


@frozen
class _Whitened:
    """Whitened least squares of one group of voxels.

    It holds what takes a series (T,) to its whitened coefficients in an orthonormal basis of the
    whitened design, (R, T), the weights (C, R) that read the contrasts off them, and the degrees
    of freedom of t.
    """

    precision: _Precision
    fit: Float
    weights: Float
    effective: Float


def _t_to_z(t: Float, dof: float | Float) -> Float:
    """Convert t to normal deviates with the same tail probability, |z| ≤ 37.

    They are computed in the tail, so that large values keep their accuracy.
    """
    from scipy import special

    z = -special.ndtri(special.stdtr(dof, -np.abs(t)))
    return np.sign(t) * np.minimum(z, _Z_MAX)


class ContrastModel:
    """Design, contrasts and noise model of one run, to be fitted to successive blocks of voxels.

    Given the noise, a voxel's result depends on its own time series alone, whatever block it comes
    in. The design is (T, P), a constant among its columns' combinations, contrasts are (C, P); the
    rank of the design is found if not told.
    """

    def __init__(
        self, matrix: Float, contrasts: Float, noise: Noise, *, rank: int | None = None
    ) -> None:
        self.matrix = np.asarray(matrix, dtype=np.float64)
        self.contrasts = np.atleast_2d(np.asarray(contrasts, dtype=np.float64))
        if self.contrasts.shape[1] != self.matrix.shape[1]:
            raise ValueError(
                f"contrasts of {self.contrasts.shape[1]} weights, design of {self.matrix.shape[1]}"
                " columns"
            )
        self.dof = self.matrix.shape[0] - (
            int(np.linalg.matrix_rank(self.matrix)) if rank is None else rank
        )
        if self.dof < 1:
            raise ValueError(
                f"a design of {self.matrix.shape[0]} rows leaves no degree of freedom"
            )
        # the whitened basis has the rank of the design, whatever columns repeat each other
        self._basis = orthonormal(self.matrix)
        self._weights = self.contrasts @ np.linalg.pinv(self.matrix) @ self._basis
        self._noise = noise
        self._groups: dict[int, _Whitened] = {}

    def _reading(self, precision: _Precision) -> tuple[Float, Float]:
        """Whitened coefficients from series, (R, T), and weights of the contrasts in them."""
        reading = precision(self._basis).T
        root = np.linalg.cholesky(reading @ self._basis)
        return np.linalg.solve(root, reading), np.linalg.solve(root, self._weights.T).T

    def _factors(self, rho: Float) -> Float:
        """(C,) variances of the effects, in units of what the process (p,) leaves unpredicted."""
        return np.square(self._reading(_Precision.of(rho))[1]).sum(axis=1)

    def _solve(self, group: int) -> _Whitened:
        rho, spread = self._noise.rho[group], self._noise.spread[group]
        precision, factors = _Precision.of(rho), self._factors(rho)
        fit, weights = self._reading(precision)
        slopes = np.stack(
            [
                np.log(self._factors(rho + row) / factors) / _NUDGE
                for row in _NUDGE * np.eye(len(rho))
            ]
        )
        uncertainty = np.einsum("pc,pq,qc->c", slopes, spread, slopes)
        return _Whitened(
            precision=precision,
            fit=fit,
            weights=weights,
            effective=effective_dof(self.dof, uncertainty),
        )

    def fit(self, signals: Real, voxels: slice = slice(None)) -> dict[str, Float]:
        """Estimate C contrasts in unfiltered signals (T, N); return maps (C, N) by name.

        The signals are of some of the voxels of the noise model.

        ``effect``, in the series' unit, is the signal change of a sustained block, ``variance``
        its own; ``t`` is 0 where a voxel does not vary, ``z`` the normal deviate of the same tail
        (`_t_to_z`) with ``effective`` degrees of freedom, fewer than `dof` where voxels that share
        a model of the noise differ in it.

        `signals`: time series, one voxel a column (T, N).
        """
        from bids_sr.stats.lag_products import add_lag_products

        n, order = signals.shape[1], self._noise.rho.shape[1]
        labels = self._noise.labels[voxels]
        if len(labels) != n:
            raise ValueError(f"time series of {n} voxels, noise of {len(labels)}")
        # the voxels of a group side by side
        places = np.argsort(labels, kind="stable")
        signals, labels = np.take(signals, places, axis=1, mode="clip"), labels[places]
        mean, products, ends = np.zeros(n), np.zeros((order + 1, n)), np.zeros((2, order, n))
        for part in parts_of(n):
            y = signals[:, part].astype(np.float64, order="C")
            mean[part] = y.mean(axis=0)
            y -= mean[part]
            ends[..., part] = y[:order], y[: -order - 1 : -1]
            sums = np.zeros((order + 1, y.shape[1]))
            add_lag_products(y, sums)
            products[:, part] = sums
        effect, variance, effective = (np.zeros((len(self.contrasts), n)) for _ in range(3))
        for group in np.unique(labels):
            if group not in self._groups:
                self._groups[group] = self._solve(group)
            model = self._groups[group]
            own = slice(*np.searchsorted(labels, [group, group + 1]))
            coefficients = model.fit @ np.subtract(signals[:, own], mean[own], dtype=np.float64)
            energy = model.precision.energy(products[:, own], ends[..., own])
            # at least what rounding leaves
            left = np.maximum(energy - np.square(coefficients).sum(axis=0), _ROUNDING * energy)
            effect[:, own] = model.weights @ coefficients
            factors = np.square(model.weights).sum(axis=1)
            variance[:, own] = factors[:, None] * left / self.dof
            effective[:, own] = model.effective[:, None]
        still = ~moving(signals, products[0])
        effect[:, still], variance[:, still], effective[:, still] = 0, 0, self.dof
        t = np.divide(effect, np.sqrt(variance), out=np.zeros_like(effect), where=variance > 0)
        found = {
            "effect": effect,
            "variance": variance,
            "t": t,
            "z": _t_to_z(t, effective),
            "effective": effective,
        }
        back = np.argsort(places)
        return {name: values[:, back] for name, values in found.items()}
