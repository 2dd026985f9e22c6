"""An image through a deformation that is no matrix: displaced point by point, still in one interpolation."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bids_sr.spatial.resampling import PAD, Spline, Volume, spline_coefficients

Array = npt.NDArray[Any]


def sample_warped(
    volume: Array, affine: Array, target_affine: Array, xfm: Array, moved: Array, spline: Spline | None = None
) -> Volume:
    """A volume as seen on another grid through a matrix and a displacement behind it, in one interpolation.

    Parameters
    ----------
    volume : (X, Y, Z)
    affine : its voxel-to-RAS matrix (mm)
    target_affine : of the grid of the result, whose shape is that of `moved`
    xfm : 4x4, takes a target point (RAS mm) to the volume's point
    moved : (3, *target) mm along RAS, added to the volume's point after `xfm`
    spline : order; beyond the edge of the volume its edge goes on

    Returns
    -------
    float32 array; that of `bids_sr.spatial.resampling.sample_volume` where nothing is moved, to rounding
    """
    spline = spline or Spline()
    if moved.ndim != 4 or len(moved) != 3 or spline.mode != "nearest":
        raise ValueError(f"displacements of {moved.shape}, edge {spline.mode!r}: not (3, X, Y, Z) and 'nearest'")
    back = np.linalg.inv(affine)
    matrix = back @ xfm @ target_affine
    source = spline_coefficients(volume, spline)
    shape = moved.shape[1:]
    out = np.empty(shape, dtype=np.float32)
    rows, columns = (np.arange(n, dtype=np.float64) for n in shape[:2])
    for z in range(shape[2]):  # coordinates of a slice stay in the cache
        extra = np.tensordot(back[:3, :3], moved[..., z], axes=1)
        at = np.stack([
            row[0] * rows[:, None] + row[1] * columns + (row[2] * z + row[3]) + more + PAD
            for row, more in zip(matrix[:3], extra, strict=True)
        ])  # fmt: skip
        out[:, :, z] = ndimage.map_coordinates(
            source, at, order=spline.order, mode="nearest", prefilter=False, output=np.float32
        )
    return out
