"""Tables of metrics: declarations of their rows, rendered by one function.

Only differences whose interval excludes 0 are bold: a larger value alone is not a finding.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from markupsafe import Markup

from bids_sr.engine.metric_rows import BRAIN, MISSING, MetricRow
from bids_sr.engine.number_text import interval, number, value_form
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE, main_regions, parse_tenths
from bids_sr.evaluation.words import BANDS, region_text
from bids_sr.io.frozen import frozen
from bids_sr.io.metric_registry import STATISTICS
from bids_sr.io.series import IMAGE_REFERENCES
from bids_sr.io.smoothing_words import smoothing_text
from bids_sr.report import evaluation_rows
from bids_sr.report.markup import ColumnHead, join, render, table

NO_VALUES = Markup("<p class='note'>The metrics table contains no values of this kind.</p>")
_RowFilter = Mapping[str, Collection[str]]
"""Allowed values by column; a row matches if each of its values is allowed."""
_Key = tuple[str, ...]
"""Values of a row in the columns that define the lines, columns or separate tables."""
_EMPTY_CELL = "–"
_VALUE_HEAD = "value and 95 % interval"
_UNITS_WITHOUT_HEAD = ("1", "signal")
"""Units that are not shown in the head of a column."""
_MAX_HEADING_CELLS = 2
"""Largest number of cells at the start of a line that are headings."""
_BOLD_TEXT = "bold: confidence interval excludes 0"
_ACQUIRED_STATISTICS = ("acquired_scan_slope", "acquired_scan_r")
_NETWORK_STATISTICS = ("connected_accuracy", "connected_fdr", "connected_jaccard")


@frozen
class MetricTable:
    """Table, or several tables of one kind; `bids_sr.engine.metric_rows` has the columns.

    Names in braces in the title are columns of `split`, which are replaced by their words. `rows`
    are filters of rows; a row is included if it matches any of them. Their order is the order of
    lines and columns. `lines`, `columns` and `split` are the columns whose combinations of values
    form the lines, the columns, and separate tables. If `largest`, the largest of several values
    of a cell is shown; otherwise the first.
    """

    title: str
    rows: tuple[_RowFilter, ...]
    lines: tuple[str, ...] = ("series",)
    columns: tuple[str, ...] = ("statistic",)
    split: tuple[str, ...] = ()
    largest: bool = False


ACQUIRED_SCANS = MetricTable(
    title="Comparison with the acquired scans at the acquired resolution (brain)",
    rows=({"statistic": _ACQUIRED_STATISTICS},),
    lines=("series", "contrast"),
)
"""Table of the agreement of scans with the acquired scans."""
SCANS = (
    ACQUIRED_SCANS,
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
"""Tables of structural scans: similarity and quality of each contrast, tissues and lesions."""
CONTROL_SCANS = MetricTable(
    title="Tissue volumes, {contrast}",
    rows=({"statistic": ("tissue_volume",)},),
    lines=("region",),
    split=("contrast",),
)
"""Table of volumes in high-resolution scans without comparison."""
QUALITY = MetricTable(
    title="Quality check values",
    rows=({"statistic": ("edge_mismatch", "edge_mismatch_p90")},),
    lines=("statistic", "series", "region"),
    columns=(),
    largest=True,
)
"""Table of quality-control values, over all contrasts."""
ACQUIRED_ACTIVATION = MetricTable(
    title=(
        "Acquired activation in the maps of each series, downsampled to the acquired grid (voxels"
        " with |t| > 4 in the acquired run)"
    ),
    rows=({"statistic": ("acquired_slope", "acquired_r")},),
    lines=("series", "contrast"),
)
"""Table of the effect of each series relative to the acquired effect."""
NETWORKS = tuple(
    MetricTable(
        title=(
            "Network of the seed {contrast} (r ≥ .5, smoothed with a {fwhm_mm} mm FWHM kernel)"
            f" compared with {words}"
        ),
        rows=(
            {
                "statistic": _NETWORK_STATISTICS,
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
"""Tables of accuracy and false discovery rate of thresholded networks (Table 3 of TV
self-supervision).
"""
AGREEMENT = (
    MetricTable(
        title="Effect of {contrast} over all spatial frequencies, compared with the measured"
        " effect",
        rows=(
            {
                "statistic": ("ev",),
                "reference": ("measured",),
                "band": ("all",),
                "region": (ACQUIRED_ACTIVE, BRAIN),
                "minus": (MISSING,),
            },
        ),
        columns=("statistic", "region"),
        split=("contrast",),
    ),
    MetricTable(
        title="Map of {contrast} in the whole run, compared with the reference, by smoothing (mm"
        " FWHM)",
        rows=(
            {
                "statistic": ("r_t", "average_precision"),
                "reference": ("measuredMap", "truth"),
                "region": (BRAIN,),
                "minus": (MISSING,),
            },
        ),
        columns=("statistic", "fwhm_mm"),
        split=("contrast",),
    ),
)
"""Tables of the agreement with a high-resolution reference."""
HELD_OUT = MetricTable(
    title=f"Images of the held-out T2* pair ({_BOLD_TEXT})",
    rows=(
        {"reference": ("heldOut",), "statistic": ("psnr", "ssim"), "minus": (MISSING,)},
        {"reference": ("heldOut",), "statistic": ("psnr",), "minus": IMAGE_REFERENCES},
    ),
    columns=("statistic", "minus"),
)
"""Table of the similarity of super-resolved images to the held-out pair."""


def tables_html(
    declarations: Iterable[MetricTable],
    rows: Sequence[MetricRow],
    series_order: Sequence[str] = (),
) -> Markup:
    """Render the tables of several declarations; see `render_tables`."""
    return (
        join(
            content
            for declaration in declarations
            for _, content in render_tables(declaration, rows, series_order)
        )
        or NO_VALUES
    )


def render_tables(
    declaration: MetricTable, rows: Sequence[MetricRow], series_order: Sequence[str] = ()
) -> list[tuple[str, Markup]]:
    """Render the tables of a declaration with their titles.

    Statistics without a label are skipped. The list is empty if there are no rows. `series_order`
    are the series in display order; other series follow.
    """
    matching_rows = [
        row
        for row in rows
        if STATISTICS[row.statistic].label
        and any(
            all(getattr(row, column) in values for column, values in row_filter.items())
            for row_filter in declaration.rows
        )
    ]
    tables = []
    for table_key in _list_keys(declaration, declaration.split, matching_rows, series_order):
        table_rows = [
            row for row in matching_rows if _get_key(row, declaration.split) == table_key
        ]
        value_texts = {
            column: _value_text(column, value)
            for column, value in zip(declaration.split, table_key, strict=True)
        }
        title = declaration.title.format_map(value_texts)
        if (input_fwhm_mm := table_rows[0].input_fwhm_mm) > 0:
            title = f"{title}; series {smoothing_text(0, input_fwhm_mm)}"
        tables.append((title, _render_table(declaration, table_rows, title, series_order)))
    return tables


def _render_table(
    declaration: MetricTable, rows: Sequence[MetricRow], title: str, series_order: Sequence[str]
) -> Markup:
    """Render one table."""
    rows_by_cell: dict[tuple[_Key, _Key], list[MetricRow]] = {}
    unit_by_column: dict[_Key, str] = {}
    for row in rows:
        line_key, column_key = _get_key(row, declaration.lines), _get_key(row, declaration.columns)
        rows_by_cell.setdefault((line_key, column_key), []).append(row)
        unit_by_column.setdefault(column_key, row.unit)
    column_keys = _list_keys(declaration, declaration.columns, rows, series_order)
    heads: list[ColumnHead] = [*declaration.lines]
    heads += [_make_head(declaration, key, unit_by_column[key]) for key in column_keys]
    lines = [
        [
            *(
                _value_text(column, value) or _EMPTY_CELL
                for column, value in zip(declaration.lines, line_key, strict=True)
            ),
            *(
                _render_table_cell(declaration, rows_by_cell.get((line_key, column_key), []))
                for column_key in column_keys
            ),
        ]
        for line_key in _list_keys(declaration, declaration.lines, rows, series_order)
    ]
    n_text_columns = len(declaration.lines)
    return table(
        title,
        heads,
        lines,
        names=min(n_text_columns, _MAX_HEADING_CELLS),
        texts=range(n_text_columns),
    )


def _list_keys(
    declaration: MetricTable,
    columns: Sequence[str],
    rows: Sequence[MetricRow],
    series_order: Sequence[str],
) -> list[_Key]:
    """Return the combinations of values that occur in the rows, in display order.

    Combinations with a value that is not displayed are skipped.
    """
    values_by_column = [
        _list_values(declaration, column, rows, series_order) for column in columns
    ]
    positions: dict[_Key, list[int]] = {}
    for key in dict.fromkeys(_get_key(row, columns) for row in rows):
        choices = list(zip(key, values_by_column, strict=True))
        if all(value in ordered_values for value, ordered_values in choices):
            positions[key] = [ordered_values.index(value) for value, ordered_values in choices]
    return sorted(positions, key=positions.__getitem__)


def _list_values(
    declaration: MetricTable,
    column: str,
    rows: Sequence[MetricRow],
    series_order: Sequence[str],
) -> list[str]:
    """Return the values of a column in display order.

    This is the order in the declaration of the table or, without one, the usual order in reports.
    """
    if column == "series":
        return evaluation_rows.list_series(rows, series_order)
    if declared_order := [
        value for row_filter in declaration.rows for value in row_filter.get(column, ())
    ]:
        return declared_order
    if column == "statistic":
        return list(STATISTICS)
    if column == "contrast":
        return evaluation_rows.list_contrasts(rows)
    if column == "region":
        regions = sorted((row.region for row in rows), key=parse_tenths)
        return list(dict.fromkeys([*main_regions(regions), *regions]))
    return list(dict.fromkeys(str(getattr(row, column)) for row in rows))


def _get_key(row: MetricRow, columns: Sequence[str]) -> _Key:
    """Return the values of some columns as text."""
    return tuple(str(getattr(row, column)) for column in columns)


def _make_head(declaration: MetricTable, key: _Key, unit: str) -> ColumnHead:
    """Return the head of a column: its values in words, and its unit.

    A column without values has a general head without a unit.
    """
    values = dict(zip(declaration.columns, key, strict=True))
    minus = values.pop("minus", MISSING)
    head = ", ".join(_value_text(column, value) for column, value in values.items())
    if minus != MISSING:
        head = f"{head} − {_value_text('series', minus)}"
    has_unit = bool(values) and unit not in _UNITS_WITHOUT_HEAD
    return head or _VALUE_HEAD, unit if has_unit else ""


def _value_text(column: str, value: str) -> str:
    """Return a value of a column in words."""
    if column == "series":
        return evaluation_rows.series_text(value)
    if column == "minus":
        return evaluation_rows.current_labels().get(value, value)
    if column == "statistic":
        return STATISTICS[value].label
    if column == "region":
        return region_text(value)
    if column == "fwhm_mm":
        return f"{float(value):g}"
    return BANDS[value] if column == "band" else value


def _render_table_cell(declaration: MetricTable, rows: Sequence[MetricRow]) -> str:
    """Return the value of a cell of the table."""
    if not rows:
        return _EMPTY_CELL
    if not declaration.largest:
        return render_cell(rows[0], bold=rows[0].is_difference)
    row = max(
        rows,
        key=lambda candidate: candidate.value if math.isfinite(candidate.value) else -math.inf,
    )
    contrast_text = "" if row.contrast == MISSING else row.contrast
    count_text = f" (largest of {len(rows)})" if len(rows) > 1 else ""
    return render_cell(row, with_unit=True, note=contrast_text + count_text)


def render_cell(
    row: MetricRow | None, *, bold: bool = False, with_unit: bool = False, note: str = ""
) -> str:
    """Return a value with its interval as the content of a table cell.

    The cell is empty if `row` is None. If `bold`, the value is bold if its interval excludes 0.
    `note` follows the interval; "" if there is no note.
    """
    if row is None:
        return _EMPTY_CELL
    unit_text = f" {row.unit}" if with_unit and row.unit != "1" else ""
    form = value_form(row.statistic)
    details = ", ".join(filter(None, [interval(row.lower, row.upper, form, unit=False), note]))
    text = number(row.value, form) + unit_text
    return render("value", text, details, bold and row.excludes_zero)
