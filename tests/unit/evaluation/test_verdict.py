"""The verdict: what each constellation of figures allows to say, and what it does not."""

import json
import math
import sys
from dataclasses import replace

import pytest

from bids_sr.evaluation.evidence import Evidence, _decide, main_regions, strongest
from bids_sr.evaluation.self_test import CALIBRATED, NOT_ACCURACY
from bids_sr.evaluation.verdict import make_verdict
from bids_sr.evaluation.verdict_text import _NO_DETAIL, verdict_line
from bids_sr.evaluation.words import TOO_LITTLE
from bids_sr.glm.map_sidecars import NO_ERROR
from bids_sr.metrics.flags import FLAGS
from bids_sr.metrics.rows import MetricRow, read_table, table_text

BASELINES = ("bspline", "zerofill", "inject", "ratio")
REFERENCES = (*BASELINES, "bsplineSmooth", "bsplinePca")
LEVELS = {"bspline": 0.018, "inject": 0.038, "sbl": 0.121, "srgan": 0.069, "measured": 0.218}


def gain(
    series,
    minus,
    value,
    half=0.01,
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
        lower=value - half,
        upper=value + half,
        contrast=contrast,
        region=region,
        n=12,
    )


def level(series, value, region="brain", statistic="ev", reference="measured"):
    return gain(series, "n/a", value, region=region, reference=reference, statistic=statistic)


def evidence(rows, series) -> Evidence:
    found = strongest("function", rows, series)
    assert found is not None
    return found


def truth_rows(**changes):
    """Guided beats all by .08; srgan beats all but inject, by .05."""
    rows = [level(s, v) for s, v in LEVELS.items()] + [
        level(s, 2 * v, "acquired40") for s, v in LEVELS.items()
    ]
    for region in ("brain", "acquired40"):
        rows += [gain("sbl", other, 0.08, region=region) for other in REFERENCES]
        rows += [
            gain("srgan", other, 0.0 if other == "inject" else 0.05, 0.03, region)
            for other in REFERENCES
        ]
    swap = changes.get("swap", {})
    return [swap.get((r.series, r.minus, r.region), r) for r in rows]


def judge(rows, methods=("srgan", "sbl"), **given):
    return make_verdict(rows, methods=methods, baselines=BASELINES, **given)


def flagged(verdict, name):
    return {r.series: r.value for r in verdict.rows if r.statistic == f"verdict_{name}"}


@pytest.mark.parametrize(
    ("lower", "upper", "margin", "expected"),
    [
        (0.01, 0.05, 0.02, "better"),
        (0.01, 0.015, 0.02, "same"),  # sure, and of no importance
        (-0.01, 0.015, 0.02, "same"),
        (-0.01, 0.03, 0.02, "unclear"),
        (-0.01, 0.015, math.nan, "unclear"),  # without a margin nothing is the same
        (0.01, 0.015, math.nan, "better"),
        (-0.5, -0.1, 0.02, "worse"),
        (math.nan, math.nan, 0.02, "unclear"),
        (-0.02, 0.02, 0.02, "same"),
        (0.0, 0.1, 0.02, "unclear"),
    ],
)
def test_decisions(lower, upper, margin, expected):
    assert _decide(lower, upper, margin) == expected


def test_who_beats_all_may_claim_function():
    verdict = judge(truth_rows())
    assert flagged(verdict, "function") == {"sbl": 1.0, "srgan": 0.0}
    assert [(each.text.split()[0], each.status) for each in verdict.lines] == [
        ("sbl", "more accurate"),
        ("srgan", "not more accurate"),
    ]
    assert "better than interpolation and denoising" in verdict.lines[0].text
    assert "7 % [6, 8] in the whole brain" in verdict.lines[1].text
    assert (verdict.status, verdict.best, verdict.not_applied) == ("more accurate", "sbl", ())
    assert sum("Over all spatial frequencies" in each for each in verdict.limits) == 1
    assert sum(NO_ERROR in each for each in verdict.limits) == 1
    assert sum("never run to completion" in each for each in verdict.limits) == 1
    found = {
        (s.row.series, s.row.minus): s
        for s in verdict.sentences
        if s.decision and s.row.region == "brain"
    }
    assert found["sbl", "bsplinePca"].decision == "better"
    assert found["srgan", "inject"].decision == "unclear"
    assert (
        found["sbl", "inject"].text
        == "sbl is more accurate than inject: +0.080 [0.070, 0.090], whole brain."
    )
    claim = next(
        each for each in verdict.claims if (each.kind, each.series) == ("function", "srgan")
    )
    assert (claim.holds, claim.unbeaten) == (False, ["inject"])


