"""Table of the mean effects of the region of interest."""

from collections.abc import Sequence

from markupsafe import Markup

from bids_sr.evaluation.words import EFFECT_UNIT
from bids_sr.metrics.number_text import interval, number
from bids_sr.metrics.region_statistics import ERROR_SD, MEAN_EFFECT, N_VOXELS, NOISE_SD
from bids_sr.metrics.rows import MetricRow
from bids_sr.report.evaluation_rows import (
    get_kind,
    list_contrasts,
    list_series,
    series_text,
)
from bids_sr.report.markup import ColumnHead, table
from bids_sr.series import ACQUIRED

_NO_ERROR = "–"


def region_table_html(rows: Sequence[MetricRow], name: str, series_order: Sequence[str]) -> Markup:
    """Render the mean effects of the region of interest; "" if there are none.

    The table contains the narrowest smoothing, and the acquired, super-resolved and measured
    series. `rows` are from the evaluation of a run. `name` is the name of the region, or of its
    file. `series_order` is the display order; other series follow.
    """
    rows_by_key = {(row.contrast, row.series, row.fwhm_mm, row.statistic): row for row in rows}
    effects = [row for row in rows if row.statistic == MEAN_EFFECT]
    if not effects:
        return Markup("")
    width = min(row.fwhm_mm for row in effects)
    contrasts = list_contrasts(effects)
    series = [
        name
        for name in list_series(effects, series_order)
        if name == ACQUIRED or get_kind(name) not in ("baseline", "control")
    ]
    effects = sorted(
        (row for row in effects if row.fwhm_mm == width and row.series in series),
        key=lambda row: (contrasts.index(row.contrast), series.index(row.series)),
    )

    def format_value(effect: MetricRow, statistic: str) -> str:
        row = rows_by_key.get((effect.contrast, effect.series, effect.fwhm_mm, statistic))
        return _NO_ERROR if row is None else number(row.value)

    lines = [
        [
            name,
            effect.contrast,
            series_text(effect.series),
            f"{number(effect.value)} ± {format_value(effect, NOISE_SD)}",
            format_value(effect, ERROR_SD),
            interval(effect.lower, effect.upper),
            f"{rows_by_key[effect.contrast, effect.series, effect.fwhm_mm, N_VOXELS].value:.0f}",
        ]
        for effect in effects
    ]
    heads: list[ColumnHead] = [
        "region",
        "contrast",
        "series",
        ("mean effect ± SD of its noise", EFFECT_UNIT),
        ("SD of the reconstruction error", EFFECT_UNIT),
        "95 % interval",
        "voxels",
    ]
    smoothing = f"smoothed with a {width:g} mm FWHM kernel" if width else "not smoothed"
    caption = f"Mean effect of the region of interest ({smoothing})"
    return table(caption, heads, lines, names=3, texts=range(3))
