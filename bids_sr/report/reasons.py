"""Reasons of the answers of a run in words, and numbers of voxels in its masks."""

import math
from collections.abc import Sequence

from bids_sr.engine.metric_rows import MISSING, MetricRow
from bids_sr.engine.number_text import number
from bids_sr.evaluation.detail_support import (
    COVERAGE,
    MAX_SMOOTHNESS,
    SMOOTHNESS,
)
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.evaluation.large_effects import OTHERS
from bids_sr.evaluation.large_effects_results import collect_large_effects
from bids_sr.evaluation.missing_blocks import list_single_splits
from bids_sr.evaluation.result import RunResult
from bids_sr.evaluation.result_text import (
    explain_results,
    explained_text,
    is_tested,
    name_contrast,
)
from bids_sr.evaluation.self_test_results import SelfTestResults
from bids_sr.evaluation.series_text import summarize_method
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.tested_detail import HALF_RESOLUTION
from bids_sr.evaluation.words import active_words
from bids_sr.glm.vein_signs import LARGE_PERCENT, LARGE_SHARE
from bids_sr.io.frozen import frozen
from bids_sr.io.series import MEASURED
from bids_sr.io.word_lists import enumerate_unique


@frozen
class ErrorCounts:
    """Voxels of one contrast by the reconstruction error, at the smallest smoothing.

    Significant voxels are significant with FDR .05. `n_sign_reliable` is None if the tests of the
    run do not permit sign reliable voxels. `expected_wrong` is the fraction of the significant
    voxels with an expected wrong sign. `large_share` is the share of sign reliable voxels with an
    acquired effect above 5 %. Fractions are NaN if there are no voxels.
    """

    n_significant: float
    n_sign_reliable: float | None
    expected_wrong: float
    large_share: float


def list_reasons(
    result: RunResult,
    rows: Sequence[MetricRow],
    self_test: SelfTestResults,
    *,
    reference: str = "",
    across_runs: bool = False,
) -> list[str]:
    """Return what the answers of all contrasts mean as sentences: definitions, test and limits.

    `rows` are of the evaluation, and `self_test` has the voxel sizes of the test. `reference` is
    the high-resolution reference in words; "" if there is none. `across_runs` states whether runs
    are the halves of the test.
    """
    contrasts = result.contrasts
    if not contrasts:
        return []
    summary = summarize_method(result.method)
    sentences = [
        Statement.DETAIL.format(size=result.acquired) + " " + Statement.EXPLAINED,
        Statement.ANSWERS.format(active=active_words(ACQUIRED_ACTIVE)[1]),
    ]
    if reference:
        sentences.append(Statement.MEASURED_VALUES.format(reference=reference))
    deciding_rows = [
        region.deciding_row for contrast in contrasts for region in contrast.regions.values()
    ]
    if any(row is not None and is_tested(row) for row in deciding_rows):
        test = Statement.ACROSS_RUNS_TEST if across_runs else Statement.SINGLE_RUN_TEST
        sentences.append(
            Statement.TESTED_VALUES.format(test=test.format(sizes=self_test.levels_text))
        )
        if not reference:
            sentences.append(Statement.PRECISION)
        smoothness = next((row.value for row in rows if row.statistic == SMOOTHNESS), math.nan)
        sharp = ""
        # a run that is too smooth is the reason why its contrasts are not testable
        if smoothness <= MAX_SMOOTHNESS:
            fwhm, limit = number(smoothness, ".1f"), f"{MAX_SMOOTHNESS:g}"
            sharp = " " + Statement.SHARP_RUN.format(fwhm=fwhm, limit=limit)
        sentences.append(f"{Statement.BLIND_SPOT}{sharp}")
        conditions = list_single_splits(rows)
        if across_runs:
            sentences.append(Statement.TWO_RUNS)
        elif conditions:
            sentences.append(
                Statement.SINGLE_SPLIT.format(conditions=enumerate_unique(conditions))
            )
    if summary:
        sentences.append(f"{result.method}: {summary}.")
    return sentences


