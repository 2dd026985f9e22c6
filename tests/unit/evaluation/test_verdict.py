"""Test the verdict on given values: its states, its claims, and the claims it must not make."""

import json
import math
from dataclasses import replace

import pytest
from data.rows import judge_rows, make_detail_row as detail

from bids_sr.engine.metric_rows import MetricRow, read_table, table_text
from bids_sr.evaluation.evidence import find_strongest, main_regions
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.verdict_lines import verdict_line

BASELINES = ("bspline", "zerofill", "inject", "ratio")
REFERENCES = (*BASELINES, "bsplineSmooth", "bsplinePca")
LEVELS = {"bspline": 0.018, "inject": 0.038, "sbl": 0.121, "srgan": 0.069, "measured": 0.218}


def gain(series, minus, value, half_width=0.01, region="brain", **cells):
    return detail(series, value, region, half_width=half_width, minus=minus, n=12, **cells)


def measured_rows(*swapped):
    """Return rows in which sbl exceeds all references by .08, and srgan all but inject by .05.

    Levels are twice as high in active voxels. `swapped` rows replace rows of the same comparison.
    """
    rows = [detail(s, v) for s, v in LEVELS.items()]
    rows += [detail(s, 2 * v, "acquired40") for s, v in LEVELS.items()]
    for region in ("brain", "acquired40"):
        for name in REFERENCES:
            srgan = 0.0 if name == "inject" else 0.05
            rows += [gain("sbl", name, 0.08, region=region)]
            rows += [gain("srgan", name, srgan, 0.03, region)]
    replaced = {(row.series, row.minus, row.region): row for row in swapped}
    return [replaced.get((row.series, row.minus, row.region), row) for row in rows]


def undefined(rows, **columns):
    """Return the rows, with NaN values in rows that match these columns."""
    nan_values = {"value": math.nan, "lower": math.nan, "upper": math.nan}
    return [
        replace(r, **nan_values) if all(getattr(r, k) in v for k, v in columns.items()) else r
        for r in rows
    ]


def judge(rows, methods=("srgan", "sbl"), **options):
    return judge_rows(rows, methods, BASELINES, **options)


def limits_of(verdict):
    """Return the limitations of a verdict by state."""
    return {sentence.state: sentence for sentence in verdict.limits}


def values_of(verdict, name):
    """Return decisions in the table: 1 holds, 0 does not hold, NaN unknown."""
    return {r.series: r.value for r in verdict.rows if r.statistic == f"verdict_{name}"}


def supports_detail(rows, **options):
    """Return whether the claim that sbl recovers more detail holds."""
    return values_of(judge(rows, **options), "function")["sbl"] == 1


@pytest.mark.parametrize(
    ("lower", "upper", "margin", "expected"),
    [
        (0.01, 0.05, 0.02, "better"),
        (0.01, 0.015, 0.02, "same"),  # significant, but below the margin
        (-0.01, 0.03, 0.02, "unclear"),
        (-0.01, 0.015, None, "unclear"),  # without a margin, no difference counts as equal
        (0.01, 0.015, None, "better"),
        (-0.5, -0.1, 0.02, "worse"),
        (math.nan, math.nan, 0.02, "unclear"),
        (-0.02, 0.02, 0.02, "same"),
        (0.0, 0.1, 0.02, "unclear"),
    ],
)
def test_decisions_by_interval_and_margin(lower, upper, margin, expected):
    rows = [
        detail("sbl", 0.1),
        gain("sbl", "bspline", 0.01, lower=lower, upper=upper),
    ]
    verdict = judge_rows(rows, ["sbl"], margin=margin)
    decisions = {s.row.minus: s.decision for s in verdict.sentences if s.decision}
    assert decisions["bspline"] == expected


def unbeaten(claim) -> set[str]:
    """Return the names of series that the series of a claim does not exceed."""
    return {item.row.minus for item in claim.comparisons if item.decision != "better"}


def test_a_method_better_than_all_references_is_more_accurate():
    verdict = judge(measured_rows())
    assert values_of(verdict, "function") == {"sbl": 1.0, "srgan": 0.0}
    evidence = verdict.evidence
    assert (verdict.status, evidence.best, evidence.not_applied) == ("measured", "sbl", ())
    assert evidence.result.shown.active.deciding_row.value == 2 * LEVELS["sbl"]
    assert "24" in verdict.headline
    assert "srgan" not in verdict.headline, "methods are compared in the evidence"
    expected = {Statement.MAPS_WITHOUT_ERROR, Statement.SRGAN}
    assert limits_of(verdict).keys() >= expected
    decisions = {
        (s.row.series, s.row.minus): s.decision
        for s in verdict.sentences
        if s.decision and s.row.region == "brain"
    }
    assert decisions["sbl", "bsplinePca"] == "better"
    assert decisions["srgan", "inject"] == "unclear"
    (claim,) = (c for c in evidence.claims if (c.kind, c.series) == ("function", "srgan"))
    assert (claim.holds, unbeaten(claim)) == (False, {"inject"})


