"""Headers of images: geometry and timing, read without the data and never with a traceback."""

import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from bids_sr.bids.findings import Findings
from bids_sr.io.atomic_files import regular
from bids_sr.io.grids import AxisOrder, Header, inverse, nearest, reordered_affine, slices_last

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image

_SHORTEST_TR = 0.02  # s; no series is measured faster
_LONGEST_TR = 100.0  # s; a longer one is meant in milliseconds
_TR_TOLERANCE = 1e-3  # s; headers hold float32, and some scanners round to the millisecond
LEAST_MATRIX = 4  # voxels along an axis in plane, of what is super-resolved
_ORIENTATION_TOLERANCE_MM = 1.0  # a sform may hold shears that a qform cannot
READ_ERRORS = (OSError, EOFError, zlib.error, ValueError, ArithmeticError, MemoryError)
"""What a truncated or corrupt file raises, gzip or not."""
COLORED = "the image contains RGB colors instead of a measured signal"
_AXES = ("first", "second", "third")
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


def read_header(path: Path, findings: Findings) -> Header | None:
    """Read the header of a NIfTI image once; why that fails becomes a problem.

    Header with the axes as stored; None where it cannot be read or is unsound.
    """
    if path not in findings.headers and (header := _read(path, findings)) is not None:
        findings.headers[path] = header
    return findings.headers.get(path)


def _read(path: Path, findings: Findings) -> Header | None:
    import nibabel as nb
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    if not findings.fetched(path):
        return None
    if not path.exists():
        findings.refuse(path, "file not found", "Check the path.")
        return None
    try:
        regular(path)
        image: Any = nb.load(path)
        header = image.header
        shape, affine = tuple(int(n) for n in image.shape), np.asarray(image.affine, dtype=float)
        zooms = tuple(float(z) for z in header.get_zooms())
        dtype = header.get_data_dtype()
        units, slice_axis = header.get_xyzt_units()[1], header.get_dim_info()[2]
        known, apart = _orientation(image)
    except (*READ_ERRORS, ImageFileError, HeaderDataError, KeyError, AttributeError) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = (
            f"the image header cannot be read ({first_line}). The file is truncated, corrupt"
            " or not a NIfTI image"
        )
        findings.refuse(
            path,
            reason,
            "Copy the file again from its source, or convert the DICOM images again.",
        )
        return None
    if (
        len(shape) < 3
        or min(shape) < 1
        or not np.all(np.isfinite(affine))
        or abs(np.linalg.det(affine[:3, :3])) < 1e-6
    ):
        reason = f"the image header is invalid: its shape is {shape}, or its affine is singular"
        findings.refuse(path, reason, "Convert the DICOM images again.")
        return None
    if not known:
        reason = (
            "left and right cannot be determined because neither qform nor sform is set in the"
            " header (both codes are 0)"
        )
        findings.refuse(path, reason, "Convert the DICOM images again; dcm2niix sets both codes.")
        return None
    if apart > _ORIENTATION_TOLERANCE_MM:
        text = (
            f"the positions according to qform and sform differ by {apart:.3g} mm. The sform is"
            " used because it takes precedence when its code is set."
        )
        findings.tell(path, text)
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
    """Shape of an image of three axes or more, without those of length one behind the third."""
    shape = header.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def is_bold(header: Header, findings: Findings) -> bool:
    """Whether an image can be a BOLD series as far as its header tells; a problem says why not.

    `header`: header of the image, axes in any order.
    """
    path, shape = header.path, header.shape
    size = "×".join(map(str, shape))
    before = len(findings.problems)
    if header.colored:
        findings.refuse(
            path, COLORED, "Convert the DICOM images of the original series, or exclude this file."
        )
    elif header.complex:
        reason = "the image contains complex values, but a magnitude BOLD series is required"
        findings.refuse(
            path, reason, "Save the magnitude as a separate file (`_part-mag_bold.nii.gz`)."
        )
    elif len(shape) == 3:
        fix = (
            "Merge the volumes of the run into one 4D file, or rename a single image to `_sbref`."
        )
        findings.refuse(
            path, f"the file is a 3D image of {size} voxels, but a 4D series is expected", fix
        )
    elif len(shape) > 4:
        reason = f"the image has {len(shape)} dimensions ({size}), but a 4D series is expected"
        findings.refuse(path, reason, "Convert the DICOM images again into a 4D series.")
    elif shape[3] < 2:
        fix = "Check that the DICOM conversion was complete, or rename a single image to `_sbref`."
        findings.refuse(
            path,
            (
                "the series has only one volume, but head-motion correction and activation"
                " analysis require several volumes"
            ),
            fix,
        )
    return len(findings.problems) == before


