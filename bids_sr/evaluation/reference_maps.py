"""Agreement of whole-run maps with a measured high-resolution series or known activation.

Maps of a series are compared with maps of the measured series at the same smoothing. Both contain
the same physiology and, if the acquired series was computed from the measured series, the same
noise. These metrics therefore describe the similarity of maps; split halves show how much of this
similarity is signal. Known activation has no noise and is never smoothed. Its active voxels have
at least 25 % of its maximum, and only known activation is used to score the detection of active
voxels.

For seeds, voxels count as connected if their correlation is at least .5 (TV self-supervision,
section 3.3). The true network consists of the voxels with known activation or, in the measured
series, of the voxels with a correlation of at least .5 (Table 3 of that paper). Accuracy, false
discovery rate and Jaccard index are relative to this network. Undefined values are NaN (n/a in
tables).

Activation maps end at the edge of the mask. This edge is detail that all series share; it raises
the correlation of a denoised B-spline series from .03 to .07 in the brain. Metrics beyond the
acquired Nyquist frequency are therefore computed from block effects, not from maps.
"""

import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np

from bids_sr.engine.metric_rows import MISSING, MetricRow
from bids_sr.glm.activation_regions import nonempty_dice
from bids_sr.glm.contrasts import Contrasts, single_conditions
from bids_sr.glm.map_summary import correlate_in_mask
from bids_sr.io.arrays import Array, Float, Float32, MaskArray, Real
from bids_sr.io.frozen import frozen
from bids_sr.io.series import MEASURED
from bids_sr.io.volume import Volume
from bids_sr.spatial.resampling import sample_volume

_MapFile = TypeVar("_MapFile")
_MapMetrics = dict[tuple[str, str, str], float]  # by contrast, region and statistic
_LOGGER = logging.getLogger(__name__)
TRUE_T = 4.0
"""Value of |t| above which voxels of the measured or of the acquired series are active."""
_ACTIVE_SHARE = 0.25  # of the largest known activation; voxels with at least this share are active
_MIN_CONNECTED_CC = 0.5
BASE_SERIES = "bspline"
"""Series that is subtracted from others in comparisons with the measured map."""
MEASURED_MAP = "measuredMap"


def reference_map_rows(
    files: Mapping[float, Mapping[str, Mapping[tuple[str, str], _MapFile]]],
    load: Callable[[_MapFile], Float32],
    contrasts: Contrasts,
    *,
    grid: Volume,
    roi: MaskArray,
    known: Mapping[str, tuple[Float32, Float]],
) -> list[MetricRow]:
    """Return all metric rows of whole-run maps relative to the measured map and known activation.

    Only the reference maps and the maps of one series are held in memory.

    Parameters
    ----------
    files : Mapping[float, Mapping[str, Mapping[tuple[str, str], _MapFile]]]
        Map files by FWHM (mm), series and (contrast, stat); t, effect and correlation maps on the
        high-resolution grid.
    load : Callable[[_MapFile], Float32]
        Reads a map (3D) from its file or artifact.
    contrasts : Contrasts
        Weights of conditions (at rest: seeds) by contrast.
    grid : Volume
        Brain mask on the high-resolution grid.
    roi : MaskArray
        Region of interest on this grid (X, Y, Z).
    known : Mapping[str, tuple[Float32, Float]]
        Known activation by contrast, with its voxel-to-RAS-mm matrix.

    Returns
    -------
    list[MetricRow]
        Rows of all series, references and smoothing widths.
    """
    roi_in_brain = roi & grid.data
    if not roi_in_brain.any():
        _LOGGER.warning(
            "The region of interest contains no voxels of the brain mask, so values of this "
            "region are set to n/a."
        )
    known_effects = make_known_effects(known, contrasts, grid)
    return [
        row
        for fwhm_mm, files_by_series in files.items()
        for row in _iterate_smoothed_rows(
            files_by_series, load, contrasts, grid, roi_in_brain, known_effects, fwhm_mm
        )
    ]


@frozen
class _TrueEffect:
    """Reference effect of one contrast; all images are (X, Y, Z).

    `t` is from the measured series; None for known activation. `active` are the truly active
    voxels, or the network of a seed; None for the measured series. `connected` is the network that
    correlation maps are compared with; None if there is no measured correlation map.
    """

    effect: Float32
    t: Float32 | None
    active: MaskArray | None
    connected: MaskArray | None


