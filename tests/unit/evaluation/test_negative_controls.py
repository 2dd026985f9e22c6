"""Claims of participant-specific detail require that all negative controls are exceeded."""

import math

import pytest
from data.rows import make_detail_row

from bids_sr.evaluation.negative_controls import NEGATIVE_CONTROLS, list_negative_controls
from bids_sr.evaluation.run_evidence import gather_evidence
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.supporting_sentences import write_comparison, write_controls


def gain(control, lower, upper, series="sbl", **cells):
    value = 0.05 if math.isnan(lower) else (lower + upper) / 2
    return make_detail_row(series, value, minus=control, lower=lower, upper=upper, **cells)


def specific_claim(*rows):
    """Return the claim about sbl."""
    claims = gather_evidence(rows, methods=["sbl"], baselines=()).claims
    return next(claim for claim in claims if claim.kind == "specific")


def test_negative_controls_are_named_after_their_method():
    networks = {f"{m}{c}" for m in ("srgan", "dcnet") for c in ("Phantom", "Other", "T1w")}
    assert set(NEGATIVE_CONTROLS) == {*networks, "sblMirror", "sblShift", "sblOther"}
    assert list_negative_controls("srgan") == ("srganPhantom", "srganOther", "srganT1w")
    assert list_negative_controls("sbl") == ("sblMirror", "sblShift", "sblOther")
    assert list_negative_controls("sdmod") == ()


@pytest.mark.parametrize(
    ("lower", "upper", "decision"),
    [
        (0.02, 0.08, "better"),
        (-0.01, 0.1, "unclear"),
        (-0.08, -0.01, "worse"),
        (math.nan, math.nan, "unclear"),
        (0.0, 0.1, "unclear"),
    ],
)
def test_only_an_interval_above_zero_supports_the_claim(lower, upper, decision):
    claim = specific_claim(gain("sblShift", lower, upper))
    assert claim.holds is (decision == "better")
    assert claim.unbeaten == ([] if claim.holds else ["sblShift"])
    (comparison,) = claim.comparisons
    assert (comparison.decision, write_comparison(comparison).decision) == (decision, decision)


def test_rows_of_other_comparisons_are_ignored():
    maps = {"reference": "measuredMap", "statistic": "r"}
    claim = specific_claim(
        gain("bspline", 0.05, 0.2),
        gain("sblMirror", 0.05, 0.2, series="srgan"),
        gain("sblMirror", 0.05, 0.2, band="all"),
        gain("sblMirror", 0.05, 0.2, **maps),
    )
    assert (claim.holds, claim.comparisons, write_controls(claim)) == (None, (), [])
    assert specific_claim(gain("sblMirror", 0.05, 0.2, **maps)).holds is None


def test_a_single_equal_negative_control_refutes_the_claim_in_the_whole_brain():
    mirror, other = gain("sblMirror", 0.05, 0.2), gain("sblOther", 0.01, 0.1)
    in_active_voxels = gain("sblMirror", -0.05, 0.2, region="acquired40")
    supported = specific_claim(mirror, other, in_active_voxels)
    assert supported.holds
    equal = specific_claim(mirror, gain("sblOther", -0.02, 0.04))
    assert (equal.holds, equal.unbeaten) == (False, ["sblOther"])
    for claim, state, controls in (
        (supported, Statement.SPECIFIC, ""),
        (equal, Statement.NOT_SPECIFIC, "sblOther"),
    ):
        result, missing = write_controls(claim)
        assert (result.state, result.values["controls"]) == (state, controls)
        assert (missing.state, missing.values["controls"]) == (
            Statement.CONTROLS_MISSING,
            "sblShift",
        )
