"""Tables of clusters as HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from bids_sr.engine.metric_rows import MISSING
from bids_sr.engine.number_text import interval, number, short_number
from bids_sr.glm.vein_signs import DARK_SHARE, LARGE_SHARE
from bids_sr.io.smoothing_words import smoothing_choice, smoothing_text
from bids_sr.report.evaluation_rows import series_text
from bids_sr.report.markup import ColumnHead, render, render_by_contrast, table
from bids_sr.report.vein_column import VEIN_HEAD, describe_veins

if TYPE_CHECKING:
    import pandas as pd

_MAX_CLUSTERS = 5
"""Number of clusters per contrast on the page, except for the first; the file lists all."""
_NUMERIC_COLUMNS = (
    *(
        "input_fwhm_mm",
        "fwhm_mm",
        "x",
        "y",
        "z",
        "scanner_x",
        "scanner_y",
        "scanner_z",
        "above",
        "label_mm",
    ),
    *("peak", "volume_mm3", "effect", "lower", "upper", "wrongsign", "expected_wrong"),
    *(LARGE_SHARE, DARK_SHARE),
)
_NBSP = "\N{NO-BREAK SPACE}"
_LABEL_HEAD, _LABELS_HEAD = "label of the peak", "atlas labels of the cluster"
_STATISTIC_HEADS: Mapping[str, ColumnHead] = {
    "tTotal": ("t", "including the reconstruction error"),
    "cc": "CC",
}
_THRESHOLDS: Mapping[str, str] = {
    "Fdr": "FDR .05",
    "SignReliable": "FDR .05 with the reconstruction error included",
    "Quarter": "CC in the upper quarter of its range in the region of interest",
}


def clusters_html(clusters: pd.DataFrame, series: str, *, first: str = "") -> Markup:
    """Return the largest clusters of a series, one table per contrast.

    `first` is the contrast that is shown first. Only its table lists additional peaks of each
    cluster.
    """
    if clusters.empty:
        return Markup(
            "<p class='note'>There are no clusters, because no voxel of any series exceeds the"
            " threshold.</p>"
        )
    # tables in memory contain text, and tables that were read from files contain numbers
    columns = list(dict.fromkeys([*clusters.columns, *_NUMERIC_COLUMNS]))
    cells = clusters.reindex(columns=columns).replace(MISSING, math.nan)
    cells = cells.astype(dict.fromkeys(_NUMERIC_COLUMNS, float))
    widest_mm = cells["fwhm_mm"].max()
    visible_cells = cells[(cells["series"] == series) & (cells["fwhm_mm"] == widest_mm)]
    tables: dict[str, Markup] = {}
    for contrast in sorted(clusters["contrast"].unique(), key=lambda name: name != first):
        rows = list(visible_cells[visible_cells["contrast"] == contrast].itertuples())
        if tables:
            rows = [row for row in rows if _is_highest_peak(row)][:_MAX_CLUSTERS]
        if rows:
            tables[contrast] = _render_clusters(rows, series, contrast)
    return render_by_contrast(tables) or Markup(
        "<p class='note'>The maps of this series have no clusters.</p>"
    )


def _render_clusters(rows: Sequence[Any], series: str, contrast: str) -> Markup:
    """Render the table of one contrast; `rows` are its peaks, at least one."""
    label = str(getattr(rows[0], "threshold", ""))
    z_text = f"|z| ≥ {label[1:2]}.{label[2:]}" if label[:1] == "Z" else label
    caption = (
        f"Largest clusters of {series_text(series)}, contrast {contrast}:"
        f" {smoothing_text(rows[0].fwhm_mm, rows[0].input_fwhm_mm)},"
        f" {_THRESHOLDS.get(label, z_text)}"
    )
    space = "MNI, mm" if rows[0].space == "MNI" else "scanner, mm"
    statistic = rows[0].statistic
    heads: list[ColumnHead] = [
        "cluster",
        _LABELS_HEAD,
        ("peak at x, y, z", space),
        _STATISTIC_HEADS.get(statistic, statistic),
        ("effect, %", "95 % interval"),
        ("wrong sign", "probability at the peak"),
        _LABEL_HEAD,
        ("volume, mm³", "cluster threshold"),
        ("expected wrong sign", "fraction of the cluster"),
        VEIN_HEAD,
    ]
    text_columns = {heads.index(head) for head in (_LABEL_HEAD, _LABELS_HEAD)}
    return table(caption, heads, map(_render_peak, rows), texts=text_columns)


def _render_peak(row: Any) -> list[str]:
    """Return the cells of a cluster, or of an additional peak of a cluster."""
    coordinates = ", ".join(number(mm, ".0f") for mm in (row.x, row.y, row.z))
    scanner = ",".join(f"{mm:.1f}" for mm in (row.scanner_x, row.scanner_y, row.scanner_z))
    smoothing = smoothing_choice(row.fwhm_mm, row.input_fwhm_mm)
    peak = render("peak", coordinates, scanner, row.contrast, row.series, smoothing)
    label = row.label if isinstance(row.label, str) else MISSING
    if label != MISSING and row.label_mm > 0:
        label = f"{label}, {row.label_mm:.0f} mm away".replace(" ", _NBSP)
    interval_text = interval(row.lower, row.upper, ".3g")
    peak_cells = [
        peak,
        short_number(row.peak),
        render("value", short_number(row.effect), interval_text),
        _probability_text(row.wrongsign),
        label,
    ]
    if not _is_highest_peak(row):
        return [row.cluster, "", *peak_cells, "", "", ""]
    labels = row.labels if isinstance(row.labels, str) else MISSING
    relation = "≤" if row.above < 0 else "≥"
    symbol = "CC" if row.statistic == "cc" else row.statistic[:1]
    limit = f"{symbol} {relation} {number(row.above, '.3g')}"
    return [
        row.cluster,
        labels.replace(" %", f"{_NBSP}%"),
        *peak_cells,
        render("value", short_number(row.volume_mm3), "" if math.isnan(row.above) else limit),
        _probability_text(row.expected_wrong),
        describe_veins(row),
    ]


def _probability_text(value: float) -> str:
    """Return a probability or share in percent, with small values as ``< 0.1 %``."""
    return f"< 0.1{_NBSP}%" if value < 1e-3 else number(value, ".1%").replace(" ", _NBSP)


def _is_highest_peak(row: Any) -> bool:
    """Return True for the highest peak of a cluster; additional peaks have a letter."""
    return str(row.cluster).isdigit()
