"""Input of super-resolution: a run or an image, with all that any upsampler may need of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, Protocol, Self

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.spatial.distortion import Distortion
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.device import Precision
from bids_sr.sr.inference.guided_baselines import PosedImage, match_gain

Displaced = Literal["", "mirror", "shift"]


class Upsampler(Protocol):
    """Upsampler of a series' volumes to the high-resolution grid."""

    volumetric: bool = False  # it needs whole volumes: slices of one cannot be taken alone

    def __call__(self, volume: Array, pose: Array) -> Array:
        """Upsample a volume (x, y, z) in its pose to its high-resolution grid.

        The pose (4x4) takes a boldref point to the volume's point.
        """


@frozen
class PlainUpsampler(Upsampler):
    """An upsampler that is a function of a volume and its pose.

    `function`: upsamples a volume (x, y, z), given its pose (4 x 4, RAS+ mm).
    """

    function: Callable[[Array, Array], Array]

    def __call__(self, volume: Array, pose: Array) -> Array:
        return self.function(volume, pose)


class InferenceError(ValueError):
    """An upsampler that lacks what it needs, or gives what no image is."""


@frozen
class UpsamplerInputs:
    """A run or an image on the grid on which it was acquired.

    `factor`: acquired over wanted voxel size. `affine`: voxel -> RAS mm of the acquired grid;
    needed by `inject`, `ratio` and variance maps. `scale`: intensity that is 1 for a network: the
    99th percentile of the boldref in the mask. `mask`: (x, y, z) brain on the acquired grid;
    needed by variance maps. `mean`: the boldref; needed by `ratio`. `guide, gain`: high-resolution
    image of `inject` and `ratio`, whose static detail variance maps add, and what brings it to the
    intensity of the run (`match_gain`). `distortion`: of the volumes (guide and mean bring their
    own). `displaced`: placebo: variance maps of the wrong place.
    `patch, overlap`: side of the patches in which a network is applied, and what neighbors share
    (voxels of the high-resolution grid); 0 for whole slices or volumes, None for what the recipe
    of the model says.
    """

    factor: Factor
    affine: Array | None = None
    scale: float = 1.0
    mask: Array | None = None
    mean: PosedImage | None = None
    guide: PosedImage | None = None
    gain: float = 1.0
    distortion: Distortion | None = None
    displaced: Displaced = ""
    patch: int | None = None
    overlap: int = 0
    precision: Precision = "auto"
    device: str = "cpu"
    threads: int = 1

    def in_run(self, boldref: Array, boldref_affine: Array, mask: Array) -> Self:
        """The same with the intensities of the reference of a run.

        `boldref, boldref_affine, mask`: reference (x, y, z), voxel -> RAS mm, and the brain in it.
        Inputs with the scale, mask, gain and mean of the run.
        """
        if not mask.any():
            raise InferenceError("the brain mask is empty")
        gain = 1.0
        if self.guide is not None:
            shape, grid = hr_grid(boldref.shape, boldref_affine, self.factor)
            gain = match_gain(self.guide.seen(shape, grid, None), boldref, mask)
        return replace(
            self,
            scale=float(np.percentile(boldref[mask], 99)),
            mask=mask,
            gain=gain,
            mean=PosedImage(data=boldref, affine=boldref_affine, distortion=self.distortion),
        )
