"""Maps and figures of the guards from effects files: where an ensemble disagrees, and what detail does not repeat."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bids_sr.metrics.long_tables import MetricRow
from bids_sr.stats.controls.uncertainty import Calibration, EnsembleError, calibrate, ensemble
from bids_sr.stats.controls.unrepeated_detail import (
    THRESHOLD,
    DetailError,
    FineGrid,
    block_terms,
    effect_detail,
    mean_detail,
    unrepeated_share,
)
from bids_sr.stats.glm.block_effects import Effects, load_effects

Map = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float64]
LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardMap:
    """One map of a guard, (X, Y, Z), 0 outside the mask, with what it says of itself."""

    values: Map
    contrast: str
    stat: str
    series: str
    sidecar: Mapping[str, Any]


def _whole(effects: Effects, weights: Mapping[str, float]) -> Map | None:
    """Effect of a contrast over the blocks of both halves; None where the contrast cannot be split."""
    halves = effects.halves(weights)
    return None if halves is None else effects.effect(halves.mean(axis=0))


def _on_grid(effects: Effects, mask: Mask, affine: Float, path: Path) -> Effects:
    if effects.mask.shape != mask.shape or not np.allclose(effects.affine, affine, atol=1e-3):
        raise ValueError(f"{path}: effects on another grid ({effects.mask.shape}) than the mask ({mask.shape})")
    return effects


def uncertainty_maps(
    members: Sequence[Path],
    method: str,
    contrasts: Mapping[str, Mapping[str, float]],
    mask: Mask,
    affine: Float,
    *,
    measured: Path | None = None,
    truth: Mapping[str, Map] | None = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> tuple[list[MetricRow], list[GuardMap]]:
    """Spread of the effect between members of an ensemble, and how it stands to their true error.

    Parameters
    ----------
    members : effects files, that of the method itself among them
    method : name of the series whose ensemble this is
    contrasts : name to weights of trial types
    mask, affine : brain on the high-resolution grid
    measured : effects file of the measured series
    truth : known activation by contrast, (X, Y, Z) in signal units on that grid
    n_boot, seed : of the intervals

    Raises
    ------
    EnsembleError : fewer than two members
    ValueError : a file on another grid
    """
    if len(members) < 2:
        raise EnsembleError(f"an ensemble of {len(members)} has no spread; ask for --n-ensemble 2 or more")
    rows: list[MetricRow] = []
    maps: list[GuardMap] = []
    for name, weights in contrasts.items():
        effects = (_whole(_on_grid(load_effects(path), mask, affine, path), weights) for path in members)
        known = [effect for effect in effects if effect is not None]
        if len(known) < 2:
            LOGGER.warning("%s: contrast %s cannot be made of the blocks; it has no uncertainty map", method, name)
            continue
        found = ensemble(known)
        share: dict[str, Any] = {"series": method, "contrast": name, "region": "brain"}
        rows.append(MetricRow(measure="ensemble_sd", value=float(np.median(found.sd[mask])), n=found.count, **share))
        against: dict[str, Map] = {}
        if measured is not None:
            target = _whole(_on_grid(load_effects(measured), mask, affine, measured), weights)
            against |= {} if target is None else {"measured": target}
        if truth is not None and name in truth:
            against["truth"] = truth[name]
        tables = {}
        for label, target in against.items():
            calibration = calibrate(found, target, mask, n_boot=n_boot, seed=seed)
            rows += _calibration_rows(calibration, label, share)
            tables[label] = [asdict(tenth) for tenth in calibration.tenths]
        maps.append(
            GuardMap(
                values=np.where(mask, found.sd, 0).astype(np.float32), contrast=name, stat="sd", series=method,
                sidecar=_sd_sidecar(found.count, weights, tables),
            )
        )  # fmt: skip
    return rows, maps


def _calibration_rows(found: Calibration, against: str, share: Mapping[str, Any]) -> list[MetricRow]:
    common = {**share, "against": against}
    return [
        MetricRow(
            measure="ensemble_r", value=found.r, lower=found.r_interval[0], upper=found.r_interval[1],
            n=found.n_slices, **common,
        ),
        MetricRow(
            measure="ensemble_coverage", value=found.coverage, lower=found.coverage_interval[0],
            upper=found.coverage_interval[1], n=found.n_slices, **common,
        ),
        MetricRow(measure="ensemble_nominal", value=found.nominal, **common),
    ]  # fmt: skip


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
            **{label: _plain(table) for label, table in tables.items()},
        }
    return out


def _plain(table: Sequence[Mapping[str, float]]) -> list[dict[str, float | str]]:
    """Rows for JSON, five digits, whole numbers whole."""

    def cell(value: float) -> float | str:
        if isinstance(value, int):
            return value
        return float(f"{value:.5g}") if isfinite(value) else "n/a"

    return [{key: cell(value) for key, value in row.items()} for row in table]


def unrepeated_maps(
    effects_file: Path,
    contrasts: Mapping[str, Mapping[str, float]],
    mask: Mask,
    affine: Float,
    factor: tuple[float, float, float],
    *,
    guide: Map | None = None,
    seed: int = 0,
) -> tuple[list[MetricRow], list[GuardMap]]:
    """Unrepeated fine detail of one series: in its mean image, in each contrast, and both as one map a contrast.

    Parameters
    ----------
    effects_file : of the series
    contrasts, mask, affine : as `uncertainty_maps` takes them
    factor : acquired over fine voxel along each axis
    guide : fine image of the pair on the grid of the mask, in any intensity; None: there is none, and only time can
        support detail
    seed : of the sign flips

    Raises
    ------
    DetailError : see `stats.unrepeated`
    ValueError : a file on another grid
    """
    effects = _on_grid(load_effects(effects_file), mask, affine, effects_file)
    grid = FineGrid(mask=mask, zooms=effects.zooms, factor=factor)
    series = effects.series
    guided = None if guide is None else to_intensity(guide, effects.mean, grid)
    rows: list[MetricRow] = []
    static: Map = np.zeros(mask.shape)
    if guided is not None:
        static = mean_detail(effects.mean, guided, grid)
        share = unrepeated_share(static, mask)
        rows.append(MetricRow(series=series, measure="unrepeated_share", value=share, region="brain"))
    maps = []
    for name, weights in contrasts.items():
        halves = effects.halves(weights)
        if halves is None:
            LOGGER.warning("%s: contrast %s cannot be split; its detail is not looked at", series, name)
            continue
        betas = np.moveaxis(effects.betas, 3, 0)
        first, second = (block_terms(betas, half) for half in halves)
        dynamic = effect_detail(first, second, grid, guided=guided, seed=seed)
        share, count = unrepeated_share(dynamic, mask), len(first) + len(second)
        rows.append(
            MetricRow(series=series, contrast=name, measure="unrepeated_share", value=share, region="brain", n=count)
        )
        sidecar = _unrepeated_sidecar(share, unrepeated_share(static, mask), guided is not None, weights)
        both = np.maximum(static, dynamic).astype(np.float32)
        maps.append(GuardMap(values=both, contrast=name, stat="unrepeated", series=series, sidecar=sidecar))
    return rows, maps


def to_intensity(guide: Map, mean: Map, grid: FineGrid) -> Map:
    """The pair's fine image times one factor: least squares to the mean image, in the acquired band, in the mask."""
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
        "Description": f"{text}. Wrong detail made alike in both halves is not seen",
        "Units": "1",
        "Threshold": THRESHOLD,
        "ShareAboveThresholdEffect": round(dynamic, 6),
        "ShareAboveThresholdMean": round(static, 6) if has_pair else "n/a",
        "ContrastWeights": dict(weights),
    }
