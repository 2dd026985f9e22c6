"""User inputs as the API takes them: series as files, other images as arrays, and runs.

Images, masks and poses become arrays.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from numpy.typing import ArrayLike

from bids_sr.io.array_types import Array, Float, Float32, Mask
from bids_sr.io.nifti import SeriesReader, SeriesWriter, load_image, save_image
from bids_sr.io.volume import Volume
from bids_sr.registration.bold_to_anat import finer_mask
from bids_sr.registration.calibration_alignment import moved_mm
from bids_sr.spatial import hmc
from bids_sr.spatial.boldref import mean_in_reference, precomputed_motion
from bids_sr.spatial.transforms import hr_grid, read_itk
from bids_sr.sr.data.temporal_components import open_uncompressed
from bids_sr.sr.resolution.matrices import Factor
from bids_sr.stats.glm.confounds import MOTION, nonsteady_at_start
from bids_sr.steps.motion import average_volumes, estimate_motion, mask_head

ImageLike = str | os.PathLike[str] | nib.Nifti1Image
MaskLike = ImageLike | Array
Motion = str | os.PathLike[str] | Array
Dummies = int | Literal["auto"]
Say = Callable[[str], None]
_MOST_LEFT_MM = 0.5
"""Displacement of the brain (rms) above which a series that is said to be realigned is doubted."""
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


def silent(_: str) -> None:
    """Say nothing."""


class ImageInputError(ValueError):
    """An argument that cannot be used; the message names it, the reason and the way out."""


class SuperResolutionWarning(UserWarning):
    """Something that the result rests on is doubtful, or was left out."""


def there(path: str | os.PathLike[str], what: str) -> Path:
    """A path that a file is at; ImageInputError where there is none."""
    if not Path(path).is_file():
        raise ImageInputError(f"{what}: there is no file {path}")
    return Path(path)


def series_file(image: ImageLike, folder: Path, what: str, *, allow_nan: bool = False) -> Path:
    """The file of a series; an image that lives in memory is written below a folder as float32.

    Raises
    ------
    ImageInputError : neither a path of a file nor a NIfTI image, or values that are not finite
    """
    if isinstance(image, (str, os.PathLike)):
        return there(image, what)
    if not isinstance(image, nib.Nifti1Image):
        raise ImageInputError(
            f"{what}: a path or a nibabel.Nifti1Image is needed, not {type(image).__name__}; make"
            " one of an array by nibabel.Nifti1Image(array, affine)"
        )
    own = image.get_filename()
    if own and Path(own).exists() and _unchanged(image, nib.load(own)):
        return Path(own)
    return _written(image, folder / f"{what}.nii", what, allow_nan=allow_nan)


def _unchanged(image: nib.Nifti1Image, stored: object) -> bool:
    """Return whether the file matches the image in memory: values, grid, zooms, times and axes."""
    if not isinstance(stored, nib.Nifti1Image) or stored.shape != image.shape:
        return False
    one, other = image.dataobj, stored.dataobj
    if not isinstance(one, ArrayProxy) or not isinstance(other, ArrayProxy):
        return False
    fields = ("pixdim", "xyzt_units", "dim_info", "qform_code", "sform_code")
    return (
        (one.slope, one.inter) == (other.slope, other.inter)
        and np.array_equal(stored.affine, image.affine)
        and all(np.array_equal(image.header[name], stored.header[name]) for name in fields)
    )


def told_tr(header: nib.Nifti1Header) -> float:
    """Repetition time (s) that a header tells; 0 where it tells none.

    A header without a unit of time tells none: nibabel gives new images pixdim[4] = 1, which is no
    measurement.
    """
    if len(header.get_data_shape()) < 4:
        return 0.0
    return float(header["pixdim"][4]) * _SECONDS.get(header.get_xyzt_units()[1], 0.0)


def _written(image: nib.Nifti1Image, path: Path, what: str, *, allow_nan: bool) -> Path:
    shape, single = image.shape, len(image.shape) == 3
    if len(shape) not in (3, 4):
        raise ImageInputError(
            f"{what}: it has {len(shape)} axes; give a series (x, y, z, t) or a volume (x, y, z)"
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
            f"{what}: volume {t} holds NaN or infinite values; replace or mask them first"
        )
    return volume


@contextmanager
def working_folder() -> Iterator[Path]:
    """A folder for what is written on the way; it is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="bids-sr-") as name:
        yield Path(name)


