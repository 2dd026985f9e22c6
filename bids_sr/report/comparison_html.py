"""Table of comparisons on a page, with one row per comparison."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from bids_sr.engine.number_text import estimate, number, p_value
from bids_sr.evaluation.statistics.comparison_table import describe_columns
from bids_sr.evaluation.statistics.wilcoxon import ALPHA, LOWEST_NOMINAL_LEVEL
from bids_sr.report.evaluation_rows import series_text
from bids_sr.report.markup import render, table


def comparisons_html(
    columns: str,
    rows: Sequence[Any],
    caption: str,
    questions: Mapping[str, Sequence[str]] | None = None,
) -> Markup:
    """Return a table of comparisons (with columns as attributes); "" if there are no rows.

    `columns` is the entry of ``columns.json`` for the table; the page shows no other columns. If
    the comparisons concern different quantities, `questions` are the cells that precede the cells
    of all rows, by the head of their column.
    """
    available = describe_columns(columns)
    cells = {head: cell for (head, name), cell in _CELLS.items() if name in available}
    leading = questions or {}
    cell_rows = [
        [*(texts[index] for texts in leading.values()), *(cell(row) for cell in cells.values())]
        for index, row in enumerate(rows)
    ]
    return table(caption, [*leading, *cells], cell_rows, names=len(leading) + 1)


def quartiles_text(first: float, median: float, third: float) -> str:
    """Format a median with its quartiles, *not defined* if the median is NaN or infinite."""
    if not math.isfinite(median):
        return "not defined"
    return f"{number(median, '.3g')} ({number(first, '.3g')}–{number(third, '.3g')})"


def _interval_html(row: Any) -> str:
    """Return the difference with its interval, and the level of the interval if it is low."""
    if not row.n:
        return "–"
    text = estimate(row.difference, row.lower, row.upper, "+.3g")
    if row.level < LOWEST_NOMINAL_LEVEL:
        return Markup("{} <small>{:.0f} %</small>").format(text, 100 * row.level)
    return text


def p_html(p: float, smallest: float, method: str) -> str:
    """Return a p value, with the smallest possible p value if it is not below `ALPHA`."""
    if method == "identical":
        return method
    note = f"smallest possible: {p_value(smallest, '.3g')}" if smallest >= ALPHA else ""
    return render("value", p_value(p), note)


_CELLS: Mapping[tuple[str, str], Callable[[Any], Any]] = {
    ("series", "series"): lambda row: series_text(row.series),
    ("reference", "minus"): lambda row: series_text(row.minus),
    ("n", "n"): lambda row: row.n,
    ("median (IQR)", "median_series"): lambda row: quartiles_text(
        row.q1_series, row.median_series, row.q3_series
    ),
    ("reference, median (IQR)", "median_minus"): lambda row: quartiles_text(
        row.q1_minus, row.median_minus, row.q3_minus
    ),
    ("difference [interval]", "difference"): _interval_html,
    ("effect size", "effect_size"): lambda row: number(row.effect_size, "+.3g"),
    ("p", "p_wilcoxon"): lambda row: (
        p_html(row.p_wilcoxon, row.p_smallest, row.method) if row.n else "–"
    ),
    ("p, Holm", "p_holm"): lambda row: p_value(row.p_holm),
    ("FDR", "p_fdr"): lambda row: p_value(row.p_fdr),
    ("mean difference [interval]", "mean_difference"): lambda row: estimate(
        row.mean_difference, row.mean_lower, row.mean_upper, "+.3g"
    ),
    ("p, t test", "p_t_holm"): lambda row: p_value(row.p_t),
    ("p, t test, Holm", "p_t_holm"): lambda row: p_value(row.p_t_holm),
    ("p, equivalence", "p_equivalence_holm"): lambda row: p_value(row.p_equivalence_holm),
    ("result", "word"): lambda row: row.word,
    ("note", "note"): lambda row: row.note,
}
"""Cell of a row, by the head of its column and the column of the table that it requires."""
