"""Notices collected while a data set is checked; those that are errors are its problems.

Precomputed derivatives: data model, folders, and checks of transforms, tables and grids.

They are made by another program.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np

from bids_sr.config import UsageError
from bids_sr.config.section import split_named
from bids_sr.frozen import frozen
from bids_sr.io.grids import Header, corners_apart
from bids_sr.io.tables import TABLE_ERRORS, MalformedTable, split_table
from bids_sr.notices import Level, Notice


class InputError(UsageError):
    """The data set cannot be used as it stands; `problems` holds every reason found."""

    def __init__(self, problems: Sequence[Notice]) -> None:
        super().__init__("\n".join(str(problem) for problem in grouped(problems)))
        self.problems = tuple(problems)


def refusal(what: Path | str, why: str, remedy: str) -> InputError:
    """Make the exception for a single problem, to raise."""
    return InputError([Notice(what=str(what), why=why, remedy=remedy)])


def absent(path: Path) -> str:
    """Return what replaces a file not downloaded (dangling link or pointer), or "" otherwise.

    Phrase such as ``a pointer of git-annex``, or an empty text.
    """
    if path.is_symlink() and not path.exists():
        return "the symbolic link is broken"
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as stream:
            start = stream.read(64)
    except OSError:
        return ""
    if start.startswith(b"/annex/objects/"):
        return "the file is a git-annex pointer"
    return "the file is a Git LFS pointer" if start.startswith(b"version https://git-lfs") else ""


def _not_downloaded(path: Path, what: str) -> Notice:
    code = "lfs" if "LFS" in what else "annex"
    get = (
        f"`git lfs pull -I {path.name}`"
        if code == "lfs"
        else f"`datalad get {path}` (or `git annex get`)"
    )
    return Notice(
        what=str(path),
        why=f"the file content has not been downloaded: {what}",
        remedy=f"Download it: {get}.",
        code=code,
    )


def require(path: Path) -> None:
    """Raise `InputError` for a file that was not downloaded."""
    what = absent(path)
    if what:
        raise InputError([_not_downloaded(path, what)])


def grouped(problems: Iterable[Notice]) -> list[Notice]:
    """Group problems for display.

    A problem of several runs is shown once, all DataLad links without a target with one command.
    """
    every = list(dict.fromkeys(problem.of_all() for problem in problems))
    links = [problem for problem in every if problem.code == "annex"]
    if len(links) < 2:
        return every
    top = Path(os.path.commonpath([problem.what for problem in links]))
    names = " ".join(shlex.quote(str(Path(problem.what).relative_to(top))) for problem in links)
    notice = Notice(
        what=f"{top} ({len(links)} files)",
        why=(
            "the file contents have not been downloaded: the files are broken links or git-annex"
            " pointers"
        ),
        remedy=(
            f"Download them: `cd {shlex.quote(str(top))} && datalad get {names}` (or `git annex"
            " get`)."
        ),
    )
    first = every.index(links[0])
    return [
        notice if k == first else problem
        for k, problem in enumerate(every)
        if k == first or problem not in links
    ]


def counted(notices: Iterable[Notice]) -> list[Notice]:
    """Group equal notices for display, as the first file and the number of others.

    `notices`: notes and warnings in the order of being found.
    """
    alike: dict[tuple[str, Level], dict[str, Notice]] = {}
    for notice in notices:
        alike.setdefault((notice.why, notice.level), {}).setdefault(notice.what, notice)
    return [
        replace(first.of_all(), what=f"{first.what} and {len(others)} more") if others else first
        for first, *others in (each.values() for each in alike.values())
    ]


@dataclass(slots=True)
class Findings:
    """What is found while inputs are checked, each notice once, in the order of being found."""

    problems: list[Notice] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    headers: dict[Path, Header] = field(default_factory=dict)
    _subject: str = field(default="", init=False, repr=False, compare=False)
    _run: str = field(default="", init=False, repr=False, compare=False)
    _code: str = field(default="input", init=False, repr=False, compare=False)
    _known: set[Notice] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._known = {*self.problems, *self.notices}

    @contextlib.contextmanager
    def about(self, subject: str = "", run: str = "", *, code: str = "") -> Iterator[None]:
        """Attribute notices added in the context to this participant, run and code by default.

        `run`: name of the run; empty for the participant alone. `code`: code of notices that are
        added with the general one; empty changes nothing.
        """
        before = self._subject, self._run, self._code
        self._subject = subject
        self._run = run
        self._code = code or self._code
        try:
            yield
        finally:
            self._subject, self._run, self._code = before

    def refuse(self, what: Path | str, why: str, remedy: str = "", *, code: str = "input") -> None:
        """Add a problem; its code gives a remedy where there is none.

        `code`: kind of notice, as in `bids_sr.notices.CODES`.
        """
        self.add([Notice(what=str(what), why=why, remedy=remedy, code=code)])

    def refuse_option(self, what: str, why: str, remedy: str) -> None:
        """Add a problem of an option, which stops the whole call even if one run revealed it."""
        self.add([Notice(what=what, why=why, remedy=remedy, code="option")])

    def tell(self, what: Path | str, why: str, *, code: str = "input") -> None:
        """Add a note.

        `code`: kind of notice that readers tell apart; empty for none.
        """
        self.add([Notice(what=str(what), why=why, level="note", code=code)])

    def warn(self, what: Path | str, why: str, *, code: str = "input") -> None:
        """Add a warning.

        `code`: kind of notice, as in `bids_sr.notices.CODES`.
        """
        self.add([Notice(what=str(what), why=why, level="warning", code=code)])

    def refuse_unless(self, forced: bool, what: Path | str, why: str, remedy: str) -> None:
        """Add a problem, or a note where ``--force`` was given."""
        if forced:
            self.tell(what, f"{why}. Processing continues because of --force.")
        else:
            self.refuse(what, why, remedy)

    def fetched(self, path: Path) -> bool:
        """False, with a problem, for a file of DataLad or Git LFS that was not downloaded.

        True also for a file that does not exist.
        """
        what = absent(path)
        if what:
            self.add([_not_downloaded(path, what)])
        return not what

    def add(self, notices: Iterable[Notice]) -> None:
        """Add what is not there yet."""
        for each in notices:
            notice = (
                each
                if each.subject or not self._subject
                else replace(each, subject=self._subject, run=self._run)
            )
            if notice.code == "input":
                notice = replace(notice, code=self._code)
            if notice not in self._known:
                self._known.add(notice)
                (self.problems if notice.level == "error" else self.notices).append(notice)

    def add_all(self, other: Findings) -> None:
        """Add the problems and notices of other findings."""
        self.add([*other.problems, *other.notices])


_PROGRAMS = ("fmriprep", "smriprep")
_OWN = "bids-sr"
_LINEAR = ("AffineTransform", "MatrixOffsetTransformBase", "Euler3DTransform")
_MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
_GRID_TOLERANCE_VOXELS, _GRID_TOLERANCE_MM = 0.25, 0.5
"""How far apart copies of one grid may lie: the four-byte quaternion of a qform may turn an
oblique one by 1e-3 rad.
"""
_DESCRIPTION = "dataset_description.json"
_COPY_AGAIN = "Copy the file again from the fMRIPrep output directory."


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

    `preproc`: T1w image without bias, on whose grid are the brain in `mask`, `dseg` (1 GM, 2 WM,
    3 CSF) and `tpms`, the probabilities of GM, WM and CSF. `spaces`: name of a template to (file
    that brings the T1w image there, file that brings the template back). `surfaces`: left and
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
        paths = {"t1w_preproc": self.preproc, "t1w_mask": self.mask}
        if self.tpms:
            paths |= dict(zip(("gm", "wm", "csf"), self.tpms, strict=True))
            paths |= {} if self.dseg is None else {"t1w_dseg": self.dseg}
        if space in self.spaces:
            paths["t1w2std_xfm"], paths["std2t1w_xfm"] = self.spaces[space]
        return paths


@frozen
class PrecomputedField:
    """A field map and its place in the run's reference.

    `fieldmap`: in Hz, on a grid of its own. `xfm`: ITK text that brings the reference of the run
    onto the field map. `phase_encoding`, `readout`: of the BOLD run, as BIDS has it, and in s.
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
    the six parameters in `confounds` tell the motion. `mask` is on the grid of the reference,
    `coreg` brings the reference onto the T1w image, `n_dummy` volumes are marked as not steady.
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
        paths = {"hmc_xfms": self.hmc, "bold_mask": self.mask, "boldref2t1w_xfm": self.coreg}
        paths["confounds_tsv"] = self.confounds
        if self.field is not None:
            paths |= {"fieldmap": self.field.fieldmap, "boldref2fmap_xfm": self.field.xfm}
        return {name: path for name, path in paths.items() if path is not None}


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
        taken.insert(0, "head motion (from the motion parameters in the confounds file)")
    return f"{', '.join(taken)} of {run.origin.text}"


