"""Months between the sessions of a participant, from sessions or scans tables.

Times are read from the column ``acq_time`` of ``sub-…_sessions.tsv``, or, for sessions without a
time, of ``…_scans.tsv``.
Dates that were shifted for anonymization keep their differences.
"""

import logging
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from bids_sr.io.notices import UsageError
from bids_sr.io.tables import TABLE_ERRORS, is_missing, read_rows
from bids_sr.survey.bids.content import require_content

_LOGGER = logging.getLogger(__name__)
ACQ_TIME = "acq_time"
_SECONDS_PER_DAY = 86_400
_LONGEST_DAYS = 14_610  # between sessions of a participant: 40 years, the age of MRI
_DAYS_PER_MONTH = 365.25 / 12
_TABLE_FIX = "correct the table; it is used to compute the number of months between sessions"


def months_of_sessions(
    bids_dir: Path, sessions: Mapping[str, Iterable[str]], column: str | None = None
) -> dict[tuple[str, str], float]:
    """Return the months since a participant's first session, by participant and session label.

    Sessions without a time are omitted. Month 0 may be missing for participants whose first
    session is not among `sessions`. `sessions` are session labels by participant (``sub-…``).
    `column` is the numeric column of the sessions tables with the months; None for dates in
    `ACQ_TIME`. Raises `UsageError` if a table cannot be read, no table has the column, or a cell
    is not a number or a date.
    """
    months: dict[tuple[str, str], float] = {}
    existing_columns: set[str] = set()
    for participant, labels in sessions.items():
        table = bids_dir / participant / f"{participant}_sessions.tsv"
        cells, columns = _read_column(table, column or ACQ_TIME)
        existing_columns |= columns
        if column is not None:
            session_months = {
                label: _parse_months(table, column, cell) for label, cell in cells.items()
            }
        else:
            dates = {label: _parse_date(table, cell) for label, cell in cells.items()}
            scan_dates = _read_scan_dates(bids_dir / participant, labels)
            session_months = _count_months(table, _join_dates(table, dates, scan_dates))
        months |= {
            (participant, label): session_months[label]
            for label in labels
            if label in session_months
        }
    if column is not None and not months:
        columns_text = ", ".join(sorted(existing_columns - {"session_id"})) or "none"
        raise UsageError(
            f"--set anat.months={column} does not match a column in any"
            " sub-*/sub-*_sessions.tsv file",
            f"available columns: {columns_text}",
            "choose one of these columns, or omit the option to use the dates in acq_time",
        )
    return months


def _read_column(table: Path, column: str) -> tuple[dict[str, str], set[str]]:
    """Return the non-empty cells of a column by session label, and all columns of the table."""
    columns, rows = _read_table_rows(table)
    if rows and "session_id" not in columns:
        raise UsageError(
            str(table),
            f"the required column session_id is missing (existing columns: {', '.join(columns)})",
            "Save the table as tab-separated UTF-8 text with the column session_id.",
        )
    cells: dict[str, str] = {}
    for row in rows:
        label, cell = (row.get("session_id") or "").removeprefix("ses-"), row.get(column)
        if cell is None or is_missing(cell):
            continue
        if cells.setdefault(label, cell) != cell:
            raise UsageError(
                str(table),
                f"{column} of ses-{label} is {cells[label]!r} in one row and {cell!r} in another",
                "Delete the row that is wrong.",
            )
    return cells, set(columns)


def _parse_months(table: Path, column: str, cell: str) -> float:
    """Return the number in a cell, or raise `UsageError`."""
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(
            f"{table}: column {column} has {cell!r}",
            "the months since baseline must be numbers",
            "correct the table, or choose another column with --set anat.months=COLUMN",
        )
    return value


def _join_dates(
    table: Path, dates: Mapping[str, datetime], scan_dates: Mapping[str, datetime]
) -> dict[str, datetime]:
    """Return the dates of both tables by label, or raise `UsageError` if they contradict."""
    for label in dates.keys() & scan_dates.keys():
        if abs((dates[label] - scan_dates[label]).total_seconds()) > 2 * _SECONDS_PER_DAY:
            raise UsageError(
                str(table),
                f"ses-{label} was acquired on {dates[label].date()} according to this table, but"
                f" on {scan_dates[label].date()} according to its scans table",
                _TABLE_FIX,
            )
    return {**scan_dates, **dates}


def _count_months(table: Path, dates: Mapping[str, datetime]) -> dict[str, float]:
    """Return the months since the earliest date, by label.

    Equal dates are reported, because they can be placeholders. Raises `UsageError` if dates are
    further apart than MRI is old, such as 1900-01-01 or 1970-01-01 as a placeholder.
    """
    if not dates:
        return {}
    first, last = min(dates.values()), max(dates.values())
    labels_by_date: dict[datetime, list[str]] = {}
    for label, date in dates.items():
        labels_by_date.setdefault(date, []).append(f"ses-{label}")
    for date, labels in labels_by_date.items():
        if len(labels) > 1:
            text = "%s: %s have the same date (%s). If it is a placeholder, write n/a."
            _LOGGER.warning(text, table, ", ".join(labels), date.date())
    if (last - first).days > _LONGEST_DAYS:
        raise UsageError(
            str(table),
            f"the dates of sessions are from {first.date()} to {last.date()}, so one is probably a"
            " placeholder",
            "Write n/a for an unknown date.",
        )
    return {
        label: (date - first).total_seconds() / _SECONDS_PER_DAY / _DAYS_PER_MONTH
        for label, date in dates.items()
    }


def _read_scan_dates(folder: Path, labels: Iterable[str]) -> dict[str, datetime]:
    """Return the date of the first scan of each session, from its ``scans.tsv``."""
    dates: dict[str, datetime] = {}
    for label in labels:
        table = folder / f"ses-{label}" / f"{folder.name}_ses-{label}_scans.tsv"
        _, rows = _read_table_rows(table)
        scan_dates = [
            _parse_date(table, cell)
            for row in rows
            if (cell := row.get(ACQ_TIME)) is not None and not is_missing(cell)
        ]
        if scan_dates:
            dates[label] = min(scan_dates)
    return dates


def _read_table_rows(table: Path) -> tuple[list[str], list[dict[str, str | None]]]:
    """Return columns and rows of a table, empty if it does not exist."""
    require_content(table)
    try:
        columns, rows = read_rows(table)
    except FileNotFoundError:
        return [], []
    except TABLE_ERRORS as error:
        raise UsageError(f"{table} cannot be read", str(error), _TABLE_FIX) from error
    return columns, [row for _, row in rows]


def _parse_date(table: Path, cell: str) -> datetime:
    """Return the date in a cell (UTC unless it has a time zone), or raise `UsageError`."""
    try:
        moment = datetime.fromisoformat(cell)
    except ValueError as error:
        raise UsageError(
            f"{table}: {ACQ_TIME} is {cell!r}",
            "dates must be written as 2024-05-17 or 2024-05-17T14:30:00",
            _TABLE_FIX,
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
