"""Temporal components of a calibration as part of the prior of a run.

A calibration with N volumes shows N patterns of fluctuation at high resolution, with their signs
and shapes. A standard deviation map contains only their magnitude. With the patterns, the
covariance of the run is

    C = (1 - a) sum_q W_q K_q W_q + a f sum_c diag(x_c) T diag(x_c)

with the patterns x_c, a wide Gaussian correlation T, and a factor f that gives both parts the same
mean variance of acquired voxels. Near every voxel, the signal change is a combination of the
patterns, and this combination varies slowly in space. Each pattern is therefore an additional map
of the prior, which may be negative. The maps W_q of the run itself are averaged with the standard
deviation of the patterns.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bids_sr.io.arrays import Array, float32_checksum
from bids_sr.io.grids import Factor, Shape
from bids_sr.spatial.resampling import sample_volume, spline_coefficients
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.operators import level_above, to_slices
from bids_sr.sr.prior_maps.prior import Prior

FWHM = 8.0
"""FWHM of T (high-resolution voxels); 5 is worse, and 12 is not better."""
SHARE = 0.4
"""Fraction a of the variance due to the patterns; 0.25 and 0.6 are not better in either of two
participants.
"""
# weight of the patterns' standard deviation in the run's own maps, relative to the share
_MAP_WEIGHT = 0.75
_MIN_SD = 0.02  # smallest standard deviation of the patterns, relative to its median over voxels


@dataclass(frozen=True, kw_only=True)
class CalibrationPatterns:
    """Patterns of a calibration on its own grid, with their position relative to a run.

    `patterns` are (C, X, Y, Z), strongest first, in signal units of the calibration, and `affine`
    is its voxel-to-world matrix (4 x 4, RAS+ mm). `from_boldref` is the transform of boldref
    points to calibration points (4 x 4, RAS+ mm).
    """

    patterns: Array
    affine: Array
    from_boldref: Array

    def resample(self, shape: Shape, affine: Array, correction: Array | None = None) -> Tensor:
        """Resample the patterns to a grid in boldref space by spline interpolation (C, Z, X, Y).

        Values are in signal units of the calibration, and 0 outside its field of view.
        `correction` is a transform applied to boldref points before they are mapped to the
        calibration (4 x 4, RAS+ mm); None means identity.
        """
        xfm = self.from_boldref if correction is None else self.from_boldref @ correction
        resampled = (
            sample_volume(pattern, self.affine, shape, affine, xfm, coefficients=coefficients)
            for pattern, coefficients in zip(self.patterns, self._coefficients, strict=True)
        )
        in_field_of_view = self._select_field_of_view(
            shape, np.linalg.inv(self.affine) @ xfm @ affine
        )
        return torch.stack([to_slices(image) for image in resampled]) * to_slices(in_field_of_view)

    @cached_property
    def _coefficients(self) -> list[Array]:
        """Spline coefficients of the patterns, computed once."""
        return [spline_coefficients(np.asarray(pattern, np.float32)) for pattern in self.patterns]

    def _select_field_of_view(self, shape: Shape, to_voxel: Array) -> Array:
        """Return which voxels of a grid are in the field of view of the calibration.

        `to_voxel` transforms voxels of the grid to voxels of the calibration (4 x 4).
        """
        in_field_of_view = np.ones(shape, bool)
        x, y, z = np.ogrid[tuple(slice(n) for n in shape)]
        for row, size in zip(to_voxel[:3], self.patterns.shape[1:], strict=True):
            coordinate = row[0] * x + row[1] * y + row[2] * z + row[3]
            in_field_of_view &= (coordinate >= -0.5) & (coordinate <= size - 0.5)
        return in_field_of_view

    def downsample(
        self, shape: tuple[int, ...], affine: Array, factor: Factor, correction: Array
    ) -> Tensor:
        """Downsample the patterns to the resolution and grid of an acquisition (C, z, x, y).

        `shape` is the shape of the acquired grid (x, y, z), and `affine` its voxel-to-world matrix
        (4 x 4, RAS+ mm). `correction` is a transform applied to boldref points before they are
        mapped to the calibration (4 x 4, RAS+ mm).
        """
        level = level_above(shape, factor)
        return level.downsample(
            self.resample(level.highres_shape, hr_grid(shape, affine, factor)[1], correction)
        )

    @property
    def checksum(self) -> str:
        """SHA-256 checksum of the patterns."""
        return float32_checksum(self.patterns)


def add_patterns(prior: Prior, patterns: Tensor, share: float = SHARE) -> Prior:
    """Add patterns to a prior, preserving its mean variance.

    The prior's own maps are averaged with the standard deviation of the patterns (mean of
    logarithms).

    `patterns` are on the whole high-resolution grid (C, Z, X, Y). `share` is the fraction of the
    variance due to the patterns; with 0, the prior is returned unchanged, otherwise with an
    additional map per pattern.
    """
    if share == 0 or not bool(patterns.any()):
        return prior
    # patterns are used only around the mask
    patterns = patterns * (prior.weight > 0).all(0)
    pattern_sd = patterns.square().sum(0).sqrt()
    averaged = _average_with_measured(prior, pattern_sd, _MAP_WEIGHT * share)
    pattern_prior = replace(prior, weight=patterns, fwhm=(FWHM,) * len(patterns)).scale(
        averaged.mean_variance
    )
    weight = torch.cat([(1 - share) ** 0.5 * averaged.weight, share**0.5 * pattern_prior.weight])
    return replace(prior, weight=weight, fwhm=(*prior.fwhm, *pattern_prior.fwhm))


def _average_with_measured(prior: Prior, measured_sd: Tensor, share: float) -> Prior:
    """Return a prior whose maps are averaged with a measured map (Z, X, Y).

    The average is a weighted mean of logarithms. The measured map determines only the spatial
    distribution, not the magnitude. If the measured map is 0 in a voxel, for example outside its
    field of view, the maps are unchanged.
    """
    in_field_of_view = (measured_sd > 0) & (prior.weight > 0).all(0)
    log_measured = measured_sd.clamp_min(
        _MIN_SD * float(measured_sd[in_field_of_view].median())
    ).log()
    log_maps = prior.weight.log()
    mean_log_maps = log_maps[:, in_field_of_view].mean(1)[:, None, None, None]
    target = log_measured - log_measured[in_field_of_view].mean() + mean_log_maps
    averaged_maps = torch.where(
        in_field_of_view, torch.lerp(log_maps, target, share), log_maps
    ).exp()
    return replace(prior, weight=averaged_maps).scale(prior.mean_variance)
