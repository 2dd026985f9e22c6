"""Test whether a calibration improves the prediction of the outermost acquired frequencies.

The outer fifth of k-space is removed from the acquired components of one half of the run, and
predicted by the prior, whose SD maps are estimated from the other half. A calibration of the same
participant in the correct position improves this prediction. A calibration that is mirrored, from
another participant, or displaced by a high-resolution voxel hardly improves it, because the
predicted frequencies are just below the acquired Nyquist frequency. (The self-test at lower
resolution does not detect such a displacement. The likelihood of held-out components detects it,
but also prefers a mirrored calibration to none, because a wrong covariance with many patterns is
still less overconfident than the maps of half a run.)

The registration of the calibration is refined with the same measure.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
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

_KEPT_FRACTION = 0.8  # fraction of the acquired k-space that is kept along each axis
MIN_STANDARD_ERRORS = 2.0
"""Smallest improvement of a prediction, in standard errors."""
MIN_IMPROVEMENT = 0.003
"""Smallest relevant improvement of the predicted fraction.

A displacement by a fifth of a high-resolution voxel has this effect, which limits the accuracy.
"""
_MAX_SLICES, _MAX_TILES = 6, 16  # largest numbers in the test
_TILE_SIDE = 12  # acquired voxels
_HALO_WIDTH = 6  # acquired voxels, width of the data around a tile
_MIN_BRAIN_FRACTION = 0.6  # smallest fraction of brain voxels in a tile

_SliceTile = tuple[int, Tile]  # index of a selected slice, and tile in this slice


@dataclass(frozen=True, kw_only=True)
class BandPrediction:
    """Fraction of the outermost frequencies that is predicted with and without a calibration.

    Both fields are the predicted fraction of the energy in each tile, one half after the other.
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
        return _compute_standard_error(
            np.subtract(self.with_calibration, self.without_calibration)
        )

    def exceeds(self, reference: "BandPrediction") -> bool:
        """Return whether the prediction is clearly better than another in the same tiles.

        The difference must exceed `MIN_IMPROVEMENT` and `MIN_STANDARD_ERRORS`.
        """
        improvement = np.subtract(self.with_calibration, reference.with_calibration)
        return bool(
            improvement.mean()
            > max(MIN_IMPROVEMENT, MIN_STANDARD_ERRORS * _compute_standard_error(improvement))
        )


