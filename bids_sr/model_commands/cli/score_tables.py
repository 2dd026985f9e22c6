"""Tables of scores: rows as TSV, and their comparison across participants."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from bids_sr.boilerplate import data_of
from bids_sr.cli.console import table_text
from bids_sr.io.atomic_files import write_json, write_text
from bids_sr.model_commands.method_scores import (
    Score,
    ScoreRow,
    average_scores,
    compare_groups,
    compare_models,
    compare_pairs,
    summarize,
)

SCORES = ("psnr", "ssim", "rmse", "mae", "nmse", "nmse_voxel", "resolution_mm")
"""Columns that are summarized across participants."""
_TESTED_METRICS = SCORES[:-1]
_PRINTED_METRICS = ("psnr", "ssim", "rmse", "nmse")
MISSING = "n/a"
"""Cell of an undefined value."""


def sort_by_psnr(rows: Sequence[ScoreRow]) -> list[ScoreRow]:
    """Return rows in descending order of PSNR."""
    return sorted(rows, key=lambda row: -float(row["psnr"]))


def write_table(
    file: Path,
    columns: str,
    rows: Sequence[ScoreRow],
    metadata: Mapping[str, object] | None = None,
) -> None:
    """Write rows as TSV, and a JSON file that describes the columns.

    `columns` is an entry of ``columns.json``, and `metadata` contains further entries of the JSON
    file.
    """
    descriptions = data_of("columns.json")[columns]
    lines = [
        list(descriptions),
        *([cell_text(row[name]) for name in descriptions] for row in rows),
    ]
    write_json(file.with_suffix(".json"), {**descriptions, **(metadata or {})})
    write_text(file, "".join("\t".join(line) + "\n" for line in lines))


def cell_text(value: str | float) -> str:
    """Return a cell as text: numbers with six significant digits, n/a for NaN."""
    if isinstance(value, str):
        return value
    return MISSING if math.isnan(value) else f"{value:.6g}"


def make_sibling_path(out: Path, suffix: str) -> Path:
    """Return a file next to a table, such as ``table_summary.tsv`` next to ``table.tsv``."""
    stem = out.name.removesuffix(out.suffix) if out.suffix == ".tsv" else out.name
    return out.with_name(f"{stem}_{suffix}")


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


_SUMMARY = ("models_summary", "Participants")
_TESTS = ("models_tests", "Paired tests")
_ANOVA = ("models_anova", "Welch's analysis of variance")
# ending of the file name of each table, by its columns and title
_FILE_ENDINGS = {_SUMMARY: "summary.tsv", _TESTS: "tests.tsv", _ANOVA: "anova.tsv"}


def compare_rows(
    rows: Sequence[ScoreRow],
    methods: Sequence[str],
    group_of_participant: Mapping[str, str],
    out: Path | None,
) -> dict[tuple[str, str], list[ScoreRow]]:
    """Summarize and test scores across participants, print the summary and write the tables.

    Parameters
    ----------
    rows : Sequence[ScoreRow]
        One row per image and method, with the columns of `SCORES`, ``name`` and ``participant``.
    methods : Sequence[str]
        Names of the methods to compare with each other and with interpolations.
    group_of_participant : Mapping[str, str]
        Group of each participant; empty if there are no groups.
    out : Path | None
        Table of the images; further tables are written next to it. If None, the summary is only
        printed.

    Returns
    -------
    dict[tuple[str, str], list[ScoreRow]]
        Rows of the non-empty tables by their columns and title.
    """
    scores = average_scores(
        Score(
            name=str(row["name"]),
            participant=str(row["participant"]),
            metric=metric,
            value=math.nan if row[metric] == MISSING else float(row[metric]),
        )
        for metric in SCORES
        for row in rows
    )
    tested_scores = {metric: scores[metric] for metric in _TESTED_METRICS}
    tables = {
        _SUMMARY: summarize(scores),
        _TESTS: compare_pairs(tested_scores, methods),
        _ANOVA: compare_models(tested_scores, methods)
        + compare_groups(tested_scores, group_of_participant),
    }
    _print_summary(tables[_SUMMARY])
    tables = {key: table_rows for key, table_rows in tables.items() if table_rows}
    if out is not None:
        for key, table_rows in tables.items():
            columns, title = key
            file = make_sibling_path(out, _FILE_ENDINGS[key])
            write_table(file, columns, table_rows)
            print(f"{title if key == _ANOVA else title.lower()}: {file}")
    return tables


def _print_summary(rows: Sequence[ScoreRow]) -> None:
    """Print mean, SD and confidence interval across participants, sorted by PSNR."""
    cells = {(row["name"], row["metric"]): _format_mean(row) for row in rows}
    psnr_rows = sorted(
        (row for row in rows if row["metric"] == "psnr"), key=lambda row: -float(row["mean"])
    )
    n_participants = psnr_rows[0]["n"]
    print(f"Mean ± SD across {n_participants} participants [95 % confidence interval of the mean]")
    names = [str(row["name"]) for row in psnr_rows]
    lines = [[name, *(cells[name, metric] for metric in _PRINTED_METRICS)] for name in names]
    print(table_text([("name", *_PRINTED_METRICS), *lines]))


def _format_mean(row: ScoreRow) -> str:
    """Return mean, SD and interval of a summary row as text."""
    mean, sd, lower, upper = (float(row[key]) for key in ("mean", "sd", "lower", "upper"))
    spread_text = "" if math.isnan(sd) else f" ± {sd:.4g} [{lower:.5g}, {upper:.5g}]"
    return f"{mean:.5g}{spread_text}"
