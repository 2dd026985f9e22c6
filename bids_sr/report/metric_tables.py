"""Tables of metrics: declarations of the rows they show, all rendered by one function.

A difference is set in bold where its interval excludes 0, nowhere else: a larger value alone is no
finding.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from markupsafe import Markup

from bids_sr.evaluation.evidence import main_regions, strongest, tenths_of
from bids_sr.evaluation.negative_controls import PLACEBOS
from bids_sr.evaluation.verdict import specific
from bids_sr.evaluation.words import BANDS, region_text, specific_text
from bids_sr.frozen import frozen
from bids_sr.metrics.number_text import interval, number
from bids_sr.metrics.registry import STATISTICS
from bids_sr.metrics.rows import MISSING, MetricRow
from bids_sr.report import evaluation_rows
from bids_sr.report.markup import Head, joined, picked, render, table
from bids_sr.series import IMAGE_REFERENCES

NOTHING = Markup("<p class='note'>The metrics table contains no values of this kind.</p>")
_Choice = Mapping[str, Collection[str]]
"""Values by column, of which a row has one each."""
_VALUE = "value and 95 % interval"
_BOLD = "bold: confidence interval excludes 0"


@frozen
class MetricTable:
    """A table, or several of one kind; columns are those of `bids_sr.metrics.rows.COLUMNS`.

    `title`: in braces columns of `split`, whose words are filled in. `rows`: which rows it shows,
    by any of some choices; their values are in the order of lines and columns. `lines`, `columns`,
    `split`: each combination of the values of these is a line, a column, a table of its own.
    `largest`: of several values of one place the largest is shown, else the first.
    """

    title: str
    rows: tuple[_Choice, ...]
    lines: tuple[str, ...] = ("series",)
    columns: tuple[str, ...] = ("statistic",)
    split: tuple[str, ...] = ()
    largest: bool = False


SCANS = (
    MetricTable(
        title=(
            "{contrast}, brain: comparison with the measured scan in slices that were not used"
            " for training"
        ),
        rows=({"reference": ("heldOut",), "region": ("brain",)},),
        split=("contrast",),
    ),
    MetricTable(
        title=(
            "{contrast}, whole slices (with values of 0 outside the brain): comparison with the"
            " measured scan in slices that were not used for training"
        ),
        rows=({"reference": ("heldOut",), "region": ("scan",)},),
        split=("contrast",),
    ),
    MetricTable(
        title="{contrast}: image quality metrics in the brain, with tissues segmented in the"
        " measured scans",
        rows=({"reference": (MISSING,), "region": ("brain", "gm/wm", "csf/gm")},),
        columns=("statistic", "region"),
        split=("contrast",),
    ),
    MetricTable(
        title=(
            "{contrast}: tissue and lesion volumes, and overlap with the segmentation of the"
            " measured scan"
        ),
        rows=({"region": ("gm", "wm", "csf", "wmh")},),
        columns=("statistic", "region"),
        split=("contrast",),
    ),
    MetricTable(
        title="Number of parameters of each network", rows=({"statistic": ("parameters",)},)
    ),
)
"""Tables of structural scans: likeness and quality of each contrast, tissues and lesions."""
CONTROL_SCANS = MetricTable(
    title="Tissue volumes, {contrast}",
    rows=({"statistic": ("tissue_volume",)},),
    lines=("region",),
    split=("contrast",),
)
"""Volumes of high-resolution scans that nothing is compared with."""


def _of_images(title: str, reference: str) -> MetricTable:
    """Likeness of all series to a reference, with the difference to B-spline and inject."""
    of_psnr = {"reference": (reference,), "statistic": ("psnr",), "minus": IMAGE_REFERENCES}
    rows = (
        {"reference": (reference,), "statistic": ("psnr", "ssim"), "minus": (MISSING,)},
        of_psnr,
    )
    return MetricTable(title=f"{title} ({_BOLD})", rows=rows, columns=("statistic", "minus"))


IMAGES = _of_images(
    "Comparison of single volumes with volumes measured at the high resolution", "measured"
)
HELD_OUT = _of_images("Images of the held-out T2* pair", "heldOut")
_OWN_DATA = MetricTable(
    title=f"Method − negative control: {{contrast}}, {{band}} ({_BOLD})",
    rows=({"minus": tuple(PLACEBOS), "band": tuple(BANDS)},),
    lines=("series", "minus"),
    columns=("region",),
    split=("contrast", "band"),
)


QUALITY = MetricTable(
    title="Quality check values",
    rows=(
        {
            "statistic": (
                "ensemble_sd",
                "precision_change",
                "edge_mismatch",
                "edge_mismatch_p90",
                "domain_distance",
                "domain_edges",
            )
        },
    ),
    lines=("statistic", "series", "region"),
    columns=(),
    largest=True,
)
"""Values of quality control, over all contrasts."""


_NETWORK = ("connected_accuracy", "connected_fdr", "connected_jaccard")
NETWORKS = tuple(
    MetricTable(
        title=(
            "Network of the seed {contrast} (r ≥ .5, smoothed with a {fwhm_mm} mm FWHM kernel)"
            f" compared with {words}"
        ),
        rows=(
            {
                "statistic": _NETWORK,
                "reference": (reference,),
                "region": ("brain",),
                "minus": (MISSING,),
            },
        ),
        split=("contrast", "fwhm_mm"),
    )
    for reference, words in (
        ("measuredMap", "the network in the measured series"),
        ("truth", "the known network"),
    )
)
"""Accuracy and false discovery rate of thresholded networks (Table 3 of TV self-supervision)."""
MASKS = MetricTable(
    title="Overlap between brain masks computed from the mean of each series and from the"
    " reference (Jaccard index)",
    rows=({"statistic": ("mask_jaccard",), "reference": ("acquired", "measured")},),
    columns=("reference",),
)
"""Overlap of the brain masks of reconstructed and original series."""


def tables_html(
    declared: Iterable[MetricTable], rows: Sequence[MetricRow], names: Sequence[str] = ()
) -> Markup:
    """All tables of some declarations, one below the other; see `rendered`.

    `names`: names of series in the order shown; others follow.
    """
    return (
        joined(content for each in declared for _, content in rendered(each, rows, names))
        or NOTHING
    )


def placebo_html(rows: Sequence[MetricRow]) -> Markup:
    """Render what is attributable to the subject's own pair, guide and time series.

    This is own minus placebo, in words first.
    """
    gains = evaluation_rows.placebo_gains(rows)
    methods = list(dict.fromkeys(row.series for row in gains))
    evidence = strongest("function", rows, methods)
    said = [
        text
        for method in methods
        if (text := specific_text(specific(evidence, method), in_full=True))
    ]
    regions = main_regions(row.region for row in gains)
    tables = rendered(_OWN_DATA, [row for row in gains if row.region in regions])
    return (
        joined([*(Markup("<p>{}</p>").format(text) for text in said), picked(tables)]) or NOTHING
    )


def cell(row: MetricRow | None, *, bold: bool = False, note: str | None = None) -> str:
    """A value with its interval, as the inside of a table cell; with a note, its unit too.

    `note`: words behind the interval, empty for the unit alone; None leaves out both.
    """
    if row is None:
        return "–"
    text = number(row.value)
    small = interval(row.lower, row.upper)
    if note is not None:
        text += f" {row.unit}" if row.unit != "1" else ""
        small = ", ".join(filter(None, [small, note]))
    return render("value", text, small, bold and row.excludes_zero)


def rendered(
    declared: MetricTable, rows: Sequence[MetricRow], names: Sequence[str] = ()
) -> list[tuple[str, Markup]]:
    """Render the tables of a declaration with titles; none without rows of labeled statistics.

    Title and markup of each table; empty for none.
    """
    labeled = (row for row in rows if STATISTICS[row.statistic].label)
    found = [row for row in labeled if any(_is_of(row, choice) for choice in declared.rows)]
    tables = []
    for key in _keys(declared, declared.split, found, names):
        own = [row for row in found if _values(row, declared.split) == key]
        words = {name: _word(name, value) for name, value in zip(declared.split, key, strict=True)}
        title = declared.title.format_map(words)
        tables.append((title, _table(declared, own, title, names)))
    return tables


def _table(
    declared: MetricTable, rows: Sequence[MetricRow], title: str, names: Sequence[str]
) -> Markup:
    """One table."""
    places: dict[tuple[tuple[str, ...], tuple[str, ...]], list[MetricRow]] = {}
    for row in rows:
        place = _values(row, declared.lines), _values(row, declared.columns)
        places.setdefault(place, []).append(row)
    columns = _keys(declared, declared.columns, rows, names)
    heads: list[Head] = [*declared.lines]
    for key in columns:
        unit = next(own[0].unit for (_, column), own in places.items() if column == key)
        row_key = dict(zip(declared.columns, key, strict=True))
        minus = row_key.pop("minus", MISSING)
        words = ", ".join(_word(name, value) for name, value in row_key.items())
        words += f" − {_word('series', minus)}" if minus != MISSING else ""
        heads.append((words or _VALUE, "" if unit in ("1", "signal") or not row_key else unit))
    lines = [
        [
            *(_word(name, value) or "–" for name, value in zip(declared.lines, line, strict=True)),
            *(_cell_of(declared, places.get((line, key), [])) for key in columns),
        ]
        for line in _keys(declared, declared.lines, rows, names)
    ]
    texts = len(declared.lines)
    return table(title, heads, lines, names=min(texts, 2), texts=range(texts))


def _cell_of(declared: MetricTable, rows: Sequence[MetricRow]) -> str:
    """The value of a place of a table."""
    if not declared.largest:
        row = next(iter(rows), None)
        return cell(row, bold=row is not None and row.is_difference)
    row = max(rows, key=lambda each: each.value if math.isfinite(each.value) else -math.inf)
    note = "" if row.contrast == MISSING else row.contrast
    note += f" (largest of {len(rows)})" if len(rows) > 1 else ""
    return cell(row, note=note)


def _is_of(row: MetricRow, choice: _Choice) -> bool:
    return all(getattr(row, column) in values for column, values in choice.items())


def _values(row: MetricRow, columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(getattr(row, column)) for column in columns)


def _keys(
    declared: MetricTable, columns: Sequence[str], rows: Sequence[MetricRow], names: Sequence[str]
) -> list[tuple[str, ...]]:
    """Combinations of values that occur, in order; without series of which no table has a line."""
    order = [_order(declared, column, rows, names) for column in columns]
    found = dict.fromkeys(_values(row, columns) for row in rows)
    kept = [
        key
        for key in found
        if all(value in known for value, known in zip(key, order, strict=True))
    ]
    return sorted(
        kept, key=lambda key: [known.index(value) for value, known in zip(key, order, strict=True)]
    )


def _order(
    declared: MetricTable, column: str, rows: Sequence[MetricRow], names: Sequence[str]
) -> list[str]:
    """Order the values of a column: as declared, else as in the report or the registry."""
    if column == "series":
        return evaluation_rows.series_of(rows, names)
    if chosen := [value for choice in declared.rows for value in choice.get(column, ())]:
        return chosen
    if column == "statistic":
        return list(STATISTICS)
    if column == "contrast":
        return evaluation_rows.contrasts_of(rows)
    if column == "region":
        regions = sorted((row.region for row in rows), key=tenths_of)
        return list(dict.fromkeys([*main_regions(regions), *regions]))
    return list(dict.fromkeys(str(getattr(row, column)) for row in rows))


def _word(column: str, value: str) -> str:
    """A value of a column as a table shows it."""
    if column == "series":
        return evaluation_rows.series_text(value)
    if column == "minus":
        return f"{value}: {PLACEBOS[value].instead}" if value in PLACEBOS else value
    if column == "statistic":
        return STATISTICS[value].label
    if column == "region":
        return region_text(value)
    if column == "fwhm_mm":
        return f"{float(value):g}"
    return BANDS[value] if column == "band" else value
