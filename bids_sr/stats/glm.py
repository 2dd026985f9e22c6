"""General linear model with first-order autoregressive noise, voxel by voxel.

The noise model is nilearn's (`nilearn.glm.first_level.run_glm`, "ar1"): ordinary least squares, one coefficient per
voxel from its residuals (Yule–Walker), truncated to hundredths, whitening with it, least squares again. Its `ARModel`
does the whitening and the inverse here too. What differs: what a coefficient needs is kept from block to block of
voxels, so that a run in many small blocks costs what one large block costs; and degrees of freedom are counted once,
by rank (nilearn divides the residuals by the number of columns, which differs where columns repeat each other).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bids_sr.stats.crosscorr import FLAT

Float = npt.NDArray[np.float64]
BINS = 100
_CACHE_BYTES = 32 * 2**20
_Z_MAX = 37.0  # a normal tail beyond this is below the smallest double


@dataclass(frozen=True, kw_only=True, slots=True)
class ContrastEstimates:
    """Estimates of C contrasts in N voxels, each (C, N).

    Attributes
    ----------
    effect : in the series' unit; signal change of a sustained block
    variance : of the effect, unit squared
    t : effect / sqrt(variance), 0 where a voxel does not vary
    dof : degrees of freedom of t
    """

    effect: Float
    variance: Float
    t: Float
    dof: int

    @property
    def z(self) -> Float:
        """t as the normal deviate of the same tail, see `t_to_z`."""
        return t_to_z(self.t, self.dof)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Whitened:
    """Least squares under one autoregressive coefficient: (T, P) design, (P, T) inverse, (C,) variance factors."""

    design: Float
    inverse: Float
    factors: Float


def t_to_z(t: Float, dof: float) -> Float:
    """Normal deviates with the tail of t; computed in the tail, so large values keep their accuracy; |z| ≤ 37."""
    from scipy import special

    z = -special.ndtri(special.stdtr(dof, -np.abs(t)))
    return np.sign(t) * np.minimum(z, _Z_MAX)


def ar1_coefficients(residuals: Float) -> Float:
    """Yule–Walker coefficient of each column, truncated towards zero to hundredths, (N,); columns must vary.

    Parameters
    ----------
    residuals : (T, N) of ordinary least squares
    """
    n = residuals.shape[0]
    lagged = np.einsum("tn,tn->n", residuals[:-1], residuals[1:]) / (n - 1)
    power = np.einsum("tn,tn->n", residuals, residuals) / n
    return np.trunc(lagged / power * BINS) / BINS


class ContrastModel:
    """One design and its contrasts, to be fitted to block after block of voxels.

    Parameters
    ----------
    matrix : (T, P) design with a constant among its columns' combinations
    contrasts : (C, P)
    rank : of the matrix (found if not given)

    Notes
    -----
    A voxel's result depends on its own course alone, whatever block it comes in.
    """

    def __init__(self, matrix: Float, contrasts: Float, *, rank: int | None = None) -> None:
        self.matrix = np.asarray(matrix, dtype=np.float64)
        self.contrasts = np.atleast_2d(np.asarray(contrasts, dtype=np.float64))
        if self.contrasts.shape[1] != self.matrix.shape[1]:
            raise ValueError(
                f"contrasts of {self.contrasts.shape[1]} weights, design of {self.matrix.shape[1]} columns"
            )
        self.dof = self.matrix.shape[0] - (int(np.linalg.matrix_rank(self.matrix)) if rank is None else rank)
        if self.dof < 1:
            raise ValueError(f"a design of {self.matrix.shape[0]} rows leaves no degree of freedom")
        self._white = self._solve(0.0)
        self._cache: dict[float, _Whitened] = {0.0: self._white}

    def _solve(self, rho: float) -> _Whitened:
        from nilearn.glm.regression import ARModel

        model = ARModel(self.matrix, rho)
        factors = np.einsum("cp,pq,cq->c", self.contrasts, model.normalized_cov_beta, self.contrasts)
        return _Whitened(design=model.whitened_design, inverse=model.calc_beta, factors=factors)

    def _whitened(self, rho: float) -> _Whitened:
        found = self._cache.get(rho)
        if found is None:
            found = self._solve(rho)
            if (len(self._cache) + 1) * 2 * self.matrix.nbytes <= _CACHE_BYTES:
                self._cache[rho] = found
        return found

    def fit(self, courses: npt.NDArray[np.floating]) -> ContrastEstimates:
        """Estimate every contrast in every voxel.

        Parameters
        ----------
        courses : (T, N) unfiltered signal
        """
        count, n = len(self.contrasts), courses.shape[1]
        effect, variance = np.zeros((count, n)), np.zeros((count, n))
        y = np.asarray(courses, dtype=np.float64)
        largest = np.abs(y).max(axis=0, initial=0.0)
        y = y - y.mean(axis=0)
        residuals = y - self._white.design @ (self._white.inverse @ y)
        moving = np.flatnonzero(y.std(axis=0) > FLAT * largest)
        fitted = np.linalg.norm(residuals[:, moving], axis=0) <= 1e-9 * np.linalg.norm(y[:, moving], axis=0)
        coefficients = np.zeros(len(moving))
        coefficients[~fitted] = ar1_coefficients(residuals[:, moving[~fitted]])
        order = np.argsort(coefficients, kind="stable")
        moving, coefficients = moving[order], coefficients[order]
        del residuals
        y = y[:, moving]
        starts = np.flatnonzero(np.r_[True, np.diff(coefficients) != 0]) if len(moving) else np.zeros(0, dtype=int)
        for start, stop in zip(starts, [*starts[1:], len(moving)], strict=True):
            found = self._fit_bin(y[:, start:stop], float(coefficients[start]))
            effect[:, moving[start:stop]], variance[:, moving[start:stop]] = found
        t = np.divide(effect, np.sqrt(variance), out=np.zeros_like(effect), where=variance > 0)
        return ContrastEstimates(effect=effect, variance=variance, t=t, dof=self.dof)

    def _fit_bin(self, y: Float, rho: float) -> tuple[Float, Float]:
        """Effect and variance of voxels that share one coefficient."""
        model = self._whitened(rho)
        whitened = y.copy()
        whitened[1:] -= rho * y[:-1]
        beta = model.inverse @ whitened
        whitened -= model.design @ beta
        dispersion = np.einsum("tn,tn->n", whitened, whitened) / self.dof
        return self.contrasts @ beta, model.factors[:, None] * dispersion
