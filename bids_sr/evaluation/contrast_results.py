"""Result for the detail of each contrast of a run, per region: measured, or tested without it.

A measured value is stronger evidence than the test at half the resolution and decides if it
exists. Measured detail with an interval is judged by the same limits as the test
(`bids_sr.evaluation.detail_support.decide_state`). A measured value without an interval is not
sufficient to recover detail: the test must recover the detail as well. If it is not above 0, the
detail is not supported.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from bids_sr.engine.metric_rows import MISSING, MetricRow
from bids_sr.engine.number_text import interval_ends
from bids_sr.evaluation.detail_support import (
    ContrastResult,
    RegionResult,
    SupportState,
    classify_detail,
    decide_state,
)
from bids_sr.evaluation.evidence import Evidence, main_regions
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.tested_detail import TESTED_METHOD
from bids_sr.io.contrast_names import rank_contrast


def collect_results(
    rows: Sequence[MetricRow], method: str, evidence: Evidence | None = None, reason: str = ""
) -> dict[str, ContrastResult]:
    """Return the result for the detail of each contrast of a method.

    `method` is the series whose detail is judged. `evidence` is the agreement with the strongest
    reference; None if accuracy was not measured. `reason` is why the method was not tested at all,
    as a clause; by default, that the run cannot be split or that only another method is tested.
    Results are by contrast, with `all` first; empty if there are no contrasts.
    """
    measured_rows = _select_measured(rows, method, evidence)
    supports = classify_detail(rows, method, list_contrasts(rows, method))
    is_tested = any(
        region.row for support in supports.values() for region in (support.active, support.brain)
    )
    short_reason = "not tested"
    if not reason and method != TESTED_METHOD:
        reason = Statement.OTHER_METHOD.format(series=method)
        short_reason = Statement.OTHER_METHOD.short
    if reason and not is_tested:
        untested = RegionResult(state="not testable", reason=reason, short_reason=short_reason)
        supports = {
            name: replace(support, active=untested, brain=untested)
            for name, support in supports.items()
        }
    results = {}
    for contrast, support in supports.items():
        by_region = measured_rows.get(contrast, {})
        active_region = next(iter(main_regions(by_region)), "")
        active_result = _decide_region(support.active, by_region.get(active_region))
        if active_region == "brain":
            active_result = replace(
                active_result,
                reason=Statement.NO_ACTIVE_VOXELS,
                short_reason=Statement.NO_ACTIVE_VOXELS.short,
            )
        results[contrast] = replace(
            support,
            active=active_result,
            brain=_decide_region(support.brain, by_region.get("brain")),
        )
    return results


def _select_measured(
    rows: Sequence[MetricRow], method: str, evidence: Evidence | None
) -> dict[str, dict[str, MetricRow]]:
    """Return measured explained variances by contrast and region, {} if there are none.

    For each contrast, the smallest smoothing is used.
    """
    if evidence is None or evidence.reference.statistic != "ev":
        return {}
    selected: dict[str, dict[str, MetricRow]] = {}
    for row in sorted(rows, key=lambda row: row.fwhm_mm):
        if (row.series, row.statistic, row.band, row.minus, row.reference) == (
            method,
            "ev",
            evidence.band,
            MISSING,
            evidence.reference.name,
        ):
            selected.setdefault(row.contrast, {}).setdefault(row.region, row)
    return selected


def list_contrasts(rows: Iterable[MetricRow], series: str) -> list[str]:
    """Return all contrasts of a series in the rows; `all` is first.

    Pairs of contrasts, whose names are joined by +, are not contrasts.
    """
    contrasts = dict.fromkeys(
        row.contrast
        for row in rows
        if row.series == series and row.contrast != MISSING and "+" not in row.contrast
    )
    return sorted(contrasts, key=rank_contrast)


def _decide_region(test: RegionResult, measured: MetricRow | None) -> RegionResult:
    """Return the result in one region; `measured` is None if the detail was not measured."""
    if measured is None:
        return test
    state: SupportState
    statement: Statement | None = None
    if not math.isfinite(measured.value):
        state = "not supported" if test.state == "not supported" else "not testable"
        statement = Statement.NO_REFERENCE_DETAIL
    elif not measured.has_interval:  # A value without an interval does not suffice as evidence.
        if measured.value > 0 or test.state != "recovered":
            return replace(test, row=measured, tested=test)
        state, statement = "not testable", Statement.DISAGREES
    else:
        state = decide_state(measured.lower, measured.upper)
        if state == "not testable":
            statement = Statement.WIDE_INTERVAL
    ends = " to ".join(interval_ends(measured.lower, measured.upper, ".0%"))
    return RegionResult(
        state=state,
        row=measured,
        reason=statement.format(ends=ends) if statement else "",
        short_reason=_shorten(state, statement),
        deciding_row=measured,
        tested=test,
    )


def _shorten(state: SupportState, statement: Statement | None) -> str:
    """Return the short reason of a measured result; "" if the detail is recovered."""
    if statement is not None:
        return statement.short
    return Statement.NO_GAIN.short if state == "not supported" else ""
