"""HTML of the table of clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from bids_sr.metrics.long_tables import MISSING
from bids_sr.reports.markup import Head, picked, render, table
from bids_sr.reports.tables.html_tables import number

if TYPE_CHECKING:
    import pandas as pd


class ShownPeak(NamedTuple):
    """A row of the table of clusters, as far as it is shown; numbers may be text."""

    series: str
    fwhm_mm: float
    contrast: str
    space: str
    x: float
    y: float
    z: float
    scanner_x: float
    scanner_y: float
    scanner_z: float
    statistic: str
    peak: float
    volume_mm3: float
    label: str
    labels: str


def clusters_html(clusters: pd.DataFrame, series: Sequence[str], *, first: str = "") -> Markup:
    """Clusters of some series, a table for each contrast, of which one is shown at a time.

    `clusters` are the columns of the table of clusters; `series` are shown in this order, others not at all;
    the contrast `first` leads, where it has clusters.
    """
    if clusters.empty:
        return Markup("<p class='note'>No voxel of any series is above the threshold, so that there is no cluster.</p>")
    shown = clusters[list(ShownPeak._fields)].astype(object)
    rows = [ShownPeak(*cells) for cells in shown.where(shown.notna(), MISSING).itertuples(index=False)]
    widest = max(float(row.fwhm_mm) for row in rows)
    smoothing = f"smoothed by {widest:g} mm" if widest else "not smoothed"
    tables = []
    for contrast in sorted(dict.fromkeys(row.contrast for row in rows), key=lambda name: name != first):
        own = [row for row in rows if row.contrast == contrast and float(row.fwhm_mm) == widest]
        lines = [_line(row) for name in series for row in own if row.series == name]
        if lines:
            title = f"Largest clusters: {contrast}, {smoothing}"
            space = "MNI, mm" if own[0].space == "MNI" else "scanner, mm"
            at: Head = ("peak at x, y, z", space)
            heads: list[Head] = ["series", at, own[0].statistic, ("volume", "mm³"), "labels of the atlas"]
            tables.append((title, table(title, heads, lines, texts={4})))
    return picked(tables) or Markup("<p class='note'>No cluster in the series that are compared.</p>")


def _line(row: ShownPeak) -> list[str]:
    labels = row.labels
    if row.label != MISSING:
        labels = f"{row.label}; {labels}" if not labels.startswith(row.label) else labels
    place = ", ".join(number(f"{float(mm):.0f}") for mm in (row.x, row.y, row.z))
    scanner = ",".join(f"{float(mm):.1f}" for mm in (row.scanner_x, row.scanner_y, row.scanner_z))
    smoothing = f"{float(row.fwhm_mm):g} mm" if float(row.fwhm_mm) else "none"
    peak = render("peak", place, scanner, row.contrast, row.series, smoothing)
    cells = (number(str(row.peak)), number(str(row.volume_mm3)), "–" if labels == MISSING else labels)
    return [row.series, peak, *cells]
