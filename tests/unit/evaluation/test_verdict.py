"""Test the statements that a verdict makes for given values, and the statements it must not
make.
"""

import json
import math
import sys
from dataclasses import replace

import pytest
from data.rows import judge_rows

from bids_sr.evaluation.evidence import Evidence, _decide, find_strongest, main_regions
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.verdict_lines import verdict_line
from bids_sr.metrics.flags import FLAGS
from bids_sr.metrics.rows import MetricRow, read_table, table_text

BASELINES = ("bspline", "zerofill", "inject", "ratio")
REFERENCES = (*BASELINES, "bsplineSmooth", "bsplinePca")
LEVELS = {"bspline": 0.018, "inject": 0.038, "sbl": 0.121, "srgan": 0.069, "measured": 0.218}


def gain(
    series,
    minus,
    value,
    half_width=0.01,
    region="brain",
    reference="measured",
    contrast="all",
    statistic="ev",
):
    return MetricRow(
        series=series,
        minus=minus,
        statistic=statistic,
        band="beyond",
        reference=reference,
        value=value,
        lower=value - half_width,
        upper=value + half_width,
        contrast=contrast,
        region=region,
        n=12,
    )


def level(series, value, region="brain", statistic="ev", reference="measured"):
    return gain(series, "n/a", value, region=region, reference=reference, statistic=statistic)


def function_evidence(rows, series) -> Evidence:
    evidence = find_strongest("function", rows, series)
    assert evidence is not None
    return evidence


def reference_map_rows(**changes):
    """Return rows in which sbl exceeds all references by .08 and srgan exceeds all but inject by
    .05.
    """
    rows = [level(s, v) for s, v in LEVELS.items()] + [
        level(s, 2 * v, "acquired40") for s, v in LEVELS.items()
    ]
    for region in ("brain", "acquired40"):
        rows += [gain("sbl", reference, 0.08, region=region) for reference in REFERENCES]
        rows += [
            gain("srgan", reference, 0.0 if reference == "inject" else 0.05, 0.03, region)
            for reference in REFERENCES
        ]
    swap = changes.get("swap", {})
    return [swap.get((r.series, r.minus, r.region), r) for r in rows]


def judge(rows, methods=("srgan", "sbl"), **options):
    return judge_rows(rows, methods, BASELINES, **options)


def limits_of(verdict):
    """Return the limitations of a verdict by state; a state occurs once, except for regions."""
    limits = {sentence.state: sentence for sentence in verdict.limits}
    assert len(limits) == len(verdict.limits)
    return limits


def states_of(verdict):
    """Return the states of the sentences of each line."""
    return [[sentence.state for sentence in line.sentences] for line in verdict.lines]


def self_test_of(verdict, series):
    """Return the sentence on the self-test of a series."""
    (sentence,) = (
        sentence
        for sentence in verdict.sentences
        if sentence.state is Statement.SELF_TEST and sentence.values["series"] == series
    )
    return sentence


def verdict_values(verdict, name):
    return {r.series: r.value for r in verdict.rows if r.statistic == f"verdict_{name}"}


@pytest.mark.parametrize(
    ("lower", "upper", "margin", "expected"),
    [
        (0.01, 0.05, 0.02, "better"),
        (0.01, 0.015, 0.02, "same"),  # significant, but below the margin
        (-0.01, 0.015, 0.02, "same"),
        (-0.01, 0.03, 0.02, "unclear"),
        (-0.01, 0.015, math.nan, "unclear"),  # without a margin, no difference counts as equal
        (0.01, 0.015, math.nan, "better"),
        (-0.5, -0.1, 0.02, "worse"),
        (math.nan, math.nan, 0.02, "unclear"),
        (-0.02, 0.02, 0.02, "same"),
        (0.0, 0.1, 0.02, "unclear"),
    ],
)
def test_decisions_by_interval_and_margin(lower, upper, margin, expected):
    assert _decide(lower, upper, margin) == expected


