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

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Float, Real
from bids_sr.stats.glm.autoregression import effective_dof, levinson
from bids_sr.stats.glm.noise import Noise, moving

_NUDGE = 1e-3  # of an autocorrelation, for slopes
_Z_MAX = 37.0  # a normal tail beyond this is below the smallest double


@frozen
class _Whitener:
    """Whitening of time series that share one autoregressive process.

    The white series have the variance of what the process cannot predict.
    """

    # for k = 0 … p, weights (k,) of the k samples before, the latest first
    predictors: tuple[Float, ...]
    scale: Float  # (p + 1,) by what the error of each is divided

    @classmethod
    def of(cls, rho: Float) -> "_Whitener":
        """For autocorrelations (p,) at lags 1 … p."""
        predictors, left = levinson(rho[None])
        return cls(
            predictors=tuple(each[0] for each in predictors), scale=np.sqrt(left[0] / left[0, -1])
        )

    def __call__(self, columns: Float) -> Float:
        """Whitened columns (T, N)."""
        order, n = len(self.predictors) - 1, len(columns)
        out = columns.copy()
        for back, weight in enumerate(self.predictors[-1], 1):
            out[order:] -= weight * columns[order - back : n - back]
        for t in range(min(order, n)):
            out[t] = (columns[t] - self.predictors[t] @ columns[:t][::-1]) / self.scale[t]
        return out


@frozen
class _Whitened:
    """Whitened least squares of one group of voxels.

    It holds the (T, P) design, its (P, T) inverse, (C,) variance factors and the degrees of
    freedom of t.
    """

    whiten: _Whitener
    design: Float
    inverse: Float
    factors: Float
    effective: Float


def _t_to_z(t: Float, dof: float | Float) -> Float:
    """Convert t to normal deviates with the same tail probability, |z| ≤ 37.

    They are computed in the tail, so that large values keep their accuracy.

    Parameters
    ----------
    t : Float
        Values of t of any shape.
    dof : float | Float
        Degrees of freedom, one for all or one for each value.

    Returns
    -------
    Float
        Values of z with the signs of t.
    """
    from scipy import special

    z = -special.ndtri(special.stdtr(dof, -np.abs(t)))
    return np.sign(t) * np.minimum(z, _Z_MAX)


class ContrastModel:
    """Design, contrasts and noise model of one run, to be fitted to successive blocks of voxels.

    Given the noise, a voxel's result depends on its own time series alone, whatever block it comes
    in. The design is (T, P), a constant among its columns' combinations, contrasts are (C, P); the
    rank of the design is found if not told.

    Parameters
    ----------
    matrix : Float
        Design of the run (T, P).
    contrasts : Float
        Weights of the design's columns, one contrast a row (C, P).
    noise : Noise
        Autocorrelation of the noise of all voxels, by groups.
    rank : int | None
        Rank of the design; None works it out.
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
        self._noise = noise
        self._groups: dict[int, _Whitened] = {}

    def _factors(self, rho: Float) -> Float:
        """(C,) variances of the effects, in units of what the process (p,) leaves unpredicted."""
        inverse = np.linalg.pinv(_Whitener.of(rho)(self.matrix))
        return np.square(self.contrasts @ inverse).sum(axis=1)

    def _solve(self, group: int) -> _Whitened:
        rho, spread = self._noise.rho[group], self._noise.spread[group]
        whiten, factors = _Whitener.of(rho), self._factors(rho)
        design = whiten(self.matrix)
        slopes = np.stack(
            [
                np.log(self._factors(rho + row) / factors) / _NUDGE
                for row in _NUDGE * np.eye(len(rho))
            ]
        )
        uncertainty = np.einsum("pc,pq,qc->c", slopes, spread, slopes)
        return _Whitened(
            whiten=whiten,
            design=design,
            inverse=np.asarray(np.linalg.pinv(design), dtype=np.float64),
            factors=factors,
            effective=effective_dof(self.dof, uncertainty),
        )

    def fit(self, signals: Real, voxels: slice = slice(None)) -> dict[str, Float]:
        """Estimate C contrasts in unfiltered signals (T, N); return maps (C, N) by name.

        The signals are of some of the voxels of the noise model.

        ``effect``, in the series' unit, is the signal change of a sustained block, ``variance``
        its own; ``t`` is 0 where a voxel does not vary, ``z`` the normal deviate of the same tail
        (`_t_to_z`) with ``effective`` degrees of freedom, fewer than `dof` where voxels that share
        a model of the noise differ in it.

        Parameters
        ----------
        signals : Real
            Time series, one voxel a column (T, N).
        voxels : slice, optional
            Range of these voxels among all voxels of the noise model.

        Returns
        -------
        dict[str, Float]
            Maps ``effect``, ``variance``, ``t``, ``z`` and ``effective`` by name.

        Raises
        ------
        ValueError
            The time series and the noise model have different numbers of voxels.
        """
        count, n = len(self.contrasts), signals.shape[1]
        labels = self._noise.labels[voxels]
        if len(labels) != n:
            raise ValueError(f"time series of {n} voxels, noise of {len(labels)}")
        effect, variance = np.zeros((count, n)), np.zeros((count, n))
        effective = np.full((count, n), float(self.dof))
        y = np.asarray(signals, dtype=np.float64)
        centered = y - y.mean(axis=0)
        varies = np.flatnonzero(moving(y, centered))
        for group in np.unique(labels[varies]):
            if group not in self._groups:
                self._groups[group] = self._solve(group)
            members, model = varies[labels[varies] == group], self._groups[group]
            whitened = model.whiten(centered[:, members])
            beta = model.inverse @ whitened
            whitened -= model.design @ beta
            dispersion = np.einsum("tn,tn->n", whitened, whitened) / self.dof
            effect[:, members], variance[:, members] = (
                self.contrasts @ beta,
                model.factors[:, None] * dispersion,
            )
            effective[:, members] = model.effective[:, None]
        t = np.divide(effect, np.sqrt(variance), out=np.zeros_like(effect), where=variance > 0)
        return {
            "effect": effect,
            "variance": variance,
            "t": t,
            "z": _t_to_z(t, effective),
            "effective": effective,
        }
