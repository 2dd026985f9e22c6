"""HTML of the largest clusters: one table a contrast, at the widest smoothing; the rest is in the TSV."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from bids_sr.metrics.long_tables import MISSING
from bids_sr.reports.markup import Head, folded, joined, table
from bids_sr.reports.tables.html_tables import number


def clusters_html(rows: Sequence[Mapping[str, str]], series: Sequence[str], *, first: str = "") -> Markup:
    """Clusters of some series, a table for each contrast, all but the first behind a line to click.

    `rows` are those of the table of clusters; `series` are shown in this order, others not at all;
    the contrast `first` leads, where it has clusters.
    """
    if not rows:
        return Markup(
            "<p class='notice'>No voxel of any series is above the threshold, so that there is no cluster.</p>"
        )
    widest = max((row["fwhm_mm"] for row in rows), key=float)
    smoothing = f"smoothed by {widest} mm" if float(widest) else "not smoothed"
    tables = []
    for contrast in sorted(dict.fromkeys(row["contrast"] for row in rows), key=lambda name: name != first):
        own = [row for row in rows if (row["contrast"], row["fwhm_mm"]) == (contrast, widest)]
        lines = [_line(row) for name in series for row in own if row["series"] == name]
        if lines:
            title = f"Largest clusters, {contrast}, {smoothing}"
            space = "MNI, mm" if own[0]["space"] == "MNI" else "scanner, mm"
            axes = ((axis, space) for axis in "xyz")
            heads: list[Head] = ["series", *axes, f"peak {own[0]['statistic']}", ("volume", "mm³"), "labels (AAL2)"]
            tables.append((title, table(title, heads, lines, texts={6})))
    shown = [made if place == 0 else folded(title, made) for place, (title, made) in enumerate(tables)]
    return joined(shown) or Markup("<p class='notice'>No cluster in the series that are compared.</p>")


def _line(row: Mapping[str, str]) -> list[str]:
    labels = row["labels"]
    if row["label"] != MISSING:
        labels = f"{row['label']}; {labels}" if not labels.startswith(row["label"]) else labels
    cells = (f"{float(row[axis]):.0f}" for axis in "xyz")
    return [row["series"], *map(number, (*cells, row["peak"], row["volume_mm3"])), "–" if labels == MISSING else labels]