def test_margin_is_a_tenth_of_the_gap_to_measured():
    verdict = judge(truth_rows())
    margins = {r.region: r.value for r in verdict.rows if r.statistic == "verdict_margin"}
    assert margins["brain"] == pytest.approx(0.02)
    assert margins["acquired40"] == pytest.approx(0.04)
    rows = truth_rows(swap={("srgan", "inject", "brain"): gain("srgan", "inject", 0.001, 0.01)})
    found = {
        (r.series, r.minus): r.value
        for r in judge(rows).rows
        if r.statistic == "verdict" and r.region == "brain"
    }
    assert found["srgan", "inject"] == 0.0
    assert found["sbl", "inject"] == 1.0
    found = {
        (r.series, r.minus): r.value for r in judge(rows, margin=0.005).rows if r.region == "brain"
    }
    assert math.isnan(found["srgan", "inject"])


def test_one_control_that_is_not_beaten_forbids_the_claim():
    rows = truth_rows(swap={("sbl", "bsplinePca", "brain"): gain("sbl", "bsplinePca", 0.02, 0.03)})
    verdict = judge(rows)
    assert flagged(verdict, "function")["sbl"] == 0.0
    assert [each.text.split()[0] for each in verdict.lines] == ["No", "srgan", "sbl"]
    assert {each.status for each in verdict.lines} == {"not more accurate"}
    assert "more true detail than inject" in verdict.lines[1].text
    assert "more true detail than bsplinePca (explained variance: 12 %" in verdict.lines[2].text
    assert verdict.status == "not more accurate"


@pytest.mark.parametrize(
    ("low", "expected"), [(0.001, 1.0), (0.0, 0.0), (-0.01, 0.0), (math.nan, 0.0)]
)
def test_a_map_that_explains_nothing_for_sure_may_claim_nothing(low, expected):
    """Above every baseline because those are worse than none: no claim without explained variance
    above 0.
    """
    rows = [r for r in truth_rows() if (r.series, r.minus, r.region) != ("sbl", "n/a", "brain")]
    rows.append(replace(level("sbl", 0.02), lower=low, upper=0.05))
    assert flagged(judge(rows), "function")["sbl"] == expected


@pytest.mark.parametrize("plain", ["sdmod", "zerofill"])
def test_plain_arithmetic_must_be_beaten_where_the_run_has_it(plain):
    """zerofill and sdmod count, also where they do not stand among the baselines given."""
    rows = [
        *truth_rows(),
        level(plain, 0.1),
        *(gain("sbl", plain, 0.0, region=r) for r in ("brain", "acquired40")),
    ]
    rows = [r for r in rows if not (r.minus == plain and r.value > 0.05)]
    given = {"methods": ("sbl",), "baselines": [name for name in BASELINES if name != plain]}
    assert flagged(make_verdict(rows, **given), "function")["sbl"] == 0.0
    rows = [gain("sbl", plain, 0.05, region=r.region) if r.minus == plain else r for r in rows]
    assert flagged(make_verdict(rows, **given), "function")["sbl"] == 1.0


def test_methods_that_were_not_applied_are_named_first_and_compared_with_nobody():
    verdict = judge(
        [*truth_rows(), gain("srgan", "sbl", 0.1), gain("sbl", "sblMirror", 0.1)],
        not_applied=["sbl"],
    )
    said = verdict.to_json()
    assert said["not_applied_text"].startswith("sbl was not applied (zero filled)")
    assert "sbl" not in verdict.headline
    share = MetricRow(
        series="sbl", statistic="tested_share", value=-0.03, lower=-0.05, upper=-0.01, n=6
    )
    calibrated = {"series": {"sbl": {"calibration": "it was not used: another field of view"}}}
    why = judge([*truth_rows(), share], not_applied=["sbl"], one_level=calibrated).to_json()
    text = str(why["not_applied_text"])
    assert "In the self-test, sbl was less accurate than zero filling" in text
    assert "reduction in squared error: −3 %" in text
    assert "over 6 segments of the run: −5 to −1 %" in text
    assert text.endswith(" of sbl: it was not used: another field of view.")
    assert (verdict.best, verdict.not_applied) == ("srgan", ("sbl",))
    assert flagged(verdict, "applied") == {"srgan": 1.0, "sbl": 0.0}
    assert set(flagged(verdict, "function")) == {"srgan"}
    assert not any("sbl" in (s.row.series, s.row.minus) for s in verdict.sentences if s.row)
    both = judge(truth_rows(), not_applied=["sbl", "srgan"])
    assert both.to_json()["not_applied_text"].startswith(
        "srgan and sbl were not applied (zero filled)."
    )
    assert (both.status, both.best) == ("not applied", "")
    assert both.headline.startswith("No method was applied")


