"""Bias-field correction of an anatomical image by N4."""

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import load_ants, to_ants
from bids_sr.preproc.brain import downsample
from bids_sr.spatial import low_resolution_grids, masks
from bids_sr.spatial.resampling import sample_volume

_FIELD_VOXEL_MM = 5.0  # mm, voxel size for the estimation of the bias field
_FIELD_RANGE = (0.05, 20.0)  # limits of the bias field


def correct_bias_field(
    image: Volume, mask: Array | None, *, seed: int, iterations: tuple[int, ...]
) -> Volume:
    """Divide an image by its bias field, estimated with N4 (Tustison 2010) on 5 mm voxels.

    The geometric mean of the field in the mask is 1. The number of B-spline mesh elements doubles
    with each level of `iterations`.

    Parameters
    ----------
    image : Volume
        Image of a head or brain (3D); negative values are set to 0.
    mask : Array | None
        Voxels in which the field is estimated and scaled (3D, boolean); None uses the head.
    seed : int
        Seed of the random samples of ANTs.
    iterations : tuple[int, ...]
        Largest number of iterations at each level, lowest resolution first.

    Returns
    -------
    Volume
        Bias-corrected image (3D, float32).
    """
    ants = load_ants(seed)
    positive_image = Volume(np.maximum(image.data, 0), image.affine)
    unclipped_image = downsample(positive_image, _FIELD_VOXEL_MM)
    if mask is None:
        low_mask = masks.head_mask(unclipped_image.data, unclipped_image.affine)
    else:
        low_mask = low_resolution_grids.downsample_mask(mask, image.affine, _FIELD_VOXEL_MM)
    low_image = Volume(data=np.maximum(unclipped_image.data, 0), affine=unclipped_image.affine)
    low_field = ants.n4_bias_field_correction(
        to_ants(low_image, seed),
        to_ants(Volume(data=low_mask, affine=low_image.affine), seed),
        shrink_factor=1,
        convergence={"iters": list(iterations), "tol": 1e-6},
        spline_param=200,
        return_bias_field=True,
    ).numpy()
    # Double precision is used because single-precision logarithms depend on the processor.
    log_field = np.log(np.clip(low_field, *_FIELD_RANGE, dtype=np.float64))
    log_field -= log_field[low_mask].mean()
    upsampled_log = sample_volume(
        log_field, low_image.affine, image.data.shape, image.affine, order=1
    )
    field = np.exp(upsampled_log, dtype=np.float64)
    return positive_image.like(np.asarray(positive_image.data / field, dtype=np.float32))
