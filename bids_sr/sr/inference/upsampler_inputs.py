"""Inputs of super-resolution: an acquired run or image, and the information upsamplers need."""

from collections.abc import Callable
from dataclasses import replace
from typing import Self

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.io.notices import InvalidInput
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.inference.guided_baselines import match_gain
from bids_sr.sr.inference.posed_image import PosedImage

# Upsamples a volume (x, y, z) in its head pose to its high-resolution grid. The pose transforms
# boldref points to points of the volume (4 x 4, RAS+ mm).
Upsampler = Callable[[Array, Array], Array]


@frozen
class UpsamplerInputs:
    """Run or image on its acquired grid, with the inputs of upsamplers.

    `affine` is the voxel-to-world matrix of the acquired grid (4 x 4, RAS+ mm), required by
    `inject`, `ratio` and prior SD maps. `scale` is the intensity that is scaled to 1 for a
    network: the 99th percentile of the boldref in the mask. `mask` is the brain mask on the
    acquired grid (x, y, z), required by prior SD maps. `mean` is the boldref, required by `ratio`.
    `guide` is a high-resolution image. `inject` and `ratio` require it; prior SD maps add its
    static detail. `gain` is the factor that scales the guide to the intensity of the run (see
    `match_gain`). `distortion` is the susceptibility distortion of the volumes; the guide and the
    mean have their own.

    `patch` is the side of the patches for applying a network, and `overlap` the overlap of
    neighboring patches (voxels of the high-resolution grid). A `patch` of 0 means whole slices or
    volumes, None the value in the model's recipe.
    """

    factor: Factor
    affine: Array | None = None
    scale: float = 1.0
    mask: Array | None = None
    mean: PosedImage | None = None
    guide: PosedImage | None = None
    gain: float = 1.0
    distortion: Distortion | None = None
    patch: int | None = None
    overlap: int = 0
    device: str = "cpu"
    threads: int = 1

    def with_boldref(self, boldref: Array, boldref_affine: Array, mask: Array) -> Self:
        """Return a copy with scale, mask, gain and mean image of a run.

        `boldref` and its brain `mask` are (x, y, z), and `boldref_affine` is the voxel-to-world
        matrix (4 x 4, RAS+ mm). Raises `InvalidInput` if the brain mask is empty.
        """
        if not mask.any():
            raise InvalidInput("the brain mask is empty")
        gain = 1.0
        if self.guide is not None:
            highres_shape, highres_affine = hr_grid(boldref.shape, boldref_affine, self.factor)
            guide_on_boldref = self.guide.resample(highres_shape, highres_affine, None)
            gain = match_gain(guide_on_boldref, boldref, mask)
        return replace(
            self,
            scale=float(np.percentile(boldref[mask], 99)),
            mask=mask,
            gain=gain,
            mean=PosedImage(data=boldref, affine=boldref_affine, distortion=self.distortion),
        )
