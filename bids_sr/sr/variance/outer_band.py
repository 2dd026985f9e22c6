"""Test whether a calibration fits a run.

It must help to predict the outermost acquired frequencies from the others.

The acquired components of one half of the run lose the outer fifth of their k-space; the prior,
whose variance maps come from the other half, predicts it. A prior with exemplars of the same
person in their place predicts it better; of a calibration that is mirrored, of another person, or
displaced by a fine voxel, it hardly does, because what is asked for lies just below the limit of
the acquired resolution. (One whole level of resolution down, such a displacement is not seen; the
likelihood of components that were held out sees it, but also takes a mirrored calibration for
better than none, as a wrong covariance with many patterns is still less sure of itself than the
maps of half a run.)

The same measure tells where the calibration fits best: its registration is refined by it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np
import torch
from torch import Tensor

from bids_sr.io.arrays import Array, evenly_spaced
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.operators import Level, to_slices
from bids_sr.sr.threads import side_by_side
from bids_sr.sr.variance.exemplars import FWHM, SHARE, Exemplars
from bids_sr.sr.variance.prior import Prior, Tile, covariance

_KEPT = 0.8  # of the acquired k-space along each axis
SURE = 2.0  # standard errors by which one prediction must exceed another
WORTH = 0.003
"""Of the predicted share, which is what a fifth of a fine voxel costs: no place is found more
exactly.
"""
_SLICES, _TILES = 6, 16
_INNER, _HALO = 12, 6  # acquired voxels of a tile that count, and around it that are seen
_LEAST_BRAIN = 0.6  # of a tile


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Predicted share of outermost frequencies by half and tile, without and with calibration."""

    without: tuple[float, ...]
    having: tuple[float, ...]

    @property
    def gain(self) -> float:
        """Mean over tiles of what the calibration adds."""
        return float(np.mean(np.subtract(self.having, self.without)))

    @property
    def error(self) -> float:
        """Standard error of the gain, over tiles."""
        return _standard_error(np.subtract(self.having, self.without))

    def exceeds(self, other: "Predicted") -> bool:
        """Whether clearly more is predicted than at another place, in the same tiles.

        True if more by 0.003 and by two standard errors.
        """
        added = np.subtract(self.having, other.having)
        return bool(added.mean() > max(WORTH, SURE * _standard_error(added)))


def _standard_error(values: Array) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf


def chosen_slices(mask: Array) -> list[int]:
    """Return slices (x, y, z) with much brain, evenly spread over it.

    Numbers of the slices, counted from 0, in ascending order, as far apart from one another.
    """
    area = np.asarray(mask).sum((0, 1))
    full = np.flatnonzero(area >= 0.5 * area.max())
    first, last = int(full[0]), int(full[-1])
    count = min(_SLICES, last - first + 1)
    step = max(1, round((last - first) / (count + 1)))
    start = first + (last - first - step * (count - 1)) // 2
    return list(range(start, start + step * count, step))


