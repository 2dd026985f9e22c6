"""What no program may gain by: detail on the acquired grid, and smaller changes where noise is large."""

from __future__ import annotations

import pytest

from bids_sr.metrics.long_tables import MetricRow
from bids_sr.stats.evaluation.compared_verdict import compared_verdict
from bids_sr.stats.evaluation.verdict_text import PROGRAM


def rows() -> list[MetricRow]:
    """As MP-PCA of a noisy phantom has them: a little is explained beyond the limit, where others have noise."""
    own = {"series": "mppca", "contrast": "all", "region": "active"}
    return [
        MetricRow(**own, against="truth", measure="truth_ev_beyond", value=0.024, lower=0.016, upper=0.031),
        MetricRow(**own, against="zerofill", measure="gain_truth_ev_beyond", value=0.05, lower=0.01, upper=0.09),
    ]


@pytest.mark.parametrize(("grid", "decision"), [("acquired", "same"), ("finer", "better")])
def test_detail_needs_a_finer_grid(grid: str, decision: str) -> None:
    said = compared_verdict("mppca", rows(), fwhm_mm=0.0, facts={"grid": grid}, advice=PROGRAM)
    assert [each.decision for each in said.found] == [decision]
    assert ("true detail that the acquired series lacks" in said.text) == (grid == "finer")


@pytest.mark.parametrize(("likeness", "decision"), [((0.0, 0.0), "same"), ((0.05, 0.1), "better")])
def test_a_smaller_copy_of_a_noisy_series_is_no_truer(likeness: tuple[float, float], decision: str) -> None:
    """Noise far above the effect: less of everything explains more, at the same correlation."""
    own = {"series": "other", "contrast": "all", "region": "brain"}
    low, high = likeness
    given = [
        MetricRow(**own, against="truth", measure="truth_ev_within", value=-1.9, lower=-2.5, upper=-1.4),
        MetricRow(**own, against="zerofill", measure="gain_truth_ev_within", value=1.3, lower=1.0, upper=1.7),
        MetricRow(
            **own, against="zerofill", measure="gain_truth_r_within", value=(low + high) / 2, lower=low, upper=high
        ),
    ]
    said = compared_verdict("other", given, fwhm_mm=0.0, facts={}, advice=PROGRAM)
    assert [each.decision for each in said.found] == [decision]
    assert ("in amplitude alone" in said.text) == (decision == "same")