def test_a_method_better_than_all_references_is_more_accurate():
    verdict = judge(reference_map_rows())
    assert verdict_values(verdict, "function") == {"sbl": 1.0, "srgan": 0.0}
    assert [
        (line.sentences[0].state, line.sentences[0].values["series"], line.status)
        for line in verdict.lines
    ] == [
        (Statement.RECOVERED, "sbl", "recovered"),
        (Statement.GAIN, "sbl", "more accurate"),
        (Statement.NOT_MORE_DETAIL, "srgan", "not more accurate"),
    ]
    comparison = "better than interpolation and denoising (contrast all, whole brain)"
    assert comparison in verdict.lines[1].text
    assert "7 % [6, 8] in the whole brain" in verdict.lines[2].text
    assert (verdict.status, verdict.evidence.best, verdict.evidence.not_applied) == (
        "more accurate",
        "sbl",
        (),
    )
    expected_limits = {Statement.ONLY_DETAIL, Statement.MAPS_WITHOUT_ERROR, Statement.SRGAN}
    assert limits_of(verdict).keys() >= expected_limits
    sentences = {
        (s.row.series, s.row.minus): s
        for s in verdict.sentences
        if s.decision and s.row.region == "brain"
    }
    assert sentences["sbl", "bsplinePca"].decision == "better"
    assert sentences["srgan", "inject"].decision == "unclear"
    assert (
        sentences["sbl", "inject"].text
        == "sbl is more accurate than inject: +0.080 [0.070, 0.090], whole brain."
    )
    claim = next(
        line_or_text
        for line_or_text in verdict.evidence.claims
        if (line_or_text.kind, line_or_text.series) == ("function", "srgan")
    )
    assert (claim.holds, claim.unbeaten) == (False, ["inject"])


def test_the_margin_is_a_tenth_of_the_gap_to_the_measured_series():
    verdict = judge(reference_map_rows())
    margins = {r.region: r.value for r in verdict.rows if r.statistic == "verdict_margin"}
    assert margins["brain"] == pytest.approx(0.02)
    assert margins["acquired40"] == pytest.approx(0.04)
    rows = reference_map_rows(
        swap={("srgan", "inject", "brain"): gain("srgan", "inject", 0.001, 0.01)}
    )
    decisions = {
        (r.series, r.minus): r.value
        for r in judge(rows).rows
        if r.statistic == "verdict" and r.region == "brain"
    }
    assert decisions["srgan", "inject"] == 0.0
    assert decisions["sbl", "inject"] == 1.0
    decisions = {
        (r.series, r.minus): r.value for r in judge(rows, margin=0.005).rows if r.region == "brain"
    }
    assert math.isnan(decisions["srgan", "inject"])


def test_a_method_equal_to_one_control_is_not_more_accurate():
    rows = reference_map_rows(
        swap={("sbl", "bsplinePca", "brain"): gain("sbl", "bsplinePca", 0.02, 0.03)}
    )
    verdict = judge(rows)
    assert verdict_values(verdict, "function")["sbl"] == 0.0
    recovered, *comparisons = verdict.lines
    assert recovered.status == "recovered"
    assert states_of(verdict)[1:] == [
        [Statement.NO_GAIN],
        [Statement.NOT_MORE_DETAIL],
        [Statement.NOT_MORE_DETAIL],
    ]
    assert {line.status for line in comparisons} == {"not more accurate"}
    values = [line.sentences[0].values for line in comparisons[1:]]
    assert [(item["series"], item["baselines"]) for item in values] == [
        ("srgan", "inject"),
        ("sbl", "bsplinePca"),
    ]
    assert "explained variance: 12 %" in values[1]["values"]
    assert verdict.status == "not more accurate"


@pytest.mark.parametrize(
    ("low", "expected"), [(0.001, 1.0), (0.0, 0.0), (-0.01, 0.0), (math.nan, 0.0)]
)
def test_a_method_requires_explained_variance_above_0(low, expected):
    """Better than every baseline is insufficient if the baselines are worse than no detail."""
    rows = [
        r for r in reference_map_rows() if (r.series, r.minus, r.region) != ("sbl", "n/a", "brain")
    ]
    rows.append(replace(level("sbl", 0.02), lower=low, upper=0.05))
    assert verdict_values(judge(rows), "function")["sbl"] == expected


