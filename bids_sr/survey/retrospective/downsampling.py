"""Downsampling of images volume by volume, as if acquired with a smaller matrix."""

import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

from bids_sr.config.sections.evaluation import RetrospectiveOperator
from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader, SeriesWriter, Storage, save_image
from bids_sr.preproc.hmc import MAD_TO_SD
from bids_sr.spatial.matrices import acquire, degrade, linear_matrix, lowres_size
from bids_sr.spatial.transforms import resize_affine

_N_PAIRS = 20  # pairs of consecutive volumes, spread over the run, for the estimate of noise
# fraction of the 98th percentile; in darker voxels, thermal noise is not Gaussian
_BRIGHT_FRACTION = 0.25


@frozen
class CentralWindow:
    """Central part of an acquired matrix that the factors divide.

    `slices` are this part of the acquired matrix along each axis, and `lowres_shape` is its shape
    after downsampling.
    """

    slices: tuple[slice, slice, slice]
    lowres_shape: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Acquired voxels of the window along each axis."""
        nx, ny, nz = (axis_slice.stop - axis_slice.start for axis_slice in self.slices)
        return nx, ny, nz

    def crop_affine(self, affine: Array) -> Array:
        """Return the voxel-to-world matrix of the window from the matrix of the whole image."""
        cropped = np.array(affine, dtype=float)
        cropped[:3, 3] += cropped[:3, :3] @ [axis_slice.start for axis_slice in self.slices]
        return cropped

    def downsample_affine(self, affine: Array) -> Array:
        """Return the matrix of the downsampled window from the matrix of the whole image."""
        return resize_affine(self.crop_affine(affine), self.shape, self.lowres_shape)


def write_lr_series(
    source: Path,
    target: Path,
    *,
    factor: Factor,
    first_volume: int,
    operator: RetrospectiveOperator = "kspace",
    noise_sd: float = 0.0,
    seed: int = 0,
) -> None:
    """Downsample a series without its first volumes, with one volume in memory.

    `source` is the series as measured and `target` the downsampled series (NIfTI, 4D); the noise
    also depends on the name of `target`. `factor` is the ratio of low- to high-resolution voxel
    size along each axis, `first_volume` the number of volumes to omit at the start, `noise_sd` the
    standard deviation of the noise in each complex component (signal units; only for the operator
    ``kspace``), and `seed` the random seed of the noise.
    """
    rng = np.random.default_rng([seed, zlib.crc32(target.name.encode())])
    with SeriesReader(source) as reader:
        window = central_window(reader.shape, factor)
        affine = window.downsample_affine(reader.affine)
        shape = (*window.lowres_shape, reader.shape[3] - first_volume)
        with SeriesWriter(target, shape, affine, reader.tr, header_like=reader.header) as writer:
            for volume in reader.volumes(first_volume):
                lowres = _downsample_magnitude(
                    volume[window.slices], factor, operator, noise_sd=noise_sd, rng=rng
                )
                writer.append(lowres)


def write_measured_series(
    source: Path, target: Path, *, factor: Factor, first_volume: int
) -> None:
    """Write the unchanged volumes of a series on the part of the matrix that the factors divide.

    `source` is the series as measured and `target` the cropped series (NIfTI, 4D). `factor` is the
    ratio of low- to high-resolution voxel size along each axis, and `first_volume` the number of
    volumes to omit at the start.
    """
    with SeriesReader(source) as reader:
        window = central_window(reader.shape, factor)
        affine = window.crop_affine(reader.affine)
        shape = (*window.shape, reader.shape[3] - first_volume)
        stored = reader.storage
        storage = stored if stored.dtype.kind in "iu" and not stored.is_scaled else Storage()
        with SeriesWriter(
            target, shape, affine, reader.tr, storage=storage, header_like=reader.header
        ) as writer:
            for volume in reader.volumes(first_volume):
                writer.append(volume[window.slices])


def write_pair(
    image: Array,
    affine: Array,
    header: nib.Nifti1Header,
    highres: Path,
    lowres: Path,
    *,
    factor: Factor,
    operator: RetrospectiveOperator = "kspace",
) -> None:
    """Write an image and its downsampled copy as the images of a T2*w pair.

    The image is 3D, and `affine` is its voxel-to-world matrix (4 x 4, RAS+ mm). The qform and
    sform codes of `header` are copied. `highres` and `lowres` are the files to write (NIfTI, 3D).
    `factor` is the ratio of low- to high-resolution voxel size along each axis.
    """
    window = central_window(image.shape, factor)
    cropped = np.ascontiguousarray(image[window.slices])
    save_image(cropped, window.crop_affine(affine), highres, header_like=header)
    low_image = _downsample_magnitude(cropped, factor, operator)
    save_image(low_image, window.downsample_affine(affine), lowres, header_like=header)


def central_window(shape: tuple[int, ...], factor: Factor) -> CentralWindow:
    """Return the largest central part of a matrix that the factors divide.

    `shape` is the shape of the acquired image, and `factor` the ratio of low- to high-resolution
    voxel size along each axis.
    """
    size_pairs = [
        lowres_size(n, axis_factor) if axis_factor != 1 else (n, n)
        for n, axis_factor in zip(shape[:3], factor, strict=True)
    ]
    x, y, z = (
        slice(start := (n - window_size) // 2, start + window_size)
        for n, (window_size, _) in zip(shape[:3], size_pairs, strict=True)
    )
    nx, ny, nz = (low_size for _, low_size in size_pairs)
    return CentralWindow(slices=(x, y, z), lowres_shape=(nx, ny, nz))


def _downsample_magnitude(
    volume: Array,
    factor: Factor,
    operator: RetrospectiveOperator,
    *,
    noise_sd: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Array:
    """Downsample a volume with an operator and return the magnitude.

    The factors divide the matrix size of the volume (X, Y, Z). The operator ``trilinear``
    interpolates at the centers of the new voxels; ``kspace`` truncates k-space in plane. Across
    slices, complex signals are
    averaged over the thicker slice, because slices are excited individually
    (`bids_sr.spatial.matrices.acquire`). A magnitude image has no phase, so its k-space is the
    k-space of a scanner without phase errors. Of the two samples at the Nyquist frequency, the
    low-resolution matrix contains only one, so the image becomes complex. Noise with standard
    deviation `noise_sd` (signal units) is added to the real and the imaginary part.
    """
    if operator == "trilinear":
        lowres, _ = degrade(
            volume.astype(np.float32), np.eye(4), factor, lambda _, n, m: linear_matrix(n, m)
        )
        return lowres.astype(np.float32)
    signal, _ = acquire(volume.astype(np.complex64), np.eye(4), factor=factor)
    if noise_sd:
        assert rng is not None
        signal = signal + noise_sd * (
            rng.standard_normal(signal.shape) + 1j * rng.standard_normal(signal.shape)
        )
    return np.abs(signal).astype(np.float32)


def thermal_noise(path: Path, first_volume: int = 0) -> float:
    """Estimate the standard deviation of the noise in a voxel (signal units).

    The signal of the brain hardly changes between consecutive volumes, so their difference is
    mostly noise. The estimate is the median absolute difference in bright voxels after removal of
    the common change. It includes pulsation and motion, and is therefore an upper bound of the
    thermal noise.

    The series is a NIfTI file (4D), and `first_volume` is the number of the first volume to use.
    """
    with SeriesReader(path) as reader:
        estimates = []
        times = np.linspace(first_volume, reader.shape[3] - 2, _N_PAIRS)
        for t in sorted({int(time) for time in times}):
            previous, following = reader.volume(t), reader.volume(t + 1)
            is_bright = previous > _BRIGHT_FRACTION * np.percentile(previous, 98)
            change = (following - previous)[is_bright]
            estimates.append(np.median(np.abs(change - np.median(change))))
    return float(MAD_TO_SD * np.median(estimates) / np.sqrt(2))


def noise_to_add(measured: float, factor: Factor) -> float:
    """Return the noise to add to each complex component after downsampling.

    With this noise, low-resolution voxels are as noisy as the measured voxels. Truncation
    averages, so white noise with standard deviation s decreases to s over the square root of the
    product of the factors.
    """
    return float(measured * np.sqrt(1 - 1 / np.prod(factor)))
