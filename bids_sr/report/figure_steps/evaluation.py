"""Figures of the evaluation: verdict, agreement with the reference, control analyses."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from bids_sr.engine.artifacts import File, Image, Mask, Rows, Verdict, Volume
from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.evidence import main_regions
from bids_sr.evaluation.run_evidence import StoredEvidence
from bids_sr.evaluation.words import region_text
from bids_sr.io.metric_registry import STATISTICS
from bids_sr.report.evaluation_rows import (
    select_shown_series,
)
from bids_sr.report.figure_step import FigureDrawing, figure
from bids_sr.report.markup import join
from bids_sr.report.sections import FigureSpec, HtmlSpec
from bids_sr.spatial.masks import compute_mean_signal

_SCORE_STATISTICS = ("ev", "r")
"""Statistics of the agreement with the measured series, in order of preference."""
# declarations whose values are in the table of the evaluation
_html_of_values = partial(HtmlSpec, tables=("evaluation",))


@figure(
    _html_of_values(
        "verdict",
        "verdict",
        missing="evidence",
        remark="no series was evaluated, or a required step did not finish",
    ),
    FigureSpec(
        "beyond",
        "evaluation",
        subtitle="Detail",
        tab="Detail as maps",
        caption=(
            "Detail of the effect maps of the whole run. Two slices are shown, at the location of"
            " the largest values in the last column. All maps have the same color scale. Unlike"
            " these maps, explained variance was computed between independent halves of the task"
            " blocks."
        ),
        request="maps of detail",
        remark="use --truth DIR or --retrospective",
    ),
    _html_of_values(
        "agreement",
        "evaluation",
        tab="Agreement",
        caption=(
            "All spatial frequencies: effect of each series in one half of the task blocks"
            " compared with the effect measured at the high resolution in the other half, averaged"
            " over all balanced splits. Maps of the whole run: correlation with the reference;"
            " smoothing removes fine detail, so series that differ in detail can have similar"
            " values after smoothing."
        ),
        request="agreement with a high-resolution BOLD run",
        remark=(
            "use --truth DIR for an acquired reference, or --retrospective to use"
            " the run itself as the reference"
        ),
    ),
    _html_of_values(
        "networkscores",
        "evaluation",
        tab="Networks",
        caption=(
            "Voxels with a seed correlation of at least .5 in each series, compared with the"
            " network in the reference. Accuracy is the fraction of brain voxels that are inside"
            " both networks or outside both networks; most voxels are outside both. The false"
            " discovery rate is the fraction of a network that is outside the reference network"
            " (n/a for an empty network). If the acquired series was computed from the measured"
            " series (--retrospective), both contain the same noise."
        ),
    ),
    _html_of_values(
        "holdout",
        "evaluation",
        tab="Second pair",
        caption=(
            "Quality of single images, which does not measure functional detail. Values in"
            " brackets are 95 % confidence intervals over slices."
        ),
        request="image quality on a second T2* pair that is held out from training",
        remark="two T2* pairs",
    ),
)
def draw_evaluation(
    evaluation: Rows,
    verdict: Verdict,
    evidence: StoredEvidence,
    boldref: Image,
    bold_mask: Mask,
    halves_figures: File | None = None,
    *,
    series_names: Sequence[str],
) -> Iterator[FigureDrawing]:
    """Draw verdict and detail, and show the agreement with the reference.

    `boldref` and `bold_mask`, the brain on its grid, are used for effects in percent.
    `halves_figures` contains the effects above the Nyquist frequency of all series (.npz; signal
    units), for the maps. `series_names` are in display order.
    """
    from bids_sr.report.verdict_html import verdict_html

    yield FigureDrawing("verdict", verdict_html(verdict, evidence, evaluation))
    if halves_figures:
        mean_signal = compute_mean_signal(boldref.data, bold_mask.data)
        yield from _draw_beyond(evaluation, halves_figures, mean_signal)
    yield from _show_tables(evaluation, series_names)


def _draw_beyond(
    rows: Sequence[MetricRow], path: Path, mean_signal: float
) -> Iterator[FigureDrawing]:
    """Draw effects above the Nyquist frequency side by side.

    The values of the first available statistic are printed beside the maps. `mean_signal` is the
    mean brain signal of the run.
    """
    from bids_sr.report.figures.maps import plot_effects_above_nyquist

    with np.load(path, allow_pickle=False) as arrays:
        score_rows = _select_score_rows(rows, str(arrays["contrast"]))
        scores = {row.series: row.value for row in reversed(score_rows)}
        score_label = ""
        if score_rows:
            statistic, region = score_rows[0].statistic, score_rows[0].region
            score_label = f"{STATISTICS[statistic].label}, {region_text(region)}"
        mask = Volume(arrays["mask"], arrays["affine"])
        series = select_shown_series(arrays["series"].tolist(), scores)
        maps = {name: mask.like(arrays[f"beyond_{name}"] * (100 / mean_signal)) for name in series}
    if maps:
        drawing = plot_effects_above_nyquist(maps, mask, scores=scores, score=score_label)
        yield FigureDrawing("beyond", drawing)


def _select_score_rows(rows: Sequence[MetricRow], contrast: str) -> list[MetricRow]:
    """Return the split-half values of detail for the first available statistic.

    The values are for the main region; [] if no statistic is available.
    """
    detail_rows = [
        row
        for row in rows
        if (row.contrast, row.band, row.reference) == (contrast, "beyond", "measured")
        and not row.is_difference
    ]
    region = next(iter(main_regions(row.region for row in detail_rows)), "brain")
    for statistic in _SCORE_STATISTICS:
        score_rows = [
            row for row in detail_rows if (row.statistic, row.region) == (statistic, region)
        ]
        if score_rows:
            return score_rows
    return []


def _show_tables(rows: Sequence[MetricRow], names: Sequence[str]) -> Iterator[FigureDrawing]:
    """Show tables of agreement, networks and held-out images, as far as there are values.

    The agreement is that of the first contrast.
    """
    from bids_sr.report.metric_tables import AGREEMENT, HELD_OUT, NETWORKS, render_tables

    for desc, declarations, n_tables in (
        ("agreement", AGREEMENT, 1),
        ("networkscores", NETWORKS, None),
        ("holdout", (HELD_OUT,), None),
    ):
        tables = [
            html
            for declaration in declarations
            for _, html in render_tables(declaration, rows, names)[:n_tables]
        ]
        if tables:
            yield FigureDrawing(desc, join(tables))
