"""Spurious gains that no program may profit from: detail on the acquired grid, and reduced
amplitude of noisy series.
"""

import math

import pytest
from data.short_names import named_row

from bids_sr.evaluation.compared_series.verdict import decide_compared_verdict
from bids_sr.evaluation.statements import Statement


def rows_of(series, band, level, gain, *, controls=("zerofill",), statistic="ev", region="brain"):
    """Return the explained variance and its gain over controls, each as (value, lower, upper)."""
    rows = []
    for minus, interval in ((None, level), *((control, gain) for control in controls)):
        if interval is None:
            continue
        value, lower, upper = interval
        name = f"truth_{statistic}_{band}" if minus is None else f"gain_truth_{statistic}_{band}"
        options = {"against": minus or "truth", "contrast": "all", "region": region}
        rows.append(named_row(series, name, value, lower=lower, upper=upper, **options))
    return rows


DENOISED = rows_of("mppca", "beyond", (0.024, 0.016, 0.031), (0.05, 0.01, 0.09), region="active")
"""A noisy phantom denoised by MP-PCA: some variance is explained above the acquired Nyquist
frequency, since other series have noise there."""


@pytest.mark.parametrize(("grid", "decision"), [("acquired", "same"), ("finer", "better")])
def test_detail_is_counted_only_on_a_finer_grid(grid: str, decision: str) -> None:
    verdict = decide_compared_verdict("mppca", DENOISED, fwhm_mm=0.0, facts={"grid": grid})
    assert [claim.decision for claim in verdict.claims] == [decision]
    assert (Statement.TRUE_DETAIL in verdict.text) == (grid == "finer")
    assert (Statement.ON_ACQUIRED_GRID in verdict.text) == (grid == "acquired")
    without_rows = decide_compared_verdict("mppca", [], fwhm_mm=0.0, facts={"grid": grid})
    # no scan can show detail on the acquired grid
    assert (Statement.BEYOND_REQUIRES in without_rows.text) == (grid == "finer")


@pytest.mark.parametrize(("r_gain", "decision"), [((0.0, 0.0), "same"), ((0.05, 0.1), "better")])
def test_a_reduced_amplitude_of_a_noisy_series_is_not_more_accurate(
    r_gain: tuple[float, float], decision: str
) -> None:
    """If noise greatly exceeds the effect, a reduced amplitude explains more at the same
    correlation.
    """
    controls = ("zerofill", "otherSame")
    rows = rows_of("other", "within", (0.3, 0.2, 0.4), (1.3, 1.0, 1.7), controls=controls)
    rows += rows_of("other", "within", None, (sum(r_gain) / 2, *r_gain), statistic="r")
    verdict = decide_compared_verdict("other", rows, fwhm_mm=0.0, facts={})
    assert [claim.decision for claim in verdict.claims] == [decision]
    assert (Statement.ONLY_SIZE in verdict.text) == (decision == "same")


CASES = {
    # a masked tedana series: much better than noise, but worse than no activation
    "nothing explained": (
        rows_of(
            *("x", "within", (-0.6, -1.1, -0.2), (1.18, 0.03, 2.9)), controls=("zerofill", "xSame")
        ),
        0.0,
        "not more accurate",
        Statement.NOTHING_EXPLAINED,
    ),
    "no control at the same resolution": (
        rows_of("x", "within", (0.6, 0.5, 0.7), (0.2, 0.1, 0.3)),
        math.nan,
        "not assessed",
        "",
    ),
    # B-spline interpolation, whereas zero filling has some leakage
    "no added detail": (
        rows_of(*("x", "beyond", (0.002, 0.001, 0.003), (-0.03, -0.04, -0.02)), region="active"),
        0.0,
        "not more accurate",
        Statement.NO_ADDED_DETAIL,
    ),
}


@pytest.mark.parametrize(("rows", "fwhm_mm", "status", "statement"), CASES.values(), ids=CASES)
def test_a_series_without_true_gain_is_not_more_accurate(rows, fwhm_mm, status, statement) -> None:
    verdict = decide_compared_verdict("x", rows, fwhm_mm=fwhm_mm, facts={"grid": "finer"})
    assert verdict.status == status
    assert statement in verdict.text
