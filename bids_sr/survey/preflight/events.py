"""Events tables of BOLD runs: records, and rules on the table and on the length of the run."""

import math
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.glm.contrasts import (
    MODULATION,
    UNNAMED,
    find_unmodulated_types,
    is_missing_type,
    list_modeled_types,
    parse_seconds,
    read_modulation,
)
from bids_sr.glm.summed_types import find_summed_types
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import Notice
from bids_sr.io.tables import MISSING_MARKS, TABLE_ERRORS, TableRow, is_missing, read_rows
from bids_sr.survey.bids.content import require_content
from bids_sr.survey.notices import input_error, note, problem, warning

if TYPE_CHECKING:
    from bids_sr.glm.regressors import Events

_MIN_END_S = -24.0  # the hemodynamic response to earlier events has faded at the first volume
_MAX_DISTANCE_S = 3600.0  # from the run; beyond, onsets or their units must be wrong
_TIME_TOLERANCE_S = 1e-3  # rounding of times in tables
# largest share of events after the end of the run; beyond, the table belongs to another run
_MAX_LATE_SHARE = 0.5
_MAX_EVENTS = 50_000
_MAX_CENTERED_MEAN = 0.01  # largest mean of centered amplitudes, relative to their range
_MAX_INVALID_ROWS = 3  # number of invalid rows that are reported
UNMODULATED = f"all its events have {MODULATION} 0"
"""Reason why a trial type is not modeled."""
MISSING_TYPE = "this is a missing value unless Levels of trial_type list it"
"""Reason why a trial type in `MISSING_MARKS` is not modeled."""
_FORM_FIX = (
    "Specify an events table with the columns onset and duration, and with the column trial_type"
    " if there are several conditions"
)
_RESTING_STATE_FIX = (
    "Alternatively, analyze all runs as resting state (seed-based connectivity) with --ignore"
    " events."
)


@frozen
class EventRow:
    """Event of a table with its line number; onset and duration in s.

    `is_modeled` is False for rest periods and missing types. `amplitude` is the value of the
    column modulation; 1 if the column is not used.
    """

    line: int
    onset: float
    duration: float
    trial_type: str
    is_modeled: bool
    amplitude: float = 1.0

    @property
    def end(self) -> float:
        """Time of the end (s)."""
        return self.onset + self.duration


@frozen
class EventsTable:
    """Events table of a run; `parse_events` makes it from cells.

    `columns`, `records` and `levels` are as in `parse_events`. `rows` are the valid events without
    repetitions, and `repeated_rows` the repetitions. `untimed_lines` are lines of a modeled type
    without onset or duration, and `invalid_records` are rows of a modeled type whose onset or
    duration is not a time. `modulation_fault` is the reason why the column modulation is not used;
    "" if it is used or missing. `types` are the trial types of the rows to model, in order of
    appearance, and `unmodeled` is the reason by type among them that has no regressor, as
    `Events.from_rows` decides.
    """

    path: Path
    columns: Sequence[str]
    records: Sequence[TableRow]
    levels: Collection[str]
    rows: Sequence[EventRow]
    repeated_rows: Sequence[EventRow]
    untimed_lines: Sequence[int]
    invalid_records: Sequence[TableRow]
    modulation_fault: str
    types: Sequence[str]
    unmodeled: Mapping[str, str]

    @property
    def modeled_rows(self) -> list[EventRow]:
        """Events of the types with a regressor."""
        return [
            row for row in self.rows if row.is_modeled and row.trial_type not in self.unmodeled
        ]

    def list_types(self, duration: float | None) -> tuple[str, ...]:
        """Return the types with a regressor and with events in a run, in order of appearance.

        `duration` is the length of the run (s), or None if it is not known; the events are then
        not compared with it.
        """
        types = {
            row.trial_type
            for row in self.modeled_rows
            if duration is None or (row.end > _MIN_END_S and row.onset < duration)
        }
        return tuple(name for name in self.types if name in types)

    def make_events(self) -> "Events":
        """Return the modeled events; `DesignError` if the table has a problem."""
        from bids_sr.glm.regressors import Events

        return Events.from_rows(self.columns, self.records, self.path, self.levels)


