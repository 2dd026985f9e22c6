"""What no program may gain by: detail on the acquired grid, and smaller changes where noise is
large.
"""

from __future__ import annotations

import pytest

from bids_sr.evaluation.advice import PROGRAM
from bids_sr.evaluation.compared_verdict import compared_verdict
from bids_sr.metrics.rows import MetricRow


def rows() -> list[MetricRow]:
    """As MP-PCA of a noisy phantom has them: a little is explained beyond the limit, where others
    have noise.
    """
    own = {"series": "mppca", "contrast": "all", "region": "active"}
    return [
        MetricRow(
            **own,
            statistic="ev",
            band="beyond",
            reference="truth",
            value=0.024,
            lower=0.016,
            upper=0.031,
        ),
        MetricRow(
            **own,
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
def test_detail_needs_a_finer_grid(grid: str, decision: str) -> None:
    said = compared_verdict("mppca", rows(), fwhm_mm=0.0, facts={"grid": grid}, advice=PROGRAM)
    assert [each.decision for each in said.claims if each.decision] == [decision]
    assert ("true detail that the acquired series lacks" in said.text) == (grid == "finer")


@pytest.mark.parametrize(("likeness", "decision"), [((0.0, 0.0), "same"), ((0.05, 0.1), "better")])
def test_a_smaller_copy_of_a_noisy_series_is_no_truer(
    likeness: tuple[float, float], decision: str
) -> None:
    """Noise far above the effect: less of everything explains more, at the same correlation."""
    own = {"series": "other", "contrast": "all", "region": "brain"}
    low, high = likeness
    given = [
        MetricRow(
            **own,
            statistic="ev",
            band="within",
            reference="truth",
            value=0.3,
            lower=0.2,
            upper=0.4,
        ),
        MetricRow(
            **own,
            minus="zerofill",
            statistic="ev",
            band="within",
            reference="truth",
            value=1.3,
            lower=1.0,
            upper=1.7,
        ),
        MetricRow(
            **own,
            minus="otherSame",
            statistic="ev",
            band="within",
            reference="truth",
            value=1.3,
            lower=1.0,
            upper=1.7,
        ),
        MetricRow(
            **own,
            minus="zerofill",
            statistic="r",
            band="within",
            reference="truth",
            value=(low + high) / 2,
            lower=low,
            upper=high,
        ),
    ]
    said = compared_verdict("other", given, fwhm_mm=0.0, facts={}, advice=PROGRAM)
    assert [each.decision for each in said.claims if each.decision] == [decision]
    assert ("only in amplitude" in said.text) == (decision == "same")


def test_a_series_that_explains_nothing_is_not_more_accurate() -> None:
    """As a masked tedana series was: far better than noise, worse than no activation at all."""
    own = {"series": "tedana", "contrast": "all", "region": "brain"}
    gain = {
        "statistic": "ev",
        "band": "within",
        "reference": "truth",
        "value": 1.18,
        "lower": 0.03,
        "upper": 2.9,
    }
    given = [
        MetricRow(
            **own,
            statistic="ev",
            band="within",
            reference="truth",
            value=-0.6,
            lower=-1.1,
            upper=-0.2,
        ),
        *(MetricRow(**own, minus=other, **gain) for other in ("zerofill", "tedanaSame")),
    ]
    said = compared_verdict("tedana", given, fwhm_mm=0.0, facts={}, advice=PROGRAM)
    assert said.status == "not more accurate"
    assert "does not differ from 0" in said.text


def test_without_the_control_at_the_same_resolution_nothing_is_assessed() -> None:
    own = {"series": "x", "contrast": "all", "region": "brain"}
    given = [
        MetricRow(
            **own,
            statistic="ev",
            band="within",
            reference="truth",
            value=0.6,
            lower=0.5,
            upper=0.7,
        ),
        MetricRow(
            **own,
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
        compared_verdict("x", given, fwhm_mm=float("nan"), facts={}, advice=PROGRAM).status
        == "not assessed"
    )


def test_a_series_that_adds_no_detail_is_told_so() -> None:
    """As B-spline interpolation: it explains nothing beyond the limit, where zero filling leaks a
    little.
    """
    own = {"series": "bspline2", "contrast": "all", "region": "active"}
    given = [
        MetricRow(
            **own,
            statistic="ev",
            band="beyond",
            reference="truth",
            value=0.002,
            lower=0.001,
            upper=0.003,
        ),
        MetricRow(
            **own,
            minus="zerofill",
            statistic="ev",
            band="beyond",
            reference="truth",
            value=-0.03,
            lower=-0.04,
            upper=-0.02,
        ),
    ]
    said = compared_verdict(
        "bspline2", given, fwhm_mm=0.0, facts={"grid": "finer"}, advice=PROGRAM
    )
    assert said.status == "not more accurate"
    assert "the series adds no detail" in said.text
    assert "not true" not in said.text


def test_nothing_is_claimed_beyond_the_band_on_the_acquired_grid() -> None:
    said = compared_verdict(
        "mppca", rows(), fwhm_mm=0.0, facts={"grid": "acquired"}, advice=PROGRAM
    )
    assert "has no detail above the acquired Nyquist frequency" in said.text
    assert "0.02" not in said.text
    alone = compared_verdict("mppca", [], fwhm_mm=0.0, facts={"grid": "acquired"}, advice=PROGRAM)
    assert "it is on the acquired grid" in alone.text
    assert "downsample it" not in alone.text, "no scan would show detail that it cannot have"