def test_the_margin_is_a_tenth_of_the_gap_to_the_measured_series():
    rows = measured_rows(gain("srgan", "inject", 0.001, 0.01))
    verdict = judge(rows)
    margins = {r.region: r.value for r in verdict.rows if r.statistic == "verdict_margin"}
    assert margins == pytest.approx({"brain": 0.02, "acquired40": 0.04})
    decisions, narrow = (
        {
            (r.series, r.minus): r.value
            for r in judged.rows
            if r.statistic == "verdict" and r.region == "brain"
        }
        for judged in (verdict, judge(rows, margin=0.005))
    )
    assert (decisions["srgan", "inject"], decisions["sbl", "inject"]) == (0.0, 1.0)
    assert math.isnan(narrow["srgan", "inject"])


@pytest.mark.parametrize("control", ["bsplinePca", "ratio"])
def test_a_method_equal_to_one_reference_is_not_more_accurate(control):
    verdict = judge(measured_rows(gain("sbl", control, 0.02, 0.03)))
    assert values_of(verdict, "function")["sbl"] == 0.0
    assert verdict.status == "measured"
    (claim,) = (c for c in verdict.evidence.claims if (c.kind, c.series) == ("function", "sbl"))
    assert unbeaten(claim) == {control}


@pytest.mark.parametrize(
    ("swapped", "holds"),
    [
        # better than every baseline is insufficient if the baselines are worse than no detail
        (detail("sbl", 0.02, lower=0.001, upper=0.05), True),
        (detail("sbl", 0.02, lower=0.0, upper=0.05), False),
        (detail("sbl", 0.02, lower=math.nan, upper=0.05), False),
        # in active voxels, only a loss refutes the claim
        (gain("sbl", "ratio", 0.0, 0.2, "acquired40"), True),
        (gain("sbl", "ratio", -0.2, 0.05, "acquired40"), False),
    ],
)
def test_a_claim_needs_true_detail_and_no_loss_in_active_voxels(swapped, holds):
    assert supports_detail(measured_rows(swapped)) is holds


@pytest.mark.parametrize("plain", ["sdmod", "zerofill"])
def test_zerofill_and_sdmod_must_be_exceeded_if_computed(plain):
    """Gains over zerofill and sdmod are required even if they are not in the list of baselines."""
    rows = [row for row in measured_rows() if row.minus != plain]
    baselines = [name for name in BASELINES if name != plain]
    for value, holds in ((0.0, False), (0.05, True)):
        gains = [gain("sbl", plain, value, region=region) for region in ("brain", "acquired40")]
        verdict = judge_rows([*rows, detail(plain, 0.1), *gains], ["sbl"], baselines)
        assert (values_of(verdict, "function")["sbl"] == 1) is holds


def test_a_missing_comparison_with_a_baseline_refutes_the_claim():
    verdict = judge([row for row in measured_rows() if row.minus != "ratio"])
    assert values_of(verdict, "function")["sbl"] == 0.0
    missing = [s for s in verdict.sentences if s.state is Statement.NOT_COMPARED]
    assert {s.values["comparator"] for s in missing} == {"ratio"}
    stored = [item for item in verdict.to_json()["sentences"] if item.get("minus") == "ratio"]
    assert stored
    assert {item["lower"] for item in stored} == {None}


def test_methods_not_applied_are_named_and_not_compared():
    rows = [*measured_rows(), gain("srgan", "sbl", 0.1)]
    share = self_test_row("sbl", -0.03, 0.02)
    verdict = judge([*rows, share], not_applied=["sbl"])
    content = verdict.to_json()
    assert content["not_applied"] == ["sbl"]
    (warning,) = content["warnings"]
    assert "−3 %" in warning
    assert "sbl" in warning
    assert "sbl" not in verdict.headline
    assert (verdict.evidence.best, verdict.evidence.not_applied) == ("srgan", ("sbl",))
    assert values_of(verdict, "applied") == {"srgan": 1.0, "sbl": 0.0}
    assert set(values_of(verdict, "function")) == {"srgan"}
    assert not any("sbl" in (s.row.series, s.row.minus) for s in verdict.sentences if s.row)
    neither = judge(measured_rows(), not_applied=["sbl", "srgan"])
    assert (neither.status, neither.evidence.best) == ("not applied", "")
    assert "srgan and sbl were not applied" in neither.headline


