"""Events tables of BOLD runs, with checks against the length of the run."""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.bids import Findings
from bids_sr.frozen import frozen
from bids_sr.glm.contrasts import (
    ALL,
    ALL_TYPE,
    MODULATION,
    NO_TIME,
    UNNAMED,
    list_modeled_types,
    parse_seconds,
    read_modulation,
)
from bids_sr.glm.summed_types import find_summed_types
from bids_sr.io.atomic_files import read_text
from bids_sr.io.tables import TABLE_ERRORS, read_rows

_MIN_END = -24.0  # s; the hemodynamic response to earlier events has faded at the first volume
_ASTRAY_S = 3600.0  # s, distance from the run beyond which onsets or units must be wrong
# largest share of events after the end of the run; beyond, the table belongs to another run
_MOST_LATE = 0.5
_MOST_EVENTS = 50_000
_WHERE = (
    "Specify an events table with the columns onset and duration, and with the column trial_type"
    " if there are several conditions"
)

_IGNORE = (
    "Alternatively, analyze all runs as resting state (seed-based connectivity) with --ignore"
    " events."
)


@frozen
class _EventRow:
    """Event of a table with its line number; onset and duration in s.

    `amplitude`: value of the column modulation; 1 if the column is not used.
    """

    line: int
    onset: float
    duration: float
    trial_type: str
    amplitude: float = 1.0


def check_events(
    table: Path, bold: Path, duration: float | None, findings: Findings
) -> tuple[str, ...]:
    """Return the modeled trial types of a run in order of appearance, or () with a problem.

    `duration` is the length of the run (s), or None if it is not known; events are then not
    compared with it.
    """
    misfits = Findings()
    rows = _read(table, misfits)
    types = list_modeled_types(row.trial_type for row in rows)
    if ALL in types and len(types) > 1:
        misfits.note(
            table,
            f"the trial type {ALL!r} is mapped as contrast {ALL_TYPE}, because contrast {ALL} is"
            " the mean of all trial types.",
        )
    if not misfits.problems and not types:
        reason = (
            "the events table contains no trial type to model: all rows are rest periods or lack"
            " an onset or duration"
        )
        misfits.add_problem(table, reason, f"{_WHERE}.")
    modeled_names = set(types)
    summed = find_summed_types(
        [
            (row.onset, row.duration, row.trial_type)
            for row in rows
            if row.trial_type in modeled_names
        ]
    )
    for name, summed_types in summed.items():
        misfits.note(
            table, f"the trial type {name!r} is not modeled because {sum_text(summed_types)}."
        )
    types = tuple(name for name in types if name not in summed)
    if duration is not None:
        modeled_names = set(types)
        modeled = [row for row in rows if row.trial_type in modeled_names]
        types = _check_onsets(modeled, types, table, bold, duration, misfits)
    findings.add_all(misfits)
    return () if misfits.problems else types


def sum_text(summed_types: Sequence[str]) -> str:
    """Return why a type that repeats the events of the types `summed_types` is not modeled."""
    return (
        f"it lists the events of {' and '.join(map(repr, summed_types))} again, so that its"
        " response is the sum of their responses"
    )


def warn_of_alike_types(types: Mapping[Path, Sequence[str]], findings: Findings) -> None:
    """Warn of trial types, in one run or several, whose names look or sound alike.

    Such names differ in case, spaces, invisible characters, or Unicode composition of accents.

    `types` maps BOLD files to modeled trial types.
    """
    spellings: dict[str, dict[str, Path]] = {}
    for bold, names in types.items():
        for name in names:
            spellings.setdefault(_plain(name), {}).setdefault(name, bold)
    for group in spellings.values():
        if len(group) > 1:
            names_text = ", ".join(sorted(map(ascii, group)))
            findings.warn(
                next(iter(group.values())),
                f"the trial types {names_text} differ only in case, spaces, invisible characters"
                " or Unicode representation and are modeled as different conditions. If they are"
                " the same condition, correct the events tables.",
                code="events",
            )


