"""Inputs of the Python API: series as files, and other images, masks and transforms as arrays."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike

from bids_sr.io.arrays import Array, Float, Float32
from bids_sr.io.copies import copy_series
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader, SeriesWriter, load_image, save_image, shortest_decimal
from bids_sr.io.notices import InvalidInput, Remark
from bids_sr.io.volume import Volume
from bids_sr.spatial.itk_files import read_itk

ImageLike = str | os.PathLike[str] | nib.Nifti1Image
MaskLike = ImageLike | Array
Motion = str | os.PathLike[str] | Array
_SECONDS_PER_UNIT = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


class ImageInputError(InvalidInput):
    """Error in an argument; the message includes its name, the reason and the remedy."""


class SuperResolutionWarning(Remark, UserWarning):
    """Warning about doubtful or omitted parts of a result."""


@contextmanager
def open_series(
    image: ImageLike, folder: Path, *, any_order: bool = False
) -> Iterator[SeriesReader]:
    """Open a reader of the argument `bold`.

    The repetition time of the reader is 0 if it is missing in the header. With `any_order`, a
    compressed series is decompressed to the folder.
    """
    path = series_file(image, folder, "bold")
    with SeriesReader(path) as stored_reader:
        tr = header_tr(stored_reader.header)
        is_compressed = stored_reader.compressed
    if any_order and is_compressed:
        unpacked_path = folder / "bold_unpacked.nii"
        copy_series(path, unpacked_path)
        path = unpacked_path
    with SeriesReader(path) as reader:
        reader.tr = tr
        yield reader


def load_mask(mask: MaskLike, grid: Volume, folder: Path, argument: str = "mask_img") -> Volume:
    """Return a mask on the grid of an image, from an image or from an array of the same shape.

    The mask (X, Y, Z, boolean) has at least one voxel.
    """
    image = (
        grid.like(mask) if isinstance(mask, np.ndarray) else load_volume(mask, folder, argument)
    )
    fix = (
        "Resample the mask to this grid, for example with nilearn.image.resample_to_img(mask, "
        "image, interpolation='nearest')."
    )
    check_grid(image, grid, argument, fix)
    is_inside = np.asarray(image.data > 0.5)
    if not is_inside.any():
        raise ImageInputError(
            "the mask is empty", "Pass another mask, or None to use the default mask.", argument
        )
    return grid.like(is_inside)


def check_grid(image: Volume, grid: Volume, argument: str, remedy: str = "") -> None:
    """Raise ImageInputError unless an image is on a grid."""
    shape, expected = image.data.shape, grid.data.shape
    if shape == expected and np.allclose(image.affine, grid.affine, atol=1e-3):
        return
    difference = f"its shape is {shape}; expected {expected}"
    if shape == expected:
        difference = "its affine differs"
    raise ImageInputError(
        f"the image is not on the expected grid ({difference})", remedy, argument
    )


def load_volume(image: ImageLike, folder: Path, argument: str) -> Volume:
    """Return a single image, see `volume_file`."""
    data, affine = load_image(volume_file(image, folder, argument))
    return Volume(data[..., 0] if data.ndim == 4 else data, affine)


def volume_file(image: ImageLike, folder: Path, argument: str) -> Path:
    """Return the file of a single image."""
    path = series_file(image, folder, argument)
    with SeriesReader(path) as reader:
        if reader.shape[3] > 1:
            raise ImageInputError(
                f"expected a single volume, got a series of shape {reader.shape}",
                "Pass the mean across time.",
                argument,
            )
    return path


def series_file(image: ImageLike, folder: Path, argument: str) -> Path:
    """Return the file of a series; an image object is written to a folder as float32."""
    if isinstance(image, (str, os.PathLike)):
        return check_file(image, argument)
    if not isinstance(image, nib.Nifti1Image):
        raise ImageInputError(
            f"expected a file path or a nibabel.Nifti1Image, got {type(image).__name__}",
            "To convert an array, use nibabel.Nifti1Image(array, affine).",
            argument,
        )
    return _write_temporary(image, folder / f"{argument}.nii", argument)


def _write_temporary(image: nib.Nifti1Image, path: Path, argument: str) -> Path:
    """Write an image to a float32 file, and return its path; see `series_file`."""
    n_axes = len(image.shape)
    if n_axes not in (3, 4):
        raise ImageInputError(
            f"the image has {n_axes} axes; expected a series (x, y, z, t) or a single volume"
            " (x, y, z)",
            argument=argument,
        )
    if n_axes == 3:
        volume = _to_finite(image.dataobj, 0, argument)
        save_image(volume, image.affine, path, header_like=image.header)
        return path
    x, y, z, n_volumes = image.shape
    with SeriesWriter(
        path,
        (x, y, z, n_volumes),
        image.affine,
        header_tr(image.header),
        header_like=image.header,
    ) as writer:
        for index in range(n_volumes):
            writer.append(_to_finite(image.dataobj[..., index], index, argument))
    return path


def _to_finite(values: ArrayLike, index: int, argument: str) -> Float32:
    """Return a volume as float32; raise ImageInputError for NaN or infinite values.

    Volumes are counted from 0.
    """
    volume = np.asarray(values, dtype=np.float32)
    if not np.isfinite(volume).all():
        raise ImageInputError(
            f"volume {index} contains NaN or infinite values",
            "Replace these values before you pass the image.",
            argument,
        )
    return volume


def header_tr(header: nib.Nifti1Header) -> float:
    """Return the repetition time (s) in a header; 0 if it is missing.

    The time is ignored if the header has no unit of time, because nibabel sets pixdim[4] to 1 in
    new images.
    """
    if len(header.get_data_shape()) < 4:
        return 0.0
    return shortest_decimal(header["pixdim"][4]) * _SECONDS_PER_UNIT.get(
        header.get_xyzt_units()[1], 0.0
    )


def load_transform(xfm: Motion, argument: str) -> Float:
    """Return one 4 x 4 transform from an ITK text file or an array."""
    matrix = np.asarray(
        read_itk(check_file(xfm, argument)) if isinstance(xfm, (str, os.PathLike)) else xfm,
        dtype=np.float64,
    )
    return load_poses(matrix[None] if matrix.ndim == 2 else matrix, 1, argument)[0]


def load_poses(motion: Motion, n_volumes: int, argument: str = "motion") -> Float:
    """Return transforms from an ITK text file or an array.

    The transforms map boldref points to points of each volume (T, 4, 4; RAS mm).
    """
    if isinstance(motion, (str, os.PathLike)):
        motion = read_itk(check_file(motion, argument))
    poses = np.asarray(motion, dtype=np.float64)
    if poses.shape != (n_volumes, 4, 4) or not np.isfinite(poses).all():
        raise ImageInputError(
            f"the transforms have shape {poses.shape}; expected ({n_volumes}, 4, 4) and finite "
            "values",
            "Pass one transform per volume, from a point of the boldref (RAS, mm) to its position "
            "in the volume, or pass None to estimate head motion.",
            argument,
        )
    return poses


def check_file(path: str | os.PathLike[str], argument: str) -> Path:
    """Return the path of an existing file; raise ImageInputError if it does not exist."""
    if not Path(path).is_file():
        raise ImageInputError(f"the file {path} does not exist", "Check the path.", argument)
    return Path(path)


@contextmanager
def working_folder() -> Iterator[Path]:
    """Yield a folder for intermediate files, which is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="bids-sr-") as name:
        yield Path(name)


