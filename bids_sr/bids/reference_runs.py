"""The truth of a run: its measured high-resolution series, or known activation, found in a directory by its labels."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bids_sr.bids import headers as hd
from bids_sr.bids import query
from bids_sr.bids.inputs import BoldRun, Header, Notice, Problem, Triple, Truth, entities_of, stem_of

EDGE_TOLERANCE = 0.1  # of a high-resolution voxel: so far may the corners of the fields of view lie apart
TIME_TOLERANCE = 1e-3  # s
KEYS = ("subject", "session", "task", "run")
ACTIVATION = "*_res-hr_contrast-*_stat-effect_desc-truth_statmap.nii*"
FORMS = (
    "A truth is sub-…/func/sub-…_task-…_bold.nii.gz at the high resolution, or "
    "sub-…/func/sub-…_task-…_res-hr_contrast-…_stat-effect_desc-truth_statmap.nii.gz"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The truth of a run, or why there is none that can be used."""

    truth: Truth | None = None
    problems: tuple[Problem, ...] = ()
    notices: tuple[Notice, ...] = ()


def check_root(root: Path) -> list[Problem]:
    """A directory for the truth that is not there, or holds no participant."""
    if not root.is_dir():
        return [_problem(f"--truth {root}", "there is no such directory", "Check the path.")]
    if any(path.is_dir() for path in root.glob("sub-*")):
        return []
    inner = root / "derivatives" / "ground-truth"
    fix = f"Give {inner}." if inner.is_dir() else f"Give the directory that holds the sub-… directories. {FORMS}."
    return [_problem(f"--truth {root}", "it holds no sub-… directory", fix)]


def find_truth(root: Path, run: BoldRun, factor: Triple, *, with_timing: bool = True) -> Found:
    """Find the truth of one run and hold it against the run.

    Parameters
    ----------
    root : directory that `check_root` accepts
    run : the run under test
    factor : low-resolution over high-resolution voxel size
    with_timing : whether slice timing is corrected
    """
    label = run.entities["subject"]
    folder = root / f"sub-{label}"
    if not folder.is_dir():
        there = query.some(sorted(path.name for path in root.glob("sub-*") if path.is_dir()))
        fix = f"Give the truth of this participant, or choose those that have one with --participant-label ({there})."
        return Found(problems=(_problem(folder, f"there is no truth of sub-{label} in {root}", fix),))
    every = sorted(folder.rglob("func/*_bold.nii*")), sorted(folder.rglob(f"func/{ACTIVATION}"))
    bolds, maps = ([path for path in paths if _same_run(path, run)] for paths in every)
    bolds = [path for path in bolds if entities_of(path).get("part", "mag") == "mag"]
    if not bolds and not maps:
        others = query.some(sorted({path.name for paths in every for path in paths}))
        reason = f"there is no truth of {run.stem} in it, only of other runs ({others})"
        return Found(problems=(_problem(folder, reason, f"Give the truth of this run (--truth). {FORMS}."),))
    if len(bolds) > 1:
        names = ", ".join(path.name for path in bolds)
        reason = f"several series could be the truth of {run.stem}: {names}"
        return Found(problems=(_problem(folder, reason, "Keep one of them in that directory."),))
    problems: list[Problem] = []
    notices: list[Notice] = []
    for path in maps:
        problems += _check_map(path, run, factor)
    sidecar: dict[str, Any] = {}
    timing = None
    if bolds:
        sidecar = _sidecar(bolds[0], root)
        problems += _check_series(bolds[0], sidecar, run, factor)
        if with_timing and not problems:
            timing = _timing(bolds[0], sidecar, run, notices)
    if problems:
        return Found(problems=tuple(problems), notices=tuple(notices))
    activations = {entities_of(path)["contrast"]: path.absolute() for path in maps}
    bold = bolds[0].absolute() if bolds else None
    truth = Truth(bold=bold, sidecar=sidecar, slice_timing=timing, activations=activations)
    return Found(truth=truth, notices=tuple(notices))


def _problem(file: Path | str, reason: str, fix: str) -> Problem:
    return Problem(file=str(file), reason=reason, fix=fix)


def _same_run(path: Path, run: BoldRun) -> bool:
    found = entities_of(path)
    return all(_number(found.get(key)) == _number(run.entities.get(key)) for key in KEYS)


def _number(label: str | None) -> str | None:
    return str(int(label)) if label is not None and label.isdigit() else label


def _check_series(path: Path, sidecar: Mapping[str, Any], run: BoldRun, factor: Triple) -> list[Problem]:
    """What speaks against a series as the truth of a run; the first that makes the others pointless ends it."""
    if path.resolve() == run.bold.resolve() or path.samefile(run.bold):
        inner = path.parents[1] / ".." / "derivatives" / "ground-truth"
        hint = "the known activation lies in derivatives/ground-truth" if inner.is_dir() else FORMS
        return [
            _problem(path, "it is the run itself, which cannot be its own truth", f"Give another directory: {hint}.")
        ]
    header = hd.read_header(path)
    if isinstance(header, Problem):
        return [header]
    problems = hd.check_bold_header(header) or _check_grid(header, run, factor)
    if problems:
        return problems
    n_volumes = header.shape[3]
    if n_volumes != run.n_volumes:
        reason = f"it has {n_volumes} volumes and {run.bold.name} {run.n_volumes}: another run, or cut otherwise"
        problems.append(_problem(path, reason, "Give the measured volumes of this very run, no more and no fewer."))
    tr = sidecar.get("RepetitionTime", header.tr)
    if isinstance(tr, int | float) and abs(tr - run.tr) > TIME_TOLERANCE:
        reason = f"its repetition time is {tr:g} s and that of {run.bold.name} {run.tr:g} s"
        problems.append(_problem(path, reason, "Give the measured volumes of this very run, or mend the sidecar."))
    return problems + _check_events(path, run)


