"""Figures of the evaluation table: forest plots of halves and placebos; agreement with the truth.

Points are colored *and* shaped by what a series is, so that neither a gray print nor a color-blind reader loses
anything; the values stand beside them, because a figure that cannot be read off is decoration.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Array
from bids_sr.metrics.long_tables import MetricRow
from bids_sr.metrics.measure_names import BANDS, parts_of
from bids_sr.reports.figures import style as s
from bids_sr.reports.figures.style import FigureInputError
from bids_sr.reports.tables import evaluation_rows as pick
from bids_sr.reports.tables.evaluation_rows import Kind

KIND_STYLE: Mapping[Kind, tuple[str, str]] = {
    "baseline": (s.BLUE, "o"),
    "control": (s.PURPLE, "s"),
    "method": (s.RED, "D"),
    "placebo": (s.ORANGE, "v"),
    "measured": (s.INK, "^"),
    "member": (s.GREEN, "P"),
    "run": (s.SOFT, "o"),
}
Dashes = tuple[float, tuple[float, ...]]
"""Offset, and lengths of line and gap by turns."""
ROW_INCH = 0.19
LOWEST = -1.5
"""The scale goes no lower: explained variance has no lower end, and one series far worse than none would flatten it."""


@frozen
class ForestPanel:
    """One panel of a forest plot; the `strong` one is to be looked at first.

    Points are by label (one without a row, or without a value, is marked n/a); lines are vertical: name to color,
    dashes and place.
    """

    title: str
    points: Mapping[str, MetricRow]
    lines: Mapping[str, tuple[str, Dashes, float]] = field(default_factory=dict)
    strong: bool = False


def forest_figure(
    grid: Sequence[Sequence[ForestPanel]],
    labels: Mapping[str, tuple[str, Kind]],
    *,
    row_names: Sequence[str] = (),
    xlabel: str = "",
    hollow: bool = False,
    one_scale: bool = False,
) -> Figure:
    """Points with 95 % intervals: a line each series, panels side by side and in rows.

    Parameters
    ----------
    grid, row_names : rows of panels and their headings; `FigureInputError` is raised without any
    labels : key of the points, in order from above, to the text at the left and what the series is
    xlabel : of all panels
    hollow : draw points whose interval holds zero hollow
    one_scale : for all panels, not one for each column
    """
    if not grid or not labels:
        raise FigureInputError("there is no figure of the evaluation to draw")
    body, gap = len(labels) * ROW_INCH, 0.6 if row_names else 0.3
    with s.style(literal=True):
        fig = s.new_figure(12.0, (body + gap) * len(grid) + 0.72)
        tall = fig.get_figheight()
        left = min(0.33, 0.03 + 0.0062 * max(len(text) for text, _ in labels.values()))
        # values stand between the panels
        spaces = {"left": left, "right": 0.955, "bottom": 0.7 / tall, "top": 1 - gap / tall}
        grid_spec = {**spaces, "wspace": 0.06 * len(grid[0]), "hspace": gap / body}
        axes = np.asarray(fig.subplots(len(grid), len(grid[0]), squeeze=False, gridspec_kw=grid_spec))
        for number, (row, panels) in enumerate(zip(axes, grid, strict=True)):
            for column, (ax, panel) in enumerate(zip(row, panels, strict=True)):
                _panel(ax, panel, labels, named=column == 0, hollow=hollow)
            if row_names:
                top = row[0].get_position().y1 + 0.24 / tall
                fig.text(0.012, top, row_names[number], fontsize=9.5, fontweight="bold", va="bottom")
        fig.text((left + 0.955) / 2, 0.36 / tall, xlabel, fontsize=8, ha="center")
        _share_limits(axes.reshape(-1, 1) if one_scale else axes)
        _legend(fig, [kind for _, kind in labels.values()], [p for row in grid for p in row], hollow=hollow)
    return fig


def _panel(ax: Axes, panel: ForestPanel, labels: Mapping[str, tuple[str, Kind]], *, named: bool, hollow: bool) -> None:
    places = range(len(labels))
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_yticks(list(places), [text for text, _ in labels.values()] if named else [""] * len(labels), fontsize=8.5)
    ax.tick_params(axis="y", length=0, colors=s.INK)
    ax.tick_params(axis="x", labelsize=7.5)
    ax.set_title(panel.title, fontsize=9, loc="left", fontweight="bold" if panel.strong else "normal", pad=4)
    ax.spines["left"].set_visible(False)
    s.light_grid(ax, "x")
    if panel.strong:
        ax.set_facecolor(s.WASH)
    ax.axvline(0, color=s.SOFT, lw=0.8)
    for color, dashes, place in panel.lines.values():
        if math.isfinite(place):
            ax.axvline(place, color=color, lw=1.0, ls=dashes, zorder=1)
    for place, (key, (_, kind)) in zip(places, labels.items(), strict=True):
        _point(ax, place, panel.points.get(key), kind, hollow=hollow)


def _point(ax: Axes, place: int, row: MetricRow | None, kind: Kind, *, hollow: bool) -> None:
    color, marker = KIND_STYLE[kind]
    beside: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "fontsize": 7, "va": "center"}
    if row is None or not math.isfinite(row.value):
        ax.text(1.01, place, "n/a", color=s.SOFT, **beside)
        return
    if row.has_interval:
        ax.plot([row.lower, row.upper], [place, place], color=color, lw=1.5, solid_capstyle="butt", zorder=2)
    face = s.PAPER if hollow and not row.excludes_zero else color
    ax.plot([row.value], [place], marker, color=color, mfc=face, ms=5, mew=1.1, zorder=3)
    ax.text(1.01, place, "◂ " * (row.value < LOWEST) + pick.value_text(row.value), color=s.INK, **beside)


def _share_limits(axes: Array) -> None:
    """One scale for each column that holds zero and ends at `LOWEST`."""
    for column in axes.T:
        ends = [(ax.dataLim.x0, ax.dataLim.x1) for ax in column if np.isfinite([ax.dataLim.x0, ax.dataLim.x1]).all()]
        low, high = min([0.0, *(end[0] for end in ends)]), max([0.0, *(end[1] for end in ends)])
        low = max(low, LOWEST)
        span = (high - low) or 1.0
        for ax in column:
            ax.set_xlim(low - 0.04 * span, high + 0.04 * span)
            ax.xaxis.set_major_locator(MaxNLocator(5))


def _legend(fig: Figure, kinds: Sequence[Kind], panels: Sequence[ForestPanel], *, hollow: bool) -> None:
    handles = []
    for kind in dict.fromkeys(kinds):
        color, marker = KIND_STYLE[kind]
        text = pick.KIND_TEXT[kind]
        handles.append(Line2D([], [], color=color, marker=marker, ls="-", lw=1.5, ms=5, label=text))
    lines = {name: look for panel in panels for name, look in panel.lines.items()}
    handles += [Line2D([], [], color=c, ls=dashes, lw=1.0, label=name) for name, (c, dashes, _) in lines.items()]
    if hollow:
        handles.append(Line2D([], [], color=s.SOFT, marker="o", mfc=s.PAPER, ls="", ms=5, label="interval holds 0"))
    fig.legend(handles=handles, loc="lower center", ncols=min(len(handles), 6), fontsize=8, columnspacing=1.6)


SPLIT_COLUMNS = {
    "split_ev_beyond": "explained variance beyond Nyquist",
    "split_ev_signal": "explained variance, signal units",
    "split_r_beyond": "r beyond Nyquist",
}


def _reference_lines(points: Mapping[str, MetricRow]) -> dict[str, tuple[str, Dashes, float]]:
    styles: dict[str, tuple[str, Dashes]] = {"measured": (s.INK, (0, (4, 2))), "bspline": (s.BLUE, (0, (1, 1.5)))}
    return {name: (*look, points[name].value) for name, look in styles.items() if name in points}


def _labels(names: Sequence[str]) -> dict[str, tuple[str, Kind]]:
    return {name: (pick.series_text(name), pick.kind_of(name)) for name in names}


def _row_names(regions: Sequence[str]) -> list[str]:
    """Names of rows of panels, one each region."""
    texts = [pick.region_text(region) for region in regions]
    return [text[:1].upper() + text[1:] for text in texts]


def agreement_figure(rows: Sequence[MetricRow], *, prefix: str, contrast: str, names: Sequence[str] = ()) -> Figure:
    """Agreement of halves, every series in the order of `names`: a column each scale that occurs, a row each region.

    `prefix` is ``split_ev`` (r beyond the limit beside it), ``split_r`` (against the measured half) or ``self_r``
    (within the series).
    """
    bands = {f"{prefix}_{band}": pick.BANDS[band] for band in BANDS}
    columns = SPLIT_COLUMNS if prefix == "split_ev" else bands
    own = [row for row in rows if row.contrast == contrast and row.measure in columns]
    there = {row.measure for row in own}
    regions = pick.shown_regions(own)
    grid = [
        [
            ForestPanel(
                title=title, points=points, lines=_reference_lines(points), strong=measure == f"{prefix}_beyond",
            )
            for measure, title in columns.items() if measure in there
            for points in [pick.pick(own, measure, region=region)]
        ]
        for region in regions
    ]  # fmt: skip
    label = "value with its 95 % interval" if any(math.isfinite(row.lower) for row in own) else ""
    labels = _labels(pick.series_of(own, names))
    return forest_figure(grid, labels, row_names=_row_names(regions), xlabel=label)


def contrasts_figure(
    rows: Sequence[MetricRow], *, prefix: str, contrasts: Sequence[str], names: Sequence[str] = ()
) -> Figure:
    """The highest band for several contrasts: a column each contrast, a row each region."""
    measure = f"{prefix}_beyond"
    own = [row for row in rows if row.measure == measure and row.contrast in contrasts]
    regions = pick.shown_regions(own)
    found = [{c: pick.pick(own, measure, contrast=c, region=region) for c in contrasts} for region in regions]
    grid = [[ForestPanel(title=c, points=p, lines=_reference_lines(p)) for c, p in row.items()] for row in found]
    what = f"{pick.figure_of([measure])} beyond the acquired Nyquist limit"
    labels = _labels(pick.series_of(own, names))
    return forest_figure(grid, labels, row_names=_row_names(regions), xlabel=what, one_scale=True)


def placebo_figure(rows: Sequence[MetricRow], *, measures: Mapping[str, str], contrast: str) -> Figure:
    """What each method has more than its placebos (`against` of the rows); `measures` are titles by measure."""
    own = [row for row in rows if row.contrast == contrast and row.measure in measures]
    regions = pick.shown_regions(own)
    pairs = sorted(dict.fromkeys((row.series, row.against) for row in own), key=lambda pair: pair[0])
    labels = {f"{one}|{other}": (f"{one} − {other}", pick.kind_of(other)) for one, other in pairs}
    found = {(row.measure, row.region, f"{row.series}|{row.against}"): row for row in own}
    there = {row.measure for row in own}
    grid = [
        [
            ForestPanel(
                title=title, strong=parts_of(measure).band == "beyond",
                points={key: found[measure, region, key] for key in labels if (measure, region, key) in found},
            )
            for measure, title in measures.items() if measure in there
        ]
        for region in regions
    ]  # fmt: skip
    label = f"method - control: difference of {pick.figure_of(measures)}, 95 % interval"
    return forest_figure(grid, labels, row_names=_row_names(regions), hollow=True, xlabel=label)


TRUTH_PANELS = {
    "truth_r_t": "r of the t map",
    "truth_r_effect": "r of the effect map",
    "truth_r_beyond": "r of the effect map beyond Nyquist",
    "truth_ev_beyond": "explained variance beyond Nyquist",
    "truth_ap": "average precision",
    "truth_dice": "Dice at matched size",
}


def truth_figure(rows: Sequence[MetricRow], *, contrast: str, against: str, names: Sequence[str] = ()) -> Figure | None:
    """Agreement with the truth, a row each series and a point each smoothing; None where no measure of it is defined.

    Points are not joined: what lies between two widths was not measured. Those of smoothed maps are hollow.
    """
    own = [row for row in pick.having(rows, "truth") if (row.contrast, row.against) == (contrast, against)]
    region = next(iter(pick.shown_regions(own)), "")
    own = [row for row in own if row.region == region and math.isfinite(row.value)]
    shown = [measure for measure in TRUTH_PANELS if any(row.measure == measure for row in own)]
    series = [name for name in pick.series_of(own, names) if name != against]
    if not shown or not series:
        return None
    widths = sorted({row.fwhm_mm for row in own})
    markers = dict(zip(widths, "osD^vP", strict=False))
    with s.style(literal=True):
        fig = s.new_figure(12.0, ROW_INCH * len(series) + 0.98)
        tall = fig.get_figheight()
        axes = np.asarray(fig.subplots(1, len(shown), squeeze=False, gridspec_kw={
            "left": 0.2, "right": 0.985, "top": 1 - 0.26 / tall, "bottom": 0.62 / tall, "wspace": 0.06,
        }))[0]  # fmt: skip
        for ax, measure in zip(axes, shown, strict=True):
            for row in (row for row in own if row.measure == measure and row.series in series):
                color = KIND_STYLE[pick.kind_of(row.series)][0]
                face = s.PAPER if row.fwhm_mm else color
                look: dict[str, Any] = {"color": color, "mfc": face, "ms": 5, "mew": 1.1}
                ax.plot([row.value], [series.index(row.series)], markers.get(row.fwhm_mm, "P"), **look)
            ax.set_title(TRUTH_PANELS[measure], fontsize=9, loc="left", pad=4)
            ax.set_ylim(len(series) - 0.4, -0.6)
            texts = [pick.series_text(name) if ax is axes[0] else "" for name in series]
            ax.set_yticks(range(len(series)), texts, fontsize=8.5)
            ax.tick_params(axis="y", length=0, colors=s.INK)
            ax.tick_params(axis="x", labelsize=7.5)
            ax.spines["left"].set_visible(False)
            ax.margins(x=0.06)
            ax.xaxis.set_major_locator(MaxNLocator(5))
            s.light_grid(ax)
        handles = [
            Line2D([], [], color=s.INK, marker=marker, mfc=s.PAPER if width else s.INK, ls="", ms=5,
                   label=f"smoothed by {width:g} mm" if width else "not smoothed")
            for width, marker in markers.items()
        ]  # fmt: skip
        fig.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize=8)
    return fig
