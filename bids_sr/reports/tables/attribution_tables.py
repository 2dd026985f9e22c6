"""The paper's claim taken apart, as tables: size and overlap of regions, and what each step contributes."""

from collections.abc import Iterable, Sequence
from html import escape

from bids_sr.metrics.long_tables import MetricRow
from bids_sr.reports.tables import evaluation_rows as pick
from bids_sr.reports.tables.evaluation_tables import NOTHING, cell, table_html

THRESHOLDS = {"quarter": "quarter", "fixed": "z > 3.1", "fdr": "FDR .05"}
PARTS = {
    "total": "whole",
    "part_grid": "grid",
    "part_smoothing": "smoothing",
    "part_method": "method",
    "part_threshold": "of it, by the moving threshold",
}


def claim_html(rows: Sequence[MetricRow], names: Sequence[str] = ()) -> str:
    """Size and overlap of the regions by series, smoothing and threshold, and what each step contributes."""
    own = pick.having(rows, "claim_")
    parts = []
    for pair in dict.fromkeys(row.contrast for row in own):
        some = [row for row in own if row.contrast == pair]
        parts.append(_claim_levels(some, pair, names))
        parts += [_claim_parts(some, pair, figure, names) for figure in ("size", "dice")]
        parts += [
            f"<p>Overlap not defined, because a region is empty: {row.value:g} of {row.n} with threshold "
            f"{escape(THRESHOLDS.get(row.region, row.region))}.</p>"
            for row in some if row.measure == "claim_undefined" and row.value > 0
        ]  # fmt: skip
    return "".join(parts) or NOTHING


def _thresholds(rows: Iterable[MetricRow]) -> list[str]:
    found = list(dict.fromkeys(row.region for row in rows))
    return [name for name in THRESHOLDS if name in found] + [name for name in found if name not in THRESHOLDS]


def _claim_levels(rows: Sequence[MetricRow], pair: str, names: Sequence[str]) -> str:
    levels = [row for row in rows if row.measure in ("claim_size", "claim_dice")]
    thresholds = _thresholds(levels)
    found = {(row.series, row.fwhm_mm, row.region, row.measure): row for row in levels}
    heads = [("series", ""), ("smoothing", "mm")]
    heads += [
        (f"{what}: {THRESHOLDS.get(t, t)}", unit) for t in thresholds for what, unit in (("size", "mm³"), ("Dice", ""))
    ]
    lines = []
    for fwhm in sorted({row.fwhm_mm for row in levels}):
        for name in pick.series_of([row for row in levels if row.fwhm_mm == fwhm], names):
            cells = [f"{fwhm:g}"]
            for t in thresholds:
                size, overlap = (found.get((name, fwhm, t, f"claim_{what}")) for what in ("size", "dice"))
                cells += [
                    f"{size.value:.0f}" if pick.known(size) and size else "–" if size is None else "n/a",
                    cell(overlap),
                ]
            lines.append(((pick.series_text(name),), cells))
    title = pair.replace("+", " and ")
    return table_html(f"Regions of {title}: mean size and overlap (quarter: the threshold of the paper)", heads, lines)


def _claim_parts(rows: Sequence[MetricRow], pair: str, figure: str, names: Sequence[str]) -> str:
    own = [row for row in rows if row.measure in {f"claim_{part}_{figure}" for part in PARTS}]
    found = {(row.series, row.region, row.measure): row for row in own}
    lines = [
        (
            (pick.series_text(name), THRESHOLDS.get(t, t)),
            [cell(found.get((name, t, f"claim_{part}_{figure}"))) for part in PARTS],
        )
        for t in _thresholds(own)
        for name in pick.series_of(own, names)
        if (name, t, f"claim_total_{figure}") in found
    ]
    what = "size, as ratios that multiply" if figure == "size" else "overlap, as differences that add"
    caption = f"The change from raw taken apart, {pair.replace('+', ' and ')}: {what}"
    return table_html(caption, [("series", ""), ("threshold", ""), *[(text, "") for text in PARTS.values()]], lines)