@contextmanager
def opened(
    image: ImageLike, folder: Path, what: str, *, any_order: bool = False
) -> Iterator[SeriesReader]:
    """Open a reader of a series.

    With `any_order`, a compressed series is temporarily unpacked below the folder.
    """
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


def volume_file(image: ImageLike, folder: Path, what: str) -> Path:
    """The file of one image.

    Raises
    ------
    ImageInputError : it is a series
    """
    path = series_file(image, folder, what)
    with SeriesReader(path) as reader:
        if reader.shape[3] > 1:
            fix = "give its mean over time"
            raise ImageInputError(
                f"{what}: one volume is needed, not a series of {reader.shape}; {fix}"
            )
    return path


def volume_of(image: ImageLike, folder: Path, what: str) -> Volume:
    """One image, see `volume_file`."""
    data, affine = load_image(volume_file(image, folder, what))
    return Volume(data[..., 0] if data.ndim == 4 else data, affine)


def mask_on(mask: MaskLike, grid: Volume, folder: Path, what: str = "mask") -> Volume:
    """A mask on the grid of an image, from an image or an array of its shape.

    Raises
    ------
    ImageInputError : another grid, or an empty mask
    """
    found, shape = (
        grid.like(mask) if isinstance(mask, np.ndarray) else volume_of(mask, folder, what),
        grid.data.shape,
    )
    if found.data.shape != shape or not np.allclose(found.affine, grid.affine, atol=1e-3):
        fix = (
            "bring it there, for instance by nilearn.image.resample_to_img(mask, image,"
            " interpolation='nearest')"
        )
        raise ImageInputError(
            f"{what}: it lies on another grid ({found.data.shape}) than {shape}; {fix}"
        )
    inside = np.asarray(found.data > 0.5)
    if not inside.any():
        raise ImageInputError(
            f"{what}: it is empty; give one with the brain in it, or None to have it found"
        )
    return grid.like(inside)


def poses_of(motion: Motion, n_volumes: int, what: str = "motion") -> Float:
    """(T, 4, 4) transforms from an ITK text file or an array.

    Raises
    ------
    ImageInputError : another number of transforms than volumes, or not 4x4 matrices
    """
    if isinstance(motion, (str, os.PathLike)):
        motion = read_itk(there(motion, what))
    found = np.asarray(motion, dtype=np.float64)
    if found.shape != (n_volumes, 4, 4) or not np.isfinite(found).all():
        fix = (
            "give the transforms that take a boldref point (RAS mm) to its point in each volume,"
            " or None to have them"
        )
        own = f"{found.shape} is not one 4x4 matrix for each of {n_volumes} volumes"
        raise ImageInputError(f"{what}: {own}; {fix} estimated")
    return found


def transform_of(xfm: Motion, what: str) -> Float:
    """One 4x4 transform from an ITK text file or an array."""
    found = np.asarray(
        read_itk(there(xfm, what)) if isinstance(xfm, (str, os.PathLike)) else xfm,
        dtype=np.float64,
    )
    return poses_of(found[None] if found.ndim == 2 else found, 1, what)[0]


