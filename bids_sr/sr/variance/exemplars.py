"""Temporal components of a calibration, as a part of the prior of a run.

A calibration of N volumes shows N patterns of fluctuation at the high resolution, with their signs
and shapes, of which a standard deviation map keeps only the size. As a part of the covariance of
the run they are

    C = (1 - a) sum_q W_q K_q W_q + a f sum_c diag(x_c) T diag(x_c)

where x_c are the patterns, T is a wide Gaussian correlation, and f gives both parts the same mean
variance of the acquired voxels: near every place the change is a combination of what the
calibration showed there, and the combination varies slowly. Each pattern thus enters as one more
map of the prior, which may be negative. The maps W_q of the run itself lean towards the standard
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
from bids_sr.sr.variance.prior import Prior

FWHM = 8.0  # of T (high-resolution voxels): 5 is worse, 12 no better
SHARE = 0.4  # a; .25 and .6 are no better on either of two people
# of the share: how far the run's own maps lean towards the standard deviation of the patterns
_LEAN = 0.75
_LEAST_SPREAD = 0.02  # of the median standard deviation


@dataclass(frozen=True, kw_only=True)
class Exemplars:
    """Patterns of a calibration on its own grid, and where they lie to a run.

    `patterns`: (C, X, Y, Z), strongest first, in signal units of the calibration. `affine`: voxel
    -> RAS mm. `from_boldref`: 4x4, takes a boldref point to its point in the calibration (RAS mm).
    """

    patterns: Array
    affine: Array
    from_boldref: Array

    @cached_property
    def _coefficients(self) -> list[Array]:
        """Of their splines, which are made once, however often they are moved."""
        return [spline_coefficients(np.asarray(each, np.float32)) for each in self.patterns]

    def on(self, shape: Shape, affine: Array, correction: Array | None = None) -> Tensor:
        """Return patterns (C, Z, X, Y) on a grid in boldref space, 0 outside the calibration.

        By spline interpolation, in signal units of the calibration. `correction` (4x4, RAS mm)
        moves a boldref point before it is looked up there; None: identity.
        """
        xfm = self.from_boldref if correction is None else self.from_boldref @ correction
        seen = (
            sample_volume(pattern, self.affine, shape, affine, xfm, coefficients=coefficients)
            for pattern, coefficients in zip(self.patterns, self._coefficients, strict=True)
        )
        inside = self._inside(shape, np.linalg.inv(self.affine) @ xfm @ affine)
        return torch.stack([to_slices(each) for each in seen]) * to_slices(inside)

    def _inside(self, shape: Shape, to_voxel: Array) -> Array:
        """Whether each voxel of a grid lies in the field of view of the calibration.

        `to_voxel` takes it to a voxel of the calibration.
        """
        out = np.ones(shape, bool)
        x, y, z = np.ogrid[tuple(slice(n) for n in shape)]
        for row, size in zip(to_voxel[:3], self.patterns.shape[1:], strict=True):
            at = row[0] * x + row[1] * y + row[2] * z + row[3]
            out &= (at >= -0.5) & (at <= size - 0.5)
        return out

    def seen_by(
        self, shape: tuple[int, ...], affine: Array, factor: Factor, correction: Array
    ) -> Tensor:
        """Downsample patterns to the grid (shape, affine) of an acquisition, (C, z, x, y).

        They are seen at the resolution of that acquisition.

        `correction`: transform of a boldref point before its look-up (4 x 4, RAS+ mm).
        """
        level = level_above(shape, factor)
        return level.down(self.on(level.fine, hr_grid(shape, affine, factor)[1], correction))

    @property
    def checksum(self) -> str:
        """SHA-256 of the patterns."""
        return float32_checksum(self.patterns)


def with_exemplars(prior: Prior, patterns: Tensor, share: float = SHARE) -> Prior:
    """Return a prior with patterns (C, Z, X, Y) as a share of its variance.

    The mean variance stays.

    Its own maps lean towards the standard deviation that the patterns make together (mean of
    logarithms).

    `patterns`: patterns of a calibration on the whole high-resolution grid (C, Z, X, Y). Prior
    with one more map for each pattern; unchanged for share 0.
    """
    if share == 0 or not bool(patterns.any()):
        return prior
    # around the mask alone
    patterns = patterns * (prior.weight > 0).all(0)
    own = _leaning(prior, patterns.square().sum(0).sqrt(), _LEAN * share)
    alone = replace(prior, weight=patterns, fwhm=(FWHM,) * len(patterns)).scaled(own.mean_variance)
    weight = torch.cat([(1 - share) ** 0.5 * own.weight, share**0.5 * alone.weight])
    return replace(prior, weight=weight, fwhm=(*prior.fwhm, *alone.fwhm))


def _leaning(prior: Prior, measured: Tensor, share: float) -> Prior:
    """Return a prior whose maps are averaged with a measured map (Z, X, Y).

    The average is a weighted mean of their logarithms.

    A measured map says where, and not how much. Where it is 0, outside its field of view, the maps
    stay.
    """
    there = (measured > 0) & (prior.weight > 0).all(0)
    other = measured.clamp_min(_LEAST_SPREAD * float(measured[there].median())).log()
    log = prior.weight.log()
    other = other - other[there].mean() + log[:, there].mean(1)[:, None, None, None]
    mixed = torch.where(there, torch.lerp(log, other, share), log).exp()
    return replace(prior, weight=mixed).scaled(prior.mean_variance)
