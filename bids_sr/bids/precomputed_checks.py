"""Transform files, tables and grids of other programs: what speaks against them."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bids_sr.bids.inputs import Header, Problem

LINEAR = ("AffineTransform", "MatrixOffsetTransformBase", "Euler3DTransform")
MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
GRID_TOLERANCE_MM = 0.01


def differing_grid(header: Header, shape: Sequence[int], affine: np.ndarray) -> str:
    """How the grid of an image differs from another one, as the beginning of a sentence; "" if it does not."""
    if tuple(header.shape[:3]) != tuple(shape[:3]):
        return f"its matrix {_times(header.shape[:3])} is not the {_times(shape[:3])} of"
    corners = np.array([[0, 0, 0, 1], [*(np.array(shape[:3]) - 1), 1]], float).T
    apart = float(np.abs((header.affine - affine) @ corners).max())
    return f"its voxels lie up to {apart:.2g} mm from those of" if apart > GRID_TOLERANCE_MM else ""


def _times(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def check_transforms(path: Path, count: int) -> list[Problem]:
    """An ITK text file of so many linear transforms with finite numbers."""
    fix = "Copy the file again from the fMRIPrep output."

    def refused(reason: str) -> list[Problem]:
        return [Problem(file=str(path), reason=reason, fix=fix)]

    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        return refused(f"it cannot be read as ITK text ({type(error).__name__})")
    if not text.startswith("#Insight Transform File"):
        return refused("it is no ITK transform text file")
    kinds = re.findall(r"^Transform:\s*(\w+?)_", text, flags=re.M)
    numbers = re.findall(r"^(?:Fixed)?Parameters:(.*)$", text, flags=re.M)
    if set(kinds) - set(LINEAR):
        return refused(
            f"it holds transforms of the kind {', '.join(sorted(set(kinds) - set(LINEAR)))}, not affine ones"
        )
    if len(numbers) != 2 * len(kinds) or not all(map(_finite, numbers)):
        return refused("some of its transforms are incomplete or hold what is no number")
    if len(kinds) != count:
        what = f"{count} volumes" if count > 1 else "one transform, as its name says"
        return refused(f"it holds {len(kinds)} transforms for {what}")
    return []


def _finite(line: str) -> bool:
    try:
        return all(math.isfinite(float(number)) for number in line.split()) and bool(line.strip())
    except ValueError:
        return False


def check_confounds(path: Path, n_volumes: int) -> tuple[list[Problem], int | None]:
    """A table with one row a volume and the six motion parameters: (problems, volumes marked as not steady)."""

    def refused(reason: str, fix: str = "Copy the file again from the fMRIPrep output.") -> tuple[list[Problem], None]:
        return [Problem(file=str(path), reason=reason, fix=fix)], None

    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return refused(f"the table cannot be read ({type(error).__name__})")
    names, body = (rows[0], [row for row in rows[1:] if row]) if rows else ([], [])
    missing = [name for name in MOTION if name not in names]
    if missing:
        return refused(f"the table has no column {', '.join(missing)}")
    if len(body) != n_volumes:
        fix = "Name the fMRIPrep output of this very run, and leave no volume out of either."
        return refused(f"the table has {len(body)} rows and the run {n_volumes} volumes", fix)
    if any(len(row) != len(names) for row in body):
        return refused("rows of the table differ in length from its first line")
    for name in MOTION:
        if not all(_finite(row[names.index(name)]) for row in body):
            return refused(f"the column {name} holds what is no number")
    marked = [names.index(name) for name in names if name.startswith("non_steady_state_outlier")]
    early = [any(row[column] not in ("0", "0.0") for column in marked) for row in body]
    return [], early.index(False) if False in early else len(early)
