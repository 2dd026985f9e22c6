"""Rules on precomputed grids and linear transforms, and the reader of confounds tables."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bids_sr.io.confound_names import MOTION_PARAMETERS, find_renamed_columns
from bids_sr.io.fields_of_view import REORDER_FIX, corner_distance, turned_corner_distance
from bids_sr.io.image_header import Header
from bids_sr.io.notices import InvalidInput, Notice
from bids_sr.io.orientation import axes_text
from bids_sr.io.tables import TABLE_ERRORS, MalformedTable, split_table
from bids_sr.spatial.itk_files import read_itk
from bids_sr.survey.bids import headers
from bids_sr.survey.bids.content import require_content
from bids_sr.survey.bids.label_lists import list_some
from bids_sr.survey.notices import input_error, problem

_LINEAR_TYPES = ("AffineTransform", "MatrixOffsetTransformBase", "Euler3DTransform")
# Largest distance between copies of one grid. Rounding of the float32 quaternion of a qform can
# rotate an oblique grid by 1e-3 rad.
_GRID_TOLERANCE_VOXELS, _GRID_TOLERANCE_MM = 0.25, 0.5
_LARGEST_SCALE = 8.0  # of volumes, in a transform between images of a participant
_N_LISTED_COLUMNS = 8  # largest number of columns that a message lists
_COPY_AGAIN = "Copy the file again from the fMRIPrep output directory."


def judge_volume(path: Path) -> Iterator[Notice]:
    """Reject an image that is not 3D."""
    header = headers.read_header(path)
    yield from headers.note_header(header)
    if len(headers.squeezed_shape(header)) != 3:
        yield problem(
            path,
            f"the image shape is {header.shape}, but a 3D image is expected",
            "Run fMRIPrep again.",
        )


def judge_grid(
    header: Header, shape: Sequence[int], affine: np.ndarray, grid_name: str, fix: str
) -> Iterator[Notice]:
    """Reject an image that is not on the expected grid, up to rounding of the qform.

    The expected grid has `shape` and `affine` (RAS mm). `grid_name` is the name of the image with
    this grid.
    """
    size_text = " × ".join(map(str, header.shape[:3]))
    expected_size_text = " × ".join(map(str, shape[:3]))
    distance = corner_distance(shape[:3], header.affine, shape[:3], affine)
    smallest_zoom = float(np.linalg.norm(affine[:3, :3], axis=0).min())
    tolerance = min(_GRID_TOLERANCE_VOXELS * smallest_zoom, _GRID_TOLERANCE_MM)
    if size_text != expected_size_text:
        yield problem(
            header.path,
            f"the matrix size is {size_text}, but the matrix size of {grid_name} is"
            f" {expected_size_text}",
            fix,
        )
    elif (
        turned_corner_distance(shape[:3], header.affine, shape[:3], affine) <= tolerance < distance
    ):
        yield problem(
            header.path,
            f"the voxels are stored in another order ({axes_text(header.affine)}) than in"
            f" {grid_name} ({axes_text(affine)})",
            REORDER_FIX,
        )
    elif distance > tolerance:
        yield problem(
            header.path,
            f"the voxel positions differ from {grid_name} by up to {distance:.2g} mm, but only"
            f" {tolerance:.2g} mm are allowed",
            fix,
        )


def judge_transforms(path: Path, count: int) -> Iterator[Notice]:
    """Reject a file unless it is an ITK text file with `count` finite linear transforms."""
    require_content(path)
    if reason := _find_transform_fault(path, count):
        yield problem(path, reason, _COPY_AGAIN)


def _find_transform_fault(path: Path, count: int) -> str:
    """Return why a file does not contain `count` finite linear transforms, "" if it does."""
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        return f"the file cannot be read as an ITK text file ({type(error).__name__})"
    if not text.startswith("#Insight Transform File"):
        return "the file is not an ITK transform text file"
    types = re.findall(r"^Transform:\s*(\w+?)_", text, flags=re.M)
    unsupported = ", ".join(sorted(set(types) - set(_LINEAR_TYPES)))
    if unsupported:
        return (
            f"the file contains transforms of type {unsupported}, but affine transforms are"
            " expected"
        )
    # each transform has a line of parameters and a line of fixed parameters
    parameters = re.findall(r"^(?:Fixed)?Parameters:(.*)$", text, flags=re.M)
    if len(parameters) != 2 * len(types) or not all(map(_is_finite, parameters)):
        return "some transforms are incomplete or contain non-numeric values"
    if len(types) != count:
        expectation = (
            f"{count} transforms are expected (one per volume)"
            if count > 1
            else "a single transform is expected from the file name"
        )
        return f"the file contains {len(types)} transforms, but {expectation}"
    try:
        scales = np.abs(np.linalg.det(read_itk(path)[:, :3, :3]))
    except InvalidInput:
        return "some transforms are incomplete or contain non-numeric values"
    extreme = scales[(scales < 1 / _LARGEST_SCALE) | (scales > _LARGEST_SCALE)]
    return f"a transform changes volumes by a factor of {extreme[0]:.2g}" if extreme.size else ""


def count_dummies(path: Path, n_volumes: int) -> int:
    """Return the number of initial volumes that a confounds table marks as non-steady-state.

    Raises `InputError` if the table is unreadable, or does not have one row per volume and the six
    motion parameters.
    """
    require_content(path)
    require_content(path.with_suffix(".json"))  # contains the mask of each aCompCor component
    try:
        stored_names, numbered_rows = split_table(path)
    except TABLE_ERRORS as error:
        reason = str(error) if isinstance(error, MalformedTable) else type(error).__name__
        raise input_error(path, f"the table cannot be read ({reason})", _COPY_AGAIN) from error
    renamed_columns = find_renamed_columns(stored_names)
    names = [renamed_columns.get(name, name) for name in stored_names]
    rows = [cells for _, cells in numbered_rows]
    reason, fix = _find_table_fault(names, rows, n_volumes)
    if reason:
        raise input_error(path, reason, fix)
    outlier_columns = [
        column for column, name in enumerate(names) if name.startswith("non_steady_state_outlier")
    ]
    is_outlier = [
        any(row[column] not in ("0", "0.0") for column in outlier_columns) for row in rows
    ]
    return is_outlier.index(False) if False in is_outlier else len(is_outlier)


def _find_table_fault(
    names: Sequence[str], rows: Sequence[Sequence[str]], n_volumes: int
) -> tuple[str, str]:
    """Return why motion parameters cannot be read from a table, and a remedy; "" if they can.

    `names` are the columns, `rows` the cells of all rows.
    """
    missing_columns = [name for name in MOTION_PARAMETERS if name not in names]
    if missing_columns:
        return (
            f"the table does not contain the columns {', '.join(missing_columns)} (existing"
            f" columns: {list_some(names, _N_LISTED_COLUMNS)})",
            "Use the confounds table as written by fMRIPrep, with the six motion parameters, or"
            " omit --derivatives.",
        )
    if len(rows) != n_volumes:
        return (
            f"the table has {len(rows)} rows, but the run has {n_volumes} volumes",
            "Specify the fMRIPrep output for this run; both must contain all volumes.",
        )
    if any(len(row) != len(names) for row in rows):
        return (
            "the rows of the table do not all have the same number of columns as the header",
            _COPY_AGAIN,
        )
    for name in MOTION_PARAMETERS:
        column = names.index(name)
        if not all(_is_finite(row[column]) for row in rows):
            return f"the column {name} contains non-numeric values", _COPY_AGAIN
    return "", ""


def _is_finite(line: str) -> bool:
    """Return whether a line consists of finite numbers, at least one."""
    try:
        return all(math.isfinite(float(number)) for number in line.split()) and bool(line.strip())
    except ValueError:
        return False
