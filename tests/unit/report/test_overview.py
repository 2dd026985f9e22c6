"""Test the first screen: it repeats the verdict, leads with active voxels, and begins with methods
that were not applied.
"""

import math
import re
from dataclasses import replace

import pytest
from data.rows import judge_rows

from bids_sr.evaluation.evidence import find_strongest
from bids_sr.evaluation.qc_flags import read_flags
from bids_sr.evaluation.run_evidence import RunEvidence
from bids_sr.evaluation.self_test import EARLIER_ACCURACY, UNCALIBRATED_RANGE
from bids_sr.evaluation.statements import Statement
from bids_sr.metrics.flags import FLAGS
from bids_sr.metrics.rows import MetricRow
from bids_sr.report.overview import (
    RunFacts,
    _advise_maps,
    _choose_next_steps,
    _header_text,
    _list_remedies,
    _make_check_card,
    _make_correct_cards,
    _make_level_card,
    _write_cautions,
    flag_checks,
    motion_checks,
    overview_html,
    registration_checks,
)

RUN = RunFacts(
    entities={"subject": "01", "task": "tap", "run": "2"},
    acquired_mm=(6, 6, 3.3),
    super_resolved_mm=(3, 3, 3.3),
    displacement=(math.nan, 0.1, 0.2),
)


def row(series, statistic, value, half_width=0.01, **cells):
    return MetricRow(
        series=series,
        statistic=statistic,
        value=value,
        lower=value - half_width,
        upper=value + half_width,
        **cells,
    )


def evaluation_rows(gain=0.1):
    rows = []
    for region, factor in (("brain", 1), ("acquired40", 2)):
        place = {"contrast": "all", "region": region, "reference": "measured", "band": "beyond"}
        for series, value in (("sbl", 0.2), ("srgan", 0.05), ("bspline", 0.01)):
            rows.append(row(series, "ev", factor * value, **place))
        rows.append(row("sbl", "ev", gain, minus="bspline", **place))
        rows.append(row("srgan", "ev", 0.0, minus="bspline", **place))
    return rows


def judge(rows, **options):
    verdict = judge_rows(rows, ["srgan", "sbl"], margin=0.0, **options)
    return verdict.to_json(), verdict.evidence, [*rows, *verdict.rows]


def gather(rows, methods=("srgan", "sbl")):
    return judge_rows(rows, methods).evidence


def test_the_header_names_run_resolution_and_volumes():
    assert (
        _header_text(RUN)
        == "sub-01 · task tap, run 2 · 3 volumes · 6 × 6 × 3.3 mm → 3 × 3 × 3.3 mm"
    )
    run = replace(RUN, described="simulated 6 mm: 3 mm data, k-space cropped")
    html = overview_html(*judge(evaluation_rows()), {}, run)
    assert "<small>Simulated 6 mm: 3 mm data, k-space cropped</small>" in html


def facts_of(card):
    """Return facts of a card with plain spaces."""
    return [fact.replace("\N{NO-BREAK SPACE}", " ") for fact in card.facts]


def test_the_best_method_leads_with_active_voxels_next_to_b_spline():
    methods = ["sbl", "srgan"]
    card = _make_level_card(
        find_strongest("function", evaluation_rows(), methods), "sbl", "blocks", methods
    )
    assert card.value == "40 %"
    assert "explained by sbl" in card.label
    region, interval, *baselines, brain = facts_of(card)
    assert "|t| > 4 in the acquired run" in region
    assert interval.endswith("over blocks: [39, 41] %")
    assert baselines == ["B-spline interpolation: 2 %", "srgan: 10 %"]
    assert brain == "Whole brain: 20 % [19, 21]"


def test_the_strongest_baseline_is_shown_next_to_the_method():
    place = {"contrast": "all", "reference": "measured", "band": "beyond"}
    rows = [
        *evaluation_rows(),
        *(
            row(name, "ev", value, region="acquired40", **place)
            for name, value in (("zerofill", 0.05), ("sdmod", 0.37), ("bsplinePca", 0.1))
        ),
    ]
    card = _make_level_card(find_strongest("function", rows, ["sbl"]), "sbl", "blocks", ["sbl"])
    assert facts_of(card)[2:4] == [
        "B-spline interpolation: 2 %",
        "Strongest baseline (sdmod): 37 %",
    ]


