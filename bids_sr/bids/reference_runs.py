"""High-resolution reference of a run (``--truth``), found by its labels.

It is the measured series of the run, or its known activation.
"""

import math
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from bids_sr.bids import headers as hd
from bids_sr.bids import query
from bids_sr.bids.findings import Findings, InputError, refusal
from bids_sr.bids.image_header import Header, Triple
from bids_sr.bids.inputs import (
    BoldRun,
    Companion,
    Truth,
    entities_of,
    is_magnitude,
    same_run,
    stem_of,
)
from bids_sr.bids.layout import merged, sidecars_on_disk
from bids_sr.io.grids import EDGE_TOLERANCE, corners_apart
from bids_sr.io.tables import column

_TIME_TOLERANCE = 1e-3  # s
_KEYS = ("subject", "session", "task", "run")
PLACES = ("derivatives/highres-reference", "derivatives/ground-truth")
"""Where a data set keeps a reference of its own: as measured, and as known of simulated data."""
USED = (
    "this high-resolution reference was found in the data set and is used (--truth none ignores"
    " it)."
)
_PATTERNS = ("func/*_bold.nii*", "func/*_res-hr_contrast-*_stat-effect_desc-truth_statmap.nii*")
"""Series, maps of known activation."""
_FORMS = (
    "A reference is sub-…/func/sub-…_task-…_bold.nii.gz at the high resolution, or "
    "sub-…/func/sub-…_task-…_res-hr_contrast-…_stat-effect_desc-truth_statmap.nii.gz"
)


def check_root(root: Path) -> None:
    """Raise `InputError` if the directory of the truth is missing or holds no participant."""
    if not root.is_dir():
        raise refusal(f"--truth {root}", "there is no such directory", "Check the path.")
    if not any(path.is_dir() for path in root.glob("sub-*")):
        inner = root / "derivatives" / "ground-truth"
        fix = (
            f"Give {inner}."
            if inner.is_dir()
            else f"Give the directory that holds the sub-… directories. {_FORMS}."
        )
        raise refusal(f"--truth {root}", "it holds no sub-… directory", fix)


def find_truth(
    root: Path, run: BoldRun, factor: Triple, found: Findings, *, with_timing: bool = True
) -> Truth | None:
    """Find the truth of one run and hold it against the run.

    Parameters
    ----------
    root : directory that `check_root` accepts
    run : the run under test
    factor : low-resolution over high-resolution voxel size
    found : takes what speaks against it
    with_timing : whether slice timing is corrected
    """
    own, truth = Findings(), None
    try:
        truth = _checked(root, run, factor, own, with_timing=with_timing)
    except InputError as error:
        own.add(error.problems)
    with found.about(run.entities["subject"], run.stem):
        found.add_all(own)
    return None if own.problems else truth


def _checked(
    root: Path, run: BoldRun, factor: Triple, found: Findings, *, with_timing: bool
) -> Truth | None:
    label = run.entities["subject"]
    folder = root / f"sub-{label}"
    if not folder.is_dir():
        there = query.some(sorted(path.name for path in root.glob("sub-*") if path.is_dir()))
        fix = (
            "Give the reference of this participant, or choose those that have one with"
            f" --participant-label ({there})."
        )
        found.refuse(
            folder, f"there is no high-resolution reference of sub-{label} in {root}", fix
        )
        return None
    bolds, maps = _files(root, run)
    if not bolds and not maps:
        others = query.some(
            sorted({path.name for pattern in _PATTERNS for path in folder.rglob(pattern)})
        )
        reason = (
            f"there is no high-resolution reference of {run.stem} in it, only of other runs"
            f" ({others})"
        )
        found.refuse(folder, reason, f"Give the reference of this run (--truth). {_FORMS}.")
        return None
    if len(bolds) > 1:
        names = ", ".join(path.name for path in bolds)
        reason = f"more than one series could be the reference of {run.stem}: {names}"
        found.refuse(folder, reason, "Keep one of them in that directory.")
        return None
    activations = {entities_of(path)["contrast"]: path.absolute() for path in maps}
    for path in maps:
        header = hd.read_header(path, found)
        if header is not None and len(hd.squeeze_3d(header)) != 3:
            found.refuse(path, "it is not a 3D image", "Give one map for each condition.")
        elif header is not None:
            _is_on_grid(header, run, factor, found)
    series = (
        _series(bolds[0], run, factor, root, found, with_timing=with_timing) if bolds else None
    )
    return Truth(root=root, series=series, activations=activations)


def truth_in_dataset(
    root: Path,
    run: BoldRun,
    factor: Triple,
    found: Findings,
    *,
    with_timing: bool = True,
    seeds: Collection[str] = (),
) -> Truth | None:
    """Find the reference of a run in the data set itself (`PLACES`), or report a misfit.

    Parameters
    ----------
    root : the data set; run, factor, with_timing : as for `find_truth`
    seeds : names of what is mapped in a run without events; known activation of anything else says
        nothing of it
    found : takes what is told; nothing in those places refuses a run
    """
    for place in (root / name for name in PLACES):
        series, maps = _files(place, run)
        if run.events is None:
            maps = [path for path in maps if entities_of(path)["contrast"] in seeds]
        if not series and not maps:
            continue
        own = Findings()
        truth = find_truth(place, run, factor, own, with_timing=with_timing)
        found.add(own.notices)
        if truth is not None:
            found.tell(place, USED, code="reference")
            return truth
        for problem in own.problems:
            found.tell(
                problem.what,
                f"no high-resolution reference of {run.stem}: {problem.why}. {problem.remedy}",
            )
    return None