def open_derivatives(
    options: Iterable[str], bids_dir: Path, findings: Findings
) -> tuple[Derivatives, ...]:
    """The folders that ``--derivatives`` names; what is wrong with one becomes a problem."""
    opened: dict[str, Derivatives] = {}
    for text in options:
        name, root = split_named(text)
        folder = _open(name, Path(root).absolute(), bids_dir, findings)
        if folder is not None and folder.name in opened:
            fix = "Use a different name for each directory: --derivatives one=DIR two=DIR."
            findings.refuse_option(
                f"--derivatives {text}", "two derivatives directories have the same name", fix
            )
        elif folder is not None:
            opened[folder.name] = folder
    return tuple(opened.values())


def refuse_output_as_data(bids_dir: Path, findings: Findings) -> bool:
    """Report that the data set is the output of fMRIPrep, and return whether it is."""
    described = bids_dir / _DESCRIPTION
    if not _is_of_fmriprep(described):
        return False
    findings.refuse(
        described,
        "this directory is an fMRIPrep output directory, not a raw BIDS dataset",
        f"Specify the raw BIDS dataset, and pass this directory with -d fmriprep={bids_dir}.",
    )
    return True


def _open(name: str, root: Path, bids_dir: Path, findings: Findings) -> Derivatives | None:
    described = root / _DESCRIPTION
    fix = "Specify the fMRIPrep output directory."
    if not root.is_dir():
        findings.refuse(root, "the derivatives directory was not found", "Check the path.")
        return None
    if root.resolve() == bids_dir.resolve():
        reason = "this directory is the raw dataset, not its derivatives"
    elif not findings.fetched(described):
        return None
    else:
        try:
            program, version = _made_by(described)
        except FileNotFoundError:
            reason = (
                "the file is missing, so the software that generated the derivatives is unknown"
            )
        except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
            reason = (
                "the software that generated the derivatives is not recorded"
                f" ({type(error).__name__})"
            )
            fix = (
                "Copy the file again; its GeneratedBy field must contain the name of the software."
            )
        else:
            folder_name = program.lower()
            if folder_name in _PROGRAMS:
                return Derivatives(
                    root=root, name=name or folder_name, program=program, version=version
                )
            reason = (
                f"the derivatives were generated by {program or 'unknown software'}, not by"
                " fMRIPrep"
            )
            fix = (
                "Specify the fMRIPrep output directory; derivatives of other software are not"
                " supported."
            )
            if folder_name == _OWN:
                reason = (
                    "the derivatives were generated by bids-sr and contain super-resolved series"
                    " instead of preprocessed runs"
                )
                fix = (
                    "Omit --derivatives. If the output and working directories (-w) are the"
                    " same, completed steps are not repeated."
                )
    findings.refuse(described, reason, _proposal(root) or fix)
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
            return (
                "Specify the fMRIPrep output directory that was used to compute these"
                f" derivatives: {linked}."
            )
    inner = [
        *sorted(root.glob(f"*/{_DESCRIPTION}")),
        *sorted(root.glob(f"derivatives/*/{_DESCRIPTION}")),
    ]
    around = [folder / _DESCRIPTION for folder in list(root.parents)[:3]]
    for described in [*inner, *around, *sorted(root.parent.glob(f"*/{_DESCRIPTION}"))]:
        if _is_of_fmriprep(described):
            return f"Specify the fMRIPrep output directory {described.parent}."
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
    header: Header,
    shape: Sequence[int],
    affine: np.ndarray,
    other: str,
    fix: str,
    findings: Findings,
) -> None:
    """Refuse an image that is not on this grid of `other`, up to rounding of the qform."""
    own_size, run_size = (" × ".join(map(str, each[:3])) for each in (header.shape, shape))
    apart = corners_apart(shape[:3], header.affine, shape[:3], affine)
    voxel = float(np.linalg.norm(affine[:3, :3], axis=0).min())
    most = min(_GRID_TOLERANCE_VOXELS * voxel, _GRID_TOLERANCE_MM)
    if own_size != run_size:
        findings.refuse(
            header.path,
            f"the matrix size is {own_size}, but the matrix size of {other} is {run_size}",
            fix,
        )
    elif apart > most:
        findings.refuse(
            header.path,
            f"the voxel positions differ from {other} by up to {apart:.2g} mm, but only"
            f" {most:.2g} mm are allowed",
            fix,
        )