def test_values_below_zero_are_numbers_with_the_state():
    low_rows = [
        replace(cells, value=-32.58, lower=-40.0, upper=-20.0)
        if cells.region == "brain"
        else cells
        for cells in evaluation_rows()
    ]
    low_rows = [
        replace(cells, value=-0.3, lower=-0.9, upper=0.1) if cells.series == "bspline" else cells
        for cells in low_rows
    ]
    facts = facts_of(
        _make_level_card(
            find_strongest("function", low_rows, ["sbl", "srgan"]), "sbl", "blocks", ["sbl"]
        )
    )
    assert facts[2] == "B-spline interpolation: −30 %"
    assert facts[3].startswith("Whole brain: below −100 %")
    harmful_rows = [
        replace(cells, value=-1.64, lower=-1.9, upper=-1.4) for cells in evaluation_rows()
    ]
    card = _make_level_card(
        find_strongest("function", harmful_rows, ["srgan"]),
        "srgan",
        "blocks",
        ["srgan"],
        "not supported",
    )
    assert (card.value, card.label.partition(": ")[2]) == ("below −100 %", "not supported")


ONE_LEVEL = {
    "from_mm": [12, 12, 3.3],
    "to_mm": [6, 6, 3.3],
    "calibrated": False,
    "series": {"srgan": {"reason": "no network was trained for this resolution"}},
}


def overview_without_reference(**changes):
    """Return the first screen of a run without a reference, which has only the self-test."""
    rows = [
        row("sbl", "tested_share", 0.27, 0.04, n=8),
        row("sdmod", "tested_share", 0.1, 0.03, n=8),
    ]
    return overview_html(*judge(rows, self_test_facts={**ONE_LEVEL, **changes}), {}, RUN)


def test_a_run_without_a_reference_gets_advice_on_its_maps_and_on_acquisition():
    html = overview_without_reference().replace("\N{NO-BREAK SPACE}", " ")
    assert "Treat the srgan and sbl maps as interpolated maps" in html
    assert "finer than 6 mm" in html
    assert "<strong>not measured</strong>" in html
    assert "This run has no high-resolution reference." in html
    assert EARLIER_ACCURACY[False].active in html
    assert EARLIER_ACCURACY[False].brain in html
    assert "no network was trained for this resolution" in html
    assert "at 3 × 3 × 3.3 mm and process this run with --retrospective" in html
    assert "how well 6 × 6 × 3.3 mm is recovered from 12 × 12 × 3.3 mm" in html
    assert "These checks do not measure accuracy." in html
    assert EARLIER_ACCURACY[True].active in html
    assert UNCALIBRATED_RANGE in html
    assert "class='answer open'" in html
    words = ("reproduc", "more accurate", "better", "27 %", "sdmod", "ptimistic", "▲", "▼")
    assert [word for word in words if word in html] == []
    without_rows = overview_html(*judge([]), {}, RUN)
    assert not any(word in without_rows for word in words)


def test_a_calibrated_run_shows_results_of_calibrated_runs_and_no_advice_to_calibrate():
    rows = [row("sbl", "tested_share", 0.27, 0.04, n=8)]
    for calibrated in (True, False):  # A calibration run that did not help was not used.
        facts = {**ONE_LEVEL, "calibrated": calibrated}
        html = overview_html(
            *judge(rows, self_test_facts=facts), {}, replace(RUN, calibrated=True)
        )
        assert EARLIER_ACCURACY[calibrated].active in html
        assert EARLIER_ACCURACY[not calibrated].active not in html
        assert "acquire a calibration run" not in html
    assert "acquire a calibration run" in overview_without_reference()


@pytest.mark.parametrize("measured", [True, False])
def test_the_check_of_added_detail_names_its_basis(measured):
    basis = "contrast all" if measured else "self-test"
    rows = evaluation_rows() if measured else []
    for series, value in (("sbl", 0.0), ("srgan", 1.0)):
        flags = read_flags([row(series, "flag_harm", value)])
        (check,) = flag_checks(replace(gather(rows), flags=tuple(flags)))
        assert check.passed is not bool(value)
        assert f"({basis})" in check.text
        assert ("srgan" in check.text) is bool(value)
    html = overview_html(*judge([*rows, row("sbl", "tested_share", 0.2)]), {}, RUN)
    assert f"({basis})</a>" in html