@pytest.mark.parametrize("plain", ["sdmod", "zerofill"])
def test_zerofill_and_sdmod_must_be_exceeded_if_computed(plain):
    """Gains over zerofill and sdmod are required even if they are not in the list of baselines."""
    rows = [
        *reference_map_rows(),
        level(plain, 0.1),
        *(gain("sbl", plain, 0.0, region=r) for r in ("brain", "acquired40")),
    ]
    rows = [r for r in rows if not (r.minus == plain and r.value > 0.05)]
    options = {"methods": ("sbl",), "baselines": [name for name in BASELINES if name != plain]}
    assert verdict_values(judge_rows(rows, **options), "function")["sbl"] == 0.0
    rows = [gain("sbl", plain, 0.05, region=r.region) if r.minus == plain else r for r in rows]
    assert verdict_values(judge_rows(rows, **options), "function")["sbl"] == 1.0


def test_methods_not_applied_are_named_first_and_not_compared():
    verdict = judge(
        [*reference_map_rows(), gain("srgan", "sbl", 0.1), gain("sbl", "sblMirror", 0.1)],
        not_applied=["sbl"],
    )
    content = verdict.to_json()
    assert content["not_applied_text"] == Statement.ZERO_FILLED.format(series="sbl", were="was")
    assert "sbl" not in verdict.headline
    share = MetricRow(
        series="sbl", statistic="tested_share", value=-0.03, lower=-0.05, upper=-0.01, n=6
    )
    calibrated = {"series": {"sbl": {"calibration": "it was not used: another field of view"}}}
    explained = judge(
        [*reference_map_rows(), share], not_applied=["sbl"], self_test_facts=calibrated
    ).to_json()
    text = str(explained["not_applied_text"])
    assert "In the self-test, sbl is less accurate than zero filling" in text
    assert "reduction in squared error: −3 %" in text
    assert "over 6 segments of the run: −5 to −1 %" in text
    assert text.endswith(" of sbl: it was not used: another field of view.")
    assert (verdict.evidence.best, verdict.evidence.not_applied) == ("srgan", ("sbl",))
    assert verdict_values(verdict, "applied") == {"srgan": 1.0, "sbl": 0.0}
    assert set(verdict_values(verdict, "function")) == {"srgan"}
    assert not any("sbl" in (s.row.series, s.row.minus) for s in verdict.sentences if s.row)
    neither_applied = judge(reference_map_rows(), not_applied=["sbl", "srgan"])
    assert neither_applied.to_json()["not_applied_text"].startswith(
        "srgan and sbl were not applied (zero filled)."
    )
    assert (neither_applied.status, neither_applied.evidence.best) == ("not applied", "")
    assert neither_applied.headline == Statement.NOTHING_APPLIED


def test_voxels_active_in_the_acquired_run_are_not_used_below_its_nyquist_frequency():
    """Noise of the acquired run is part of the series and would select voxels."""
    rows = [
        replace(level("sbl", 0.3, region), band=band)
        for region in ("brain", "active40", "acquired40")
        for band in ("within", "beyond")
    ]
    assert find_strongest("within", rows, ["sbl"]).regions == ("active40", "brain")
    assert find_strongest("beyond", rows, ["sbl"]).regions == ("acquired40", "brain")


def test_correlation_amplitude_and_correct_fraction_are_reported_with_explained_variance():
    statistics = {"r": 0.415, "amplitude": 0.31, "correct_fraction": 0.23}
    verdict = judge(
        [
            *reference_map_rows(),
            *(level("sbl", v, "acquired40", name) for name, v in statistics.items()),
        ]
    )
    text = next(s.text for s in verdict.sentences if s.row and s.row.series == "sbl")
    assert (
        text
        == "sbl: 0.242 [0.232, 0.252], voxels active in the acquired run (|t| > 4); correlation r"
        " 0.415; amplitude (slope) 0.310; correct fraction (energy) 0.230; whole brain 0.121."
    )
    undefined = [
        level("measured", math.nan, r.region) if r.series == "measured" else r
        for r in reference_map_rows()
    ]
    undefined_regions = [
        limit.values["region"]
        for limit in judge(undefined).limits
        if limit.state is Statement.UNDEFINED
    ]
    assert undefined_regions == ["voxels active in the acquired run (|t| > 4)", "whole brain"]
    assert Statement.UNDEFINED not in limits_of(verdict)
    assert Statement.VEINS in limits_of(verdict)