def _iterate_smoothed_rows(
    files_by_series: Mapping[str, Mapping[tuple[str, str], _MapFile]],
    load: Callable[[_MapFile], Float32],
    contrasts: Collection[str],
    grid: Volume,
    roi: MaskArray,
    known_effects: Mapping[str, _TrueEffect],
    fwhm_mm: float,
) -> Iterator[MetricRow]:
    """Yield the rows of all series at one smoothing width; see `reference_map_rows`."""
    measured_maps = {key: load(path) for key, path in files_by_series.get(MEASURED, {}).items()}
    measured_effects = {
        name: effect
        for name in contrasts
        if (effect := _make_measured_reference(measured_maps, name)) is not None
    }
    measured_metrics: dict[str, _MapMetrics] = {}
    known_metrics: dict[str, _MapMetrics] = {}
    for series, map_files in files_by_series.items():
        maps = {key: load(path) for key, path in map_files.items()}
        if series != MEASURED:
            measured_metrics[series] = _score_series(maps, measured_effects, grid, roi)
        known_metrics[series] = _score_series(maps, known_effects, grid, roi)
    yield from _iterate_rows(measured_metrics, MEASURED_MAP, fwhm_mm)
    yield from _iterate_rows(known_metrics, "truth", fwhm_mm)


def make_known_effects(
    known: Mapping[str, tuple[Float32, Float]],
    contrasts: Contrasts,
    grid: Volume,
) -> dict[str, _TrueEffect]:
    """Return the reference effects of contrasts that are known or follow from known conditions.

    `known` contains image and voxel-to-RAS-mm matrix by contrast, in the frame of `grid`.
    `contrasts` contains the weights of conditions by contrast. `grid` is the brain mask on the
    high-resolution grid; effects are 0 outside. Unknown contrasts are omitted.
    """
    known_effects: dict[str, Float32] = {}
    for name, (image, affine) in known.items():
        resampled = sample_volume(image, affine, grid.data.shape, grid.affine)
        known_effects[name] = np.where(grid.data, resampled, 0).astype(np.float32)
    contrast_of_condition: dict[str, str] = {}
    for name in single_conditions(contrasts):
        (condition,) = (condition for condition, weight in contrasts[name].items() if weight)
        contrast_of_condition[condition] = name
    effects_of_conditions = {
        condition: known_effects[name]
        for weights in contrasts.values()
        for condition in weights
        if (name := contrast_of_condition.get(condition, condition)) in known_effects
    }
    true_effects = {}
    for name, weights in contrasts.items():
        effect = known_effects.get(name)
        if effect is None:
            effect = _combine_effects(weights, effects_of_conditions)
        if effect is not None:
            true_effects[name] = _make_true_effect(effect, grid.data)
    return true_effects


def _combine_effects(
    weights: Mapping[str, float], effects_of_conditions: Mapping[str, Float32]
) -> Float32 | None:
    """Return the effect of a contrast from effects of conditions; None if one is unknown."""
    conditions = [condition for condition, weight in weights.items() if weight]
    if not effects_of_conditions.keys() >= set(conditions):
        return None
    terms = [
        np.float32(weights[condition]) * effects_of_conditions[condition]
        for condition in conditions
    ]
    return np.sum(terms, axis=0)


def _make_true_effect(effect: Float32, mask: MaskArray) -> _TrueEffect:
    """Return a known effect with its active voxels in the brain mask (X, Y, Z)."""
    largest = float(effect.max())
    active = mask & (effect >= _ACTIVE_SHARE * largest) if largest > 0 else np.zeros_like(mask)
    return _TrueEffect(effect=effect, t=None, active=active, connected=active)


def _make_measured_reference(
    maps: Mapping[tuple[str, str], Float32], contrast: str
) -> _TrueEffect | None:
    """Return the reference effect of a contrast from measured maps; None if maps are missing."""
    if (contrast, "t") not in maps or (contrast, "effect") not in maps:
        return None
    cc = maps.get((contrast, "cc"))
    return _TrueEffect(
        effect=maps[contrast, "effect"],
        t=maps[contrast, "t"],
        active=None,
        connected=None if cc is None else cc >= _MIN_CONNECTED_CC,
    )


def _score_series(
    maps: Mapping[tuple[str, str], Float32],
    truths: Mapping[str, _TrueEffect],
    grid: Volume,
    roi: MaskArray,
) -> _MapMetrics:
    """Return the metrics of all contrasts of one series relative to one reference."""
    metrics: _MapMetrics = {}
    for name, truth in truths.items():
        regions = _select_regions(truth, grid, roi)
        metrics |= _compute_contrast_metrics(maps, name, truth, regions)
    return metrics


def _select_regions(truth: _TrueEffect, grid: Volume, roi: MaskArray) -> dict[str, MaskArray]:
    """Return the voxels of each region in which maps are correlated.

    For the measured series, active voxels are selected by the absolute value of t.
    """
    masks = {"brain": grid.data, "roi": roi}
    if truth.active is not None:
        masks["active"] = truth.active
    if truth.t is not None:
        masks[f"active{round(10 * TRUE_T)}"] = grid.data & (np.abs(truth.t) > TRUE_T)
    return masks