@pytest.mark.parametrize(("gain", "kind"), [(0.1, "good"), (0.0, "bad")])
def test_each_method_has_a_sentence_and_a_mark(gain, kind):
    verdict, evidence, rows = judge(evaluation_rows(gain=gain))
    html = overview_html(verdict, evidence, rows, {}, RUN)
    assert verdict["headline"] == " ".join(line["text"] for line in verdict["lines"])
    assert f"class='answer {kind}'" in html
    headlines = re.findall(
        r"<p(?: class='headline[^']*')?><span[^>]*>(.)</span> ([^<]*)</p>", html
    )
    assert [text for _, text in headlines] == [line["text"] for line in verdict["lines"]]
    assert {"srgan", "sbl"} <= {text.split()[0] for _, text in headlines}
    (mark, text), *comparisons = headlines
    assert (mark, text.split(" in ")[0]) == ("◐", "sbl recovers detail of “all”")
    assert html.index(text) < html.index("<table") < html.index(comparisons[0][1])
    for mark, text in comparisons:
        assert mark == ("✓" if kind == "good" and text.startswith("sbl") else "✗")


def test_method_names_are_defined_at_first_use():
    html = overview_html(*judge(evaluation_rows()), {}, RUN)
    assert html.count("sbl: sparse Bayesian learning") == 1
    assert html.count("srgan: SRGAN") == 1
    assert html.index("sbl: sparse") < html.index("srgan: SRGAN")


def test_the_reference_is_named_with_its_voxel_size():
    verdict, evidence, rows = judge(evaluation_rows())
    html = overview_html(verdict, evidence, rows, {}, RUN)
    assert (
        "The reference is the same run measured at 3 mm, and the contrast is <em>all</em>." in html
    )
    assert "half of the task blocks" in html
    assert "Detail is the part of the effect" in html
    at_rest = overview_html(verdict, evidence, rows, {}, replace(RUN, at_rest=True))
    assert "the seed is <em>all</em>." in at_rest
    assert "blocks" not in at_rest
    reference_map_rows = [replace(cells, reference="truth") for cells in evaluation_rows()]
    html = overview_html(*judge(reference_map_rows), {}, RUN)
    assert "The reference is known activation" in html
    assert "the same run" not in html


def test_a_method_that_was_not_applied_is_named_first_and_has_no_number():
    verdict, evidence, rows = judge(evaluation_rows(), not_applied=["sbl"])
    html = overview_html(verdict, evidence, rows, {}, RUN)
    assert html.index("sbl was not applied") < html.index("class='headline'")
    assert "<strong>10 %</strong>" in html
    assert "<strong>40 %</strong>" not in html
    assert "Acquire a calibration run" in html
    verdict, evidence, rows = judge(evaluation_rows(), not_applied=["sbl", "srgan"])
    html = overview_html(verdict, evidence, rows, {}, RUN)
    assert "class='answer idle'" in html
    assert "No method was applied" in html
    assert not any(word in html for word in ("40 %", "not measured"))
    self_test_rows = [row("sbl", "tested_share", 0.01, 0.004, n=8)]
    page = overview_html(
        *judge(self_test_rows, not_applied=["sbl", "srgan"], self_test_facts=ONE_LEVEL),
        {},
        RUN,
    )
    assert page.count("reduction in squared error: 1 %") == 1
    assert page.count("no network was trained for this resolution.") == 1
    assert "Acquire a calibration run" not in overview_html(
        verdict, evidence, rows, {}, replace(RUN, calibrated=True)
    )


def test_the_correct_fraction_is_shown_after_the_explained_detail():
    place = {"contrast": "all", "reference": "measured", "band": "beyond"}
    rows = [
        *evaluation_rows(),
        *(
            row("sbl", "correct_fraction", value, region=region, **place)
            for region, value in (("brain", 0.34), ("acquired40", 0.5))
        ),
    ]
    (card,) = _make_correct_cards(find_strongest("function", rows, ["sbl"]), "sbl", "blocks")
    assert card.value == "50 %"
    assert "in the sbl map is correct" in card.label
    assert facts_of(card)[1].endswith("[49, 51] %")
    assert facts_of(card)[-1] == "Whole brain: 34 % [33, 35]"
    assert (
        _make_correct_cards(
            find_strongest("function", evaluation_rows(), ["sbl"]), "sbl", "blocks"
        )
        == []
    )
    html = overview_html(
        *judge([*rows, row("sbl", "psnr", 0.0, minus="inject", reference="measured")]), {}, RUN
    )
    assert html.index("<strong>40 %") < html.index("<strong>50 %")
    assert not any(word in html for word in ("dB", "FWHM"))