def test_voxels_active_in_the_acquired_run_come_before_those_of_one_half():
    rows = [detail("sbl", 0.3, region) for region in ("brain", "active40", "acquired40")]
    assert find_strongest("function", rows, ["sbl"]).regions == ("acquired40", "brain")


def test_correlation_amplitude_and_correct_fraction_are_those_of_active_voxels():
    further = {"r": (0.415, 0.111), "amplitude": (0.312, 0.113), "correct_fraction": (0.233, 0.12)}
    rows = [
        detail("sbl", value, region, statistic)
        for statistic, values in further.items()
        for region, value in zip(("acquired40", "brain"), values, strict=True)
    ]
    verdict = judge([*rows, *measured_rows()])
    (sentence,) = (
        s for s in verdict.sentences if s.state is Statement.VALUES and s.row.series == "sbl"
    )
    assert (sentence.row.region, sentence.row.value) == ("acquired40", 0.242)
    text = sentence.values["values"]
    assert all(part in text for part in ("r 0.415", "31 %", "23 %"))
    assert not any(part in text for part in ("0.111", "11 %", "12.0 %"))
    assert text.endswith("12 %"), "explained variance in the brain is last"
    assert Statement.UNDEFINED not in limits_of(verdict)
    assert Statement.VEINS in limits_of(verdict)
    incomplete = undefined(measured_rows(), series=("measured",), minus=("n/a",))
    assert sum(s.state is Statement.UNDEFINED for s in judge(incomplete).limits) == 2


def self_test_row(series, value, half_width=0.04):
    cells = {"reference": "oneLevelDown", "band": "n/a", "contrast": "n/a", "n": 8}
    return detail(series, value, statistic="tested_share", half_width=half_width, **cells)


SELF_TEST = {
    "from_mm": [12, 12, 3.3],
    "to_mm": [6, 6, 3.3],
    "stretches": 8,
    "stretch_volumes": 17,
    "calibrated": False,
    "series": {"srgan": {"reason": "no network was trained for this resolution"}},
}
BOTH_TESTED = SELF_TEST | {"series": {}}


def self_test_of(verdict, series):
    """Return the sentence on the self-test of a series."""
    (sentence,) = (
        sentence
        for sentence in verdict.sentences
        if sentence.state is Statement.SELF_TEST and sentence.values["series"] == series
    )
    return sentence


def test_without_a_reference_accuracy_is_not_assessed():
    verdict = judge([])
    content = verdict.to_json()
    # sbl is the default method
    assert (content["status"], content["best"]) == ("no detail", "sbl")
    assert "B-spline" in verdict.headline
    assert content["reference"] == ""
    assert content["sentences"] == []
    for name in ("function", "image"):
        assert math.isnan(values_of(verdict, name)["sbl"])
    assert values_of(verdict, "applied")["sbl"] == 1
    assert Statement.NO_REFERENCE in limits_of(verdict)


@pytest.mark.parametrize(("noise", "expected"), [(0.0105, False), (0.014, True)])
def test_high_thermal_noise_is_reported_as_a_limitation(noise, expected):
    facts = {**SELF_TEST, "thermal_noise": noise}
    limits = limits_of(judge([self_test_row("sbl", 0.27)], self_test_facts=facts))
    assert (Statement.THERMAL_NOISE in limits) is expected


def test_without_a_reference_the_self_test_is_reported():
    rows = [self_test_row("sbl", 0.27), self_test_row("sdmod", 0.1)]
    verdict = judge(rows, self_test_facts=SELF_TEST)
    assert verdict.status == "no detail"
    content = verdict.to_json()
    assert [content[name] for name in ("reduced", "acquired", "final")] == [
        "12 mm",
        "6 mm",
        "3 mm",
    ]
    assert Statement.NOT_ACCURACY in limits_of(verdict)
    (untested,) = (s for s in verdict.sentences if s.state is Statement.NOT_SELF_TESTED)
    assert untested.values["series"] == "srgan"
    assert untested.values["reason"] == SELF_TEST["series"]["srgan"]["reason"]
    assert not any(s.decision for s in verdict.sentences)
    assert {s.row.series for s in verdict.sentences if s.row} == {"sbl"}
    both = judge([*rows, self_test_row("srgan", 0.31)], self_test_facts=BOTH_TESTED)
    assert both.evidence.best == "srgan"
    # with a reference, the self-test is reported but does not decide
    measured = judge([*measured_rows(), *rows], self_test_facts=SELF_TEST)
    assert measured.status == "measured"
    assert self_test_of(measured, "sbl").values["value"] == "27 %"