def test_within_the_acquired_band_voxels_of_the_acquired_map_decide_nothing():
    """Its noise is in the series, and selects them."""
    rows = [
        replace(level("sbl", 0.3, region), band=band)
        for region in ("brain", "active40", "acquired40")
        for band in ("within", "beyond")
    ]
    assert strongest("within", rows, ["sbl"]).regions == ("active40", "brain")
    assert strongest("beyond", rows, ["sbl"]).regions == ("acquired40", "brain")


def test_r_amplitude_and_correct_fraction_stand_beside_explained_variance():
    beside = {"r": 0.415, "amplitude": 0.31, "correct_fraction": 0.23}
    verdict = judge(
        [*truth_rows(), *(level("sbl", v, "acquired40", name) for name, v in beside.items())]
    )
    text = next(s.text for s in verdict.sentences if s.row and s.row.series == "sbl")
    assert (
        text
        == "sbl: 0.242 [0.232, 0.252], voxels active in the acquired run (|t| > 4); correlation r"
        " 0.415; amplitude (slope) 0.310; correct fraction (energy) 0.230; whole brain 0.121."
    )
    undefined = [
        level("measured", math.nan, r.region) if r.series == "measured" else r
        for r in truth_rows()
    ]
    assert any(
        "the explained variance of the measured series is not defined" in text
        and TOO_LITTLE in text
        for text in judge(undefined).limits
    )
    assert any("veins" in text for text in verdict.limits)


def test_worse_in_the_active_region_forbids_the_claim_unclear_does_not():
    unclear = truth_rows(
        swap={("sbl", "ratio", "acquired40"): gain("sbl", "ratio", 0.0, 0.2, "acquired40")}
    )
    assert flagged(judge(unclear), "function")["sbl"] == 1.0
    worse = truth_rows(
        swap={("sbl", "ratio", "acquired40"): gain("sbl", "ratio", -0.2, 0.05, "acquired40")}
    )
    assert flagged(judge(worse), "function")["sbl"] == 0.0


def test_a_baseline_that_was_not_compared_was_not_beaten():
    rows = [r for r in truth_rows() if r.minus != "ratio"]
    verdict = judge(rows)
    assert flagged(verdict, "function")["sbl"] == 0.0
    assert any("not compared with ratio" in s.text for s in verdict.sentences)


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


def test_without_a_reference_nothing_is_compared():
    verdict = judge([])
    said = verdict.to_json()
    assert (said["status"], said["best"]) == ("not assessed", "sbl")  # the default method
    assert said["headline"].startswith("Accuracy was not measured in this run.")
    assert "Treat the srgan and sbl maps as interpolated maps" in said["headline"]
    assert said["headline"].endswith("finer than the acquired voxels.")
    assert said["sentences"] == []
    assert {r.statistic for r in verdict.rows} == {
        f"verdict_{n}" for n in ("function", "image", "specific", "applied")
    }
    assert [
        math.isnan(flagged(verdict, name)["sbl"]) for name in ("function", "image", "specific")
    ] == [True] * 3
    assert any("--retrospective" in text for text in verdict.limits)


@pytest.mark.parametrize(("noise", "said"), [(0.005, False), (0.0105, False), (0.014, True)])
def test_more_thermal_noise_than_any_measured_run_has_is_said(noise, said):
    verdict = judge([share("sbl", 0.27)], one_level={**ONE_LEVEL, "thermal_noise": noise})
    assert any(text.startswith(f"Thermal noise is {noise:.1%}") for text in verdict.limits) is said


