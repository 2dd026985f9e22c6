"""Image headers: matrix, voxel sizes and orientation, read without the image data."""

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_sr.bids.findings import Findings
from bids_sr.io.atomic_files import require_regular_file
from bids_sr.io.image_header import Header

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image

LEAST_MATRIX = 4  # voxels, smallest in-plane matrix of a series that is super-resolved
_ORIENTATION_TOLERANCE_MM = 1.0  # mm; a sform may contain shears that a qform cannot represent
READ_ERRORS = (OSError, EOFError, zlib.error, ValueError, ArithmeticError, MemoryError)
"""Exceptions raised for a truncated or corrupt file, gzipped or not."""
COLORED = "the image contains RGB colors instead of a measured signal"
_MM = {"meter": 1e3, "micron": 1e-3}
_VOXEL_MM = (0.02, 50.0)  # smallest and largest voxel size of scans of animals and humans
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


def read_header(path: Path, findings: Findings) -> Header | None:
    """Read the header of a NIfTI image once, with the axes as stored.

    Returns None with a problem if the header is unreadable or invalid.
    """
    if path not in findings.headers and (header := _read(path, findings)) is not None:
        findings.headers[path] = header
    return findings.headers.get(path)


def _read(path: Path, findings: Findings) -> Header | None:
    """Read and check the header of a NIfTI image; return None with a problem on failure."""
    import nibabel as nb
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    if not findings.is_downloaded(path):
        return None
    if not path.exists():
        findings.add_problem(path, "file not found", "Check the path.")
        return None
    try:
        require_regular_file(path)
        image: Any = nb.load(path)
        header = image.header
        shape, affine = tuple(int(n) for n in image.shape), np.asarray(image.affine, dtype=float)
        zooms = tuple(float(z) for z in header.get_zooms())
        dtype = header.get_data_dtype()
        (length_unit, units), slice_axis = header.get_xyzt_units(), header.get_dim_info()[2]
        is_oriented, distance = _orientation(image)
    except (*READ_ERRORS, ImageFileError, HeaderDataError, KeyError, AttributeError) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = (
            f"the image header cannot be read ({first_line}). The file is truncated, corrupt"
            " or not a NIfTI image"
        )
        findings.add_problem(
            path,
            reason,
            "Copy the file again from its source, or convert the DICOM images again.",
        )
        return None
    if np.all(np.isfinite(affine)) and not _has_plausible_unit(
        path, affine, length_unit, findings
    ):
        return None
    if (
        len(shape) < 3
        or min(shape) < 1
        or not np.all(np.isfinite(affine))
        or abs(np.linalg.det(affine[:3, :3])) < 1e-6
    ):
        reason = f"the image header is invalid: its shape is {shape}, or its affine is singular"
        findings.add_problem(path, reason, "Convert the DICOM images again.")
        return None
    if not is_oriented:
        reason = (
            "left and right cannot be determined because neither qform nor sform is set in the"
            " header (both codes are 0)"
        )
        findings.add_problem(
            path, reason, "Convert the DICOM images again; dcm2niix sets both codes."
        )
        return None
    if distance > _ORIENTATION_TOLERANCE_MM:
        text = (
            f"the positions according to qform and sform differ by {distance:.3g} mm. The sform is"
            " used because it takes precedence when its code is set."
        )
        findings.note(path, text)
    affine.setflags(write=False)
    tr = zooms[3] * _SECONDS.get(units, 1.0) if len(zooms) > 3 else None
    return Header(
        path=path,
        shape=shape,
        zooms=tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist()),
        tr=tr if tr and np.isfinite(tr) and tr > 0 else None,
        affine=affine,
        slice_axis=slice_axis,
        complex=dtype.kind == "c",
        colored=dtype.kind not in "iufc",
    )


