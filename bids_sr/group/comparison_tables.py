"""Tables of the group's page: comparisons, and the paper's numbers beside ours."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup

from bids_sr.group import verdicts as words
from bids_sr.group.paired_tests import ALPHA, differences, quartiles, signed_rank
from bids_sr.group.values import wide
from bids_sr.metrics.number_text import number, p_value
from bids_sr.report.evaluation_rows import series_text
from bids_sr.report.markup import render, table
from bids_sr.series import BASELINES, MEASURED

# What the paper reports of 30 participants; smoothing sigma 1.5, unit not given (METHODS: 3.5 or
# 13.2 mm FWHM)
_PAPER = (
    (
        "paper: acquired",
        "σ = 1.5",
        "140.00 (64.75–184.00)",
        "128.50 (43.50–208.25)",
        ".590 (.408–.735)",
        ("–", "–", "–"),
    ),
    (
        "paper: srgan",
        "σ = 1.5",
        "83.37 (42.31–119.68)",
        "87.00 (28.93–129.00)",
        ".490 (.361–.589)",
        ("< .001", "< .001", ".00466"),
    ),
    ("paper: acquired", "0", "–", "–", ".417 (.320–.575)", ("–", "–", "–")),
    ("paper: srgan", "0", "–", "–", ".355 (.238–.457)", ("–", "–", "2.76e−6")),
)


def papers(values: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Return the paper's sizes (threshold of equation 2) by task and pair of conditions.

    In the place of the contrast stands what a value is: size of either condition, or overlap.
    """
    sizes = values[values["threshold"] == "quarter"]
    for _, paper in sizes.groupby(["task", "variant"], sort=False):
        pairs = words.paired_conditions(paper["contrast"])
        is_dice = paper["statistic"] == "dice"
        for pair in (name for name in paper["contrast"][is_dice].unique() if name in pairs):
            titles = {name: f"size, {name}" for name in pairs[pair]} | {pair: "Dice"}
            kept = is_dice | (paper["statistic"] == "size_acquired_voxels")
            shown = paper[kept & paper["contrast"].isin(titles)]
            panel = pd.Categorical(shown["contrast"].map(titles), list(titles.values()))
            yield shown.assign(contrast=panel)


def _quartiles_text(first: float, median: float, third: float) -> str:
    """Median and quartiles; *not defined* for NaN."""
    if not math.isfinite(median):
        return "not defined"
    return f"{number(median, '.3g')} ({number(first, '.3g')}–{number(third, '.3g')})"


def _p(p: float, smallest: float, method: str) -> str:
    if method == "identical":
        return method
    short = f"smallest possible: {p_value(smallest, '.3g')}" if smallest >= ALPHA else ""
    return render("value", p_value(p), short)


def _cells(table: pd.DataFrame, series: str) -> Iterator[str]:
    """Compute median and quartiles over participants, and tests against acquired and bspline."""
    values = wide(table)
    there = values.get(series, pd.Series(dtype=float)).dropna()
    known = int(np.isfinite(there).sum())
    text = _quartiles_text(*quartiles(there)) if len(there) else "–"
    yield render(
        "value",
        text,
        f"defined in {known} of {len(there)} participants" if known < len(there) else "",
    )
    for other in ("raw", "bspline"):
        tested = values[[name for name in {series, other} if name in values]]
        tested = tested[np.isfinite(tested).all(axis=1)]
        if tested.shape[1] < 2 or len(tested) < 2:
            yield "–"
        else:
            found = signed_rank(differences(tested[series], tested[other]))
            yield _p(float(found["p_wilcoxon"]), float(found["p_smallest"]), str(found["method"]))


def paper_html(sizes: pd.DataFrame, methods: Sequence[str]) -> Markup:
    """The paper's table with every baseline beside the methods, and the paper's own numbers."""
    heads = ["series", "smoothing (mm)"]
    for what in sizes["contrast"].cat.categories:
        heads += [f"{what}: median (IQR)", "p, acquired", "p, bspline"]
    rows: list[list[str]] = []
    for width, own in sizes.groupby("fwhm_mm"):
        there = set(own["series"])
        for series in (name for name in ("raw", *BASELINES, *methods, MEASURED) if name in there):
            panels = (panel for _, panel in own.groupby("contrast", observed=False))
            cells = (cell for panel in panels for cell in _cells(panel, series))
            rows.append([series_text(series), f"{width:g}", *cells])
    for name, smoothing, *medians, p_values in _PAPER:
        cells = (
            cell
            for median, p in zip(medians, p_values, strict=True)
            for cell in (str(median), p, "–")
        )
        rows.append([Markup("<em>{}</em>").format(name), smoothing, *cells])
    where = words.task_text(sizes.iloc[0])
    return table(
        f"Region size (in acquired voxels) and overlap between regions, {where}", heads, rows
    )


def comparisons_html(rows: Sequence[words.ComparisonRow], caption: str) -> Markup:
    """Return comparisons of one question as a table.

    Table with a line for each comparison; empty for none.
    """
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
    lines = []
    for row in rows:
        interval: str = words.difference_text(row) if row.n else "–"
        if row.level < 0.949:
            interval = Markup("{} <small>{:.0f} %</small>").format(interval, 100 * row.level)
        lines.append(
            [
                series_text(row.series),
                series_text(row.minus),
                row.n,
                _quartiles_text(row.q1_series, row.median_series, row.q3_series),
                _quartiles_text(row.q1_minus, row.median_minus, row.q3_minus),
                interval,
                number(row.effect_size, "+.3g"),
                _p(row.p_wilcoxon, row.p_smallest, row.method) if row.n else "–",
                *map(p_value, (row.p_holm, row.p_fdr, row.p_equivalence_holm)),
                row.word,
                row.note,
            ]
        )
    return table(caption, heads, lines)