def test_without_a_truth_the_test_one_level_down_stands_in_its_place():
    rows = [share("sbl", 0.27), share("sdmod", 0.1)]
    verdict = judge(rows, one_level=ONE_LEVEL)
    assert "Treat the srgan and sbl maps as interpolated maps" in verdict.headline
    assert verdict.headline.endswith("detail finer than 6 mm.")
    assert NOT_ACCURACY in verdict.limits
    assert any(
        s.text
        == "srgan was not included in the self-test (12 → 6 mm): no network was trained for this"
        " resolution."
        for s in verdict.sentences
    )
    assert verdict.status == "not assessed"
    assert not any(s.decision for s in verdict.sentences)
    assert {s.row.series for s in verdict.sentences if s.row} == {"sbl"}
    both = judge([*rows, share("srgan", 0.31)], one_level={**ONE_LEVEL, "series": {}})
    assert both.best == "srgan"
    harm = judge([*rows, share("srgan", -0.2)], one_level={**ONE_LEVEL, "series": {}})
    assert harm.lines[-1].text.startswith("Do not use the srgan maps")
    assert "self-test (12 → 6 mm)" in harm.lines[-1].text
    assert [each.status for each in harm.lines] == ["not assessed", "not more accurate"]
    assert any(
        "srgan was less accurate than zero filling" in s.text and "error: −20 %" in s.text
        for s in harm.sentences
    )
    wild = judge([*rows, share("srgan", -156.2)], one_level={**ONE_LEVEL, "series": {}})
    assert any(
        "more than twice as large as with zero filling; 95 %" in s.text
        and s.text.endswith("below −100 to below −100 %).")
        for s in wild.sentences
    )
    unsure = judge([*rows, share("srgan", -0.02)], one_level={**ONE_LEVEL, "series": {}})
    assert "Do not use" not in unsure.headline
    (said,) = [s.text for s in unsure.sentences if s.row and s.row.series == "srgan"]
    assert "srgan did not differ detectably from zero filling" in said
    assert "error: −2 %" in said
    assert said.endswith("−6 to 2 %).")
    assert "worse" not in said
    # with a truth it stands among what the verdict rests on, and decides nothing
    true = judge([*truth_rows(), *rows], one_level=ONE_LEVEL)
    assert "Treat" not in true.headline
    assert any("reduced the squared error by 27 %" in s.text for s in true.sentences)


def test_a_calibrated_map_carries_the_warning():
    rows = [share("sbl", 0.27), share("sdmod", 0.1)]
    verdict = judge(rows, one_level={**ONE_LEVEL, "calibrated": True})
    assert "27 %" not in verdict.headline
    assert "shifted by one voxel" in CALIBRATED
    assert CALIBRATED in verdict.limits
    text = "the calibration run was used with weight 0.4 and its position corrected by 0.7 mm"
    facts = {
        **ONE_LEVEL,
        "calibrated": True,
        "series": {"sbl": {"share": 0.27, "calibration": text}},
    }
    assert any(
        s.text == f"Calibration of sbl: {text}." for s in judge(rows, one_level=facts).sentences
    )
    assert any("reduced the squared error by 27 %" in s.text for s in verdict.sentences)


def test_large_motion_is_said_before_accuracy():
    still = judge(truth_rows(), displacement=[math.nan, *[0.1] * 9])
    assert "motion_text" not in still.to_json()
    moving = judge(truth_rows(), displacement=[math.nan, *[1.2] * 8, 0.1], not_applied=["srgan"])
    line = verdict_line(moving.to_json())
    assert line.startswith("Large head motion: ")
    assert "1.08 mm" in line
    assert "0.5 mm in 89 %" in line
    assert line.index("srgan was not applied") < line.index("sbl recovers detail")


def test_the_strongest_reference_with_intervals_carries_the_verdict():
    difference = gain("sbl", "bspline", 0.5, reference="truth")
    known = [level("sbl", 0.9, reference="truth"), difference]
    maps = [
        level("sbl", 0.9, statistic="r", reference="measuredMap"),
        gain("sbl", "bspline", 0.5, statistic="r", reference="measuredMap"),
    ]
    assert evidence(known, ["sbl"]).reference.name == "truth"
    assert evidence([*known, *truth_rows()], ["sbl"]).reference.name == "measured"
    assert evidence(maps, ["sbl"]).reference.name == "measuredMap"
    assert evidence([*maps, *known], ["sbl"]).reference.name == "truth"
    # split halves without an interval give way to a reference with one
    bare = [r for r in truth_rows() if r.minus == "n/a"]
    assert evidence([*bare, *known], ["sbl"]).reference.name == "truth"
    assert strongest("function", known, ["srgan"]) is None


