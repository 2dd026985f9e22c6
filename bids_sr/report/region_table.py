"""Tables of the mean effects of regions as HTML; the file of the run lists all regions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from bids_sr.engine.number_text import interval, number, p_value
from bids_sr.evaluation.result_text import quote_contrast
from bids_sr.evaluation.words import EFFECT_UNIT
from bids_sr.glm.vein_signs import LARGE_PERCENT
from bids_sr.io.smoothing_words import smoothing_choice, smoothing_text
from bids_sr.report.evaluation_rows import list_series, series_text
from bids_sr.report.markup import (
    ColumnHead,
    render,
    render_by_contrast,
    render_selector,
    table,
)

if TYPE_CHECKING:
    import pandas as pd

_MISSING = "–"
_NBSP = "\N{NO-BREAK SPACE}"
_MAX_Q = 0.05
_MAX_ROWS = 10  # of a table
_VEIN_SHARE = 0.5  # share of voxels with a large effect from which a region is marked


def regions_html(
    regions: pd.DataFrame,
    series_order: Sequence[str],
    used: Mapping[str, str],
    first_contrast: str = "",
    names: Mapping[str, str] = MappingProxyType({}),
) -> Markup:
    """Return the mean effects of regions at the narrowest smoothing, with a selector of tables.

    The tables of each contrast are the regions of interest, clusters, and the atlas labels with a
    false discovery rate of at most .05, with at most `_MAX_ROWS` rows. `regions` is the table of a
    run. `used` are the series to use by contrast; if a region was not measured in this series, the
    first of `series_order` is shown. `first_contrast` is shown first. `names` are the names of
    contrasts over runs as requested, by contrast.
    """
    is_shown = regions["fwhm_mm"] == regions["fwhm_mm"].min()
    shown = regions[is_shown | (regions["origin"] == "cluster")]
    shown = shown.assign(origin=shown["origin"].replace("auto", "roi"))
    contrasts = sorted(shown["contrast"].unique(), key=lambda name: name != first_contrast)
    entries = []
    for title, origin in (
        ("Regions of interest", "roi"),
        ("Clusters", "cluster"),
        ("Atlas labels", "atlas"),
    ):
        by_contrast = {}
        for contrast in contrasts:
            rows = shown[(shown["origin"] == origin) & (shown["contrast"] == contrast)]
            available = list_series(rows.itertuples(), series_order)
            preferred = (used.get(contrast, ""), *available)
            series = next((item for item in preferred if item in available), "")
            selected = list(rows[rows["series"] == series].itertuples())
            name = names.get(contrast) or quote_contrast(contrast).strip("“”")
            by_contrast[contrast] = _render_rows(title, origin, selected, name)
        has_rows = (shown["origin"] == origin).any()
        entries.append((title, render_by_contrast(by_contrast) if has_rows else Markup("")))
    tables = render_selector(entries)
    if tables and (input_fwhm_mm := shown["input_fwhm_mm"].max()) > 0:
        text = f"The acquired series was {smoothing_text(0, input_fwhm_mm)}."
        return render("note", "note", text) + tables
    return tables


def _render_rows(title: str, origin: str, rows: Sequence[Any], contrast: str) -> Markup:
    """Render the regions of an origin in a contrast; a note if none is shown.

    Clusters are in the order of the table, with the largest first, and active atlas labels begin
    with the strongest.
    """
    columns = [_REGION, _EFFECT]
    is_over_runs = bool(rows) and hasattr(rows[0], "smallest_change")
    if is_over_runs:
        columns.append(_SMALLEST_CHANGE)
    columns += _OTHERS
    if origin == "cluster":
        columns.append(_PEAK)
    if origin == "atlas" or (is_over_runs and origin == "roi"):
        columns.append(_Q)
    if origin == "atlas":
        active = (row for row in rows if row.q <= _MAX_Q)
        rows = sorted(active, key=lambda row: -abs(row.effect))
    if not rows:
        found = "with q ≤ .05" if origin == "atlas" else "found"
        return render("note", "note", f"{title}: none {found} for {contrast}.")
    remark = f" ({_MAX_ROWS} of {len(rows)} rows)" if len(rows) > _MAX_ROWS else ""
    limit = " with q ≤ .05" if origin == "atlas" else ""
    series, smoothing = series_text(rows[0].series), ""
    if rows[0].fwhm_mm:
        smoothing = f", {smoothing_text(rows[0].fwhm_mm, rows[0].input_fwhm_mm)}"
    caption = f"{title}{limit} in {series}{smoothing}, contrast {contrast}{remark}"
    columns += _VOXELS
    cells = [[cell(row) for _, cell in columns] for row in rows[:_MAX_ROWS]]
    return table(caption, [head for head, _ in columns], cells, names=1, texts=[0])


def _format_value(value: float) -> str:
    """Return a number as text, or a dash if it is missing."""
    return number(value) if np.isfinite(value) else _MISSING


def _describe_interval(row: Any) -> str:
    """Return the interval of an effect; why there is none if its noise was estimated."""
    few_data = "too few data" if np.isfinite(row.noise_dof) else ""
    return interval(row.lower, row.upper) or few_data


def _count(row: Any) -> str:
    """Return the number of voxels of a region, and of how many voxels given if some are unused."""
    if row.voxels == row.voxels_given:
        return f"{row.voxels}"
    return f"{row.voxels}{_NBSP}of{_NBSP}{row.voxels_given}"


def _render_peak(row: Any) -> str:
    """Return t and position of a peak, which moves the crosshair of the viewer."""
    scanner = [row.scanner_x, row.scanner_y, row.scanner_z]
    template = [row.x, row.y, row.z]
    shown = template if np.isfinite(template).all() else scanner
    return render(
        "value",
        render(
            "peak",
            ", ".join(number(mm, ".0f") for mm in shown),
            ",".join(f"{mm:.1f}" for mm in scanner),
            row.contrast,
            row.series,
            smoothing_choice(row.fwhm_mm, row.input_fwhm_mm),
        ),
        f"t = {number(row.peak, '.3g')}",
    )


def _describe_veins(row: Any) -> str:
    """Return the share of voxels with a large effect, marked if the region is probably in veins.

    The text is "" if the row has no share.
    """
    if not np.isfinite(row.large_share):
        return ""
    return ("vein? " if row.large_share >= _VEIN_SHARE else "") + number(row.large_share, ".0%")


_Column = tuple[ColumnHead, Callable[[Any], str]]
_REGION: _Column = ("region", lambda row: row.region)
_EFFECT: _Column = (
    ("mean effect", f"{EFFECT_UNIT}, 95 % interval"),
    lambda row: render("value", number(row.effect), _describe_interval(row)),
)
_SMALLEST_CHANGE: _Column = (
    ("change found with a probability of 80 %", EFFECT_UNIT),
    lambda row: _format_value(row.smallest_change),
)
_OTHERS: Sequence[_Column] = (
    ("acquired", lambda row: _format_value(row.acquired)),
    ("measured", lambda row: _format_value(row.measured)),
)
_PEAK: _Column = (("peak at x, y, z", "MNI, or scanner without a T1w image; mm"), _render_peak)
_Q: _Column = ("q", lambda row: p_value(row.q).replace(" ", _NBSP))
_VOXELS: Sequence[_Column] = (
    (("large effects", f"voxels above {LARGE_PERCENT:g} %"), _describe_veins),
    ("voxels", _count),
)
