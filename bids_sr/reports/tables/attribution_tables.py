"""Attribution of region size as tables: size and overlap of regions, and what each step contributes."""

from collections.abc import Hashable, Iterable, Sequence

from markupsafe import Markup

from bids_sr.metrics.long_tables import MetricRow
from bids_sr.reports.markup import joined
from bids_sr.reports.tables import evaluation_rows as pick
from bids_sr.reports.tables.evaluation_tables import NOTHING, Names, Rows, cells, table_of

THRESHOLDS = {"quarter": "quarter", "fixed": "z > 3.1", "fdr": "FDR .05"}
PARTS = {
    "total": "whole",
    "part_grid": "grid",
    "part_smoothing": "smoothing",
    "part_method": "method",
    "part_threshold": "of it, by the moving threshold",
}


def claim_html(rows: Rows, names: Names = ()) -> Markup:
    """Size and overlap of the regions by series, smoothing and threshold, and what each step contributes."""
    own = pick.having(rows, "claim_")
    parts = []
    for pair in dict.fromkeys(row.contrast for row in own):
        some = [row for row in own if row.contrast == pair]
        parts.append(_levels(some, pair, names))
        parts += [_parts(some, pair, metric, names) for metric in ("size", "dice")]
        parts += [
            Markup("<p>Overlap not defined, because a region is empty: {:g} of {} with threshold {}.</p>").format(
                row.value, row.n, THRESHOLDS.get(row.region, row.region)
            )
            for row in some if row.measure == "claim_undefined" and row.value > 0
        ]  # fmt: skip
    return joined(parts) or NOTHING


def _thresholds(rows: Iterable[MetricRow]) -> list[str]:
    found = list(dict.fromkeys(row.region for row in rows))
    return [name for name in THRESHOLDS if name in found] + [name for name in found if name not in THRESHOLDS]


def _levels(rows: Rows, pair: str, names: Names) -> Markup:
    levels = [row for row in rows if row.measure in ("claim_size", "claim_dice")]
    columns = []
    for region in _thresholds(levels):
        own = {(r.series, r.fwhm_mm, r.measure): r for r in levels if r.region == region}
        sizes = {key[:2]: row for key, row in own.items() if "size" in key[2]}
        size = {key: f"{row.value:.0f}" if pick.known(row) else "n/a" for key, row in sizes.items()}
        dice = cells({key[:2]: row for key, row in own.items() if "dice" in key[2]})
        label = THRESHOLDS.get(region, region)
        columns += [(f"size: {label}", "mm³", size), (f"Dice: {label}", "", dice)]
    lines: dict[Hashable, Sequence[str]] = {
        (name, fwhm): (pick.series_text(name), f"{fwhm:g}")
        for fwhm in sorted({row.fwhm_mm for row in levels})
        for name in pick.series_of([row for row in levels if row.fwhm_mm == fwhm], names)
    }
    caption = f"Regions of {pair.replace('+', ' and ')}: mean size and overlap (quarter: the threshold of the paper)"
    return table_of(caption, ["series", ("smoothing", "mm")], lines, columns)


def _parts(rows: Rows, pair: str, metric: str, names: Names) -> Markup:
    measures = {f"claim_{part}_{metric}": text for part, text in PARTS.items()}
    own = [row for row in rows if row.measure in measures]
    found = {measure: {(r.series, r.region): r for r in own if r.measure == measure} for measure in measures}
    lines: dict[Hashable, Sequence[str]] = {
        (name, region): (pick.series_text(name), THRESHOLDS.get(region, region))
        for region in _thresholds(own)
        for name in pick.series_of(own, names)
        if (name, region) in found[f"claim_total_{metric}"]
    }
    what = "size, as ratios that multiply" if metric == "size" else "overlap, as differences that add"
    caption = f"The change from raw taken apart, {pair.replace('+', ' and ')}: {what}"
    columns = [(text, "", cells(found[measure])) for measure, text in measures.items()]
    return table_of(caption, ["series", "threshold"], lines, columns, names=2)
