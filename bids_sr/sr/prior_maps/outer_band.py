"""Test whether a calibration improves the prediction of the outermost acquired frequencies.

The outer fifth of k-space is removed from the acquired components of one half of the run, and
predicted by the prior, whose SD maps are estimated from the other half. Exemplars of the same
participant in the correct position improve this prediction. A calibration that is mirrored, from
another participant, or displaced by a high-resolution voxel hardly improves it, because the
predicted frequencies are just below the acquired Nyquist frequency. (The self-test at lower
resolution does not detect such a displacement. The likelihood of held-out components detects it,
but also prefers a mirrored calibration to none, because a wrong covariance with many patterns is
still less overconfident than the maps of half a run.)

The registration of the calibration is refined with the same measure.
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
from bids_sr.sr.operators import ResolutionLevel, to_slices
from bids_sr.sr.prior_maps.calibration_prior import FWHM, SHARE, CalibrationPatterns
from bids_sr.sr.prior_maps.prior import Prior, Tile, covariance
from bids_sr.sr.threads import map_in_threads

_KEPT = 0.8  # fraction of the acquired k-space that is kept along each axis
MIN_STANDARD_ERRORS = 2.0  # smallest improvement of a prediction, in standard errors
MIN_IMPROVEMENT = 0.003
"""Smallest relevant improvement of the predicted fraction.

A displacement by a fifth of a high-resolution voxel has this effect, which limits the accuracy.
"""
_SLICES, _TILES = 6, 16  # largest numbers of slices and tiles
_INNER, _HALO = 12, 6  # acquired voxels, side of a tile and width of the surrounding data
_MIN_BRAIN = 0.6  # fraction of brain voxels in a tile


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Fraction of the outermost frequencies that is predicted with and without a calibration.

    Parameters
    ----------
    without, having : tuple[float, ...]
        Predicted fraction of the energy without and with a calibration, by half and tile.
    """

    without_calibration: tuple[float, ...]
    with_calibration: tuple[float, ...]

    @property
    def gain(self) -> float:
        """Improvement by the calibration, averaged over tiles."""
        return float(np.mean(np.subtract(self.with_calibration, self.without_calibration)))

    @property
    def error(self) -> float:
        """Standard error of the improvement over tiles."""
        return _standard_error(np.subtract(self.with_calibration, self.without_calibration))

    def exceeds(self, reference: "Predicted") -> bool:
        """Return whether the prediction is clearly better than another in the same tiles.

        The difference must exceed 0.003 and two standard errors.
        """
        improvement = np.subtract(self.with_calibration, reference.with_calibration)
        return bool(
            improvement.mean()
            > max(MIN_IMPROVEMENT, MIN_STANDARD_ERRORS * _standard_error(improvement))
        )