def is_wide(header: Header, findings: Findings) -> bool:
    """Return whether slices (third axis) are more than single rows or columns.

    Otherwise a problem is added.

    True for at least four voxels along both axes in plane.
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
    findings.refuse(header.path, reason, fix)
    return False


def likely_tr(tr: float | None) -> float | None:
    """Return the most likely repetition time (s) of a number.

    A number that is too long or too short is taken for milliseconds.
    """
    guesses = (tr, tr / 1000, 1000 * tr) if tr else ()
    return next(
        (guess for guess in guesses if guess is not None and _SHORTEST_TR <= guess < _LONGEST_TR),
        None,
    )


def _header_text(tr: float | None) -> str:
    """What a header says of the repetition time (s), for a message; "" where it says nothing."""
    likely = likely_tr(tr)
    if tr is None or likely == tr:
        return f" (header: {tr:g} s)" if tr else ""
    meant = (
        ""
        if likely is None
        else f", probably {tr:g} ms"
        if tr > likely
        else f", probably {likely:g} s"
    )
    return f" (header: {tr:g} s{meant})"


def repetition_time(header: Header, value: object, findings: Findings) -> float | None:
    """Repetition time (s) from the sidecar, held against the header; None with a problem.

    `header`: header of the series, axes in any order. `value`: ``RepetitionTime`` after
    inheritance, or None.
    """
    path = header.path
    likely = likely_tr(header.tr)
    said = _header_text(header.tr)
    if value is None:
        hint = f"{likely:g}" if likely else "the time in seconds"
        fix = (
            f'Add "RepetitionTime": {hint} to the JSON sidecar if the run was acquired with'
            " this repetition time."
        )
        findings.refuse(path, f"RepetitionTime is missing in the JSON sidecar{said}", fix)
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not _SHORTEST_TR <= value < _LONGEST_TR
    ):
        reason = (
            f"RepetitionTime must be a time in seconds, but the sidecar contains {value!r}{said}"
        )
        fix = "Specify RepetitionTime in seconds in the sidecar."
        if isinstance(value, int | float) and _LONGEST_TR <= value < 1000 * _LONGEST_TR:
            fix = (
                f'If {value:g} is in milliseconds, replace it with "RepetitionTime":'
                f" {value / 1000:g}."
            )
        findings.refuse(path, reason, fix)
        return None
    if header.tr is None:
        findings.tell(
            path,
            (
                f"the image header does not contain a repetition time; {value:g} s from the"
                " sidecar is used."
            ),
        )
    elif likely is not None and likely != header.tr and abs(likely - value) <= _TR_TOLERANCE:
        findings.tell(
            path,
            f"the repetition time in the image header ({header.tr:g} s) is in the wrong unit;"
            f" {value:g} s from the sidecar is used.",
        )
    elif abs(header.tr - value) > _TR_TOLERANCE:
        reason = (
            f"RepetitionTime is {value:g} s in the sidecar, but {header.tr:g} s in the image"
            " header"
        )
        fix = "Correct the wrong value; in the header, check pixdim[4] and the time unit."
        findings.refuse(path, reason, fix)
        return None
    return float(value)


def is_slice_timing(value: object, n_slices: int, tr: float) -> TypeGuard[list[float]]:
    """Return whether SliceTiming of a sidecar has one time within TR (s) for each slice."""
    return (
        isinstance(value, list)
        and len(value) == n_slices
        and all(isinstance(time, int | float) and 0 <= time < tr for time in value)
    )


def slice_times(
    header: Header, sidecar: Mapping[str, object], tr: float, findings: Findings
) -> tuple[float, ...] | None:
    """Return the slice times along axis 2 (s), or None if slice timing is not to be corrected.

    `sidecar`: metadata with axes named as in the header, which has slices on the third axis. Times
    are from the start of a volume.
    """
    value = sidecar.get("SliceTiming")
    if value is None:
        return None
    if sidecar.get("SliceTimingCorrected"):
        findings.tell(
            header.path,
            "slice timing is not corrected because SliceTimingCorrected is true in the sidecar.",
        )
        return None
    direction = str(sidecar.get("SliceEncodingDirection", "k"))
    if not isinstance(value, list) or not all(
        isinstance(t, int | float) and abs(t) < 1e6 for t in value
    ):
        why = "SliceTiming is not a list of times in seconds"
    elif len(value) != header.shape[2]:
        why = f"SliceTiming has {len(value)} entries, but the image has {header.shape[2]} slices"
    elif min(value) < 0 or max(value) >= tr:
        why = (
            f"SliceTiming ranges from {min(value):g} to {max(value):g} s, which is outside the TR"
            f" of {tr:g} s"
        )
    elif direction not in ("k", "k-"):
        why = f"the slices were acquired along axis {direction}"
    else:
        times = tuple(float(t) for t in (reversed(value) if direction == "k-" else value))
        return times if len(set(times)) > 1 else None
    findings.tell(header.path, f"{why}. Slice timing is not corrected.")
    return None


def slice_axis(header: Header, sidecar: Mapping[str, object]) -> tuple[int, str]:
    """Return axis along which slices were acquired, and what tells it.

    In this order: SliceEncodingDirection; an axis of as many voxels as SliceTiming has entries,
    the third before the others and not where both others have as many; the header; the one axis of
    a single voxel; the one voxel size that differs; else the third axis.

    `header`: header with the axes as stored.
    """
    direction = str(sidecar.get("SliceEncodingDirection", "")).rstrip("-")
    if direction in ("i", "j", "k"):
        return "ijk".index(direction), "SliceEncodingDirection"
    timing = sidecar.get("SliceTiming")
    as_many = [
        axis for axis in range(3) if isinstance(timing, list) and header.shape[axis] == len(timing)
    ]
    if 2 in as_many or len(as_many) == 1:
        return as_many[-1], "the number of SliceTiming entries"
    if header.slice_axis is not None:
        return header.slice_axis, "dim_info in the header"
    if header.shape[:3].count(1) == 1:
        return header.shape.index(1), "the single slice"
    zooms = np.asarray(header.zooms)
    for axis in (0, 1):
        others = np.delete(zooms, axis)
        same = abs(others[0] - others[1]) < 0.02 * others.max()
        if same and abs(zooms[axis] - others[0]) > 0.1 * others.max():
            return axis, "the voxel size that differs from the other two"
    return 2, "nothing else"


def with_slices_last(header: Header, sidecar: Mapping[str, object]) -> tuple[Header, str]:
    """Return the header in the working order of axes, and a note if it was reordered.

    The sentence is empty where slices are on the third axis and those in plane near to right and
    anterior already.

    `header`: header with the axes as stored.
    """
    axis, told_by = slice_axis(header, sidecar)
    order = slices_last(header.affine, axis)
    if order == header.order:
        return header, ""
    text = f"the slice axis is {_AXES[axis]}, as determined from {told_by}"
    if axis == 2:
        text = "the in-plane axes are swapped"
    taken = ", ".join(_AXES[axis] for axis in order)
    text += (
        f". The image is processed with the axis order {taken}; outputs on the grids of this run"
        " are saved in the original axis order."
    )
    return _in_order(header, order), text


def _in_order(header: Header, order: AxisOrder) -> Header:
    """Header as stored → header of the same image with its axes in another order."""
    x, y, z = order
    named = None if header.slice_axis is None else inverse(order)[header.slice_axis]
    shape, zooms = header.shape, header.zooms
    return replace(
        header,
        shape=(shape[x], shape[y], shape[z], *shape[3:]),
        zooms=(zooms[x], zooms[y], zooms[z]),
        affine=reordered_affine(header.affine, order),
        slice_axis=named,
        order=order,
    )


def like(header: Header, affine: np.ndarray) -> Header:
    """Return a header with its axes reordered to match those of a grid (4x4, RAS mm).

    The axes of the header given may be in any order.
    """
    stored = _in_order(header, inverse(header.order))
    return _in_order(stored, nearest(stored.affine, affine))


def sidecar_in_order(sidecar: Mapping[str, object], order: AxisOrder) -> dict[str, object]:
    """Return the metadata of a reordered series, with axes named by their new places.

    `order`: stored axis that each axis in use takes.
    """
    reordered = dict(sidecar)
    for key in ("SliceEncodingDirection", "PhaseEncodingDirection"):
        text = str(reordered.get(key, ""))
        if text[:1] in ("i", "j", "k"):
            reordered[key] = "ijk"[order.index("ijk".index(text[0]))] + text[1:]
    return reordered
