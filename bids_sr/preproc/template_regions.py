"""Regions of interest with their space, in a template or on a T1w image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.fields_of_view import same_grid
from bids_sr.io.region_names import BRAIN
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import apply, load


def find_region(roi: str, brain: Volume) -> Volume:
    """Return a region of interest as a mask on its own grid (3D).

    Parameters
    ----------
    roi : str
        Word ``brain``, or path of a NIfTI mask, whose positive voxels are the region.
    brain : Volume
        Brain mask on the T1w grid (3D).

    Returns
    -------
    Volume
        Mask of the region.

    Raises
    ------
    ValueError
        The file does not exist or contains no positive voxel.
    """
    if roi == BRAIN:
        return brain
    if not Path(roi).is_file():
        raise ValueError(
            f"the region of interest {roi} does not exist: specify brain, names of atlas"
            " regions, or the path of a NIfTI mask"
        )
    image = load(roi)
    if not (image.data > 0).any():
        raise ValueError(
            f"{roi}: the region of interest is empty (no voxels above zero). Provide a mask"
            " with the value 1 inside the region, or names of atlas regions."
        )
    return Volume(data=(image.data > 0).astype(np.float32), affine=image.affine)


def resample_to_t1w(
    image: Volume, t1w: Volume, xfms: Sequence[Path], *, seed: int, interpolator: str = "linear"
) -> Array:
    """Resample an image to the T1w grid.

    `xfms` are the transform files from T1w points to the space of the image; points go through the
    last file first. If `xfms` is empty, the headers are used. `seed` is the seed of the random
    samples of ANTs, and `interpolator` a name in antspyx, such as ``linear``. Values on the T1w
    grid are 3D, float32, and 0 outside the image.
    """
    float_image = Volume(data=image.data.astype(np.float32), affine=image.affine)
    # the brain mask of the T1w image is the usual region
    if not xfms and same_grid(image.data.shape, image.affine, t1w.data.shape, t1w.affine):
        return float_image.data
    return apply(float_image, t1w, xfms, seed=seed, interpolator=interpolator)
