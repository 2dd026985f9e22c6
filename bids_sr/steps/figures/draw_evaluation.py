"""Figures of the evaluation: verdict, agreement with the truth, control analyses."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bids_sr.evaluation.evidence import main_regions
from bids_sr.evaluation.words import region_text
from bids_sr.metrics import STATISTICS, MetricRow
from bids_sr.pipeline.artifacts import Facts, File, Image, Mask, Rows, Volume
from bids_sr.pipeline.step import Drawn, figure
from bids_sr.report.html_tables import contrasts_of, placebo_gains, shown_series
from bids_sr.report.sections import Shown
from bids_sr.steps.figures import run_maps
from bids_sr.steps.figures.display_grids import percent_of

_MAX_CONTRASTS = 4
_SCORED = ("ev", "r")
"""What is written beside a map beyond the Nyquist limit, the strongest evidence first; nothing
without a truth.
"""
_VALUES = ("evaluation",)
"""The table that holds all values."""


@figure(
    Shown(
        "verdict",
        "verdict",
        html=True,
        tables=_VALUES,
        missing="evidence (nothing was evaluated, or the step did not finish)",
    ),
    Shown(
        "splithalf",
        "evaluation",
        subtitle="Agreement with the measured high-resolution run (independent blocks)",
        tab="Agreement",
        caption=(
            "The effect of each series in one half of the blocks (at rest: segments of the run),"
            " compared with the effect measured at high resolution in the other half; mean of both"
            " directions. Explained variance is 1 − |error|² / |true effect|², corrected for noise"
            " in the reference. The shaded column shows only detail beyond the acquired Nyquist"
            " limit. Dashed: the measured series against its own other half, which is no upper"
            " bound. Dotted: B-spline interpolation."
        ),
        request=(
            "agreement with measured high-resolution BOLD (--truth DIR if it was acquired;"
            " --retrospective uses the run itself)"
        ),
        tables=_VALUES,
    ),
    Shown(
        "splithalfContrasts",
        "evaluation",
        subtitle="The same for other contrasts, beyond the acquired Nyquist limit",
        tab="Other contrasts",
        caption=(
            "A harder test: contrasts between conditions cancel what all conditions share, such as"
            " large veins."
        ),
    ),
    Shown(
        "beyond",
        "evaluation",
        subtitle="The effect beyond the acquired Nyquist limit",
        tab="Detail as maps",
        caption=(
            "The effect of all blocks, restricted to detail beyond the acquired Nyquist limit, on"
            " one color scale. Shown are the parts of two slices where the last column is"
            " strongest. Values of explained variance compare independent halves of the blocks."
        ),
        missing="maps beyond the acquired Nyquist limit",
    ),
    Shown(
        "truth",
        "evaluation",
        subtitle="Maps of the whole run against the reference",
        tab="Whole run",
        caption=(
            "One row per series, one point per smoothing. Where smoothing has removed what"
            " distinguishes the series, their agreement says nothing about super-resolution."
            " Detail beyond Nyquist is compared without smoothing."
        ),
        request="maps against a reference (--truth DIR or --retrospective)",
        tables=_VALUES,
    ),
    Shown(
        "images",
        "evaluation",
        html=True,
        tables=_VALUES,
        tab="Single volumes",
        caption=(
            "Within the brain. The measured volumes are noisy, so smooth series score well; inject"
            " shows the effect of static detail alone. Intervals come from resampled segments of"
            " the run."
        ),
        request=(
            "comparison of single volumes with measured ones (--truth DIR with a measured series,"
            " or --retrospective)"
        ),
    ),
    Shown(
        "holdout",
        "evaluation",
        html=True,
        tables=_VALUES,
        tab="Second pair",
        caption=(
            "Scores of single images, which say nothing about function. Intervals come from"
            " resampled slices."
        ),
        request="image quality on a second pair, held out from training (--pair-holdout)",
    ),
    Shown(
        "placebo",
        "placebos",
        subtitle="Method - control",
        tab="Method − control",
        caption=(
            "Gain of the method with this participant's own model and anatomy over the same method"
            " with one input replaced (control). Hollow points: the interval includes 0. What a"
            " control reproduces is not specific to this participant; whether it is accurate is"
            " another question (see above)."
        ),
        request="control analyses (--null-checks)",
    ),
    Shown("placebo", "placebos", html=True, tables=_VALUES),
)
def draw_evaluation(
    evaluation: Rows,
    verdict: Facts,
    flags: Facts,
    boldref: Image,
    bold_mask: Mask,
    halves_figures: File | None = None,
    *,
    has_truth: bool,
    series_names: Sequence[str],
) -> Iterator[Drawn]:
    """Verdict, agreement with the truth, negative controls.

    `boldref, bold_mask`: reference of the run and brain on its grid, for effects in percent.
    `halves_figures`: effects beyond the Nyquist limit of each series, for the maps. `has_truth`:
    whether high-resolution BOLD or activation is known.
    """
    from bids_sr.report.metric_tables import HELD_OUT, IMAGES, tables_html, verdict_html

    yield Drawn("verdict", verdict_html(verdict, evaluation, run_maps.raised(flags)))
    if has_truth:
        yield from _agreement(evaluation, series_names)
    if halves_figures:
        percent = percent_of(boldref, bold_mask)
        yield from _beyond(evaluation, halves_figures, _SCORED if has_truth else (), percent)
    yield from _truth(evaluation, series_names)
    yield from _negative_controls(evaluation)
    for reference, table, desc in (
        ("measured", IMAGES, "images"),
        ("heldOut", HELD_OUT, "holdout"),
    ):
        if any(
            (row.statistic, row.reference) == ("psnr", reference)
            for row in evaluation
            if not row.is_difference
        ):
            yield Drawn(desc, tables_html([table], evaluation, series_names))


def _agreement(rows: Sequence[MetricRow], names: Sequence[str]) -> Iterator[Drawn]:
    """Draw agreement with the measured halves: the first contrast in full, others in brief.

    Of the others only the highest band is drawn.

    It is of the explained variance, or of r where that is not defined.
    """
    from bids_sr.figures.evaluation_figures import agreement_figure, contrasts_figure, of_halves

    every = of_halves(rows)
    for statistic in ("ev", "r"):
        if own := [row for row in every if row.statistic == statistic]:
            first, *_ = contrasts_of(own)
            drawn = agreement_figure(rows, statistic=statistic, contrast=first, names=names)
            yield Drawn("splithalf", drawn)
            beyond = contrasts_of(row for row in own if row.band == "beyond")
            if others := [contrast for contrast in beyond if contrast != first][:_MAX_CONTRASTS]:
                drawn = contrasts_figure(rows, statistic=statistic, contrasts=others, names=names)
                yield Drawn("splithalfContrasts", drawn)
            return


def _beyond(
    rows: Sequence[MetricRow], path: Path, statistics: Sequence[str], percent: float | None
) -> Iterator[Drawn]:
    """Effects beyond the Nyquist limit side by side, where they were kept.

    `statistics` are written beside them, the first that is known.
    """
    from bids_sr.figures.evaluation_figures import of_halves
    from bids_sr.figures.map_figures import beyond_figure

    with np.load(path, allow_pickle=False) as found:
        names, contrast = found["series"].tolist(), str(found["contrast"])
        own = [row for row in of_halves(rows) if (row.contrast, row.band) == (contrast, "beyond")]
        own = [row for row in own if row.statistic in statistics]
        region = next(iter(main_regions(row.region for row in own)), "brain")
        scored = [
            [row for row in own if (row.statistic, row.region) == (each, region)]
            for each in statistics
        ]
        lead = next(filter(None, scored), [])
        scores = {row.series: row.value for row in reversed(lead)}
        what = f"{STATISTICS[lead[0].statistic].label}, {region_text(region)}" if lead else ""
        mask = Volume(found["mask"], found["affine"])
        shown = shown_series(names, scores)
        maps = {name: mask.like(found[f"beyond_{name}"]) for name in shown}
    if maps:
        yield Drawn(
            "beyond", beyond_figure(maps, mask, scores=scores, score=what, percent=percent)
        )


def _truth(rows: Sequence[MetricRow], names: Sequence[str]) -> Iterator[Drawn]:
    """Agreement of whole-run maps with the measured ones, else with known activation."""
    from bids_sr.figures.evaluation_figures import of_whole_run, truth_figure

    own = of_whole_run(rows)
    for reference in ("measuredMap", "truth"):
        if contrasts := contrasts_of(row for row in own if row.reference == reference):
            if drawn := truth_figure(
                rows, contrast=contrasts[0], reference=reference, names=names
            ):
                yield Drawn("truth", drawn)
            return


def _negative_controls(rows: Sequence[MetricRow]) -> Iterator[Drawn]:
    from bids_sr.figures.evaluation_figures import placebo_figure
    from bids_sr.report.metric_tables import placebo_html

    if gains := placebo_gains(rows):
        yield Drawn("placebo", placebo_figure(gains, contrast=contrasts_of(gains)[0]))
        yield Drawn("placebo", placebo_html(rows))