def _check_map(path: Path, run: BoldRun, factor: Triple) -> list[Problem]:
    header = hd.read_header(path)
    if isinstance(header, Problem):
        return [header]
    if len(hd.squeeze_3d(header)) != 3:
        return [_problem(path, "it is no 3D image", "Give one map for each condition.")]
    return _check_grid(header, run, factor)


def _check_grid(header: Header, run: BoldRun, factor: Triple) -> list[Problem]:
    """The high-resolution grid of the run: its outer edges, divided by the factor."""
    expected = tuple(math.floor(n * f + 0.5) for n, f in zip(run.shape, factor, strict=True))
    found = header.shape[:3]
    if found != expected:
        names = " and ".join("×".join(map(str, shape)) for shape in (found, expected))
        reason = f"its matrix is not that of {run.bold.name} raised by {'×'.join(f'{f:g}' for f in factor)}: {names}"
        fix = "Give the truth at the resolution that the run is raised to (--sr-factor where there is no pair)."
        return [_problem(header.path, reason, fix)]
    apart = _corners_apart(header, run)
    limit = EDGE_TOLERANCE * min(header.zooms)
    if apart <= limit:
        return []
    reason = (
        f"its field of view is not that of {run.bold.name}: the outer edges lie up to {apart:.3g} mm apart, "
        f"{limit:.2g} mm are allowed"
    )
    fix = "Give a truth with the same field of view, orientation and order of axes; the affines in the headers tell."
    return [_problem(header.path, reason, fix)]


def _corners_apart(header: Header, run: BoldRun) -> float:
    """Largest distance (mm) of corresponding corners of two fields of view, the outer edges of the voxels."""
    corners = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(-1, 3)
    places = [
        corners * shape @ affine[:3, :3].T + affine[:3, :3] @ [-0.5, -0.5, -0.5] + affine[:3, 3]
        for shape, affine in ((header.shape[:3], header.affine), (run.shape, run.affine))
    ]
    return float(np.linalg.norm(places[0] - places[1], axis=1).max())


def _check_events(path: Path, run: BoldRun) -> list[Problem]:
    """Events beside the truth that are not those of the run."""
    table = path.with_name(f"{stem_of(path)}_events.tsv")
    if not table.is_file():
        return []
    own, other = (_rows(file) for file in (run.events, table))
    if len(own) == len(other) and all(_alike(a, b) for a, b in zip(own, other, strict=True)):
        return []
    reason = f"its {len(other)} events are not the {len(own)} of {run.events.name} in onset, duration and trial type"
    fix = "Give the truth of this very run; if some volumes were left out, move the onsets of both tables alike."
    return [_problem(table, reason, fix)]


def _rows(table: Path) -> list[tuple[str, str, str]]:
    columns = [query.column(table, name) for name in ("onset", "duration", "trial_type")]
    return sorted(zip(*columns, strict=True)) if len({len(column) for column in columns}) == 1 else []


def _alike(first: tuple[str, str, str], second: tuple[str, str, str]) -> bool:
    return first[2] == second[2] and all(_close(a, b) for a, b in zip(first[:2], second[:2], strict=True))


def _close(first: str, second: str) -> bool:
    try:
        return abs(float(first) - float(second)) <= TIME_TOLERANCE
    except ValueError:
        return first == second


def _timing(path: Path, sidecar: Mapping[str, Any], run: BoldRun, notices: list[Notice]) -> tuple[float, ...] | None:
    """Slice times of the truth; those of the run where its own sidecar is silent."""
    header = hd.read_header(path)
    if isinstance(header, Problem) or sidecar.get("SliceTiming") is None:
        same = run.slice_timing if not isinstance(header, Problem) and header.shape[2] == run.shape[2] else None
        if same is not None:
            notices.append(Notice(file=str(path), text="it tells no SliceTiming; that of the run is taken."))
        return same
    times, told = hd.slice_times(header, sidecar, run.tr)
    notices += told
    return times


def _sidecar(image: Path, root: Path) -> dict[str, Any]:
    """Metadata of an image after inheritance, from the root of its data set down."""
    own, merged = entities_of(image), {}
    suffix = image.name.removesuffix(".gz").removesuffix(".nii").rpartition("_")[2]
    folders = [folder for folder in reversed(image.parents) if folder == root or root in folder.parents]
    for folder in folders:
        fitting = [
            path
            for path in folder.glob(f"*{suffix}.json")
            if path.stem.rpartition("_")[2] == suffix and all(own.get(k) == v for k, v in entities_of(path).items())
        ]
        for path in sorted(fitting, key=lambda path: len(entities_of(path))):
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise query.refuse(path, f"it cannot be read as JSON ({error})", "Mend the file.") from error
            merged.update(content if isinstance(content, dict) else {})
    return merged
