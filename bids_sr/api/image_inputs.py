"""User inputs as the API takes them: series as files, other images as arrays, and runs.

Images, masks and poses become arrays.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike

from bids_sr.io.arrays import Array, Float, Float32
from bids_sr.io.copies import copy_series
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader, SeriesWriter, load_image, save_image
from bids_sr.io.volume import Volume
from bids_sr.spatial.itk_files import read_itk

ImageLike = str | os.PathLike[str] | nib.Nifti1Image
MaskLike = ImageLike | Array
Motion = str | os.PathLike[str] | Array
Dummies = int | Literal["auto"]
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


class ImageInputError(ValueError):
    """An argument that cannot be used; the message names it, the reason and the way out."""


class SuperResolutionWarning(UserWarning):
    """Something that the result rests on is doubtful, or was left out."""


def there(path: str | os.PathLike[str], what: str) -> Path:
    """A path that a file is at; ImageInputError where there is none."""
    if not Path(path).is_file():
        raise ImageInputError(f"{what}: the file {path} does not exist. Check the path.")
    return Path(path)


def series_file(image: ImageLike, folder: Path, what: str, *, allow_nan: bool = False) -> Path:
    """The file of a series; an image object is written below a folder as float32.

    `allow_nan`: whether values of an image in memory may be NaN or infinite.
    """
    if isinstance(image, (str, os.PathLike)):
        return there(image, what)
    if not isinstance(image, nib.Nifti1Image):
        raise ImageInputError(
            f"{what}: expected a file path or a nibabel.Nifti1Image, got "
            f"{type(image).__name__}. To convert an array, use nibabel.Nifti1Image(array, "
            "affine)."
        )
    return _written(image, folder / f"{what}.nii", what, allow_nan=allow_nan)


def told_tr(header: nib.Nifti1Header) -> float:
    """Repetition time (s) that a header tells; 0 where it tells none.

    A header without a unit of time tells none: nibabel gives new images pixdim[4] = 1, which is no
    measurement.
    """
    if len(header.get_data_shape()) < 4:
        return 0.0
    return float(header["pixdim"][4]) * _SECONDS.get(header.get_xyzt_units()[1], 0.0)


def _written(image: nib.Nifti1Image, path: Path, what: str, *, allow_nan: bool) -> Path:
    shape = image.shape
    single = len(image.shape) == 3
    if len(shape) not in (3, 4):
        raise ImageInputError(
            f"{what}: the image has {len(shape)} axes; expected a series (x, y, z, t) or a "
            "single volume (x, y, z)"
        )
    if single:
        save_image(
            _finite(image.dataobj, 0, what, allow_nan),
            image.affine,
            path,
            header_like=image.header,
        )
        return path
    x, y, z, count = shape
    with SeriesWriter(
        path, (x, y, z, count), image.affine, told_tr(image.header), header_like=image.header
    ) as writer:
        for t in range(count):
            writer.append(_finite(image.dataobj[..., t], t, what, allow_nan))
    return path


def _finite(values: ArrayLike, t: int, what: str, allow_nan: bool) -> Float32:
    volume = np.asarray(values, dtype=np.float32)
    if not allow_nan and not np.isfinite(volume).all():
        raise ImageInputError(
            f"{what}: volume {t} contains NaN or infinite values. Replace these values before "
            "you pass the image."
        )
    return volume


@contextmanager
def working_folder() -> Iterator[Path]:
    """A folder for what is written on the way; it is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="bids-sr-") as name:
        yield Path(name)


@contextmanager
def told_once(logger: str) -> Iterator[None]:
    """Let a log tell once what several steps have to tell, as each reads the same table."""
    messages = set[str]()

    def is_new(record: logging.LogRecord) -> bool:
        before = len(messages)
        text = record.getMessage()
        messages.add(text)
        return len(messages) > before

    logging.getLogger(logger).addFilter(is_new)
    try:
        yield
    finally:
        logging.getLogger(logger).removeFilter(is_new)


@contextmanager
def opened(
    image: ImageLike, folder: Path, what: str, *, any_order: bool = False
) -> Iterator[SeriesReader]:
    """Open a reader of a series; its repetition time is 0 where the header tells none.

    With `any_order`, a compressed series is unpacked below the folder.
    """
    path = series_file(image, folder, what)
    with SeriesReader(path) as stored:
        seconds = told_tr(stored.header)
        compressed = stored.compressed
    if any_order and compressed:
        plain = folder / f"{what}_unpacked.nii"
        copy_series(path, plain)
        path = plain
    with SeriesReader(path) as reader:
        reader.tr = seconds
        yield reader


def volume_file(image: ImageLike, folder: Path, what: str) -> Path:
    """The file of one image."""
    path = series_file(image, folder, what)
    with SeriesReader(path) as reader:
        if reader.shape[3] > 1:
            raise ImageInputError(
                f"{what}: expected a single volume, got a series of shape "
                f"{reader.shape}. Pass the mean across time."
            )
    return path


