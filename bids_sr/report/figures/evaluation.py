"""Figures of the evaluation table: forest plots of split halves, placebos, and whole-run maps.

Color *and* shape of a point depend on the kind of its series, so that figures can be read in gray
and by color-blind readers. Values are printed beside the points, so that the figures can also be
used as tables.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from bids_sr.engine.metric_rows import MISSING, MetricRow
from bids_sr.engine.number_text import number, value_form
from bids_sr.evaluation.evidence import main_regions
from bids_sr.evaluation.words import BANDS, capitalize, measure_text, region_text
from bids_sr.io.metric_registry import statistic as registered
from bids_sr.io.series import KindOfSeries
from bids_sr.io.smoothing_words import smoothing_text
from bids_sr.report import evaluation_rows
from bids_sr.report.figures import canvas
from bids_sr.report.figures.forest import Dashes, ForestPanel, ForestPoint, forest_figure

_KIND_STYLE: Mapping[KindOfSeries, tuple[str, str]] = {
    "baseline": (canvas.BLUE, "o"),
    "control": (canvas.PURPLE, "s"),
    "method": (canvas.RED, "D"),
    "placebo": (canvas.ORANGE, "v"),
    "measured": (canvas.INK, "^"),
    "run": (canvas.SOFT, "o"),
}
_REFERENCE_LINES: Mapping[str, tuple[str, Dashes]] = {
    "measured": (canvas.INK, (0, (4, 2))),
    "bspline": (canvas.BLUE, (0, (1, 1.5))),
}
# key of a column of panels: statistic and band, or the value of another column of the table
_ColumnKey = Any
_Columns = Mapping[_ColumnKey, str]
_EXPLAINED_COLUMNS: _Columns = {
    ("ev", "beyond"): "explained detail (%)",
    ("ev", "all"): "explained effect (%)",
    ("r", "beyond"): "r of the detail",
}
_PERCENT = 100.0
_LOWEST_PERCENT = -150.0  # a single series with wrong detail does not extend the axis further
_WHOLE_RUN_COLUMNS: _Columns = {
    ("r_t", MISSING): "r of the t map",
    ("r", "all"): "r of the effect map",
    ("r", "beyond"): "r of the detail",
    ("ev", "beyond"): "explained detail (%)",
    ("average_precision", MISSING): "average precision",
    ("active_dice", MISSING): "Dice at matched size",
}


def agreement_figure(
    rows: Sequence[MetricRow],
    *,
    statistic: str,
    contrast: str,
    names: Sequence[str] = (),
) -> Figure:
    """Plot the agreement of split halves, one column per spatial scale and one row per region.

    Series are shown in the order of `names`, and scales without values are omitted. For explained
    variance, r above the Nyquist frequency is shown in addition.
    """
    columns = {(statistic, band): BANDS[band] for band in BANDS}
    if statistic == "ev":
        columns = dict(_EXPLAINED_COLUMNS)
    drawn_rows = [
        row
        for row in select_half_rows(rows)
        if row.contrast == contrast and _measure_key(row) in columns
    ]
    has_intervals = any(math.isfinite(row.lower) for row in drawn_rows)
    return _plot_forest(
        drawn_rows,
        columns,
        _measure_key,
        names=names,
        emphasized_column=(statistic, "beyond"),
        label="value with its 95 % interval" if has_intervals else "",
    )


def contrasts_figure(
    rows: Sequence[MetricRow],
    *,
    statistic: str,
    contrasts: Sequence[str],
    names: Sequence[str] = (),
) -> Figure:
    """Plot agreement above the Nyquist frequency, one column per contrast and one row per region.

    `names` are the first series in display order; other series follow.
    """
    drawn_rows = [
        row
        for row in select_half_rows(rows)
        if _measure_key(row) == (statistic, "beyond") and row.contrast in contrasts
    ]
    label = measure_text(drawn_rows[0]) if drawn_rows else ""
    if drawn_rows and _scale_of(drawn_rows[0]) == _PERCENT:
        label += " (%)"
    return _plot_forest(
        drawn_rows,
        dict(zip(contrasts, contrasts, strict=True)),
        lambda row: row.contrast,
        names=names,
        label=label,
        shares_scale=True,
    )


def select_half_rows(rows: Iterable[MetricRow]) -> list[MetricRow]:
    """Return agreement of split halves with the measured series, without differences."""
    return [
        row
        for row in rows
        if row.reference == "measured"
        and row.statistic in ("ev", "r", "amplitude")
        and not row.is_difference
    ]


def reference_map_figure(
    rows: Sequence[MetricRow], *, contrast: str, reference: str, names: Sequence[str] = ()
) -> Figure | None:
    """Plot agreement of whole-run maps with a reference, one line per series.

    There is one point per smoothing width; points are not joined because widths in between were
    not measured. Points of smoothed maps are hollow. `names` are the first series in display
    order; other series follow. None is returned if no statistic has a finite value.
    """
    reference_rows = [
        row
        for row in select_whole_run_rows(rows)
        if (row.contrast, row.reference) == (contrast, reference)
    ]
    region = next(iter(main_regions(row.region for row in reference_rows)), "")
    drawn_rows = [
        row
        for row in reference_rows
        if row.region == region and math.isfinite(row.value) and row.series != "measured"
    ]
    column_keys = [key for key in _WHOLE_RUN_COLUMNS if key in map(_measure_key, drawn_rows)]
    series = evaluation_rows.list_series(drawn_rows, names)
    if not column_keys or not series:
        return None
    markers = dict(zip(sorted({row.fwhm_mm for row in drawn_rows}), "osD^vP", strict=False))
    input_fwhm_mm = drawn_rows[0].input_fwhm_mm  # the same in all rows of a run
    panels = []
    for key in column_keys:
        points: dict[str, list[ForestPoint]] = {}
        for row in (row for row in drawn_rows if _measure_key(row) == key):
            color = _KIND_STYLE[evaluation_rows.get_kind(row.series)][0]
            marker = markers.get(row.fwhm_mm, "P")
            point = ForestPoint(
                value=_scale_of(row) * row.value,
                color=color,
                marker=marker,
                hollow=row.fwhm_mm > 0,
            )
            points.setdefault(row.series, []).append(point)
        panels.append(ForestPanel(title=_WHOLE_RUN_COLUMNS[key], points=points))
    legend = {
        smoothing_text(width, input_fwhm_mm): ForestPoint(
            value=0, color=canvas.INK, marker=marker, hollow=width > 0
        )
        for width, marker in markers.items()
    }
    labels = {name: evaluation_rows.series_text(name) for name in series}
    return forest_figure(
        [panels], labels, legend=legend, includes_zero=False, lowest_value=_LOWEST_PERCENT
    )


def select_whole_run_rows(rows: Iterable[MetricRow]) -> list[MetricRow]:
    """Return agreement of whole-run maps with a reference, without differences between series."""
    return [
        row for row in rows if row.reference in ("measuredMap", "truth") and not row.is_difference
    ]


def _measure_key(row: MetricRow) -> tuple[str, str]:
    """Return statistic and band of a row."""
    return row.statistic, row.band


def negative_control_figure(rows: Sequence[MetricRow], *, contrast: str) -> Figure:
    """Plot the gain of each method over its placebos, one column per band.

    Markers are hollow if the interval includes 0.
    """
    drawn_rows = [row for row in rows if row.contrast == contrast and row.band in BANDS]
    return _plot_forest(
        drawn_rows,
        BANDS,
        lambda row: row.band,
        names=sorted({row.series for row in drawn_rows}),
        emphasized_column="beyond",
        label=f"method − negative control: {registered('ev').label} (%), 95 % interval",
    )


def _plot_forest(
    rows: Sequence[MetricRow],
    columns: Mapping[_ColumnKey, str],
    get_column: Callable[[MetricRow], _ColumnKey],
    *,
    names: Sequence[str] = (),
    emphasized_column: _ColumnKey | None = None,
    label: str,
    shares_scale: bool = False,
) -> Figure:
    """Plot one line per series or difference, and one row of panels per region.

    `columns` are the titles of the columns of panels by the key that `get_column` returns for a
    row; columns without rows are omitted. The series in `names` are drawn first, in this order.
    `emphasized_column` is the key of the column that is emphasized, and `label` the label of the
    value axis, which all panels share if `shares_scale`.
    """
    series_order = evaluation_rows.list_series(rows, names)
    sorted_rows = sorted(
        (row for row in rows if row.series in series_order),
        key=lambda row: series_order.index(row.series),
    )
    labels: dict[str, str] = {}
    grid: dict[str, dict[_ColumnKey, dict[str, list[ForestPoint]]]] = {}
    for row in sorted_rows:
        line = f"{row.series} − {row.minus}" if row.is_difference else row.series
        given_labels = evaluation_rows.current_labels()
        series_label = given_labels.get(row.series, row.series)
        labels[line] = (
            f"{series_label} − {given_labels.get(row.minus, row.minus)}"
            if row.is_difference
            else evaluation_rows.series_text(row.series)
        )
        panel_points = grid.setdefault(row.region, {}).setdefault(get_column(row), {})
        # If several rows have the same position, the first is drawn.
        panel_points.setdefault(line, [_make_point(row)])
    regions = main_regions(grid)
    available_columns = {key for region in regions for key in grid[region]}
    panels = [
        [
            ForestPanel(
                title=title,
                points=(points := grid[region].get(key, {})),
                lines={
                    name: (*style, points[name][0].value)
                    for name, style in _REFERENCE_LINES.items()
                    if name in points
                },
                is_emphasized=key == emphasized_column,
            )
            for key, title in columns.items()
            if key in available_columns
        ]
        for region in regions
    ]
    return forest_figure(
        panels,
        labels,
        legend=_make_legend(sorted_rows),
        row_names=[capitalize(region_text(region)) for region in regions],
        xlabel=label,
        shares_scale=shares_scale,
        lowest_value=_LOWEST_PERCENT,
    )


def _make_point(row: MetricRow) -> ForestPoint:
    """Return the point of a row; differences whose interval includes 0 are hollow."""
    color, marker = _KIND_STYLE[_get_kind(row)]
    scale = _scale_of(row)
    return ForestPoint(
        value=scale * row.value,
        color=color,
        marker=marker,
        lower=scale * row.lower,
        upper=scale * row.upper,
        hollow=row.is_difference and not row.excludes_zero,
        text=number(scale * row.value, ".0f" if scale == _PERCENT else ""),
    )


def _scale_of(row: MetricRow) -> float:
    """Return the factor from the value of a row to the axis, which is in percent for shares."""
    return _PERCENT if value_form(row.statistic) else 1.0


def _make_legend(rows: Sequence[MetricRow]) -> dict[str, ForestPoint]:
    """Return the legend of the kinds of series in rows, and of hollow points."""
    legend: dict[str, ForestPoint] = {}
    for row in rows:
        kind = _get_kind(row)
        color, marker = _KIND_STYLE[kind]
        legend[evaluation_rows.KIND_TEXT[kind]] = ForestPoint(
            value=0, color=color, marker=marker, lower=0, upper=0
        )
    if any(row.is_difference for row in rows):
        legend["interval includes 0"] = ForestPoint(
            value=0, color=canvas.SOFT, marker="o", hollow=True
        )
    return legend


def _get_kind(row: MetricRow) -> KindOfSeries:
    """Return the kind of series that determines color and marker of a row."""
    return evaluation_rows.get_kind(row.minus if row.is_difference else row.series)