def test_one_region_stands_for_active_voxels():
    assert main_regions(["brain", "active25", "roi", "active50"]) == ("active50", "brain")
    assert main_regions(["active", "brain"]) == ("active", "brain")
    assert (main_regions(["roi", "left"]), main_regions([])) == (("roi",), ())


def known_rows(value=0.05, **swap):
    """Guided against known activation by regions; no controls, no measured series."""
    rows = [level(s, v, reference="truth") for s, v in LEVELS.items() if s != "measured"]
    for region in ("brain", "active"):
        rows += [
            gain("sbl", other, swap.get(other, value), region=region, reference="truth")
            for other in (*BASELINES, "srgan", "sblMirror")
        ]
    return rows


def test_known_activation_alone_carries_a_verdict_and_says_that_denoised_copies_are_absent():
    verdict = judge(known_rows(sblMirror=0.0))
    assert flagged(verdict, "function") == {"sbl": 1.0, "srgan": 0.0}
    assert verdict.headline.startswith("sbl recovers detail")
    assert "better than interpolation." in verdict.headline
    assert "denois" not in verdict.headline
    assert "sblMirror reaches the same gain" in verdict.lines[0].text
    assert any("denoised B-spline series were not compared" in text for text in verdict.limits)
    assert not any("Differences without a confidence interval" in text for text in verdict.limits)
    assert any("truly active voxels" in s.text for s in verdict.sentences)
    assert flagged(judge(known_rows(ratio=0.005)), "function")["sbl"] == 0.0
    assert flagged(judge(known_rows(sblMirror=0.05)), "specific")["sbl"] == 1.0


def test_a_difference_written_the_other_way_round_is_turned():
    rows = [level("sbl", 0.1), gain("bspline", "sbl", -0.08)]
    row = evidence(rows, ["sbl"]).row("sbl", "brain", "bspline")
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


def test_image_quality_needs_bspline_and_inject_beaten():
    both = [image("srgan", "bspline", 1.5), image("srgan", "inject", 0.3)]
    assert flagged(judge(both), "image")["srgan"] == 1.0
    assert "those of bspline and inject" in judge(both).headline
    assert flagged(judge([both[0], image("srgan", "inject", 0.05)]), "image")["srgan"] == 0.0
    measured = [
        image(s.series, s.minus, v, reference="measured")
        for s, v in zip(both, (0.5, -0.2), strict=True)
    ]
    # measured volumes outrank the second pair
    assert flagged(judge([*both, *measured]), "image")["srgan"] == 0.0
    said = [s.text for s in judge([*both, *measured]).sentences if s.decision]
    assert "PSNR relative to the measured volumes" in said[0]
    assert "Static detail" in said[0]
    assert said[1].endswith("] dB).")
    assert "relative to the measured volumes" in said[1]
    assert flagged(
        judge([*measured[:1], image("srgan", "inject", 0.3, reference="measured")]), "image"
    )["srgan"]
    alone = judge([both[0]])
    assert math.isnan(flagged(alone, "image")["srgan"])
    assert any("--pair-holdout" in text for text in alone.limits)
    assert flagged(judge([image("srgan", "bspline", -1.0)]), "image")["srgan"] == 0.0


def test_subject_specific_only_where_own_less_placebo_excludes_zero():
    beaten, reached = gain("sbl", "sblOther", 0.05), gain("sbl", "sblMirror", 0.005)
    good = judge([*truth_rows(), beaten])
    assert flagged(good, "specific") == pytest.approx({"sbl": 1.0, "srgan": math.nan}, nan_ok=True)
    assert "specific to this participant's own data" in good.headline
    assert any("srgan" in text and "negative control" in text for text in good.limits)
    bad = judge([*truth_rows(), beaten, reached])
    assert flagged(bad, "specific")["sbl"] == 0.0
    assert "sblMirror reaches the same gain" in bad.headline


def test_flags_are_said():
    rows = [MetricRow(series="raw", statistic="flag_task_not_done", value=1.0, contrast="thumb")]
    rows += [MetricRow(series="raw", statistic="flag_broad", value=0.0, contrast="thumb")]
    verdict = judge(rows)
    assert any(FLAGS["task_not_done"].failed in text for text in verdict.limits)


