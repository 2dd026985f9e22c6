"""Events tables of BOLD runs: read, and checked against the length of the run."""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from bids_sr.bids import Findings
from bids_sr.frozen import frozen
from bids_sr.glm.contrasts import ALL, ALL_TYPE, NO_TIME, UNNAMED, modeled_types, seconds
from bids_sr.io.atomic_files import read_text
from bids_sr.io.tables import TABLE_ERRORS, read_rows

_MIN_ONSET = -24.0  # s; the hemodynamic response of anything that ended before has faded
_ASTRAY_S = 3600.0  # so far from the run no event can lie that was meant for it
# share of events after the end of the run beyond which the table is not that of the run
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
class _Row:
    line: int
    onset: float
    duration: float
    trial_type: str


def check_events(
    table: Path, bold: Path, duration: float | None, findings: Findings
) -> tuple[str, ...]:
    """Return the modeled trial types of a run in order of appearance; empty with a problem.

    `duration`: of the run (s), against which events are checked; None where it is not known.
    """
    misfits = Findings()
    rows = _read(table, misfits)
    types = modeled_types(row.trial_type for row in rows)
    if ALL in types and len(types) > 1:
        misfits.tell(
            table,
            f"the trial type {ALL!r} is mapped as contrast {ALL_TYPE}, because contrast {ALL} is"
            " the mean of all trial types.",
        )
    if not misfits.problems and not types:
        reason = (
            "the events table contains no trial type to model: all rows are rest periods or lack"
            " an onset or duration"
        )
        misfits.refuse(table, reason, f"{_WHERE}.")
    if duration is not None:
        known = set(types)
        modeled = [row for row in rows if row.trial_type in known]
        types = _against_length(modeled, types, table, bold, duration, misfits)
    findings.add_all(misfits)
    return () if misfits.problems else types


def warn_of_alike_types(types: Mapping[Path, Sequence[str]], findings: Findings) -> None:
    """Warn of trial types, in one run or in several, whose names look or read alike.

    They differ in case, in spaces, in invisible characters, or in how Unicode composes an accent.

    `types`: modeled trial types by BOLD file.
    """
    spellings: dict[str, dict[str, Path]] = {}
    for bold, names in types.items():
        for name in names:
            spellings.setdefault(_plain(name), {}).setdefault(name, bold)
    for group in spellings.values():
        if len(group) > 1:
            written = ", ".join(sorted(map(ascii, group)))
            findings.warn(
                next(iter(group.values())),
                f"the trial types {written} differ only in case, spaces, invisible characters or"
                " Unicode representation and are modeled as different conditions. If they are"
                " the same condition, correct the events tables.",
                code="events",
            )


