"""Group figures: each participant in each series, and the tested differences.

Tables of the group's page: comparisons, and the paper's numbers beside ours.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bids_sr.figures import canvas as s
from bids_sr.figures.canvas import FigureInputError
from bids_sr.figures.evaluation_figures import ForestPanel, Point, forest_figure
from bids_sr.group import group_verdicts as words
from bids_sr.group.group_tests import ALPHA, differences, quartiles, signed_rank
from bids_sr.group.group_values import wide
from bids_sr.io.grids import evenly_spaced
from bids_sr.metrics import estimate, number, p_value
from bids_sr.report.html_tables import series_text
from bids_sr.report.sections import render, table
from bids_sr.series import ACQUIRED, BASELINES, CONTROLS, MEASURED, kind_of

_SPREAD = 0.32  # of a box's half width

_EDGE = 0.05  # inches, from the edge of a figure to its labels
_NAMED = 40  # participants; the rows of more have no names
_DRAWN = 400  # participants that have a row
# participants; more are drawn as pixels, as so many paths make a page of many megabytes
_MANY = 100


def _color_of(series: str, methods: Sequence[str]) -> str:
    """One color a kind of series: acquired, baseline, control, method, measured."""
    if series in methods:
        return s.ORANGE
    return {"acquired": s.SOFT, "baseline": s.BLUE, "control": s.SKY, "measured": s.GREEN}.get(
        kind_of(series), s.INK
    )


def shown_series(values: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Return participants by series in figure order, without placebos and ensemble members.

    One row a participant, one column a series; NaN where not defined.
    """
    found = wide(values).replace(np.inf, np.nan).dropna(axis=1, how="all")
    order = (*ACQUIRED, *BASELINES, *CONTROLS, *methods, MEASURED)
    return found[[name for name in order if name in found]]


def paired_figure(
    panels: Sequence[tuple[str, pd.DataFrame]], methods: Sequence[str], *, unit: str = ""
) -> Figure:
    """Plot boxes of each series and a line for each participant, one panel for each metric.

    The box spans the quartiles, its line is the median, whiskers reach the farthest value within
    1.5 times the quartiles' distance; every participant is drawn. Panels are a title and the rows
    of one question (in `unit`); raises `FigureInputError` where no panel has a value.

    `panels`: title and rows of each panel, from left to right.
    """
    drawn = [
        (title, table)
        for title, values in panels
        if not (table := shown_series(values, methods)).empty
    ]
    if not drawn:
        raise FigureInputError("no values are available for the figure")
    with s.style():
        fig = s.new_figure(12.0, 3.4)
        axes = fig.subplots(1, len(drawn), squeeze=False, gridspec_kw={"wspace": 0.22})[0]
        for ax, (title, table) in zip(axes, drawn, strict=True):
            _boxes(ax, table, methods)
            ax.set_title(title, loc="left")
            ax.set_ylabel("" if unit in ("", "1") else unit.replace("mm^3", "mm³"))
        fig.subplots_adjust(left=0.06, right=0.995, top=0.91, bottom=0.24)
        _make_room(fig)
    return fig


def _make_room(fig: Figure) -> None:
    """Move the sides of the axes inwards until every label lies in the figure."""
    for _ in range(2):  # narrower axes can have other ticks
        found = fig.get_tightbbox()
        now = fig.subplotpars
        wide, tall = fig.get_size_inches()
        left, right = max(0.0, _EDGE - found.x0) / wide, max(0.0, found.x1 + _EDGE - wide) / wide
        bottom, top = max(0.0, _EDGE - found.y0) / tall, max(0.0, found.y1 + _EDGE - tall) / tall
        fig.subplots_adjust(
            left=now.left + left,
            right=now.right - right,
            bottom=now.bottom + bottom,
            top=now.top - top,
        )


