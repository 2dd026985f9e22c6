"""Low-resolution grids: low-pass filtering, and coverage of a grid's voxels by a finer image."""

from collections.abc import Sequence

import numpy as np
from nibabel.affines import voxel_sizes
from scipy import ndimage

from bids_sr.io.arrays import Array, Mask
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid


def coarsen(volume: Array, affine: Array, mm: float | Sequence[float]) -> tuple[Array, Array]:
    """Return low-pass and downsample a volume (float32) and affine to voxels of about `mm`.

    The outer edges stay the same; coarser axes stay as they are.

    Parameters
    ----------
    volume : Array
        Image or mask to downsample (3D).
    affine : Array
        Voxel-to-world matrix of the grid (4 x 4, RAS+ mm).
    mm : float | Sequence[float]
        Voxel size to reach (mm), one for all axes or one for each.

    Returns
    -------
    tuple[Array, Array]
        Coarser volume (float32), and its voxel-to-world matrix (4 x 4, RAS+ mm).
    """
    sizes = voxel_sizes(affine)
    factor = np.minimum(sizes / np.broadcast_to(np.asarray(mm, dtype=float), 3), 1.0)
    if (factor > 0.99).all():
        return np.asarray(volume, dtype=np.float32), np.asarray(affine, dtype=float)
    shape, grid = hr_grid(volume.shape, affine, factor)
    # a Gaussian whose width, with that of the high-resolution voxel, makes the low-resolution
    # voxel's (FWHM = voxel)
    smooth = ndimage.gaussian_filter(
        np.asarray(volume, dtype=np.float32),
        0.4247 * np.sqrt(np.maximum(factor**-2.0 - 1, 0)),
        mode="nearest",
    )
    return sample_volume(smooth, affine, shape, grid, order=1), grid


def coarse_mask(mask: Mask, affine: Array, mm: float) -> Mask:
    """A mask on voxels of about `mm`: those at least half inside it; see `coarsen`.

    Coarser voxels of which more than half lie inside (3D, boolean).
    """
    return coarsen(mask, affine, mm)[0] > 0.5


def hr_factor(affine: Array, mm: float) -> tuple[int, int, int]:
    """How many times each axis must be divided for voxels of at most `mm`."""
    n = np.ceil(voxel_sizes(affine) / mm - 1e-6).astype(int)
    return int(n[0]), int(n[1]), int(n[2])


def block_average(fine: Array, factor: tuple[int, int, int]) -> Array:
    """Return means over blocks of `factor` voxels.

    `fine`: image whose shape is a multiple of the factor (3D). Mean of each block (3D, float32).
    """
    x, y, z = (n // f for n, f in zip(fine.shape, factor, strict=True))
    fx, fy, fz = factor
    return fine.reshape(x, fx, y, fy, z, fz).mean(axis=(1, 3, 5), dtype=np.float32)


def coverage(
    source: Array,
    source_affine: Array,
    shape: Sequence[int],
    affine: Array,
    xfm: Array | None = None,
    *,
    mm: float = 2.0,
) -> Array:
    """Return the mean of `source` over each voxel of another grid; float32.

    It tells how much of the voxel a mask or tissue fills.

    Parameters
    ----------
    source : Array
        (X, Y, Z) mask or probability; zero outside its field of view.
    source_affine : Array
        Voxel-to-world matrix of the source (4 x 4, RAS+ mm).
    shape, affine : Sequence[int]
        The grid of the result.
    xfm : Array | None, optional
        Takes a point of that grid to the source's point (RAS mm).
    mm : float, optional
        Distance between samples at most.

    Returns
    -------
    Array
        Mean by voxel of that grid (3D), from 0 to 1 for a mask.
    """
    factor = hr_factor(affine, mm)
    fine_shape, fine_affine = hr_grid(tuple(shape), affine, factor)
    fine = sample_volume(
        np.asarray(source, np.float32),
        source_affine,
        fine_shape,
        fine_affine,
        xfm,
        order=1,
        zero_outside=True,
    )
    return block_average(fine, factor)
