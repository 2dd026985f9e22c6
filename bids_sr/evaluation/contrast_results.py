"""Result for the detail of each contrast of a run, per region: measured, or tested without it.

A measured value is stronger evidence than the test at half the resolution and decides if it
exists. Measured detail with an interval is judged by the same limits as the test
(`bids_sr.evaluation.detail_support.decide_state`). A measured value without an interval is not
sufficient to recover detail: the test must recover the detail as well. If it is not above 0, the
detail is not supported.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bids_sr.evaluation.detail_support import (
    DetailSupport,
    SupportState,
    classify_detail,
    decide_state,
)
from bids_sr.evaluation.evidence import Evidence, main_regions
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.tested_detail import TESTED_METHOD
from bids_sr.frozen import frozen
from bids_sr.metrics.contrast_names import rank_contrast
from bids_sr.metrics.number_text import interval_ends
from bids_sr.metrics.rows import MISSING, MetricRow


@frozen
class RegionResult:
    """Result for the detail of one contrast in one region.

    `state` is the result of the measurement or, if nothing was measured, of the test at half the
    resolution, `test`. `measured` is the explained variance of the reference's detail; None if
    it was not measured. `reason` is a clause: why the detail is not testable, or another remark on
    the value; "" if the value and its interval are the reason.
    """

    state: SupportState
    test: DetailSupport
    measured: MetricRow | None = None
    reason: str = ""

    @property
    def row(self) -> MetricRow | None:
        """Explained variance that decided; None if there is none."""
        return self.test.row if self.measured is None else self.measured


@frozen
class ContrastResult:
    """Results for the detail of one contrast in active voxels, which decide, and in the brain.

    `map_contrast` is the contrast of the maps, see `ContrastSupport`.
    """

    contrast: str
    map_contrast: str
    active: RegionResult
    brain: RegionResult

    @property
    def state(self) -> SupportState:
        """Result in active voxels."""
        return self.active.state

    @property
    def has_values(self) -> bool:
        """Whether the detail was measured or tested in any region."""
        return self.active.row is not None or self.brain.row is not None


def has_values(results: Mapping[str, Mapping[str, ContrastResult]]) -> bool:
    """Return whether any contrast of any method was measured or tested.

    `results` are by method and contrast.
    """
    return any(
        result.has_values for by_contrast in results.values() for result in by_contrast.values()
    )


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
    if not reason and method != TESTED_METHOD:
        reason = Statement.OTHER_METHOD.format(series=method)
    if reason and not is_tested:
        untested = DetailSupport(state="not testable", reason=reason)
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
            active_result = replace(active_result, reason=Statement.NO_ACTIVE_VOXELS)
        results[contrast] = ContrastResult(
            contrast=contrast,
            map_contrast=support.map_contrast,
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


def _decide_region(test: DetailSupport, measured: MetricRow | None) -> RegionResult:
    """Return the result in one region; `measured` is None if the detail was not measured."""
    if measured is None:
        return RegionResult(state=test.state, test=test, reason=explain_test(test))
    state: SupportState
    reason = ""
    if not math.isfinite(measured.value):
        state = "not supported" if test.state == "not supported" else "not testable"
        reason = Statement.NO_REFERENCE_DETAIL
    elif measured.has_interval:
        state = decide_state(measured.lower, measured.upper)
        if state == "not testable":
            ends = " to ".join(interval_ends(measured.lower, measured.upper, ".0%"))
            reason = Statement.WIDE_INTERVAL.format(ends=ends)
    else:  # A value without an interval does not suffice as evidence.
        is_contrary = measured.value <= 0 and test.state == "recovered"
        state = "not testable" if is_contrary else test.state
        if state != "recovered":
            test_text = Statement.NOT_RECOVERED_IN_TEST.format(state=state)
            reason = Statement.UNCONFIRMED.format(test=test_text)
    return RegionResult(state=state, test=test, measured=measured, reason=reason)


def explain_test(test: DetailSupport) -> str:
    """Return the reason for the result of a test; "" if the value and its interval are the reason.

    Whatever the value, detail is not supported if the effect is smooth, or if its highest spatial
    frequencies are not recovered.
    """
    if test.state != "not supported" or test.row is None:
        return test.reason
    if decide_state(test.row.lower, test.row.upper) == "not supported":
        return ""
    if test.is_smooth:
        return Statement.FADES
    return Statement.NOT_AT_LIMIT