def _boxes(ax: Axes, table: pd.DataFrame, methods: Sequence[str]) -> None:
    names = list(table)
    many = len(table) > _MANY
    lines = table.assign(gap=math.nan).to_numpy()  # one line that is broken between participants
    places = [*range(len(names)), math.nan] * len(table)
    ax.plot(places, lines.ravel(), color=s.GRID, lw=0.7, zorder=1, rasterized=many)
    for x, name in enumerate(names):
        values = table[name].dropna().to_numpy()
        color = _color_of(name, methods)
        line: dict[str, Any] = {"color": color, "lw": 1.2}
        ax.boxplot(
            [values],
            positions=[x],
            widths=2 * _SPREAD,
            showfliers=False,
            boxprops=line,
            whiskerprops=line,
            capprops=line,
            medianprops={"color": color, "lw": 2.2},
            zorder=3,
        )
        ax.plot(
            np.full(len(values), x),
            values,
            "o",
            ms=2.6,
            color=color,
            alpha=0.6,
            zorder=2,
            rasterized=many,
        )
    ax.set_xticks(
        range(len(names)),
        list(map(series_text, names)),
        rotation=35,
        ha="right",
        rotation_mode="anchor",
    )
    ax.set_xlim(-0.6, len(names) - 0.4)


def primary_figure(row: Any) -> Figure:
    """Plot the primary comparison as a forest plot of participants and the estimate.

    Each participant is a point, with the largest difference at the top.

    At the right stand the difference and the participant's strongest reference; beyond `_NAMED`
    participants the lines have no names, and beyond `_DRAWN` only so many are drawn, evenly from
    the largest difference to the smallest.
    """
    people = sorted(zip(row.differences, row.participants, row.rivals, strict=True), reverse=True)
    named = len(people) <= _NAMED
    people = [people[at] for at in evenly_spaced(len(people), _DRAWN)]
    labels: dict[str, str] = {}
    points: dict[str, list[Point]] = {}
    for value, who, rival in people:
        text = f"{number(value, '+.3f')} (minus {series_text(rival)})" if named else ""
        color = s.ORANGE if value > 0 else s.SOFT
        labels[who] = who if named else ""
        points[who] = [Point(value=value, color=color, marker="D", text=text)]
    if row.n > 1:
        low, at, high = row.lower, row.difference, row.upper
        labels[""] = f"all, n = {row.n}"
        points[""] = [
            Point(
                value=at,
                lower=low,
                upper=high,
                color=s.INK,
                marker="s",
                text=estimate(at, low, high, "+.3f"),
            )
        ]
    return forest_figure(
        [[ForestPanel(title="", points=points)]],
        labels,
        legend={},
        row_inch=0.235 if named else 0.06,
        xlabel=f"◂ reference more accurate  ·  explained variance of {row.series} minus "
        f"the participant's strongest reference  ·  {row.series} more accurate ▸",
    )


def differences_figure(comparisons: Sequence[Any], *, unit: str = "") -> Figure:
    """Plot Hodges-Lehmann differences of one method with intervals.

    They are for one question, with a line for each reference.

    The band is the margin of equivalence. Raises `FigureInputError` where nothing was compared.

    `unit`: unit of the values; ``1`` or empty for pure numbers.
    """
    rows = [row for row in comparisons if row.n]
    colors = {"better": s.GREEN, "worse": s.RED, "same": s.BLUE, "larger": s.INK, "smaller": s.INK}
    points = {
        row.minus: [
            Point(
                value=row.difference,
                lower=row.lower,
                upper=row.upper,
                marker="o",
                text=row.word,
                color=colors.get(row.word, s.SOFT),
            )
        ]
        for row in rows
    }
    labels = {row.minus: f"− {series_text(row.minus)}" for row in rows}
    margin, series = (rows[0].margin, rows[0].series) if rows else (math.nan, "")
    shown = "" if unit in ("", "1") else f" ({unit.replace('mm^3', 'mm³')})"
    return forest_figure(
        [[ForestPanel(title="", points=points, margin=margin)]],
        labels,
        legend={},
        lowest=-math.inf,
        row_inch=0.27,
        xlabel=f"{series} − reference{shown}",
    )


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


def comparisons_html(rows: Sequence[words.Row], caption: str) -> Markup:
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
