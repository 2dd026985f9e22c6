"""Downsampling of images volume by volume, as if acquired with a smaller matrix."""

import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader, SeriesWriter, save_image
from bids_sr.spatial.transforms import resize_affine
from bids_sr.sr.matrices import acquire, lowres_size

_PAIRS = 20  # pairs of consecutive volumes, spread over the run, from which noise is estimated
_BRIGHT = 0.25  # fraction of the 98th percentile; in darker voxels, thermal noise is not Gaussian
_TO_SD = 1.4826  # ratio of standard deviation to median absolute value for a Gaussian


def central_window(
    shape: tuple[int, ...], factor: Factor
) -> tuple[tuple[slice, slice, slice], tuple[int, int, int]]:
    """Return the central part of a matrix that the factors divide, and the low-resolution shape.

    Parameters
    ----------
    shape : tuple[int, ...]
        Shape of the acquired image.
    factor : Factor
        Ratio of low- to high-resolution voxel size along each axis.

    Returns
    -------
    tuple[tuple[slice, slice, slice], tuple[int, int, int]]
        Slices of the central part, and its low-resolution shape.
    """
    sizes = [
        lowres_size(n, f) if f != 1 else (n, n) for n, f in zip(shape[:3], factor, strict=True)
    ]
    starts = [(n - size[0]) // 2 for n, size in zip(shape[:3], sizes, strict=True)]
    slices = [slice(start, start + size[0]) for start, size in zip(starts, sizes, strict=True)]
    return (slices[0], slices[1], slices[2]), (sizes[0][1], sizes[1][1], sizes[2][1])


def _compute_cropped_affine(affine: Array, part: tuple[slice, slice, slice]) -> Array:
    """Return the voxel-to-world matrix of a part of an image."""
    out = np.array(affine, dtype=float)
    out[:3, 3] += out[:3, :3] @ [piece.start for piece in part]
    return out


def _downsample(
    volume: Array, factor: Factor, *, noise_sd: float = 0.0, rng: np.random.Generator | None = None
) -> Array:
    """Truncate the in-plane k-space of a volume and return the magnitude.

    The factors divide the matrix size of the volume (X, Y, Z). Across slices, complex signals are
    averaged over the thicker slice, because slices are excited individually
    (`bids_sr.sr.matrices.acquire`). A magnitude image has no phase, so its k-space is the k-space
    of a scanner without phase errors. Of the two samples at the Nyquist frequency, the
    low-resolution matrix contains only one, so the image becomes complex. Noise with standard
    deviation `noise_sd` (signal units) is added to the real and the imaginary part.
    """
    low, _ = acquire(volume.astype(np.complex64), np.eye(4), factor=factor)
    if noise_sd:
        assert rng is not None
        low = low + noise_sd * (
            rng.standard_normal(low.shape) + 1j * rng.standard_normal(low.shape)
        )
    return np.abs(low).astype(np.float32)


def thermal_noise(path: Path, first: int = 0) -> float:
    """Estimate the standard deviation of the noise in a voxel (signal units).

    The signal of the brain hardly changes between consecutive volumes, so their difference is
    mostly noise. The estimate is the median absolute difference in bright voxels after removal of
    the common change. It includes pulsation and motion, and is therefore an upper bound of the
    thermal noise.

    Parameters
    ----------
    path : Path
        Series (NIfTI, 4D).
    first : int, optional
        Number of the first volume to use.
    """
    with SeriesReader(path) as reader:
        estimates = []
        for t in sorted({int(t) for t in np.linspace(first, reader.shape[3] - 2, _PAIRS)}):
            previous, following = reader.volume(t), reader.volume(t + 1)
            inside = previous > _BRIGHT * np.percentile(previous, 98)
            change = (following - previous)[inside]
            estimates.append(np.median(np.abs(change - np.median(change))))
    return float(_TO_SD * np.median(estimates) / np.sqrt(2))


def noise_to_add(measured: float, factor: Factor) -> float:
    """Return the noise to add to each complex component after downsampling.

    With this noise, low-resolution voxels are as noisy as the measured voxels. Truncation
    averages, so white noise with standard deviation s decreases to s over the square root of the
    product of the factors.
    """
    return float(measured * np.sqrt(1 - 1 / np.prod(factor)))


def write_lr_series(
    source: Path, target: Path, *, factor: Factor, first: int, noise_sd: float = 0.0, seed: int = 0
) -> None:
    """Downsample a series without its first volumes, with one volume in memory.

    Parameters
    ----------
    source : Path
        Series as measured (NIfTI, 4D).
    target : Path
        Downsampled series (NIfTI, 4D); the noise also depends on its name.
    factor : Factor
        Ratio of low- to high-resolution voxel size along each axis.
    first : int
        Number of volumes to omit at the start.
    noise_sd : float, optional
        Standard deviation of the noise in each complex component (signal units).
    seed : int, optional
        Random seed of the noise.
    """
    rng = np.random.default_rng([seed, zlib.crc32(target.name.encode())])
    with SeriesReader(source) as reader:
        part, low = central_window(reader.shape, factor)
        high_affine = _compute_cropped_affine(reader.affine, part)
        affine = resize_affine(high_affine, tuple(piece.stop - piece.start for piece in part), low)
        shape = (*low, reader.shape[3] - first)
        with SeriesWriter(target, shape, affine, reader.tr, header_like=reader.header) as writer:
            for volume in reader.volumes(first):
                writer.append(_downsample(volume[part], factor, noise_sd=noise_sd, rng=rng))


def write_measured_series(source: Path, target: Path, *, factor: Factor, first: int) -> None:
    """Write the unchanged volumes of a series on the part of the matrix that the factors divide.

    Parameters
    ----------
    source : Path
        Series as measured (NIfTI, 4D).
    target : Path
        Cropped series (NIfTI, 4D).
    factor : Factor
        Ratio of low- to high-resolution voxel size along each axis.
    first : int
        Number of volumes to omit at the start.
    """
    with SeriesReader(source) as reader:
        part, _ = central_window(reader.shape, factor)
        affine = _compute_cropped_affine(reader.affine, part)
        size = [piece.stop - piece.start for piece in part]
        shape = (size[0], size[1], size[2], reader.shape[3] - first)
        dtype = (
            reader.dtype
            if reader.dtype.kind in "iu" and not reader.scaled
            else np.dtype("float32")
        )
        with SeriesWriter(
            target, shape, affine, reader.tr, dtype=dtype, header_like=reader.header
        ) as writer:
            for volume in reader.volumes(first):
                writer.append(volume[part])


def write_pair(
    image: Array,
    affine: Array,
    header: nib.Nifti1Header,
    highres: Path,
    lowres: Path,
    *,
    factor: Factor,
) -> None:
    """Write an image and its downsampled copy as the images of a T2*w pair.

    Parameters
    ----------
    image : Array
        Values (3D).
    affine : Array
        Voxel-to-world matrix (4 x 4, RAS+ mm).
    header : nib.Nifti1Header
        Header whose qform and sform codes are copied.
    highres, lowres : Path
        Files of the high- and low-resolution images (NIfTI, 3D).
    factor : Factor
        Ratio of low- to high-resolution voxel size along each axis.
    """
    part, low = central_window(image.shape, factor)
    high_affine = _compute_cropped_affine(affine, part)
    cropped = np.ascontiguousarray(image[part])
    save_image(cropped, high_affine, highres, header_like=header)
    save_image(
        _downsample(cropped, factor),
        resize_affine(high_affine, cropped.shape, low),
        lowres,
        header_like=header,
    )
