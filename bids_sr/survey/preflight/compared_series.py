"""Series of other programs to compare with a run (``--compare``): names, files and grids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bids_sr.config import Settings
from bids_sr.config.values import split_named
from bids_sr.io.series import ACQUIRED_BAND, BASELINES, get_kind, series_names
from bids_sr.sr.method import method_names_without_controls
from bids_sr.survey.bids.entities import ENTITIES, RUN_KEYS, parse_entities, run_number_order
from bids_sr.survey.bids.findings import Findings, about, add_problem, note, refuse_option
from bids_sr.survey.bids.inputs import BoldRun, Subject
from bids_sr.survey.bids.related_runs import (
    find_series_of_run,
    read_companion,
    select_in_run_space,
)

_LABEL_SEPARATOR = ":desc-"
_CORRECTED = ":corrected"
_MAX_LISTED = 4  # runs or files in a message


def add_compared_series(subjects: Sequence[Subject], settings: Settings) -> tuple[Subject, ...]:
    """Return participants whose runs have their compared series, and report problems."""
    sources = [split_option(text) for text in settings.evaluation.compare]
    runs = [run for subject in subjects for run in subject.runs]
    problems = list(_find_option_problems(sources, settings)) or list(
        _find_path_problems(sources, runs)
    )
    for problem in problems:
        refuse_option(*problem)
    if not sources or problems:
        return tuple(subjects)
    subjects_with_series = []
    for subject in subjects:
        compared_runs = []
        for run in subject.runs:
            with about(*run.owner):
                compared = _find_compared_series(run, sources)
                other_run = _find_another_run(run, settings) if compared else None
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

    @property
    def option(self) -> str:
        """Option without label and mark, for messages."""
        return f"--compare {self.name}={self.path}"


def split_option(text: str) -> _Source:
    """Split ``NAME=PATH[:desc-LABEL][:corrected]``; the path becomes absolute.

    >>> source = split_option("tedana=out:desc-optcomDenoised:corrected")
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


def _find_option_problems(
    sources: Sequence[_Source], settings: Settings
) -> Iterator[tuple[str, str, str]]:
    """Yield option, reason and remedy of each problem with names and paths of ``--compare``."""
    names = [source.name.lower() for source in sources]
    methods = method_names_without_controls()
    reserved = [name.lower() for name in series_names(methods)]
    for source in sources:
        reason = ""
        name = source.name.lower()
        if not (source.name.isascii() and source.name.isalnum()):
            reason = f"the name {source.name!r} contains characters other than letters and digits"
        elif name in reserved or {get_kind(source.name), get_kind(name)} != {"method"}:
            reason = f"the name {source.name!r} is reserved for a series computed by bids-sr"
        if reason:
            yield (
                source.option,
                reason,
                "Choose another name that consists of letters and digits. These names are"
                f" reserved: {', '.join([*BASELINES, *methods, 'acquired', 'measured'])}.",
            )
        elif names.count(name) > 1:
            yield (
                source.option,
                f"the name {source.name} is used for several series (case is ignored)",
                "Use a different name for each series.",
            )
        if not source.path.exists():
            yield source.option, "the file or directory was not found", "Check the path."
        elif source.label and source.path.is_file():
            yield (
                source.option,
                f"desc-{source.label} selects one series in a directory, but the path is a file",
                f"Remove :desc-{source.label} from the option.",
            )
    if sources and ACQUIRED_BAND not in settings.superres.series:
        yield (
            "--compare",
            f"--compare requires {ACQUIRED_BAND}, which represents the acquired series in the"
            " comparison",
            f"Add {ACQUIRED_BAND} to --sr-method.",
        )


