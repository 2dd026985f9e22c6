"""Precision of the contrasts of a run, computed from its events before any image is read.

Variances are computed for ordinary least squares and noise of variance one. They depend only on
the events and the volumes, and decide which default contrasts are worth computing.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.glm.contrasts import Contrast
from bids_sr.io.arrays import Float

TimeSpan = tuple[float, float]
"""Onset and duration of an event (s)."""

RESPONSE_S = 32.0  # s after the end of an event; the hemodynamic response has then faded
LEAST_SHARE = 0.1
"""Smallest share of the response that is observed, relative to the type with the largest share."""
LARGEST_RATIO = 2.0
"""Largest ratio of standard errors of the mean over types with and without a type."""
LARGEST_INFLATION = 100.0
"""Largest ratio of the variance of a contrast and its variance for uncorrelated types."""
_ROUNDING = 1e-6  # length of a regressor that is removed completely, relative to its length
_NULL = 1e-8  # eigenvalue of the correlation matrix of regressors; smaller ones are collinear
_LEAK = 1e-4  # largest share of a contrast along collinear directions
_INVOLVED = 0.2  # smallest entry of a unit eigenvector for a type that is involved


@frozen
class TypeInformation:
    """Regressors of the trial types of a run, apart from confounds and drift.

    Attributes
    ----------
    conditions : tuple[str, ...]
        Trial types with a regressor.
    scale : ndarray
        Length of each regressor after removal of all other columns (n,); 0 if nothing is left.
    complete : ndarray
        Length of each regressor in a run that would contain the whole response (n,).
    values, vectors : ndarray
        Eigenvalues (n,) and eigenvectors (n, n) of the correlations of the regressors.
    """

    conditions: tuple[str, ...]
    scale: Float
    complete: Float
    values: Float
    vectors: Float

    def variance(self, weights: Mapping[str, float]) -> float:
        """Return the variance of a contrast; infinite if the contrast cannot be estimated."""
        return self._variances(weights)[0]

    def inflation(self, weights: Mapping[str, float]) -> float:
        """Return the variance of a contrast relative to uncorrelated regressors."""
        actual, uncorrelated = self._variances(weights)
        return actual / uncorrelated if math.isfinite(actual) else math.inf

    def _variances(self, weights: Mapping[str, float]) -> tuple[float, float]:
        if any(weight and name not in self.conditions for name, weight in weights.items()):
            return math.inf, math.inf
        vector = np.array([weights.get(name, 0.0) for name in self.conditions])
        if not (self.scale[vector != 0] > 0).all():
            return math.inf, math.inf
        vector = np.divide(vector, self.scale, out=np.zeros_like(vector), where=self.scale > 0)
        projection, norm = self.vectors.T @ vector, float(vector @ vector)
        is_null = self.values < _NULL
        if float((projection[is_null] ** 2).sum()) > _LEAK**2 * norm:
            return math.inf, norm
        return float((projection[~is_null] ** 2 / self.values[~is_null]).sum()), norm

    def shares(self) -> dict[str, float]:
        """Return the share of each type's response that the run contains, by energy."""
        complete = np.where(self.complete > 0, self.complete, 1.0)
        return dict(zip(self.conditions, ((self.scale / complete) ** 2).tolist(), strict=True))

    def faint_types(self, minimum: float = LEAST_SHARE) -> dict[str, float]:
        """Return the observed share of the response, for types with a very small share.

        `minimum` is the smallest share relative to the type with the largest share.
        """
        shares = self.shares()
        largest = max(shares.values(), default=0.0)
        return {name: share for name, share in shares.items() if share < minimum * largest}

    def dominating_types(
        self, types: Sequence[str], largest: float = LARGEST_RATIO
    ) -> dict[str, float]:
        """Return the types that greatly increase the standard error of the mean over types.

        Types are left out one by one. A type that cannot be separated from other types is not the
        cause, and is not included.

        Parameters
        ----------
        types : Sequence[str]
            Types over which the mean is taken.
        largest : float
            Largest accepted ratio of the standard errors with and without a type.

        Returns
        -------
        dict[str, float]
            Ratio of the standard errors by type, in the order of removal.
        """
        kept_types, left_out = list(types), dict[str, float]()
        while len(kept_types) > 1:
            mean_variance = self.variance(_mean(kept_types))
            if not math.isfinite(mean_variance):
                break
            ratios = {
                name: math.sqrt(
                    mean_variance
                    / self.variance(
                        _mean(other_name for other_name in kept_types if other_name != name)
                    )
                )
                for name in kept_types
                if self.inflation({name: 1.0}) <= LARGEST_INFLATION
            }
            name = max(ratios, key=ratios.__getitem__, default="")
            if not name or ratios[name] <= largest:
                break
            kept_types.remove(name)
            left_out[name] = ratios[name]
        return left_out

    def inseparable_types(self) -> tuple[str, ...]:
        """Return the types whose regressors are nearly a mixture of other regressors."""
        is_small = self.values < 1 / LARGEST_INFLATION
        involved = np.abs(self.vectors[:, is_small]).max(axis=1, initial=0.0)
        return tuple(
            name
            for name, size, length in zip(self.conditions, involved, self.scale, strict=True)
            if size > _INVOLVED and length > 0
        )


def _mean(types: Iterable[str]) -> Contrast:
    names = list(types)
    return dict.fromkeys(names, 1.0 / len(names))


def measure_information(
    matrix: Float, conditions: Sequence[str], outside: Mapping[str, float]
) -> TypeInformation:
    """Return the information of a design about its trial types.

    Parameters
    ----------
    matrix : Float
        Design matrix (rows, columns); conditions are the first columns.
    conditions : Sequence[str]
        Names of these columns.
    outside : Mapping[str, float]
        Sum of squares of the response to each type before and after the run, sampled as the run.
    """
    regressors, other_columns = matrix[:, : len(conditions)], matrix[:, len(conditions) :]
    rest = regressors - other_columns @ np.linalg.lstsq(other_columns, regressors, rcond=None)[0]
    energy = (regressors**2).sum(axis=0)
    scale = np.sqrt((rest**2).sum(axis=0))
    scale[scale <= _ROUNDING * np.sqrt(energy)] = 0.0  # nothing but rounding is left
    unit = np.divide(rest, scale, out=np.zeros_like(rest), where=scale > 0)
    values, vectors = np.linalg.eigh(unit.T @ unit)
    complete = np.sqrt(energy + [outside.get(name, 0.0) for name in conditions])
    return TypeInformation(
        conditions=tuple(conditions),
        scale=scale,
        complete=complete,
        values=values,
        vectors=vectors,
    )


def spans_near_run(
    spans: Mapping[str, Sequence[TimeSpan]], end: float
) -> dict[str, list[TimeSpan]]:
    """Return the events whose response can reach a run, cut at its end and before its start.

    `end` is the end of the run (s).
    """
    return {
        name: [
            (max(onset, -RESPONSE_S), min(onset + duration, end) - max(onset, -RESPONSE_S))
            for onset, duration in events
            if onset + duration > -RESPONSE_S and onset < end
        ]
        for name, events in spans.items()
    }


def times_outside_run(first: float, end: float, tr: float) -> Float:
    """Return times (s) before and after a run; responses beyond these times are 0.

    `first` is the time of the first volume, `end` is the end of the run (s).
    """
    count = math.ceil(RESPONSE_S / tr)
    steps = tr * np.arange(1, count + 1)
    return np.concatenate([(first - steps)[::-1], max(first, end - tr) + steps])
