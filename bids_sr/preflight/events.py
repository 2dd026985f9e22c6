"""Events tables and the contrasts asked of them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from bids_sr.bids import BoldRun, Notice, Problem, RunFiles
from bids_sr.config import Settings
from bids_sr.config.reading import read_text
from bids_sr.stats.glm.contrasts import Contrast, ContrastError, modelled_types, resolve_contrasts

MIN_ONSET = -24.0  # s; the hemodynamic response of anything that ended before has faded
ASTRAY_S = 3600.0  # so far from the run no event can lie that was meant for it
MOST_EVENTS = 50_000
LONGEST_NAME = 80  # letters of a trial type: it becomes part of file names
MOTION_REGRESSORS = 12  # six parameters and their derivatives
_WHERE = "Add a table with the columns onset, duration and trial_type"


@dataclass(frozen=True, kw_only=True, slots=True)
class Events:
    """Modelled trial types of a run, in order of appearance, and what was found wrong or odd."""

    types: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    line: int
    onset: float
    duration: float
    trial_type: str


@dataclass(slots=True)
class _Table:
    path: Path
    rows: list[_Row] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def refuse(self, reason: str, fix: str) -> None:
        self.problems.append(Problem(file=str(self.path), reason=reason, fix=fix))


def check_events(run: RunFiles) -> Events:
    """Read the events of a run and hold them against its length (where that is known)."""
    if run.events is None:
        name = run.bold.name.removesuffix(".gz").removesuffix(".nii").removesuffix("_bold") + "_events.tsv"
        problem = Problem(
            file=str(run.bold), reason="no events table applies to it", fix=f"{_WHERE} as {run.bold.parent / name}."
        )
        return Events(problems=(problem,))
    table = _read(run.events)
    types = modelled_types(row.trial_type for row in table.rows)
    if not table.problems and not types:
        table.refuse("it names no trial type that is modelled (all rows are rest)", f"{_WHERE} to model.")
    duration = run.header.shape[3] * run.tr if run.header is not None and run.tr is not None else None
    notices: list[Notice] = []
    if duration is not None:
        types = _against_length(table, run, types, duration, notices)
    return Events(types=types, problems=tuple(table.problems), notices=tuple(notices))


def _against_length(
    table: _Table, run: RunFiles, types: tuple[str, ...], duration: float, notices: list[Notice]
) -> tuple[str, ...]:
    modelled = [row for row in table.rows if row.trial_type in types]
    astray = [row for row in modelled if row.onset < -ASTRAY_S or row.onset + row.duration > duration + ASTRAY_S]
    if astray:
        table.refuse(
            f"{len(astray)} events lie more than an hour from {run.bold.name} (the first: onset {astray[0].onset:g} s, "
            f"duration {astray[0].duration:g} s, line {astray[0].line})",
            "Check that onsets and durations are in seconds from the first volume.",
        )
    late = [row for row in modelled if row.onset >= duration]
    if late:
        table.refuse(
            f"{len(late)} of {len(modelled)} events begin after the end of {run.bold.name} at {duration:g} s "
            f"(the first: {late[0].trial_type!r} at {late[0].onset:g} s, line {late[0].line})",
            "Check that onsets are in seconds from the first volume, that the table belongs to this run and that the "
            "series is complete.",
        )
    over = [row for row in modelled if row.onset < duration < row.onset + row.duration - 1e-3]
    if over:
        text = f"{len(over)} events go on after the end of the run at {duration:g} s; what lies beyond does not count."
        notices.append(Notice(file=str(table.path), text=text))
    counting = {row.trial_type for row in modelled if row.onset + row.duration > MIN_ONSET}
    for name in types:
        if name not in counting and not late:
            text = f"every event of {name!r} lies more than 24 s before the first volume; it is not modelled."
            notices.append(Notice(file=str(table.path), text=text))
    kept = tuple(name for name in types if name in counting)
    if types and not kept and not late:
        table.refuse("all of its events lie more than 24 s before the first volume", "Check the onsets.")
    return kept


def _read(path: Path) -> _Table:
    table = _Table(path=path)
    try:
        stream = io.StringIO(read_text(path, encoding="utf-8-sig"), newline="")
        reader = csv.DictReader(stream, delimiter="\t")
        columns = list(reader.fieldnames or [])
        records = [(reader.line_num, record) for record in islice(reader, MOST_EVENTS + 1)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        table.refuse(f"it cannot be read as a table ({error})", "Store it as tab-separated text in UTF-8.")
        return table
    missing = [name for name in ("onset", "duration", "trial_type") if name not in columns]
    if missing:
        have = ", ".join(str(name) for name in columns) or "none"
        table.refuse(f"columns are missing: {', '.join(missing)} (there are: {have})", f"{_WHERE}, separated by tabs.")
        return table
    if len(records) > MOST_EVENTS:
        fix = "Check that it lists events, and is no recording."
        table.refuse(f"it has more than {MOST_EVENTS} rows, too many for the events of a run", fix)
        return table
    if not records:
        table.refuse("it has no rows", f"{_WHERE} that says what the participant did.")
    for line, record in records:
        _add(table, line, record)
    if "\0" in stream.getvalue():
        table.refuse("it holds NUL bytes, which end a name for some programs", "Store it as plain text in UTF-8.")
    wide = next((line for line, record in records if None in record), None)
    if wide is not None:
        table.refuse(f"line {wide} has more cells than there are columns", "Give each line as many cells as columns.")
    return table


def _add(table: _Table, line: int, record: Mapping[str, str | None]) -> None:
    onset, duration = _number(record["onset"]), _number(record["duration"])
    name = (record["trial_type"] or "").strip()
    if modelled_types([name]) and (onset is None or duration is None or duration < 0):
        if len(table.problems) < 3:  # the first lines tell enough
            table.refuse(
                f"line {line}: onset {record['onset']!r}, duration {record['duration']!r} are no times in seconds",
                "Give both in seconds; a duration of 0 stands for a brief event.",
            )
        return
    if len(name) > LONGEST_NAME and len(table.problems) < 3:
        reason = f"line {line}: the name of the trial type has {len(name)} letters ({name[:20]}…)"
        table.refuse(reason, f"Give it a name of {LONGEST_NAME} letters at most; it becomes part of file names.")
    table.rows.append(_Row(line=line, onset=onset or 0.0, duration=duration or 0.0, trial_type=name))


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def check_length(run: BoldRun, n_types: int, settings: Settings) -> list[Problem]:
    """A run too short for its own model: trial types, motion, drift and the mean."""
    dummies = settings.preprocessing.dummy_scans or 0
    rows = run.n_volumes - dummies
    drift = math.floor(2 * rows * run.tr * settings.activation.high_pass)
    columns = n_types + MOTION_REGRESSORS + drift + 1
    needed = columns + 1 if "glm" in settings.activation.kinds else 3
    if rows >= needed:
        return []
    what = f"{run.n_volumes} volumes" + (f" less {dummies} dummy volumes" if dummies else "")
    return [
        Problem(
            file=str(run.bold),
            reason=f"{what} are too few: the linear model has {columns} regressors and {needed} volumes are needed",
            fix="Leave the run out (--task-id, --run-id), or give fewer --dummy-scans.",
        )
    ]


def ordered(types: Sequence[str], order: Sequence[str]) -> tuple[str, ...]:
    """Types in the order that the data set shares; those it does not know come last, by name."""
    known = [name for name in order if name in types]
    return tuple(known + sorted(name for name in types if name not in known))


def contrasts_of_runs(
    types: Mapping[Path, Sequence[str]], requested: Sequence[str]
) -> tuple[dict[Path, dict[str, Contrast]], list[Problem], list[Notice]]:
    """Contrasts of each run.

    A contrast asked for must fit one run at least; in runs that lack one of its trial types it is left out, which is
    said.

    Parameters
    ----------
    types : BOLD file → modelled trial types, in order
    requested : contrasts as the user wrote them; empty: the default ones
    """
    found: dict[Path, dict[str, Contrast]] = {path: {} for path in types}
    if not requested:
        return {path: resolve_contrasts(names) for path, names in types.items()}, [], []
    problems, notices = [], []
    everything = tuple(dict.fromkeys(name for names in types.values() for name in names))
    for text in requested:
        fits = 0
        for path, names in types.items():
            try:
                resolved = resolve_contrasts(names, [text])
            except ContrastError:
                continue
            found[path].update(resolved)
            fits += 1
        if not fits:
            problems.append(_no_contrast(text, everything))
        elif fits < len(types):
            notices.append(Notice(file=f"--contrasts {text}", text=f"it fits {fits} of {len(types)} runs."))
    for path, contrasts in found.items():
        if not contrasts and not problems:
            text = "none of the contrasts asked for fits it, so it yields no map of activity"
            problems.append(
                Problem(file=str(path), reason=text, fix="Leave the run out (--task-id, --run-id) or add a contrast.")
            )
    return found, problems, notices


def _no_contrast(text: str, types: Sequence[str]) -> Problem:
    try:
        resolved = resolve_contrasts(types, [text])
    except ContrastError as error:
        return Problem(file=f"--contrasts {text}", reason=error.reason, fix=error.fix)
    names = ", ".join(name for weights in resolved.values() for name in weights)
    return Problem(
        file=f"--contrasts {text}",
        reason=f"no run holds all of its trial types ({names}) together",
        fix="A contrast compares trial types within a run.",
    )
