"""One row of ``index.html`` for each run, read from its files by the functions of the first screen of its report."""

import csv
import json
import math
from dataclasses import fields
from functools import lru_cache
from pathlib import Path

from bids_sr.frozen import frozen
from bids_sr.io.json_values import texts
from bids_sr.metrics.long_tables import MISSING, MetricRow, read_frame, rows_of
from bids_sr.reports.tables import evaluation_rows as pick
from bids_sr.reports.text.overview_text import (
    WORSE,
    RunFacts,
    flag_chips,
    motion_chips,
    registration_chips,
)
from bids_sr.stats.evaluation.evidence import APPLIED, Table, below_zero, best_table, stands_for
from bids_sr.stats.evaluation.tested_share import percent_text
from bids_sr.stats.evaluation.verdict_text import MOVED_MM, compared_lines, moved, verdict_line

VERDICT, TABLE = "_desc-verdict_metrics.json", "_desc-evaluation_metrics.tsv"
CONFOUNDS, REGISTRATION = "_desc-confounds_timeseries.tsv", "_desc-registration_metrics.json"
NOT_EVALUATED = "No run was evaluated."
HEADS: tuple[tuple[str, str], ...] = (
    ("participant", ""),
    ("run", ""),
    ("not applied", "zero filling instead"),
    ("explained variance", "beyond the acquired Nyquist limit"),
    ("mean FD (mm)", ""),
    (f"volumes with FD > {MOVED_MM:g} mm", ""),
    ("warnings", ""),
    ("verdict", ""),
)
"""Columns of the table, with what they mean; those that are empty in all rows are left out."""
SHOWN = frozenset({"participant", "run", "verdict"})
"""Columns that are never left out."""
NUMBERS = frozenset({4, 5})
"""Columns of plain numbers."""
READING = (
    "Explained variance: of the best method of each run in active voxels, with its 95 % interval; it needs a "
    "high-resolution reference."
)


@frozen
class RunSummary:
    """Cells of one run, in the order of `HEADS` without the participant; "" where there is nothing to tell."""

    run: str
    not_applied: str = ""
    accuracy: str = ""
    mean_fd: str = ""
    moved: str = ""
    warnings: str = ""
    verdict: str

    def cells(self) -> list[str]:
        """All of them."""
        return [getattr(self, each.name) for each in fields(self)]


def run_summary(verdict_file: Path, label: str) -> RunSummary:
    """The row of the run that a verdict belongs to; files that are missing or cut short leave their cells empty."""
    stem = verdict_file.name.removesuffix(VERDICT)
    return _summary(stem, label, tuple(zip(_files(verdict_file), stamps_of(verdict_file), strict=True)))


def name_below(run: str, label: str) -> str:
    """Name of a run (``sub-01_task-tap``) without its participant."""
    return run.removeprefix(f"sub-{label}_")


def compared_of(verdict_file: Path) -> list[str]:
    """What the verdict of a run says of series of other programs, a line each."""
    return compared_lines(_json(verdict_file))


def stamps_of(verdict_file: Path) -> tuple[int, ...]:
    """When each file of a row was changed (ns); 0 for one that is missing."""
    return tuple(_stamp(file) for file in _files(verdict_file))


def _files(verdict_file: Path) -> list[Path]:
    stem = verdict_file.name.removesuffix(VERDICT)
    return [verdict_file.with_name(stem + suffix) for suffix in (VERDICT, TABLE, CONFOUNDS, REGISTRATION)]


def _stamp(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=65536)
def _summary(stem: str, label: str, stamped: tuple[tuple[Path, int], ...]) -> RunSummary:
    """As `run_summary`; read again only where a file has changed, as the page is written until nothing does."""
    verdict_file, table_file, confounds_file, registration_file = (file for file, _ in stamped)
    verdict, rows, displacement = _json(verdict_file), _rows(table_file), _displacement(confounds_file)
    run = RunFacts(name=stem, acquired_mm=(), made_mm=(), displacement=displacement)
    idle = texts(verdict.get("not_applied"))
    flags = [
        {"name": row.parts.figure, "series": row.series, "raised": row.value > 0}
        for row in rows
        if row.parts.family == "flag" and pick.known(row) and not stands_for(row.series, idle)
    ]
    table = best_table(rows, [row.series for row in rows if row.measure == APPLIED and row.value > 0])
    if table is not None and not table.shows_accuracy:
        table = None
    own = flag_chips([], flags, "" if table is not None else ", tested only one level down")
    checks = [*motion_chips(run), *registration_chips(_json(registration_file)), *own]
    failed = [chip.text for chip in checks if not chip.passed]
    motion = moved(displacement)
    return RunSummary(
        run=name_below(stem, label), verdict=verdict_line(verdict),
        accuracy="" if table is None else _accuracy(table, str(verdict.get("best", ""))),
        mean_fd=f"{motion[0]:.2f}" if motion else "",
        moved=percent_text(motion[1]) if motion else "",
        warnings="; ".join(failed) or ("none" if checks else ""), not_applied=", ".join(idle),
    )  # fmt: skip


def _accuracy(table: Table, best: str) -> str:
    row = table.level(best, table.lead)
    if row is None or not pick.known(row):
        return ""
    where = "" if table.lead.startswith("active") else f", {pick.region_text(table.lead)}"
    return f"{best} {_value(row, percent='_ev_' in row.measure)}{where}"


def _value(row: MetricRow, *, percent: bool) -> str:
    if percent and below_zero(row):
        return WORSE
    text = percent_text(row.value) if percent else f"r {pick.value_text(row.value)}"
    if not row.has_interval:
        return text
    ends = [percent_text(end).removesuffix(" %") if percent else pick.value_text(end) for end in (row.lower, row.upper)]
    return f"{text} [{ends[0]}, {ends[1]}]".replace(" ", "\N{NO-BREAK SPACE}")


def _json(file: Path) -> dict[str, object]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _rows(file: Path) -> list[MetricRow]:
    """Rows of the few measures that are shown, of the thousands of a table."""
    try:
        table = read_frame(file)
    except (OSError, ValueError):
        return []
    return rows_of(table[(table.band == "beyond") | table.statistic.str.startswith(("flag_", APPLIED))])


def _displacement(file: Path) -> list[float]:
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            cells = [line["framewise_displacement"] for line in csv.DictReader(stream, delimiter="\t")]
        return [math.nan if cell == MISSING else float(cell) for cell in cells]
    except (OSError, ValueError, KeyError, TypeError):
        return []
