"""Effects of the whole run against the truth, from the effects of its blocks on whole slices.

Beyond the acquired Nyquist limit against the measured series (no interval: both have the same blocks and may share
their noise), and against known activation with intervals, see `bids_sr.stats.evaluation.known_activation`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from bids_sr.metrics.long_tables import MetricRow
from bids_sr.series import MEASURED
from bids_sr.stats.evaluation.known_activation import Scores, known_rows, make_known
from bids_sr.stats.evaluation.reference_maps import TRUE_T, Figures, figure_rows
from bids_sr.stats.evaluation.split_half import beyond_nyquist, enough, seeded
from bids_sr.stats.evaluation.split_half_shared import on_grid
from bids_sr.stats.evaluation.split_half_table import check_same_run, named_files
from bids_sr.stats.glm.block_effects import Effects, load_effects
from bids_sr.stats.regions.map_comparison import Grid
from bids_sr.stats.regions.map_summary import Map, correlation

Float = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def _whole(effects: Effects, contrasts: Mapping[str, Mapping[str, float]]) -> dict[str, Float]:
    """Weights of the blocks, both halves together, for every contrast that can be split."""
    halves = {name: effects.halves(weights) for name, weights in contrasts.items()}
    return {name: both.mean(axis=0) for name, both in halves.items() if both is not None}


def _figures(maps: Mapping[str, Map], true: Mapping[str, Map], regions: Mapping[str, Mapping[str, Mask]]) -> Figures:
    out: Figures = {}
    for name in [name for name in maps if name in true]:
        for region, voxels in regions[name].items():
            found = correlation(maps[name], true[name], voxels) if enough(voxels) else None
            out[name, region, "r_beyond"] = math.nan if found is None else found
    return out


def effect_rows(
    paths: Sequence[str | os.PathLike[str]],
    contrasts: Mapping[str, Mapping[str, float]],
    *,
    grid: Grid,
    roi: Mask,
    factor: Sequence[float],
    known: Mapping[str, tuple[Map, Float]],
    n_boot: int = 1000,
    seed: int = 0,
) -> list[MetricRow]:
    """Rows `truth_r_beyond` and, against known activation, `truth_{r,ev,amplitude,right}_{effect,beyond}`, and gains.

    Against the measured series gains are over the B-spline. Against known activation they have intervals and are over
    every baseline, other method and placebo, but only where there is no measured series.

    Parameters
    ----------
    paths : effects files, `measured` among them where there is one
    contrasts, grid, roi, known : as of `bids_sr.stats.evaluation.reference_maps.truth_rows`
    factor : acquired over high-resolution voxel by axis; without an axis made finer nothing lies beyond the limit
    n_boot, seed : resamples of blocks

    Raises
    ------
    ValueError : series of different runs or grids
    """
    files = named_files(paths)
    first = load_effects(files.get(MEASURED, next(iter(files.values()))))
    weights = _whole(first, contrasts)
    target = make_known(
        known, contrasts, first.blocks, weights, grid=grid, roi=roi, factor=factor, n_boot=n_boot, seed=seed
    )
    true: dict[str, Map] = {}
    regions: dict[str, dict[str, Mask]] = {}
    if MEASURED in files and max(factor) > 1:
        betas = on_grid(first, grid.mask.shape, grid.affine)[1]
        for name, own in weights.items():
            true[name] = beyond_nyquist(betas @ own.astype(np.float32), factor)
            active = {} if first.smooth_variance is None else {f"active{round(10 * TRUE_T)}": _active(first, own, grid)}
            regions[name] = {"brain": grid.mask, "roi": roi & grid.mask} | active
    figures: dict[str, Figures] = {}
    scores: dict[str, Scores] = {}
    for path in files.values() if true or target is not None else ():
        effects = load_effects(path)
        check_same_run([effects], first)
        series, betas = on_grid(effects, grid.mask.shape, grid.affine)
        if true and series != MEASURED:
            maps = {name: beyond_nyquist(betas @ own.astype(np.float32), factor) for name, own in weights.items()}
            figures[series] = _figures(maps, true, regions)
        if target is not None:
            scores[series] = target.scores(betas)
    seeded(scores, seed)
    rows = list(figure_rows(figures, MEASURED, 0.0))
    return rows if target is None else [*rows, *known_rows(scores, target, gains=MEASURED not in files)]


def _active(measured: Effects, weights: Float, grid: Grid) -> Mask:
    return grid.mask & (np.abs(measured.smooth_t(weights)) > TRUE_T)


def replaced(rows: Sequence[MetricRow], by: Sequence[MetricRow]) -> list[MetricRow]:
    """Rows without those that others tell anew, and then these others: figures with an interval replace bare ones."""
    told = {_what(row) for row in by}
    return [*(row for row in rows if _what(row) not in told), *by]


def _what(row: MetricRow) -> tuple[object, ...]:
    return row.series, row.against, row.fwhm_mm, row.contrast, row.region, row.measure
