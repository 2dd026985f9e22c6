"""Linear registration of two images that can start from several transforms."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import AntsOptions, RegistrationStage, read_linear, register
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.similarity import normalized_mutual_information


class LinearFit(NamedTuple):
    """Transform of a fixed point to its moving point (4 x 4, RAS+ mm), and its score."""

    xfm: Array
    nmi: float


@frozen
class LinearRegistration:
    """Images and settings of a linear registration.

    The metric is restricted to the voxels `metric_mask` of the fixed image (3D, boolean).
    `read_xfm` returns the transform in a file of ANTs.
    """

    fixed: Volume
    moving: Volume
    metric_mask: Array
    stages: Sequence[RegistrationStage]
    options: AntsOptions
    read_xfm: Callable[[Path], Array] = read_linear

    def fit_from(self, start: Array, name: str) -> LinearFit:
        """Register the images from a transform; `name` is part of the file names."""
        (file,) = register(
            self.fixed,
            self.moving,
            self.stages,
            self.options.extend(f"{name}_"),
            start=start,
            fixed_mask=self.metric_mask,
        )
        xfm = self.read_xfm(file)
        return LinearFit(xfm=xfm, nmi=self.score(xfm))

    def score(self, xfm: Array) -> float:
        """Return the normalized mutual information after a transform."""
        return mutual_information(self.fixed, self.moving, xfm, self.metric_mask)


def mutual_information(fixed: Volume, moving: Volume, xfm: Array, mask: Array) -> float:
    """Return the normalized mutual information of two images inside a mask.

    The moving image is resampled to the grid of the fixed image by `xfm`, the transform of a fixed
    point to its moving point (4 x 4, RAS+ mm). `mask` contains voxels of the fixed image to
    compare (3D, boolean). The result is from 1 (independent) to 2 (one-to-one).
    """
    moving_on_fixed = sample_volume(
        moving.data, moving.affine, fixed.data.shape, fixed.affine, xfm, order=1, zero_outside=True
    )
    return normalized_mutual_information(fixed.data[mask], moving_on_fixed[mask])
