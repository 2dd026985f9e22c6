"""Series of other programs to compare with a run (``--compare``): names, files and grids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.bids import BoldRun, Findings, Subject, parse_entities
from bids_sr.bids.entities import ENTITIES, RUN_KEYS
from bids_sr.bids.related_runs import find_series_of_run, read_companion
from bids_sr.config import Settings
from bids_sr.config.values import split_named
from bids_sr.series import ACQUIRED_BAND, BASELINES, get_kind
from bids_sr.sr.method import method_names_without_controls

_LABEL = ":desc-"


def _why_no_name(name: str) -> str:
    """Return why a name cannot be used for a compared series, or "" if it can.

    >>> _why_no_name("NORDIC")
    ''
    """
    if not (name.isascii() and name.isalnum()):
        return f"the name {name!r} contains characters other than letters and digits"
    if get_kind(name) != "method" or name in {
        method.replace("-", "") for method in method_names_without_controls()
    }:
        return f"the name {name!r} is reserved for a series computed by bids-sr"
    return ""


def _split(text: str) -> tuple[str, Path, str]:
    """Split ``NAME=PATH`` or ``NAME=PATH:desc-LABEL`` into name, absolute path and label.

    >>> name, path, label = _split("tedana=out:desc-optcomDenoised")
    >>> name, path.name, label
    ('tedana', 'out', 'optcomDenoised')
    """
    name, location = split_named(text)
    path = Path(location)
    label = ""
    if not path.exists() and _LABEL in location:
        folder, _, label = location.rpartition(_LABEL)
        path = Path(folder)
    return name, path.absolute(), label


def with_compared(
    subjects: Sequence[Subject], settings: Settings, findings: Findings
) -> tuple[Subject, ...]:
    """Return participants whose runs have their compared series, and report problems."""
    named_files = [_split(text) for text in settings.evaluation.compare]
    if not named_files or not _check_names(named_files, settings, findings):
        return tuple(subjects)
    runs = [run for subject in subjects for run in subject.runs]
    if len(runs) > 1 and (files := [path for _, path, _ in named_files if path.is_file()]):
        fix = (
            "Select the corresponding run (--participant-label, --task-id, --run-id), or specify"
            " a BIDS derivatives directory."
        )
        names = ", ".join(run.stem for run in runs[:4]) + (" …" if len(runs) > 4 else "")
        reason = f"{files[0].name} is a single series, but {len(runs)} runs are selected ({names})"
        findings.refuse_option("--compare", reason, fix)
        return tuple(subjects)
    result = []
    for name, path, _ in named_files:
        if path.is_dir() and not any(_candidates(path, run) for run in runs):
            series_found = (
                ", ".join(
                    series_path.name for series_path in sorted(path.rglob("func/*_bold.nii*"))[:4]
                )
                or "none"
            )
            fix = (
                f"Specify the file with --compare {name}=FILE, or the directory that contains the"
                " sub-… directories."
            )
            findings.refuse_option(
                f"--compare {name}={path}",
                (
                    "the directory does not contain a series for any of the selected runs (series"
                    f" found: {series_found})"
                ),
                fix,
            )
    for subject in subjects:
        compared_runs = []
        for run in subject.runs:
            with findings.about(subject.label, run.stem):
                compared = _list_series(run, named_files, findings)
                other_run = _another_run(run, settings, findings) if compared else None
            compared_runs.append(replace(run, compared=compared, same_task_run=other_run))
        result.append(replace(subject, runs=tuple(compared_runs)))
    return tuple(result)


def _another_run(run: BoldRun, settings: Settings, findings: Findings) -> BoldRun | None:
    """Return another acquired run with the same task, grid and trial types, or None.

    The run with the nearest number is chosen.
    """
    if run.events is None or run.echoes:
        return None
    keys = set(ENTITIES.values()) - {"run"}
    root = settings.paths.bids_dir.absolute()
    candidates = [
        candidate
        for path in find_series_of_run(run.bold.parent, run.entities, keys, "*_bold.nii*")
        if path != run.bold
        # problems of unsuitable runs are not reported
        and (candidate := read_companion("another", path, root, run, Findings())) is not None
    ]

    def number(run: BoldRun) -> int:
        return int(label) if (label := run.entities.get("run", "0")).isdigit() else 0

    nearest = min(
        candidates,
        key=lambda candidate: (abs(number(candidate) - number(run)), candidate.bold.name),
        default=None,
    )
    if nearest is not None:
        text = (
            f"series that other programs computed from {run.bold.name} are compared with this run"
            " below the acquired Nyquist frequency."
        )
        findings.note(nearest.bold, text)
    return nearest


def _check_names(
    compared: Sequence[tuple[str, Path, str]], settings: Settings, findings: Findings
) -> bool:
    """Return whether the names and paths of ``--compare`` can be used, and report problems."""
    n_problems = len(findings.problems)
    names = [name for name, _, _ in compared]
    for name, path, label in compared:
        option = f"--compare {name}={path}"
        if reason := _why_no_name(name):
            reserved = ", ".join([*BASELINES, *method_names_without_controls(), "raw", "measured"])
            findings.refuse_option(
                option,
                reason,
                (
                    "Choose another name that consists of letters and digits. These names are"
                    f" reserved: {reserved}."
                ),
            )
        elif names.count(name) > 1:
            findings.refuse_option(
                option,
                f"the name {name} is used for several series",
                "Use a different name for each series.",
            )
        if not path.exists():
            findings.refuse_option(
                option, "the file or directory was not found", "Check the path."
            )
        elif label and path.is_file():
            findings.refuse_option(
                option,
                f"desc-{label} selects one series in a directory, but the path is a file",
                f"Remove :desc-{label} from the option.",
            )
    if ACQUIRED_BAND not in settings.superres.series:
        fix = f"Add {ACQUIRED_BAND} to --sr-method."
        findings.refuse_option(
            "--compare",
            (
                f"--compare requires {ACQUIRED_BAND}, which represents the acquired series in the"
                " comparison"
            ),
            fix,
        )
    return len(findings.problems) == n_problems


def _list_series(
    run: BoldRun, compared: Sequence[tuple[str, Path, str]], findings: Findings
) -> dict[str, BoldRun]:
    """Return the usable compared series of a run by name."""
    series_by_name = {}
    for name, path, label in compared:
        misfits = Findings()
        file = path if path.is_file() else _find_series(path, label, name, run, misfits)
        root = path if path.is_dir() else path.parent
        series = None if file is None else read_companion("compared", file, root, run, misfits)
        findings.add_all(misfits)
        if series is not None:
            series_by_name[name] = series
    return series_by_name


def _candidates(folder: Path, run: BoldRun) -> list[Path]:
    """Return all series of a run in a derivatives directory, whatever their processing."""
    keys = [
        key
        for key in RUN_KEYS
        if key in ("subject", "session", "task", "run") or key in run.entities
    ]
    return find_series_of_run(folder / f"sub-{run.entities['subject']}", run.entities, keys)


def _find_series(
    folder: Path, label: str, name: str, run: BoldRun, findings: Findings
) -> Path | None:
    """Return a run's series in a derivatives directory; report and skip runs without a series."""
    candidates = _candidates(folder, run)
    if not candidates:
        findings.note(
            folder,
            f"the directory does not contain a series for {run.stem}, so this run is not compared"
            f" with {name}.",
        )
        return None
    labeled = (
        [path for path in candidates if parse_entities(path).get("desc", "") == label]
        if label
        else candidates
    )
    if not labeled:
        available = ", ".join(
            sorted({f"desc-{parse_entities(path).get('desc', '')}" for path in candidates})
        )
        findings.add_problem(
            folder,
            f"the directory does not contain a desc-{label} series for {run.stem}",
            f"Available: {available}.",
        )
        return None
    # series in template space are not on the grid of the run
    native = [
        path
        for path in labeled
        if not parse_entities(path).get("space", "").startswith(("MNI", "fs", "T1w"))
    ]
    native = native or labeled
    if len(native) > 1:
        names = ", ".join(path.name for path in native)
        labels = sorted({parse_entities(path).get("desc", "") for path in native} - {""})
        fix = (
            f"--compare {name}={folder}{_LABEL}{labels[0]}"
            if len(labels) > 1
            else f"--compare {name}=FILE"
        )
        findings.add_problem(
            folder,
            f"several series in this directory match {run.stem}: {names}",
            f"Select one of these series with {fix}.",
        )
        return None
    return native[0]
