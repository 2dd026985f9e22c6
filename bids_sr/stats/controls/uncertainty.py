"""Ensemble uncertainty: how far members disagree, and whether that predicts the error of their mean.

Members differ in the seed of their training only. Their standard deviation shows what chance in training decides; what
all members share (the same pair, the same method, the same blind spot) it cannot see. Where the truth is known the
standard deviation is therefore compared with the true error of the ensemble's mean: its correlation with the error, the
share of errors within two standard deviations, and a table by tenths of the standard deviation.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import special

from bids_sr.io.array_types import Float, Mask, Real
from bids_sr.stats.group.second_level import Running

_TENTHS = 10


class EnsembleError(ValueError):
    """Members that make no ensemble: too few, or on other grids."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ensemble:
    """Mean and standard deviation (n - 1) of M members, each (X, Y, Z), in the members' unit."""

    mean: Real
    sd: Real
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """The ensemble's standard deviation against the true error of its mean."""

    r: float  # Pearson correlation of standard deviation and absolute error; NaN where either is constant
    coverage: float  # share of voxels whose error is at most two standard deviations
    nominal: float  # the share if the truth were one more member, see `nominal_coverage`
    # r_interval, coverage_interval: 95 % of resampled slices (neighbors within a slice are not independent)
    r_interval: tuple[float, float]
    coverage_interval: tuple[float, float]
    n_slices: int  # slices that were resampled
    tenths: list[dict[str, float]]  # see `reliability`


def ensemble(members: Iterable[Real]) -> Ensemble:
    """Mean and standard deviation between members, one in memory at a time (Welford's update).

    EnsembleError for fewer than two members, or grids that differ.
    """
    running = None
    for number, member in enumerate(members):
        values = np.asarray(member, dtype=np.float64)
        running = running or Running.of(values.shape)
        if values.shape != running.mean.shape:
            raise EnsembleError(f"members of {running.mean.shape} and {values.shape} voxels")
        running.add(values, str(number))
    count = len(running.people) if running else 0
    if running is None or count < 2:
        raise EnsembleError(f"an ensemble of {count} has no spread; ask for --n-ensemble 2 or more")
    return Ensemble(mean=running.mean, sd=np.sqrt(running.squares / (count - 1)), count=count)


def nominal_coverage(count: int) -> float:
    """Share of errors within two standard deviations if truth and members came from one normal distribution.

    The error of the mean of M members then has variance (1 + 1/M) of theirs, and over their own standard deviation it
    follows t with M - 1 degrees of freedom.

    Examples
    --------
    >>> round(nominal_coverage(3), 2), round(nominal_coverage(1000), 2)
    (0.77, 0.95)
    """
    return float(2 * special.stdtr(count - 1, 2 / np.sqrt(1 + 1 / count)) - 1)


def calibrate(found: Ensemble, truth: Real, mask: Mask, *, n_boot: int = 1000, seed: int = 0) -> Calibration:
    """Compare an ensemble's standard deviation with the true error of its mean, in the voxels of a mask.

    A truth (X, Y, Z) that was measured has noise, which is part of the error, so that coverage is understated. `n_boot`
    resamples of slices give the intervals. EnsembleError for an empty mask or another grid.
    """
    if found.sd.shape != truth.shape or mask.shape != truth.shape:
        raise EnsembleError(f"ensemble {found.sd.shape}, truth {truth.shape} and mask {mask.shape} are on other grids")
    if not mask.any():
        raise EnsembleError("the mask of the calibration is empty")
    sd, error = found.sd[mask], np.abs(found.mean[mask] - truth[mask].astype(np.float64))
    # sums by slice, from which correlation and coverage of any selection of slices follow
    terms = (np.ones(len(sd)), sd, error, sd * sd, error * error, sd * error, (error <= 2 * sd).astype(float))
    sums = np.stack([np.bincount(np.nonzero(mask)[2], weights=term) for term in terms], axis=1)
    sums = sums[sums[:, 0] > 0]
    rng = np.random.default_rng(seed)
    drawn = np.array([_agreement(sums[rng.integers(len(sums), size=len(sums))].sum(0)) for _ in range(n_boot)])
    r, coverage = _agreement(sums.sum(0))
    intervals = [_interval(drawn[:, k]) if len(sums) > 1 and n_boot else (np.nan, np.nan) for k in (0, 1)]
    return Calibration(
        r=r, coverage=coverage, nominal=nominal_coverage(found.count), r_interval=intervals[0],
        coverage_interval=intervals[1], n_slices=len(sums), tenths=reliability(sd, error),
    )  # fmt: skip


def _agreement(sums: Float) -> tuple[float, float]:
    """(correlation, coverage) of the sums of some slices."""
    n, x, y, xx, yy, xy, within = sums
    spread = (xx - x * x / n) * (yy - y * y / n)
    tiny = 1e-12 * xx * yy
    return (float((xy - x * y / n) / np.sqrt(spread)) if spread > tiny else float("nan")), float(within / n)


def _interval(values: Float) -> tuple[float, float]:
    """Middle 95 % of what is defined."""
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, [2.5, 97.5]) if known.size else (np.nan, np.nan)
    return float(low), float(high)


def reliability(sd: Real, error: Real) -> list[dict[str, float]]:
    """Tenths of the standard deviation from the smallest on: root mean squares of it and of the error, coverage, n.

    Where the ensemble is calibrated both are equal. Coverage is the share of errors within two standard deviations.
    """
    parts = [part for part in np.array_split(np.argsort(sd, kind="stable"), _TENTHS) if len(part)]
    return [
        {
            "sd": float(np.sqrt(np.mean(sd[part] ** 2))), "error": float(np.sqrt(np.mean(error[part] ** 2))),
            "coverage": float(np.mean(error[part] <= 2 * sd[part])), "n": len(part),
        }
        for part in parts
    ]  # fmt: skip
