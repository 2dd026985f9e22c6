"""Precision of the contrasts of a run, computed from its events before any image is read.

Variances are computed for ordinary least squares and noise of variance one. They depend only on
the events and the volumes, and decide which default contrasts are worth computing.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bids_sr.glm.contrasts import Contrast
from bids_sr.glm.hemodynamic_response import RESPONSE_S
from bids_sr.io.arrays import Float
from bids_sr.io.frozen import frozen

TimeSpan = tuple[float, float]
"""Onset and duration of an event (s)."""

LEAST_SHARE = 0.1
"""Smallest share of the response that is observed, relative to the type with the largest share."""
LEAST_OBSERVED_SHARE = 0.15
"""Smallest share of the response that a run should contain apart from its mean and drift."""
LARGEST_RATIO = 2.0
"""Largest ratio of standard errors of the mean over types with and without a type."""
LARGEST_INFLATION = 8.0**2
"""Largest ratio of the variance of a default contrast and its variance with rest."""
NOTED_INFLATION = 3.0**2
"""Ratio of these variances above which the loss of precision is reported."""
# length that is left of a regressor without information, relative to its length
_NEGLIGIBLE_LENGTH = 0.01
# eigenvalue of the correlation matrix of regressors; directions with smaller values are collinear
_MIN_EIGENVALUE = 1e-8
_MAX_LEAK = 1e-4  # largest share of a contrast along collinear directions


@frozen
class TypeInformation:
    """Regressors of the trial types of a run, apart from confounds and drift.

    `conditions` are the trial types with a regressor. `lengths` are the lengths of the regressors
    after removal of all other columns (n,); 0 if nothing is left. `whole_lengths` are the lengths
    before removal, and `complete_lengths` the lengths in a run that would contain the whole
    response (n,). `eigenvalues` (n,) and `eigenvectors` (n, n) belong to the correlations of the
    regressors. `reference` is the covariance of the effects with rest after each event (n, n);
    None for uncorrelated regressors of these lengths.
    """

    conditions: tuple[str, ...]
    lengths: Float
    whole_lengths: Float
    complete_lengths: Float
    eigenvalues: Float
    eigenvectors: Float
    reference: Float | None = None

    def variance(self, weights: Mapping[str, float]) -> float:
        """Return the variance of a contrast; infinite if the contrast cannot be estimated."""
        return self._compute_variances(weights)[0]

    def inflation(self, weights: Mapping[str, float]) -> float:
        """Return the variance of a contrast relative to its variance with rest."""
        variance, reference_variance = self._compute_variances(weights)
        if self.reference is not None:
            vector = np.array([weights.get(name, 0.0) for name in self.conditions])
            reference_variance = float(vector @ self.reference @ vector)
        return variance / reference_variance if math.isfinite(variance) else math.inf

    def _compute_variances(self, weights: Mapping[str, float]) -> tuple[float, float]:
        """Return the variance of a contrast, and its variance for uncorrelated regressors."""
        if any(weight and name not in self.conditions for name, weight in weights.items()):
            return math.inf, math.inf
        vector = np.array([weights.get(name, 0.0) for name in self.conditions])
        if not (self.lengths[vector != 0] > 0).all():
            return math.inf, math.inf
        vector = np.divide(vector, self.lengths, out=np.zeros_like(vector), where=self.lengths > 0)
        projection = self.eigenvectors.T @ vector
        uncorrelated_variance = float(vector @ vector)
        is_collinear = self.eigenvalues < _MIN_EIGENVALUE
        leak = float((projection[is_collinear] ** 2).sum())
        if leak > _MAX_LEAK**2 * uncorrelated_variance:
            return math.inf, uncorrelated_variance
        terms = projection[~is_collinear] ** 2 / self.eigenvalues[~is_collinear]
        return float(terms.sum()), uncorrelated_variance

    def shares(self) -> dict[str, float]:
        """Return the share of each type's response that the run contains, by energy."""
        complete_lengths = np.where(self.complete_lengths > 0, self.complete_lengths, 1.0)
        shares = (self.lengths / complete_lengths) ** 2
        return dict(zip(self.conditions, shares.tolist(), strict=True))

    def faint_types(self) -> dict[str, float]:
        """Return the observed share of the response, for types with a far smaller share."""
        shares = self.shares()
        largest = max(shares.values(), default=0.0)
        return {name: share for name, share in shares.items() if share < LEAST_SHARE * largest}

    def weak_types(self) -> dict[str, float]:
        """Return the observed share of the response, for types with a small share above 0."""
        return {
            name: share
            for name, share in self.shares().items()
            if 0 < share < LEAST_OBSERVED_SHARE
        }

    def is_outside_run(self, name: str) -> bool:
        """Return whether most of the response to a type is before or after the run, by energy."""
        index = self.conditions.index(name)
        return bool(2 * self.whole_lengths[index] ** 2 < self.complete_lengths[index] ** 2)

    def dominating_types(self, types: Sequence[str]) -> dict[str, float]:
        """Return the types that greatly increase the standard error of the mean over types.

        Types are left out one by one. A type that cannot be separated from other types is not the
        cause, and is not included. Returns the ratio of the standard errors with and without a
        type, in the order of removal.
        """
        remaining_types, removed_ratios = list(types), dict[str, float]()
        while len(remaining_types) > 1:
            mean_variance = self.variance(_average_types(remaining_types))
            if not math.isfinite(mean_variance):
                break
            ratios: dict[str, float] = {}
            for name in remaining_types:
                if self.inflation({name: 1.0}) <= LARGEST_INFLATION:
                    other_types = [other for other in remaining_types if other != name]
                    variance_without_type = self.variance(_average_types(other_types))
                    ratios[name] = math.sqrt(mean_variance / variance_without_type)
            dominating_type = max(ratios, key=ratios.__getitem__, default="")
            if not dominating_type or ratios[dominating_type] <= LARGEST_RATIO:
                break
            remaining_types.remove(dominating_type)
            removed_ratios[dominating_type] = ratios[dominating_type]
        return removed_ratios