def _has_plausible_unit(path: Path, affine: Any, unit: str, findings: Findings) -> bool:
    """Return whether voxel sizes can be in mm; note or reject a header that states another unit.

    `unit` is the unit of lengths in the header. Many programs write it without converting sizes.
    """
    if unit not in _MM:
        return True
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    sizes = " × ".join(f"{zoom:.3g}" for zoom in zooms)
    as_stated = zooms * _MM[unit]
    if _are_voxels(zooms) or not _are_voxels(as_stated):
        text = (
            f"the unit of lengths in the header is {unit}, but the voxel size ({sizes}) is read in"
            " mm, as by other programs. Correct the unit in the header (xyzt_units)."
        )
        findings.note(path, text)
        return True
    findings.add_problem(
        path,
        f"the voxel size in the header is {sizes} in the unit {unit}, but lengths must be in mm",
        "Convert the DICOM images again, or multiply the voxel sizes, qform and sform by"
        f" {_MM[unit]:g} and set the unit to mm.",
    )
    return False


def _are_voxels(zooms: Any) -> bool:
    """Return whether lengths (mm) are plausible voxel sizes of a scan."""
    return bool(zooms.min() >= _VOXEL_MM[0] and zooms.max() <= _VOXEL_MM[1])


def _orientation(image: "Nifti1Image") -> tuple[bool, float]:
    """Return whether qform or sform is set, and their largest distance at the corners (mm).

    The distance is 0 unless both are set.
    """
    qform = image.get_qform(coded=True)
    sform = image.get_sform(coded=True)
    if not (qform[1] and sform[1]):
        return bool(qform[1] or sform[1]), 0.0
    corners = np.array([*np.ndindex(2, 2, 2)]) * (np.array(image.shape[:3]) - 1)
    differences = corners @ (qform[0] - sform[0])[:3, :3].T + (qform[0] - sform[0])[:3, 3]
    return True, float(np.linalg.norm(differences, axis=1).max())


def squeeze_3d(header: Header) -> tuple[int, ...]:
    """Return the shape of an image without trailing axes of length one behind the third axis."""
    shape = header.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def is_bold(header: Header, findings: Findings) -> bool:
    """Return whether an image can be a BOLD series according to its header, or report a problem.

    `header` may have its axes in any order.
    """
    path, shape = header.path, header.shape
    size = "×".join(map(str, shape))
    n_problems = len(findings.problems)
    if header.colored:
        findings.add_problem(
            path, COLORED, "Convert the DICOM images of the original series, or exclude this file."
        )
    elif header.complex:
        reason = "the image contains complex values, but a magnitude BOLD series is required"
        findings.add_problem(
            path, reason, "Save the magnitude as a separate file (`_part-mag_bold.nii.gz`)."
        )
    elif len(shape) == 3:
        fix = (
            "Merge the volumes of the run into one 4D file, or rename a single image to `_sbref`."
        )
        findings.add_problem(
            path, f"the file is a 3D image of {size} voxels, but a 4D series is expected", fix
        )
    elif len(shape) > 4:
        reason = f"the image has {len(shape)} dimensions ({size}), but a 4D series is expected"
        findings.add_problem(path, reason, "Convert the DICOM images again into a 4D series.")
    elif shape[3] < 2:
        fix = "Check that the DICOM conversion was complete, or rename a single image to `_sbref`."
        findings.add_problem(
            path,
            (
                "the series has only one volume, but head-motion correction and activation"
                " analysis require several volumes"
            ),
            fix,
        )
    return len(findings.problems) == n_problems


def is_wide(header: Header, findings: Findings) -> bool:
    """Return whether slices have at least four voxels along both axes, or report a problem.

    `header` must have slices along the third axis.
    """
    x, y = header.shape[:2]
    if min(x, y) >= LEAST_MATRIX:
        return True
    reason = (
        f"the slices have {x}×{y} voxels, but at least {LEAST_MATRIX} voxels are required along"
        " both in-plane axes"
    )
    fix = (
        "Exclude the run (--task-id, --run-id), or specify the slice axis with"
        " SliceEncodingDirection in the sidecar."
    )
    findings.add_problem(header.path, reason, fix)
    return False
