"""Effects of the whole run against known activation, with intervals over resampled blocks.

The agreement of a sum of block maps with a fixed true map (`bids_sr.stats.evaluation.explained_variance`; the true
map has no noise, so
that explained variance is 1 - |e - t|²/|t|² itself) follows from the inner products of the block maps among themselves
and with the true map, so that resampled blocks are other weights only, as they are for split halves. Blocks
of both halves are drawn together, within condition; draws depend on seed, contrast and blocks and not on the series,
so that differences of two series are paired. Known activation is free of noise and shares none with the series: here,
unlike against measured maps of the same blocks, agreement cannot come from noise.

Of simulated runs (two conditions, 4, 8, 12 and 24 blocks) intervals hold the expected correlation in 78 to 83, 89
to 94, 94 to 96 and 93 to 96 %, those of differences in 87 to 97, 94 to 98, 95 to 98 and 91 to 95 %: with two blocks of
a condition they are too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from bids_sr.metrics.long_tables import MetricRow
from bids_sr.stats.evaluation.explained_variance import FIGURES
from bids_sr.stats.evaluation.reference_maps import known_truths
from bids_sr.stats.evaluation.split_half import (
    Inner,
    Score,
    beyond_nyquist,
    enough,
    gain_pairs,
    halves_of,
    inner_products,
    score_moments,
)
from bids_sr.stats.glm.blocks import Block
from bids_sr.stats.regions.map_comparison import Grid
from bids_sr.stats.regions.map_summary import Map

Array = npt.NDArray[np.float32]
Float = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Scores = dict[tuple[str, str, str], Score]  # by measure, contrast, region
KNOWN = "truth"
EFFECT, BEYOND = "effect", "beyond"
_UNDEFINED = Score(ways=np.array([math.nan]), draws=np.zeros((1, 0)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """Known activation, and how the effect of the whole run is read off the blocks.

    Attributes
    ----------
    mask : (X, Y, Z) brain
    factor : acquired over high-resolution voxel by axis
    targets : by band and contrast, true effect in the N voxels of the brain, (N,)
    voxels : by region, then by the contrasts that it serves, joined in one tuple, which of the N belong to it
    weights, draws : by contrast, weights of the blocks (B,) and resampled weights (n_boot, B) or None
    """

    mask: Mask
    factor: tuple[float, ...]
    targets: Mapping[tuple[str, str], Array]
    voxels: Mapping[str, Mapping[tuple[str, ...], Mask]]
    weights: Mapping[str, Float]
    draws: Mapping[str, Float | None]

    @property
    def bands(self) -> tuple[str, ...]:
        """Those that can be had: nothing lies beyond the limit where no axis was made finer."""
        return (EFFECT, BEYOND) if max(self.factor) > 1 else (EFFECT,)

    def units(self, contrast: str) -> int:
        """Blocks that count in a contrast."""
        return int(np.count_nonzero(self.weights[contrast]))

    def scores(self, betas: Array) -> Scores:
        """Figures of one series, for its block maps (X, Y, Z, B) on the grid of the mask, in its unit of signal."""
        out: Scores = {}
        for band in self.bands:
            maps = (beyond_nyquist(betas, self.factor) if band == BEYOND else betas)[self.mask]
            for region, groups in self.voxels.items():
                for contrasts, inside in groups.items():
                    for (figure, contrast), score in self._scores(maps, band, contrasts, inside).items():
                        out[f"truth_{figure}_{band}", contrast, region] = score
        return out

    def _scores(self, maps: Array, band: str, contrasts: Sequence[str], inside: Mask) -> dict[tuple[str, str], Score]:
        if not enough(inside):
            return dict.fromkeys(product(FIGURES, contrasts), _UNDEFINED)
        own = maps[inside].T
        true = np.stack([self.targets[band, contrast][inside] for contrast in contrasts])
        gram, cross, power = inner_products(own, own), inner_products(own, true), inner_products(true, true)
        out = {}
        for k, contrast in enumerate(contrasts):
            inner = Inner(own=gram, cross=cross[:, [k]], target=power[[k]][:, [k]])
            drawn = self.draws[contrast]
            found = score_moments(
                inner.moments(self.weights[contrast][None], np.ones((1, 1)), known=True),
                None if drawn is None else inner.moments(drawn, np.ones((len(drawn), 1)), known=True),
                FIGURES,
            )
            for figure, (value, draws) in found.items():
                limit = 1.0 if figure == "r" else math.inf
                out[figure, contrast] = Score(ways=np.array([value]), draws=draws[None], limit=limit)
        return out


def make_known(
    known: Mapping[str, tuple[Map, Float]],
    contrasts: Mapping[str, Mapping[str, float]],
    blocks: Sequence[Block],
    weights: Mapping[str, Float],
    *,
    grid: Grid,
    roi: Mask,
    factor: Sequence[float],
    n_boot: int,
    seed: int,
) -> Known | None:
    """Known activation of the contrasts that are known or follow from known ones; None where there is none.

    Parameters
    ----------
    known : contrast to image and its voxel-to-RAS-mm matrix, in the frame of the grid
    contrasts : name to weights of conditions
    blocks, weights : of the run, and by contrast the weight of each in its effect, (B,)
    n_boot, seed : resamples of blocks
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
    targets = {(EFFECT, name): whole[name].effect[grid.mask] for name in names}
    if max(factor) > 1:
        targets |= {(BEYOND, name): beyond_nyquist(whole[name].effect, factor)[grid.mask] for name in names}
    drawn = halves_of(blocks, {name: weights[name][None] for name in names}, n_boot, seed)
    return Known(
        mask=grid.mask, factor=tuple(factor), targets=targets, voxels=voxels,
        weights={name: weights[name] for name in names},
        draws={name: None if both is None else both[0] for name, both in drawn.items()},
    )  # fmt: skip


def known_rows(scores: Mapping[str, Scores], known: Known, *, gains: bool) -> Iterator[MetricRow]:
    """Rows of every series and, if wanted, of each method less baselines, other methods and its placebos.

    Parameters
    ----------
    scores : by series
    gains : not where the run has a measured series, as differences in the table are then to that one
    """
    for series, found in scores.items():
        for (measure, contrast, region), score in found.items():
            low, high = score.interval
            yield MetricRow(
                series=series, against=KNOWN, measure=measure, value=score.value, lower=low, upper=high,
                contrast=contrast, region=region, n=known.units(contrast) if math.isfinite(low) else None,
            )  # fmt: skip
    pairs = gain_pairs(list(scores)) if gains else []
    for method, other in pairs:
        for (measure, contrast, region), score in scores[method].items():
            value, low, high = score.less(scores[other][measure, contrast, region])
            yield MetricRow(
                series=method, against=other, measure=f"gain_{measure}", value=value, lower=low, upper=high,
                contrast=contrast, region=region, n=known.units(contrast) if math.isfinite(low) else None,
            )  # fmt: skip