def explain_contrasts(result: RunResult, rows: Sequence[MetricRow]) -> list[str]:
    """Return the reasons of the answers to contrasts as sentences, and their masks.

    `rows` are of the evaluation.
    """
    sentences = explain_results(result.contrasts)
    if any(contrast.untested for contrast in result.contrasts):
        sentences.append(Statement.UNTESTED_CONDITIONS)
    return [*sentences, *_explain_masks(result, rows), *_explain_large_effects(result, rows)]


def _explain_masks(result: RunResult, rows: Sequence[MetricRow]) -> list[str]:
    """Return sentences on the masks of the shown contrast, and on contrasts without masks."""
    sentences = []
    if result.shown is not None:
        counts = count_error_voxels(rows, result.method, result.shown.map_contrast)
        if counts is not None and counts.n_sign_reliable is not None:
            sentences.append(
                Statement.MASKS.format(
                    contrast=name_contrast(result.shown),
                    n_significant=f"{counts.n_significant:,.0f}",
                    n_sign_reliable=f"{counts.n_sign_reliable:,.0f}",
                    wrong=number(counts.expected_wrong, ".0%"),
                )
            )
    coverages = {row.contrast: row.value for row in rows if row.statistic == COVERAGE}
    for contrast in result.interpretable:
        counts = count_error_voxels(rows, result.method, contrast.map_contrast)
        if counts is None or counts.n_sign_reliable is not None:
            continue
        state = contrast.active.test.state
        reason = (
            Statement.NOT_COVERED if state == "recovered" else Statement.NOT_RECOVERED_IN_TEST
        ).format(share=number(coverages.get(contrast.map_contrast, math.nan), ".0%"))
        name = name_contrast(contrast)
        sentences.append(Statement.NO_SIGN_RELIABLE.format(contrast=name, reason=reason))
    return sentences


def _explain_large_effects(result: RunResult, rows: Sequence[MetricRow]) -> list[str]:
    """Return a sentence on the shown contrast without large effects; [] if there is no value."""
    shown = result.shown
    if shown is None:
        return []
    large = collect_large_effects(rows, result.method, shown.contrast, shown.map_contrast)
    if large is None or not large.explained:
        return []
    reference = MEASURED if MEASURED in large.explained else HALF_RESOLUTION
    whole, others = (
        explained_text(row.value, row.lower, row.upper) for row in large.explained[reference]
    )
    counts = {
        ACQUIRED_ACTIVE: large.effects.n_active,
        OTHERS: large.effects.n_active - large.effects.n,
    }
    if reference == HALF_RESOLUTION:  # the test compares other voxels than those of the maps
        cells = result.method, shown.contrast, "voxels", reference, 0.0
        counts |= {
            row.region: int(row.value)
            for row in rows
            if (row.series, row.contrast, row.statistic, row.reference, row.fwhm_mm) == cells
        }
    return [
        Statement.WITHOUT_LARGE.format(
            contrast=name_contrast(shown),
            n=f"{counts[ACQUIRED_ACTIVE] - counts[OTHERS]:,}",
            n_active=f"{counts[ACQUIRED_ACTIVE]:,}",
            limit=f"{LARGE_PERCENT:g} %",
            value=others,
            whole=whole,
        )
    ]


def count_error_voxels(
    rows: Sequence[MetricRow], series: str, contrast: str
) -> ErrorCounts | None:
    """Return numbers of voxels by the reconstruction error; None if there is no SD map."""
    error_rows = [
        row
        for row in rows
        if (row.series, row.contrast, row.reference) == (series, contrast, MISSING)
    ]
    widths = [row.fwhm_mm for row in error_rows if row.statistic == "expected_wrong"]
    if not widths:
        return None
    values = {
        (row.statistic, row.threshold): row.value
        for row in error_rows
        if row.fwhm_mm == min(widths)
    }
    return ErrorCounts(
        n_significant=values["voxels", "fdr"],
        n_sign_reliable=values.get(("voxels", "signReliable")),
        expected_wrong=values["expected_wrong", "fdr"],
        large_share=values.get((LARGE_SHARE, "signReliable"), math.nan),
    )