def read_events_table(path: Path, levels: Collection[str] = ()) -> EventsTable:
    """Read an events table; `InputError` if it has no rows or lacks the required columns.

    `levels` are as in `parse_events`.
    """
    try:
        columns, records = read_rows(path, _MAX_EVENTS + 1)
    except TABLE_ERRORS as error:
        require_content(path)
        reason = f"the file cannot be read as a table ({error})"
        fix = "Save the table as tab-separated UTF-8 text."
        raise input_error(path, reason, fix) from error
    if missing_columns := [name for name in ("onset", "duration") if name not in columns]:
        require_content(path)
        existing_columns = ", ".join(columns) or "none"
        reason = (
            f"required columns are missing: {', '.join(missing_columns)} (existing columns:"
            f" {existing_columns})"
        )
        fix = f"{_FORM_FIX}. Columns must be separated by tabs."
        raise input_error(path, reason, fix if columns else f"{fix} {_RESTING_STATE_FIX}")
    if len(records) > _MAX_EVENTS:
        reason = f"the events table has more than {_MAX_EVENTS} rows, which is the maximum per run"
        fix = "Check that the file is an events table rather than a physiological recording."
        raise input_error(path, reason, fix)
    if not records:
        fix = f"{_FORM_FIX}. Each event must have its own row. {_RESTING_STATE_FIX}"
        raise input_error(path, "the events table has no rows", fix)
    return parse_events(path, columns, records, levels)


def parse_events(
    path: Path,
    columns: Sequence[str],
    records: Sequence[TableRow],
    levels: Collection[str] = (),
) -> EventsTable:
    """Return the events table in the cells of a file.

    `records` are line number and cells of each row. All events are named `UNNAMED` if the column
    trial_type is missing. `levels` are the trial types in ``Levels`` of the table, see
    `list_modeled_types`.
    """
    rows, untimed_lines, invalid_records = list[EventRow](), list[int](), list[TableRow]()
    for line, record in records:
        onset, duration = parse_seconds(record["onset"]), parse_seconds(record["duration"])
        trial_type = (record.get("trial_type", UNNAMED) or "").strip()
        is_modeled = bool(list_modeled_types([trial_type], levels))
        if is_modeled and (is_missing(record["onset"]) or is_missing(record["duration"])):
            untimed_lines.append(line)
        elif is_modeled and (onset is None or duration is None or duration < 0):
            invalid_records.append((line, record))
        else:
            rows.append(
                EventRow(
                    line=line,
                    onset=onset or 0.0,
                    duration=duration or 0.0,
                    trial_type=trial_type,
                    is_modeled=is_modeled,
                )
            )
    cells = dict(records)
    modeled_rows = [row for row in rows if row.is_modeled]
    amplitudes, modulation_fault = read_modulation(
        [row.trial_type for row in modeled_rows],
        [cells[row.line].get(MODULATION) for row in modeled_rows],
    )
    lines = (row.line for row in modeled_rows)
    amplitude_by_line = dict(zip(lines, amplitudes, strict=True))
    distinct, repeated = dict[object, EventRow](), list[EventRow]()
    for row in rows:
        row = replace(row, amplitude=amplitude_by_line.get(row.line, 1.0))
        if distinct.setdefault(replace(row, line=0), row) is not row:
            repeated.append(row)
    modeled_rows = [row for row in distinct.values() if row.is_modeled]
    return EventsTable(
        path=path,
        columns=columns,
        records=records,
        levels=levels,
        rows=tuple(distinct.values()),
        repeated_rows=repeated,
        untimed_lines=untimed_lines,
        invalid_records=invalid_records,
        modulation_fault=modulation_fault,
        types=tuple(dict.fromkeys(row.trial_type for row in modeled_rows)),
        unmodeled=_explain_unmodeled_types(modeled_rows),
    )


def _explain_unmodeled_types(rows: Sequence[EventRow]) -> dict[str, str]:
    """Return the reason by trial type without a regressor.

    `rows` are neither rest periods nor repeated.
    """
    amplitudes = [row.amplitude for row in rows]
    if set(amplitudes) == {1.0}:
        summed = find_summed_types([(row.onset, row.duration, row.trial_type) for row in rows])
        return {name: describe_sum(summed_types) for name, summed_types in summed.items()}
    types = [row.trial_type for row in rows]
    return dict.fromkeys(find_unmodulated_types(types, amplitudes), UNMODULATED)


