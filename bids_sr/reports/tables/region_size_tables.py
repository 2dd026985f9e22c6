"""Tables of region size and overlap, and of what changes them, as HTML; the paper's comparison in words first."""

import math
from collections.abc import Iterable

from markupsafe import Markup

from bids_sr.metrics.long_tables import MetricRow
from bids_sr.reports.markup import joined, picked
from bids_sr.reports.tables import evaluation_rows as pick
from bids_sr.reports.tables.evaluation_tables import NOTHING, Names, Rows, Titled, by_smoothing, cells, table_of

THRESHOLDS = {"quarter": "upper quarter of the range", "fixed": "z > 3.1", "fdr": "FDR .05"}
PARTS = {
    "total": "total",
    "part_grid": "grid",
    "part_smoothing": "smoothing",
    "part_method": "method",
    "part_threshold": "due to the threshold",
}


def claim_html(rows: Rows, names: Names = ()) -> Markup:
    """Size and overlap of the regions by series, smoothing and threshold, and what each step contributes."""
    own = pick.having(rows, "claim")
    tables: list[Titled] = []
    parts: list[Markup] = []
    for pair in dict.fromkeys(row.contrast for row in own):
        some = [row for row in own if row.contrast == pair]
        told = joined(Markup("<p>{}</p>").format(text) for text in size_words(some, pair, names))
        both = pair.replace("+", " and ")
        tables += [
            (f"{both}: sources of the change in size", told + _size_parts(some, pair, "size", names)),
            (f"{both}: sources of the change in overlap", _size_parts(some, pair, "dice", names)),
            (f"{both}: size and overlap", _region_sizes(some, pair, names)),
        ]
        parts += [
            Markup("<p>Overlap not defined, because a region is empty: {:g} of {} with threshold {}.</p>").format(
                row.value, row.n, THRESHOLDS.get(row.region, row.region)
            )
            for row in some if row.measure == "claim_undefined" and row.value > 0
        ]  # fmt: skip
    return joined([picked(tables), *parts]) or NOTHING


def size_words(rows: Rows, pair: str, names: Names = ()) -> list[str]:
    """What the paper compares, in a sentence a method: both contrasts, both widths, and the parts of the change."""
    found = {(row.series, row.measure, row.fwhm_mm): row.value for row in rows if row.region == "quarter"}
    widths = sorted({fwhm for series, measure, fwhm in found if (series, measure) == ("raw", "claim_size")})
    methods = [name for name in pick.series_of(rows, names) if pick.kind_of(name) == "method"]
    if len(widths) < 3:
        return []
    none, own, acquired = widths[0], widths[-2], widths[-1]
    texts = []
    for method in methods:
        measures = [f"claim_{name}_size" for name in ("total", "part_grid", "part_smoothing", "part_method")]
        parts = [found.get((method, measure, own), math.nan) for measure in measures]
        both = [found.get((name, "claim_size", none), math.nan) for name in (method, "raw")]
        if all(map(math.isfinite, parts)):
            total, grid, smoothing, by_method = (_change(part) for part in parts)
            alike = f" Without any smoothing: {_change(both[0] / both[1])}." if all(both) else ""
            texts.append(
                f"Region size of {pair.replace('+', ' and ')} (mean of the two contrasts, upper quarter): {total} from "
                f"the acquired series smoothed by {acquired:g} mm to {method} smoothed by {own:g} mm. {grid} is due to "
                f"the finer grid, {smoothing} to less smoothing, {by_method} to {method} (the factors multiply).{alike}"
            )
    return texts


def _change(ratio: float) -> str:
    """A ratio of sizes as a change."""
    return "n/a" if not math.isfinite(ratio) else f"{100 * (ratio - 1):+.0f} %".replace("-", "−")


def _thresholds(rows: Iterable[MetricRow]) -> list[str]:
    found = list(dict.fromkeys(row.region for row in rows))
    return [name for name in THRESHOLDS if name in found] + [name for name in found if name not in THRESHOLDS]


def _region_sizes(rows: Rows, pair: str, names: Names) -> Markup:
    levels = [row for row in rows if row.measure in ("claim_size", "claim_dice")]
    columns = []
    for region in _thresholds(levels):
        own = {(r.series, r.fwhm_mm, r.measure): r for r in levels if r.region == region}
        sizes = {key[:2]: row for key, row in own.items() if "size" in key[2]}
        size = {key: f"{row.value:.0f}" if pick.known(row) else "n/a" for key, row in sizes.items()}
        dice = cells({key[:2]: row for key, row in own.items() if "dice" in key[2]})
        label = THRESHOLDS.get(region, region)
        columns += [(f"size: {label}", "mm³", size), (f"Dice: {label}", "", dice)]
    caption = (
        f"Regions of {pair.replace('+', ' and ')}: mean size and overlap (upper quarter: threshold of Ota et al. 2022)"
    )
    return table_of(caption, ["series", ("smoothing", "mm")], by_smoothing(levels, names), columns)


def _size_parts(rows: Rows, pair: str, metric: str, names: Names) -> Markup:
    measures = {f"claim_{part}_{metric}": text for part, text in PARTS.items()}
    own = [row for row in rows if row.measure in measures]
    found = {measure: {(r.series, r.region): r for r in own if r.measure == measure} for measure in measures}
    lines = {
        (name, region): (pick.series_text(name), THRESHOLDS.get(region, region))
        for region in _thresholds(own)
        for name in pick.series_of(own, names)
        if (name, region) in found[f"claim_total_{metric}"]
    }
    what = "size (ratios, which multiply)" if metric == "size" else "overlap (differences, which add)"
    caption = f"Sources of the change from acquired, {pair.replace('+', ' and ')}: {what}"
    columns = [(text, "", cells(found[measure])) for measure, text in measures.items()]
    return table_of(caption, ["series", "threshold"], lines, columns, names=2)