@contextmanager
def filter_repeated_messages(logger: str) -> Iterator[None]:
    """Filter repeated messages of a logger, because several steps read the same table."""
    messages = set[str]()

    def is_new(record: logging.LogRecord) -> bool:
        previous_count = len(messages)
        text = record.getMessage()
        messages.add(text)
        return len(messages) > previous_count

    logging.getLogger(logger).addFilter(is_new)
    try:
        yield
    finally:
        logging.getLogger(logger).removeFilter(is_new)


def parse_factor(factor: object) -> Factor:
    """Return the acquired over high-resolution voxel size by axis; a number applies in plane.

    >>> parse_factor(2), parse_factor((1.5, 1.5, 1))
    ((2.0, 2.0, 1.0), (1.5, 1.5, 1.0))
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
            f"expected one number or three numbers, for example 2 or (2, 2, 1), got {factor!r}",
            argument="factor",
        ) from None
    if not all(1 <= value <= 8 for value in (x, y, z)):
        raise ImageInputError(
            "expected values from 1 (acquired resolution) to 8, for example 2 or (2, 2, 1), got "
            f"{factor!r}",
            argument="factor",
        )
    return x, y, z


def to_nibabel(image: Volume) -> nib.Nifti1Image:
    """Return an image as a nibabel object; masks are stored as bytes."""
    return nib.Nifti1Image(
        np.asarray(image.data, np.uint8 if image.data.dtype == bool else np.float32), image.affine
    )


def check_is_series(reader: SeriesReader, argument: str) -> None:
    """Raise ImageInputError if a series has a single volume."""
    if reader.shape[3] < 2:
        raise ImageInputError(
            f"expected a series (x, y, z, t), got a single volume of shape {reader.shape[:3]}",
            "For a single image, use bids-sr-models apply.",
            argument,
        )


def check_repetition_time(reader: SeriesReader) -> None:
    """Raise ImageInputError if the repetition time of a series is unknown."""
    if not reader.tr > 0:
        raise ImageInputError(
            "the image header of the series does not specify the repetition time or its unit",
            "Pass t_r in seconds.",
            "t_r",
        )


def check_slice_axis(reader: SeriesReader) -> None:
    """Raise ImageInputError if the slice axis in the header is not the third axis."""
    slice_axis = reader.header.get_dim_info()[2]
    if slice_axis not in (None, 2):
        raise ImageInputError(
            f"the slice axis is axis {slice_axis} (of 0, 1, 2) according to the image header; "
            "expected axis 2",
            "Reorder the axes first, for example with nibabel.as_closest_canonical.",
            "bold",
        )


def compute_fingerprint(reader: SeriesReader) -> str:
    """Return a fingerprint of a series: its grid, and its first, middle and last volume."""
    digest = hashlib.sha256(repr((reader.shape, np.round(reader.affine, 4).tolist())).encode())
    for index in sorted({0, reader.shape[3] // 2, reader.shape[3] - 1}):
        digest.update(reader.volume(index).tobytes())
    return digest.hexdigest()
