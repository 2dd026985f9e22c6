"""Low-resolution grids: downsampling, block averages and coverage of voxels by a mask."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from nibabel.affines import voxel_sizes

from bids_sr.io.arrays import Array, MaskArray
from bids_sr.io.grids import Shape
from bids_sr.spatial.reproducible_numbers import round_values
from bids_sr.spatial.resampling import sample_smoothed, sample_volume
from bids_sr.spatial.transforms import hr_grid

_SIGMA_PER_FWHM = 0.4247  # standard deviation of a Gaussian over its full width at half maximum
_MIN_UNCHANGED_FACTOR = 0.99  # factor above which a grid is not downsampled


def downsample_mask(mask: MaskArray, affine: Array, mm: float) -> MaskArray:
    """Downsample a mask to voxels of about `mm`.

    `affine` is the voxel-to-world matrix of the mask (4 x 4, RAS+ mm), see `downsample_volume`.
    Returns the low-resolution voxels that are more than half inside the mask (3D).
    """
    return downsample_volume(mask, affine, mm)[0] > 0.5


def downsample_volume(
    volume: Array, affine: Array, mm: float | Sequence[float]
) -> tuple[Array, Array]:
    """Downsample a volume to voxels of about `mm` after low-pass filtering.

    The field of view does not change. Axes whose voxels are already larger are not resampled.

    Parameters
    ----------
    volume : Array
        Image or mask to downsample (3D).
    affine : Array
        Voxel-to-world matrix of the grid (4 x 4, RAS+ mm).
    mm : float | Sequence[float]
        Target voxel size (mm), one value for all axes or one per axis.

    Returns
    -------
    tuple[Array, Array]
        Low-resolution volume (float32), and its voxel-to-world matrix (4 x 4, RAS+ mm).
    """
    lowres_shape, lowres_affine, factor = lowres_grid(volume.shape, affine, mm)
    if (factor == 1).all():
        return np.asarray(volume, dtype=np.float32), lowres_affine
    # Gaussian that widens the high-resolution voxel to the low-resolution voxel
    # (FWHM = voxel size)
    sigmas = _SIGMA_PER_FWHM * np.sqrt(np.maximum(factor**-2.0 - 1, 0))
    matrix = round_values(np.linalg.inv(affine) @ lowres_affine)
    return sample_smoothed(volume, sigmas, matrix, lowres_shape), lowres_affine


class _LowresGrid(NamedTuple):
    """Low-resolution grid over the field of view of another grid.

    `affine` is the voxel-to-world matrix (4 x 4, RAS+ mm), and `factor` the ratio of high- to
    low-resolution voxel size along each axis (3,).
    """

    shape: Shape
    affine: Array
    factor: Array


def lowres_grid(shape: Sequence[int], affine: Array, mm: float | Sequence[float]) -> _LowresGrid:
    """Return the grid of voxels of about `mm` over the same field of view.

    `affine` is the voxel-to-world matrix of the high-resolution grid (4 x 4, RAS+ mm), and `mm`
    the voxel size of all axes or of each axis. The factor is 1 along all axes if the grid is not
    changed.
    """
    sizes = voxel_sizes(affine)
    factor = np.minimum(sizes / np.broadcast_to(np.asarray(mm, dtype=float), 3), 1.0)
    if (factor > _MIN_UNCHANGED_FACTOR).all():
        unchanged_shape = (shape[0], shape[1], shape[2])
        return _LowresGrid(unchanged_shape, np.asarray(affine, dtype=float), np.ones(3))
    return _LowresGrid(*hr_grid(shape, affine, factor), factor)


def coverage(
    source: Array,
    source_affine: Array,
    shape: Sequence[int],
    affine: Array,
    xfm: Array | None = None,
    *,
    mm: float = 2.0,
) -> Array:
    """Average an image over each voxel of another grid.

    For a mask or tissue probability, the mean is the filled fraction of the voxel.

    Parameters
    ----------
    source : Array
        Mask or probability map (X, Y, Z); 0 is assumed outside its field of view.
    source_affine : Array
        Voxel-to-world matrix of the source (4 x 4, RAS+ mm).
    shape : Sequence[int]
        Number of voxels of the target grid along each axis.
    affine : Array
        Voxel-to-world matrix of the target grid (4 x 4, RAS+ mm).
    xfm : Array | None, optional
        Transform of a target point to its point in the source (4 x 4, RAS+ mm); None is the
        identity.
    mm : float, optional
        Largest distance between samples (mm).

    Returns
    -------
    Array
        Mean of each voxel of the target grid (3D, float32), from 0 to 1 for a mask.
    """
    factor = highres_factor(affine, mm)
    sampling_shape, sampling_affine = hr_grid(tuple(shape), affine, factor)
    samples = sample_volume(
        np.asarray(source, np.float32),
        source_affine,
        sampling_shape,
        sampling_affine,
        xfm,
        order=1,
        zero_outside=True,
    )
    return block_average(samples, factor)


def highres_factor(affine: Array, mm: float) -> tuple[int, int, int]:
    """Return the factor that divides each axis into voxels of at most `mm`."""
    factors = np.ceil(voxel_sizes(affine) / mm - 1e-6).astype(int)
    return int(factors[0]), int(factors[1]), int(factors[2])


def block_average(image: Array, factor: tuple[int, int, int]) -> Array:
    """Average an image over blocks of `factor` voxels.

    The shape of the image is a multiple of the factor (3D). The result is float32.
    """
    x, y, z = (size // ratio for size, ratio in zip(image.shape, factor, strict=True))
    fx, fy, fz = factor
    return image.reshape(x, fx, y, fy, z, fz).mean(axis=(1, 3, 5), dtype=np.float32)
