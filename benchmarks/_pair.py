"""A low- and a high-resolution image of one head in one position."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_sr.io.nifti import load_image
from bids_sr.networks.data.examples import Examples
from bids_sr.networks.data.images import pair_image
from bids_sr.spatial.itk_files import read_itk
from bids_sr.spatial.masks import brain_mask
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.recipe import Recipe

Array = NDArray[Any]
FACTOR = (2.0, 2.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """(x, y, z), (X, Y, z), the head in the low-resolution image, its voxel -> RAS mm, low- over
    high-resolution voxel size.
    """

    lowres: Array
    highres: Array
    mask: Array
    lowres_affine: Array
    factor: tuple[float, float, float]

    def examples(self, recipe: Recipe) -> Examples:
        """Return its slices as examples for training."""
        image = pair_image(self.lowres, self.highres, self.mask, self.lowres_affine, self.factor)
        return Examples((image,), recipe, self.factor, 2)


def pair_of(phantom: Path) -> Pair:
    """Read the pair of a phantom; the high-resolution image is resampled by the known
    transform.
    """
    (low,) = phantom.glob("sub-*/anat/*acq-lowres_T2starw.nii.gz")
    (high,) = phantom.glob("sub-*/anat/*acq-highres_T2starw.nii.gz")
    (xfm_file,) = phantom.glob("derivatives/ground-truth/sub-*/anat/*from-highres_to-lowres*.txt")
    lowres, affine = load_image(low)
    highres, highres_affine = load_image(high)
    shape, grid = hr_grid(lowres.shape, affine, FACTOR)
    return Pair(
        lowres=lowres,
        highres=sample_volume(
            highres, highres_affine, shape, grid, np.linalg.inv(read_itk(xfm_file)[0])
        ),
        mask=brain_mask(lowres, affine),
        lowres_affine=affine,
        factor=FACTOR,
    )
