"""Image headers: matrix, voxel sizes and orientation, read without the image data."""

import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_sr.io.atomic_files import require_regular_file
from bids_sr.io.checksums import once_per_state
from bids_sr.io.image_header import Header, describe_excess
from bids_sr.io.notices import Notice, explain
from bids_sr.survey.bids.content import require_content
from bids_sr.survey.notices import Choice, InputError, input_error, note

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

MIN_MATRIX = 4
"""Smallest in-plane matrix of a series that is super-resolved (voxels)."""
_ORIENTATION_TOLERANCE_MM = 1.0  # mm; a sform may contain shears that a qform cannot represent
READ_ERRORS = (OSError, EOFError, zlib.error, ValueError, ArithmeticError, MemoryError)
"""Exceptions raised for a truncated or corrupt file, gzipped or not."""
COLOR_REASON = "the image contains RGB colors instead of a measured signal"
_VOXEL_SIZES_MM = (0.02, 50.0)  # smallest and largest voxel size of scans of animals and humans
# unit of lengths in a header that is not mm → its length in mm
_UNITS_MM = {"meter": 1e3, "micron": 1e-3}
# unit of times in a header → its duration in s
_UNITS_S = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
_UNIT_CORNERS = np.array([*np.ndindex(2, 2, 2)])
_NIFTI2_STARTS = ((540).to_bytes(4, "little"), (540).to_bytes(4, "big"))  # size of the header
_START_BYTES = 1024  # bytes that nibabel has to read when it opens the file


def read_header(path: Path) -> Header:
    """Return the header of a NIfTI image, with the axes as stored; the file is read once.

    Raises `InputError` if the header is unreadable or invalid.
    """
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    try:
        header = _read_fields(path)
    except (*READ_ERRORS, HeaderDataError, WrapStructError, KeyError) as error:
        require_content(path)
        if not path.exists():
            raise input_error(path, "file not found", "Check the path.") from error
        raise input_error(
            path,
            f"the image header cannot be read ({explain(error)}). The file is truncated, corrupt"
            " or not a NIfTI image",
            "Copy the file again from its source, or create it again.",
        ) from error
    is_finite = bool(np.all(np.isfinite(header.affine)))
    if is_finite and _is_in_other_unit(header):
        unit = header.length_unit
        raise input_error(
            path,
            f"the voxel size in the header is {_sizes_text(header)} in the unit {unit}, but"
            " lengths must be in mm",
            f"Multiply voxel sizes, qform and sform by {_UNITS_MM[unit]:g} and set the unit to"
            " mm.",
        )
    if (
        len(header.shape) < 3
        or min(header.shape) < 1
        or not is_finite
        or abs(np.linalg.det(header.affine[:3, :3])) < 1e-6
    ):
        raise input_error(
            path,
            f"the image header is invalid: its shape is {header.shape}, or its affine is singular",
            "Correct the header, or create the image again.",
        )
    if excess := describe_excess(header.shape):
        fix = "Correct the header, or resample the image to larger voxels."
        raise input_error(path, excess, fix)
    if header.form_distance_mm is None:
        raise input_error(
            path,
            "left and right cannot be determined because neither qform nor sform is set in the"
            " header (both codes are 0)",
            "Create the image again with a program that sets the codes, such as dcm2niix for DICOM"
            " images.",
        )
    return header


def find_header(path: Path) -> Header | None:
    """Return the header of an image, or None if it is not usable, which is reported elsewhere."""
    with suppress(InputError):
        return read_header(path)
    return None


def read_volume_header(path: Path) -> Header:
    """Return the header of a single 3D magnitude image, or raise `InputError`."""
    header = read_header(path)
    if header.colored:
        raise input_error(
            path,
            COLOR_REASON,
            "Convert the DICOM images of the original scan, or exclude this file.",
        )
    if len(squeezed_shape(header)) != 3 or header.complex:
        content = f"{len(header.shape)} dimensions {header.shape}"
        if header.complex:
            content = "complex voxels"
        raise input_error(
            path,
            f"the image has {content}, but a 3D magnitude image is expected",
            "Save the magnitude as a 3D image.",
        )
    return header


def read_volume_headers(paths: Iterable[Path]) -> Choice[list[Header]]:
    """Return the headers of 3D magnitude images, without those that are not usable."""
    usable, notices = [], list[Notice]()
    for path in paths:
        try:
            header = read_volume_header(path)
        except InputError as error:
            notices += error.problems
        else:
            usable.append(header)
            notices += note_header(header)
    return Choice(value=usable, notices=tuple(notices))


def note_header(header: Header) -> Iterator[Notice]:
    """Note a unit of lengths that cannot be right, and contradicting positions of a header."""
    if header.length_unit in _UNITS_MM:
        yield note(
            header.path,
            f"the unit of lengths in the header is {header.length_unit}, but the voxel size"
            f" ({_sizes_text(header)}) is read in mm, as by other programs. Correct the unit in"
            " the header (xyzt_units).",
        )
    distance_mm = header.form_distance_mm
    if distance_mm is not None and distance_mm > _ORIENTATION_TOLERANCE_MM:
        yield note(
            header.path,
            f"the positions according to qform and sform differ by {distance_mm:.3g} mm. The"
            " sform is used because it takes precedence when its code is set.",
        )


