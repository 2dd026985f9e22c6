"""Tables of the mean effects of regions as HTML; the file of the run lists all regions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from bids_sr.engine.number_text import interval, number, p_value
from bids_sr.evaluation.words import EFFECT_UNIT
from bids_sr.io.series import ACQUIRED
from bids_sr.io.smoothing_words import smoothing_text
from bids_sr.report.evaluation_rows import (
    get_kind,
    list_series,
    series_text,
)
from bids_sr.report.markup import (
    ColumnHead,
    join,
    render,
    render_by_contrast,
    render_selector,
    table,
)
from bids_sr.report.vein_column import VEIN_HEAD, describe_veins

if TYPE_CHECKING:
    import pandas as pd

_MISSING = "–"
_NBSP = "\N{NO-BREAK SPACE}"
_MAX_Q = 0.05
_MAX_ROWS = 10  # of a table
_EFFECT_HEADS: Sequence[ColumnHead] = (
    ("mean effect ± SE of its noise", EFFECT_UNIT),
    ("SD of the reconstruction error", EFFECT_UNIT),
    "95 % interval",
)


def regions_html(
    regions: pd.DataFrame, series_order: Sequence[str], first_contrast: str = ""
) -> Markup:
    """Return the mean effects of regions at the narrowest smoothing, with a selector of tables.

    The tables of each contrast are the regions of interest, clusters, and the atlas labels with a
    false discovery rate of at most .05, with at most `_MAX_ROWS` rows. Regions of interest have
    rows of the acquired, the super-resolved and the measured series. `regions` is the table of a
    run. `series_order` is the display order; other series follow. `first_contrast` is shown first.
    """
    narrow = regions[regions["fwhm_mm"] == regions["fwhm_mm"].min()]
    narrow = narrow.assign(origin=narrow["origin"].replace("auto", "roi"))
    contrasts = sorted(narrow["contrast"].unique(), key=lambda name: name != first_contrast)
    entries = []
    for title, origin, render_rows in (
        ("Regions of interest", "roi", partial(_render_named, series_order=series_order)),
        ("Clusters of the acquired map", "cluster", _render_clusters),
        ("Atlas labels", "atlas", _render_labels),
    ):
        rows = narrow[narrow["origin"] == origin]
        by_contrast = {
            name: render_rows(list(rows[rows["contrast"] == name].itertuples()), name)
            for name in contrasts
        }
        entries.append((title, render_by_contrast(by_contrast) if len(rows) else Markup("")))
    tables = render_selector(entries)
    return join([_note_input_smoothing(narrow), tables]) if tables else tables


def _note_input_smoothing(regions: pd.DataFrame) -> Markup:
    """Return a note if the series was smoothed before super-resolution, otherwise ""."""
    input_fwhm_mm = regions["input_fwhm_mm"].max()
    if not input_fwhm_mm > 0:
        return Markup("")
    text = smoothing_text(0, input_fwhm_mm)
    return Markup("<p class='note'>The acquired series was {}.</p>").format(text)


def _render_named(rows: Sequence[Any], contrast: str, series_order: Sequence[str]) -> Markup:
    """Render the regions of interest of a contrast, one row per region and series."""
    all_series = list_series(rows, series_order)
    series = [
        name
        for name in all_series
        if name == ACQUIRED or get_kind(name) not in ("baseline", "control")
    ]
    names = list(dict.fromkeys(row.region for row in rows))
    shown_rows = sorted(
        (row for row in rows if row.series in series),
        key=lambda row: (names.index(row.region), series.index(row.series)),
    )
    lines = [
        [row.region, series_text(row.series), *_list_effect(row), describe_veins(row), _count(row)]
        for row in shown_rows
    ]
    heads = ["region", "series", *_name_columns(shown_rows), VEIN_HEAD, "voxels"]
    return _tabulate(f"Regions of interest, contrast {contrast}", heads, lines, 2)


def _render_clusters(rows: Sequence[Any], contrast: str) -> Markup:
    """Render the clusters of a contrast, the largest first; a note if there are none."""
    lines = [
        [row.region, *_list_effect(row), *_list_others(row), describe_veins(row), _count(row)]
        for row in rows
    ]
    heads = ["cluster", *_name_columns(rows), "acquired", "measured", VEIN_HEAD, "voxels"]
    caption = f"Clusters of the acquired map, contrast {contrast}"
    return _tabulate(caption, heads, lines, 1) or render(
        "note",
        "note",
        f"No clusters of {contrast} were measured: the acquired map has none, or its detail may"
        " not be interpreted.",
    )


def _render_labels(rows: Sequence[Any], contrast: str) -> Markup:
    """Render the active labels of a contrast, the strongest first; a note if there are none."""
    active = [row for row in rows if row.q <= _MAX_Q]
    lines = [
        [
            row.region,
            *_list_effect(row),
            *_list_others(row),
            p_value(row.q).replace(" ", _NBSP),
            describe_veins(row),
            _count(row),
        ]
        for row in sorted(active, key=lambda row: -abs(row.effect))
    ]
    heads = ["atlas label", *_name_columns(rows), "acquired", "measured", "q", VEIN_HEAD, "voxels"]
    caption = f"Atlas labels with q ≤ .05, contrast {contrast}"
    return _tabulate(caption, heads, lines, 1) or render(
        "note", "note", f"No atlas label has q ≤ .05 for {contrast}."
    )


def _tabulate(
    caption: str, heads: Sequence[ColumnHead], lines: Sequence[Sequence[str]], n_names: int
) -> Markup:
    """Render the first rows of a table; "" if there are no rows.

    The caption states how many rows there are. `n_names` is the number of columns with names.
    """
    n_hidden = len(lines) - _MAX_ROWS
    remark = f" ({_MAX_ROWS} of {len(lines)} rows)" if n_hidden > 0 else ""
    shown = lines[:_MAX_ROWS]
    return table(caption + remark, heads, shown, names=n_names, texts=range(n_names))


def _name_columns(rows: Sequence[Any]) -> list[ColumnHead]:
    """Return the heads of the cells of `_list_effect`."""
    heads = list(_EFFECT_HEADS)
    if rows and hasattr(rows[0], "smallest_change"):
        heads.append(("change found with a probability of 80 %", EFFECT_UNIT))
    return heads


def _list_effect(row: Any) -> list[str]:
    """Return the cells of the effect of a region and its errors.

    Contrasts over runs also have the smallest change that is found.
    """
    cells = [
        f"{number(row.effect)} ± {number(row.noise_se)}",
        _format_value(row.error_sd),
        interval(row.lower, row.upper) or _MISSING,
    ]
    if hasattr(row, "smallest_change"):
        cells.append(_format_value(row.smallest_change))
    return cells


def _list_others(row: Any) -> list[str]:
    """Return the cells of the acquired and the measured value of a region."""
    return [_format_value(row.acquired), _format_value(row.measured)]


def _format_value(value: float) -> str:
    """Return a number as text, or a dash if it is missing."""
    return number(value) if np.isfinite(value) else _MISSING


def _count(row: Any) -> str:
    """Return the number of voxels of a region, and of how many voxels given if some are unused."""
    if row.voxels == row.voxels_given:
        return f"{row.voxels}"
    return f"{row.voxels}{_NBSP}of{_NBSP}{row.voxels_given}"
