"""Maps of quality control from effects files: detail that does not repeat, and ensemble uncertainty.

Members of an ensemble differ in the seed of their training only. Their standard deviation shows what chance in training
decides; what all members share (the same pair, the same method, the same blind spot) it cannot see. Where the
truth is known the standard deviation is therefore compared with the true error of the ensemble's mean: its correlation
with the error, the share of errors within two standard deviations, and a table by tenths of the standard deviation.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Float, Mask, Real
from bids_sr.metrics.long_tables import MISSING, MetricRow
from bids_sr.stats.controls import unrepeated_detail
from bids_sr.stats.controls.unrepeated_detail import THRESHOLD, DetailError, HighResGrid, unrepeated_share
from bids_sr.stats.glm.block_effects import Effects, load_effects
from bids_sr.stats.group.paired_tests import Running

_TENTHS = 10


class EnsembleError(ValueError):
    """Members that make no ensemble: too few, or on other grids."""


@frozen
class Ensemble:
    """Mean and standard deviation (n - 1) of M members, each (X, Y, Z), in the members' unit."""

    mean: Real
    sd: Real
    count: int


@frozen
class SpreadCalibration:
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


def calibrate(found: Ensemble, truth: Real, mask: Mask, *, n_boot: int = 1000, seed: int = 0) -> SpreadCalibration:
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
    return SpreadCalibration(
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


LOGGER = logging.getLogger(__name__)


@frozen
class ControlMap:
    """One map of quality control, (X, Y, Z), 0 outside the mask, with its sidecar."""

    values: Real
    contrast: str
    stat: str
    series: str
    sidecar: Mapping[str, object]


def _check_grid(effects: Effects, mask: Mask, affine: Float) -> None:
    if effects.mask.shape != mask.shape or not np.allclose(effects.affine, affine, atol=1e-3):
        name, own = effects.series, effects.mask.shape
        raise ValueError(f"effects of {name} lie on another grid ({own}) than the mask ({mask.shape})")


def _whole(effects: Effects, weights: Mapping[str, float], mask: Mask, affine: Float) -> Real | None:
    """Effect of a contrast over the blocks of both halves; None where the contrast cannot be split."""
    _check_grid(effects, mask, affine)
    found = effects.whole(weights)
    return None if found is None else effects.effect(found)


def uncertainty_maps(
    own: Effects, members: Sequence[Path], contrasts: Mapping[str, Mapping[str, float]], mask: Mask, affine: Float, *,
    measured: Effects | None = None, truth: Mapping[str, Real] | None = None, n_boot: int = 1000, seed: int = 0,
) -> tuple[list[MetricRow], list[ControlMap]]:  # fmt: skip
    """Spread of the effect between members of an ensemble, and how it predicts their true error.

    Parameters
    ----------
    own, members : effects of the method, and effects files of the further members, of which one is held at a time
    mask, affine : brain on the high-resolution grid; ValueError for effects on another
    measured : effects of the measured series
    truth : known activation by contrast, (X, Y, Z) in signal units on that grid
    n_boot, seed : of the intervals

    Raises
    ------
    EnsembleError : fewer than two members
    """
    if not members:
        raise EnsembleError("an ensemble of 1 has no spread; ask for --n-ensemble 2 or more")
    method = own.series
    rows: list[MetricRow] = []
    maps: list[ControlMap] = []
    for name, weights in contrasts.items():
        further = (load_effects(path) for path in members)
        effects = (_whole(each, weights, mask, affine) for each in chain([own], further))
        known = [effect for effect in effects if effect is not None]
        if len(known) < 2:
            LOGGER.warning("%s: contrast %s cannot be made of the blocks; it has no uncertainty map", method, name)
            continue
        found = ensemble(known)
        common: dict[str, Any] = {"series": method, "contrast": name, "region": "brain"}
        rows.append(MetricRow(measure="ensemble_sd", value=float(np.median(found.sd[mask])), n=found.count, **common))
        against: dict[str, Real] = {}
        if measured is not None and (target := _whole(measured, weights, mask, affine)) is not None:
            against["measured"] = target
        if truth is not None and name in truth:
            against["truth"] = truth[name]
        tables = {}
        for label, target in against.items():
            fit = calibrate(found, target, mask, n_boot=n_boot, seed=seed)
            for measure, value, (lower, upper), n in (
                ("ensemble_r", fit.r, fit.r_interval, fit.n_slices),
                ("ensemble_coverage", fit.coverage, fit.coverage_interval, fit.n_slices),
                ("ensemble_nominal", fit.nominal, (np.nan, np.nan), None),
            ):
                rows.append(
                    MetricRow(measure=measure, value=value, lower=lower, upper=upper, n=n, against=label, **common)
                )
            tables[label] = [_plain(tenth) for tenth in fit.tenths]
        values = np.where(mask, found.sd, 0).astype(np.float32)
        sidecar = _sd_sidecar(found.count, weights, tables)
        maps.append(ControlMap(values=values, contrast=name, stat="sd", series=method, sidecar=sidecar))
    return rows, maps


def _sd_sidecar(count: int, weights: Mapping[str, float], tables: Mapping[str, object]) -> dict[str, object]:
    text = (
        "Standard deviation of the effect between members of an ensemble that differ in the seed of training. It shows "
        "what chance in training decides and is blind to errors that all members share"
    )
    out: dict[str, object] = {
        "Description": text, "Units": "arbitrary", "EnsembleMembers": count, "ContrastWeights": dict(weights),
    }  # fmt: skip
    if tables:
        out["Reliability"] = {
            "Description": "Voxels in tenths of the standard deviation: its root mean square, that of the true error "
            "of the mean, the share of errors within two standard deviations, and voxels; by what the error is against",
            **tables,
        }
    return out


def _plain(tenth: Mapping[str, float]) -> dict[str, float | str]:
    """A row for JSON, five digits, whole numbers whole."""
    return {
        key: value if isinstance(value, int) else float(f"{value:.5g}") if isfinite(value) else MISSING
        for key, value in tenth.items()
    }


def unrepeated_maps(
    effects: Effects, contrasts: Mapping[str, Mapping[str, float]], mask: Mask, affine: Float,
    factor: tuple[float, float, float], *, guide: Real | None = None, seed: int = 0,
) -> tuple[list[MetricRow], list[ControlMap]]:  # fmt: skip
    """Unrepeated fine detail of one series: in its mean image, in each contrast, and both as one map a contrast.

    Parameters
    ----------
    effects : of the series
    contrasts, mask, affine : as `uncertainty_maps` takes them
    factor : acquired over high-resolution voxel along each axis
    guide : high-resolution image of the pair on the grid of the mask, in any intensity; None: there is none, and only
        time can support detail
    seed : of the sign flips

    Raises
    ------
    DetailError : see `bids_sr.stats.controls.unrepeated_detail`; ValueError : effects on another grid
    """
    _check_grid(effects, mask, affine)
    grid = HighResGrid(mask=mask, zooms=effects.zooms, factor=factor)
    series = effects.series
    guided = None if guide is None else to_intensity(guide, effects.mean, grid)
    rows: list[MetricRow] = []
    static: Real = np.zeros(mask.shape)
    if guided is not None:
        static = unrepeated_detail.mean_detail(effects.mean, guided, grid)
        share = unrepeated_share(static, mask)
        rows.append(MetricRow(series=series, measure="unrepeated_share", value=share, region="brain"))
    maps = []
    for name, weights in contrasts.items():
        halves = effects.halves(weights)
        if halves is None:
            LOGGER.info("%s: contrast %s cannot be split; its detail is not checked", series, name)
            continue
        betas = np.moveaxis(effects.betas, 3, 0)
        first, second = (unrepeated_detail.block_terms(betas, half) for half in halves)
        dynamic = unrepeated_detail.effect_detail(first, second, grid, guided=guided, seed=seed)
        share, count = unrepeated_share(dynamic, mask), len(first) + len(second)
        rows.append(
            MetricRow(series=series, contrast=name, measure="unrepeated_share", value=share, region="brain", n=count)
        )
        sidecar = _unrepeated_sidecar(share, unrepeated_share(static, mask), guided is not None, weights)
        both = np.maximum(static, dynamic).astype(np.float32)
        maps.append(ControlMap(values=both, contrast=name, stat="unrepeated", series=series, sidecar=sidecar))
    return rows, maps


def to_intensity(guide: Real, mean: Real, grid: HighResGrid) -> Real:
    """The pair's image times one factor: least squares to the mean image, in the acquired band, in the mask."""
    if guide.shape != mean.shape:
        raise DetailError(f"a guide of {guide.shape} voxels and a mean of {mean.shape}")
    low, target = ((image - grid.detail(image))[grid.mask] for image in (guide, mean))
    power = float(low @ low)
    if power == 0:
        raise DetailError("the high-resolution image is empty in the mask")
    return np.asarray(guide * (float(low @ target) / power))


def _unrepeated_sidecar(
    dynamic: float, static: float, has_pair: bool, weights: Mapping[str, float]
) -> dict[str, object]:
    text = (
        "Share of local energy (0 to 1) that is fine detail, beyond the acquired Nyquist limit, which does not "
        "repeat: in the effect, where the halves of the blocks do not agree"
    )
    text += (
        " and it does not follow the high-resolution image of the pair; in the mean image, where it is not that "
        "image's detail; the larger of both"
        if has_pair
        else "; there is no pair, so the mean image was not judged"
    )
    return {
        "Description": f"{text}. Wrong detail made alike in both halves is not seen", "Units": "1",
        "Threshold": THRESHOLD, "ShareAboveThresholdEffect": round(dynamic, 6),
        "ShareAboveThresholdMean": round(static, 6) if has_pair else "n/a", "ContrastWeights": dict(weights),
    }  # fmt: skip
