"""Rigid registration of two images with the same contrast by Gauss-Newton.

Matrices are 4x4 (RAS mm) and map a point of the fixed image to its position in the moving image.
"""

import numpy as np

from bids_sr.io.arrays import Array, MaskArray
from bids_sr.io.volume import Volume
from bids_sr.preproc.hmc import MotionEstimator
from bids_sr.spatial.reproducible_numbers import round_values
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import rms_distance, voxel_centers

SAME_CONTRAST_CORRELATION = 0.97
"""Smallest correlation of aligned images of one contrast; below it, the alignment is rejected."""


def refine(
    fixed: Volume,
    moving: Volume,
    mask: Array,
    start: Array,
    *,
    rounds: int = 2,
    max_change_mm: float = 3.0,
) -> Array:
    """Refine a rigid transform between images of one contrast by Gauss-Newton.

    If registration fails or changes the transform by more than `max_change_mm`, the result is
    `start`.

    Parameters
    ----------
    fixed : Volume
        Fixed image (3D).
    moving : Volume
        Moving image (3D).
    mask : Array
        Head voxels of the fixed image (3D, boolean).
    start : Array
        Transform of a fixed point to its moving point (4 x 4, RAS+ mm), accurate to about 10 mm.
    rounds : int, optional
        Number of times that the moving image is resampled and registered.
    max_change_mm : float, optional
        Largest change of the transform (mm, rms over the head).

    Returns
    -------
    Array
        Transform of a fixed point to its moving point (4 x 4, RAS+ mm).
    """
    xfm = _gauss_newton(fixed, moving, mask, start, rounds)
    if xfm is None:
        return np.asarray(start, dtype=float)
    change_mm = rms_distance(start, xfm, voxel_centers(mask, fixed.affine))
    return xfm if change_mm <= max_change_mm else np.asarray(start, dtype=float)


def align_same_contrast(fixed: Volume, moving: Volume, mask: Array) -> Array | None:
    """Align two images of the same head and contrast by Gauss-Newton, starting from their headers.

    The alignment takes about a tenth of the time of `register_rigid`, and fails after large head
    motion.

    `mask` contains voxels of the head in the fixed image (3D, boolean). Returns the transform of a
    fixed point to its moving point (4 x 4, RAS+ mm); None unless the images then correlate at 0.97
    or more in the mask.
    """
    xfm = _gauss_newton(fixed, moving, mask, np.eye(4), rounds=3)
    if xfm is None:
        return None
    shape = fixed.data.shape
    moving_on_fixed = sample_volume(moving.data, moving.affine, shape, fixed.affine, xfm)
    return (
        xfm
        if np.corrcoef(moving_on_fixed[mask], fixed.data[mask])[0, 1] >= SAME_CONTRAST_CORRELATION
        else None
    )


def _gauss_newton(
    fixed: Volume, moving: Volume, mask: Array, start: Array, rounds: int
) -> Array | None:
    """Alternate resampling and registration for some rounds; None if no transform is found."""
    xfm = np.asarray(start, dtype=float)
    for _ in range(rounds):
        moving_on_fixed = sample_volume(
            moving.data, moving.affine, fixed.data.shape, fixed.affine, xfm
        )
        in_view = mask_field_of_view(moving, fixed, xfm)
        estimator = MotionEstimator(
            np.where(in_view, fixed.data, 0), mask & in_view, fixed.affine, margin=0
        )
        step, cost = estimator.fit(np.where(in_view, moving_on_fixed, 0), [np.eye(4)])
        if not np.isfinite(cost):
            return None
        xfm = round_values(xfm @ step)
    return xfm


def estimate_covariance(
    fixed: Volume, moving: Volume, mask: Array, xfm: Array
) -> tuple[Array, Array]:
    """Estimate the error of the registration of two images of one contrast from its residual.

    For the parameters, see `refine`; `xfm` is its result. Returns the covariance (6, 6) of
    translation (mm) and rotation (rad) of a fixed point, and the center of the rotation (3,).
    """
    moving_on_fixed = sample_volume(
        moving.data, moving.affine, fixed.data.shape, fixed.affine, xfm
    )
    in_view = mask_field_of_view(moving, fixed, xfm)
    estimator = MotionEstimator(
        np.where(in_view, fixed.data, 0), mask & in_view, fixed.affine, margin=0
    )
    return estimator.estimate_covariance(np.where(in_view, moving_on_fixed, 0)), estimator.center


def mask_field_of_view(moving: Volume, fixed: Volume, xfm: Array) -> MaskArray:
    """Return the voxels of a fixed image inside the field of view of a moving image (3D, boolean).

    The transform `xfm` maps a fixed point to its moving point (4 x 4, RAS+ mm).
    """
    coverage = sample_volume(
        np.ones(moving.data.shape, dtype=np.float32),
        moving.affine,
        fixed.data.shape,
        fixed.affine,
        xfm,
        order=1,
        zero_outside=True,
    )
    return coverage > 0.99
