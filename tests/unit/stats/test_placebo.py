"""What may be called owed to the subject: only what exceeds every placebo there is."""

import math

import pytest

from bids_sr.metrics.long_tables import MetricRow
from bids_sr.stats.controls.negative_controls import PLACEBOS, claims, placebos_of, subject_specific


def gain(method, placebo, value, lower, upper, measure="gain_split_ev_beyond", region="brain"):
    return MetricRow(series=method, against=placebo, measure=measure, value=value, lower=lower, upper=upper,
                   contrast="all", region=region)  # fmt: skip


def test_every_placebo_is_named_after_its_method():
    assert set(PLACEBOS) == {
        "srganPhantom", "srganOther", "srganT1w",
        *(f"{name}{how}" for name in ("sbl",) for how in ("Mirror", "Shift", "Other")),
    }  # fmt: skip
    for name, placebo in PLACEBOS.items():
        assert name.startswith(placebo.method)
        assert placebo.method + placebo.suffix == name
    assert placebos_of("srgan") == ("srganPhantom", "srganOther", "srganT1w")
    assert placebos_of("sbl") == ("sblMirror", "sblShift", "sblOther")
    assert placebos_of("sdmod") == ()


def test_an_interval_above_zero_holds_and_says_so():
    (found,) = claims([gain("sbl", "sblMirror", 0.05, 0.02, 0.08)])
    assert found.holds
    assert "better" in found.words
    assert "+0.050 (95 % interval 0.020 to 0.080)" in found.words


@pytest.mark.parametrize(
    ("value", "lower", "upper", "word"),
    [
        (0.05, -0.01, 0.1, "does not differ detectably"),
        (-0.05, -0.08, -0.01, "worse"),
        (0.05, math.nan, math.nan, "no interval"),
        (0.05, 0.0, 0.1, "does not differ detectably"),
    ],
)
def test_anything_else_does_not(value, lower, upper, word):
    (found,) = claims([gain("sbl", "sblShift", value, lower, upper)])
    assert not found.holds
    assert word in found.words


def test_other_rows_are_passed_over():
    rows = [
        gain("sbl", "bspline", 0.1, 0.05, 0.2),
        gain("srgan", "sblMirror", 0.1, 0.05, 0.2),
        gain("sbl", "sblMirror", 0.1, 0.05, 0.2, measure="gain_split_ev_signal"),
    ]
    assert claims(rows) == []


def test_one_placebo_that_keeps_up_takes_the_claim_away():
    good = [gain("sbl", "sblMirror", 0.1, 0.05, 0.2), gain("sbl", "sblOther", 0.05, 0.01, 0.1)]
    (specific,) = subject_specific(claims(good))
    assert specific.holds
    assert "Not tried: sblShift." in specific.words
    (specific,) = subject_specific(claims([*good[:1], gain("sbl", "sblOther", 0.01, -0.02, 0.04)]))
    assert not specific.holds
    assert "does not exceed that of sblOther" in specific.words
    assert "Not tried: sblShift." in specific.words


def test_regions_are_judged_apart():
    rows = [
        gain("sbl", "sblMirror", 0.1, 0.05, 0.2),
        gain("sbl", "sblMirror", 0.1, -0.05, 0.2, region="active40"),
    ]
    assert [s.holds for s in subject_specific(claims(rows))] == [False, True]  # active40, brain
