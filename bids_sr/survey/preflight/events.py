"""Events tables of BOLD runs, with checks against the length of the run."""

import math
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.glm.contrasts import (
    MODULATION,
    UNNAMED,
    find_unmodulated_types,
    is_missing_type,
    list_modeled_types,
    order_types,
    parse_seconds,
    read_modulation,
)
from bids_sr.glm.summed_types import find_summed_types
from bids_sr.io.frozen import frozen
from bids_sr.io.tables import MISSING_MARKS, TABLE_ERRORS, TableRow, is_missing, read_rows
from bids_sr.survey.bids.entities import parse_entities
from bids_sr.survey.bids.findings import (
    Findings,
    about,
    add_all,
    add_problem,
    count_problems,
    is_downloaded,
    note,
    warn,
)
from bids_sr.survey.bids.inputs import Survey
from bids_sr.survey.bids.label_lists import list_some

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


def check_events(
    table: Path, bold: Path, duration: float | None, levels: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the modeled trial types of a run in order of appearance, or () with a problem.

    `duration` is the length of the run (s), or None if it is not known; events are then not
    compared with it. `levels` are the trial types in ``Levels`` of the table, see
    `list_modeled_types`.
    """
    with Findings() as findings:
        rows = _read_events(table, levels)
        types = tuple(dict.fromkeys(row.trial_type for row in rows if row.is_modeled))
        if not count_problems() and not types:
            reason = (
                "the events table contains no trial type to model: all rows are rest periods, or"
                " their trial type, onset or duration is missing"
            )
            fix = f"{_FORM_FIX}. {_RESTING_STATE_FIX}"
            if marks := {row.trial_type for row in rows} & MISSING_MARKS:
                fix = f"{_describe_levels_fix(marks)} {fix}"
            add_problem(table, reason, fix)
        reasons = _explain_unmodeled_types([row for row in rows if row.is_modeled])
        if types and reasons.keys() == {*types}:
            add_problem(
                table,
                f"all events have {MODULATION} 0",
                f"Correct the column {MODULATION}, or remove it to model all events alike.",
            )
        for name, reason in reasons.items():
            note(table, f"the trial type {name!r} is not modeled because {reason}.")
        types = tuple(name for name in types if name not in reasons)
        if duration is not None:
            timed = [row for row in rows if row.is_modeled and row.trial_type not in reasons]
            types = _check_onsets(timed, types, table, bold, duration)
    add_all(findings)
    return () if findings.problems else types


@frozen
class _EventRow:
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


def _read_events(path: Path, levels: Collection[str]) -> list[_EventRow]:
    """Read the rows of an events table, and report problems.

    `levels` is as in `check_events`.
    """
    records = _read_records(path)
    _note_missing_types(records, levels, path)
    untimed_lines = {line for line, record in records if _is_untimed(record, levels)}
    if untimed_lines:
        note(
            path,
            f"{len(untimed_lines)} of {len(records)} events are not modeled because their onset or"
            f" duration is n/a (first event: line {min(untimed_lines)}).",
        )
    records = [(line, record) for line, record in records if line not in untimed_lines]
    rows = [
        row
        for line, record in records
        if (row := _parse_row(path, line, record, levels)) is not None
    ]
    rows = _read_amplitudes(rows, dict(records), path)
    rows = _drop_repetitions(rows, path)
    if n_brief := sum(row.duration == 0 for row in rows):
        count_text = "all" if n_brief == len(rows) else f"{n_brief} of {len(rows)}"
        note(
            path,
            f"{count_text} events have zero duration and are modeled as impulses with an area"
            " of 1 s, as in SPM.",
        )
    wide_line = next((line for line, record in records if "" in record), None)
    if wide_line is not None:
        fix = "Each line must have the same number of cells as the header line."
        add_problem(path, f"line {wide_line} has more cells than the header line", fix)
    return rows


def _read_records(path: Path) -> list[TableRow]:
    """Return the line number and the cells of each row, or [] with a problem.

    Events are named if the column trial_type is missing.
    """
    if not is_downloaded(path):
        return []
    try:
        columns, records = read_rows(path, _MAX_EVENTS + 1)
    except TABLE_ERRORS as error:
        reason = f"the file cannot be read as a table ({error})"
        add_problem(path, reason, "Save the table as tab-separated UTF-8 text.")
        return []
    missing_columns = [name for name in ("onset", "duration") if name not in columns]
    if missing_columns:
        existing_columns = ", ".join(str(name) for name in columns) or "none"
        reason = (
            f"required columns are missing: {', '.join(missing_columns)} (existing columns:"
            f" {existing_columns})"
        )
        fix = f"{_FORM_FIX}. Columns must be separated by tabs."
        add_problem(path, reason, fix if columns else f"{fix} {_RESTING_STATE_FIX}")
        return []
    if len(records) > _MAX_EVENTS:
        reason = f"the events table has more than {_MAX_EVENTS} rows, which is the maximum per run"
        fix = "Check that the file is an events table rather than a physiological recording."
        add_problem(path, reason, fix)
        return []
    if not records:
        fix = f"{_FORM_FIX}. Each event must have its own row. {_RESTING_STATE_FIX}"
        add_problem(path, "the events table has no rows", fix)
    if "trial_type" not in columns:
        note(
            path,
            f"the optional column trial_type is missing, so all events are named {UNNAMED!r}.",
        )
        for _, record in records:
            record["trial_type"] = UNNAMED
    return records


def _note_missing_types(records: Sequence[TableRow], levels: Collection[str], path: Path) -> None:
    """Report events whose trial type is a missing value that BIDS writes as n/a."""
    marks = [
        mark
        for _, record in records
        if (mark := (record["trial_type"] or "").strip()) in MISSING_MARKS
        and is_missing_type(mark, levels)
    ]
    if marks:
        count_text = "1 event is" if len(marks) == 1 else f"{len(marks)} events are"
        marks_text = _join_marks(marks)
        note(
            path,
            f"{count_text} not modeled because the trial type is missing ({marks_text}, as n/a)."
            f" {_describe_levels_fix(marks)}",
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


def _is_untimed(record: Mapping[str, str | None], levels: Collection[str]) -> bool:
    """Return whether a row is an event of a modeled type without onset or duration."""
    is_any_missing = is_missing(record["onset"]) or is_missing(record["duration"])
    return is_any_missing and bool(list_modeled_types([record["trial_type"]], levels))


def _parse_row(
    path: Path, line: int, record: Mapping[str, str | None], levels: Collection[str]
) -> _EventRow | None:
    """Return the event in a row, or None if it is invalid; the first invalid rows are reported."""
    onset, duration = parse_seconds(record["onset"]), parse_seconds(record["duration"])
    name = (record["trial_type"] or "").strip()
    is_modeled = bool(list_modeled_types([name], levels))
    are_times = onset is not None and duration is not None and duration >= 0
    if are_times or not is_modeled:
        return _EventRow(
            line=line,
            onset=onset or 0.0,
            duration=duration or 0.0,
            trial_type=name,
            is_modeled=is_modeled,
        )
    if count_problems() < _MAX_INVALID_ROWS:
        add_problem(
            path,
            f"the onset and duration in line {line} must be times in seconds, but are"
            f" {record['onset']!r} and {record['duration']!r}",
            "Specify both values in seconds; use a duration of 0 for brief events.",
        )
    return None


def _read_amplitudes(
    rows: Sequence[_EventRow], records: Mapping[int, Mapping[str, str | None]], path: Path
) -> list[_EventRow]:
    """Return rows with the amplitudes of the column modulation, and report its use.

    `records` are the cells of the table by line number.
    """
    events = [row for row in rows if row.is_modeled]
    cells = [records[row.line].get(MODULATION) for row in events]
    amplitudes, reason = read_modulation([row.trial_type for row in events], cells)
    if reason:
        warn(
            path,
            f"the column {MODULATION} is not used, because {reason}. The amplitude of all events"
            " is 1.",
            code="events",
        )
    elif set(amplitudes) - {1.0}:
        amplitudes_by_type: dict[str, list[float]] = {}
        for row, amplitude in zip(events, amplitudes, strict=True):
            amplitudes_by_type.setdefault(row.trial_type, []).append(amplitude)
        types_text = ", ".join(
            _describe_modulation(name, values)
            for name, values in amplitudes_by_type.items()
            if set(values) != {1.0}
        )
        note(
            path,
            f"the column {MODULATION} is used as the amplitude of the events, as in nilearn:"
            f" {types_text}. Effects are the response to a {MODULATION} of 1.",
        )
    amplitude_by_line = {
        row.line: amplitude for row, amplitude in zip(events, amplitudes, strict=True)
    }
    return [replace(row, amplitude=amplitude_by_line.get(row.line, 1.0)) for row in rows]


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


def _drop_repetitions(rows: Sequence[_EventRow], path: Path) -> list[_EventRow]:
    """Drop repeated events, and report repeated and overlapping events of the same type."""
    distinct, repeated = list[_EventRow](), list[_EventRow]()
    earlier_events = set[tuple[float, float, str, float]]()
    for row in rows:
        event = row.onset, row.duration, row.trial_type, row.amplitude
        (repeated if event in earlier_events else distinct).append(row)
        earlier_events.add(event)
    if modeled_repetitions := [row for row in repeated if row.is_modeled]:
        note(
            path,
            f"{len(modeled_repetitions)} of {len(rows)} events have the same onset, duration and"
            f" trial_type as another event (first event: line {modeled_repetitions[0].line}). Each"
            " event is modeled only once.",
        )
    _note_overlaps([row for row in distinct if row.is_modeled], path)
    return distinct


def _note_overlaps(rows: Sequence[_EventRow], path: Path) -> None:
    """Report events that begin before an earlier event of the same type has ended."""
    overlapping, latest_ends = dict[str, list[_EventRow]](), dict[str, float]()
    for row in sorted(rows, key=lambda row: row.onset):
        latest_end = latest_ends.get(row.trial_type, -math.inf)
        if row.onset < latest_end - _TIME_TOLERANCE_S:
            overlapping.setdefault(row.trial_type, []).append(row)
        latest_ends[row.trial_type] = max(row.onset + row.duration, latest_end)
    for name, events in overlapping.items():
        note(
            path,
            f"events of trial type {name!r} overlap with earlier events of the same type"
            f" ({len(events)} in total, the first in line {events[0].line}). The modeled responses"
            " are summed.",
        )


def _explain_unmodeled_types(rows: Sequence[_EventRow]) -> dict[str, str]:
    """Return the reason by trial type without a regressor, as `Events.from_rows` decides.

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


def _check_onsets(
    rows: Sequence[_EventRow], types: tuple[str, ...], table: Path, bold: Path, duration: float
) -> tuple[str, ...]:
    """Return the trial types with events during the run, and report all other events.

    `duration` is the length of the run (s).
    """
    types_within = {
        row.trial_type
        for row in rows
        if row.onset + row.duration > _MIN_END_S and row.onset < duration
    }
    _report_distant_events(rows, table, bold, duration)
    are_mostly_late = _report_late_events(rows, table, bold, duration)
    _note_truncated_events(rows, table, duration)
    outside = [name for name in types if name not in types_within]
    _note_types_outside(rows, outside, table, duration)
    if types and not types_within and not are_mostly_late:
        add_problem(
            table,
            f"all events are more than {-_MIN_END_S:g} s before the first volume",
            "Check that onsets are in seconds relative to the first volume.",
        )
    return tuple(name for name in types if name in types_within)


def _report_distant_events(
    rows: Sequence[_EventRow], table: Path, bold: Path, duration: float
) -> None:
    """Reject events that are more than an hour from a run that lasts `duration` seconds."""
    distant = [
        row
        for row in rows
        if row.onset < -_MAX_DISTANCE_S or row.onset + row.duration > duration + _MAX_DISTANCE_S
    ]
    if distant:
        add_problem(
            table,
            "the events table contains events more than one hour before the start or after the end"
            f" of {bold.name} ({len(distant)} in total, the first with an onset of"
            f" {distant[0].onset:g} s and a duration of {distant[0].duration:g} s in line"
            f" {distant[0].line})",
            "Check that onsets and durations are in seconds and that onsets are relative to the"
            " first volume.",
        )


def _note_truncated_events(rows: Sequence[_EventRow], table: Path, duration: float) -> None:
    """Report events that begin in a run and last longer than the run, `duration` (s)."""
    n_truncated = sum(
        row.onset < duration < row.onset + row.duration - _TIME_TOLERANCE_S for row in rows
    )
    if n_truncated:
        count_text = "1 event" if n_truncated == 1 else f"{n_truncated} events"
        note(
            table,
            f"durations that extend beyond the end of the run ({duration:g} s) will be truncated"
            f" ({count_text}).",
        )


def _note_types_outside(
    rows: Sequence[_EventRow], types: Sequence[str], table: Path, duration: float
) -> None:
    """Report trial types without events in a run, which lasts `duration` seconds."""
    late_types = {row.trial_type for row in rows if row.onset >= duration}
    for name in types:
        position = (
            "after the end"
            if name in late_types
            else f"more than {-_MIN_END_S:g} s before the start"
        )
        note(
            table,
            f"the trial type {name!r} is not modeled because all of its events are"
            f" {position} of the run.",
        )


def _report_late_events(
    rows: Sequence[_EventRow], table: Path, bold: Path, duration: float
) -> bool:
    """Report events after the end of a run, and return whether most are, which is a problem."""
    late = [row for row in rows if row.onset >= duration]
    if not late:
        return False
    description = (
        f"the events table contains events that begin after the end of {bold.name} at"
        f" {duration:g} s ({len(late)} of {len(rows)}, the first in line {late[0].line}:"
        f" {late[0].trial_type!r} at {late[0].onset:g} s)"
    )
    are_most = len(late) > _MAX_LATE_SHARE * len(rows)
    if are_most:
        add_problem(
            table,
            description,
            "Check that onsets are in seconds relative to the first volume, that the events table"
            " belongs to this run and that the series is complete.",
        )
    else:
        note(table, f"{description}. These events are not modeled.")
    return are_most


@about(code="events")
def note_unshared_levels(types: Mapping[Path, Sequence[str]], data_set: Survey) -> None:
    """Report, once per task, ``Levels`` of a participant or session in another order.

    `types` maps BOLD files to modeled trial types in the order of the data set.
    """
    noted_tasks = set[str]()
    for bold, table in data_set.files_by_run.values():
        levels = None if table is None else data_set.unshared_levels.get(table)
        task = parse_entities(bold).get("task", "")
        order = tuple(types.get(bold, ()))
        if levels is None or task in noted_tasks or order_types(order, levels.types) == order:
            continue
        noted_tasks.add(task)
        source = (
            f"in the order of Levels in the root directory of the dataset ({list_some(order)})."
            if {*order} & {*data_set.type_order.get(task, ())}
            else f"in alphabetical order ({list_some(order)}). To choose another order, specify"
            f" Levels in task-{task}_events.json in the root directory of the dataset."
        )
        note(
            levels.sidecar,
            "the order of Levels in this sidecar is not used, because contrasts must have the same"
            f" sign in all participants and sessions. Trial types are {source}",
        )


def warn_of_alike_types(types: Mapping[Path, Sequence[str]]) -> None:
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
            warn(
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
