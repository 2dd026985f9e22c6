"""Tables of comparisons and the paper's region sizes on the page of the group."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup

from bids_sr.group import verdicts
from bids_sr.group.values import participants_by_series, quartiles
from bids_sr.metrics.number_text import number, p_value
from bids_sr.report.evaluation_rows import series_text
from bids_sr.report.markup import render, table
from bids_sr.series import BASELINES, MEASURED
from bids_sr.statistics.paired_tests import differences
from bids_sr.statistics.wilcoxon import ALPHA, signed_rank


class _PublishedRow(NamedTuple):
    """Row of the published table: sizes of both conditions and their Dice overlap."""

    name: str
    smoothing: str
    medians: tuple[str, str, str]  # with quartiles
    p_values: tuple[str, str, str]  # compared with the acquired series


# values published for 30 participants; the unit of the smoothing (sigma 1.5) is not reported and
# corresponds to 3.5 or 13.2 mm FWHM (see METHODS)
_PUBLISHED_ROWS = (
    _PublishedRow(
        "paper: acquired",
        "σ = 1.5",
        ("140.00 (64.75–184.00)", "128.50 (43.50–208.25)", ".590 (.408–.735)"),
        ("–", "–", "–"),
    ),
    _PublishedRow(
        "paper: srgan",
        "σ = 1.5",
        ("83.37 (42.31–119.68)", "87.00 (28.93–129.00)", ".490 (.361–.589)"),
        ("< .001", "< .001", ".00466"),
    ),
    _PublishedRow("paper: acquired", "0", ("–", "–", ".417 (.320–.575)"), ("–", "–", "–")),
    _PublishedRow("paper: srgan", "0", ("–", "–", ".355 (.238–.457)"), ("–", "–", "2.76e−6")),
)


def paper_sizes(values: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield tables of active-region sizes as in the paper, per task and pair of conditions.

    The contrast column contains the kind of value: the size of either condition, or the Dice
    overlap.
    """
    sizes = values[values["threshold"] == "quarter"]
    for _, task_sizes in sizes.groupby(["task", "variant"], sort=False):
        pairs = verdicts.list_condition_pairs(task_sizes["contrast"])
        is_dice = task_sizes["statistic"] == "dice"
        for pair in (name for name in task_sizes["contrast"][is_dice].unique() if name in pairs):
            titles = {name: f"size, {name}" for name in pairs[pair]} | {pair: "Dice"}
            is_listed = is_dice | (task_sizes["statistic"] == "size_acquired_voxels")
            listed_sizes = task_sizes[is_listed & task_sizes["contrast"].isin(titles)]
            panel = pd.Categorical(listed_sizes["contrast"].map(titles), list(titles.values()))
            yield listed_sizes.assign(contrast=panel)


def _quartiles_text(first: float, median: float, third: float) -> str:
    """Format a median with its quartiles, *not defined* if the median is NaN or infinite."""
    if not math.isfinite(median):
        return "not defined"
    return f"{number(median, '.3g')} ({number(first, '.3g')}–{number(third, '.3g')})"


def _p_html(p: float, smallest: float, method: str) -> str:
    """Return a p value, with the smallest possible p value if it is not below `ALPHA`."""
    if method == "identical":
        return method
    note = f"smallest possible: {p_value(smallest, '.3g')}" if smallest >= ALPHA else ""
    return render("value", p_value(p), note)


def _size_cells(sizes: pd.DataFrame, series: str) -> Iterator[str]:
    """Yield cells: median with quartiles over participants, and tests against two baselines."""
    values = participants_by_series(sizes)
    participant_values = values.get(series, pd.Series(dtype=float)).dropna()
    n_participants, n_defined = len(participant_values), np.isfinite(participant_values).sum()
    text = _quartiles_text(*quartiles(participant_values)) if n_participants else "–"
    has_undefined = n_defined < n_participants
    note = f"defined in {n_defined} of {n_participants} participants" if has_undefined else ""
    yield render("value", text, note)
    for reference in ("raw", "bspline"):
        available_values = values[[name for name in {series, reference} if name in values]]
        pairs = available_values[np.isfinite(available_values).all(axis=1)]
        if pairs.shape[1] < 2 or len(pairs) < 2:
            yield "–"
        else:
            statistics = signed_rank(differences(pairs[series], pairs[reference]))
            yield _p_html(
                float(statistics["p_wilcoxon"]),
                float(statistics["p_smallest"]),
                str(statistics["method"]),
            )


def paper_html(sizes: pd.DataFrame, methods: Sequence[str]) -> Markup:
    """Return the paper's table with all baselines, all methods and the published values."""
    heads = ["series", "smoothing (mm)"]
    for kind in sizes["contrast"].cat.categories:
        heads += [f"{kind}: median (IQR)", "p, acquired", "p, bspline"]
    rows: list[list[str]] = []
    for fwhm_mm, smoothed_sizes in sizes.groupby("fwhm_mm"):
        available = set(smoothed_sizes["series"])
        panels = [panel for _, panel in smoothed_sizes.groupby("contrast", observed=False)]
        for series in ("raw", *BASELINES, *methods, MEASURED):
            if series in available:
                cells = (cell for panel in panels for cell in _size_cells(panel, series))
                rows.append([series_text(series), f"{fwhm_mm:g}", *cells])
    for published in _PUBLISHED_ROWS:
        row = [Markup("<em>{}</em>").format(published.name), published.smoothing]
        for median, p in zip(published.medians, published.p_values, strict=True):
            row += [median, p, "–"]
        rows.append(row)
    task = verdicts.task_text(sizes.iloc[0])
    return table(
        f"Region size (in acquired voxels) and overlap between regions, {task}", heads, rows
    )


def comparisons_html(rows: Sequence[verdicts.ComparisonRow], caption: str) -> Markup:
    """Return a table with one row per comparison; all comparisons concern the same quantity."""
    heads = (
        "series",
        "reference",
        "n",
        "median (IQR)",
        "reference, median (IQR)",
        "difference [interval]",
        "effect size",
        "p",
        "p, Holm",
        "FDR",
        "p, equivalence",
        "result",
        "note",
    )
    cell_rows: list[list[Any]] = []
    for row in rows:
        interval: str = verdicts.difference_text(row) if row.n else "–"
        if row.level < verdicts.LOWEST_NOMINAL_LEVEL:
            interval = Markup("{} <small>{:.0f} %</small>").format(interval, 100 * row.level)
        cell_rows.append(
            [
                series_text(row.series),
                series_text(row.minus),
                row.n,
                _quartiles_text(row.q1_series, row.median_series, row.q3_series),
                _quartiles_text(row.q1_minus, row.median_minus, row.q3_minus),
                interval,
                number(row.effect_size, "+.3g"),
                _p_html(row.p_wilcoxon, row.p_smallest, row.method) if row.n else "–",
                *map(p_value, (row.p_holm, row.p_fdr, row.p_equivalence_holm)),
                row.word,
                row.note,
            ]
        )
    return table(caption, heads, cell_rows)