def test_quality_checks_are_counted_once_over_all_series_shown():
    rows = [
        row("run", "flag_distortion", 1.0),
        row("run", "flag_broad", 0.0),
        row("acquired", "flag_task_not_done", math.nan),
        row("srgan", "flag_harm", 1.0),
        row("sbl", "flag_harm", 0.0),
    ]
    evidence = RunEvidence(flags=tuple(read_flags(rows)))
    checks = [
        *motion_checks(RUN.displacement),
        *registration_checks({"bold_t1w_poor": True}),
        *flag_checks(evidence),
    ]
    failed = [
        "Registration: 1 warning",
        FLAGS["distortion"].failed,
        f"{FLAGS['harm'].failed} (self-test): srgan",
    ]
    assert [check.text for check in checks if not check.passed] == failed
    card = _make_check_card(checks, measured=True)
    assert (card.value, card.label) == ("2 of 5", "checks passed")
    assert card.facts == tuple(f"Failed: {text}" for text in failed)
    html = overview_html(*judge(evaluation_rows()), {"bold_t1w_poor": True}, RUN)
    assert "<strong>2 of 3</strong><span>checks passed</span>" in html
    assert (html.count("chip passed"), html.count("chip failed")) == (2, 1)
    assert "wrong detail of the srgan maps" in _list_remedies(evidence)[1]
    assert len(_list_remedies(replace(evidence, not_applied=("srgan",)))) == 1


def test_facts_without_a_registration_are_not_a_check():
    assert (
        registration_checks(
            {"mask_source": "boldref", "roi_voxels": 900, "roi_fraction_in_fov": 1.0}
        )
        == []
    )
    assert (
        overview_html(*judge(evaluation_rows()), {"roi_voxels": 900}, RUN).count("class='chip ")
        == 2
    )


def test_large_motion_is_named_first_and_as_the_next_step():
    moving = replace(RUN, displacement=(math.nan, *[1.2] * 8, 0.1))
    verdict, evidence, rows = judge(
        [*evaluation_rows(), row("acquired", "flag_broad", 1.0)], displacement=moving.displacement
    )
    html = overview_html(verdict, evidence, rows, {}, moving)
    assert html.index("0.5 mm in 89 % of the volumes") < html.index("class='headline'")
    assert "<strong>Next:</strong> Check head motion first" in html


def test_motion_and_registration_checks_pass_or_fail():
    (check,) = motion_checks(RUN.displacement)
    assert check.passed
    assert check.text.startswith("Head motion")
    assert "0.15 mm" in check.text
    assert not motion_checks((0.6, 0.7))[0].passed
    assert registration_checks({"bold_t1w_poor": False})[0].passed
    assert not registration_checks({"bold_t1w_poor": True})[0].passed


def test_the_next_step_follows_from_the_verdict():
    not_assessed = {"status": "not assessed"}
    assert [
        len(_choose_next_steps({**not_assessed, "best": name}, [], RUN, undecided=True))
        for name in ("sbl", "srgan")
    ] == [2, 1]
    assert "--retrospective" in _choose_next_steps(not_assessed, [], RUN, undecided=True)[0]
    maps, masks = "sub-01/func/a_stat-t_*.nii.gz", "sub-01/func/a_label-*_mask.nii.gz"
    accurate = {"status": "more accurate", "best": "sbl"}
    (advice,) = _choose_next_steps(
        accurate, [], replace(RUN, maps=maps, masks=masks), undecided=True
    )
    assert re.findall(r"<code>(.*?)</code>", advice) == [maps, masks]
    assert re.findall(r"<code>(.*?)</code>", _advise_maps("sbl", replace(RUN, maps=maps))) == [
        maps
    ]
    assert "--level standard" in _advise_maps("sbl", RUN)
    tested = {"status": "recovered", "best": "sbl"}
    use, measure = _choose_next_steps(
        tested, [], replace(RUN, maps=maps), undecided=True, recovered=["all"]
    )
    assert "stated in the table" in use
    assert "--retrospective" in measure
    not_accurate = {"status": "not more accurate", "best": "sbl"}
    (advice,) = _choose_next_steps(not_accurate, [], RUN, undecided=True, recovered=["all"])
    assert "as stated in the table" in advice
    assert (
        "B-spline"
        in _choose_next_steps({"status": "not more accurate"}, [], RUN, undecided=True)[0]
    )
    not_applied = {"status": "not applied", "not_applied": ["sbl"]}
    assert (
        "Acquire a calibration run" in _choose_next_steps(not_applied, [], RUN, undecided=True)[0]
    )
    assert not any(
        "calibration" in step
        for step in _choose_next_steps(
            not_applied, [], replace(RUN, calibrated=True), undecided=True
        )
    )
    assert (
        _choose_next_steps(
            {"status": "more accurate", "best": "sbl"}, ["First."], RUN, undecided=True
        )[0]
        == "First."
    )


