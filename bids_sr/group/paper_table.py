"""Table of region sizes and their overlap as in the paper, on the page of the group."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup

from bids_sr.evaluation.statistics.comparisons import compare_pairs
from bids_sr.evaluation.statistics.summaries import quartiles
from bids_sr.group import verdicts
from bids_sr.group.values import participants_by_series
from bids_sr.io.series import BASELINES, MEASURED
from bids_sr.report.comparison_html import p_html, quartiles_text
from bids_sr.report.evaluation_rows import series_text
from bids_sr.report.markup import ColumnHead, render, table


def paper_sizes(values: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield tables of active-region sizes as in the paper, per task and pair of conditions.

    The contrast column contains the kind of value: the size of either condition, or the Dice
    overlap.
    """
    sizes = values[values["threshold"] == "quarter"]
    for _, task_sizes in sizes.groupby(["task", "variant"], sort=False):
        pairs = verdicts.list_condition_pairs(task_sizes["contrast"])
        is_dice = task_sizes["statistic"] == "dice"
        for pair in (name for name in task_sizes["contrast"][is_dice].unique() if name in pairs):
            titles = {name: f"size, {name}" for name in pairs[pair]} | {pair: "Dice"}
            is_listed = is_dice | (task_sizes["statistic"] == "size_acquired_voxels")
            listed_sizes = task_sizes[is_listed & task_sizes["contrast"].isin(titles)]
            panel = pd.Categorical(listed_sizes["contrast"].map(titles), list(titles.values()))
            yield listed_sizes.assign(contrast=panel)


def paper_html(sizes: pd.DataFrame, methods: Sequence[str]) -> Markup:
    """Return the paper's table with all baselines, all methods and the published values."""
    heads: list[ColumnHead] = [
        "series",
        ("smoothing before super-resolution", "mm"),
        ("of maps", "mm"),
    ]
    for kind in sizes["contrast"].cat.categories:
        heads += [f"{kind}: median (IQR)", "p, acquired", "p, bspline"]
    rows: list[list[str]] = []
    for (before, fwhm_mm), smoothed_sizes in sizes.groupby(["input_fwhm_mm", "fwhm_mm"]):
        available = set(smoothed_sizes["series"])
        panels = [panel for _, panel in smoothed_sizes.groupby("contrast", observed=False)]
        for series in ("acquired", *BASELINES, *methods, MEASURED):
            if series in available:
                cells = (cell for panel in panels for cell in _size_cells(panel, series))
                rows.append([series_text(series), before, f"{fwhm_mm:g}", *cells])
    for published in _PUBLISHED_ROWS:
        row = [Markup("<em>{}</em>").format(published.name), published.smoothing, "0"]
        for median, p in zip(published.medians, published.p_values, strict=True):
            row += [median, p, "–"]
        rows.append(row)
    task = verdicts.task_text(sizes.iloc[0])
    return table(
        f"Region size (in acquired voxels) and overlap between regions, {task}", heads, rows
    )


def _size_cells(sizes: pd.DataFrame, series: str) -> Iterator[str]:
    """Yield cells: median with quartiles over participants, and tests against two baselines."""
    values = participants_by_series(sizes)
    participant_values = values.get(series, pd.Series(dtype=float)).dropna()
    n_participants, n_defined = len(participant_values), np.isfinite(participant_values).sum()
    text = quartiles_text(*quartiles(participant_values)) if n_participants else "–"
    has_undefined = n_defined < n_participants
    note = f"defined in {n_defined} of {n_participants} participants" if has_undefined else ""
    yield render("value", text, note)
    series_values = {name: values[name].to_numpy() for name in values}
    for reference in ("acquired", "bspline"):
        has_pair = series in values and reference in values and reference != series
        pairs = [(series, reference)] if has_pair else []
        cells = [
            p_html(row.p_wilcoxon, row.p_smallest, row.method)
            for row in compare_pairs(series_values, pairs)
            if row.n > 1
        ]
        yield cells[0] if cells else "–"


class _PublishedRow(NamedTuple):
    """Row of the published table: sizes of both conditions and their Dice overlap.

    `smoothing` is before super-resolution; maps were not smoothed. `medians` have quartiles, and
    `p_values` are of comparisons with the acquired series.
    """

    name: str
    smoothing: str
    medians: tuple[str, str, str]
    p_values: tuple[str, str, str]


# values published for 30 participants; the unit of the smoothing (sigma 1.5) is not reported and
# corresponds to 3.5 or 13.2 mm FWHM (see METHODS)
_PUBLISHED_ROWS = (
    _PublishedRow(
        "paper: acquired",
        "σ = 1.5",
        ("140.00 (64.75–184.00)", "128.50 (43.50–208.25)", ".590 (.408–.735)"),
        ("–", "–", "–"),
    ),
    _PublishedRow(
        "paper: srgan",
        "σ = 1.5",
        ("83.37 (42.31–119.68)", "87.00 (28.93–129.00)", ".490 (.361–.589)"),
        ("< .001", "< .001", ".00466"),
    ),
    _PublishedRow("paper: acquired", "0", ("–", "–", ".417 (.320–.575)"), ("–", "–", "–")),
    _PublishedRow("paper: srgan", "0", ("–", "–", ".355 (.238–.457)"), ("–", "–", "2.76e−6")),
)