def _compute_standard_error(values: Array) -> float:
    """Return the standard error of the mean, infinite for a single value."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf


def select_test_slices(mask: Array) -> list[int]:
    """Return evenly spaced slices with much brain, in ascending order, counted from 0."""
    area = np.asarray(mask).sum((0, 1))
    brain_slices = np.flatnonzero(area >= 0.5 * area.max())
    first, last = int(brain_slices[0]), int(brain_slices[-1])
    count = min(_MAX_SLICES, last - first + 1)
    step = max(1, round((last - first) / (count + 1)))
    start = first + (last - first - step * (count - 1)) // 2
    return list(range(start, start + step * count, step))


class OuterBand:
    """Test of calibrations by predicting the outermost acquired frequencies of a run.

    `level` is the in-plane conversion between acquired and high-resolution grid for the selected
    slices, whose numbers `slices` are evenly spaced. `mask` is the brain mask (x, y, z). `halves`
    are components of both halves of the run in these slices (K, n, x, y), and `priors` the priors
    of both halves in these slices. `affine` is the voxel-to-world matrix of the acquired grid (4 x
    4, RAS+ mm).
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
        in_mask = np.asarray(mask)[:, :, self.slices] > 0
        self.mask = to_slices(in_mask.astype(np.float32)) > 0
        x, y, n_slices = level.acquired_shape
        ratios = [
            n_highres / n_acquired
            for n_highres, n_acquired in zip(
                level.highres_shape, level.acquired_shape, strict=True
            )
        ]
        self._highres_shape, self.highres_affine = hr_grid(mask.shape, affine, ratios)
        # the reduced grid contains the acquired k-space without the outermost frequencies
        reduced_x, reduced_y = (max(2, 2 * round(_KEPT_FRACTION * size / 2)) for size in (x, y))
        reduced_shape = (reduced_x, reduced_y, n_slices)
        self._reduced_sizes = [reduced_x, reduced_y]
        reduction = ResolutionLevel(reduced_shape, level.acquired_shape)
        self._reduction_matrices = ResolutionLevel(
            reduced_shape, level.highres_shape
        ).down_matrices
        self._kept_band_matrices = [
            band_matrix @ down
            for band_matrix, down in zip(reduction.band_matrices, level.down_matrices, strict=True)
        ]
        self.tiles = _select_tiles(self.priors[0].region, self.mask)
        # for each half: components on the reduced grid, which lacks the outermost frequencies, and
        # these frequencies on the acquired grid
        self._band_data = [
            (reduction.downsample(half), reduction.select_above_nyquist(half)) for half in halves
        ]
        self._base_covariances = [
            self._compute_covariances(prior.weight, prior.fwhm, self.tiles) for prior in priors
        ]
        self._fractions_without_calibration = self._predict_fractions(
            self._base_covariances, range(len(self.tiles))
        )

    def predict(
        self,
        calibration: CalibrationPatterns,
        correction: Array | None = None,
        share: float = SHARE,
        slice_step: int = 1,
    ) -> BandPrediction:
        """Return the prediction of the outermost frequencies with a calibration.

        `correction` is a transform applied to boldref points before they are mapped to the
        calibration (4 x 4, RAS+ mm); None means identity (see `CalibrationPatterns.resample`).
        `share` is the fraction of the variance due to the patterns, from 0 to 1. Every n-th slice
        of the test is evaluated, with n = `slice_step`, if it contains tiles.
        """
        slice_indices = range(slice_step // 2, len(self.slices), slice_step)
        tile_numbers = [number for number, (z, _) in enumerate(self.tiles) if z in slice_indices]
        if not tile_numbers:
            return self.predict(calibration, correction, share)
        # tiles with the index of their slice among the evaluated slices
        evaluated_tiles = [
            (slice_indices.index(z), tile) for z, tile in self.tiles if z in slice_indices
        ]
        fractions = np.reshape(self._fractions_without_calibration, (2, -1))
        without_calibration = tuple(fractions[:, tile_numbers].ravel().tolist())
        patterns = self._resample_patterns(calibration, correction, slice_indices)
        if not bool(patterns[:, :, *self.priors[0].region.highres_range].any()):
            return BandPrediction(
                without_calibration=without_calibration, with_calibration=without_calibration
            )
        pattern_prior = replace(self.priors[0], weight=patterns, fwhm=(FWHM,) * len(patterns))
        pattern_covariances = self._compute_covariances(
            patterns, pattern_prior.fwhm, evaluated_tiles
        )
        mixed_covariances = []
        for prior, base_covariances in zip(self.priors, self._base_covariances, strict=True):
            slice_prior = replace(prior, weight=prior.weight[:, list(slice_indices)])
            ratio = slice_prior.mean_variance / pattern_prior.mean_variance
            evaluated_covariances = [base_covariances[number] for number in tile_numbers]
            mixed_covariances.append(
                _mix_covariances(evaluated_covariances, pattern_covariances, ratio, share)
            )
        return BandPrediction(
            without_calibration=without_calibration,
            with_calibration=self._predict_fractions(mixed_covariances, tile_numbers),
        )

    def _resample_patterns(
        self, calibration: CalibrationPatterns, correction: Array | None, slice_indices: range
    ) -> Tensor:
        """Return the patterns in the evaluated slices (C, n, X, Y)."""
        x, y, _ = self._highres_shape
        numbers = [self.slices[index] for index in slice_indices]
        slice_affine = np.array(self.highres_affine)
        slice_affine[:3, 3] += slice_affine[:3, 2] * numbers[0]
        slice_affine[:3, 2] *= numbers[1] - numbers[0] if len(numbers) > 1 else 1
        return calibration.resample((int(x), int(y), len(numbers)), slice_affine, correction)

    def _compute_covariances(
        self, maps: Tensor, fwhm: tuple[float, ...], tiles: Iterable[_SliceTile]
    ) -> list[Tensor]:
        """Return the covariances in each tile (see `_compute_covariance`)."""
        return list(map_in_threads(partial(self._compute_covariance, maps, fwhm), tiles))

    def _compute_covariance(
        self, maps: Tensor, fwhm: tuple[float, ...], slice_tile: _SliceTile
    ) -> Tensor:
        """Return the covariances for the prediction in a tile, concatenated to (u v + x y, x y).

        The first is the covariance of the outermost frequencies with the kept frequencies, the
        second the covariance of the kept frequencies. u and v are the numbers of acquired voxels
        of the tile along both axes, and x and y the numbers of voxels on the reduced grid.

        `maps` are maps of the prior on the high-resolution grid (Q, n, X, Y), and `fwhm` full
        widths of the Q correlations (high-resolution voxels). `slice_tile` is a tile, with the
        index of its slice in the maps.
        """
        z, tile = slice_tile
        # right: matrices to the kept frequencies; left: matrices to all acquired frequencies and
        # to the kept frequencies on the acquired grid, followed by the right matrices
        right, left, tile_sides = [], [], []
        for axis, reduced_range in enumerate(self._reduce_range(tile)):
            inner_range, highres_range = tile.inner_range[axis], tile.highres_range[axis]
            reduction = self._reduction_matrices[axis][reduced_range, highres_range].contiguous()
            acquired = self.level.down_matrices[axis][inner_range, highres_range]
            kept_band = self._kept_band_matrices[axis][inner_range, highres_range]
            right.append(reduction)
            left.append(torch.cat([acquired, kept_band, reduction]))
            tile_sides.append(len(acquired))
        u, v = tile_sides
        covariances = covariance(
            maps[:, z, *tile.highres_range], fwhm, (right[0], right[1]), (left[0], left[1])
        ).view(len(left[0]), len(left[1]), -1)
        outer_covariances = covariances[:u, :v] - covariances[u : 2 * u, v : 2 * v]
        kept_covariances = covariances[2 * u :, 2 * v :]
        return torch.cat([outer_covariances.flatten(0, 1), kept_covariances.flatten(0, 1)])

    def _predict_fractions(
        self, covariances_of_halves: Iterable[Iterable[Tensor]], tile_numbers: Sequence[int]
    ) -> tuple[float, ...]:
        """Return the predicted fraction for each half and tile, one half after the other."""
        jobs = (
            (half, number, tile_covariance)
            for half, covariances in enumerate(covariances_of_halves)
            for number, tile_covariance in zip(tile_numbers, covariances, strict=True)
        )
        return tuple(map_in_threads(lambda job: self._predict_fraction(*job), jobs))

    def _predict_fraction(self, half: int, tile_number: int, covariances: Tensor) -> float:
        """Return the fraction of the other half's outermost frequencies that a half predicts.

        The prediction is evaluated in a single tile, whose covariances are computed by
        `_compute_covariance`.
        """
        z, tile = self.tiles[tile_number]
        kept_frequencies, outer_frequencies = self._band_data[1 - half]
        data = kept_frequencies[:, z, *self._reduce_range(tile)].flatten(1)
        size = data.shape[1]
        cross_covariance, kept_covariance = covariances[:-size], covariances[-size:]
        cholesky_factor = torch.linalg.cholesky(
            kept_covariance + self.priors[half].noise * torch.eye(size)
        )
        in_mask = self.mask[z, *tile.inner_range].flatten()
        solution = torch.cholesky_solve(data.T, cholesky_factor)
        prediction = (cross_covariance @ solution).T[:, in_mask]
        measured = outer_frequencies[:, z, *tile.inner_range].flatten(1)[:, in_mask]
        energy = measured.square().sum(1)
        residual = (measured - prediction).square().sum(1)
        return float((1 - residual / energy.clamp_min(1e-30)).mean())

    def _reduce_range(self, tile: Tile) -> tuple[slice, slice]:
        """Return the voxels of the reduced grid within the data region of a tile."""
        ranges = []
        for data_range, size, grid_size in zip(
            tile.data_range, self._reduced_sizes, self.level.acquired_shape[:2], strict=True
        ):
            centers = (np.arange(size) + 0.5) * grid_size / size - 0.5
            voxels = np.flatnonzero(
                (centers >= data_range.start - 0.5) & (centers <= data_range.stop - 0.5)
            )
            ranges.append(slice(int(voxels[0]), int(voxels[-1]) + 1))
        return ranges[0], ranges[1]


def _select_tiles(region: Tile, mask: Tensor) -> list[_SliceTile]:
    """Return tiles with enough brain, evenly spaced over all slices."""
    ranges_x, ranges_y = (_divide_range(extent) for extent in region.inner_range)
    tiles = [
        (z, region.crop(x, y, _HALO_WIDTH))
        for z, x, y in product(range(len(mask)), ranges_x, ranges_y)
        if float(mask[z, x, y].float().mean()) >= _MIN_BRAIN_FRACTION
    ]
    return [tiles[index] for index in evenly_spaced(len(tiles), _MAX_TILES)]


def _divide_range(extent: slice) -> list[slice]:
    """Divide the center of a range into tile sides; a short range is one side."""
    length = extent.stop - extent.start
    count = max(1, length // _TILE_SIDE)
    start = extent.start + (length - count * _TILE_SIDE) // 2
    edges = [max(extent.start, start + number * _TILE_SIDE) for number in range(count + 1)]
    return [slice(first, min(last, extent.stop)) for first, last in pairwise(edges)]


def _mix_covariances(
    base_covariances: Sequence[Tensor],
    pattern_covariances: Sequence[Tensor],
    ratio: float,
    share: float,
) -> Iterator[Tensor]:
    """Yield the covariance of each tile with a share of the scaled patterns.

    `ratio` is the mean variance of the prior relative to the patterns.
    """
    for base, pattern in zip(base_covariances, pattern_covariances, strict=True):
        yield torch.lerp(base, ratio * pattern, share)