def _average_types(types: Sequence[str]) -> Contrast:
    """Return the weights of the mean over types."""
    return dict.fromkeys(types, 1.0 / len(types))


def measure_information(
    matrix: Float, conditions: Sequence[str], outside: Mapping[str, float]
) -> TypeInformation:
    """Return the information of a design about its trial types.

    `matrix` is the design matrix (rows, columns), and `conditions` are the names of its first
    columns. `outside` is the sum of squares of the response to each type before and after the run,
    sampled as the run.
    """
    regressors, other_columns = matrix[:, : len(conditions)], matrix[:, len(conditions) :]
    fit = other_columns @ np.linalg.lstsq(other_columns, regressors, rcond=None)[0]
    residuals = regressors - fit
    energies = (regressors**2).sum(axis=0)
    lengths = np.sqrt((residuals**2).sum(axis=0))
    lengths[lengths <= _NEGLIGIBLE_LENGTH * np.sqrt(energies)] = 0.0
    unit = np.divide(residuals, lengths, out=np.zeros_like(residuals), where=lengths > 0)
    eigenvalues, eigenvectors = np.linalg.eigh(unit.T @ unit)
    return TypeInformation(
        conditions=tuple(conditions),
        lengths=lengths,
        whole_lengths=np.sqrt(energies),
        complete_lengths=np.sqrt(energies + [outside.get(name, 0.0) for name in conditions]),
        eigenvalues=eigenvalues,
        eigenvectors=eigenvectors,
    )


def spans_near_run(
    spans: Mapping[str, Sequence[TimeSpan]], end: float
) -> dict[str, list[TimeSpan]]:
    """Return the events whose response can reach a run, cut at its end and before its start.

    `end` is the end of the run (s).
    """
    nearby_spans: dict[str, list[TimeSpan]] = {name: [] for name in spans}
    for name, events in spans.items():
        for onset, duration in events:
            if onset + duration > -RESPONSE_S and onset < end:
                start = max(onset, -RESPONSE_S)
                nearby_spans[name].append((start, min(onset + duration, end) - start))
    return nearby_spans
