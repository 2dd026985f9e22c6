"""Headers of images: read without the data, and never with a traceback."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bids_sr.bids.inputs import Header, Notice, Problem
from bids_sr.config.reading import regular

SHORTEST_TR = 0.02  # s; no series is measured faster
TR_TOLERANCE = 1e-3  # s; headers hold float32, and some scanners round to the millisecond
READ_ERRORS = (
    OSError,
    EOFError,
    zlib.error,
    ValueError,
    ArithmeticError,
    MemoryError,
)  # what a truncated or corrupt file raises, gzip or not
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


def read_header(path: Path) -> Header | Problem:
    """Read the header of a NIfTI image, or say why that fails."""
    import nibabel as nb
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    if not path.exists():
        broken = path.is_symlink()
        return Problem(
            file=str(path),
            reason="it is a link whose target is missing" if broken else "there is no such file",
            fix="Fetch the content (`datalad get` or `git annex get`)." if broken else "Check the path.",
        )
    try:
        regular(path)
        image: Any = nb.load(path)
        header = image.header
        shape, affine = tuple(int(n) for n in image.shape), np.asarray(image.affine, dtype=float)
        zooms = tuple(float(z) for z in header.get_zooms())
        dtype = header.get_data_dtype()
        units, slice_axis = header.get_xyzt_units()[1], header.get_dim_info()[2]
    except (*READ_ERRORS, ImageFileError, HeaderDataError, KeyError, AttributeError) as error:
        return Problem(
            file=str(path),
            reason=f"its header cannot be read ({_first_line(error)}): truncated, corrupt or no NIfTI image",
            fix="Copy the file again from where it came, or convert the DICOM images again.",
        )
    if len(shape) < 3 or min(shape) < 1 or not np.all(np.isfinite(affine)) or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        return Problem(
            file=str(path),
            reason=f"its header makes no sense: shape {shape}, or an affine that is singular",
            fix="Convert the DICOM images again.",
        )
    affine.setflags(write=False)
    tr = zooms[3] * _SECONDS.get(units, 1.0) if len(zooms) > 3 else None
    return Header(
        path=path,
        shape=shape,
        zooms=tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist()),
        tr=tr if tr and np.isfinite(tr) and tr > 0 else None,
        affine=affine,
        slice_axis=slice_axis,
        complex=dtype.kind not in "iuf",
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def squeeze_3d(header: Header) -> tuple[int, ...]:
    """Shape without trailing axes of length one."""
    shape = header.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def check_bold_header(header: Header) -> list[Problem]:
    """What the header alone says against using an image as a BOLD series."""
    path, shape = str(header.path), header.shape
    if header.complex:
        return [
            Problem(
                file=path,
                reason="its voxels are complex or colored numbers; a BOLD series of magnitudes is needed",
                fix="Store the magnitude as its own file (`_part-mag_bold.nii.gz`).",
            )
        ]
    if len(shape) == 3:
        return [
            Problem(
                file=path,
                reason=f"it is a 3D image of {_times(shape)} voxels where a 4D series is due",
                fix="Join the volumes of the run into one 4D file, or rename a single image to `_sbref`.",
            )
        ]
    if len(shape) > 4:
        return [
            Problem(
                file=path,
                reason=f"it has {len(shape)} dimensions ({_times(shape)}) where 4 are due",
                fix="Convert the DICOM images again into a 4D series.",
            )
        ]
    if shape[3] < 2:
        return [
            Problem(
                file=path,
                reason="it holds one volume; motion and activity need a series",
                fix="Check that the conversion did not stop early, or rename a single image to `_sbref`.",
            )
        ]
    return []


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def repetition_time(header: Header, value: object) -> tuple[float | None, list[Problem], list[Notice]]:
    """Repetition time (s) from the sidecar, held against the header.

    Parameters
    ----------
    value : ``RepetitionTime`` after inheritance, or None
    """
    path = str(header.path)
    said = f" (the header says {header.tr:g} s)" if header.tr else ""
    if value is None:
        hint = f"{header.tr:g}" if header.tr else "the time in seconds"
        return (
            None,
            [
                Problem(
                    file=path,
                    reason=f"RepetitionTime is missing from its sidecar{said}",
                    fix=f'Add "RepetitionTime": {hint} to the JSON file beside it, if that is how it was measured.',
                )
            ],
            [],
        )
    if isinstance(value, bool) or not isinstance(value, int | float) or not SHORTEST_TR <= value < 100:
        return (
            None,
            [
                Problem(
                    file=path,
                    reason=f"RepetitionTime is {value!r}, which is no time in seconds{said}",
                    fix="Give RepetitionTime in seconds in the sidecar.",
                )
            ],
            [],
        )
    if header.tr is None:
        return float(value), [], [Notice(file=path, text=f"the header holds no repetition time; {value:g} s is used.")]
    if abs(header.tr - value) > TR_TOLERANCE:
        return (
            None,
            [
                Problem(
                    file=path,
                    reason=f"RepetitionTime is {value:g} s in the sidecar and {header.tr:g} s in the header",
                    fix="Find out which is right and mend the other (header: pixdim[4] and the unit of time).",
                )
            ],
            [],
        )
    return float(value), [], []


def slice_times(
    header: Header, sidecar: Mapping[str, object], tr: float
) -> tuple[tuple[float, ...] | None, list[Notice]]:
    """Acquisition time of each slice along axis 2 (s), or None where there is nothing to correct or to trust."""
    value, path = sidecar.get("SliceTiming"), str(header.path)
    skipped = "slice timing is not corrected."
    if value is None:
        return None, []
    if not isinstance(value, list) or not all(isinstance(t, int | float) and abs(t) < 1e6 for t in value):
        return None, [Notice(file=path, text=f"SliceTiming is no list of numbers of seconds; {skipped}")]
    if len(value) != header.shape[2]:
        text = f"SliceTiming has {len(value)} entries and the image {header.shape[2]} slices; {skipped}"
        return None, [Notice(file=path, text=text)]
    if min(value) < 0 or max(value) >= tr:
        text = f"SliceTiming runs from {min(value):g} to {max(value):g} s, beyond a volume of {tr:g} s; {skipped}"
        return None, [Notice(file=path, text=text)]
    direction = str(sidecar.get("SliceEncodingDirection", "k"))
    if direction not in ("k", "k-"):
        return None, [Notice(file=path, text=f"slices were acquired along axis {direction}; {skipped}")]
    times = tuple(float(t) for t in (reversed(value) if direction == "k-" else value))
    return (times if len(set(times)) > 1 else None), []


def slice_axis(header: Header, sidecar: Mapping[str, object]) -> int:
    """Axis along which slices were acquired: told by the sidecar, the header, or the one voxel size that differs."""
    direction = str(sidecar.get("SliceEncodingDirection", "")).rstrip("-")
    if direction in ("i", "j", "k"):
        return "ijk".index(direction)
    if header.slice_axis is not None:
        return header.slice_axis
    zooms = np.asarray(header.zooms)
    for axis in (0, 1):
        others = np.delete(zooms, axis)
        same = abs(others[0] - others[1]) < 0.02 * others.max()
        if same and abs(zooms[axis] - others[0]) > 0.1 * others.max():
            return axis
    return 2