def test_worse_in_active_voxels_refutes_the_claim_and_unclear_does_not():
    unclear = reference_map_rows(
        swap={("sbl", "ratio", "acquired40"): gain("sbl", "ratio", 0.0, 0.2, "acquired40")}
    )
    assert verdict_values(judge(unclear), "function")["sbl"] == 1.0
    worse = reference_map_rows(
        swap={("sbl", "ratio", "acquired40"): gain("sbl", "ratio", -0.2, 0.05, "acquired40")}
    )
    assert verdict_values(judge(worse), "function")["sbl"] == 0.0


def test_a_missing_comparison_with_a_baseline_refutes_the_claim():
    rows = [r for r in reference_map_rows() if r.minus != "ratio"]
    verdict = judge(rows)
    assert verdict_values(verdict, "function")["sbl"] == 0.0
    assert any(
        s.state is Statement.NOT_COMPARED and s.values["comparator"] == "ratio"
        for s in verdict.sentences
    )


def share(series, value, half=0.04):
    return MetricRow(
        series=series,
        reference="oneLevelDown",
        statistic="tested_share",
        value=value,
        lower=value - half,
        upper=value + half,
        region="brain",
        n=8,
    )


ONE_LEVEL = {
    "from_mm": [12, 12, 3.3],
    "to_mm": [6, 6, 3.3],
    "stretches": 8,
    "stretch_volumes": 17,
    "calibrated": False,
    "series": {"srgan": {"reason": "no network was trained for this resolution"}},
}


def test_without_a_reference_accuracy_is_not_assessed():
    verdict = judge([])
    content = verdict.to_json()
    # sbl is the default method
    assert (content["status"], content["best"]) == ("not assessed", "sbl")
    assert states_of(verdict) == [
        [Statement.NOT_MEASURED, Statement.AS_INTERPOLATED, Statement.NOTHING_FINER]
    ]
    assert verdict.lines[0].sentences[1].values["series"] == "srgan and sbl"
    assert content["headline"].endswith("finer than the acquired voxels.")
    assert content["sentences"] == []
    assert {r.statistic for r in verdict.rows} == {
        f"verdict_{n}" for n in ("function", "image", "specific", "applied")
    }
    assert [
        math.isnan(verdict_values(verdict, name)["sbl"])
        for name in ("function", "image", "specific")
    ] == [True] * 3
    assert "--retrospective" in limits_of(verdict)[Statement.NO_REFERENCE].text


@pytest.mark.parametrize(("noise", "expected"), [(0.005, False), (0.0105, False), (0.014, True)])
def test_high_thermal_noise_is_reported_as_a_limitation(noise, expected):
    verdict = judge([share("sbl", 0.27)], self_test_facts={**ONE_LEVEL, "thermal_noise": noise})
    limit = limits_of(verdict).get(Statement.THERMAL_NOISE)
    assert (limit is not None and limit.values["noise"] == f"{noise:.1%}") is expected


