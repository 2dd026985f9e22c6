"""HTML of the table of clusters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from bids_sr.metrics.long_tables import MISSING
from bids_sr.metrics.number_text import interval, number, short
from bids_sr.reports.markup import Head, picked, render, table

if TYPE_CHECKING:
    import pandas as pd

_LISTED = 1
"""Clusters of a contrast that is not the first, that the page has; the table has them all."""
_NUMBERS = (
    *("fwhm_mm", "x", "y", "z", "scanner_x", "scanner_y", "scanner_z"),
    *("peak", "volume_mm3", "effect", "lower", "upper", "wrongsign", "expected_wrong"),
)


def clusters_html(clusters: pd.DataFrame, series: str, *, first: str = "") -> Markup:
    """Return clusters of a series, a table for each contrast, of which one is shown at a time.

    The contrast `first` leads, where it has clusters: of the leading one further peaks in a
    cluster are shown, too.
    """
    if clusters.empty:
        return Markup(
            "<p class='note'>No voxel of any series is above the threshold, so that there is no"
            " cluster.</p>"
        )
    # as made, a table holds text; as read from its file, numbers
    told = clusters.reindex(columns=list(dict.fromkeys([*clusters.columns, *_NUMBERS])))
    told = told.replace(MISSING, math.nan).astype(dict.fromkeys(_NUMBERS, float))
    widest = told["fwhm_mm"].max()
    shown = told[(told["series"] == series) & (told["fwhm_mm"] == widest)]
    smoothing = f"smoothed by {widest:g} mm" if widest else "not smoothed"
    tables: list[tuple[str, Markup]] = []
    for contrast in sorted(clusters["contrast"].unique(), key=lambda name: name != first):
        own = list(shown[shown["contrast"] == contrast].itertuples())
        if tables:
            own = [row for row in own if str(row.cluster).isdigit()][:_LISTED]
        if own:
            by = f", by {own[0].threshold}" if "threshold" in clusters else ""
            title = f"Largest clusters of {series}: {contrast}, {smoothing}{by}"
            at: Head = ("peak at x, y, z", "MNI, mm" if own[0].space == "MNI" else "scanner, mm")
            heads: list[Head] = ["cluster", at, own[0].statistic, ("volume", "mm³")]
            heads += [("effect", "95 % interval"), ("opposite sign", "probability at the peak")]
            heads += [("expected wrong", "share of the cluster")]
            heads += ["label at the peak", "labels of the cluster"]
            tables.append((title, table(title, heads, map(_line, own), texts={7, 8})))
    return picked(tables) or Markup("<p class='note'>No cluster in the series that is shown.</p>")


def _line(row: Any) -> list[str]:
    place = ", ".join(number(mm, ".0f") for mm in (row.x, row.y, row.z))
    scanner = ",".join(f"{mm:.1f}" for mm in (row.scanner_x, row.scanner_y, row.scanner_z))
    smoothing = f"{row.fwhm_mm:g} mm" if row.fwhm_mm else "none"
    peak = render("peak", place, scanner, row.contrast, row.series, smoothing)
    labels = (each if isinstance(each, str) else MISSING for each in (row.label, row.labels))
    ends = f" {interval(row.lower, row.upper, '.3g')}" if math.isfinite(row.lower) else ""
    wrong = ("< .001" if p < 1e-3 else short(p) for p in (row.wrongsign, row.expected_wrong))
    belief = [f"{short(row.effect)}{ends}", *wrong]
    return [str(row.cluster), peak, short(row.peak), short(row.volume_mm3), *belief, *labels]