def describe_sum(summed_types: Sequence[str]) -> str:
    """Return why a type that repeats the events of the types `summed_types` is not modeled."""
    return (
        f"it lists the events of {' and '.join(map(repr, summed_types))} again, so that its"
        " response is the sum of their responses"
    )


# ---- rules on a table


def unnamed_events(table: EventsTable) -> Iterator[Notice]:
    """Note that all events have one name, because the column trial_type is missing."""
    if "trial_type" not in table.columns:
        yield note(
            table.path,
            f"the optional column trial_type is missing, so all events are named {UNNAMED!r}.",
        )


def missing_types(table: EventsTable) -> Iterator[Notice]:
    """Note events whose trial type is a missing value that BIDS writes as n/a."""
    names = ((record.get("trial_type") or "").strip() for _, record in table.records)
    marks = [
        name for name in names if name in MISSING_MARKS and is_missing_type(name, table.levels)
    ]
    if marks:
        count_text = "1 event is" if len(marks) == 1 else f"{len(marks)} events are"
        yield note(
            table.path,
            f"{count_text} not modeled because the trial type is missing ({_join_marks(marks)}, as"
            f" n/a). {_describe_levels_fix(marks)}",
        )


def untimed_events(table: EventsTable) -> Iterator[Notice]:
    """Note events without onset or duration."""
    if table.untimed_lines:
        yield note(
            table.path,
            f"{len(table.untimed_lines)} of {len(table.records)} events are not modeled because"
            f" their onset or duration is n/a (first event: line {min(table.untimed_lines)}).",
        )


def invalid_times(table: EventsTable) -> Iterator[Notice]:
    """Reject the first rows whose onset or duration is not a time."""
    for line, record in table.invalid_records[:_MAX_INVALID_ROWS]:
        yield problem(
            table.path,
            f"the onset and duration in line {line} must be times in seconds, but are"
            f" {record['onset']!r} and {record['duration']!r}",
            "Specify both values in seconds; use a duration of 0 for brief events.",
        )


def uneven_rows(table: EventsTable) -> Iterator[Notice]:
    """Reject a row with more cells than columns, or without a cell for its type."""
    if line := _find_wide_line(table):
        fix = "Each line must have the same number of cells as the header line."
        yield problem(table.path, f"line {line} has more cells than the header line", fix)
    if line := _find_short_line(table):
        fix = "Separate cells by tabs, and write n/a for a missing value."
        yield problem(table.path, f"line {line} has no cell for trial_type", fix)


def _find_short_line(table: EventsTable) -> int:
    """Return the first line that ends after the duration, before its type; 0 without such."""
    lines = (
        line
        for line, record in table.records
        if record.get("trial_type", "") is None and record["duration"] is not None
    )
    return next(lines, 0)


def _find_wide_line(table: EventsTable) -> int:
    """Return the first line of a timed event with more cells than columns; 0 without such."""
    lines = (line for line, record in table.records if "" in record)
    return next((line for line in lines if line not in table.untimed_lines), 0)


def no_types(table: EventsTable) -> Iterator[Notice]:
    """Reject a table without a trial type to model, unless a row explains why."""
    if table.types or table.invalid_records or _find_wide_line(table) or _find_short_line(table):
        return
    fix = f"{_FORM_FIX}. {_RESTING_STATE_FIX}"
    if marks := {row.trial_type for row in table.rows} & MISSING_MARKS:
        fix = f"{_describe_levels_fix(marks)} {fix}"
    yield problem(
        table.path,
        "the events table contains no trial type to model: all rows are rest periods, or their"
        " trial type, onset or duration is missing",
        fix,
    )


def _describe_levels_fix(marks: Iterable[str]) -> str:
    """Return a sentence on how to model trial types that count as missing values."""
    return (
        f"If {_join_marks(marks)} is the name of a condition, describe it under Levels of"
        " trial_type in the sidecar of the events."
    )


def _join_marks(marks: Iterable[str]) -> str:
    """Return distinct missing values in quotation marks as text."""
    return " or ".join(map(repr, sorted({*marks})))


