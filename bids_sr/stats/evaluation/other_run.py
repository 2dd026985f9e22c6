"""Effects of a run against those of another acquired run of the same task, within the acquired band.

The other run is a reference whose noise is its own: what agrees with it is signal. Its blocks are split in halves; the
effect of the whole run under test is held against the effect of one half, in the voxels that the other half shows to be
active, both ways, and corrected for the noise of the reference by the covariance of its halves, as
`bids_sr.stats.evaluation.split_half.Moments` has it. Effects that differ between the runs, by habituation or position,
count as error of every series alike. Blocks of both runs are resampled, with the same draws for all series.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Float, Float32, Mask
from bids_sr.metrics.long_tables import MetricRow
from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.stats.evaluation.effects_of_run import EffectFiles, on_grid, series_of_run
from bids_sr.stats.evaluation.split_half import (
    Inner,
    Moments,
    Scores,
    enough,
    gain_rows,
    halves_of,
    inner_products,
    score_moments,
    score_rows,
)
from bids_sr.stats.glm.block_effects import Effects, load_effects
from bids_sr.stats.regions.map_summary import Grid

ACTIVE_T = 4.0
BAND = "within"
METRICS = ("r", "ev")


@frozen
class OfContrast:
    """What one contrast is held against."""

    halves: Float  # (2, B2) weights of the blocks of the other run in its halves
    draws: Float | None  # (2, n_boot, B2)
    weights: Float  # (1, B) weights of the blocks of the run under test
    own_draws: Float | None  # (n_boot, B)
    regions: Mapping[str, tuple[Mask, Mask]]  # by name, the voxels shown by half 0 and by half 1 of the other run


def within_band(maps: Float32, factor: Sequence[float]) -> Float32:
    """Maps of whole slices (X, Y, Z, B) without what lies beyond the acquired Nyquist limit."""
    return maps - beyond_nyquist(maps, factor) if max(factor) > 1 else maps


def other_run_rows(
    files: EffectFiles, other: Effects, contrasts: Mapping[str, Mapping[str, float]], *, grid: Grid, roi: Mask,
    factor: Sequence[float], n_boot: int = 1000, seed: int = 0,
    same_widths: Mapping[str, float] = MappingProxyType({}),
) -> list[MetricRow]:  # fmt: skip
    """Rows `other_r_within` and `other_ev_within` of each series, and differences of the compared ones.

    Parameters
    ----------
    files : effects of the series of the run under test; ValueError for different runs or grids
    other : effects of the acquired series of the other run, on the grid, with what `smooth_t` needs
    grid, roi : high-resolution grid with the brain, and region of interest on it
    factor : acquired over high-resolution voxel by axis
    n_boot, seed : resamples of blocks
    same_widths : of series of other programs, see `series_of_run`
    """
    first = load_effects(next(iter(files.values())))
    targets = within_band(on_grid(other, grid.mask.shape, grid.affine)[1], factor)[grid.mask]
    held = {
        name: found
        for name, weights in contrasts.items()
        if (found := _of_contrast(name, weights, first, other, grid.mask, roi, n_boot, seed)) is not None
    }
    scores: dict[str, Scores] = {}
    wanted = files if held else {}
    for series, betas, _ in series_of_run(wanted, first, grid.mask.shape, grid.affine, same_widths):
        maps = within_band(betas, factor)[grid.mask]
        scores[series] = _scores(maps, targets, held, grid.mask)

    def units(contrast: str, _: float = 0.0) -> int:
        return int(np.count_nonzero(held[contrast].weights))

    return [*score_rows(scores, units), *gain_rows(scores, "other", units)]


def _of_contrast(
    name: str, weights: Mapping[str, float], first: Effects, other: Effects, mask: Mask, roi: Mask, n_boot: int,
    seed: int,
) -> OfContrast | None:  # fmt: skip
    """How a contrast is held against the other run; None where either run has too few blocks of it."""
    own, halves = first.whole(weights), other.halves(weights)
    if own is None or halves is None:
        return None
    own_draws = halves_of(first.blocks, {name: own[None]}, n_boot, seed)[name]
    brain, inside = (mask, mask), (roi & mask, roi & mask)
    regions = {"brain": brain, "roi": inside}
    if other.smooth_variance is not None:
        one, two = (mask & (np.abs(other.smooth_t(half)) > ACTIVE_T) for half in halves)
        regions[f"active{round(10 * ACTIVE_T)}"] = (one, two)
    return OfContrast(
        halves=halves, draws=halves_of(other.blocks, {name: halves}, n_boot, seed + 1)[name], weights=own[None],
        own_draws=None if own_draws is None else own_draws[0], regions=regions,
    )  # fmt: skip


def _scores(maps: Float32, targets: Float32, held: Mapping[str, OfContrast], mask: Mask) -> Scores:
    """Metrics of one series, of its block maps (N, B) and those of the other run (N, B2) in the mask."""
    out: Scores = {}
    for contrast, of in held.items():
        drawn = of.draws is not None and of.own_draws is not None
        n_boot = of.own_draws.shape[0] if drawn and of.own_draws is not None else 0
        for region, both in of.regions.items():
            ways = [_moments(maps, targets, of, voxels[mask], way) for way, voxels in enumerate(both)]
            for metric, one in score_moments(ways, n_boot, METRICS).items():
                out[f"other_{metric}", BAND, contrast, region] = one
    return out


def _moments(
    maps: Float32, targets: Float32, of: OfContrast, inside: Mask, way: int
) -> tuple[Moments, Moments | None] | None:
    """Moments with the half that does not choose the voxels as target, and those of resamples; None: too few voxels."""
    if not enough(inside):
        return None
    own, true = maps[inside].T, targets[inside].T
    inner = Inner(own=inner_products(own, own), cross=inner_products(own, true), target=inner_products(true, true))

    def of_weights(source: Float, chooses: Float, target: Float) -> Moments:
        return Moments(
            shared=np.einsum("kb,kb->k", source @ inner.cross, target),
            energy=np.einsum("kb,kb->k", source @ inner.own, source),
            target=np.einsum("kb,kb->k", target @ inner.target, target),
            true=np.einsum("kb,kb->k", chooses @ inner.target, target),
        )

    found = of_weights(of.weights, of.halves[None, way], of.halves[None, 1 - way])
    if of.draws is None or of.own_draws is None:
        return found, None
    return found, of_weights(of.own_draws, of.draws[way], of.draws[1 - way])
