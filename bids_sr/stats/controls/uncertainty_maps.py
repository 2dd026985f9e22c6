"""Quality-control maps and metrics from effects files: ensemble uncertainty, and detail that does not repeat."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from bids_sr.io.array_types import Float, Mask, Real
from bids_sr.metrics.long_tables import MISSING, MetricRow
from bids_sr.stats.controls import unrepeated_detail
from bids_sr.stats.controls.uncertainty import EnsembleError, calibrate, ensemble
from bids_sr.stats.controls.unrepeated_detail import THRESHOLD, DetailError, HighResGrid, unrepeated_share
from bids_sr.stats.glm.block_effects import Effects, load_effects

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlMap:
    """One map of quality control, (X, Y, Z), 0 outside the mask, with its sidecar."""

    values: Real
    contrast: str
    stat: str
    series: str
    sidecar: Mapping[str, Any]


def _load(path: Path, mask: Mask, affine: Float) -> Effects:
    effects = load_effects(path)
    if effects.mask.shape != mask.shape or not np.allclose(effects.affine, affine, atol=1e-3):
        raise ValueError(f"{path}: effects on another grid ({effects.mask.shape}) than the mask ({mask.shape})")
    return effects


def _whole(effects: Effects, weights: Mapping[str, float]) -> Real | None:
    """Effect of a contrast over the blocks of both halves; None where the contrast cannot be split."""
    found = effects.whole(weights)
    return None if found is None else effects.effect(found)


def uncertainty_maps(
    members: Sequence[Path], method: str, contrasts: Mapping[str, Mapping[str, float]], mask: Mask, affine: Float, *,
    measured: Path | None = None, truth: Mapping[str, Real] | None = None, n_boot: int = 1000, seed: int = 0,
) -> tuple[list[MetricRow], list[ControlMap]]:  # fmt: skip
    """Spread of the effect between members of an ensemble, and how it predicts their true error.

    Parameters
    ----------
    members : effects files, that of the method itself among them
    method : name of the series whose ensemble this is
    mask, affine : brain on the high-resolution grid; ValueError for a file on another
    measured : effects file of the measured series
    truth : known activation by contrast, (X, Y, Z) in signal units on that grid
    n_boot, seed : of the intervals

    Raises
    ------
    EnsembleError : fewer than two members
    """
    if len(members) < 2:
        raise EnsembleError(f"an ensemble of {len(members)} has no spread; ask for --n-ensemble 2 or more")
    rows: list[MetricRow] = []
    maps: list[ControlMap] = []
    for name, weights in contrasts.items():
        effects = [_whole(_load(path, mask, affine), weights) for path in members]
        known = [effect for effect in effects if effect is not None]
        if len(known) < 2:
            LOGGER.warning("%s: contrast %s cannot be made of the blocks; it has no uncertainty map", method, name)
            continue
        found = ensemble(known)
        common: dict[str, Any] = {"series": method, "contrast": name, "region": "brain"}
        rows.append(MetricRow(measure="ensemble_sd", value=float(np.median(found.sd[mask])), n=found.count, **common))
        against: dict[str, Real] = {}
        if measured is not None and (target := _whole(_load(measured, mask, affine), weights)) is not None:
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


def _sd_sidecar(count: int, weights: Mapping[str, float], tables: Mapping[str, Any]) -> dict[str, Any]:
    text = (
        "Standard deviation of the effect between members of an ensemble that differ in the seed of training. It shows "
        "what chance in training decides and is blind to errors that all members share"
    )
    out: dict[str, Any] = {
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
    effects_file: Path, contrasts: Mapping[str, Mapping[str, float]], mask: Mask, affine: Float,
    factor: tuple[float, float, float], *, guide: Real | None = None, seed: int = 0,
) -> tuple[list[MetricRow], list[ControlMap]]:  # fmt: skip
    """Unrepeated fine detail of one series: in its mean image, in each contrast, and both as one map a contrast.

    Parameters
    ----------
    effects_file : of the series
    contrasts, mask, affine : as `uncertainty_maps` takes them
    factor : acquired over high-resolution voxel along each axis
    guide : high-resolution image of the pair on the grid of the mask, in any intensity; None: there is none, and only
        time can support detail
    seed : of the sign flips

    Raises
    ------
    DetailError : see `bids_sr.stats.controls.unrepeated_detail`; ValueError : a file on another grid
    """
    effects = _load(effects_file, mask, affine)
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


def _unrepeated_sidecar(dynamic: float, static: float, has_pair: bool, weights: Mapping[str, float]) -> dict[str, Any]:
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
