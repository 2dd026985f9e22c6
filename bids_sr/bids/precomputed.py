"""Precomputed derivatives: data model, folders, and checks of transforms, tables and grids.

They are made by another program.
"""

import csv
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np

from bids_sr.bids.findings import Findings
from bids_sr.config.values import split_named
from bids_sr.frozen import frozen
from bids_sr.io.grids import corners_apart
from bids_sr.io.image_header import Header

_PROGRAMS = ("fmriprep", "smriprep")
_OWN = "bids-sr"
_LINEAR = ("AffineTransform", "MatrixOffsetTransformBase", "Euler3DTransform")
_MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
_GRID_TOLERANCE_VOXELS, _GRID_TOLERANCE_MM = 0.25, 0.5
"""How far apart copies of one grid may lie: the four-byte quaternion of a qform may turn an
oblique one by 1e-3 rad.
"""
_DESCRIPTION = "dataset_description.json"
_COPY_AGAIN = "Copy the file again from the fMRIPrep output."


@frozen
class Derivatives:
    """One folder of derivatives, and what made it, as its description says.

    `version`: version of that program; empty where it is not told.
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
        """BIDS URI of a file in the folder.

        Address such as ``bids:fmriprep:sub-01/anat/…``.
        """
        return f"bids:{self.name}:{path.relative_to(self.root).as_posix()}"


@frozen
class PrecomputedAnat:
    """The anatomy of one participant; None and empty where there is no such file.

    `spaces`: name of a template to (file that brings the T1w image there, file that brings the
    template back). `surfaces`: left and
    right ``white``, ``pial`` and ``sphere``, the one registered to fsaverage.
    """

    origin: Derivatives
    preproc: Path
    mask: Path
    dseg: Path | None = None
    tpms: tuple[Path, ...] = ()
    spaces: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)
    surfaces: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)

    def files(self, space: str) -> dict[str, Path]:
        """Return files that stand for outputs of the anatomical stage, by the name of the output.

        `space`: name of the template whose transforms are wanted, where they are there.
        """
        found = {"t1w_preproc": self.preproc, "t1w_mask": self.mask}
        if self.tpms:
            found |= dict(zip(("gm", "wm", "csf"), self.tpms, strict=True))
            found |= {} if self.dseg is None else {"t1w_dseg": self.dseg}
        if space in self.spaces:
            found["t1w2std_xfm"], found["std2t1w_xfm"] = self.spaces[space]
        return found


@frozen
class PrecomputedField:
    """A field map and its place in the run's reference.

    `readout`: its total readout time (s).
    """

    name: str
    fieldmap: Path
    xfm: Path
    phase_encoding: str
    readout: float


@frozen
class PrecomputedRun:
    """One BOLD run; None where there is no such file.

    `hmc` is ITK text, one affine a volume, and brings the volume onto the reference; without it
    the six parameters in `confounds` tell the motion.
    """

    origin: Derivatives
    hmc: Path | None
    mask: Path | None = None
    coreg: Path | None = None
    confounds: Path | None = None
    n_dummy: int | None = None
    field: PrecomputedField | None = None

    @property
    def files(self) -> dict[str, Path]:
        """Return files that are used, by the name of what they stand for."""
        found = {"hmc_xfms": self.hmc, "bold_mask": self.mask, "boldref2t1w_xfm": self.coreg}
        found["confounds_tsv"] = self.confounds
        if self.field is not None:
            found |= {"fieldmap": self.field.fieldmap, "boldref2fmap_xfm": self.field.xfm}
        return {name: path for name, path in found.items() if path is not None}


def taken_text(run: PrecomputedRun) -> str:
    """What of a run is taken over, in words.

    Words such as ``head motion, brain mask of fMRIPrep 24.1.1``.
    """
    files = run.files
    words = {
        "hmc_xfms": "head motion",
        "bold_mask": "brain mask",
        "boldref2t1w_xfm": "registration to T1w",
    }
    words |= {"confounds_tsv": "confounds", "fieldmap": "field map"}
    taken = [word for name, word in words.items() if name in files]
    if run.hmc is None:
        taken.insert(0, "head motion (from the parameters in its confounds)")
    return f"{', '.join(taken)} of {run.origin.text}"


def open_derivatives(
    options: Iterable[str], bids_dir: Path, found: Findings
) -> tuple[Derivatives, ...]:
    """The folders that ``--derivatives`` names; what is wrong with one becomes a problem."""
    opened: dict[str, Derivatives] = {}
    for text in options:
        name, root = split_named(text)
        folder = _open(name, Path(root).absolute(), bids_dir, found)
        if folder is not None and folder.name in opened:
            fix = "Give each folder a name of its own: --derivatives one=DIR two=DIR."
            found.refuse_option(f"--derivatives {text}", "two folders have one name", fix)
        elif folder is not None:
            opened[folder.name] = folder
    return tuple(opened.values())


def _open(name: str, root: Path, bids_dir: Path, found: Findings) -> Derivatives | None:
    described, fix = root / _DESCRIPTION, "Give the output folder of fMRIPrep."
    if not root.is_dir():
        found.refuse(root, "there is no such folder (--derivatives)", "Check the path.")
        return None
    if root.resolve() == bids_dir.resolve():
        reason = "it is the data set itself, not its derivatives"
    elif not found.fetched(described):
        return None
    else:
        try:
            program, version = _made_by(described)
        except FileNotFoundError:
            reason = "the file is missing, so it is not known which program made the folder"
        except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
            reason = f"it does not say which program made the folder ({type(error).__name__})"
            fix = "Copy the file again; it names the program in GeneratedBy."
        else:
            own = program.lower()
            if own in _PROGRAMS:
                return Derivatives(root=root, name=name or own, program=program, version=version)
            reason = f"it was made by {program or 'unknown software'}, not by fMRIPrep"
            fix = "Give the output folder of fMRIPrep, the only derivatives that bids-sr reads."
            if own == _OWN:
                reason = (
                    "it was made by bids-sr itself: what it holds is super-resolved, and no"
                    " preprocessing of a run"
                )
                fix = (
                    "Leave --derivatives out: with the same output and working directory (-w) no"
                    " finished step is repeated."
                )
    found.refuse(described, reason, _proposal(root) or fix)
    return None


def _made_by(described: Path) -> tuple[str, str]:
    """Program and version in a description of derivatives (PipelineDescription: fMRIPrep 20.0)."""
    content = json.loads(described.read_text(encoding="utf-8"))
    first = (content.get("GeneratedBy") or [content["PipelineDescription"]])[0]
    return str(first.get("Name") or "").strip(), str(first.get("Version", ""))


def _proposal(root: Path) -> str:
    """Propose the fMRIPrep folder that was probably meant instead of a wrong one.

    The wrong folder was made from it, or it lies in, around or beside the wrong folder.

    The parent of the output folder is often named.
    """
    for linked in _linked(root):
        if _is_of_fmriprep(linked / _DESCRIPTION):
            return f"Name the folder that it was made from: {linked}."
    inner = [
        *sorted(root.glob(f"*/{_DESCRIPTION}")),
        *sorted(root.glob(f"derivatives/*/{_DESCRIPTION}")),
    ]
    around = [folder / _DESCRIPTION for folder in list(root.parents)[:3]]
    for described in [*inner, *around, *sorted(root.parent.glob(f"*/{_DESCRIPTION}"))]:
        if _is_of_fmriprep(described):
            where = "around" if described.parent in root.parents else "beside"
            return (
                f"Name the folder {'inside' if root in described.parents else where} it:"
                f" {described.parent}."
            )
    return ""


def _is_of_fmriprep(described: Path) -> bool:
    try:
        return _made_by(described)[0].lower() in _PROGRAMS
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return False


def _linked(root: Path) -> Iterator[Path]:
    """Yield the local source folders that a description of derivatives names."""
    try:
        links = json.loads((root / _DESCRIPTION).read_text(encoding="utf-8"))["DatasetLinks"]
        named = [urlsplit(str(link)) for link in links.values()]
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return
    for link in named:
        if link.scheme in ("", "file"):
            yield Path(os.path.normpath(root / unquote(link.path)))


def check_grid(
    header: Header, shape: Sequence[int], affine: np.ndarray, other: str, fix: str, found: Findings
) -> None:
    """Refuse an image that is not on this grid of `other`, up to rounding of the qform."""
    own, wanted = (" × ".join(map(str, each[:3])) for each in (header.shape, shape))
    apart = corners_apart(shape[:3], header.affine, shape[:3], affine)
    voxel = float(np.linalg.norm(affine[:3, :3], axis=0).min())
    if own != wanted:
        found.refuse(header.path, f"its matrix {own} is not the {wanted} of {other}", fix)
    elif apart > min(_GRID_TOLERANCE_VOXELS * voxel, _GRID_TOLERANCE_MM):
        found.refuse(
            header.path, f"its voxels lie up to {apart:.2g} mm from those of {other}", fix
        )


def check_transforms(path: Path, count: int, found: Findings) -> None:
    """Refuse what is no ITK text file of so many linear transforms with finite numbers."""
    if not found.fetched(path):
        return
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        found.refuse(path, f"it cannot be read as ITK text ({type(error).__name__})", _COPY_AGAIN)
        return
    kinds = re.findall(r"^Transform:\s*(\w+?)_", text, flags=re.M)
    numbers = re.findall(r"^(?:Fixed)?Parameters:(.*)$", text, flags=re.M)
    other = ", ".join(sorted(set(kinds) - set(_LINEAR)))
    if not text.startswith("#Insight Transform File"):
        found.refuse(path, "it is not an ITK transform text file", _COPY_AGAIN)
    elif other:
        found.refuse(
            path, f"it holds transforms of the kind {other}, not affine ones", _COPY_AGAIN
        )
    elif len(numbers) != 2 * len(kinds) or not all(map(_finite, numbers)):
        found.refuse(path, "some of its transforms are incomplete or not numeric", _COPY_AGAIN)
    elif len(kinds) != count:
        what = f"{count} volumes" if count > 1 else "one transform, as its name says"
        found.refuse(path, f"it holds {len(kinds)} transforms for {what}", _COPY_AGAIN)


def _finite(line: str) -> bool:
    try:
        return all(math.isfinite(float(number)) for number in line.split()) and bool(line.strip())
    except ValueError:
        return False


def check_confounds(path: Path, n_volumes: int, found: Findings) -> int | None:
    """Return the number of non-steady-state volumes of a confounds table, or None.

    The table needs one row per volume and the six motion parameters; None if it is refused.

    Number of leading rows marked as outliers not in the steady state, or None.
    """
    sidecar = path.with_suffix(".json")  # tells the mask of each component of aCompCor
    if not found.fetched(path) or not found.fetched(sidecar):
        return None
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        found.refuse(path, f"the table cannot be read ({type(error).__name__})", _COPY_AGAIN)
        return None
    names, body = (rows[0], [row for row in rows[1:] if row]) if rows else ([], [])
    missing = [name for name in _MOTION if name not in names]
    fix, reason = _COPY_AGAIN, ""
    if missing:
        reason = f"the table has no column {', '.join(missing)}"
    elif len(body) != n_volumes:
        reason = f"the table has {len(body)} rows and the run {n_volumes} volumes"
        fix = "Give the fMRIPrep output of this run; both must have all volumes."
    elif any(len(row) != len(names) for row in body):
        reason = "rows of the table differ in length from its first line"
    elif odd := [
        name for name in _MOTION if not all(_finite(row[names.index(name)]) for row in body)
    ]:
        reason = f"the column {odd[0]} has values that are not numeric"
    if reason:
        found.refuse(path, reason, fix)
        return None
    marked = [names.index(name) for name in names if name.startswith("non_steady_state_outlier")]
    early = [any(row[column] not in ("0", "0.0") for column in marked) for row in body]
    return early.index(False) if False in early else len(early)
