"""Agreement of whole-run maps with the measured high-resolution series or with known activation.

Measured: maps at one smoothing against its maps at the same smoothing. Both contain the same
physiology, and where the acquired series was made of the measured one, the same noise: these
metrics say how alike the maps are, split halves how much of that is signal. Known activation has
no noise and is never smoothed; truly active is 25 % of its maximum and more, and how well voxels
are found is asked of it alone. Of seeds, voxels count as connected where their correlation is .5
or more (TV self-supervision, section 3.3). The true network is where activation is known to be, or
the voxels whose correlation is .5 or more in the measured series (Table 3 of that paper); the
share sorted alike, false discoveries and overlap are of those. What is not defined is NaN (n/a in
the table).

Maps of activation end at the mask, whose edge is detail that all series share (it lifts the
correlation of a denoised B-spline from .03 to .07 in the brain): metrics beyond the acquired
Nyquist limit come from the effects of blocks.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TypeVar

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.glm.activation_regions import centroid, dice, peak
from bids_sr.glm.contrasts import Contrasts, single_conditions
from bids_sr.glm.design import scaled_weights
from bids_sr.glm.map_summary import correlation
from bids_sr.io.arrays import Array, Float, Float32, Mask, Real
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import MISSING, MetricRow
from bids_sr.series import MEASURED
from bids_sr.spatial.resampling import sample_volume

_File = TypeVar("_File")
_Metrics = dict[tuple[str, str, str], float]  # contrast, region, statistic
_LOGGER = logging.getLogger(__name__)
TRUE_T = 4.0
_TRUE_SHARE = 0.25
_CONNECTED = 0.5
REFERENCE = "bspline"
MEASURED_MAP = "measuredMap"


def _ranking(score: Real, active: Mask) -> tuple[Array, float, float]:
    """Rank voxels (N,) by their score, the first of equals first, and tell how well that does.

    `active`: voxels that are truly active (N, boolean). Returns numbers of the voxels by falling
    score, mean precision at truly active voxels, ties together, NaN where none is, and area under
    the ROC curve, the chance that active voxels outscore inactive ones, ties half, NaN without
    both.
    """
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    counts = np.flatnonzero(np.diff(ranked, append=np.nan)) + 1  # up to the last of equals
    hits = np.cumsum(active[order])[counts - 1]
    gained, false = np.diff(hits, prepend=0), np.diff(counts - hits, prepend=0)
    total = gained.sum()
    others = false.sum()
    precision = float((gained * hits / counts).sum() / total) if total else math.nan
    area = (false * (hits - gained / 2)).sum()
    return order, precision, float(area / (total * others)) if total and others else math.nan


def _detection(t: Float32, active: Mask, region: Mask, affine: Float) -> dict[str, float]:
    """Return how well t finds the truly active voxels of a region, (X, Y, Z).

    They are compared with as many voxels in which t is highest.

    `active`: voxels that are truly active (3D, boolean). `region`: voxels to choose from (3D,
    boolean). Returns average precision, AUC, Dice and distance of centroids (mm), by name.
    """
    true = active & region
    found = np.zeros(t.shape, dtype=bool)
    order, precision, auc = _ranking(t[region], active[region])
    found.ravel()[np.flatnonzero(region)[order[: int(true.sum())]]] = True
    overlap = dice(true, found)
    here = centroid(true, affine)
    there = centroid(found, affine)
    return {
        "average_precision": precision,
        "auc": auc,
        "active_dice": math.nan if overlap is None else overlap,
        "active_distance": (
            math.nan if here is None or there is None else float(np.linalg.norm(here - there))
        ),
    }


def _sorting(mask: Mask, true: Mask) -> dict[str, float]:
    """Return accuracy, false discovery rate and Jaccard index of voxels (N,), NaN if none found.

    `mask`: voxels that were found active (N, boolean). `true`: voxels that are truly active (N,
    boolean). Returns shares from 0 to 1 by name; NaN where one is not defined.

    >>> _sorting(np.array([True, True, False, False]), np.array([True, False, False, False]))
    {'accuracy': 0.75, 'fdr': 0.5, 'jaccard': 0.5}
    """
    both, either, count = int((mask & true).sum()), int((mask | true).sum()), int(mask.sum())
    return {
        "accuracy": float(np.mean(mask == true)) if mask.size else math.nan,
        "fdr": 1 - both / count if count else math.nan,
        "jaccard": both / either if either else math.nan,
    }


@frozen
class _TrueEffect:
    """What is true of one contrast."""

    effect: Float32  # (X, Y, Z) true effect
    t: Float32 | None  # (X, Y, Z) of the measured series, None for known activation
    # (X, Y, Z) truly active voxels, of a seed its network; None for the measured series
    active: Mask | None
    # (X, Y, Z) network of a seed, which maps of correlation are compared with; None: no such map
    connected: Mask | None = None


def _measured_truth(maps: Mapping[tuple[str, str], Float32], contrast: str) -> _TrueEffect | None:
    """Truth of one contrast from the measured maps, or None where they are missing."""
    if (contrast, "t") not in maps or (contrast, "effect") not in maps:
        return None
    cc = maps.get((contrast, "cc"))
    return _TrueEffect(
        effect=maps[contrast, "effect"],
        t=maps[contrast, "t"],
        active=None,
        connected=None if cc is None else cc >= _CONNECTED,
    )


def known_truths(
    known: Mapping[str, tuple[Float32, Float]],
    contrasts: Contrasts,
    grid: Volume,
) -> dict[str, _TrueEffect]:
    """Truth of every contrast that is known or follows from known conditions.

    `known` has the image of a contrast and its voxel-to-RAS-mm matrix, in the frame of the
    grid, a brain mask.
    """
    on_grid = {
        name: (
            np.where(
                grid.data, sample_volume(values, affine, grid.data.shape, grid.affine), 0
            ).astype(np.float32)
        )
        for name, (values, affine) in known.items()
    }
    single = {
        next(c for c, w in contrasts[name].items() if w): name
        for name in single_conditions(contrasts)
    }
    out = {}
    for name, weights in contrasts.items():
        parts = {
            condition: single.get(condition, condition)
            for condition, weight in weights.items()
            if weight
        }
        if name in on_grid:
            effect = on_grid[name]
        elif all(part in on_grid for part in parts.values()):
            scaled = scaled_weights(weights)
            effect = np.sum(
                [np.float32(scaled[c]) * on_grid[part] for c, part in parts.items()], axis=0
            )
        else:
            continue
        top = float(effect.max())
        active = grid.data & (effect >= _TRUE_SHARE * top) if top > 0 else np.zeros_like(grid.data)
        out[name] = _TrueEffect(effect=effect, t=None, active=active, connected=active)
    return out


def _contrast_metrics(
    maps: Mapping[tuple[str, str], Float32],
    contrast: str,
    truth: _TrueEffect,
    regions: Mapping[str, Mask],
    affine: Float,
) -> _Metrics:
    """Return the metrics of one contrast of one series.

    The regions to find active voxels in are brain and roi.
    """
    out: _Metrics = {}
    t, effect, cc = (maps.get((contrast, stat)) for stat in ("t", "effect", "cc"))
    for region, voxels in regions.items():
        if t is not None and truth.t is not None:
            out[contrast, region, "r_t"] = correlation(t, truth.t, voxels)
        if effect is not None:
            out[contrast, region, "r"] = correlation(effect, truth.effect, voxels)
        if region not in ("brain", "roi"):
            continue
        if t is not None and truth.active is not None:
            found = _detection(t, truth.active, voxels, affine)
            out |= {(contrast, region, name): value for name, value in found.items()}
        if cc is not None and truth.connected is not None:
            sorted_ = _sorting(cc[voxels] >= _CONNECTED, truth.connected[voxels])
            out |= {
                (contrast, region, f"connected_{name}"): value for name, value in sorted_.items()
            }
    return out


def _foci_metrics(
    maps: Mapping[tuple[str, str], Float32],
    truths: Mapping[str, _TrueEffect],
    conditions: Sequence[str],
    roi: Mask,
    affine: Float,
) -> _Metrics:
    """Return the contrast of two conditions' true foci in the ROI, over the true one.

    1 is the truth.
    """
    out: _Metrics = {}
    for a, b in combinations(conditions, 2):
        if not {a, b} <= truths.keys() or (a, "effect") not in maps or (b, "effect") not in maps:
            continue
        at, to = (
            peak(t.effect if t.t is None else t.t, roi, affine) for t in (truths[a], truths[b])
        )
        if at is None or to is None:
            out[f"{a}+{b}", "roi", "foci_contrast"] = math.nan
            continue
        contrast_seen, true = (
            float((x[at.index] - y[at.index]) + (y[to.index] - x[to.index]))
            for x, y in (
                (maps[a, "effect"], maps[b, "effect"]),
                (truths[a].effect, truths[b].effect),
            )
        )
        out[f"{a}+{b}", "roi", "foci_contrast"] = contrast_seen / true if true > 0 else math.nan
    return out


def _regions(truth: _TrueEffect, grid: Volume, roi: Mask) -> dict[str, Mask]:
    """Voxels to correlate over; the active ones by either sign where the truth has a t."""
    masks = {"brain": grid.data, "roi": roi}
    if truth.active is not None:
        masks["active"] = truth.active
    if truth.t is not None:
        masks[f"active{round(10 * TRUE_T)}"] = grid.data & (np.abs(truth.t) > TRUE_T)
    return masks


def _rows_of(
    metrics: Mapping[str, _Metrics], reference: str, fwhm_mm: float
) -> Iterator[MetricRow]:
    """Rows of every series and, against a measured map, what each has over the B-spline."""
    base = metrics.get(REFERENCE, {}) if reference == MEASURED_MAP else {}
    for series, found in metrics.items():
        for (contrast, region, statistic), value in found.items():
            row = MetricRow(
                series=series,
                statistic=statistic,
                band="all" if statistic == "r" else MISSING,
                reference=reference,
                region=region,
                contrast=contrast,
                fwhm_mm=fwhm_mm,
                value=value,
            )
            yield row
            if series != REFERENCE and (key := (contrast, region, statistic)) in base:
                yield replace(row, minus=REFERENCE, value=value - base[key])


def truth_rows(
    files: Mapping[float, Mapping[str, Mapping[tuple[str, str], _File]]],
    load: Callable[[_File], Float32],
    contrasts: Contrasts,
    *,
    grid: Volume,
    roi: Mask,
    known: Mapping[str, tuple[Float32, Float]],
) -> list[MetricRow]:
    """Return all metric rows of whole-run maps against the truth.

    The true maps and those of one series at a time are in memory.

    Parameters
    ----------
    files : Mapping[float, Mapping[str, Mapping[tuple[str, str], File]]]
        FWHM (mm) to series to (contrast, stat) to what `load` takes; t and effect, on the grid.
    load : Callable[[File], Float32]
        Reads a map (3D) from its file or artifact.
    contrasts : Contrasts
        Weights of conditions (at rest: seeds) by contrast.
    grid, roi : Volume
        Brain on the high-resolution grid, and region of interest.
    known : Mapping[str, tuple[Float32, Float]]
        Activation by contrast, with its affine; ValueError for measured maps on another grid than
        `grid`.

    Returns
    -------
    list[MetricRow]
        Rows of all series, references and smoothings.

    Raises
    ------
    ValueError
        Maps of the measured series lie on another grid.
    """
    roi = roi & grid.data
    if not roi.any():
        _LOGGER.warning(
            "The region of interest contains no voxels of the brain mask, so values of this "
            "region are set to n/a."
        )
    conditions = single_conditions(contrasts)
    fixed = known_truths(known, contrasts, grid)
    rows: list[MetricRow] = []
    for fwhm_mm, by_series in files.items():
        measured = {key: load(path) for key, path in by_series.get(MEASURED, {}).items()}
        if any(values.shape != grid.data.shape for values in measured.values()):
            raise ValueError(
                "the maps of the measured series are not on the grid of the high-resolution mask"
            )
        made = {name: _measured_truth(measured, name) for name in contrasts}
        truths = {MEASURED_MAP: {n: t for n, t in made.items() if t is not None}, "truth": fixed}
        metrics: dict[str, dict[str, _Metrics]] = {
            name: {} for name, true in truths.items() if true
        }
        for series, paths in by_series.items():
            maps = {key: load(path) for key, path in paths.items()}
            for reference, by_name in metrics.items():
                if (series, reference) == (MEASURED, MEASURED_MAP):
                    continue
                true = truths[reference]
                metrics_of = _Metrics()
                for name, truth in true.items():
                    metrics_of |= _contrast_metrics(
                        maps, name, truth, _regions(truth, grid, roi), grid.affine
                    )
                by_name[series] = metrics_of | _foci_metrics(
                    maps, true, conditions, roi, grid.affine
                )
        for reference, by_name in metrics.items():
            rows += _rows_of(by_name, reference, fwhm_mm)
    return rows


def replaced(rows: Sequence[MetricRow], by: Sequence[MetricRow]) -> list[MetricRow]:
    """Replace rows that others tell anew by these.

    The others come last: values with an interval replace bare ones.
    """
    told = {_what(row) for row in by}
    return [*(row for row in rows if _what(row) not in told), *by]


def _what(row: MetricRow) -> tuple[object, ...]:
    at = row.fwhm_mm, row.contrast, row.region
    return row.series, row.minus, row.statistic, row.band, row.reference, *at