def in_plane(factor: object) -> tuple[float, float, float]:
    """Acquired over high-resolution voxel size by axis; one number is meant in plane.

    >>> in_plane(2), in_plane((1.5, 1.5, 1))
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
            f"factor: {factor!r} is neither a number nor three of them; for instance 2"
        ) from None
    if not all(1 <= value <= 8 for value in (x, y, z)):
        raise ImageInputError(
            f"factor: {factor!r}; each is 1 (as acquired) to 8, such as 2 or (2, 2, 1)"
        )
    return x, y, z


def in_memory(image: Volume) -> nib.Nifti1Image:
    """An image for nibabel; masks are stored as bytes."""
    return nib.Nifti1Image(
        np.asarray(image.data, np.uint8 if image.data.dtype == bool else np.float32), image.affine
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedRun:
    """A run as every series of it needs it, on its acquired grid."""

    # reference in signal units, and the brain in it
    boldref: Volume
    brain: Volume
    poses: Float  # (T, 4, 4) boldref point to the volume's point (RAS mm)
    params: Float  # (T, 6) the same in mm and rad
    n_dummy: int  # volumes at the start that are not in steady state

    def fine_brain(self, factor: Factor) -> Volume:
        """The brain on the high-resolution grid."""
        shape, affine = hr_grid(self.brain.data.shape, self.brain.affine, factor)
        return Volume(finer_mask(self.brain.data, self.brain.affine, shape, affine), affine)


def checked_series(reader: SeriesReader, what: str) -> None:
    """Refuse a single volume where a run is meant.

    Raises
    ------
    ImageInputError : fewer than two volumes
    """
    if reader.shape[3] < 2:
        raise ImageInputError(
            f"{what}: it is one volume of {reader.shape[:3]}; give a series (x, y, z, t) of"
            " the run"
        )


def slices_last(reader: SeriesReader) -> None:
    """Raise ImageInputError if the header says that slices do not lie along the third axis."""
    across = reader.header.get_dim_info()[2]
    if across not in (None, 2):
        what = (
            f"its header says that slices lie along axis {across} (of 0, 1, 2), and they are taken"
            " along axis 2"
        )
        raise ImageInputError(
            f"bold: {what}; reorder the axes first, for instance by nibabel.as_closest_canonical"
        )


def prepare_run(
    reader: SeriesReader,
    folder: Path,
    *,
    mask: MaskLike | None = None,
    boldref: ImageLike | None = None,
    motion: Motion | None = None,
    realigned: bool = False,
    n_dummy: Dummies = "auto",
    say: Say = silent,
) -> PreparedRun:
    """Take what is given and find the rest.

    Parameters
    ----------
    reader : series as acquired, which may be read in any order
    folder : for images that live in memory
    mask, boldref : on the grid of the series; told from the series where None
    motion : transforms of the volumes; None: estimated, unless `realigned`
    realigned : head motion was undone before; doubted aloud where three volumes say otherwise
    say : called with what is done next

    Raises
    ------
    ImageInputError : something lies on another grid, or too few volumes
    """
    total = reader.shape[3]
    slices_last(reader)
    dummies = (
        min(nonsteady_at_start(reader.path), max(total - 2, 0))
        if n_dummy == "auto"
        else int(n_dummy)
    )
    if not 0 <= dummies < total or (total > 1 and dummies > total - 2):
        raise ImageInputError(
            f"n_dummy: {dummies} of {total} volumes leave less than two; give a smaller number"
        )
    poses = poses_of(motion, total) if motion is not None else None
    still = poses is None and (realigned or total == 1)
    if still:
        poses = np.repeat(np.eye(4)[None], total, 0)
    if boldref is not None:
        image = volume_of(boldref, folder, "boldref")
        if image.data.shape != reader.shape[:3] or not np.allclose(
            image.affine, reader.affine, atol=1e-3
        ):
            raise ImageInputError(
                f"boldref: {image.data.shape} is not the grid of the series {reader.shape[:3]}"
            )
    elif poses is not None:
        image = Volume(mean_in_reference(reader, poses, n_dummy=dummies), reader.affine)
    else:
        say("reference")
        image = average_volumes(reader, n_dummy=dummies)
    image = Volume(image.data, reader.affine)
    if mask is None:
        say("brain mask")
        brain = mask_head(image)
    else:
        brain = mask_on(mask, image, folder)
    if poses is None:
        say(f"head motion of {total} volumes")
        poses, table = estimate_motion(reader, image, mask_head(image), n_dummy=dummies)
        params = table[list(MOTION)].to_numpy()
    else:
        found = precomputed_motion(poses, brain.data, reader.affine)
        poses, params = found.matrices, found.params
    if still and total > 2:
        _doubt(reader, image.data, brain.data, dummies)
    return PreparedRun(boldref=image, brain=brain, poses=poses, params=params, n_dummy=dummies)


def _doubt(reader: SeriesReader, reference: Array, mask: Mask, first: int) -> None:
    """Warn if volumes of a supposedly realigned series do not align with its reference."""
    at = sorted({first, (first + reader.shape[3]) // 2, reader.shape[3] - 1})
    with np.errstate(all="ignore"):
        found = hmc.estimate_motion((reader.volume(t) for t in at), reference, mask, reader.affine)
    far = moved_mm(found.matrices, mask, reader.affine)
    if far.max() > _MOST_LEFT_MM:
        where = (
            f"realigned=True, but volume {at[int(far.argmax())]} lies {far.max():.1f} mm from the"
            " reference"
        )
        text = (
            f"{where}: head motion would be taken for signal; leave realigned out, or give motion"
        )
        warnings.warn(text, SuperResolutionWarning, stacklevel=5)


def same_run_as(reader: SeriesReader) -> str:
    """A fingerprint of a series: its grid, and its first, middle and last volume."""
    seen = hashlib.sha256(repr((reader.shape, np.round(reader.affine, 4).tolist())).encode())
    for t in sorted({0, reader.shape[3] // 2, reader.shape[3] - 1}):
        seen.update(reader.volume(t).tobytes())
    return seen.hexdigest()