def check_transforms(path: Path, count: int, findings: Findings) -> None:
    """Refuse what is no ITK text file of so many linear transforms with finite numbers."""
    if not findings.fetched(path):
        return
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        findings.refuse(
            path,
            f"the file cannot be read as an ITK text file ({type(error).__name__})",
            _COPY_AGAIN,
        )
        return
    kinds = re.findall(r"^Transform:\s*(\w+?)_", text, flags=re.M)
    numbers = re.findall(r"^(?:Fixed)?Parameters:(.*)$", text, flags=re.M)
    other = ", ".join(sorted(set(kinds) - set(_LINEAR)))
    if not text.startswith("#Insight Transform File"):
        findings.refuse(path, "the file is not an ITK transform text file", _COPY_AGAIN)
    elif other:
        findings.refuse(
            path,
            f"the file contains transforms of type {other}, but affine transforms are expected",
            _COPY_AGAIN,
        )
    elif len(numbers) != 2 * len(kinds) or not all(map(_finite, numbers)):
        findings.refuse(
            path, "some transforms are incomplete or contain non-numeric values", _COPY_AGAIN
        )
    elif len(kinds) != count:
        wanted = (
            f"{count} transforms are expected (one per volume)"
            if count > 1
            else "a single transform is expected from the file name"
        )
        findings.refuse(
            path, f"the file contains {len(kinds)} transforms, but {wanted}", _COPY_AGAIN
        )


