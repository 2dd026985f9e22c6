"""Downsample images volume by volume, as if acquired with a smaller matrix."""

import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader, SeriesWriter, save_image
from bids_sr.spatial.transforms import resized_affine
from bids_sr.sr.matrices import acquire, lowres_size

_PAIRS = 20  # of successive volumes, spread over the run, that tell its noise
_BRIGHT = 0.25  # of the 98th percentile: what is darker has no thermal noise of Gaussian form
_TO_SD = 1.4826  # median of absolute values to standard deviation, for a Gaussian


def window_of_matrix(
    shape: tuple[int, ...], factor: Factor
) -> tuple[tuple[slice, slice, slice], tuple[int, int, int]]:
    """Return the central part of a matrix as `acquire` takes it, and the lower matrix.

    The factors divide the central part.
    """
    sizes = [
        lowres_size(n, f) if f != 1 else (n, n) for n, f in zip(shape[:3], factor, strict=True)
    ]
    starts = [(n - size[0]) // 2 for n, size in zip(shape[:3], sizes, strict=True)]
    parts = [slice(start, start + size[0]) for start, size in zip(starts, sizes, strict=True)]
    return (parts[0], parts[1], parts[2]), (sizes[0][1], sizes[1][1], sizes[2][1])


def _cropped_affine(affine: Array, part: tuple[slice, slice, slice]) -> Array:
    """Affine of that part of an image."""
    out = np.array(affine, dtype=float)
    out[:3, 3] += out[:3, :3] @ [piece.start for piece in part]
    return out


def _downsample(
    volume: Array, factor: Factor, *, noise_sd: float = 0.0, rng: np.random.Generator | None = None
) -> Array:
    """Truncate the complex k-space of a volume (X, Y, Z) in plane and return the magnitude.

    The factors divide the matrix of the volume. Across slices, complex signals are averaged over
    the thicker slice, as slices are excited one by one (`bids_sr.sr.matrices.acquire`).

    A magnitude image has no phase, so its k-space is that of a scanner without phase errors; of
    the two samples at the Nyquist limit the lower matrix sees one, which makes the image complex.
    Noise of `noise_sd` (signal units) is added to the real and to the imaginary part.
    """
    low, _ = acquire(volume.astype(np.complex64), np.eye(4), factor=factor)
    if noise_sd:
        assert rng is not None
        low = low + noise_sd * (
            rng.standard_normal(low.shape) + 1j * rng.standard_normal(low.shape)
        )
    return np.abs(low).astype(np.float32)


def thermal_noise(path: Path, first: int = 0) -> float:
    """Estimate the standard deviation of the noise of a voxel (signal units).

    It is estimated from consecutive volumes, starting with `first`.

    From one volume to the next the signal of the brain hardly changes, so their difference is
    noise: its median absolute value in bright voxels, freed of the change that all of them share.
    Pulsation and motion are in it too, so that it is an upper bound of what is thermal.
    """
    with SeriesReader(path) as reader:
        estimates = []
        for t in sorted({int(t) for t in np.linspace(first, reader.shape[3] - 2, _PAIRS)}):
            before, after = reader.volume(t), reader.volume(t + 1)
            inside = before > _BRIGHT * np.percentile(before, 98)
            change = (after - before)[inside]
            estimates.append(np.median(np.abs(change - np.median(change))))
    return float(_TO_SD * np.median(estimates) / np.sqrt(2))


def added_noise(measured: float, factor: Factor) -> float:
    """Return the noise that makes low-resolution voxels as noisy as measured ones.

    It is to be added to each of two channels.

    Truncation averages: of white noise with standard deviation s it leaves s over the square root
    of the product of the factors.
    """
    return float(measured * np.sqrt(1 - 1 / np.prod(factor)))


def write_lr_series(
    source: Path, target: Path, *, factor: Factor, first: int, noise_sd: float = 0.0, seed: int = 0
) -> None:
    """Downsample a series without its first `first` volumes.

    One volume is in memory at a time.

    `source`: series as measured (NIfTI, 4D). `target`: final name of the file (NIfTI, 4D), which
    the noise depends on. `noise_sd`: noise added to either channel (standard deviation, signal
    units); 0 for none.
    """
    rng = np.random.default_rng([seed, zlib.crc32(target.name.encode())])
    with SeriesReader(source) as reader:
        part, low = window_of_matrix(reader.shape, factor)
        high_affine = _cropped_affine(reader.affine, part)
        affine = resized_affine(
            high_affine, tuple(piece.stop - piece.start for piece in part), low
        )
        shape = (*low, reader.shape[3] - first)
        with SeriesWriter(target, shape, affine, reader.tr, header_like=reader.header) as writer:
            for volume in reader.volumes(first):
                writer.append(_downsample(volume[part], factor, noise_sd=noise_sd, rng=rng))


def write_measured_series(source: Path, target: Path, *, factor: Factor, first: int) -> None:
    """Write the measured volumes, unchanged, on the part of the matrix the factors divide.

    `source`: series as measured (NIfTI, 4D). `target`: final name of the file (NIfTI, 4D).
    """
    with SeriesReader(source) as reader:
        part, _ = window_of_matrix(reader.shape, factor)
        affine = _cropped_affine(reader.affine, part)
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
    """Write an image as the highres member of a pair and its truncation as the lowres one.

    `header`: header whose qform and sform codes are kept. `highres`: final name of the
    high-resolution image (NIfTI, 3D). `lowres`: final name of the low-resolution image (NIfTI,
    3D).
    """
    part, low = window_of_matrix(image.shape, factor)
    high_affine = _cropped_affine(affine, part)
    kept = np.ascontiguousarray(image[part])
    save_image(kept, high_affine, highres, header_like=header)
    save_image(
        _downsample(kept, factor),
        resized_affine(high_affine, kept.shape, low),
        lowres,
        header_like=header,
    )