class OuterBand:
    """The test on one run.

    `level`: from the acquired to the high-resolution grid, of these slices, in plane alone.
    `slices`: numbers, as far apart from one another. `mask`: (x, y, z) brain. `halves`: components
    (K, n, x, y) of either half of the run in these slices. `priors`: of either half, on the level
    of these slices. `affine`: voxel -> RAS mm of the acquired grid.
    """

    def __init__(
        self,
        level: Level,
        slices: Sequence[int],
        mask: Array,
        halves: Sequence[Tensor],
        priors: Sequence[Prior],
        affine: Array,
    ) -> None:
        self.slices = list(slices)
        self.halves = halves
        self.priors = priors
        self.level = level
        inside = np.asarray(mask)[:, :, self.slices] > 0
        self.mask = to_slices(inside.astype(np.float32)) > 0
        x, y, n = level.coarse
        ratios = [big / small for big, small in zip(level.fine, (x, y, n), strict=True)]
        self._shape, self.affine = hr_grid(mask.shape, affine, ratios)
        self._sizes = [max(2, 2 * round(_KEPT * size / 2)) for size in (x, y)]
        # steps from the acquired and from the high-resolution grid to fewer voxels
        few = (self._sizes[0], self._sizes[1], n)
        kept = Level(few, (x, y, n))
        self._direct = Level(few, level.fine).down_matrices
        self._kept = [
            low @ down for low, down in zip(kept.low_matrices, level.down_matrices, strict=True)
        ]
        self.tiles = _counted_tiles(self.priors[0].whole, self.mask)
        # components without the outermost frequencies, on fewer voxels, and these alone
        self._data = [(kept.down(half), kept.beyond(half)) for half in halves]
        self._base = [self._covariances(p.weight, p.fwhm, self.tiles) for p in priors]
        self._without = self._shares(self._base, range(len(self.tiles)))

    def _rows(self, tile: Tile) -> tuple[slice, slice]:
        """Voxels of the reduced grid that lie inside what is seen of a tile."""
        out = []
        for seen, size, whole in zip(tile.seen, self._sizes, self.level.coarse[:2], strict=True):
            centers = (np.arange(size) + 0.5) * whole / size - 0.5
            hit = np.flatnonzero((centers >= seen.start - 0.5) & (centers <= seen.stop - 0.5))
            out.append(slice(int(hit[0]), int(hit[-1]) + 1))
        return out[0], out[1]

    def _covariance(self, maps: Tensor, at: tuple[int, Tile], fwhm: tuple[float, ...]) -> Tensor:
        """Of the outermost frequencies in a tile with what is kept, and of that with itself.

        One is above the other, (u v + x y, x y).
        """
        z, tile = at
        right, left, counts = [], [], []
        for axis, kept in enumerate(self._rows(tile)):
            inner = tile.inner[axis]
            fine = tile.fine[axis]
            right.append(self._direct[axis][kept, fine].contiguous())
            all_ = self.level.down_matrices[axis][inner, fine]
            left.append(torch.cat([all_, self._kept[axis][inner, fine], right[axis]]))
            counts.append(len(all_))
        (u, v), own = counts, maps[:, z, *tile.fine]
        out = covariance(own, fwhm, (right[0], right[1]), (left[0], left[1])).view(
            len(left[0]), len(left[1]), -1
        )
        outer = out[:u, :v] - out[u : 2 * u, v : 2 * v]
        return torch.cat([outer.flatten(0, 1), out[2 * u :, 2 * v :].flatten(0, 1)])

    def _covariances(
        self, maps: Tensor, fwhm: tuple[float, ...], tiles: Iterable[tuple[int, Tile]]
    ) -> list[Tensor]:
        """`_covariance` in each tile."""
        return list(side_by_side(lambda at: self._covariance(maps, at, fwhm), tiles))

    def _shares(
        self, priors: Iterable[Iterable[Tensor]], numbers: Sequence[int]
    ) -> tuple[float, ...]:
        """`_share` of each half in the tiles of these numbers, one half after the other."""
        jobs = (
            (h, n, each)
            for h, own in enumerate(priors)
            for n, each in zip(numbers, own, strict=True)
        )
        return tuple(side_by_side(lambda job: self._share(*job), jobs))

    def _share(self, half: int, number: int, prior: Tensor) -> float:
        """Return the share of the other half's outermost frequencies that a half predicts.

        It is predicted by the half's covariance, in a tile.
        """
        (z, tile), (inner, outer) = self.tiles[number], self._data[1 - half]
        data = inner[:, z, *self._rows(tile)].flatten(1)
        across, own = prior[: -data.shape[1]], prior[-data.shape[1] :]
        root = torch.linalg.cholesky(own + self.priors[half].noise * torch.eye(len(own)))
        counted = self.mask[z, *tile.inner].flatten()
        predicted = (across @ torch.cholesky_solve(data.T, root)).T[:, counted]
        known = outer[:, z, *tile.inner].flatten(1)[:, counted]
        energy = known.square().sum(1)
        left = (known - predicted).square().sum(1)
        return float((1 - left / energy.clamp_min(1e-30)).mean())

    def predicted(
        self,
        exemplars: Exemplars,
        correction: Array | None = None,
        share: float = SHARE,
        every: int = 1,
    ) -> Predicted:
        """Return what a calibration of a given weight adds, in place or moved by a correction.

        See `Exemplars.on`.

        `correction`: transform of a boldref point before its look-up (4 x 4, RAS+ mm); None:
        identity. `share`: share of the variance that the patterns get, from 0 to 1. `every`: look
        at one of so many slices of the test, where it has tiles in them.
        """
        places = range(every // 2, len(self.slices), every)
        numbers = [n for n, (z, _) in enumerate(self.tiles) if z in places]
        if not numbers:
            return self.predicted(exemplars, correction, share)
        tiles = [(places.index(z), tile) for z, tile in (self.tiles[n] for n in numbers)]
        halves = np.reshape(self._without, (2, -1))
        without = tuple(halves[:, numbers].ravel().tolist())
        patterns = self._patterns(exemplars, correction, places)
        if not bool(patterns[:, :, *self.priors[0].whole.fine].any()):
            return Predicted(without=without, having=without)
        alone = replace(self.priors[0], weight=patterns, fwhm=(FWHM,) * len(patterns))
        on_tiles = self._covariances(patterns, alone.fwhm, tiles)
        own = (replace(prior, weight=prior.weight[:, list(places)]) for prior in self.priors)
        levels = [each.mean_variance / alone.mean_variance for each in own]
        mixed = (
            (
                torch.lerp(base[n], level * other, share)
                for n, other in zip(numbers, on_tiles, strict=True)
            )
            for level, base in zip(levels, self._base, strict=True)
        )
        return Predicted(without=without, having=self._shares(mixed, numbers))

    def _patterns(self, exemplars: Exemplars, correction: Array | None, places: range) -> Tensor:
        """Patterns (C, n, X, Y) in these of the slices that are looked at."""
        x, y, _ = self._shape
        numbers = [self.slices[n] for n in places]
        some = np.array(self.affine)
        some[:3, 3] += some[:3, 2] * numbers[0]
        some[:3, 2] *= numbers[1] - numbers[0] if len(numbers) > 1 else 1
        return exemplars.on((int(x), int(y), len(numbers)), some, correction)


def _counted_tiles(whole: Tile, mask: Tensor) -> list[tuple[int, Tile]]:
    """Tiles that hold enough brain, as (number of the slice, tile), evenly over all slices."""
    out, parts = [], []
    for axis in whole.inner:
        count = max(1, (axis.stop - axis.start) // _INNER)
        start = axis.start + (axis.stop - axis.start - count * _INNER) // 2
        edges = [max(axis.start, start + k * _INNER) for k in range(count + 1)]
        parts.append([slice(a, min(b, axis.stop)) for a, b in pairwise(edges)])
    for z in range(len(mask)):
        for inner in product(*parts):
            if float(mask[z, inner[0], inner[1]].float().mean()) >= _LEAST_BRAIN:
                out.append((z, whole.part(inner[0], inner[1], _HALO)))
    return [out[k] for k in evenly_spaced(len(out), _TILES)]
