"""Series of other programs to compare with a run (``--compare``): names, files and grids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bids_sr.config import Settings
from bids_sr.config.values import split_named
from bids_sr.io.series import ACQUIRED_BAND, BASELINES, get_kind
from bids_sr.sr.method import method_names_without_controls
from bids_sr.survey.bids import BoldRun, Findings, Subject, parse_entities
from bids_sr.survey.bids.entities import ENTITIES, RUN_KEYS
from bids_sr.survey.bids.related_runs import (
    find_series_of_run,
    read_companion,
    select_in_run_space,
)

_LABEL_SEPARATOR = ":desc-"
_CORRECTED = ":corrected"
_MAX_LISTED = 4  # runs or files in a message


def add_compared_series(
    subjects: Sequence[Subject], settings: Settings, findings: Findings
) -> tuple[Subject, ...]:
    """Return participants whose runs have their compared series, and report problems."""
    sources = [_split_option(text) for text in settings.evaluation.compare]
    if not sources or not _check_names(sources, settings, findings):
        return tuple(subjects)
    runs = [run for subject in subjects for run in subject.runs]
    files = [source.path for source in sources if source.path.is_file()]
    if files and len(runs) > 1:
        ellipsis = " …" if len(runs) > _MAX_LISTED else ""
        run_names = ", ".join(run.stem for run in runs[:_MAX_LISTED]) + ellipsis
        findings.refuse_option(
            "--compare",
            f"{files[0].name} is a single series, but {len(runs)} runs are selected ({run_names})",
            "Select the corresponding run (--participant-label, --task-id, --run-id), or specify"
            " a BIDS derivatives directory.",
        )
        return tuple(subjects)
    for source in sources:
        if source.path.is_dir() and not any(_find_candidates(source.path, run) for run in runs):
            _refuse_directory(source, findings)
    subjects_with_series = []
    for subject in subjects:
        compared_runs = []
        for run in subject.runs:
            with findings.about(subject.label, run.stem):
                compared = _find_compared_series(run, sources, findings)
                other_run = _find_another_run(run, settings, findings) if compared else None
            compared_runs.append(replace(run, compared=compared, same_task_run=other_run))
        subjects_with_series.append(replace(subject, runs=tuple(compared_runs)))
    return tuple(subjects_with_series)


class _Source(NamedTuple):
    """Value of ``--compare``: name of the series, its file or directory, label and mark.

    `label` is the label of ``desc`` in the directory; "" if it is not specified. `is_corrected`:
    whether the series is marked as corrected for head motion.
    """

    name: str
    path: Path
    label: str
    is_corrected: bool


def _split_option(text: str) -> _Source:
    """Split ``NAME=PATH[:desc-LABEL][:corrected]``; the path becomes absolute.

    >>> source = _split_option("tedana=out:desc-optcomDenoised:corrected")
    >>> source.name, source.path.name, source.label, source.is_corrected
    ('tedana', 'out', 'optcomDenoised', True)
    """
    name, location = split_named(text)
    is_corrected = not Path(location).exists() and location.endswith(_CORRECTED)
    if is_corrected:
        location = location.removesuffix(_CORRECTED)
    path = Path(location)
    label = ""
    if not path.exists() and _LABEL_SEPARATOR in location:
        folder, _, label = location.rpartition(_LABEL_SEPARATOR)
        path = Path(folder)
    return _Source(name=name, path=path.absolute(), label=label, is_corrected=is_corrected)


def _check_names(sources: Sequence[_Source], settings: Settings, findings: Findings) -> bool:
    """Return whether the names and paths of ``--compare`` can be used, and report problems."""
    n_problems = len(findings.problems)
    names = [source.name for source in sources]
    for source in sources:
        _check_name(source, names, findings)
        _check_path(source, findings)
    if ACQUIRED_BAND not in settings.superres.series:
        findings.refuse_option(
            "--compare",
            f"--compare requires {ACQUIRED_BAND}, which represents the acquired series in the"
            " comparison",
            f"Add {ACQUIRED_BAND} to --sr-method.",
        )
    return len(findings.problems) == n_problems


def _check_name(source: _Source, names: Sequence[str], findings: Findings) -> None:
    """Reject a name that is invalid, reserved, or used several times among all `names`."""
    option = f"--compare {source.name}={source.path}"
    if reason := _find_name_problem(source.name):
        reserved = ", ".join(
            [*BASELINES, *method_names_without_controls(), "acquired", "measured"]
        )
        findings.refuse_option(
            option,
            reason,
            "Choose another name that consists of letters and digits. These names are reserved:"
            f" {reserved}.",
        )
    elif [name.lower() for name in names].count(source.name.lower()) > 1:
        findings.refuse_option(
            option,
            f"the name {source.name} is used for several series (case is ignored)",
            "Use a different name for each series.",
        )


def _find_name_problem(name: str) -> str:
    """Return why a name cannot be used for a compared series, or "" if it can.

    >>> _find_name_problem("NORDIC")
    ''
    """
    if not (name.isascii() and name.isalnum()):
        return f"the name {name!r} contains characters other than letters and digits"
    reserved = {method.replace("-", "").lower() for method in method_names_without_controls()}
    if (
        get_kind(name) != "method"
        or get_kind(name.lower()) != "method"
        or name.lower() in reserved
    ):
        return f"the name {name!r} is reserved for a series computed by bids-sr"
    return ""


def _check_path(source: _Source, findings: Findings) -> None:
    """Reject a path that does not exist, and a label for a file."""
    option = f"--compare {source.name}={source.path}"
    if not source.path.exists():
        findings.refuse_option(option, "the file or directory was not found", "Check the path.")
    elif source.label and source.path.is_file():
        findings.refuse_option(
            option,
            f"desc-{source.label} selects one series in a directory, but the path is a file",
            f"Remove :desc-{source.label} from the option.",
        )


def _refuse_directory(source: _Source, findings: Findings) -> None:
    """Reject a directory without a series for any run."""
    paths = sorted(source.path.rglob("func/*_bold.nii*"))[:_MAX_LISTED]
    series_found = ", ".join(path.name for path in paths) or "none"
    findings.refuse_option(
        f"--compare {source.name}={source.path}",
        "the directory does not contain a series for any of the selected runs (series"
        f" found: {series_found})",
        f"Specify the file with --compare {source.name}=FILE, or the directory that contains the"
        " sub-… directories.",
    )


def _find_compared_series(
    run: BoldRun, sources: Sequence[_Source], findings: Findings
) -> dict[str, BoldRun]:
    """Return the usable compared series of a run by name."""
    series_by_name = {}
    for source in sources:
        path = source.path
        series_findings = Findings()
        file = path if path.is_file() else _find_series(source, run, series_findings)
        root = path if path.is_dir() else path.parent
        series = None
        if file is not None:
            series = read_companion("compared", file, root, run, series_findings)
        findings.add_all(series_findings)
        if series is not None:
            series_by_name[source.name] = replace(series, motion_corrected=source.is_corrected)
    return series_by_name


def _find_series(source: _Source, run: BoldRun, findings: Findings) -> Path | None:
    """Return a run's series in a derivatives directory; report and skip runs without a series."""
    folder, label, name = source.path, source.label, source.name
    candidates = _find_candidates(folder, run)
    if not candidates:
        findings.note(
            folder,
            f"the directory does not contain a series for {run.stem}, so this run is not compared"
            f" with {name}.",
        )
        return None
    labeled = [path for path in candidates if not label or _parse_desc(path) == label]
    if not labeled:
        available_labels = sorted({_parse_desc(path) for path in candidates})
        findings.add_problem(
            folder,
            f"the directory does not contain a desc-{label} series for {run.stem}",
            f"Available: {', '.join(f'desc-{available}' for available in available_labels)}.",
        )
        return None
    matches = select_in_run_space(labeled)
    if len(matches) > 1:
        problem = f"several series in this directory match {run.stem}"
        findings.add_problem(
            folder,
            f"{problem}: {', '.join(path.name for path in matches)}",
            f"Select one of these series with {_suggest_option(source, matches)}.",
        )
        return None
    return matches[0]


