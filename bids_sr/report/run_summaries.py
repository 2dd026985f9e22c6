"""Rows of ``index.html``, one per run, from the files of the run."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import cast

from bids_sr.engine.metric_rows import MetricRow, VerdictFacts, parse_cell, read_frame, rows_of
from bids_sr.engine.number_text import number
from bids_sr.evaluation.evidence import APPLIED
from bids_sr.evaluation.motion_summary import MOVED_MM, motion_summary
from bids_sr.evaluation.run_evidence import read_stored_evidence
from bids_sr.evaluation.verdict_lines import verdict_line
from bids_sr.io.atomic_files import read_json
from bids_sr.io.tables import read_column
from bids_sr.report.run_checks import list_checks
from bids_sr.report.stored_verdicts import VERDICT_SUFFIX

TABLE_SUFFIX = "_desc-evaluation_metrics.tsv"
CONFOUNDS_SUFFIX, REGISTRATION_SUFFIX = (
    "_desc-confounds_timeseries.tsv",
    "_desc-registration_metrics.json",
)
NOT_EVALUATED = "No run was evaluated."
_MEAN_MOTION_COLUMN = "mean FD (mm)"
_MOVED_COLUMN = f"volumes with FD > {MOVED_MM:g} mm"
COLUMN_HEADS: Mapping[str, str] = {
    "participant": "",
    "run": "",
    "not applied": "zero filled",
    _MEAN_MOTION_COLUMN: "",
    _MOVED_COLUMN: "",
    "failed checks": "",
    "verdict": "",
}
"""Columns of the table with their second line; columns without values are omitted."""
PERMANENT_COLUMNS = frozenset({"participant", "run", "verdict"})
"""Columns that are never omitted."""
NUMERIC_COLUMNS = frozenset({_MEAN_MOTION_COLUMN, _MOVED_COLUMN})
"""Columns of plain numbers."""
RunSummary = dict[str, str]
"""Cells of one run by column head; cells without a value are missing or empty."""


def read_run_summary(verdict_file: Path, label: str) -> RunSummary:
    """Return the index row of a run; cells are empty if files are missing or truncated."""
    stem = verdict_file.name.removesuffix(VERDICT_SUFFIX)
    return _read_cached_summary(
        stem, label, tuple(zip(_list_files(verdict_file), read_times(verdict_file), strict=True))
    )


@lru_cache(maxsize=65536)
def _read_cached_summary(
    stem: str, label: str, files_with_times: tuple[tuple[Path, int], ...]
) -> RunSummary:
    """Return `read_run_summary` from a cache, unless its files have changed.

    The cache saves time because the index page is written until its content is stable.
    """
    verdict_file, table_file, confounds_file, registration_file = (
        file for file, _ in files_with_times
    )
    verdict = _read_verdict(verdict_file)
    rows = _read_rows(table_file)
    try:
        displacement = list(map(parse_cell, read_column(confounds_file, "framewise_displacement")))
    except ValueError:
        displacement = []
    evidence = read_stored_evidence(verdict, rows)
    checks = list_checks(displacement, read_json(registration_file), evidence)
    failed_checks = [check.text for check in checks if not check.passed]
    motion = motion_summary(displacement)
    mean_text, moved_text = (f"{motion[0]:.2f}", number(motion[1], ".0%")) if motion else ("", "")
    return {
        "run": strip_participant(stem, label) + (" (all runs)" if verdict.get("runs") else ""),
        "not applied": ", ".join(evidence.not_applied),
        _MEAN_MOTION_COLUMN: mean_text,
        _MOVED_COLUMN: moved_text,
        "failed checks": "; ".join(failed_checks) or ("none" if checks else ""),
        "verdict": verdict_line(verdict),
    }


def _read_rows(file: Path) -> list[MetricRow]:
    """Return only those rows of a metrics table that the index page needs."""
    try:
        table = read_frame(file)
    except (OSError, ValueError):
        return []
    return rows_of(
        table[(table.band == "beyond") | table.statistic.str.startswith(("flag_", APPLIED))]
    )


def strip_participant(run: str, label: str) -> str:
    """Return the name of a run (``sub-01_task-tap``) without its participant."""
    return run.removeprefix(f"sub-{label}_")


def read_times(verdict_file: Path) -> tuple[int, ...]:
    """Return modification times (ns) of the verdict, evaluation, confounds and registration files.

    The time of a missing file is 0.
    """
    return tuple(_get_modification_time(file) for file in _list_files(verdict_file))


def _get_modification_time(file: Path) -> int:
    """Return the modification time of a file (ns), or 0 if it is missing."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def _list_files(verdict_file: Path) -> list[Path]:
    """Return the files of a run that the index page is made from, which may be missing."""
    stem = verdict_file.name.removesuffix(VERDICT_SUFFIX)
    return [
        verdict_file.with_name(stem + suffix)
        for suffix in (VERDICT_SUFFIX, TABLE_SUFFIX, CONFOUNDS_SUFFIX, REGISTRATION_SUFFIX)
    ]


def _read_verdict(file: Path) -> VerdictFacts:
    """Return the verdict of a run; {} if the file cannot be read."""
    return cast("VerdictFacts", read_json(file))
