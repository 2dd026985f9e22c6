"""Claims of participant-specific detail require that all negative controls are exceeded."""

import math

import pytest

from bids_sr.evaluation.negative_controls import NEGATIVE_CONTROLS, list_negative_controls
from bids_sr.evaluation.run_evidence import gather_evidence
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.supporting_sentences import (
    write_comparison,
    write_controls,
    write_specificity,
)
from bids_sr.evaluation.words import DECISIONS
from bids_sr.metrics.rows import MetricRow


def gain(
    method,
    placebo,
    value,
    lower,
    upper,
    region="brain",
    band="beyond",
    reference="measured",
    statistic="ev",
):
    return MetricRow(
        series=method,
        minus=placebo,
        statistic=statistic,
        band=band,
        reference=reference,
        value=value,
        lower=lower,
        upper=upper,
        contrast="all",
        region=region,
    )


def test_negative_controls_are_named_after_their_method():
    assert set(NEGATIVE_CONTROLS) == {
        "srganPhantom",
        "srganOther",
        "srganT1w",
        "dcnetPhantom",
        "dcnetOther",
        "dcnetT1w",
        *(f"{name}{suffix}" for name in ("sbl",) for suffix in ("Mirror", "Shift", "Other")),
    }
    for name, placebo in NEGATIVE_CONTROLS.items():
        assert name.startswith(placebo.method)
        assert placebo.method + placebo.suffix == name
    assert list_negative_controls("srgan") == ("srganPhantom", "srganOther", "srganT1w")
    assert list_negative_controls("sbl") == ("sblMirror", "sblShift", "sblOther")
    assert list_negative_controls("sdmod") == ()


def specific_claim(*rows):
    """Return the claim about sbl."""
    claims = gather_evidence(rows, methods=["sbl"], baselines=()).claims
    return next(claim for claim in claims if claim.kind == "specific")


def test_an_interval_above_zero_supports_the_claim():
    claim = specific_claim(gain("sbl", "sblMirror", 0.05, 0.02, 0.08))
    assert claim.holds
    assert (
        write_comparison(claim.comparisons[0]).text
        == "sbl is more accurate than the same method with the prior SD map of this run mirrored"
        " left to right: +0.050 [0.020, 0.080], whole brain. This part of the gain depends on the"
        " spatial pattern of the fluctuations in this run."
    )
    assert [sentence.state for sentence in write_specificity(claim)] == [Statement.SPECIFIC]


@pytest.mark.parametrize(
    ("value", "lower", "upper", "decision"),
    [
        (0.05, -0.01, 0.1, "unclear"),
        (-0.05, -0.08, -0.01, "worse"),
        (0.05, math.nan, math.nan, "unclear"),
        (0.05, 0.0, 0.1, "unclear"),
    ],
)
def test_other_intervals_do_not_support_the_claim(value, lower, upper, decision):
    claim = specific_claim(gain("sbl", "sblShift", value, lower, upper))
    assert claim.holds is False
    comparison = write_comparison(claim.comparisons[0])
    assert comparison.decision == decision
    assert comparison.values["decision"] == DECISIONS[decision].verb_phrase
    assert ("no interval" in comparison.text) == math.isnan(lower)
    (sentence,) = write_specificity(claim)
    assert sentence.state == Statement.NOT_SPECIFIC
    assert sentence.values["controls"] == "sblShift"
    assert "pattern of the fluctuations in this run" in sentence.values["causes"]


def test_rows_of_other_comparisons_are_ignored():
    claim = specific_claim(
        gain("sbl", "bspline", 0.1, 0.05, 0.2),
        gain("srgan", "sblMirror", 0.1, 0.05, 0.2),
        gain("sbl", "sblMirror", 0.1, 0.05, 0.2, band="all"),
        gain("sbl", "sblMirror", 0.1, 0.05, 0.2, reference="measuredMap", statistic="r"),
    )
    assert (claim.holds, claim.comparisons, write_controls(claim)) == (None, (), [])
    assert (
        specific_claim(
            gain("sbl", "sblMirror", 0.1, 0.05, 0.2, reference="measuredMap", statistic="r")
        ).holds
        is None
    )


def test_a_single_equal_negative_control_refutes_the_claim():
    good = [gain("sbl", "sblMirror", 0.1, 0.05, 0.2), gain("sbl", "sblOther", 0.05, 0.01, 0.1)]
    assert specific_claim(*good).holds
    controls = write_controls(specific_claim(*good))
    assert [sentence.state for sentence in controls] == [
        Statement.SPECIFIC,
        Statement.CONTROLS_MISSING,
    ]
    assert controls[1].values["controls"] == "sblShift"
    claim = specific_claim(good[0], gain("sbl", "sblOther", 0.01, -0.02, 0.04))
    assert (claim.holds, claim.unbeaten) == (False, ["sblOther"])
    reached, missing = write_controls(claim)
    assert (reached.state, reached.values["controls"]) == (Statement.NOT_SPECIFIC, "sblOther")
    assert missing.values["controls"] == "sblShift"


def test_the_claim_is_based_on_the_whole_brain():
    rows = [
        gain("sbl", "sblMirror", 0.1, 0.05, 0.2),
        gain("sbl", "sblMirror", 0.1, -0.05, 0.2, region="acquired40"),
    ]
    assert specific_claim(*rows).holds