@pytest.mark.parametrize(
    ("value", "shown", "ends", "harmful"),
    [
        (-0.2, "−20 %", "−24 to −16 %", True),
        (-156.2, "below −100 %", "below −100 to below −100 %", True),
        (-0.02, "−2 %", "−6 to 2 %", False),
    ],
)
def test_maps_that_are_worse_in_the_self_test_must_not_be_used(value, shown, ends, harmful):
    rows = [self_test_row("sbl", 0.27), self_test_row("srgan", value)]
    verdict = judge(rows, self_test_facts=BOTH_TESTED)
    sentence = self_test_of(verdict, "srgan")
    assert sentence.values["value"] == shown
    assert sentence.values["interval"].endswith(ends)
    do_not_use = Statement.DO_NOT_USE.format(series="srgan")
    assert any(text.startswith(do_not_use) for text in verdict.warnings) is harmful


def test_large_motion_is_reported_before_accuracy():
    still = judge(measured_rows(), displacement=[math.nan, *[0.1] * 9]).to_json()
    assert still["warnings"] == []
    motion = [math.nan, *[1.2] * 8, 0.1]
    moving = judge(measured_rows(), displacement=motion, not_applied=["srgan"]).to_json()
    motion_text, unapplied_text = moving["warnings"]
    assert "1.08 mm" in motion_text
    assert "89 %" in motion_text
    assert verdict_line(moving) == " ".join([motion_text, unapplied_text, moving["headline"]])


def test_the_verdict_uses_the_strongest_reference_with_intervals():
    known = [
        detail("sbl", 0.9, reference="truth"),
        gain("sbl", "bspline", 0.5, reference="truth"),
    ]
    cells = {"statistic": "r", "reference": "measuredMap"}
    maps = [detail("sbl", 0.9, **cells), gain("sbl", "bspline", 0.5, **cells)]
    # a reference with intervals is preferred to split halves without
    without_intervals = [row for row in measured_rows() if row.minus == "n/a"]
    for rows, name in (
        (known, "truth"),
        ([*known, *measured_rows()], "measured"),
        (maps, "measuredMap"),
        ([*maps, *known], "truth"),
        ([*without_intervals, *known], "truth"),
    ):
        assert find_strongest("function", rows, ["sbl"]).reference.name == name
    assert find_strongest("function", known, ["srgan"]) is None


def test_active_voxels_are_represented_by_one_region():
    assert main_regions(["brain", "active25", "roi", "active50"]) == ("active50", "brain")
    assert main_regions(["active", "brain"]) == ("active", "brain")
    assert (main_regions(["roi", "left"]), main_regions([])) == (("roi",), ())


def known_rows(**values):
    """Return rows of sbl against known activation, without controls and measured series."""
    rows = [detail(s, v, reference="truth") for s, v in LEVELS.items() if s != "measured"]
    for region in ("brain", "active"):
        for name in (*BASELINES, "srgan"):
            value = values.get(name, 0.05)
            rows.append(gain("sbl", name, value, region=region, reference="truth"))
    return rows


def test_known_activation_is_sufficient_and_missing_denoised_controls_are_reported():
    verdict = judge(known_rows())
    assert values_of(verdict, "function") == {"sbl": 1.0, "srgan": 0.0}
    assert Statement.NO_DENOISED in limits_of(verdict)
    assert Statement.NO_INTERVALS not in limits_of(verdict)
    assert not supports_detail(known_rows(ratio=0.005))


def image(minus, value, reference="heldOut"):
    cells = {"band": "n/a", "contrast": "n/a", "reference": reference, "minus": minus}
    return detail("srgan", value, "n/a", "psnr", half_width=0.1, **cells)