@once_per_state
def _read_fields(path: Path) -> Header:
    """Read the header of an image without judging it."""
    from nibabel.openers import ImageOpener

    require_regular_file(path)
    with ImageOpener(str(path)) as stream:
        fields = parse_header(stream)
    affine = np.asarray(fields.get_best_affine(), dtype=float)
    affine.setflags(write=False)
    dtype = fields.get_data_dtype()
    length_unit, time_unit = fields.get_xyzt_units()
    pixdim = tuple(float(size) for size in fields.get_zooms())
    tr = pixdim[3] * _UNITS_S.get(time_unit, 1.0) if len(pixdim) > 3 else None
    return Header(
        path=path,
        shape=tuple(int(size) for size in fields.get_data_shape()),
        zooms=tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist()),
        tr=tr if tr and np.isfinite(tr) and tr > 0 else None,
        affine=affine,
        slice_axis=fields.get_dim_info()[2],
        complex=dtype.kind == "c",
        colored=dtype.kind not in "iufc",
        length_unit=length_unit,
        form_distance_mm=_compare_forms(fields),
    )


def parse_header(stream: Any) -> "Nifti1Header":
    """Read the header of a NIfTI-1 or NIfTI-2 image, and check that its data can be located.

    `stream` is a binary file. `nibabel.load` opens the file twice and tries other formats, which
    takes several times as long.
    """
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    start = stream.read(_START_BYTES)
    stream.seek(0)
    header_class = Nifti2Header if start.startswith(_NIFTI2_STARTS) else Nifti1Header
    fields = header_class.from_fileobj(stream)
    fields.get_data_offset()
    fields.get_slope_inter()
    return fields


def _compare_forms(fields: "Nifti1Header") -> float | None:
    """Return the largest distance (mm) of the corners of an image between qform and sform.

    It is 0 if only one of the two is set, and None if neither is set.
    """
    qform, qform_code = fields.get_qform(coded=True)
    sform, sform_code = fields.get_sform(coded=True)
    if not (qform_code and sform_code):
        return 0.0 if qform_code or sform_code else None
    corners = _UNIT_CORNERS * (np.array(fields.get_data_shape()[:3]) - 1)
    difference = qform - sform
    distances = np.linalg.norm(corners @ difference[:3, :3].T + difference[:3, 3], axis=1)
    return float(distances.max())


def _is_in_other_unit(header: Header) -> bool:
    """Return whether voxel sizes are plausible only in the unit that the header states.

    Many programs write another unit than mm without converting sizes.
    """
    zooms, factor = np.asarray(header.zooms), _UNITS_MM.get(header.length_unit, 1.0)
    return not _are_plausible_sizes(zooms) and _are_plausible_sizes(factor * zooms)


def _are_plausible_sizes(zooms: Any) -> bool:
    """Return whether lengths (mm) are plausible voxel sizes of a scan."""
    return bool(zooms.min() >= _VOXEL_SIZES_MM[0] and zooms.max() <= _VOXEL_SIZES_MM[1])


def _sizes_text(header: Header) -> str:
    """Return the voxel size as text, without a unit."""
    return " × ".join(f"{zoom:.3g}" for zoom in header.zooms)


def squeezed_shape(header: Header) -> tuple[int, ...]:
    """Return the shape of an image without trailing axes of length one behind the third axis."""
    shape = header.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def require_series(header: Header) -> None:
    """Raise `InputError` unless an image can be a BOLD series according to its header.

    `header` may have its axes in any order.
    """
    shape, size_text = header.shape, "×".join(map(str, header.shape))
    if header.colored:
        reason = COLOR_REASON
        fix = "Convert the DICOM images of the original series, or exclude this file."
    elif header.complex:
        reason = "the image contains complex values, but a magnitude BOLD series is required"
        fix = "Save the magnitude as a separate file (`_part-mag_bold.nii.gz`)."
    elif len(shape) == 3:
        reason = f"the file is a 3D image of {size_text} voxels, but a 4D series is expected"
        fix = (
            "Merge the volumes of the run into one 4D file, or rename a single image to `_sbref`."
        )
    elif len(shape) > 4:
        reason = (
            f"the image has {len(shape)} dimensions ({size_text}), but a 4D series is expected"
        )
        fix = "Save the volumes of the run as one 4D series."
    elif shape[3] < 2:
        reason = (
            "the series has only one volume, but head-motion correction and activation"
            " analysis require several volumes"
        )
        fix = "Check that the DICOM conversion was complete, or rename a single image to `_sbref`."
    else:
        return
    raise input_error(header.path, reason, fix)


def require_wide_slices(header: Header) -> None:
    """Raise `InputError` unless slices have at least four voxels along both axes.

    `header` must have slices along the third axis.
    """
    x, y = header.shape[:2]
    if min(x, y) < MIN_MATRIX:
        raise input_error(
            header.path,
            f"the slices have {x}×{y} voxels, but at least {MIN_MATRIX} voxels are required along"
            " both in-plane axes",
            "Exclude the run (--task-id, --run-id), or specify the slice axis with"
            " SliceEncodingDirection in the sidecar.",
        )
