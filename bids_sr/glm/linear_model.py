"""General linear model with autoregressive noise, in blocks of voxels.

Generalized least squares under the autocorrelation that `bids_sr.glm.noise` finds. Results of a
voxel are mixtures of those by a few processes, and the first samples are whitened exactly too.
Unlike nilearn's `run_glm`

- the autocorrelation is pooled, and corrected for what the design takes out of residuals. With an
  AR(1) coefficient of each voxel's own, t passes p < .001 up to 3.4 times as often as it should in
  runs of 60 volumes, and longer models are worse (`benchmarks/null_noise.py`);
- degrees of freedom are counted once, by rank, and z is taken with fewer where voxels of one model
  differ in their noise (`bids_sr.glm.autoregression.effective_dof`).
"""

import numpy as np
from scipy.linalg import toeplitz

from bids_sr.frozen import frozen
from bids_sr.glm.autoregression import effective_dof, levinson, orthonormal
from bids_sr.glm.noise import AT_ONCE, Noise, exceeds_rounding
from bids_sr.io.arrays import Float, Real, parts_of

_NUDGE = 1e-3  # of an autocorrelation, for slopes
_ROUNDING = 1e-15  # of a sum of squares
_TINY = 1e-300
_Z_MAX = 37.0  # a normal tail beyond this is below the smallest double
_HILL_DOF, _HILL_T = 60, 10.0  # least degrees of freedom and largest t of Hill's expansion


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
    """Whitened least squares by one model of the noise.

    It holds what takes a series (T,) to its whitened coefficients in an orthonormal basis of the
    whitened design, (R, T), the weights (C, R) that read the contrasts off them, and the degrees
    of freedom of t.
    """

    precision: _Precision
    fit: Float
    weights: Float
    effective: Float


def t_to_z(t: Float, dof: float | Float) -> Float:
    """Convert t to normal deviates with the same tail probability, |z| ≤ 37.

    With many degrees of freedom and |t| ≤ 10, z is taken from an expansion with a relative error
    below 2e-10 (Hill 1970, Algorithm 395, as a deviate). Other values are computed in the tail, so
    that large ones keep their accuracy.
    """
    from scipy import special

    size = np.abs(t)
    square = (dof - 0.5) * np.log1p(np.square(np.minimum(size, _HILL_T)) / dof)
    large = 48 * np.square(dof - 0.5)
    tail = ((-0.4 * square - 3.3) * square - 24) * square - 85.5
    tail /= 0.8 * np.square(square) + 100 + large
    z = np.asarray(np.sqrt(square) * (1 + (tail + square + 3) / large))
    rest = (dof < _HILL_DOF) | ~(size <= _HILL_T)
    z[rest] = -special.ndtri(special.stdtr(np.broadcast_to(dof, z.shape)[rest], -size[rest]))
    return np.copysign(np.minimum(z, _Z_MAX), t)


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
        rho = self._noise.rho[group]
        spread = self._noise.spread[group]
        precision = _Precision.of(rho)
        factors = self._factors(rho)
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
        (`t_to_z`) with ``effective`` degrees of freedom, fewer than `dof` where voxels that share
        a model of the noise differ in it.

        `signals`: time series, one voxel a column (T, N).
        """
        from bids_sr.spatial.lag_products import add_lag_products, center

        n = signals.shape[1]
        order = self._noise.rho.shape[1]
        labels = self._noise.labels[voxels]
        if len(labels) != n:
            raise ValueError(
                f"the time series has {n} voxels, but noise was estimated for {len(labels)} voxels"
            )
        # the voxels of a cell side by side
        places = np.argsort(labels, kind="stable")
        signals = np.take(signals, places, axis=1, mode="clip")
        labels, shares = labels[places], self._noise.shares[voxels][places].T
        mean, largest = np.zeros(n), np.zeros(n)
        products, ends = np.zeros((order + 1, n)), np.zeros((2, order, n))
        for part in parts_of(n, AT_ONCE):
            taken = np.ascontiguousarray(signals[:, part])
            y, about = np.empty_like(taken, dtype=np.float64), np.empty((3, taken.shape[-1]))
            center(taken, y, about)
            mean[part], _, largest[part] = about
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
                # at least what rounding leaves
                left = np.maximum(energy - np.square(coefficients).sum(axis=0), _ROUNDING * energy)
                effect[:, members] += share * (model.weights @ coefficients)
                # as logarithms: far from the mean the variance grows many times over in a cell
                size = np.log(np.maximum(left, _TINY) / self.dof)
                factors = np.log(np.square(model.weights).sum(axis=1))
                variance[:, members] += share * (factors[:, None] + size)
                effective[:, members] += share * model.effective[:, None]
            np.exp(variance[:, members], out=variance[:, members])
        still = ~exceeds_rounding(len(signals), products[0], largest)
        effect[:, still], variance[:, still], effective[:, still] = 0, 0, self.dof
        t = np.divide(effect, np.sqrt(variance), out=np.zeros_like(effect), where=variance > 0)
        found = {
            "effect": effect,
            "variance": variance,
            "t": t,
            "z": np.stack([t_to_z(*row) for row in zip(t, effective, strict=True)]),
            "effective": effective,
        }
        back = np.argsort(places)
        return {name: values[:, back] for name, values in found.items()}