def _find_candidates(folder: Path, run: BoldRun) -> list[Path]:
    """Return all series of a run in a derivatives directory, whatever their processing."""
    keys = [
        key
        for key in RUN_KEYS
        if key in ("subject", "session", "task", "run") or key in run.entities
    ]
    return find_series_of_run(folder / f"sub-{run.entities['subject']}", run.entities, keys)


def _suggest_option(source: _Source, matches: Sequence[Path]) -> str:
    """Return an option that selects one of several series in a directory."""
    mark = _CORRECTED if source.is_corrected else ""
    labels = sorted({_parse_desc(path) for path in matches} - {""})
    if len(labels) > 1:
        return f"--compare {source.name}={source.path}{_LABEL_SEPARATOR}{labels[0]}{mark}"
    return f"--compare {source.name}=FILE{mark}"


def _parse_desc(path: Path) -> str:
    """Return the label of ``desc`` in a file name; "" if there is none."""
    return parse_entities(path).get("desc", "")


def _find_another_run(run: BoldRun, settings: Settings, findings: Findings) -> BoldRun | None:
    """Return the acquired run with the nearest number and the same task, grid and trial types.

    The result is None if there is no such run, or if the run has no events or several echoes.
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

    nearest = min(
        candidates,
        key=lambda candidate: (
            abs(_parse_run_number(candidate) - _parse_run_number(run)),
            candidate.bold.name,
        ),
        default=None,
    )
    if nearest is not None:
        findings.note(
            nearest.bold,
            f"series that other programs computed from {run.bold.name} are compared with this"
            " run, without their detail.",
        )
    return nearest


def _parse_run_number(run: BoldRun) -> int:
    """Return the number of a run, 0 if its name has no number."""
    label = run.entities.get("run", "0")
    return int(label) if label.isdigit() else 0
