"""What users hand over, as what the functions below take: series as files, images and masks as arrays, poses."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from bids_sr.io.array_types import Array, Float, Float32, Mask
from bids_sr.io.nifti import SeriesReader, SeriesWriter, load_image, save_image
from bids_sr.spatial.transforms import read_itk
from bids_sr.sr.data.temporal_components import open_uncompressed

ImageLike = str | os.PathLike[str] | nib.Nifti1Image
MaskLike = ImageLike | Array
Motion = str | os.PathLike[str] | Array
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


class InputError(ValueError):
    """An argument that cannot be used; the message names it, the reason and the way out."""


class SuperResolutionWarning(UserWarning):
    """Something that the result rests on is doubtful, or was left out."""


def series_file(image: ImageLike, folder: Path, what: str) -> Path:
    """The file of a series; an image that lives in memory is written below a folder as float32.

    Raises
    ------
    InputError : neither a path nor a NIfTI image, or values that are not finite
    """
    if isinstance(image, (str, os.PathLike)):
        return Path(image)
    if not isinstance(image, nib.Nifti1Image):
        raise InputError(
            f"{what}: a path or a nibabel.Nifti1Image is needed, not {type(image).__name__}; make one of an array by "
            "nibabel.Nifti1Image(array, affine)"
        )
    own = image.get_filename()
    if own and nib.is_proxy(image.dataobj) and Path(own).exists():
        stored: Any = nib.load(own)
        if _unchanged(image, stored):
            return Path(own)
    return _written(image, folder / f"{what}.nii", what)


def _unchanged(image: nib.Nifti1Image, stored: Any) -> bool:
    """Whether the file holds what the image in memory says: values, grid, voxel sizes, times and axes."""
    if not isinstance(stored, nib.Nifti1Image) or stored.shape != image.shape:
        return False
    proxies: list[Any] = [image.dataobj, stored.dataobj]
    scaling = [(float(each.slope), float(each.inter)) for each in proxies]
    fields = ("pixdim", "xyzt_units", "dim_info", "qform_code", "sform_code")
    return (
        scaling[0] == scaling[1]
        and np.array_equal(stored.affine, image.affine)
        and all(np.array_equal(image.header[name], stored.header[name]) for name in fields)
    )


def told_tr(header: Any) -> float:
    """Repetition time (s) that a header tells; 0 where it tells none.

    A header without a unit of time tells none: nibabel gives new images pixdim[4] = 1, which is no measurement.
    """
    if len(header.get_data_shape()) < 4:
        return 0.0
    return float(header["pixdim"][4]) * _SECONDS.get(header.get_xyzt_units()[1], 0.0)


def _written(image: nib.Nifti1Image, path: Path, what: str) -> Path:
    shape, single = image.shape, len(image.shape) == 3
    if len(shape) not in (3, 4):
        raise InputError(f"{what}: it has {len(shape)} axes; give a series (x, y, z, t) or a volume (x, y, z)")
    if single:
        save_image(_finite(image.dataobj, 0, what), image.affine, path, header_like=image.header)
        return path
    x, y, z, count = shape
    with SeriesWriter(path, (x, y, z, count), image.affine, told_tr(image.header), header_like=image.header) as writer:
        for t in range(count):
            writer.append(_finite(image.dataobj[..., t], t, what))
    return path


def _finite(values: Any, t: int, what: str) -> Float32:
    volume = np.asarray(values, dtype=np.float32)
    if not np.isfinite(volume).all():
        raise InputError(f"{what}: volume {t} holds NaN or infinite values; replace or mask them first")
    return volume


@contextmanager
def working_folder() -> Iterator[Path]:
    """A folder for what is written on the way; it is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="bids-sr-") as name:
        yield Path(name)


@contextmanager
def opened(image: ImageLike, folder: Path, what: str, *, any_order: bool = False) -> Iterator[SeriesReader]:
    """A reader of a series; with `any_order` a compressed one is unpacked below the folder for the time."""
    path = series_file(image, folder, what)
    if any_order:
        below = folder / f"{what}_unpacked"
        below.mkdir(exist_ok=True)
        with SeriesReader(path) as stored:
            told = told_tr(stored.header)
        with open_uncompressed(path, below) as reader:
            if told == 0:  # what was unpacked has a unit in any case
                reader.header["pixdim"][4] = 0
            yield reader
        return
    with SeriesReader(path) as reader:
        yield reader


def volume_of(image: ImageLike, folder: Path, what: str) -> tuple[Float32, Float]:
    """(data (x, y, z), affine) of one image.

    Raises
    ------
    InputError : it is a series
    """
    data, affine = load_image(series_file(image, folder, what))
    if data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim != 3:
        raise InputError(f"{what}: one volume is needed, not a series of {data.shape}; give its mean over time")
    return data, affine


def mask_on(mask: MaskLike, shape: tuple[int, ...], affine: Array, folder: Path, what: str = "mask") -> Mask:
    """A mask on a grid, from an image or an array of its shape.

    Raises
    ------
    InputError : another grid, or an empty mask
    """
    if isinstance(mask, np.ndarray):
        data, own = mask, affine
    else:
        data, own = volume_of(mask, folder, what)
    if data.shape != tuple(shape) or not np.allclose(own, affine, atol=1e-3):
        raise InputError(
            f"{what}: it lies on another grid ({data.shape}) than {tuple(shape)}; bring it there, for instance by "
            "nilearn.image.resample_to_img(mask, image, interpolation='nearest')"
        )
    inside = np.asarray(data > 0.5)
    if not inside.any():
        raise InputError(f"{what}: it is empty; give one with the brain in it, or None to have it found")
    return inside


def poses_of(motion: Motion, n_volumes: int, what: str = "motion") -> Float:
    """(T, 4, 4) transforms from an ITK text file or an array.

    Raises
    ------
    InputError : another number of transforms than volumes, or not 4x4 matrices
    """
    found = read_itk(motion) if isinstance(motion, (str, os.PathLike)) else np.asarray(motion, dtype=np.float64)
    if found.shape != (n_volumes, 4, 4) or not np.isfinite(found).all():
        raise InputError(
            f"{what}: {found.shape} is not one 4x4 matrix for each of {n_volumes} volumes; give the transforms that "
            "take a boldref point (RAS mm) to its point in each volume, or None to have them estimated"
        )
    return found


def transform_of(xfm: Motion, what: str) -> Float:
    """One 4x4 transform from an ITK text file or an array."""
    found = np.asarray(read_itk(xfm) if isinstance(xfm, (str, os.PathLike)) else xfm, dtype=np.float64)
    return poses_of(found[None] if found.ndim == 2 else found, 1, what)[0]


def in_plane(factor: Any) -> tuple[float, float, float]:
    """Acquired over high-resolution voxel size by axis; one number is meant in plane.

    Examples
    --------
    >>> in_plane(2), in_plane((1.5, 1.5, 1))
    ((2.0, 2.0, 1.0), (1.5, 1.5, 1.0))
    """
    values = (factor, factor, 1.0) if np.isscalar(factor) else tuple(factor)
    try:
        x, y, z = (float(value) for value in values)
    except (TypeError, ValueError):
        raise InputError(f"factor: {factor!r} is neither a number nor three of them; for instance 2") from None
    if not all(1 <= value <= 8 for value in (x, y, z)):
        raise InputError(f"factor: {factor!r}; each is 1 (as acquired) to 8, such as 2 or (2, 2, 1)")
    return x, y, z