def modulation(table: EventsTable) -> Iterator[Notice]:
    """Note amplitudes from the column modulation, or warn that it is not used."""
    if table.modulation_fault:
        yield warning(
            table.path,
            f"the column {MODULATION} is not used, because {table.modulation_fault}. The amplitude"
            " of all events is 1.",
            code="events",
        )
    amplitudes_by_type: dict[str, list[float]] = {}
    for row in (*table.rows, *table.repeated_rows):
        if row.is_modeled:
            amplitudes_by_type.setdefault(row.trial_type, []).append(row.amplitude)
    descriptions = [
        _describe_modulation(name, amplitudes)
        for name, amplitudes in amplitudes_by_type.items()
        if set(amplitudes) != {1.0}
    ]
    if descriptions:
        yield note(
            table.path,
            f"the column {MODULATION} is used as the amplitude of the events, as in nilearn:"
            f" {', '.join(descriptions)}. Effects are the response to a {MODULATION} of 1.",
        )


def _describe_modulation(name: str, amplitudes: Sequence[float]) -> str:
    """Return the range and the mean of the amplitudes of a trial type as text.

    Amplitudes are centered if their mean is 0 except for rounding. Contrasts of other types then
    refer to the mean amplitude.

    >>> _describe_modulation("tapXrating", [-1.0, 1.0])
    'tapXrating -1 to 1 (centered)'
    """
    smallest, largest = min(amplitudes), max(amplitudes)
    mean = sum(amplitudes) / len(amplitudes)
    is_centered = abs(mean) <= _MAX_CENTERED_MEAN * (largest - smallest)
    mean_text = "centered" if is_centered and largest > smallest else f"mean {mean:.3g}"
    return f"{name} {smallest:g} to {largest:g} ({mean_text})"


def repeated_events(table: EventsTable) -> Iterator[Notice]:
    """Note events to model that are listed twice."""
    if repeated := [row for row in table.repeated_rows if row.is_modeled]:
        yield note(
            table.path,
            f"{len(repeated)} of {len(table.rows) + len(table.repeated_rows)} events have the same"
            " onset, duration and trial_type as another event (first event: line"
            f" {repeated[0].line}). Each event is modeled only once.",
        )


def overlapping_events(table: EventsTable) -> Iterator[Notice]:
    """Note events that begin before an earlier event of the same type has ended."""
    overlapping, latest_ends = dict[str, list[EventRow]](), dict[str, float]()
    rows = (row for row in table.rows if row.is_modeled)
    for row in sorted(rows, key=lambda row: row.onset):
        latest_end = latest_ends.get(row.trial_type, -math.inf)
        if row.onset < latest_end - _TIME_TOLERANCE_S:
            overlapping.setdefault(row.trial_type, []).append(row)
        latest_ends[row.trial_type] = max(row.end, latest_end)
    for name, events in overlapping.items():
        yield note(
            table.path,
            f"events of trial type {name!r} overlap with earlier events of the same type"
            f" ({len(events)} in total, the first in line {events[0].line}). The modeled responses"
            " are summed.",
        )


def unmodeled_types(table: EventsTable) -> Iterator[Notice]:
    """Note trial types without a regressor; it is a problem if no type has one."""
    if table.types and table.unmodeled.keys() == {*table.types}:
        yield problem(
            table.path,
            f"all events have {MODULATION} 0",
            f"Correct the column {MODULATION}, or remove it to model all events alike.",
        )
    for name, reason in table.unmodeled.items():
        yield note(table.path, f"the trial type {name!r} is not modeled because {reason}.")


TABLE_RULES = (
    unnamed_events,
    missing_types,
    untimed_events,
    invalid_times,
    uneven_rows,
    no_types,
    modulation,
    repeated_events,
    overlapping_events,
    unmodeled_types,
)
"""Rules on an events table alone."""


# ---- rules on a table and the run, whose BOLD file and length (s) are given