def test_image_quality_requires_gains_over_bspline_and_inject():
    held_out = [image("bspline", 1.5), image("inject", 0.3)]
    measured = [image("bspline", 0.5, "measured"), image("inject", -0.2, "measured")]
    for rows, value in (
        (held_out, 1),
        ([held_out[0], image("inject", 0.05)], 0),
        # measured volumes are preferred to the second pair
        ([*held_out, *measured], 0),
        ([measured[0], image("inject", 0.3, "measured")], 1),
        ([image("bspline", -1.0)], 0),
        (held_out[:1], math.nan),
    ):
        found = values_of(judge(rows), "image")["srgan"]
        assert found == pytest.approx(value, nan_ok=True)
    compared = [s for s in judge([*held_out, *measured]).sentences if s.decision]
    assert [s.row for s in compared] == measured
    assert compared[1].values["value"].startswith("−0.20 [−0.30, −0.10]")
    assert Statement.NO_IMAGE_REFERENCE in limits_of(judge(held_out[:1]))


def test_methods_that_lost_the_acquired_activation_are_named_first_and_not_recommended():
    lost = [
        MetricRow(series="srgan", statistic=statistic, value=value, contrast="thumb")
        for statistic, value in (("acquired_slope", 0.03), ("acquired_r", 0.12))
    ]
    lost.append(MetricRow(series="srgan", statistic="flag_lost_activation", value=1.0))
    for methods in (("srgan", "sbl"), ("sbl", "srgan")):
        verdict = judge(lost, methods)
        (warning,) = verdict.warnings
        assert warning.startswith(Statement.DO_NOT_USE.format(series="srgan"))
        assert "3 %" in warning
        assert "sbl" in verdict.headline
        assert verdict.evidence.best == "sbl"
        assert Statement.CHECKS_FAILED in limits_of(verdict)
    assert judge(lost, ("srgan",)).evidence.best == "srgan", "no other method can be shown"
    assert judge(lost[:2]).warnings == ()


def test_the_verdict_can_be_stored_as_json_and_table(tmp_path):
    verdict = judge(measured_rows())
    content = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    (result,) = content["contrasts"]
    assert result["contrast"] == content["shown"] == "all"
    assert (content["baseline"]["series"], content["reference"]) == (
        "inject",
        verdict.evidence.accuracy.reference.words,
    )
    assert result["active"]["reference"] == "measured"
    assert result["active"]["test"]["state"] == "not testable"
    compared = [
        item
        for item in content["sentences"]
        if (item["series"], item.get("minus"), item.get("region")) == ("sbl", "ratio", "brain")
    ]
    expected = {
        "decision": "better",
        "statistic": "ev",
        "reference": "measured",
        "band": "beyond",
        "value": pytest.approx(0.08),
        "lower": pytest.approx(0.07),
    }
    assert [{name: item[name] for name in expected} for item in compared] == [expected]
    path = tmp_path / "verdict.tsv"
    path.write_text(table_text(verdict.rows))
    assert len(read_table(path)) == len(verdict.rows)


def test_a_reference_without_reproducible_detail_is_not_assessed():
    """If halves of the measured series have no common detail, all levels and differences are
    undefined.
    """
    rows = undefined(measured_rows(), region=("brain", "acquired40"))
    cells = {"statistic": "r", "reference": "measuredMap"}
    maps = [detail("sbl", 0.9, **cells), gain("sbl", "bspline", 0.5, **cells)]
    verdict = judge([*rows, *maps])
    assert verdict.status == "no detail"
    assert "B-spline" in verdict.headline
    assert not any(s.decision for s in verdict.sentences)
    assert math.isnan(values_of(verdict, "function")["sbl"])
    assert verdict.evidence.best == "sbl", "the default method, because neither was assessed"
    assert Statement.VEINS in limits_of(verdict)
    assert Statement.NO_REFERENCE not in limits_of(verdict)


def test_the_verdict_uses_regions_and_contrasts_with_reproducible_detail():
    """Use active voxels if the brain has no reproducible detail, and the second contrast if the
    first has none.
    """
    rows = undefined(measured_rows(), region=("brain",))
    assert find_strongest("function", rows, ["sbl"]).regions == ("acquired40",)
    assert values_of(judge(rows), "function")["sbl"] == 1
    assert values_of(judge(rows, methods=("srgan",)), "function")["srgan"] == 0
    second = [replace(row, contrast="second") for row in measured_rows()]
    first_undefined = [*undefined(measured_rows(), contrast=("all",)), *second]
    evidence = find_strongest("function", first_undefined, ["sbl"])
    assert (evidence.contrast, evidence.regions) == ("second", ("acquired40", "brain"))
    both = find_strongest("function", [*second, *measured_rows()], ["sbl"])
    assert both.contrast == "all"