def _files(root: Path, run: BoldRun) -> tuple[list[Path], list[Path]]:
    """Series and maps of activation of a run in a folder of references."""
    folder = root / f"sub-{run.entities['subject']}"
    every = (sorted(folder.rglob(pattern)) for pattern in _PATTERNS)
    series, maps = (
        [p for p in paths if same_run(entities_of(p), run.entities, _KEYS)] for paths in every
    )
    return list(filter(is_magnitude, series)), maps


def _series(
    path: Path, run: BoldRun, factor: Triple, root: Path, found: Findings, *, with_timing: bool
) -> Companion | None:
    """Return the measured series of a run, or report why it cannot be used.

    The checks end at the first reason that makes the others pointless.
    """
    sidecar = merged(sidecars_on_disk(path, root))
    if not found.fetched(path):
        return None
    if path.resolve() == run.bold.resolve() or path.samefile(run.bold):
        inner = path.parents[1] / ".." / "derivatives" / "ground-truth"
        hint = (
            "the known activation lies in derivatives/ground-truth" if inner.is_dir() else _FORMS
        )
        fix = f"Give another directory: {hint}."
        found.refuse(path, "it is the run itself, which cannot be its own reference", fix)
        return None
    header = hd.read_header(path, found)
    if (
        header is None
        or not hd.is_bold(header, found)
        or not _is_on_grid(header, run, factor, found)
    ):
        return None
    n_volumes = header.shape[3]
    if n_volumes != run.n_volumes:
        reason = (
            f"it has {n_volumes} volumes and {run.bold.name} {run.n_volumes}: another run, or"
            " trimmed differently"
        )
        found.refuse(
            path, reason, "Give the high-resolution series of this run, with the same volumes."
        )
    tr = sidecar.get("RepetitionTime", header.tr)
    if isinstance(tr, int | float) and abs(tr - run.tr) > _TIME_TOLERANCE:
        reason = f"its repetition time is {tr:g} s and that of {run.bold.name} {run.tr:g} s"
        found.refuse(
            path, reason, "Give the high-resolution series of this run, or correct the sidecar."
        )
    _check_events(path, run, found)
    one = Companion(header=hd.like(header, run.affine), sidecar=sidecar)
    if not with_timing or found.problems:
        return one
    return replace(one, slice_timing=_timing(one, run, found))


def _is_on_grid(header: Header, run: BoldRun, factor: Triple, found: Findings) -> bool:
    """Return whether an image lies on the high-resolution grid of the run.

    That grid has the outer edges of the run, divided by the factor.
    """
    header = hd.like(header, run.affine)
    expected = tuple(math.floor(n * f + 0.5) for n, f in zip(run.shape, factor, strict=True))
    if header.shape[:3] != expected:
        names = " and ".join("×".join(map(str, shape)) for shape in (header.shape[:3], expected))
        by = "×".join(f"{f:g}" for f in factor)
        reason = f"its matrix is not that of {run.bold.name} super-resolved by {by}: {names}"
        fix = (
            "Give the reference at the high resolution of the run (--sr-factor where there is no"
            " pair)."
        )
        found.refuse(header.path, reason, fix)
        return False
    apart = corners_apart(header.shape[:3], header.affine, run.shape, run.affine)
    limit = EDGE_TOLERANCE * min(header.zooms)
    if apart > limit:
        reason = (
            f"its field of view is not that of {run.bold.name}: the outer edges lie up to"
            f" {apart:.3g} mm apart, {limit:.2g} mm are allowed"
        )
        fix = (
            "Give a reference with the same field of view and axis directions (see the affines in"
            " the headers)."
        )
        found.refuse(header.path, reason, fix)
    return apart <= limit


def _check_events(path: Path, run: BoldRun, found: Findings) -> None:
    """Events beside the truth that are not those of the run."""
    table = path.with_name(f"{stem_of(path)}_events.tsv")
    if run.events is None or not table.is_file():
        return
    own, other = (_rows(file) for file in (run.events, table))
    pairs = list(zip(own, other, strict=False))
    if len(own) != len(other) or not all(
        a[2] == b[2] and _close(a[0], b[0]) and _close(a[1], b[1]) for a, b in pairs
    ):
        these = f"its {len(other)} events are not the {len(own)} of {run.events.name}"
        fix = (
            "Give the reference of this run; if volumes were removed, shift the onsets in both"
            " tables."
        )
        found.refuse(table, f"{these} in onset, duration and trial type", fix)


def _rows(table: Path) -> list[tuple[str, str, str]]:
    columns = [column(table, name) for name in ("onset", "duration", "trial_type")]
    return (
        sorted(zip(*columns, strict=True)) if len({len(column) for column in columns}) == 1 else []
    )


def _close(first: str, second: str) -> bool:
    try:
        return abs(float(first) - float(second)) <= _TIME_TOLERANCE
    except ValueError:
        return first == second


def _timing(series: Companion, run: BoldRun, found: Findings) -> tuple[float, ...] | None:
    """Slice times of the truth; those of the run where its own sidecar is silent."""
    header = series.header
    sidecar = hd.sidecar_in_order(series.sidecar, header.order)
    if sidecar.get("SliceTiming") is not None:
        return hd.slice_times(header, sidecar, run.tr, found)
    same = run.slice_timing if header.shape[2] == run.shape[2] else None
    if same is not None:
        found.tell(series.bold, "it has no SliceTiming; that of the run is used.")
    return same
