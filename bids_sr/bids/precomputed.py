"""Precomputed derivatives of another program: data model, and checks of transform files, tables and grids."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bids_sr.bids.findings import Findings

if TYPE_CHECKING:
    from bids_sr.bids.inputs import Header

LINEAR = ("AffineTransform", "MatrixOffsetTransformBase", "Euler3DTransform")
MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
GRID_TOLERANCE_MM = 0.01
COPY_AGAIN = "Copy the file again from the fMRIPrep output."


@dataclass(frozen=True, kw_only=True, slots=True)
class Derivatives:
    """One folder of derivatives.

    Attributes
    ----------
    root : absolute path
    name : what it is called in BIDS URIs (``bids:NAME:…``)
    program, version : what made it, as its description says
    """

    root: Path
    name: str
    program: str
    version: str

    @property
    def text(self) -> str:
        """Program and version (``fMRIPrep 24.1.1``)."""
        return f"{self.program} {self.version}".strip()

    def uri(self, path: Path) -> str:
        """BIDS URI of a file in the folder."""
        return f"bids:{self.name}:{path.relative_to(self.root).as_posix()}"


@dataclass(frozen=True, kw_only=True, slots=True)
class PrecomputedAnat:
    """The anatomy of one participant; None and empty where there is no such file.

    Attributes
    ----------
    origin : folder that it comes from
    preproc, mask : T1w image without bias, and its brain, on one grid
    dseg : tissues on that grid (1 GM, 2 WM, 3 CSF)
    tpms : probabilities of GM, WM and CSF on it, or none of them
    spaces : name of a template to (file that brings the T1w image there, file that brings the template back)
    """

    origin: Derivatives
    preproc: Path
    mask: Path
    dseg: Path | None = None
    tpms: tuple[Path, ...] = ()
    spaces: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)

    def files(self, space: str) -> dict[str, Path]:
        """Files that stand for outputs of the anatomical stage, by the name of the output."""
        found = {"t1w_preproc": self.preproc, "t1w_mask": self.mask}
        if self.tpms:
            found |= dict(zip(("gm", "wm", "csf"), self.tpms, strict=True))
            found |= {} if self.dseg is None else {"t1w_dseg": self.dseg}
        if space in self.spaces:
            found["t1w2std_xfm"], found["std2t1w_xfm"] = self.spaces[space]
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class PrecomputedField:
    """A field map and its place in the run's reference.

    Attributes
    ----------
    name : identifier of the field
    fieldmap : the field (Hz) on a grid of its own
    xfm : ITK text that brings the reference of the run onto the field map
    phase_encoding : direction of the BOLD run as BIDS has it
    readout : its total readout time (s)
    """

    name: str
    fieldmap: Path
    xfm: Path
    phase_encoding: str
    readout: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PrecomputedRun:
    """One BOLD run; None where there is no such file.

    Attributes
    ----------
    origin : folder that it comes from
    hmc : ITK text, one affine a volume, brings the volume onto the reference
    mask : brain on the grid of the reference
    coreg : ITK text, brings the reference onto the T1w image of `PrecomputedAnat`
    confounds : table, one row a volume
    n_dummy : volumes at the start that the table marks as not steady; None without a table
    field : of the susceptibility correction
    """

    origin: Derivatives
    hmc: Path
    mask: Path | None = None
    coreg: Path | None = None
    confounds: Path | None = None
    n_dummy: int | None = None
    field: PrecomputedField | None = None

    @property
    def files(self) -> dict[str, Path]:
        """Files that are used, by the name of what they stand for."""
        found = {"hmc_xfms": self.hmc, "bold_mask": self.mask, "boldref2t1w_xfm": self.coreg}
        found["confounds_tsv"] = self.confounds
        if self.field is not None:
            found |= {"fieldmap": self.field.fieldmap, "boldref2fmap_xfm": self.field.xfm}
        return {name: path for name, path in found.items() if path is not None}


def check_grid(header: Header, shape: Sequence[int], affine: np.ndarray, other: str, fix: str, found: Findings) -> None:
    """Refuse an image on another grid than this one, which is that of `other`."""
    corners = np.array([[0, 0, 0, 1], [*(np.array(shape[:3]) - 1), 1]], float).T
    apart = float(np.abs((header.affine - affine) @ corners).max())
    if tuple(header.shape[:3]) != tuple(shape[:3]):
        own, wanted = (" × ".join(map(str, each)) for each in (header.shape[:3], shape[:3]))
        found.refuse(header.path, f"its matrix {own} is not the {wanted} of {other}", fix)
    elif apart > GRID_TOLERANCE_MM:
        found.refuse(header.path, f"its voxels lie up to {apart:.2g} mm from those of {other}", fix)


def check_transforms(path: Path, count: int, found: Findings) -> None:
    """Refuse what is no ITK text file of so many linear transforms with finite numbers."""
    if not found.fetched(path):
        return
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        found.refuse(path, f"it cannot be read as ITK text ({type(error).__name__})", COPY_AGAIN)
        return
    kinds = re.findall(r"^Transform:\s*(\w+?)_", text, flags=re.M)
    numbers = re.findall(r"^(?:Fixed)?Parameters:(.*)$", text, flags=re.M)
    other = ", ".join(sorted(set(kinds) - set(LINEAR)))
    if not text.startswith("#Insight Transform File"):
        found.refuse(path, "it is no ITK transform text file", COPY_AGAIN)
    elif other:
        found.refuse(path, f"it holds transforms of the kind {other}, not affine ones", COPY_AGAIN)
    elif len(numbers) != 2 * len(kinds) or not all(map(_finite, numbers)):
        found.refuse(path, "some of its transforms are incomplete or hold what is no number", COPY_AGAIN)
    elif len(kinds) != count:
        what = f"{count} volumes" if count > 1 else "one transform, as its name says"
        found.refuse(path, f"it holds {len(kinds)} transforms for {what}", COPY_AGAIN)


def _finite(line: str) -> bool:
    try:
        return all(math.isfinite(float(number)) for number in line.split()) and bool(line.strip())
    except ValueError:
        return False


def check_confounds(path: Path, n_volumes: int, found: Findings) -> int | None:
    """Volumes marked as not steady in a table with one row a volume and the six motion parameters; None if refused."""
    if not found.fetched(path):
        return None
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        found.refuse(path, f"the table cannot be read ({type(error).__name__})", COPY_AGAIN)
        return None
    names, body = (rows[0], [row for row in rows[1:] if row]) if rows else ([], [])
    missing = [name for name in MOTION if name not in names]
    fix, reason = COPY_AGAIN, ""
    if missing:
        reason = f"the table has no column {', '.join(missing)}"
    elif len(body) != n_volumes:
        reason = f"the table has {len(body)} rows and the run {n_volumes} volumes"
        fix = "Name the fMRIPrep output of this very run, and leave no volume out of either."
    elif any(len(row) != len(names) for row in body):
        reason = "rows of the table differ in length from its first line"
    elif odd := [name for name in MOTION if not all(_finite(row[names.index(name)]) for row in body)]:
        reason = f"the column {odd[0]} holds what is no number"
    if reason:
        found.refuse(path, reason, fix)
        return None
    marked = [names.index(name) for name in names if name.startswith("non_steady_state_outlier")]
    early = [any(row[column] not in ("0", "0.0") for column in marked) for row in body]
    return early.index(False) if False in early else len(early)
