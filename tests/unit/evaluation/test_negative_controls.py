"""Claims of participant-specific detail require that all negative controls are exceeded."""

import math

import pytest

from bids_sr.evaluation.evidence import find_strongest
from bids_sr.evaluation.negative_controls import NEGATIVE_CONTROLS, list_negative_controls
from bids_sr.evaluation.verdict import claim_specific
from bids_sr.evaluation.words import comparison_sentence, specific_text
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
    return claim_specific(find_strongest("function", rows, ["sbl"]), "sbl")


def test_an_interval_above_zero_supports_the_claim():
    claim = specific_claim(gain("sbl", "sblMirror", 0.05, 0.02, 0.08))
    assert claim.holds
    assert (
        comparison_sentence(claim.comparisons[0]).text
        == "sbl is more accurate than the same method with the prior SD map of this run mirrored"
        " left to right: +0.050 [0.020, 0.080], whole brain. This part of the gain depends on the"
        " spatial pattern of the fluctuations in this run."
    )
    assert (
        specific_text(claim)
        == "Part of the gain from sbl is specific to this participant's own data."
    )


@pytest.mark.parametrize(
    ("value", "lower", "upper", "word"),
    [
        (0.05, -0.01, 0.1, "does not differ detectably from"),
        (-0.05, -0.08, -0.01, "is less accurate than"),
        (0.05, math.nan, math.nan, "no interval"),
        (0.05, 0.0, 0.1, "does not differ detectably from"),
    ],
)
def test_other_intervals_do_not_support_the_claim(value, lower, upper, word):
    claim = specific_claim(gain("sbl", "sblShift", value, lower, upper))
    assert claim.holds is False
    assert word in comparison_sentence(claim.comparisons[0]).text
    text = specific_text(claim)
    assert "pattern of the fluctuations in this run: sblShift reaches" in text


def test_rows_of_other_comparisons_are_ignored():
    claim = specific_claim(
        gain("sbl", "bspline", 0.1, 0.05, 0.2),
        gain("srgan", "sblMirror", 0.1, 0.05, 0.2),
        gain("sbl", "sblMirror", 0.1, 0.05, 0.2, band="all"),
        gain("sbl", "sblMirror", 0.1, 0.05, 0.2, reference="measuredMap", statistic="r"),
    )
    assert (claim.holds, claim.comparisons, specific_text(claim)) == (None, (), "")
    assert (
        specific_claim(
            gain("sbl", "sblMirror", 0.1, 0.05, 0.2, reference="measuredMap", statistic="r")
        ).holds
        is None
    )


def test_a_single_equal_negative_control_refutes_the_claim():
    good = [gain("sbl", "sblMirror", 0.1, 0.05, 0.2), gain("sbl", "sblOther", 0.05, 0.01, 0.1)]
    assert specific_claim(*good).holds
    assert specific_text(specific_claim(*good), in_full=True).endswith("sblShift was not run.")
    claim = specific_claim(good[0], gain("sbl", "sblOther", 0.01, -0.02, 0.04))
    assert (claim.holds, claim.unbeaten) == (False, ["sblOther"])
    assert (
        "sblOther reaches the same gain. The negative control sblShift was not run."
        in specific_text(claim, in_full=True)
    )


def test_the_claim_is_based_on_the_whole_brain():
    rows = [
        gain("sbl", "sblMirror", 0.1, 0.05, 0.2),
        gain("sbl", "sblMirror", 0.1, -0.05, 0.2, region="acquired40"),
    ]
    assert specific_claim(*rows).holds
