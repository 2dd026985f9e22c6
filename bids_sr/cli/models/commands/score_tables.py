"""Tables of scores: rows as TSV, and their comparison across participants."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from bids_sr.cli.console import table_text
from bids_sr.cli.models.method_scores import (
    ScoreRow,
    average_scores,
    compare_groups,
    compare_models,
    compare_pairs,
    summarize,
)
from bids_sr.engine.metric_rows import MISSING
from bids_sr.evaluation.statistics.comparison_table import describe_columns, write_comparisons
from bids_sr.io.atomic_files import write_json, write_text

SCORES = ("psnr", "ssim", "rmse", "mae", "nmse", "nmse_voxel", "resolution_mm")
"""Columns that are summarized across participants."""
_TESTED_METRICS = SCORES[:-1]
_PRINTED_METRICS = ("psnr", "ssim", "rmse", "nmse")


def sort_by_psnr(rows: Sequence[ScoreRow]) -> list[ScoreRow]:
    """Return rows in descending order of PSNR."""
    return sorted(rows, key=lambda row: -float(row["psnr"]))


class ComparisonTable(NamedTuple):
    """Table of `compare_rows`: entry of ``columns.json``, title, and ending of the file name."""

    columns: str
    title: str
    file_ending: str


_SUMMARY = ComparisonTable("models_summary", "Participants", "summary.tsv")
TESTS = ComparisonTable("models_tests", "Paired tests", "tests.tsv")
_ANOVA = ComparisonTable("models_anova", "Welch's analysis of variance", "anova.tsv")


def compare_rows(
    rows: Sequence[ScoreRow],
    methods: Sequence[str],
    group_of_participant: Mapping[str, str],
    out: Path | None,
) -> dict[ComparisonTable, list[ScoreRow]]:
    """Summarize and test scores across participants, print the summary and write the tables.

    `rows` has one row per image and method, with the columns of `SCORES`, ``name`` and
    ``participant``. `methods` are compared with each other and with interpolations.
    `group_of_participant` is empty if there are no groups. `out` is the table of the images;
    further tables are written next to it. If None, the summary is only printed. Empty tables are
    not returned.
    """
    scores = average_scores(rows, SCORES)
    tested_scores = {metric: scores[metric] for metric in _TESTED_METRICS}
    rows_of_table = {
        _SUMMARY: summarize(scores),
        TESTS: compare_pairs(tested_scores, methods),
        _ANOVA: compare_models(tested_scores, methods)
        + compare_groups(tested_scores, group_of_participant),
    }
    _print_summary(rows_of_table[_SUMMARY])
    nonempty_tables = {
        table: table_rows for table, table_rows in rows_of_table.items() if table_rows
    }
    if out is not None:
        for table, table_rows in nonempty_tables.items():
            file = make_sibling_path(out, table.file_ending)
            if table == TESTS:
                write_comparisons(file, file.with_suffix(".json"), table.columns, table_rows)
            else:
                write_table(file, table.columns, table_rows)
            # the title of the analysis of variance begins with a proper name
            print(f"{table.title if table == _ANOVA else table.title.lower()}: {file}")
    return nonempty_tables


def _print_summary(rows: Sequence[ScoreRow]) -> None:
    """Print mean, SD and confidence interval across participants, sorted by PSNR."""
    cells = {(row["name"], row["metric"]): _format_mean(row) for row in rows}
    psnr_rows = [row for row in rows if row["metric"] == "psnr"]
    psnr_rows.sort(key=lambda row: -float(row["mean"]))
    n_participants = psnr_rows[0]["n"]
    print(f"Mean ± SD across {n_participants} participants [95 % confidence interval of the mean]")
    printed_rows = [
        [str(row["name"]), *(cells[row["name"], metric] for metric in _PRINTED_METRICS)]
        for row in psnr_rows
    ]
    print(table_text([("name", *_PRINTED_METRICS), *printed_rows]))


def _format_mean(row: ScoreRow) -> str:
    """Return mean, SD and interval of a summary row as text."""
    mean, sd, lower, upper = (float(row[key]) for key in ("mean", "sd", "lower", "upper"))
    spread_text = "" if math.isnan(sd) else f" ± {sd:.4g} [{lower:.5g}, {upper:.5g}]"
    return f"{mean:.5g}{spread_text}"


def make_sibling_path(out: Path, suffix: str) -> Path:
    """Return a file next to a table, such as ``table_summary.tsv`` next to ``table.tsv``."""
    stem = out.name.removesuffix(out.suffix) if out.suffix == ".tsv" else out.name
    return out.with_name(f"{stem}_{suffix}")


def write_table(
    file: Path,
    columns: str,
    rows: Sequence[ScoreRow],
    metadata: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Write rows as TSV, and a JSON file that describes the columns.

    `columns` is an entry of ``columns.json``, and `metadata` contains further entries of the JSON
    file.
    """
    descriptions = describe_columns(columns)
    lines = [[*descriptions], *([cell_text(row[name]) for name in descriptions] for row in rows)]
    write_json(file.with_suffix(".json"), {**descriptions, **metadata})
    write_text(file, "".join("\t".join(cells) + "\n" for cells in lines))


def cell_text(value: str | float) -> str:
    """Return a cell as text: numbers with six significant digits, n/a for NaN."""
    if isinstance(value, str):
        return value
    return MISSING if math.isnan(value) else f"{value:.6g}"


def explain_missing_tests(participants: Collection[str]) -> str:
    """Return why methods were not tested across participants, "" for two participants or more.

    >>> explain_missing_tests(["sub-01", "sub-02"])
    ''
    """
    if len(participants) > 1:
        return ""
    return (
        "Statistical tests and the analysis of variance were skipped because they require"
        f" at least two participants; only {min(participants)} was tested."
    )