def distant_events(table: EventsTable, bold: Path, duration: float) -> Iterator[Notice]:
    """Reject events that are more than an hour from a run."""
    limit = duration + _MAX_DISTANCE_S
    distant = [
        row for row in table.modeled_rows if row.onset < -_MAX_DISTANCE_S or row.end > limit
    ]
    if distant:
        yield problem(
            table.path,
            "the events table contains events more than one hour before the start or after the end"
            f" of {bold.name} ({len(distant)} in total, the first with an onset of"
            f" {distant[0].onset:g} s and a duration of {distant[0].duration:g} s in line"
            f" {distant[0].line})",
            "Check that onsets and durations are in seconds and that onsets are relative to the"
            " first volume.",
        )


def late_events(table: EventsTable, bold: Path, duration: float) -> Iterator[Notice]:
    """Note events after the end of a run; it is a problem if most events are."""
    rows = table.modeled_rows
    late = [row for row in rows if row.onset >= duration]
    if not late:
        return
    description = (
        f"the events table contains events that begin after the end of {bold.name} at"
        f" {duration:g} s ({len(late)} of {len(rows)}, the first in line {late[0].line}:"
        f" {late[0].trial_type!r} at {late[0].onset:g} s)"
    )
    if _are_most_late(rows, duration):
        yield problem(
            table.path,
            description,
            "Check that onsets are in seconds relative to the first volume, that the events table"
            " belongs to this run and that the series is complete.",
        )
    else:
        yield note(table.path, f"{description}. These events are not modeled.")


def _are_most_late(rows: Sequence[EventRow], duration: float) -> bool:
    """Return whether most events begin after the end of a run."""
    return sum(row.onset >= duration for row in rows) > _MAX_LATE_SHARE * len(rows)


def early_events(table: EventsTable, _bold: Path, duration: float) -> Iterator[Notice]:
    """Reject a table whose events end long before the first volume, or else after the end."""
    rows = table.modeled_rows
    if rows and not table.list_types(duration) and not _are_most_late(rows, duration):
        yield problem(
            table.path,
            f"all events are more than {-_MIN_END_S:g} s before the first volume",
            "Check that onsets are in seconds relative to the first volume.",
        )


def truncated_events(table: EventsTable, _bold: Path, duration: float) -> Iterator[Notice]:
    """Note events that begin in a run and last longer than the run."""
    n_truncated = sum(
        row.onset < duration < row.end - _TIME_TOLERANCE_S for row in table.modeled_rows
    )
    if n_truncated:
        count_text = "1 event" if n_truncated == 1 else f"{n_truncated} events"
        yield note(
            table.path,
            f"durations that extend beyond the end of the run ({duration:g} s) will be truncated"
            f" ({count_text}).",
        )


def types_outside(table: EventsTable, _bold: Path, duration: float) -> Iterator[Notice]:
    """Note trial types without events in a run."""
    late_types = {row.trial_type for row in table.modeled_rows if row.onset >= duration}
    types_within = table.list_types(duration)
    for name in table.list_types(None):
        if name in types_within:
            continue
        position = (
            "after the end"
            if name in late_types
            else f"more than {-_MIN_END_S:g} s before the start"
        )
        yield note(
            table.path,
            f"the trial type {name!r} is not modeled because all of its events are"
            f" {position} of the run.",
        )


RUN_RULES = (distant_events, late_events, early_events, truncated_events, types_outside)
"""Rules on the events of a run."""


# ---- rules on the tables of a data set


def alike_types(types: Mapping[Path, Sequence[str]]) -> Iterator[Notice]:
    """Warn of trial types, in one run or several, whose names look or sound alike.

    Such names differ in case, spaces, invisible characters, or Unicode composition of accents.

    `types` maps BOLD files to modeled trial types.
    """
    spellings: dict[str, dict[str, Path]] = {}
    for bold, names in types.items():
        for name in names:
            spellings.setdefault(_normalize(name), {}).setdefault(name, bold)
    for group in spellings.values():
        if len(group) > 1:
            names_text = ", ".join(sorted(map(ascii, group)))
            yield warning(
                next(iter(group.values())),
                f"the trial types {names_text} differ only in case, spaces, invisible characters"
                " or Unicode representation and are modeled as different conditions. If they are"
                " the same condition, correct the events tables.",
                code="events",
            )


def _normalize(name: str) -> str:
    """Return a name without case, spaces and invisible characters, with composed accents."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    invisible = ("Cc", "Cf", "Zs")
    return "".join(
        character for character in folded if unicodedata.category(character) not in invisible
    )