def _plain(name: str) -> str:
    """Return a name without case, spaces, and invisible characters, accents in one form."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    invisible = ("Cc", "Cf", "Zs")
    return "".join(one for one in folded if unicodedata.category(one) not in invisible)


def _against_length(
    rows: Sequence[_Row],
    types: tuple[str, ...],
    table: Path,
    bold: Path,
    duration: float,
    findings: Findings,
) -> tuple[str, ...]:
    """Types with events in the run, of which the duration (s) is known."""
    astray = [
        row
        for row in rows
        if row.onset < -_ASTRAY_S or row.onset + row.duration > duration + _ASTRAY_S
    ]
    if astray:
        findings.refuse(
            table,
            "the events table contains events more than one hour before the start or after the end"
            f" of {bold.name} ({len(astray)} in total, the first with an onset of"
            f" {astray[0].onset:g} s and a duration of {astray[0].duration:g} s in line"
            f" {astray[0].line})",
            "Check that onsets and durations are in seconds and that onsets are relative to the"
            " first volume.",
        )
    late = [row for row in rows if row.onset >= duration]
    if late:
        what = (
            f"the events table contains events that begin after the end of {bold.name} at"
            f" {duration:g} s ({len(late)} of {len(rows)}, the first in line {late[0].line}:"
            f" {late[0].trial_type!r} at {late[0].onset:g} s)"
        )
        if len(late) > _MOST_LATE * len(rows):
            fix = (
                "Check that onsets are in seconds relative to the first volume, that the events"
                " table belongs to this run and that the series is complete."
            )
            findings.refuse(table, what, fix)
        else:
            findings.tell(table, f"{what}. These events are not modeled.")
    over = [row for row in rows if row.onset < duration < row.onset + row.duration - 1e-3]
    if over:
        many = "1 event" if len(over) == 1 else f"{len(over)} events"
        text = (
            f"durations that extend beyond the end of the run ({duration:g} s) will be truncated"
            f" ({many})."
        )
        findings.tell(table, text)
    counting = {
        row.trial_type
        for row in rows
        if row.onset + row.duration > _MIN_ONSET and row.onset < duration
    }
    after = {row.trial_type for row in late}
    for name in types:
        if name not in counting:
            where = "after the end" if name in after else "more than 24 s before the start"
            findings.tell(
                table,
                (
                    f"the trial type {name!r} is not modeled because all of its events are"
                    f" {where} of the run."
                ),
            )
    if types and not counting and len(late) <= _MOST_LATE * len(rows):
        findings.refuse(
            table,
            "all events are more than 24 s before the first volume",
            "Check that onsets are in seconds relative to the first volume.",
        )
    return tuple(name for name in types if name in counting)


def _read(path: Path, findings: Findings) -> list[_Row]:
    if not findings.fetched(path):
        return []
    try:
        columns, records = read_rows(path, _MOST_EVENTS + 1)
    except TABLE_ERRORS as error:
        findings.refuse(
            path,
            f"the file cannot be read as a table ({error})",
            "Save the table as tab-separated UTF-8 text.",
        )
        return []
    missing = [name for name in ("onset", "duration") if name not in columns]
    if missing:
        have = ", ".join(str(name) for name in columns) or "none"
        reason = f"required columns are missing: {', '.join(missing)} (existing columns: {have})"
        fix = f"{_WHERE}. Columns must be separated by tabs."
        findings.refuse(path, reason, fix if columns else f"{fix} {_IGNORE}")
        return []
    if len(records) > _MOST_EVENTS:
        fix = "Check that the file is an events table rather than a physiological recording."
        findings.refuse(
            path,
            f"the events table has more than {_MOST_EVENTS} rows, which is the maximum per run",
            fix,
        )
        return []
    if not records:
        findings.refuse(
            path,
            "the events table has no rows",
            f"{_WHERE}. Each event must have its own row. {_IGNORE}",
        )
    if "trial_type" not in columns:
        findings.tell(
            path,
            f"the optional column trial_type is missing, so all events are named {UNNAMED!r}.",
        )
        for _, record in records:
            record["trial_type"] = UNNAMED
    timeless = {
        line
        for line, record in records
        if modeled_types([record["trial_type"]])
        and any((record[name] or "").strip().lower() in NO_TIME for name in ("onset", "duration"))
    }
    if timeless:
        findings.tell(
            path,
            f"{len(timeless)} of {len(records)} events are not modeled because their onset or"
            f" duration is n/a (first event: line {min(timeless)}).",
        )
        records = [(line, record) for line, record in records if line not in timeless]
    rows = [
        row for line, record in records if (row := _row(path, line, record, findings)) is not None
    ]
    rows = _without_repetitions(rows, path, findings)
    if brief := sum(row.duration == 0 for row in rows):
        of = "all" if brief == len(rows) else f"{brief} of {len(rows)}"
        findings.tell(
            path,
            (
                f"{of} events have zero duration and are modeled as impulses with an area of 1 s,"
                " as in SPM."
            ),
        )
    if "\0" in read_text(path, encoding="utf-8-sig"):
        fix = "Save the table as plain UTF-8 text."
        findings.refuse(
            path,
            (
                "the events table contains NUL bytes, which some programs interpret as the end"
                " of a name"
            ),
            fix,
        )
    wide = next((line for line, record in records if "" in record), None)
    if wide is not None:
        fix = "Each line must have the same number of cells as the header line."
        findings.refuse(path, f"line {wide} has more cells than the header line", fix)
    return rows


def _without_repetitions(rows: Sequence[_Row], path: Path, findings: Findings) -> list[_Row]:
    """Drop events that are listed twice, and report them and overlapping events of one type."""
    unique = {(row.onset, row.duration, row.trial_type): row for row in reversed(rows)}
    kept = [row for row in rows if unique[row.onset, row.duration, row.trial_type] is row]
    modeled = set(modeled_types(row.trial_type for row in rows))
    lines = {row.line for row in kept}
    repeated = [row for row in rows if row.trial_type in modeled and row.line not in lines]
    if repeated:
        findings.tell(
            path,
            f"{len(repeated)} of {len(rows)} events have the same onset, duration and trial_type"
            f" as another event (first event: line {repeated[0].line}). Each event is modeled"
            " only once.",
        )
    _tell_overlaps([row for row in kept if row.trial_type in modeled], path, findings)
    return kept


def _tell_overlaps(rows: Sequence[_Row], path: Path, findings: Findings) -> None:
    """Report events that begin before an earlier event of their type has ended."""
    overlapping, latest = dict[str, list[_Row]](), dict[str, float]()
    for row in sorted(rows, key=lambda row: row.onset):
        if row.onset < latest.get(row.trial_type, -math.inf) - 1e-3:
            overlapping.setdefault(row.trial_type, []).append(row)
        end = row.onset + row.duration
        latest[row.trial_type] = max(end, latest.get(row.trial_type, -math.inf))
    for name, events in overlapping.items():
        findings.tell(
            path,
            f"events of trial type {name!r} overlap with earlier events of the same type"
            f" ({len(events)} in total, the first in line {events[0].line}). The modeled responses"
            " are summed.",
        )


def _row(
    path: Path, line: int, record: Mapping[str, str | None], findings: Findings
) -> _Row | None:
    """Parse a row of the table; only the first three unsound rows become problems."""
    onset, duration = seconds(record["onset"]), seconds(record["duration"])
    name = (record["trial_type"] or "").strip()
    fix = ""
    if unsound := bool(modeled_types([name])) and (
        onset is None or duration is None or duration < 0
    ):
        reason = (
            f"the onset and duration in line {line} must be times in seconds, but are"
            f" {record['onset']!r} and {record['duration']!r}"
        )
        fix = "Specify both values in seconds; use a duration of 0 for brief events."
    if fix and len(findings.problems) < 3:
        findings.refuse(path, reason, fix)
    return (
        None
        if unsound
        else _Row(line=line, onset=onset or 0.0, duration=duration or 0.0, trial_type=name)
    )


def ordered(types: Sequence[str], order: Sequence[str]) -> tuple[str, ...]:
    """Return types in the order that the data set shares; unknown ones come last, by name."""
    own, shared = set(types), set(order)
    return (
        *(name for name in order if name in own),
        *sorted(name for name in types if name not in shared),
    )
