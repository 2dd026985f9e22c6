"""Table of a run's contrasts with permitted interpretations, and the notes below the table."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from bids_sr.evaluation.contrast_results import ContrastResult, RegionResult
from bids_sr.evaluation.contrast_text import (
    describe_interpretation,
    explain_results,
    quote_contrast,
    state_text,
)
from bids_sr.evaluation.detail_support import (
    COVERAGE,
    MAX_SMOOTHNESS,
    SMOOTHNESS,
    SupportState,
)
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.evaluation.missing_blocks import list_single_splits
from bids_sr.evaluation.self_test import SelfTestResults
from bids_sr.evaluation.series_text import summarize_method
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.words import active_words
from bids_sr.frozen import frozen
from bids_sr.metrics.number_text import number
from bids_sr.metrics.rows import MISSING, MetricRow
from bids_sr.metrics.word_lists import enumerate_unique
from bids_sr.report.large_effects_table import render_large_effects
from bids_sr.report.markup import ColumnHead, join, render

_NO_SIGN_RELIABLE: Mapping[SupportState, str] = {
    "recovered": "none",
    "not supported": "none",
    "not testable": "not testable",
}
"""Cells of a contrast without sign reliable voxels, by the result in active voxels."""


@frozen
class ErrorCounts:
    """Voxels of one contrast by the reconstruction error, at the smallest smoothing.

    `fwhm_mm` is the smoothing of the map (FWHM, mm). Significant voxels are significant with FDR
    .05. `n_sign_reliable` is None, and `n_size_known` NaN, if the tests of the run do not permit
    sign reliable voxels. `expected_wrong` is the fraction of the significant voxels with an
    expected wrong sign; NaN if no voxels are significant.
    """

    fwhm_mm: float
    n_significant: float
    n_sign_reliable: float | None
    n_size_known: float
    expected_wrong: float


class _Cell(NamedTuple):
    """Cell of the table: text, tooltip (may be empty), and whether the detail is recovered."""

    text: str
    title: str = ""
    is_recovered: bool = False


def render_contrasts(
    results: Mapping[str, ContrastResult],
    rows: Sequence[MetricRow],
    method: str,
    self_test: SelfTestResults,
    *,
    at_rest: bool = False,
    across_runs: bool = False,
) -> Markup:
    """Render the results for all contrasts, and their large effects, "" if there are none.

    `results` of the method are by contrast. `rows` of the evaluation give the numbers of sign
    reliable and size known voxels. `method` is the series whose detail was measured or tested, and
    `self_test` has the voxel sizes of the test. `at_rest` states whether maps are of seeds instead
    of conditions, and `across_runs` whether maps are of several runs, which are the halves of the
    test.
    """
    if not results:
        return Markup("")
    is_measured = _is_measured(results)
    tests = [
        region.test for result in results.values() for region in (result.active, result.brain)
    ]
    has_second_result = is_measured and any(test.row is not None for test in tests)
    counts = {
        contrast: count_error_voxels(rows, method, result.map_contrast)
        for contrast, result in results.items()
    }
    regions = ("active voxels", "whole brain")
    basis = "measured" if is_measured else "explained when halved"
    heads: list[ColumnHead] = ["seed" if at_rest else "contrast"]
    heads += [(region, basis) for region in regions]
    heads.append("what you may interpret")
    if any(counts.values()):
        heads += [("sign reliable voxels", "of significant"), "size known voxels"]
    if has_second_result:
        heads += [(region, "test without the reference") for region in regions]
    table_rows = []
    for contrast, result in results.items():
        cells = [_make_cell(result.active), _make_cell(result.brain)]
        interpretation = describe_interpretation(
            result.active.state, result.brain.state, self_test.acquired_text
        )
        cells.append(_Cell(interpretation, is_recovered=result.state == "recovered"))
        if any(counts.values()):
            cells += [_Cell(text) for text in describe_counts(result, counts[contrast])]
        if has_second_result:
            cells += [
                _Cell(state_text(region.test.state, region.test.row), region.test.reason)
                for region in (result.active, result.brain)
            ]
        is_renamed = result.map_contrast != contrast
        label = f"{result.map_contrast} (tested as {contrast})" if is_renamed else contrast
        table_rows.append((label, cells))
    columns = [(head, "") if isinstance(head, str) else head for head in heads]
    title = f"What you may interpret in the {method} maps"
    definitions = [f"Detail: effects finer than {self_test.acquired_text}"]
    if summary := summarize_method(method):
        definitions.append(f"{method}: {summary}")
    contents = render(
        "contrasts",
        title,
        ". ".join(definitions),
        columns,
        table_rows,
        _write_notes(results, counts, rows, self_test, across_runs=across_runs),
    )
    return join([contents, render_large_effects(results, rows, method)])


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
        fwhm_mm=min(widths),
        n_significant=values["voxels", "fdr"],
        n_sign_reliable=values.get(("voxels", "signReliable")),
        n_size_known=values.get(("voxels", "sizeKnown"), math.nan),
        expected_wrong=values["expected_wrong", "fdr"],
    )


def _make_cell(region: RegionResult) -> _Cell:
    """Return the cell of a contrast in one region, with the reason as a tooltip."""
    return _Cell(state_text(region.state, region.row), region.reason, region.state == "recovered")


def describe_counts(result: ContrastResult, counts: ErrorCounts | None) -> tuple[str, str]:
    """Return the numbers of sign reliable and size known voxels, or the state without them.

    Only contrasts whose detail is recovered have sign reliable voxels. If the detail was measured
    to be recovered, but the test did not permit sign reliable voxels, the state of the test is
    returned.
    """
    if counts is None:
        return MISSING, MISSING
    is_recovered = result.state == "recovered"
    if is_recovered and counts.n_sign_reliable is not None:
        sign_reliable = f"{counts.n_sign_reliable:,.0f} of {counts.n_significant:,.0f}"
        return sign_reliable, number(counts.n_size_known, ",.0f")
    text = _NO_SIGN_RELIABLE[result.active.test.state if is_recovered else result.state]
    return text, text


def _write_notes(
    results: Mapping[str, ContrastResult],
    counts: Mapping[str, ErrorCounts | None],
    rows: Sequence[MetricRow],
    self_test: SelfTestResults,
    *,
    across_runs: bool,
) -> list[str]:
    """Return the notes below the table: reasons, values, precision, and masks of voxels."""
    notes = [*explain_results(results.values()), *_explain_map_contrasts(results)]
    active_name, definition = active_words(ACQUIRED_ACTIVE)
    regions_text = f"{active_name[:1].upper()}{active_name[1:]}: {definition}."
    if _is_measured(results):
        texts = [Statement.MEASURED_VALUES, Statement.EXPLAINED, Statement.NOT_BEST, regions_text]
        notes.append(" ".join(texts))
    elif any(result.has_values for result in results.values()):
        test = Statement.ACROSS_RUNS_TEST if across_runs else Statement.SINGLE_RUN_TEST
        test_text = test.format(sizes=self_test.levels_text)
        texts = [
            Statement.TESTED_VALUES.format(test=test_text),
            Statement.EXPLAINED,
            regions_text,
            Statement.PRECISION,
        ]
        notes += [" ".join(texts), f"{Statement.BLIND_SPOT}{_describe_sharpness(rows)}"]
    is_tested = any(
        region.test.row is not None
        for result in results.values()
        for region in (result.active, result.brain)
    )
    if is_tested and across_runs:
        notes.append(Statement.TWO_RUNS)
    elif is_tested and (conditions := list_single_splits(rows)):
        notes.append(Statement.SINGLE_SPLIT.format(conditions=enumerate_unique(conditions)))
    if any(result.state == "recovered" for result in results.values()):
        notes.insert(0, Statement.SCOPE)
    if any(counts.values()):
        notes.append(f"{Statement.SIGN_RELIABLE}{_describe_wrong_signs(results, counts)}")
        notes.append(Statement.SIZE_KNOWN)
        notes += _explain_missing_sign_reliable(results, counts, rows)
    return notes


def _explain_map_contrasts(results: Mapping[str, ContrastResult]) -> list[str]:
    """Return a sentence on contrasts whose maps have further conditions, [] if there are none."""
    names = [
        quote_contrast(result.map_contrast)
        for result in results.values()
        if result.map_contrast != result.contrast
    ]
    return [Statement.ALL_CONDITIONS.format(contrasts=enumerate_unique(names))] if names else []


def _is_measured(results: Mapping[str, ContrastResult]) -> bool:
    """Return whether the detail of any contrast was compared with a reference."""
    return any(
        region.measured is not None
        for result in results.values()
        for region in (result.active, result.brain)
    )


def _describe_sharpness(rows: Sequence[MetricRow]) -> str:
    """Return a sentence if the run is known to be sharp enough for the test, else "".

    If a run is too smooth, this is the reason why its contrasts are not testable.
    """
    smoothness = next((row.value for row in rows if row.statistic == SMOOTHNESS), math.nan)
    if not smoothness <= MAX_SMOOTHNESS:
        return ""
    fwhm = number(smoothness, ".1f")
    return " " + Statement.SHARP_RUN.format(fwhm=fwhm, limit=f"{MAX_SMOOTHNESS:g}")


def _describe_wrong_signs(
    results: Mapping[str, ContrastResult], counts: Mapping[str, ErrorCounts | None]
) -> str:
    """Return a sentence on the expected wrong signs in the first recovered contrast, else ""."""
    for contrast, result in results.items():
        contrast_counts = counts[contrast]
        if (
            result.state == "recovered"
            and contrast_counts is not None
            and contrast_counts.n_sign_reliable is not None
            and math.isfinite(contrast_counts.expected_wrong)
        ):
            share_text = number(contrast_counts.expected_wrong, ".0%")
            width = contrast_counts.fwhm_mm
            smoothing = f" (smoothed by {width:g} mm)" if width else ""
            return " " + Statement.WRONG_SIGNS.format(
                contrast=quote_contrast(contrast), smoothing=smoothing, share=share_text
            )
    return ""


def _explain_missing_sign_reliable(
    results: Mapping[str, ContrastResult],
    counts: Mapping[str, ErrorCounts | None],
    rows: Sequence[MetricRow],
) -> list[str]:
    """Return sentences on recovered contrasts that have no sign reliable voxels."""
    coverages = {row.contrast: row.value for row in rows if row.statistic == COVERAGE}
    sentences = []
    for contrast, result in results.items():
        contrast_counts = counts[contrast]
        if (
            result.state != "recovered"
            or contrast_counts is None
            or contrast_counts.n_sign_reliable is not None
        ):
            continue
        state = result.active.test.state
        reason = (
            Statement.NOT_COVERED if state == "recovered" else Statement.NOT_RECOVERED_IN_TEST
        ).format(share=number(coverages.get(result.map_contrast, math.nan), ".0%"), state=state)
        name = quote_contrast(contrast)
        sentences.append(Statement.NO_SIGN_RELIABLE.format(contrast=name, reason=reason))
    return sentences