def test_a_reference_without_reproducible_detail_shows_no_number():
    rows = [
        replace(row, value=math.nan, lower=math.nan, upper=math.nan) for row in evaluation_rows()
    ]
    verdict, evidence, rows = judge(rows)
    html = overview_html(verdict, evidence, rows, {}, RUN)
    assert Statement.NO_DETAIL in verdict["headline"]
    assert "class='answer open'" in html
    assert "<strong>not measured</strong>" in html
    assert "--retrospective" not in html
    assert "n/a" not in html


def test_the_failed_check_of_added_detail_names_its_regions():
    rows = [
        replace(cells, value=-0.2, lower=-0.3, upper=-0.1)
        if (cells.series, cells.region, cells.minus) == ("sbl", "brain", "n/a")
        else cells
        for cells in evaluation_rows()
    ]
    (check,) = flag_checks(gather(rows))
    assert check.text.endswith("(contrast all): sbl in whole brain")


def below_rows(**levels):
    """Return explained variance over the brain by method and contrast."""
    return [
        *evaluation_rows(),
        *(
            row(
                method,
                "ev",
                value,
                contrast=contrast,
                region="brain",
                reference="measured",
                band="beyond",
            )
            for method, by_contrast in levels.items()
            for contrast, value in by_contrast.items()
        ),
    ]


def test_a_caution_names_contrasts_below_zero_over_the_whole_brain():
    rows = below_rows(
        srgan={f"c{k}": -0.1 for k in range(9)}, sbl={"faceMinusOthers": -0.21, "house": 0.2}
    )
    # Neither active voxels nor another reference count.
    rows += [
        row(
            "sbl", "ev", -0.5, contrast="x", region="active40", reference="measured", band="beyond"
        )
    ]
    rows += [
        row("sbl", "ev", -0.5, contrast="y", region="brain", reference="truth", band="beyond")
    ]
    evidence = gather(rows)
    text = _write_cautions(evidence).replace("\xa0", " ")
    assert "by sbl" not in text, "results of the best method are in the table"
    assert "added by srgan" in text
    assert "9 of 10 contrasts: every contrast other than <em>all</em>." in text
    (check,) = flag_checks(evidence)
    assert (check.passed, "sbl" in check.text, "1 of 3 contrasts" in check.text) == (
        False,
        True,
        True,
    )
    assert flag_checks(replace(evidence, best=""))[0].passed
    assert _write_cautions(gather(evaluation_rows())) == ""
    brain_rows = evidence.brain_rows["sbl"]
    assert {name for name, cells in brain_rows.items() if cells.value < 0} == {"faceMinusOthers"}
    html = overview_html(*judge(evaluation_rows()), {}, RUN)
    assert "Caution" not in html
    html = overview_html(*judge(rows), {}, RUN)
    assert html.index("class='headline'") < html.index("added by srgan")
    assert html.index("added by srgan") < html.index("class='numbers'")


def test_the_map_of_a_single_run_is_the_map_of_the_participant():
    verdict, evidence, rows = judge([])
    sentence = "This is the only run of its task, so its map is the map of the participant."
    for described in ("", "simulated"):
        run = replace(RUN, described=described, only_run=True)
        assert sentence in overview_html(verdict, evidence, rows, {}, run)
        assert sentence not in overview_html(
            verdict, evidence, rows, {}, replace(run, only_run=False)
        )
