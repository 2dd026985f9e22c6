"""Figures of the evaluation: verdict, agreement with the reference, control analyses."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from bids_sr.engine.artifacts import File, Image, Mask, Rows, Verdict, Volume
from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.evidence import main_regions
from bids_sr.evaluation.run_evidence import RunEvidence, StoredEvidence
from bids_sr.evaluation.words import region_text
from bids_sr.io.metric_registry import STATISTICS
from bids_sr.report.evaluation_rows import (
    list_contrasts,
    negative_control_gains,
    select_shown_series,
)
from bids_sr.report.figure_step import FigureDrawing, figure
from bids_sr.report.sections import FigureSpec, HtmlSpec
from bids_sr.spatial.masks import compute_mean_signal

MAX_CONTRASTS = 4
_SCORE_STATISTICS = ("ev", "r")
"""Statistics of the agreement with the measured series, in order of preference."""
# declarations whose values are in the table of the evaluation
_figure_of_values = partial(FigureSpec, tables=("evaluation",))
_html_of_values = partial(HtmlSpec, tables=("evaluation",))


@figure(
    _html_of_values(
        "verdict",
        "verdict",
        missing="evidence",
        remark="no series was evaluated, or a required step did not finish",
    ),
    _figure_of_values(
        "splithalf",
        "evaluation",
        subtitle="Agreement with the run measured at the high resolution (independent blocks)",
        tab="Agreement",
        caption=(
            "Agreement between the effect of each series in one half of the task blocks and the"
            " effect measured at the high resolution in the other half, averaged over all"
            " balanced splits. In resting-state runs, segments of the run replace task blocks."
            " Explained variance is 1 − |error|² / |true effect|², with a correction for noise in"
            " the reference. The shaded column is for detail. Dotted lines show B-spline"
            " interpolation. Dashed lines show the agreement between both halves of the measured"
            " series, which is reduced by noise and may therefore be lower than the agreement of"
            " other series."
        ),
        request="agreement with a high-resolution BOLD run",
        remark=(
            "use --truth DIR for an acquired reference, or --retrospective to use"
            " the run itself as the reference"
        ),
    ),
    FigureSpec(
        "splithalfContrasts",
        "evaluation",
        subtitle="Detail of other contrasts",
        tab="Other contrasts",
        caption=(
            "Explained variance for other contrasts, computed as in the previous figure."
            " A contrast between conditions is a harder test than a condition, because signal that"
            " is common to all conditions, such as signal from large veins, cancels out."
        ),
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
    _figure_of_values(
        "truth",
        "evaluation",
        subtitle="Agreement of whole-run maps with the reference",
        tab="Whole run",
        caption=(
            "Agreement between maps of the whole run and the reference. Each row is a series, and"
            " each point is a smoothing width. Smoothing removes fine detail, so series that"
            " differ in detail can have similar values after smoothing. Detail is compared without"
            " smoothing."
        ),
        request="comparison of maps with a reference",
        remark="use --truth DIR or --retrospective",
    ),
    _html_of_values(
        "images",
        "evaluation",
        tab="Single volumes",
        caption=(
            "Values were computed within the brain. Noise in the measured volumes favors smooth"
            " series. The series inject contains static detail only and shows how much static"
            " detail contributes to these values. Values in brackets are 95 % confidence"
            " intervals from segments of the run."
        ),
        request="comparison of single volumes with measured volumes",
        remark="use --truth DIR with a measured series, or --retrospective",
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
        "masks",
        "evaluation",
        tab="Brain masks",
        caption=(
            "For this table, a brain mask was computed from the mean image of each series. A"
            " value of 1 indicates identical masks. In all other analyses, the same mask is used"
            " for all series."
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
    FigureSpec(
        "placebo",
        "placebos",
        subtitle="Method − control",
        tab="Method − control",
        caption=(
            "Difference between the method with this participant's own model and anatomy and the"
            " same method with one input replaced (negative control). Hollow points indicate that"
            " the confidence interval includes 0. Detail that is also present in a negative"
            " control is not specific to this participant, but may still be accurate (see above)."
        ),
        request="negative controls",
        remark="--null-checks",
    ),
    _html_of_values("placebo", "placebos"),
)
def draw_evaluation(
    evaluation: Rows,
    verdict: Verdict,
    evidence: StoredEvidence,
    boldref: Image,
    bold_mask: Mask,
    halves_figures: File | None = None,
    *,
    has_truth: bool,
    series_names: Sequence[str],
) -> Iterator[FigureDrawing]:
    """Draw verdict, agreement with the reference, and negative controls.

    `boldref` and `bold_mask`, the brain on its grid, are used for effects in percent.
    `halves_figures` contains the effects above the Nyquist frequency of all series (.npz; signal
    units), for the maps. `has_truth` states whether high-resolution BOLD or known activation is
    available. `series_names` are in display order.
    """
    from bids_sr.report.verdict_html import verdict_html

    yield FigureDrawing("verdict", verdict_html(verdict, evidence, evaluation))
    if has_truth:
        yield from _draw_agreement(evaluation, series_names)
    if halves_figures:
        mean_signal = compute_mean_signal(boldref.data, bold_mask.data)
        yield from _draw_beyond(evaluation, halves_figures, mean_signal)
    yield from _draw_truth(evaluation, series_names)
    yield from _draw_negative_controls(evidence, evaluation)
    yield from _show_tables(evaluation, series_names)


def _draw_agreement(rows: Sequence[MetricRow], names: Sequence[str]) -> Iterator[FigureDrawing]:
    """Draw the agreement of each series with the measured halves of the run.

    The figure of the first contrast contains all frequency bands, and the figure of the other
    contrasts only detail above the Nyquist frequency. The statistic is explained variance, or r if
    explained variance is undefined.
    """
    from bids_sr.report.figures.evaluation import (
        agreement_figure,
        contrasts_figure,
        select_half_rows,
    )

    half_rows = select_half_rows(rows)
    available_statistics = {row.statistic for row in half_rows}
    statistic = next((name for name in _SCORE_STATISTICS if name in available_statistics), None)
    if statistic is None:
        return
    statistic_rows = [row for row in half_rows if row.statistic == statistic]
    first_contrast, *_ = list_contrasts(statistic_rows)
    drawing = agreement_figure(rows, statistic=statistic, contrast=first_contrast, names=names)
    yield FigureDrawing("splithalf", drawing)
    detail_contrasts = list_contrasts(row for row in statistic_rows if row.band == "beyond")
    other_contrasts = [contrast for contrast in detail_contrasts if contrast != first_contrast]
    if other_contrasts:
        drawing = contrasts_figure(
            rows, statistic=statistic, contrasts=other_contrasts[:MAX_CONTRASTS], names=names
        )
        yield FigureDrawing("splithalfContrasts", drawing)


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
    from bids_sr.report.figures.evaluation import select_half_rows

    detail_rows = [
        row for row in select_half_rows(rows) if (row.contrast, row.band) == (contrast, "beyond")
    ]
    region = next(iter(main_regions(row.region for row in detail_rows)), "brain")
    for statistic in _SCORE_STATISTICS:
        score_rows = [
            row for row in detail_rows if (row.statistic, row.region) == (statistic, region)
        ]
        if score_rows:
            return score_rows
    return []


def _draw_truth(rows: Sequence[MetricRow], names: Sequence[str]) -> Iterator[FigureDrawing]:
    """Draw agreement of whole-run maps with the measured maps, or else with known activation."""
    from bids_sr.report.figures.evaluation import reference_map_figure, select_whole_run_rows

    whole_run_rows = select_whole_run_rows(rows)
    for reference in ("measuredMap", "truth"):
        contrasts = list_contrasts(row for row in whole_run_rows if row.reference == reference)
        if not contrasts:
            continue
        drawing = reference_map_figure(
            rows, contrast=contrasts[0], reference=reference, names=names
        )
        if drawing:
            yield FigureDrawing("truth", drawing)
        return


def _draw_negative_controls(
    evidence: RunEvidence, rows: Sequence[MetricRow]
) -> Iterator[FigureDrawing]:
    """Draw and list the gains of methods over their negative controls, if there are any."""
    from bids_sr.report.figures.evaluation import negative_control_figure
    from bids_sr.report.metric_tables import negative_control_html

    if gains := negative_control_gains(rows):
        first_contrast, *_ = list_contrasts(gains)
        yield FigureDrawing("placebo", negative_control_figure(gains, contrast=first_contrast))
        yield FigureDrawing("placebo", negative_control_html(evidence, rows))


def _show_tables(rows: Sequence[MetricRow], names: Sequence[str]) -> Iterator[FigureDrawing]:
    """Show tables of image quality, networks and brain masks, as far as there are values."""
    from bids_sr.report.metric_tables import HELD_OUT, IMAGES, MASK_OVERLAP, NETWORKS, tables_html

    statistics = {row.statistic for row in rows}
    psnr_references = {
        row.reference for row in rows if row.statistic == "psnr" and not row.is_difference
    }
    for desc, tables, has_values in (
        ("images", (IMAGES,), "measured" in psnr_references),
        ("holdout", (HELD_OUT,), "heldOut" in psnr_references),
        ("networkscores", NETWORKS, "connected_accuracy" in statistics),
        ("masks", (MASK_OVERLAP,), "mask_jaccard" in statistics),
    ):
        if has_values:
            yield FigureDrawing(desc, tables_html(tables, rows, names))