def _finite(line: str) -> bool:
    try:
        return all(math.isfinite(float(number)) for number in line.split()) and bool(line.strip())
    except ValueError:
        return False


def check_confounds(path: Path, n_volumes: int, findings: Findings) -> int | None:
    """Return the number of non-steady-state volumes of a confounds table, or None.

    The table needs one row per volume and the six motion parameters; None if it is refused.
    Leading rows that are marked as outliers not in the steady state count.
    """
    sidecar = path.with_suffix(".json")  # tells the mask of each component of aCompCor
    if not findings.fetched(path) or not findings.fetched(sidecar):
        return None
    try:
        names, numbered = split_table(path)
    except TABLE_ERRORS as error:
        reason = str(error) if isinstance(error, MalformedTable) else type(error).__name__
        findings.refuse(path, f"the table cannot be read ({reason})", _COPY_AGAIN)
        return None
    body = [cells for _, cells in numbered]
    missing = [name for name in _MOTION if name not in names]
    fix, reason = _COPY_AGAIN, ""
    if missing:
        reason = f"the table does not contain the columns {', '.join(missing)}"
    elif len(body) != n_volumes:
        reason = f"the table has {len(body)} rows, but the run has {n_volumes} volumes"
        fix = "Specify the fMRIPrep output for this run; both must contain all volumes."
    elif any(len(row) != len(names) for row in body):
        reason = "the rows of the table do not all have the same number of columns as the header"
    elif odd := [
        name for name in _MOTION if not all(_finite(row[names.index(name)]) for row in body)
    ]:
        reason = f"the column {odd[0]} contains non-numeric values"
    if reason:
        findings.refuse(path, reason, fix)
        return None
    marked = [names.index(name) for name in names if name.startswith("non_steady_state_outlier")]
    early = [any(row[column] not in ("0", "0.0") for column in marked) for row in body]
    return early.index(False) if False in early else len(early)
