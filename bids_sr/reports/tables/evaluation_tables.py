"""Tables of the evaluation as HTML: each metric with its interval, and a reading where one is due.

A difference is set in bold where its interval excludes 0, nowhere else: a larger value alone is no finding.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from markupsafe import Markup

from bids_sr.metrics.long_tables import MetricRow
from bids_sr.metrics.number_text import interval, number
from bids_sr.reports.markup import Head, joined, picked, render, table
from bids_sr.reports.tables import evaluation_rows as pick
from bids_sr.series import IMAGE_REFERENCES
from bids_sr.stats.evaluation.evidence import main_regions, strongest
from bids_sr.stats.evaluation.verdict import specific
from bids_sr.stats.evaluation.words import BANDS, region_text, specific_text

K = TypeVar("K", bound=Hashable)
Rows = Sequence[MetricRow]
Names = Sequence[str]
Column = tuple[str, str, Mapping[K, str]]
"""Head, unit, and cells by the key of their line."""
Titled = tuple[str, Markup]
"""Title of a table, and the table."""
NOTHING = Markup("<p class='note'>The evaluation table has no such values.</p>")


def cell(row: MetricRow | None, *, bold: bool = False) -> str:
    """A value with its interval, as the inside of a table cell."""
    if row is None:
        return "–"
    return render("value", number(row.value), interval(row.lower, row.upper), bold and row.excludes_zero)


def cells(rows: Mapping[K, MetricRow], *, bold: bool = False) -> dict[K, str]:
    """Values with their intervals, by the same keys."""
    return {key: cell(row, bold=bold) for key, row in rows.items()}


def table_of(
    caption: str,
    heads: Sequence[Head],
    lines: Mapping[K, Sequence[str]],
    columns: Iterable[Column[K]],
    *,
    names: int = 1,
    texts: Collection[int] = (),
) -> Markup:
    """A table of columns; a line without a cell in one has a dash there.

    `lines` are what each line begins with (headed by `heads`), by its key; `names` and `texts` as of `table`, where
    what a line begins with holds words.
    """
    filled = list(columns)
    rows = [[*first, *(found.get(key, "–") for _, _, found in filled)] for key, first in lines.items()]
    top = [*heads, *((head, unit) for head, unit, _ in filled)]
    return table(caption, top, rows, names=names, texts={*range(names), *texts})


def _lines(rows: Iterable[MetricRow], names: Names, kinds: tuple[pick.Kind, ...] = ()) -> dict[str, list[str]]:
    """A line each series."""
    return {name: [pick.series_text(name)] for name in pick.series_of(rows, names, kinds)}


def _by_region(rows: Rows, regions: Sequence[str]) -> list[Column[tuple[str, str]]]:
    """Differences of each pair of series, a column each region."""
    return [
        (region_text(region), "",
         cells({(row.series, row.minus): row for row in rows if row.region == region}, bold=True))
        for region in regions
    ]  # fmt: skip


def holdout_html(rows: Rows, names: Names = ()) -> Markup:
    """Image quality on the pair that was not trained on; all series against B-spline and inject."""
    caption = "Images of the held-out pair"
    return _images_html(rows, names, ("pair_psnr", "pair_ssim"), "pair_gain_psnr", caption)


def images_html(rows: Rows, names: Names = ()) -> Markup:
    """Likeness of volumes to the measured ones; all series against B-spline and inject."""
    caption = "Single volumes compared with those measured at high resolution"
    return _images_html(rows, names, ("truth_psnr", "truth_ssim"), "gain_truth_psnr", caption)


def _images_html(own: Rows, names: Names, wanted: tuple[str, str], gain: str, caption: str) -> Markup:
    heads = zip(wanted, (("PSNR", "dB"), ("SSIM", "")), strict=True)
    columns = [(*head, cells(found)) for name, head in heads if (found := pick.pick(own, name))]
    for other in IMAGE_REFERENCES:
        more = {row.series: row for row in own if row.measure == gain and row.against == other}
        columns += [(f"PSNR minus {other}", "dB", cells(more, bold=True))] if more else []
    kept = {*wanted, gain}
    lines = _lines([row for row in own if row.measure in kept], names)
    return table_of(f"{caption} (bold: the interval excludes 0)", ["series"], lines, columns) or NOTHING


def placebo_html(rows: Rows) -> Markup:
    """What is attributable to this subject's own pair, guide and time series: own minus placebo, in words first."""
    own, tables = pick.placebo_gains(rows), []
    methods = list(dict.fromkeys(row.series for row in own))
    evidence = strongest("function", rows, methods)
    said = [text for method in methods if (text := specific_text(specific(evidence, method), in_full=True))]
    for contrast in pick.contrasts_of(own):
        for band, words in BANDS.items():
            title = f"Method - control: {contrast}, {words}"
            some = [row for row in own if (row.contrast, row.band) == (contrast, band)]
            tables.append((title, _placebo_table(some, title)))
    return joined([*(Markup("<p>{}</p>").format(text) for text in said), picked(tables)]) or NOTHING


def _placebo_table(rows: Rows, title: str) -> Markup:
    """A line each method and placebo, a column each region."""
    pairs = sorted(dict.fromkeys((row.series, row.minus) for row in rows), key=lambda pair: pair[0])
    lines = {(one, other): [one, other, pick.placebo_text(other)] for one, other in pairs}
    return table_of(
        f"{title} (bold: the interval excludes 0)", ["method", "control", "which is"], lines,
        _by_region(rows, main_regions(row.region for row in rows)), names=2, texts={2},
    )  # fmt: skip