def test_without_a_reference_the_self_test_is_reported():
    rows = [share("sbl", 0.27), share("sdmod", 0.1)]
    verdict = judge(rows, self_test_facts=ONE_LEVEL)
    assert Statement.AS_INTERPOLATED in states_of(verdict)[0]
    assert verdict.headline.endswith("nothing finer than 6 mm.")
    assert Statement.NOT_ACCURACY in limits_of(verdict)
    (untested,) = (s for s in verdict.sentences if s.state is Statement.NOT_SELF_TESTED)
    assert untested.values == {
        "series": "srgan",
        "test": "self-test (12 → 6 mm)",
        "reason": "no network was trained for this resolution",
    }
    assert verdict.status == "not assessed"
    assert not any(s.decision for s in verdict.sentences)
    assert {s.row.series for s in verdict.sentences if s.row} == {"sbl"}
    both_tested = judge([*rows, share("srgan", 0.31)], self_test_facts={**ONE_LEVEL, "series": {}})
    assert both_tested.evidence.best == "srgan"
    harmful = judge([*rows, share("srgan", -0.2)], self_test_facts={**ONE_LEVEL, "series": {}})
    assert states_of(harmful)[-1] == [Statement.DO_NOT_USE, Statement.SELF_TEST]
    assert harmful.lines[-1].sentences[1] == self_test_of(harmful, "srgan")
    assert "self-test (12 → 6 mm)" in harmful.lines[-1].text
    assert [line.status for line in harmful.lines] == ["not assessed", "not more accurate"]
    assert "is less accurate than zero filling" in harmful.lines[-1].text
    assert self_test_of(harmful, "srgan").values["value"] == "−20 %"
    very_harmful = judge(
        [*rows, share("srgan", -156.2)], self_test_facts={**ONE_LEVEL, "series": {}}
    )
    values = self_test_of(very_harmful, "srgan").values
    assert values["value"] == "below −100 %"
    assert values["interval"].endswith("below −100 to below −100 %")
    unclear = judge([*rows, share("srgan", -0.02)], self_test_facts={**ONE_LEVEL, "series": {}})
    assert Statement.DO_NOT_USE not in states_of(unclear)[-1]
    values = self_test_of(unclear, "srgan").values
    assert values["decision"] == "does not differ detectably from"
    assert values["value"] == "−2 %"
    assert values["interval"].endswith("−6 to 2 %")
    # with a reference, the self-test is reported but does not decide
    with_reference = judge([*reference_map_rows(), *rows], self_test_facts=ONE_LEVEL)
    assert not any(Statement.AS_INTERPOLATED in states for states in states_of(with_reference))
    assert self_test_of(with_reference, "sbl").values["decision"] == "is more accurate than"
    assert self_test_of(with_reference, "sbl").values["value"] == "27 %"


def test_calibrated_maps_have_a_warning():
    rows = [share("sbl", 0.27), share("sdmod", 0.1)]
    verdict = judge(rows, self_test_facts={**ONE_LEVEL, "calibrated": True})
    assert "27 %" not in verdict.headline
    assert Statement.CALIBRATED in limits_of(verdict)
    assert Statement.NOT_ACCURACY not in limits_of(verdict)
    text = "the calibration run was used with weight 0.4 and its position corrected by 0.7 mm"
    facts = {
        **ONE_LEVEL,
        "calibrated": True,
        "series": {"sbl": {"share": 0.27, "calibration": text}},
    }
    assert any(
        s.text == f"Calibration of sbl: {text}."
        for s in judge(rows, self_test_facts=facts).sentences
    )
    assert self_test_of(verdict, "sbl").values["value"] == "27 %"


def test_large_motion_is_reported_before_accuracy():
    still = judge(reference_map_rows(), displacement=[math.nan, *[0.1] * 9])
    assert "motion_text" not in still.to_json()
    moving = judge(
        reference_map_rows(), displacement=[math.nan, *[1.2] * 8, 0.1], not_applied=["srgan"]
    )
    line = verdict_line(moving.to_json())
    assert line.startswith("Large head motion: ")
    assert "1.08 mm" in line
    assert "0.5 mm in 89 %" in line
    assert line.index("srgan was not applied") < line.index("sbl recovers detail")


def test_the_verdict_uses_the_strongest_reference_with_intervals():
    difference = gain("sbl", "bspline", 0.5, reference="truth")
    known_activation = [level("sbl", 0.9, reference="truth"), difference]
    maps = [
        level("sbl", 0.9, statistic="r", reference="measuredMap"),
        gain("sbl", "bspline", 0.5, statistic="r", reference="measuredMap"),
    ]
    assert function_evidence(known_activation, ["sbl"]).reference.name == "truth"
    assert (
        function_evidence([*known_activation, *reference_map_rows()], ["sbl"]).reference.name
        == "measured"
    )
    assert function_evidence(maps, ["sbl"]).reference.name == "measuredMap"
    assert function_evidence([*maps, *known_activation], ["sbl"]).reference.name == "truth"
    # a reference with intervals is preferred to split halves without
    without_intervals = [r for r in reference_map_rows() if r.minus == "n/a"]
    assert (
        function_evidence([*without_intervals, *known_activation], ["sbl"]).reference.name
        == "truth"
    )
    assert find_strongest("function", known_activation, ["srgan"]) is None


