"""Effects of the whole run against the truth, from the effects of its blocks on whole slices.

Against the measured series: correlation beyond the acquired Nyquist limit (no interval: both have the same blocks and
may share their noise). Against known activation, which shares no noise with any series: all metrics of
`bids_sr.stats.evaluation.split_half.Moments` (explained variance is 1 - |e - t|²/|t|² itself), from inner products as
for split halves. Blocks of both halves are drawn together, within condition; draws depend on seed, contrast and blocks
and not on the series, so that differences of two series are paired. In simulated runs (two conditions, 4, 8, 12 and 24
blocks) intervals hold the expected correlation in 78 to 83, 89 to 94, 94 to 96 and 93 to 96 %, those of differences in
87 to 97, 94 to 98, 95 to 98 and 91 to 95 %: with two blocks of a condition they are too narrow.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from types import MappingProxyType

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Float, Float32, Mask
from bids_sr.metrics.long_tables import MetricRow
from bids_sr.series import MEASURED
from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.stats.evaluation import split_half
from bids_sr.stats.evaluation.effects_of_run import EffectFiles, on_grid, series_of_run
from bids_sr.stats.evaluation.reference_maps import TRUE_T, Metrics, known_truths, reference_rows
from bids_sr.stats.evaluation.split_half import METRICS, Inner, Score, Scores, enough, gain_rows, inner_products
from bids_sr.stats.glm.block_effects import load_effects
from bids_sr.stats.glm.blocks import Block
from bids_sr.stats.regions.map_summary import Grid, correlation

EFFECT, BEYOND, WITHIN = "effect", "beyond", "within"
_UNDEFINED = Score(ways=np.array([math.nan]), draws=np.zeros((1, 0)))


@frozen
class Known:
    """Known activation, and how the effect of the whole run is read off the blocks."""

    mask: Mask  # (X, Y, Z) brain
    factor: tuple[float, ...]  # acquired over high-resolution voxel by axis
    targets: Mapping[tuple[str, str], Float32]  # by band and contrast, true effect in the N voxels of the brain, (N,)
    # by region, then by the contrasts that it serves, joined in one tuple, which of the N belong to it
    voxels: Mapping[str, Mapping[tuple[str, ...], Mask]]
    weights: Mapping[str, Float]  # by contrast, weights of the blocks (B,)
    draws: Mapping[str, Float | None]  # by contrast, resampled weights (n_boot, B) or None
    bands: tuple[str, ...] = (EFFECT, BEYOND)  # that are scored

    def units(self, contrast: str, low: float = 0.0) -> int | None:
        """Blocks that count in a contrast, where its interval is known."""
        return int(np.count_nonzero(self.weights[contrast])) if math.isfinite(low) else None

    def scores(self, betas: Float32) -> Scores:
        """Metrics of one series, for its block maps (X, Y, Z, B) on the grid of the mask, in its unit of signal."""
        out: Scores = {}
        for band in self.bands:
            maps = banded(betas, band, self.factor)[self.mask]
            for region, groups in self.voxels.items():
                for contrasts, inside in groups.items():
                    for (metric, contrast), one in self._scores(maps, band, contrasts, inside).items():
                        out[f"truth_{metric}", band, contrast, region] = one
        return out

    def _scores(self, maps: Float32, band: str, contrasts: Sequence[str], inside: Mask) -> dict[tuple[str, str], Score]:
        if not enough(inside):
            return dict.fromkeys(product(METRICS, contrasts), _UNDEFINED)
        own = maps[inside].T
        true = np.stack([self.targets[band, contrast][inside] for contrast in contrasts])
        gram, cross, power = inner_products(own, own), inner_products(own, true), inner_products(true, true)
        out: dict[tuple[str, str], Score] = {}
        for k, contrast in enumerate(contrasts):
            inner = Inner(own=gram, cross=cross[:, [k]], target=power[[k]][:, [k]])
            draws = self.draws[contrast]
            drawn = None if draws is None else inner.moments(draws, np.ones((len(draws), 1)), known=True)
            way = inner.moments(self.weights[contrast][None], np.ones((1, 1)), known=True), drawn
            found = split_half.score_moments([way], 0 if draws is None else len(draws))
            out |= {(metric, contrast): one for metric, one in found.items()}
        return out


def banded(maps: Float32, band: str, factor: Sequence[float]) -> Float32:
    """Maps of whole slices (X, Y, Z[, B]), all of them or one side of the acquired Nyquist limit."""
    if band == EFFECT:
        return maps
    beyond = beyond_nyquist(maps, factor)
    return beyond if band == BEYOND else maps - beyond


def make_known(
    known: Mapping[str, tuple[Float32, Float]], contrasts: Mapping[str, Mapping[str, float]], blocks: Sequence[Block],
    weights: Mapping[str, Float], *, grid: Grid, roi: Mask, factor: Sequence[float], n_boot: int, seed: int,
    within: bool = False,
) -> Known | None:  # fmt: skip
    """Known activation of the contrasts that are known or follow from known ones; None where there is none.

    Parameters
    ----------
    known, contrasts, grid, roi : as of `bids_sr.stats.evaluation.reference_maps.truth_rows`
    blocks, weights : of the run, and by contrast the weight of each in its effect, (B,)
    n_boot, seed : resamples of blocks
    within : whether the acquired band is scored by itself, too
    """
    # Filters need whole slices; which voxels are active is a matter of the brain
    everywhere = Grid(mask=np.ones_like(grid.mask), affine=grid.affine)
    whole, active = known_truths(known, contrasts, everywhere), known_truths(known, contrasts, grid)
    names = [name for name in whole if name in weights]
    if not names:
        return None
    inside = {"brain": grid.mask, "roi": roi & grid.mask}
    voxels = {region: {tuple(names): voxels[grid.mask]} for region, voxels in inside.items()}
    voxels["active"] = {(name,): active[name].active[grid.mask] for name in names}
    bands = (EFFECT, *((BEYOND, *([WITHIN] if within else [])) if max(factor) > 1 else ()))
    targets = {(band, name): banded(whole[name].effect, band, factor)[grid.mask] for band in bands for name in names}
    drawn = split_half.halves_of(blocks, {name: weights[name][None] for name in names}, n_boot, seed)
    return Known(
        mask=grid.mask, factor=tuple(factor), targets=targets, voxels=voxels, bands=bands,
        weights={name: weights[name] for name in names},
        draws={name: None if both is None else both[0] for name, both in drawn.items()},
    )  # fmt: skip


def _metrics(
    maps: Mapping[str, Float32], true: Mapping[str, Float32], regions: Mapping[str, Mapping[str, Mask]]
) -> Metrics:
    out: Metrics = {}
    for name in [name for name in maps if name in true]:
        for region, voxels in regions[name].items():
            out[name, region, "r_beyond"] = correlation(maps[name], true[name], voxels) if enough(voxels) else math.nan
    return out


def effect_rows(
    files: EffectFiles, contrasts: Mapping[str, Mapping[str, float]], *, grid: Grid, roi: Mask,
    factor: Sequence[float], known: Mapping[str, tuple[Float32, Float]], n_boot: int = 1000, seed: int = 0,
    same_widths: Mapping[str, float] = MappingProxyType({}),
) -> list[MetricRow]:  # fmt: skip
    """Rows `truth_r_beyond` and, against known activation, `truth_{r,ev,amplitude,right}_{effect,beyond}`, and gains.

    Against the measured series gains are over the B-spline. Against known activation they have intervals and are over
    every baseline, other method and placebo, but only where there is no measured series.

    Parameters
    ----------
    files : of all series, `measured` among them where there is one; ValueError for different runs or grids
    contrasts, grid, roi, known : as of `bids_sr.stats.evaluation.reference_maps.truth_rows`
    factor : acquired over high-resolution voxel by axis; without an axis made finer nothing lies beyond the limit
    n_boot, seed : resamples of blocks
    same_widths : of series of other programs, see `bids_sr.stats.evaluation.split_half_table.series_of_run`; with them
        the acquired band is scored by itself, and they have gains over known activation in any case
    """
    first = load_effects(files.get(MEASURED, next(iter(files.values()))))
    both = {name: first.whole(weights) for name, weights in contrasts.items()}
    weights = {name: own for name, own in both.items() if own is not None}
    target = make_known(
        known, contrasts, first.blocks, weights, grid=grid, roi=roi, factor=factor, n_boot=n_boot, seed=seed,
        within=bool(same_widths),
    )  # fmt: skip

    def beyond(betas: Float32) -> dict[str, Float32]:
        return {name: beyond_nyquist(betas @ own.astype(np.float32), factor) for name, own in weights.items()}

    true: dict[str, Float32] = {}
    regions: dict[str, dict[str, Mask]] = {name: {"brain": grid.mask, "roi": roi & grid.mask} for name in weights}
    if MEASURED in files and max(factor) > 1:
        true = beyond(on_grid(first, grid.mask.shape, grid.affine)[1])
        for name, own in weights.items() if first.smooth_variance is not None else ():
            regions[name][f"active{round(10 * TRUE_T)}"] = grid.mask & (np.abs(first.smooth_t(own)) > TRUE_T)
    metrics: dict[str, Metrics] = {}
    scores: dict[str, Scores] = {}
    wanted = files if true or target is not None else {}
    for series, betas, _ in series_of_run(wanted, first, grid.mask.shape, grid.affine, same_widths):
        if true and series != MEASURED:
            metrics[series] = _metrics(beyond(betas), true, regions)
        if target is not None:
            scores[series] = target.scores(betas)
    split_half.seeded(scores, seed)
    rows = list(reference_rows(metrics, MEASURED, 0.0))
    if target is not None:
        rows += split_half.score_rows(scores, target.units)
        gains = gain_rows(scores, "truth", target.units)
        rows += [row for row in gains if MEASURED not in files or row.series in same_widths]
    return rows


def replaced(rows: Sequence[MetricRow], by: Sequence[MetricRow]) -> list[MetricRow]:
    """Rows without those that others tell anew, and then these others: values with an interval replace bare ones."""
    told = {_what(row) for row in by}
    return [*(row for row in rows if _what(row) not in told), *by]


def _what(row: MetricRow) -> tuple[object, ...]:
    return row.series, row.against, row.fwhm_mm, row.contrast, row.region, row.measure