def volume_of(image: ImageLike, folder: Path, what: str) -> Volume:
    """One image, see `volume_file`."""
    data, affine = load_image(volume_file(image, folder, what))
    return Volume(data[..., 0] if data.ndim == 4 else data, affine)


def mask_on(mask: MaskLike, grid: Volume, folder: Path, what: str = "mask") -> Volume:
    """A mask on the grid of an image, from an image or an array of its shape.

    Mask with at least one voxel (3D, boolean).
    """
    image = grid.like(mask) if isinstance(mask, np.ndarray) else volume_of(mask, folder, what)
    shape = grid.data.shape
    if image.data.shape != shape or not np.allclose(image.affine, grid.affine, atol=1e-3):
        raise ImageInputError(
            f"{what}: the image is not on the expected grid (its shape is "
            f"{image.data.shape}; expected {shape}). Resample the mask to this grid, "
            "for example with nilearn.image.resample_to_img(mask, image, "
            "interpolation='nearest')."
        )
    inside = np.asarray(image.data > 0.5)
    if not inside.any():
        raise ImageInputError(
            f"{what}: the mask is empty. Pass another mask, or None to use the default mask."
        )
    return grid.like(inside)


def poses_of(motion: Motion, n_volumes: int, what: str = "motion") -> Float:
    """Return (T, 4, 4) transforms from an ITK text file or an array.

    Transforms of a boldref point to its volume point (T, 4, 4; RAS+ mm).
    """
    if isinstance(motion, (str, os.PathLike)):
        motion = read_itk(there(motion, what))
    poses = np.asarray(motion, dtype=np.float64)
    if poses.shape != (n_volumes, 4, 4) or not np.isfinite(poses).all():
        raise ImageInputError(
            f"{what}: the transforms have shape {poses.shape}; expected "
            f"({n_volumes}, 4, 4) and finite values. Pass one transform per volume, "
            "from a point of the boldref (RAS, mm) to its position in the volume, "
            "or pass None to estimate head motion."
        )
    return poses


def transform_of(xfm: Motion, what: str) -> Float:
    """One 4x4 transform from an ITK text file or an array."""
    matrix = np.asarray(
        read_itk(there(xfm, what)) if isinstance(xfm, (str, os.PathLike)) else xfm,
        dtype=np.float64,
    )
    return poses_of(matrix[None] if matrix.ndim == 2 else matrix, 1, what)[0]


def in_plane(factor: object) -> Factor:
    """Acquired over high-resolution voxel size by axis; one number is meant in plane.

    >>> in_plane(2), in_plane((1.5, 1.5, 1))
    ((2.0, 2.0, 1.0), (1.5, 1.5, 1.0))

    Factor along each axis; 1 along slices for one number.
    """
    try:
        values = (factor, factor, 1.0) if isinstance(factor, Real) else factor
        if (
            not isinstance(values, (tuple, list, np.ndarray))
            or len(values) != 3
            or not all(isinstance(value, Real) and not isinstance(value, bool) for value in values)
        ):
            raise TypeError
        x, y, z = (float(value) for value in values)
    except TypeError:
        raise ImageInputError(
            "factor: expected one number or three numbers, for example 2 or (2, 2, 1), got "
            f"{factor!r}"
        ) from None
    if not all(1 <= value <= 8 for value in (x, y, z)):
        raise ImageInputError(
            "factor: expected values from 1 (acquired resolution) to 8, for example 2 or (2, "
            f"2, 1), got {factor!r}"
        )
    return x, y, z


def in_memory(image: Volume) -> nib.Nifti1Image:
    """An image for nibabel; masks are stored as bytes."""
    return nib.Nifti1Image(
        np.asarray(image.data, np.uint8 if image.data.dtype == bool else np.float32), image.affine
    )


def checked_series(reader: SeriesReader, what: str) -> None:
    """Refuse a single volume where a run is meant."""
    if reader.shape[3] < 2:
        raise ImageInputError(
            f"{what}: expected a series (x, y, z, t), got a single volume of shape "
            f"{reader.shape[:3]}"
        )


def slices_last(reader: SeriesReader) -> None:
    """Raise ImageInputError if the header says that slices do not lie along the third axis."""
    across = reader.header.get_dim_info()[2]
    if across not in (None, 2):
        raise ImageInputError(
            f"bold: the slice axis is axis {across} (of 0, 1, 2) according to the "
            "image header; expected axis 2. Reorder the axes first, for example "
            "with nibabel.as_closest_canonical."
        )


def same_run_as(reader: SeriesReader) -> str:
    """A fingerprint of a series: its grid, and its first, middle and last volume."""
    seen = hashlib.sha256(repr((reader.shape, np.round(reader.affine, 4).tolist())).encode())
    for t in sorted({0, reader.shape[3] // 2, reader.shape[3] - 1}):
        seen.update(reader.volume(t).tobytes())
    return seen.hexdigest()
