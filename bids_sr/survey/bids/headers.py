"""Image headers: matrix, voxel sizes and orientation, read without the image data."""

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_sr.io.atomic_files import require_regular_file
from bids_sr.io.checksums import once_per_state
from bids_sr.io.image_header import Header, describe_excess
from bids_sr.io.notices import explain
from bids_sr.survey.bids.findings import (
    Findings,
    add_problem,
    current_findings,
    is_downloaded,
    note,
)

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


def read_header(path: Path) -> Header | None:
    """Read the header of a NIfTI image once, with the axes as stored.

    Returns None with a problem if the header is unreadable or invalid.
    """
    headers = current_findings().headers
    if path not in headers and (header := _read_valid_header(path)) is not None:
        headers[path] = header
    return headers.get(path)


def find_header(path: Path) -> Header | None:
    """Return the header of an image, or None if it is not usable, which is reported elsewhere."""
    with Findings():
        return read_header(path)


def _read_valid_header(path: Path) -> Header | None:
    """Read and check the header of a NIfTI image; return None with a problem on failure."""
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    try:
        header, length_unit, distance_mm = _read_fields(path)
    except (*READ_ERRORS, HeaderDataError, WrapStructError, KeyError) as error:
        if not is_downloaded(path):
            return None
        if not path.exists():
            add_problem(path, "file not found", "Check the path.")
            return None
        add_problem(
            path,
            f"the image header cannot be read ({explain(error)}). The file is truncated, corrupt"
            " or not a NIfTI image",
            "Copy the file again from its source, or create it again.",
        )
        return None
    is_finite = bool(np.all(np.isfinite(header.affine)))
    if is_finite and not _has_plausible_unit(path, header.affine, length_unit):
        return None
    if (
        len(header.shape) < 3
        or min(header.shape) < 1
        or not is_finite
        or abs(np.linalg.det(header.affine[:3, :3])) < 1e-6
    ):
        add_problem(
            path,
            f"the image header is invalid: its shape is {header.shape}, or its affine is singular",
            "Correct the header, or create the image again.",
        )
        return None
    if excess := describe_excess(header.shape):
        fix = "Correct the header, or resample the image to larger voxels."
        add_problem(path, excess, fix)
        return None
    return header if _is_oriented(path, distance_mm) else None


@once_per_state
def _read_fields(path: Path) -> tuple[Header, str, float | None]:
    """Read the header of an image, with the unit of lengths (as in nibabel).

    For the last value, see `_compare_forms`.
    """
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
    header = Header(
        path=path,
        shape=tuple(int(size) for size in fields.get_data_shape()),
        zooms=tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist()),
        tr=tr if tr and np.isfinite(tr) and tr > 0 else None,
        affine=affine,
        slice_axis=fields.get_dim_info()[2],
        complex=dtype.kind == "c",
        colored=dtype.kind not in "iufc",
    )
    return header, length_unit, _compare_forms(fields)


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


def _has_plausible_unit(path: Path, affine: Any, unit: str) -> bool:
    """Return whether voxel sizes can be in mm; note or reject a header that states another unit.

    `unit` is the unit of lengths in the header. Many programs write it without converting sizes.
    """
    if unit not in _UNITS_MM:
        return True
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    sizes = " × ".join(f"{zoom:.3g}" for zoom in zooms)
    converted_zooms = zooms * _UNITS_MM[unit]
    if _are_plausible_sizes(zooms) or not _are_plausible_sizes(converted_zooms):
        note(
            path,
            f"the unit of lengths in the header is {unit}, but the voxel size ({sizes}) is read in"
            " mm, as by other programs. Correct the unit in the header (xyzt_units).",
        )
        return True
    add_problem(
        path,
        f"the voxel size in the header is {sizes} in the unit {unit}, but lengths must be in mm",
        f"Multiply voxel sizes, qform and sform by {_UNITS_MM[unit]:g} and set the unit to mm.",
    )
    return False


def _are_plausible_sizes(zooms: Any) -> bool:
    """Return whether lengths (mm) are plausible voxel sizes of a scan."""
    return bool(zooms.min() >= _VOXEL_SIZES_MM[0] and zooms.max() <= _VOXEL_SIZES_MM[1])


def _is_oriented(path: Path, distance_mm: float | None) -> bool:
    """Return whether qform or sform is set, and note their distance if it is too large."""
    if distance_mm is None:
        add_problem(
            path,
            "left and right cannot be determined because neither qform nor sform is set in the"
            " header (both codes are 0)",
            "Create the image again with a program that sets the codes, such as dcm2niix for DICOM"
            " images.",
        )
    elif distance_mm > _ORIENTATION_TOLERANCE_MM:
        note(
            path,
            f"the positions according to qform and sform differ by {distance_mm:.3g} mm. The"
            " sform is used because it takes precedence when its code is set.",
        )
    return distance_mm is not None


def squeezed_shape(header: Header) -> tuple[int, ...]:
    """Return the shape of an image without trailing axes of length one behind the third axis."""
    shape = header.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def is_bold(header: Header) -> bool:
    """Return whether an image can be a BOLD series according to its header, or report a problem.

    `header` may have its axes in any order.
    """
    shape, size_text = header.shape, "×".join(map(str, header.shape))
    reason = ""
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
    if reason:
        add_problem(header.path, reason, fix)
    return not reason


def is_wide(header: Header) -> bool:
    """Return whether slices have at least four voxels along both axes, or report a problem.

    `header` must have slices along the third axis.
    """
    x, y = header.shape[:2]
    if min(x, y) >= MIN_MATRIX:
        return True
    add_problem(
        header.path,
        f"the slices have {x}×{y} voxels, but at least {MIN_MATRIX} voxels are required along"
        " both in-plane axes",
        "Exclude the run (--task-id, --run-id), or specify the slice axis with"
        " SliceEncodingDirection in the sidecar.",
    )
    return False
