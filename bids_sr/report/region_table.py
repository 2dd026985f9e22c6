"""Table of the mean effects of the region of interest."""

from collections.abc import Sequence

from markupsafe import Markup

from bids_sr.metrics.number_text import interval, number
from bids_sr.metrics.region_statistics import ERROR_SD, MEAN_EFFECT, N_VOXELS, NOISE_SD
from bids_sr.metrics.rows import MetricRow
from bids_sr.report.evaluation_rows import list_contrasts, list_series, series_text
from bids_sr.report.markup import ColumnHead, table

_NO_ERROR = "–"


def region_table_html(
    rows: Sequence[MetricRow], name: str, percent: float | None, series_order: Sequence[str]
) -> Markup:
    """Render the mean effects of the region of interest; "" if there are none.

    Parameters
    ----------
    rows : Sequence[MetricRow]
        Rows of the evaluation of a run.
    name : str
        Name of the region, or of its file.
    percent : float | None
        Factor from signal to percent of the mean signal of the brain; None to show signal.
    series_order : Sequence[str]
        Series in display order; other series follow.
    """
    rows_by_key = {(row.contrast, row.series, row.fwhm_mm, row.statistic): row for row in rows}
    effects = [row for row in rows if row.statistic == MEAN_EFFECT]
    contrasts, series = list_contrasts(effects), list_series(effects, series_order)
    effects = sorted(
        (row for row in effects if row.series in series),
        key=lambda row: (row.fwhm_mm, contrasts.index(row.contrast), series.index(row.series)),
    )
    factor = 1.0 if percent is None else percent

    def format_value(effect: MetricRow, statistic: str) -> str:
        row = rows_by_key.get((effect.contrast, effect.series, effect.fwhm_mm, statistic))
        return _NO_ERROR if row is None else number(factor * row.value)

    lines = [
        [
            name,
            effect.contrast,
            series_text(effect.series),
            f"{effect.fwhm_mm:g}",
            f"{number(factor * effect.value)} ± {format_value(effect, NOISE_SD)}",
            format_value(effect, ERROR_SD),
            interval(factor * effect.lower, factor * effect.upper),
            f"{rows_by_key[effect.contrast, effect.series, effect.fwhm_mm, N_VOXELS].value:.0f}",
        ]
        for effect in effects
    ]
    unit = "signal" if percent is None else "% of the mean signal of the brain"
    heads: list[ColumnHead] = [
        "region",
        "contrast",
        "series",
        ("smoothing", "mm"),
        ("mean effect ± SD of its noise", unit),
        ("SD of the reconstruction error", unit),
        "95 % interval",
        "voxels",
    ]
    return table("Mean effect of the region of interest", heads, lines, names=3, texts=range(3))