def _compute_contrast_metrics(
    maps: Mapping[tuple[str, str], Float32],
    contrast: str,
    truth: _TrueEffect,
    regions: Mapping[str, MaskArray],
) -> _MapMetrics:
    """Return the metrics of one contrast of one series.

    Detection and network metrics are computed in the brain and the region of interest only.
    """
    metrics: _MapMetrics = {}
    t, effect, cc = (maps.get((contrast, stat)) for stat in ("t", "effect", "cc"))
    for region, voxels in regions.items():
        if t is not None and truth.t is not None:
            metrics[contrast, region, "r_t"] = correlate_in_mask(t, truth.t, voxels)
        if effect is not None:
            metrics[contrast, region, "r"] = correlate_in_mask(effect, truth.effect, voxels)
        if region not in ("brain", "roi"):
            continue
        if t is not None and truth.active is not None:
            detection = _score_detection(t, truth.active, voxels)
            metrics |= {(contrast, region, name): value for name, value in detection.items()}
        if cc is not None and truth.connected is not None:
            scores = _score_network(cc[voxels] >= _MIN_CONNECTED_CC, truth.connected[voxels])
            metrics |= {
                (contrast, region, f"connected_{name}"): value for name, value in scores.items()
            }
    return metrics


def _score_detection(t: Float32, active: MaskArray, region: MaskArray) -> dict[str, float]:
    """Score how well t detects the truly active voxels of a region.

    The detected voxels are the voxels with the highest t, as many as are truly active. `active`
    are the truly active voxels, and `region` the voxels to choose from; all images are (X, Y, Z).
    Average precision and Dice index are returned by statistic; NaN if undefined.
    """
    active_inside = active & region
    detected = np.zeros(t.shape, dtype=bool)
    ranking = _rank_voxels(t[region], active[region])
    n_active = int(active_inside.sum())
    detected.ravel()[np.flatnonzero(region)[ranking.order[:n_active]]] = True
    overlap = nonempty_dice(active_inside, detected)
    return {
        "average_precision": ranking.precision,
        "active_dice": math.nan if overlap is None else overlap,
    }


class _Ranking(NamedTuple):
    """Voxels in order of decreasing score, and how well the order detects active voxels.

    `order` are indices of voxels (N,), ties in their original order. `precision` is the average
    precision with tied voxels counted together, NaN if no voxel is active.
    """

    order: Array
    precision: float


def _rank_voxels(score: Real, active: MaskArray) -> _Ranking:
    """Rank voxels (N,) by score, and compute how well the ranking detects active voxels.

    `active` selects the truly active voxels (N,).
    """
    order = np.argsort(-score, kind="stable")
    # Each count ends at the last of equal scores.
    counts = np.flatnonzero(np.diff(score[order], append=np.nan)) + 1
    hits = np.cumsum(active[order])[counts - 1]
    new_hits = np.diff(hits, prepend=0)
    n_active = new_hits.sum()
    precision = float((new_hits * hits / counts).sum() / n_active) if n_active else math.nan
    return _Ranking(order, precision)


def _score_network(mask: MaskArray, true_mask: MaskArray) -> dict[str, float]:
    """Return accuracy, false discovery rate and Jaccard index of a mask of voxels (N,).

    Values are from 0 to 1 by statistic; NaN if undefined. `true_mask` selects the truly active
    voxels (N,).

    >>> _score_network(np.array([True, True, False, False]), np.array([True, False, False, False]))
    {'accuracy': 0.75, 'fdr': 0.5, 'jaccard': 0.5}
    """
    n_shared = int((mask & true_mask).sum())
    n_union = int((mask | true_mask).sum())
    n_detected = int(mask.sum())
    return {
        "accuracy": float(np.mean(mask == true_mask)) if mask.size else math.nan,
        "fdr": 1 - n_shared / n_detected if n_detected else math.nan,
        "jaccard": n_shared / n_union if n_union else math.nan,
    }


def _iterate_rows(
    metrics: Mapping[str, _MapMetrics], reference: str, fwhm_mm: float
) -> Iterator[MetricRow]:
    """Yield rows of every series and, for the measured map, differences to the B-spline series."""
    base_metrics = metrics.get(BASE_SERIES, {}) if reference == MEASURED_MAP else {}
    for series, series_metrics in metrics.items():
        for (contrast, region, statistic), value in series_metrics.items():
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
            key = contrast, region, statistic
            if series != BASE_SERIES and key in base_metrics:
                yield replace(row, minus=BASE_SERIES, value=value - base_metrics[key])


def replace_rows(rows: Sequence[MetricRow], replacements: Sequence[MetricRow]) -> list[MetricRow]:
    """Replace rows by new rows of the same quantity; all new rows come last.

    Values with an interval replace values without an interval in this way.
    """
    quantities = {_get_quantity(row) for row in replacements}
    return [*(row for row in rows if _get_quantity(row) not in quantities), *replacements]


def _get_quantity(row: MetricRow) -> tuple[object, ...]:
    """Return the cells that identify the quantity of a row."""
    return (
        row.series,
        row.minus,
        row.statistic,
        row.band,
        row.reference,
        row.fwhm_mm,
        row.contrast,
        row.region,
    )