def test_active_voxels_are_represented_by_one_region():
    assert main_regions(["brain", "active25", "roi", "active50"]) == ("active50", "brain")
    assert main_regions(["active", "brain"]) == ("active", "brain")
    assert (main_regions(["roi", "left"]), main_regions([])) == (("roi",), ())


def known_rows(value=0.05, **swap):
    """Return rows of sbl against known activation by region, without controls and measured
    series.
    """
    rows = [level(s, v, reference="truth") for s, v in LEVELS.items() if s != "measured"]
    for region in ("brain", "active"):
        rows += [
            gain("sbl", reference, swap.get(reference, value), region=region, reference="truth")
            for reference in (*BASELINES, "srgan", "sblMirror")
        ]
    return rows


def test_known_activation_is_sufficient_and_missing_denoised_controls_are_reported():
    verdict = judge(known_rows(sblMirror=0.0))
    assert verdict_values(verdict, "function") == {"sbl": 1.0, "srgan": 0.0}
    assert [states[0] for states in states_of(verdict)] == [
        Statement.RECOVERED,
        Statement.GAIN,
        Statement.NOT_MORE_DETAIL,
    ]
    assert "better than interpolation (" in verdict.headline
    assert "denois" not in verdict.headline
    assert states_of(verdict)[1] == [Statement.GAIN, Statement.NOT_SPECIFIC]
    assert verdict.lines[1].sentences[1].values["controls"] == "sblMirror"
    assert Statement.NO_DENOISED in limits_of(verdict)
    assert Statement.NO_INTERVALS not in limits_of(verdict)
    assert any("truly active voxels" in s.text for s in verdict.sentences)
    assert verdict_values(judge(known_rows(ratio=0.005)), "function")["sbl"] == 0.0
    assert verdict_values(judge(known_rows(sblMirror=0.05)), "specific")["sbl"] == 1.0


def test_a_difference_in_reverse_order_is_inverted():
    rows = [level("sbl", 0.1), gain("bspline", "sbl", -0.08)]
    row = function_evidence(rows, ["sbl"]).row("sbl", "brain", "bspline")
    assert (row.value, row.lower, row.upper) == pytest.approx((0.08, 0.07, 0.09))


def image(series, minus, value, half=0.1, reference="heldOut"):
    return MetricRow(
        series=series,
        minus=minus,
        statistic="psnr",
        reference=reference,
        value=value,
        lower=value - half,
        upper=value + half,
    )


def test_image_quality_requires_gains_over_bspline_and_inject():
    both = [image("srgan", "bspline", 1.5), image("srgan", "inject", 0.3)]
    assert verdict_values(judge(both), "image")["srgan"] == 1.0
    assert states_of(judge(both))[-1] == [Statement.IMAGE_GAIN]
    assert (
        verdict_values(judge([both[0], image("srgan", "inject", 0.05)]), "image")["srgan"] == 0.0
    )
    measured = [
        image(s.series, s.minus, v, reference="measured")
        for s, v in zip(both, (0.5, -0.2), strict=True)
    ]
    # measured volumes are preferred to the second pair
    assert verdict_values(judge([*both, *measured]), "image")["srgan"] == 0.0
    texts = [s.text for s in judge([*both, *measured]).sentences if s.decision]
    assert "PSNR of single volumes relative to the measured volumes" in texts[0]
    assert texts[0].endswith(Statement.STATIC_DETAIL)
    assert "−0.20 [−0.30, −0.10] dB" in texts[1]
    assert Statement.STATIC_DETAIL not in texts[1]
    assert verdict_values(
        judge([*measured[:1], image("srgan", "inject", 0.3, reference="measured")]), "image"
    )["srgan"]
    bspline_only = judge([both[0]])
    assert math.isnan(verdict_values(bspline_only, "image")["srgan"])
    assert Statement.NO_IMAGE_REFERENCE in limits_of(bspline_only)
    assert verdict_values(judge([image("srgan", "bspline", -1.0)]), "image")["srgan"] == 0.0


