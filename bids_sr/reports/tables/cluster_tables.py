"""HTML of the table of clusters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from bids_sr.metrics.long_tables import MISSING
from bids_sr.reports.markup import Head, picked, render, table
from bids_sr.reports.tables.html_tables import number

if TYPE_CHECKING:
    import pandas as pd


class _ShownPeak(NamedTuple):
    """A row of the table of clusters, as far as it is shown; numbers may be text."""

    series: str
    fwhm_mm: float
    contrast: str
    cluster: str
    space: str
    x: float
    y: float
    z: float
    scanner_x: float
    scanner_y: float
    scanner_z: float
    statistic: str
    peak: float
    volume_mm3: float | str
    label: str
    labels: str


LISTED, LABELS = 1, 3
"""Clusters of a contrast that is not the first, and labels of a cluster, that the page has; the
table has them all.
"""


def clusters_html(clusters: pd.DataFrame, series: str, *, first: str = "") -> Markup:
    """Clusters of a series, a table for each contrast, of which one is shown at a time.

    The contrast `first` leads, where it has clusters: of the leading one further peaks in a
    cluster are shown, too.

    Parameters
    ----------
    clusters : the table of clusters
    """
    if clusters.empty:
        return Markup(
            "<p class='note'>No voxel of any series is above the threshold, so that there is no"
            " cluster.</p>"
        )
    shown = clusters[list(_ShownPeak._fields)].astype(object)
    rows = [
        _ShownPeak(*cells) for cells in shown.where(shown.notna(), MISSING).itertuples(index=False)
    ]
    widest = max(float(row.fwhm_mm) for row in rows)
    smoothing = f"smoothed by {widest:g} mm" if widest else "not smoothed"
    tables: list[tuple[str, Markup]] = []
    for contrast in sorted(
        dict.fromkeys(row.contrast for row in rows), key=lambda name: name != first
    ):
        own = [
            row
            for row in rows
            if (row.series, row.contrast, float(row.fwhm_mm)) == (series, contrast, widest)
        ]
        if tables:
            own = [row for row in own if str(row.cluster).isdigit()][:LISTED]
        if own:
            title = f"Largest clusters of {series}: {contrast}, {smoothing}"
            at: Head = ("peak at x, y, z", "MNI, mm" if own[0].space == "MNI" else "scanner, mm")
            heads: list[Head] = [
                "cluster",
                at,
                own[0].statistic,
                ("volume", "mm³"),
                "labels of the atlas",
            ]
            tables.append((title, table(title, heads, [_line(row) for row in own], texts={4})))
    return picked(tables) or Markup("<p class='note'>No cluster in the series that is shown.</p>")


def _line(row: _ShownPeak) -> list[str]:
    labels = [row.label, *re.split(r"(?<= %), ", str(row.labels))[:LABELS]]
    if labels[1].startswith(row.label):
        del labels[0]  # the cluster's first label is that at the peak
    place = ", ".join(number(f"{float(mm):.0f}") for mm in (row.x, row.y, row.z))
    scanner = ",".join(f"{float(mm):.1f}" for mm in (row.scanner_x, row.scanner_y, row.scanner_z))
    smoothing = f"{float(row.fwhm_mm):g} mm" if float(row.fwhm_mm) else "none"
    peak = render("peak", place, scanner, row.contrast, row.series, smoothing)
    told = ", ".join(label for label in labels if label != MISSING) or "–"
    return [str(row.cluster), peak, number(str(row.peak)), number(str(row.volume_mm3)), told]