def _find_path_problems(
    sources: Sequence[_Source], runs: Sequence[BoldRun]
) -> Iterator[tuple[str, str, str]]:
    """Yield option, reason and remedy of each path without a series for exactly these runs."""
    for source in sources:
        if source.path.is_file() and len(runs) > 1:
            ellipsis = " …" if len(runs) > _MAX_LISTED else ""
            run_names = ", ".join(run.stem for run in runs[:_MAX_LISTED]) + ellipsis
            yield (
                "--compare",
                f"{source.path.name} is a single series, but {len(runs)} runs are selected"
                f" ({run_names})",
                "Select the corresponding run (--participant-label, --task-id, --run-id), or"
                " specify a BIDS derivatives directory.",
            )
        elif source.path.is_dir() and not any(_find_candidates(source.path, run) for run in runs):
            paths = sorted(source.path.rglob("func/*_bold.nii*"))[:_MAX_LISTED]
            yield (
                source.option,
                "the directory does not contain a series for any of the selected runs (series"
                f" found: {', '.join(path.name for path in paths) or 'none'})",
                f"Specify the file with --compare {source.name}=FILE, or the directory that"
                " contains the sub-… directories.",
            )


def _find_compared_series(run: BoldRun, sources: Sequence[_Source]) -> dict[str, BoldRun]:
    """Return the usable compared series of a run by name."""
    series_by_name = {}
    for source in sources:
        path: Path | None = source.path
        root = source.path.parent
        if source.path.is_dir():
            path, root = _find_series(source, run), source.path
        if path and (series := read_companion("compared", path, root, run)):
            series_by_name[source.name] = replace(series, motion_corrected=source.is_corrected)
    return series_by_name


def _find_series(source: _Source, run: BoldRun) -> Path | None:
    """Return a run's series in a derivatives directory; report and skip runs without a series."""
    folder, label, name = source.path, source.label, source.name
    candidates = _find_candidates(folder, run)
    if not candidates:
        note(
            folder,
            f"the directory does not contain a series for {run.stem}, so this run is not compared"
            f" with {name}.",
        )
        return None
    labeled = [path for path in candidates if not label or _parse_desc(path) == label]
    if not labeled:
        available_labels = sorted({_parse_desc(path) for path in candidates})
        add_problem(
            folder,
            f"the directory does not contain a desc-{label} series for {run.stem}",
            f"Available: {', '.join(f'desc-{available}' for available in available_labels)}.",
        )
        return None
    matches = select_in_run_space(labeled)
    if len(matches) > 1:
        labels = sorted({_parse_desc(path) for path in matches} - {""})
        selection = f"{folder}{_LABEL_SEPARATOR}{labels[0]}" if len(labels) > 1 else "FILE"
        mark = _CORRECTED if source.is_corrected else ""
        add_problem(
            folder,
            f"several series in this directory match {run.stem}:"
            f" {', '.join(path.name for path in matches)}",
            f"Select one of these series with --compare {name}={selection}{mark}.",
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


def _parse_desc(path: Path) -> str:
    """Return the label of ``desc`` in a file name; "" if there is none."""
    return parse_entities(path).get("desc", "")


def _find_another_run(run: BoldRun, settings: Settings) -> BoldRun | None:
    """Return the acquired run with the nearest number and the same task, grid and trial types.

    The result is None if there is no such run, or if the run has no events or several echoes.
    """
    if run.events is None or run.echoes:
        return None
    keys = set(ENTITIES.values()) - {"run"}
    paths = find_series_of_run(run.bold.parent, run.entities, keys, "*_bold.nii*")
    number, _ = run_number_order(run.entities)

    def order(path: Path) -> tuple[int, str]:
        other_number, _ = run_number_order(parse_entities(path))
        return abs(other_number - number), path.name

    for path in sorted(paths, key=order):
        if path == run.bold:
            continue
        with Findings():  # problems of unsuitable runs are not reported
            other_run = read_companion("another", path, settings.paths.bids_dir.absolute(), run)
        if other_run is not None:
            note(
                path,
                f"series that other programs computed from {run.bold.name} are compared with this"
                " run, without their detail.",
            )
            return other_run
    return None