def test_participant_specific_detail_requires_gains_over_negative_controls():
    beaten, reached = gain("sbl", "sblOther", 0.05), gain("sbl", "sblMirror", 0.005)
    supported = judge([*reference_map_rows(), beaten])
    assert verdict_values(supported, "specific") == pytest.approx(
        {"sbl": 1.0, "srgan": math.nan}, nan_ok=True
    )
    assert states_of(supported)[1] == [Statement.GAIN, Statement.SPECIFIC]
    assert limits_of(supported)[Statement.NO_CONTROLS].values["series"] == "srgan"
    refuted = judge([*reference_map_rows(), beaten, reached])
    assert verdict_values(refuted, "specific")["sbl"] == 0.0
    assert states_of(refuted)[1] == [Statement.GAIN, Statement.NOT_SPECIFIC]
    assert refuted.lines[1].sentences[1].values["controls"] == "sblMirror"


def test_raised_flags_are_limitations():
    rows = [
        MetricRow(series="acquired", statistic="flag_task_not_done", value=1.0, contrast="thumb")
    ]
    rows += [MetricRow(series="acquired", statistic="flag_broad", value=0.0, contrast="thumb")]
    verdict = judge(rows)
    failed = FLAGS["task_not_done"].failed
    assert limits_of(verdict)[Statement.CHECKS_FAILED].values["checks"] == failed


def test_methods_that_lost_the_acquired_activation_are_named_first_and_not_recommended():
    lost = [
        MetricRow(series="srgan", statistic=statistic, value=value, contrast="thumb")
        for statistic, value in (("acquired_slope", 0.03), ("acquired_r", 0.12))
    ]
    lost.append(MetricRow(series="srgan", statistic="flag_lost_activation", value=1.0))
    verdict = judge(lost)
    first, second = verdict.lines
    assert states_of(verdict)[0] == [Statement.DO_NOT_USE, Statement.LOST]
    assert "3 % of the acquired amplitude" in first.text
    assert first.status == "less accurate"
    assert second.sentences[1].state is Statement.AS_INTERPOLATED
    assert second.sentences[1].values["series"] == "sbl"
    assert verdict.evidence.best == "sbl"
    assert judge(lost, ("sbl", "srgan")).evidence.best == "sbl"
    assert Statement.CHECKS_FAILED in limits_of(verdict)
    assert judge(lost, ("srgan",)).evidence.best == "srgan", "no other method can be shown"
    assert not any("srgan" in line.text for line in judge(lost[:2]).lines[:-1])


def test_the_verdict_can_be_stored_as_json_and_table(tmp_path):
    verdict = judge(reference_map_rows())
    content = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    keys = {"headline", "lines", "status", "best", "not_applied", "sentences", "limits"}
    assert set(content) == keys | {"contrasts"}
    assert [set(line) for line in content["lines"]] == [{"text", "status", "topic"}] * 3
    (result,) = content["contrasts"]
    assert (result["contrast"], result["interpretation"]) == ("all", "Detail in the whole brain")
    assert result["active"]["reference"] == "measured"
    assert result["active"]["test"]["state"] == "not testable"
    assert list(content["sentences"][0]) == ["text", "series"]
    (sentence,) = [
        item
        for item in content["sentences"]
        if item.get("minus") == "ratio" and item["series"] == "sbl"
    ][:1]
    assert (
        sentence["decision"],
        sentence["statistic"],
        sentence["reference"],
        sentence["band"],
    ) == (
        "better",
        "ev",
        "measured",
        "beyond",
    )
    assert (sentence["value"], sentence["lower"]) == pytest.approx((0.08, 0.07))
    incomplete = judge([r for r in reference_map_rows() if r.minus != "ratio"]).to_json()[
        "sentences"
    ]
    assert None in [item["lower"] for item in incomplete if item.get("minus") == "ratio"]
    path = tmp_path / "verdict.tsv"
    path.write_text(table_text(verdict.rows))
    assert len(read_table(path)) == len(verdict.rows)


