"""A series on the acquired grid shows no detail beyond the acquired band, whatever leaks there."""

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
