"""Tables of the mean effects of regions as HTML; the file of the run lists all regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    for title, origin in (
        ("Regions of interest", "roi"),
        ("Clusters of the acquired map", "cluster"),
        ("Atlas labels", "atlas"),
    ):
        rows = narrow[narrow["origin"] == origin]
        by_contrast = {
            name: _render_rows(
                origin, list(rows[rows["contrast"] == name].itertuples()), name, series_order
            )
            for name in contrasts
        }
        entries.append((title, render_by_contrast(by_contrast) if len(rows) else Markup("")))
    tables = render_selector(entries)
    if tables and (input_fwhm_mm := narrow["input_fwhm_mm"].max()) > 0:
        text = f"The acquired series was {smoothing_text(0, input_fwhm_mm)}."
        return render("note", "note", text) + tables
    return tables


def _render_rows(
    origin: str, rows: Sequence[Any], contrast: str, series_order: Sequence[str]
) -> Markup:
    """Render the regions of an origin in a contrast; a note if none is shown.

    Clusters are in the order of the table, with the largest first, and active atlas labels begin
    with the strongest.
    """
    effect = [*_EFFECT]
    if rows and hasattr(rows[0], "smallest_change"):  # of a contrast over runs
        effect.append(_SMALLEST_CHANGE)
    if origin == "roi":
        caption, note = f"Regions of interest, contrast {contrast}", ""
        columns: list[_Column] = [_REGION, ("series", lambda row: series_text(row.series))]
        columns += [*effect, *_VOXELS]
        rows = _select_series(rows, series_order)
    elif origin == "cluster":
        caption = f"Clusters of the acquired map, contrast {contrast}"
        note = (
            f"No clusters of {contrast} were measured: the acquired map has none, or its detail"
            " may not be interpreted."
        )
        columns = [("cluster", _REGION[1]), *effect, *_OTHERS, *_VOXELS]
    else:
        caption = f"Atlas labels with q ≤ .05, contrast {contrast}"
        note = f"No atlas label has q ≤ .05 for {contrast}."
        q = ("q", lambda row: p_value(row.q).replace(" ", _NBSP))
        columns = [("atlas label", _REGION[1]), *effect, *_OTHERS, q, *_VOXELS]
        active = (row for row in rows if row.q <= _MAX_Q)
        rows = sorted(active, key=lambda row: -abs(row.effect))
    if not rows and note:
        return render("note", "note", note)
    remark = f" ({_MAX_ROWS} of {len(rows)} rows)" if len(rows) > _MAX_ROWS else ""
    cells = [[cell(row) for _, cell in columns] for row in rows[:_MAX_ROWS]]
    n_names = 2 if origin == "roi" else 1
    heads = [head for head, _ in columns]
    return table(caption + remark, heads, cells, names=n_names, texts=range(n_names))


def _select_series(rows: Sequence[Any], series_order: Sequence[str]) -> list[Any]:
    """Return the rows of the acquired, super-resolved and measured series, sorted by region."""
    series = [
        name
        for name in list_series(rows, series_order)
        if name == ACQUIRED or get_kind(name) not in ("baseline", "control")
    ]
    names = list(dict.fromkeys(row.region for row in rows))
    return sorted(
        (row for row in rows if row.series in series),
        key=lambda row: (names.index(row.region), series.index(row.series)),
    )


def _format_value(value: float) -> str:
    """Return a number as text, or a dash if it is missing."""
    return number(value) if np.isfinite(value) else _MISSING


def _count(row: Any) -> str:
    """Return the number of voxels of a region, and of how many voxels given if some are unused."""
    if row.voxels == row.voxels_given:
        return f"{row.voxels}"
    return f"{row.voxels}{_NBSP}of{_NBSP}{row.voxels_given}"


_Column = tuple[ColumnHead, Callable[[Any], str]]
_REGION: _Column = ("region", lambda row: row.region)
_EFFECT: Sequence[_Column] = (
    (
        ("mean effect ± SE of its noise", EFFECT_UNIT),
        lambda row: f"{number(row.effect)} ± {number(row.noise_se)}",
    ),
    (("SD of the reconstruction error", EFFECT_UNIT), lambda row: _format_value(row.error_sd)),
    ("95 % interval", lambda row: interval(row.lower, row.upper) or _MISSING),
)
_SMALLEST_CHANGE: _Column = (
    ("change found with a probability of 80 %", EFFECT_UNIT),
    lambda row: _format_value(row.smallest_change),
)
_OTHERS: Sequence[_Column] = (
    ("acquired", lambda row: _format_value(row.acquired)),
    ("measured", lambda row: _format_value(row.measured)),
)
_VOXELS: Sequence[_Column] = ((VEIN_HEAD, describe_veins), ("voxels", _count))