def test_plain_values_and_table(tmp_path):
    verdict = judge(truth_rows())
    plain = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    keys = {"headline", "lines", "status", "best", "not_applied", "sentences", "limits"}
    assert set(plain) == keys
    assert [set(line) for line in plain["lines"]] == [{"text", "status"}] * 2
    assert list(plain["sentences"][0]) == ["text", "series"]
    (said,) = [
        each
        for each in plain["sentences"]
        if each.get("minus") == "ratio" and each["series"] == "sbl"
    ][:1]
    assert (said["decision"], said["statistic"], said["reference"], said["band"]) == (
        "better",
        "ev",
        "measured",
        "beyond",
    )
    assert (said["value"], said["lower"]) == pytest.approx((0.08, 0.07))
    lacking = judge([r for r in truth_rows() if r.minus != "ratio"]).to_json()["sentences"]
    assert None in [each["lower"] for each in lacking if each.get("minus") == "ratio"]
    path = tmp_path / "verdict.tsv"
    path.write_text(table_text(verdict.rows))
    assert len(read_table(path)) == len(verdict.rows)


def undefined(rows, **where):
    """The rows without values where they are of these columns."""
    nothing = {"value": math.nan, "lower": math.nan, "upper": math.nan}
    return [
        replace(r, **nothing) if all(getattr(r, k) in v for k, v in where.items()) else r
        for r in rows
    ]


def test_a_reference_without_reproducible_detail_assesses_nothing():
    """Halves of the measured series that have no detail in common leave every level and difference
    undefined.
    """
    rows = undefined(truth_rows(), region=("brain", "acquired40"))
    maps = [
        level("sbl", 0.9, statistic="r", reference="measuredMap"),
        gain("sbl", "bspline", 0.5, statistic="r", reference="measuredMap"),
    ]
    alone = judge([*rows, *maps])
    assert alone.status == "not assessed"
    assert alone.headline.startswith(f"{_NO_DETAIL} Treat the srgan and sbl maps")
    assert not any(s.decision for s in alone.sentences)
    assert math.isnan(flagged(alone, "function")["sbl"])
    assert alone.best == "sbl"  # nothing is known of either: the last, which is the default
    told = judge([*rows, *maps, share("sbl", 0.27)], methods=("sbl",), one_level=ONE_LEVEL)
    assert told.headline.startswith(f"{_NO_DETAIL} Treat the sbl maps")
    assert told.headline.endswith("finer than 6 mm.")
    assert any("no reproducible detail" in text for text in alone.limits)
    assert not any("has no high-resolution reference" in text for text in alone.limits)


def test_a_verdict_is_given_where_the_reference_has_reproducible_detail():
    """In active voxels where the brain as a whole has none; for a contrast that has, where the
    first has none.
    """
    rows = undefined(truth_rows(), region=("brain",))
    assert evidence(rows, ["sbl"]).regions == ("acquired40",)
    assert judge(rows).status == "more accurate"
    where = "in voxels active in the acquired run (|t| > 4) better than"
    assert where in judge(rows).lines[0].text
    lost = judge(rows, methods=("srgan",))
    assert lost.status == "not more accurate"
    assert where in lost.headline
    assert "14 % [13, 15] in active voxels" in lost.headline
    others = [replace(r, contrast="second") for r in truth_rows()]
    found = evidence([*undefined(truth_rows(), contrast=("all",)), *others], ["sbl"])
    assert (found.contrast, found.regions) == ("second", ("acquired40", "brain"))
    assert evidence([*others, *truth_rows()], ["sbl"]).contrast == "all"


def test_a_difference_becomes_a_sentence_through_few_functions():
    """Every function of the evaluation that holds the row itself, from the table of the evaluation
    to the words.
    """
    rows, met = truth_rows(), []
    followed = next(r for r in rows if (r.series, r.minus, r.region) == ("sbl", "ratio", "brain"))

    def watch(frame, event, result):
        code = frame.f_code
        ours = (
            event == "return"
            and "bids_sr/evaluation" in code.co_filename
            and not code.co_name.startswith("<")
        )
        if (
            ours
            and code.co_name not in met
            and any(each is followed for each in frame.f_locals.values())
        ):
            met.append(code.co_name)

    sys.setprofile(watch)
    try:
        verdict = judge(rows)
    finally:
        sys.setprofile(None)
    assert met == ["row", "compare", "value_text", "comparison"]
    (said,) = [each.text for each in verdict.sentences if each.row is followed]
    assert said == "sbl is more accurate than ratio: +0.080 [0.070, 0.090], whole brain."
