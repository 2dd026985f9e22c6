"""High-resolution reference of a run (``--truth``), found by its labels.

It is the measured series of the run, or its known activation.
"""

from collections.abc import Collection
from pathlib import Path

from bids_sr.bids import headers as hd
from bids_sr.bids import query
from bids_sr.bids.companions import SERIES, companion, series_named
from bids_sr.bids.findings import Findings, refusal
from bids_sr.bids.inputs import BoldRun, Truth, entities_of
from bids_sr.io.grids import misfits

_KEYS = ("subject", "session", "task", "run")
_PLACES = ("derivatives/highres-reference", "derivatives/ground-truth")
"""Where a data set keeps a reference of its own: as measured, and as known of simulated data."""
_USED = (
    "this high-resolution reference was found in the data set and is used (--truth none ignores"
    " it)."
)
_MAPS = "func/*_res-hr_contrast-*_stat-effect_desc-truth_statmap.nii*"
"""Known activation."""
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


def find_truth(root: Path, run: BoldRun, found: Findings, *, timed: bool = True) -> Truth | None:
    """Find the truth of one run and hold it against the run.

    Reference of the run; None where something speaks against it.
    """
    own = Findings()
    truth = _checked(root, run, own, timed=timed)
    with found.about(run.entities["subject"], run.stem):
        found.add_all(own)
    return None if own.problems else truth


def _checked(root: Path, run: BoldRun, found: Findings, *, timed: bool) -> Truth | None:
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
            sorted({path.name for pattern in (SERIES, _MAPS) for path in folder.rglob(pattern)})
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
    for path in maps:
        header = hd.read_header(path, found)
        if header is not None and len(hd.squeeze_3d(header)) != 3:
            found.refuse(path, "it is not a 3D image", "Give one map for each condition.")
        elif header is not None:
            header, own = hd.like(header, run.affine), (*run.shape, run.n_volumes)
            for reason, fix in misfits(
                header.shape[:3],
                header.affine,
                run.tr,
                own,
                run.affine,
                run.tr,
                run.factor,
                finest=True,
                name=run.bold.name,
            ):
                found.refuse(path, reason, fix)
    series = companion("reference", bolds[0], root, run, found, timed=timed) if bolds else None
    activations = {entities_of(path)["contrast"]: path.absolute() for path in maps}
    return Truth(root=root, series=series, activations=activations)


def truth_in_dataset(
    root: Path,
    run: BoldRun,
    found: Findings,
    *,
    timed: bool = True,
    seeds: Collection[str] = (),
) -> Truth | None:
    """Find the reference of a run in the data set itself (`_PLACES`), or report a misfit.

    `found`: takes what is told; nothing in those places refuses a run. `seeds`: names of what is
    mapped in a run without events; known activation of anything else says nothing of it. Reference
    from the first place that has a sound one, or None.
    """
    for place in (root / name for name in _PLACES):
        series, maps = _files(place, run)
        if run.events is None:
            maps = [path for path in maps if entities_of(path)["contrast"] in seeds]
        if not series and not maps:
            continue
        own = Findings()
        truth = find_truth(place, run, own, timed=timed)
        found.add(own.notices)
        if truth is not None:
            found.tell(place, _USED, code="reference")
            return truth
        for problem in own.problems:
            found.tell(
                problem.what,
                f"no high-resolution reference of {run.stem}: {problem.why}. {problem.remedy}",
            )
    return None


def _files(root: Path, run: BoldRun) -> tuple[list[Path], list[Path]]:
    """Series and maps of activation of a run in a folder of references."""
    folder, named = root / f"sub-{run.entities['subject']}", run.entities
    return series_named(folder, named, _KEYS), series_named(folder, named, _KEYS, _MAPS)