def _plain(name: str) -> str:
    """Return a name without case, spaces and invisible characters, with composed accents."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    invisible = ("Cc", "Cf", "Zs")
    return "".join(
        character for character in folded if unicodedata.category(character) not in invisible
    )


def _check_onsets(
    rows: Sequence[_EventRow],
    types: tuple[str, ...],
    table: Path,
    bold: Path,
    duration: float,
    findings: Findings,
) -> tuple[str, ...]:
    """Return the trial types with events during the run, and report all other events.

    `duration` is the length of the run (s).
    """
    distant = [
        row
        for row in rows
        if row.onset < -_ASTRAY_S or row.onset + row.duration > duration + _ASTRAY_S
    ]
    if distant:
        findings.add_problem(
            table,
            "the events table contains events more than one hour before the start or after the end"
            f" of {bold.name} ({len(distant)} in total, the first with an onset of"
            f" {distant[0].onset:g} s and a duration of {distant[0].duration:g} s in line"
            f" {distant[0].line})",
            "Check that onsets and durations are in seconds and that onsets are relative to the"
            " first volume.",
        )
    late = [row for row in rows if row.onset >= duration]
    if late:
        description = (
            f"the events table contains events that begin after the end of {bold.name} at"
            f" {duration:g} s ({len(late)} of {len(rows)}, the first in line {late[0].line}:"
            f" {late[0].trial_type!r} at {late[0].onset:g} s)"
        )
        if len(late) > _MOST_LATE * len(rows):
            fix = (
                "Check that onsets are in seconds relative to the first volume, that the events"
                " table belongs to this run and that the series is complete."
            )
            findings.add_problem(table, description, fix)
        else:
            findings.note(table, f"{description}. These events are not modeled.")
    truncated = [row for row in rows if row.onset < duration < row.onset + row.duration - 1e-3]
    if truncated:
        count_text = "1 event" if len(truncated) == 1 else f"{len(truncated)} events"
        text = (
            f"durations that extend beyond the end of the run ({duration:g} s) will be truncated"
            f" ({count_text})."
        )
        findings.note(table, text)
    types_within = {
        row.trial_type
        for row in rows
        if row.onset + row.duration > _MIN_END and row.onset < duration
    }
    late_types = {row.trial_type for row in late}
    for name in types:
        if name not in types_within:
            position = "after the end" if name in late_types else "more than 24 s before the start"
            findings.note(
                table,
                (
                    f"the trial type {name!r} is not modeled because all of its events are"
                    f" {position} of the run."
                ),
            )
    if types and not types_within and len(late) <= _MOST_LATE * len(rows):
        findings.add_problem(
            table,
            "all events are more than 24 s before the first volume",
            "Check that onsets are in seconds relative to the first volume.",
        )
    return tuple(name for name in types if name in types_within)


def _read(path: Path, findings: Findings) -> list[_EventRow]:
    """Read the rows of an events table, and report problems."""
    if not findings.is_downloaded(path):
        return []
    try:
        columns, records = read_rows(path, _MOST_EVENTS + 1)
    except TABLE_ERRORS as error:
        findings.add_problem(
            path,
            f"the file cannot be read as a table ({error})",
            "Save the table as tab-separated UTF-8 text.",
        )
        return []
    missing = [name for name in ("onset", "duration") if name not in columns]
    if missing:
        existing = ", ".join(str(name) for name in columns) or "none"
        reason = (
            f"required columns are missing: {', '.join(missing)} (existing columns: {existing})"
        )
        fix = f"{_WHERE}. Columns must be separated by tabs."
        findings.add_problem(path, reason, fix if columns else f"{fix} {_IGNORE}")
        return []
    if len(records) > _MOST_EVENTS:
        fix = "Check that the file is an events table rather than a physiological recording."
        findings.add_problem(
            path,
            f"the events table has more than {_MOST_EVENTS} rows, which is the maximum per run",
            fix,
        )
        return []
    if not records:
        findings.add_problem(
            path,
            "the events table has no rows",
            f"{_WHERE}. Each event must have its own row. {_IGNORE}",
        )
    if "trial_type" not in columns:
        findings.note(
            path,
            f"the optional column trial_type is missing, so all events are named {UNNAMED!r}.",
        )
        for _, record in records:
            record["trial_type"] = UNNAMED
    untimed_lines = {
        line
        for line, record in records
        if list_modeled_types([record["trial_type"]])
        and any((record[name] or "").strip().lower() in NO_TIME for name in ("onset", "duration"))
    }
    if untimed_lines:
        findings.note(
            path,
            f"{len(untimed_lines)} of {len(records)} events are not modeled because their onset or"
            f" duration is n/a (first event: line {min(untimed_lines)}).",
        )
        records = [(line, record) for line, record in records if line not in untimed_lines]
    rows = [
        row for line, record in records if (row := _row(path, line, record, findings)) is not None
    ]
    rows = _read_amplitudes(rows, dict(records), path, findings)
    rows = _drop_repetitions(rows, path, findings)
    if n_brief := sum(row.duration == 0 for row in rows):
        count_text = "all" if n_brief == len(rows) else f"{n_brief} of {len(rows)}"
        findings.note(
            path,
            (
                f"{count_text} events have zero duration and are modeled as impulses with an area"
                " of 1 s, as in SPM."
            ),
        )
    if "\0" in read_text(path, encoding="utf-8-sig"):
        fix = "Save the table as plain UTF-8 text."
        findings.add_problem(
            path,
            (
                "the events table contains NUL bytes, which some programs interpret as the end"
                " of a name"
            ),
            fix,
        )
    wide_line = next((line for line, record in records if "" in record), None)
    if wide_line is not None:
        fix = "Each line must have the same number of cells as the header line."
        findings.add_problem(path, f"line {wide_line} has more cells than the header line", fix)
    return rows


def _read_amplitudes(
    rows: Sequence[_EventRow],
    records: Mapping[int, Mapping[str, str | None]],
    path: Path,
    findings: Findings,
) -> list[_EventRow]:
    """Return rows with the amplitudes of the column modulation, and report its use.

    `records` are the cells of the table by line number.
    """
    modeled = set(list_modeled_types(row.trial_type for row in rows))
    events = [row for row in rows if row.trial_type in modeled]
    cells = [records[row.line].get(MODULATION) for row in events]
    amplitudes, reason = read_modulation([row.trial_type for row in events], cells)
    if reason:
        findings.warn(
            path,
            f"the column {MODULATION} is not used, because {reason}. The amplitude of all events"
            " is 1.",
            code="events",
        )
    elif set(amplitudes) - {1.0}:
        findings.note(
            path,
            f"the column {MODULATION} is used as the amplitude of the events"
            f" ({min(amplitudes):g} to {max(amplitudes):g}), as in nilearn. Effects are the"
            f" response to a {MODULATION} of 1.",
        )
    by_line = {row.line: value for row, value in zip(events, amplitudes, strict=True)}
    return [replace(row, amplitude=by_line.get(row.line, 1.0)) for row in rows]


def _drop_repetitions(
    rows: Sequence[_EventRow], path: Path, findings: Findings
) -> list[_EventRow]:
    """Drop repeated events, and report repeated and overlapping events of the same type."""
    identities = {
        row.line: (row.onset, row.duration, row.trial_type, row.amplitude) for row in rows
    }
    unique = {identities[row.line]: row for row in reversed(rows)}
    distinct = [row for row in rows if unique[identities[row.line]] is row]
    modeled = set(list_modeled_types(row.trial_type for row in rows))
    lines = {row.line for row in distinct}
    repeated = [row for row in rows if row.trial_type in modeled and row.line not in lines]
    if repeated:
        findings.note(
            path,
            f"{len(repeated)} of {len(rows)} events have the same onset, duration and trial_type"
            f" as another event (first event: line {repeated[0].line}). Each event is modeled"
            " only once.",
        )
    _tell_overlaps([row for row in distinct if row.trial_type in modeled], path, findings)
    return distinct


def _tell_overlaps(rows: Sequence[_EventRow], path: Path, findings: Findings) -> None:
    """Report events that begin before an earlier event of the same type has ended."""
    overlapping, latest = dict[str, list[_EventRow]](), dict[str, float]()
    for row in sorted(rows, key=lambda row: row.onset):
        if row.onset < latest.get(row.trial_type, -math.inf) - 1e-3:
            overlapping.setdefault(row.trial_type, []).append(row)
        end = row.onset + row.duration
        latest[row.trial_type] = max(end, latest.get(row.trial_type, -math.inf))
    for name, events in overlapping.items():
        findings.note(
            path,
            f"events of trial type {name!r} overlap with earlier events of the same type"
            f" ({len(events)} in total, the first in line {events[0].line}). The modeled responses"
            " are summed.",
        )


def _row(
    path: Path, line: int, record: Mapping[str, str | None], findings: Findings
) -> _EventRow | None:
    """Parse a row of the table; only the first three invalid rows become problems."""
    onset, duration = parse_seconds(record["onset"]), parse_seconds(record["duration"])
    name = (record["trial_type"] or "").strip()
    fix = ""
    if is_invalid := bool(list_modeled_types([name])) and (
        onset is None or duration is None or duration < 0
    ):
        reason = (
            f"the onset and duration in line {line} must be times in seconds, but are"
            f" {record['onset']!r} and {record['duration']!r}"
        )
        fix = "Specify both values in seconds; use a duration of 0 for brief events."
    if fix and len(findings.problems) < 3:
        findings.add_problem(path, reason, fix)
    return (
        None
        if is_invalid
        else _EventRow(line=line, onset=onset or 0.0, duration=duration or 0.0, trial_type=name)
    )


def order_types(types: Sequence[str], order: Sequence[str]) -> tuple[str, ...]:
    """Return trial types in the order shared by the data set, then unknown types by name."""
    present, shared = set(types), set(order)
    return (
        *(name for name in order if name in present),
        *sorted(name for name in types if name not in shared),
    )