def _standard_error(values: Array) -> float:
    """Return the standard error of the mean, infinite for a single value."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf


def select_slices(mask: Array) -> list[int]:
    """Return evenly spaced slices with much brain, in ascending order, counted from 0."""
    area = np.asarray(mask).sum((0, 1))
    full = np.flatnonzero(area >= 0.5 * area.max())
    first, last = int(full[0]), int(full[-1])
    count = min(_SLICES, last - first + 1)
    step = max(1, round((last - first) / (count + 1)))
    start = first + (last - first - step * (count - 1)) // 2
    return list(range(start, start + step * count, step))


class OuterBand:
    """Test of calibrations by predicting the outermost acquired frequencies of a run.

    Parameters
    ----------
    level : ResolutionLevel
        In-plane conversion between acquired and high-resolution grid for the selected slices.
    slices : Sequence[int]
        Numbers of the selected slices, evenly spaced.
    mask : Array
        Brain mask (x, y, z).
    halves : Sequence[Tensor]
        Components of both halves of the run in these slices (K, n, x, y).
    priors : Sequence[Prior]
        Priors of both halves in these slices.
    affine : Array
        Voxel-to-world matrix of the acquired grid (4 x 4, RAS+ mm).
    """

    def __init__(
        self,
        level: ResolutionLevel,
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
        ratios = [
            n_fine / n_coarse for n_fine, n_coarse in zip(level.fine, (x, y, n), strict=True)
        ]
        self._shape, self.affine = hr_grid(mask.shape, affine, ratios)
        self._sizes = [max(2, 2 * round(_KEPT * size / 2)) for size in (x, y)]
        # the reduced grid contains the acquired k-space without the outermost frequencies
        reduced = (self._sizes[0], self._sizes[1], n)
        reduction = ResolutionLevel(reduced, (x, y, n))
        self._direct = ResolutionLevel(reduced, level.fine).down_matrices
        self._kept = [
            low_matrix @ down
            for low_matrix, down in zip(reduction.low_matrices, level.down_matrices, strict=True)
        ]
        self.tiles = _select_tiles(self.priors[0].region, self.mask)
        # for each half: components on the reduced grid, which lacks the outermost frequencies, and
        # these frequencies on the acquired grid
        self._data = [
            (reduction.down(half), reduction.select_above_nyquist(half)) for half in halves
        ]
        self._base = [self._covariances(p.weight, p.fwhm, self.tiles) for p in priors]
        self._without = self._shares(self._base, range(len(self.tiles)))

    def _rows(self, tile: Tile) -> tuple[slice, slice]:
        """Return the voxels of the reduced grid within the data region of a tile."""
        out = []
        for data_range, size, grid_size in zip(
            tile.data_range, self._sizes, self.level.coarse[:2], strict=True
        ):
            centers = (np.arange(size) + 0.5) * grid_size / size - 0.5
            hit = np.flatnonzero(
                (centers >= data_range.start - 0.5) & (centers <= data_range.stop - 0.5)
            )
            out.append(slice(int(hit[0]), int(hit[-1]) + 1))
        return out[0], out[1]

    def _covariance(self, maps: Tensor, at: tuple[int, Tile], fwhm: tuple[float, ...]) -> Tensor:
        """Return the covariances for the prediction in a tile, concatenated to (u v + x y, x y).

        The first is the covariance of the outermost frequencies with the kept frequencies, the
        second the covariance of the kept frequencies.
        """
        z, tile = at
        right, left, counts = [], [], []
        for axis, rows in enumerate(self._rows(tile)):
            inner = tile.inner[axis]
            fine = tile.fine[axis]
            right.append(self._direct[axis][rows, fine].contiguous())
            acquired = self.level.down_matrices[axis][inner, fine]
            left.append(torch.cat([acquired, self._kept[axis][inner, fine], right[axis]]))
            counts.append(len(acquired))
        (u, v), maps_of_tile = counts, maps[:, z, *tile.fine]
        out = covariance(maps_of_tile, fwhm, (right[0], right[1]), (left[0], left[1])).view(
            len(left[0]), len(left[1]), -1
        )
        outer = out[:u, :v] - out[u : 2 * u, v : 2 * v]
        return torch.cat([outer.flatten(0, 1), out[2 * u :, 2 * v :].flatten(0, 1)])

    def _covariances(
        self, maps: Tensor, fwhm: tuple[float, ...], tiles: Iterable[tuple[int, Tile]]
    ) -> list[Tensor]:
        """Return the covariances in each tile (see `_covariance`)."""
        return list(map_in_threads(lambda at: self._covariance(maps, at, fwhm), tiles))

    def _shares(
        self, priors: Iterable[Iterable[Tensor]], numbers: Sequence[int]
    ) -> tuple[float, ...]:
        """Return the predicted fraction for each half and tile, one half after the other."""
        jobs = (
            (h, n, tile_covariance)
            for h, covariances in enumerate(priors)
            for n, tile_covariance in zip(numbers, covariances, strict=True)
        )
        return tuple(map_in_threads(lambda job: self._share(*job), jobs))

    def _share(self, half: int, number: int, prior: Tensor) -> float:
        """Return the fraction of the other half's outermost frequencies that a half predicts.

        The prediction is evaluated in a single tile.
        """
        (z, tile), (inner, outer) = self.tiles[number], self._data[1 - half]
        data = inner[:, z, *self._rows(tile)].flatten(1)
        across, kept_covariance = prior[: -data.shape[1]], prior[-data.shape[1] :]
        root = torch.linalg.cholesky(
            kept_covariance + self.priors[half].noise * torch.eye(len(kept_covariance))
        )
        in_mask = self.mask[z, *tile.inner].flatten()
        prediction = (across @ torch.cholesky_solve(data.T, root)).T[:, in_mask]
        measured = outer[:, z, *tile.inner].flatten(1)[:, in_mask]
        energy = measured.square().sum(1)
        residual = (measured - prediction).square().sum(1)
        return float((1 - residual / energy.clamp_min(1e-30)).mean())

    def predict(
        self,
        exemplars: CalibrationPatterns,
        correction: Array | None = None,
        share: float = SHARE,
        slice_step: int = 1,
    ) -> Predicted:
        """Return the prediction of the outermost frequencies with a calibration.

        Parameters
        ----------
        exemplars : CalibrationPatterns
            Patterns of the calibration.
        correction : Array | None, optional
            Transform applied to boldref points before they are mapped to the calibration (4 x 4,
            RAS+ mm); None means identity (see `CalibrationPatterns.resample`).
        share : float, optional
            Fraction of the variance due to the patterns, from 0 to 1.
        slice_step : int, optional
            Evaluate every n-th slice of the test, if it contains tiles.
        """
        slice_indices = range(slice_step // 2, len(self.slices), slice_step)
        numbers = [n for n, (z, _) in enumerate(self.tiles) if z in slice_indices]
        if not numbers:
            return self.predict(exemplars, correction, share)
        tiles = [(slice_indices.index(z), tile) for z, tile in (self.tiles[n] for n in numbers)]
        halves = np.reshape(self._without, (2, -1))
        without = tuple(halves[:, numbers].ravel().tolist())
        patterns = self._patterns(exemplars, correction, slice_indices)
        if not bool(patterns[:, :, *self.priors[0].region.fine].any()):
            return Predicted(without_calibration=without, with_calibration=without)
        pattern_prior = replace(self.priors[0], weight=patterns, fwhm=(FWHM,) * len(patterns))
        on_tiles = self._covariances(patterns, pattern_prior.fwhm, tiles)
        slice_priors = (
            replace(prior, weight=prior.weight[:, list(slice_indices)]) for prior in self.priors
        )
        levels = [
            slice_prior.mean_variance / pattern_prior.mean_variance for slice_prior in slice_priors
        ]
        mixed_covariances = (
            (
                torch.lerp(base[n], level * pattern_covariance, share)
                for n, pattern_covariance in zip(numbers, on_tiles, strict=True)
            )
            for level, base in zip(levels, self._base, strict=True)
        )
        return Predicted(
            without_calibration=without, with_calibration=self._shares(mixed_covariances, numbers)
        )

    def _patterns(
        self, exemplars: CalibrationPatterns, correction: Array | None, slice_indices: range
    ) -> Tensor:
        """Return the patterns in the evaluated slices (C, n, X, Y)."""
        x, y, _ = self._shape
        numbers = [self.slices[n] for n in slice_indices]
        slice_affine = np.array(self.affine)
        slice_affine[:3, 3] += slice_affine[:3, 2] * numbers[0]
        slice_affine[:3, 2] *= numbers[1] - numbers[0] if len(numbers) > 1 else 1
        return exemplars.resample((int(x), int(y), len(numbers)), slice_affine, correction)


def _select_tiles(region: Tile, mask: Tensor) -> list[tuple[int, Tile]]:
    """Return tiles with enough brain, and the index of their slice.

    The tiles are evenly spaced over all slices.
    """
    out, selected_tiles = [], []
    for axis in region.inner:
        count = max(1, (axis.stop - axis.start) // _INNER)
        start = axis.start + (axis.stop - axis.start - count * _INNER) // 2
        edges = [max(axis.start, start + k * _INNER) for k in range(count + 1)]
        selected_tiles.append([slice(a, min(b, axis.stop)) for a, b in pairwise(edges)])
    for z in range(len(mask)):
        for inner in product(*selected_tiles):
            if float(mask[z, inner[0], inner[1]].float().mean()) >= _MIN_BRAIN:
                out.append((z, region.part(inner[0], inner[1], _HALO)))
    return [out[k] for k in evenly_spaced(len(out), _TILES)]
