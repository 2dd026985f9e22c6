"""Spurious gains that no program may profit from: detail on the acquired grid, and reduced
amplitude of noisy series.
"""

from __future__ import annotations

import pytest

from bids_sr.compared_series.verdict import decide_compared_verdict
from bids_sr.evaluation.statements import Statement
from bids_sr.metrics.rows import MetricRow


def denoised_rows() -> list[MetricRow]:
    """Return rows as of a noisy phantom denoised by MP-PCA: some variance is explained above the
    acquired Nyquist frequency, since other series have noise there.
    """
    columns = {"series": "mppca", "contrast": "all", "region": "active"}
    return [
        MetricRow(
            **columns,
            statistic="ev",
            band="beyond",
            reference="truth",
            value=0.024,
            lower=0.016,
            upper=0.031,
        ),
        MetricRow(
            **columns,
            minus="zerofill",
            statistic="ev",
            band="beyond",
            reference="truth",
            value=0.05,
            lower=0.01,
            upper=0.09,
        ),
    ]


@pytest.mark.parametrize(("grid", "decision"), [("acquired", "same"), ("finer", "better")])
def test_detail_is_counted_only_on_a_finer_grid(grid: str, decision: str) -> None:
    verdict = decide_compared_verdict("mppca", denoised_rows(), fwhm_mm=0.0, facts={"grid": grid})
    assert [claim.decision for claim in verdict.claims if claim.decision] == [decision]
    assert (Statement.TRUE_DETAIL in verdict.text) == (grid == "finer")


@pytest.mark.parametrize(("r_gain", "decision"), [((0.0, 0.0), "same"), ((0.05, 0.1), "better")])
def test_a_reduced_amplitude_of_a_noisy_series_is_not_more_accurate(
    r_gain: tuple[float, float], decision: str
) -> None:
    """If noise greatly exceeds the effect, a reduced amplitude explains more at the same
    correlation.
    """
    columns = {"series": "other", "contrast": "all", "region": "brain"}
    low, high = r_gain
    metric_rows = [
        MetricRow(
            **columns,
            statistic="ev",
            band="within",
            reference="truth",
            value=0.3,
            lower=0.2,
            upper=0.4,
        ),
        MetricRow(
            **columns,
            minus="zerofill",
            statistic="ev",
            band="within",
            reference="truth",
            value=1.3,
            lower=1.0,
            upper=1.7,
        ),
        MetricRow(
            **columns,
            minus="otherSame",
            statistic="ev",
            band="within",
            reference="truth",
            value=1.3,
            lower=1.0,
            upper=1.7,
        ),
        MetricRow(
            **columns,
            minus="zerofill",
            statistic="r",
            band="within",
            reference="truth",
            value=(low + high) / 2,
            lower=low,
            upper=high,
        ),
    ]
    verdict = decide_compared_verdict("other", metric_rows, fwhm_mm=0.0, facts={})
    assert [claim.decision for claim in verdict.claims if claim.decision] == [decision]
    assert (Statement.ONLY_SIZE in verdict.text) == (decision == "same")


def test_a_series_without_explained_variance_is_not_more_accurate() -> None:
    """Observed for a masked tedana series: much better than noise, but worse than no
    activation.
    """
    columns = {"series": "tedana", "contrast": "all", "region": "brain"}
    gain = {
        "statistic": "ev",
        "band": "within",
        "reference": "truth",
        "value": 1.18,
        "lower": 0.03,
        "upper": 2.9,
    }
    metric_rows = [
        MetricRow(
            **columns,
            statistic="ev",
            band="within",
            reference="truth",
            value=-0.6,
            lower=-1.1,
            upper=-0.2,
        ),
        *(
            MetricRow(**columns, minus=reference, **gain)
            for reference in ("zerofill", "tedanaSame")
        ),
    ]
    verdict = decide_compared_verdict("tedana", metric_rows, fwhm_mm=0.0, facts={})
    assert verdict.status == "not more accurate"
    assert Statement.NOTHING_EXPLAINED in verdict.text


def test_without_the_control_at_the_same_resolution_nothing_is_assessed() -> None:
    columns = {"series": "x", "contrast": "all", "region": "brain"}
    metric_rows = [
        MetricRow(
            **columns,
            statistic="ev",
            band="within",
            reference="truth",
            value=0.6,
            lower=0.5,
            upper=0.7,
        ),
        MetricRow(
            **columns,
            minus="zerofill",
            statistic="ev",
            band="within",
            reference="truth",
            value=0.2,
            lower=0.1,
            upper=0.3,
        ),
    ]
    assert (
        decide_compared_verdict("x", metric_rows, fwhm_mm=float("nan"), facts={}).status
        == "not assessed"
    )


def test_a_series_without_added_detail_is_reported() -> None:
    """B-spline interpolation explains no variance above the acquired Nyquist frequency, whereas
    zero filling has some leakage.
    """
    columns = {"series": "bspline2", "contrast": "all", "region": "active"}
    metric_rows = [
        MetricRow(
            **columns,
            statistic="ev",
            band="beyond",
            reference="truth",
            value=0.002,
            lower=0.001,
            upper=0.003,
        ),
        MetricRow(
            **columns,
            minus="zerofill",
            statistic="ev",
            band="beyond",
            reference="truth",
            value=-0.03,
            lower=-0.04,
            upper=-0.02,
        ),
    ]
    verdict = decide_compared_verdict(
        "bspline2", metric_rows, fwhm_mm=0.0, facts={"grid": "finer"}
    )
    assert verdict.status == "not more accurate"
    assert Statement.NO_ADDED_DETAIL in verdict.text
    assert "not true" not in verdict.text


def test_detail_is_not_assessed_on_the_acquired_grid() -> None:
    verdict = decide_compared_verdict(
        "mppca", denoised_rows(), fwhm_mm=0.0, facts={"grid": "acquired"}
    )
    assert Statement.ON_ACQUIRED_GRID in verdict.text
    assert "0.02" not in verdict.text
    without_rows = decide_compared_verdict("mppca", [], fwhm_mm=0.0, facts={"grid": "acquired"})
    assert Statement.ON_ACQUIRED_GRID in without_rows.text
    assert Statement.BEYOND_REQUIRES not in without_rows.text, (
        "no scan can show detail on the acquired grid"
    )