def undefined(rows, **columns):
    """Return the rows, with NaN values in rows that match these columns."""
    nan_values = {"value": math.nan, "lower": math.nan, "upper": math.nan}
    return [
        replace(r, **nan_values) if all(getattr(r, k) in v for k, v in columns.items()) else r
        for r in rows
    ]


def test_a_reference_without_reproducible_detail_is_not_assessed():
    """If halves of the measured series have no common detail, all levels and differences are
    undefined.
    """
    rows = undefined(reference_map_rows(), region=("brain", "acquired40"))
    maps = [
        level("sbl", 0.9, statistic="r", reference="measuredMap"),
        gain("sbl", "bspline", 0.5, statistic="r", reference="measuredMap"),
    ]
    verdict = judge([*rows, *maps])
    assert verdict.status == "not assessed"
    assert states_of(verdict) == [
        [Statement.NO_DETAIL, Statement.AS_INTERPOLATED, Statement.NOTHING_FINER]
    ]
    assert not any(s.decision for s in verdict.sentences)
    assert math.isnan(verdict_values(verdict, "function")["sbl"])
    assert (
        verdict.evidence.best == "sbl"
    )  # neither method was assessed: the default method, which is last
    with_self_test = judge(
        [*rows, *maps, share("sbl", 0.27)], methods=("sbl",), self_test_facts=ONE_LEVEL
    )
    assert states_of(with_self_test) == states_of(verdict)
    assert with_self_test.headline.endswith("finer than 6 mm.")
    assert Statement.VEINS in limits_of(verdict)
    assert Statement.NO_REFERENCE not in limits_of(verdict)


def test_the_verdict_uses_regions_and_contrasts_with_reproducible_detail():
    """Use active voxels if the brain has no reproducible detail, and the second contrast if the
    first has none.
    """
    rows = undefined(reference_map_rows(), region=("brain",))
    assert function_evidence(rows, ["sbl"]).regions == ("acquired40",)
    assert judge(rows).status == "more accurate"
    location = "(contrast all, active voxels)"
    assert location in judge(rows).lines[-2].text
    less_accurate = judge(rows, methods=("srgan",))
    assert less_accurate.status == "not more accurate"
    assert location in less_accurate.headline
    assert "14 % [13, 15] in active voxels" in less_accurate.headline
    second_contrast = [replace(r, contrast="second") for r in reference_map_rows()]
    second_evidence = function_evidence(
        [*undefined(reference_map_rows(), contrast=("all",)), *second_contrast], ["sbl"]
    )
    assert (second_evidence.contrast, second_evidence.regions) == (
        "second",
        ("acquired40", "brain"),
    )
    assert function_evidence([*second_contrast, *reference_map_rows()], ["sbl"]).contrast == "all"


def test_a_difference_is_converted_to_text_by_four_functions():
    """Record every function of the evaluation that handles the row itself, from table to text."""
    rows, function_names = reference_map_rows(), []
    followed = next(r for r in rows if (r.series, r.minus, r.region) == ("sbl", "ratio", "brain"))

    def watch(frame, event, result):
        code = frame.f_code
        in_evaluation = (
            event == "return"
            and "bids_sr/evaluation" in code.co_filename
            and not code.co_name.startswith("<")
        )
        if (
            in_evaluation
            and code.co_name not in function_names
            and any(value is followed for value in frame.f_locals.values())
        ):
            function_names.append(code.co_name)

    sys.setprofile(watch)
    try:
        verdict = judge(rows)
    finally:
        sys.setprofile(None)
    assert function_names == ["row", "compare", "value_text", "write_comparison"]
    (texts,) = [sentence.text for sentence in verdict.sentences if sentence.row is followed]
    assert texts == "sbl is more accurate than ratio: +0.080 [0.070, 0.090], whole brain."


def test_the_training_of_srgan_limits_only_verdicts_on_srgan():
    assert Statement.SRGAN in limits_of(judge(reference_map_rows()))
    assert Statement.SRGAN not in limits_of(judge(reference_map_rows(), methods=("sbl",)))
