"""The first screen: it says what the verdict says, leads with active voxels, and names what was
not applied first.
"""

import math
from dataclasses import replace

import pytest

from bids_sr.evaluation.evidence import EARLIER, UNCALIBRATED, accuracy
from bids_sr.evaluation.verdict import make_verdict
from bids_sr.metrics import MetricRow
from bids_sr.report.overview_text import (
    RunFacts,
    _check_number,
    _header_text,
    _level_number,
    _next_steps,
    _remedies,
    _right_number,
    flag_checks,
    motion_checks,
    overview_html,
    registration_checks,
)

RUN = RunFacts(
    entities={"subject": "01", "task": "tap", "run": "2"},
    acquired_mm=(6, 6, 3.3),
    made_mm=(3, 3, 3.3),
    displacement=(math.nan, 0.1, 0.2),
)


def row(series, statistic, value, half=0.01, **where):
    return MetricRow(
        series=series,
        statistic=statistic,
        value=value,
        lower=value - half,
        upper=value + half,
        **where,
    )


def rows_of(gain=0.1):
    found = []
    for region, factor in (("brain", 1), ("acquired40", 2)):
        place = {"contrast": "all", "region": region, "reference": "measured", "band": "beyond"}
        for series, value in (("sbl", 0.2), ("srgan", 0.05), ("bspline", 0.01)):
            found.append(row(series, "ev", factor * value, **place))
        found.append(row("sbl", "ev", gain, minus="bspline", **place))
        found.append(row("srgan", "ev", 0.0, minus="bspline", **place))
    return found


def judged(rows, **how):
    verdict = make_verdict(
        rows, methods=["srgan", "sbl"], baselines=["bspline"], margin=0.0, **how
    )
    return verdict.to_json(), [*rows, *verdict.rows]


def test_the_header_names_run_resolution_and_volumes():
    assert (
        _header_text(RUN) == "sub-01 · task tap, run 2 · 6 × 6 × 3.3 → 3 × 3 × 3.3 mm · 3 volumes"
    )
    told = _header_text(replace(RUN, described="simulated 6 mm: 3 mm data, k-space cropped"))
    assert "→ 3 × 3 × 3.3 mm (simulated 6 mm: 3 mm data, k-space cropped) · 3 vol" in told


def test_the_best_method_leads_with_active_voxels_beside_bspline():
    found = _level_number(accuracy(rows_of(), ["sbl", "srgan"]), "sbl")
    assert found.value == "sbl 40 %"
    assert (
        found.label
        == "explained variance beyond the acquired Nyquist limit, voxels active in the acquired"
        " run (|t| > 4)"
    )
    assert found.note == "95 % interval over blocks [39, 41] %; B-spline: 2 %; whole brain: 20 %"


def test_below_zero_is_said_in_words():
    low = [
        replace(r, value=-32.58, lower=-40.0, upper=-20.0) if r.region == "brain" else r
        for r in rows_of()
    ]
    low = [
        replace(r, value=-0.3, lower=-0.9, upper=0.1) if r.series == "bspline" else r for r in low
    ]
    found = _level_number(accuracy(low, ["sbl", "srgan"]), "sbl")
    assert found.note.endswith("B-spline: not above 0 %; whole brain: worse than adding no detail")
    harm = [replace(r, value=-1.64, lower=-1.9, upper=-1.4) for r in rows_of()]
    assert (
        _level_number(accuracy(harm, ["srgan"]), "srgan").value
        == "srgan worse than adding no detail"
    )


ONE_LEVEL = {
    "from_mm": [12, 12, 3.3],
    "to_mm": [6, 6, 3.3],
    "calibrated": False,
    "series": {"srgan": {"reason": "no network was trained for this resolution"}},
}


def blind(**changes):
    """Without a reference: there is the test one level down alone."""
    rows = [
        row("sbl", "tested_share", 0.27, 0.04, n=8),
        row("sdmod", "tested_share", 0.1, 0.03, n=8),
    ]
    return overview_html(
        *judged(rows, one_level={**ONE_LEVEL, **changes}), {}, RUN, {**ONE_LEVEL, **changes}
    )


def test_a_run_without_a_reference_is_told_what_to_do_with_its_maps_and_what_to_scan():
    html = blind()
    assert (
        "Treat the srgan and sbl maps as an interpolation and do not interpret detail finer than 6"
        " mm: " in html
    )
    assert (
        "<strong>not measured</strong><span>how much of the true fine detail sbl explains in this"
        " run</span>" in html
    )
    assert f"sbl explained {EARLIER[False].active} of it in voxels active in" in html
    assert "no network was trained for this resolution" in html
    assert "scan one run at 3 × 3 × 3.3 mm and process it with --retrospective" in html
    assert "on this run shows how well 6 × 6 × 3.3 mm is recovered from 12 × 12 × 3.3 mm" in html
    assert "they do not tell whether the fine detail is true" in html
    assert (
        f"sbl explained {EARLIER[True].active} of the true detail in voxels active in the"
        f" acquired run, without one {UNCALIBRATED}" in html
    )
    assert "class='answer open'" in html
    words = ("reproduc", "more accurate", "better", "27 %", "sdmod", "ptimistic", "▲", "▼")
    assert [word for word in words if word in html] == []
    nothing = overview_html(*judged([]), {}, RUN)
    assert not any(word in nothing for word in words)


def test_a_calibrated_run_is_told_what_calibrated_runs_had_and_not_to_calibrate():
    rows = [row("sbl", "tested_share", 0.27, 0.04, n=8)]
    for used in (True, False):  # one that did not help was left out
        facts = {**ONE_LEVEL, "calibrated": used}
        html = overview_html(
            *judged(rows, one_level=facts), {}, replace(RUN, calibrated=True), facts
        )
        assert f"sbl explained {EARLIER[used].active} of it in voxels active in" in html
        assert "scan a calibration" not in html
    assert "scan a calibration" in blind()


@pytest.mark.parametrize("measured", [True, False])
def test_a_check_names_what_it_rests_on(measured):
    rest = "" if measured else ", tested only one level down (12 → 6 mm)"
    texts = [
        [each.text for each in flag_checks([row(series, "flag_harm", value)], (), rest)]
        for series, value in (("sbl", 0.0), ("srgan", 1.0))
    ]
    assert texts == [
        [f"not shown to be worse than adding no detail{rest}"],
        [f"srgan: worse than adding no detail{rest}"],
    ]
    said, rows = judged([*(rows_of() if measured else []), row("sbl", "flag_harm", 0.0)])
    assert f"✓ not shown to be worse than adding no detail{rest}</a>" in overview_html(
        said, rows, {}, RUN, ONE_LEVEL
    )


@pytest.mark.parametrize(("gain", "kind"), [(0.1, "good"), (0.0, "bad")])
def test_the_sentence_is_that_of_the_verdict(gain, kind):
    said, rows = judged(rows_of(gain=gain))
    html = overview_html(said, rows, {}, RUN)
    assert said["headline"] in html
    assert f"class='answer {kind}'" in html
    assert (
        "<p class='evidence'>Compared with a measured high-resolution run (independent blocks);"
        " contrast all." in html
    )
    assert "; seed all" in overview_html(said, rows, {}, replace(RUN, at_rest=True))


def test_a_method_that_was_not_applied_is_said_first_and_in_no_number():
    said, rows = judged(rows_of(), not_applied=["sbl"])
    html = overview_html(said, rows, {}, RUN)
    assert html.index("sbl was not applied") < html.index("class='headline'")
    assert "srgan 10 %" in html
    assert "sbl 40 %" not in html
    assert "scan a calibration" in html
    said, rows = judged(rows_of(), not_applied=["sbl", "srgan"])
    html = overview_html(said, rows, {}, RUN)
    assert "class='answer idle'" in html
    assert (
        "No method was applied, so no detail was added: use the acquired or the B-spline maps."
        in html
    )
    assert not any(word in html for word in ("40 %", "not measured"))
    idle = [row("sbl", "tested_share", 0.01, 0.004, n=8)]
    why = overview_html(*judged(idle, not_applied=["sbl", "srgan"]), {}, RUN, ONE_LEVEL)
    assert (
        "<p class='evidence'>The reason: tested on this run one level down (12 → 6 mm), sbl"
        " explains 1 % of what" in why
    )
    assert (
        "srgan was not tested one level down (12 → 6 mm): no network was trained for this"
        " resolution. <a" in why
    )
    assert "scan a calibration" not in overview_html(said, rows, {}, replace(RUN, calibrated=True))


def test_beside_what_is_explained_stands_how_much_of_what_is_shown_is_true():
    place = {"contrast": "all", "reference": "measured", "band": "beyond"}
    rows = [
        *rows_of(),
        *(
            row("sbl", "correct_fraction", value, region=region, **place)
            for region, value in (("brain", 0.34), ("acquired40", 0.5))
        ),
    ]
    (found,) = _right_number(accuracy(rows, ["sbl"]), "sbl")
    assert (found.value, found.note) == (
        "sbl 50 %",
        "95 % interval over blocks [49, 51] %; whole brain: 34 %",
    )
    assert (
        found.label
        == "correct fraction: of the detail that sbl shows, how much is true, voxels active in the"
        " acquired run (|t| > 4)"
    )
    assert _right_number(accuracy(rows_of(), ["sbl"]), "sbl") == []
    html = overview_html(
        *judged([*rows, row("sbl", "psnr", 0.0, minus="inject", reference="measured")]), {}, RUN
    )
    assert html.index("<strong>sbl 40 %") < html.index("<strong>sbl 50 %")
    assert not any(word in html for word in ("dB", "FWHM"))


def test_checks_are_counted_once_over_all_that_is_shown():
    rows = [
        row("run", "flag_distortion", 1.0),
        row("run", "flag_broad", 0.0),
        row("raw", "flag_task_not_done", math.nan),
        row("srgan", "flag_harm", 1.0),
        row("sbl", "flag_harm", 0.0),
        row("tv", "flag_domain", 1.0),
    ]
    checks = [
        *motion_checks(RUN.displacement),
        *registration_checks({"bold_t1w_poor": True}),
        *flag_checks(rows, ["tv"]),
    ]
    failed = [
        "registration: 1 warning",
        "susceptibility distortion",
        "srgan: worse than adding no detail",
    ]
    assert [each.text for each in checks if not each.passed] == failed
    found = _check_number(checks, measured=True)
    assert (found.value, found.label, found.note) == (
        "2 of 5",
        "checks passed",
        f"failed: {'; '.join(failed)}",
    )
    html = overview_html(*judged(rows_of()), {"bold_t1w_poor": True}, RUN)
    assert "<strong>1 of 2</strong><span>checks passed</span>" in html
    assert (html.count("chip passed"), html.count("chip failed")) == (1, 1)
    assert _remedies(rows, ["tv"])[1] == "Do not interpret the fine detail of srgan."


def test_nothing_registered_is_no_check():
    assert (
        registration_checks(
            {"mask_source": "boldref", "roi_voxels": 900, "roi_fraction_in_fov": 1.0}
        )
        == []
    )
    assert overview_html(*judged(rows_of()), {"roi_voxels": 900}, RUN).count("class='chip ") == 1


def test_large_motion_is_said_before_all_else_and_is_the_next_step():
    moving = replace(RUN, displacement=(math.nan, *[1.2] * 8, 0.1))
    said, rows = judged(rows_of(), displacement=moving.displacement)
    html = overview_html(said, [*rows, row("raw", "flag_broad", 1.0)], {}, moving)
    assert html.index("89 % of the volumes moved by more than 0.5 mm") < html.index(
        "class='headline'"
    )
    assert "<strong>Next:</strong> Look at head motion first" in html


def test_checks_pass_or_fail():
    (still,) = motion_checks(RUN.displacement)
    assert still.passed
    assert still.text == "motion: mean FD 0.15 mm"
    assert not motion_checks((0.6, 0.7))[0].passed
    assert registration_checks({"bold_t1w_poor": False})[0].passed
    assert not registration_checks({"bold_t1w_poor": True})[0].passed


def test_what_to_do_next_follows_from_the_verdict():
    open_ = {"status": "not assessed"}
    assert [
        len(_next_steps({**open_, "best": name}, [], True, RUN)) for name in ("sbl", "srgan")
    ] == [2, 1]
    assert "--retrospective" in _next_steps(open_, [], True, RUN)[0]
    use = _next_steps(
        {"status": "more accurate", "best": "sbl"},
        [],
        True,
        replace(RUN, entities={"subject": "01", "session": "2", "task": "tap"}),
    )
    assert use[0].startswith("Use sub-01/ses-2/func/*desc-sbl*_statmap.nii.gz, ")
    assert "B-spline" in _next_steps({"status": "not more accurate"}, [], True, RUN)[0]
    idle = {"status": "not applied", "not_applied": ["sbl"]}
    assert "scan a calibration" in _next_steps(idle, [], True, RUN)[0]
    assert not any(
        "calibration" in step
        for step in _next_steps(idle, [], True, replace(RUN, calibrated=True))
    )
    assert (
        _next_steps({"status": "more accurate", "best": "sbl"}, ["First."], True, RUN)[0]
        == "First."
    )


def test_a_reference_without_reproducible_detail_gives_no_number():
    rows = [replace(row, value=math.nan, lower=math.nan, upper=math.nan) for row in rows_of()]
    said, rows = judged(rows)
    html = overview_html(said, rows, {}, RUN)
    assert "no reproducible detail" in said["headline"]
    assert "class='answer open'" in html
    assert "<strong>not measured</strong>" in html
    assert "--retrospective" not in html
    assert "n/a" not in html


def test_contrasts_below_zero_over_the_brain_are_counted():
    own = [
        MetricRow(
            series=series,
            statistic="ev",
            band="beyond",
            reference="measured",
            contrast=contrast,
            region=region,
            value=value,
        )
        for series, region, contrast, value in (
            ("sbl", "brain", "all", 0.3),
            ("sbl", "brain", "faceMinusOthers", -0.2),
            ("sbl", "active40", "all", -0.5),
            ("bspline", "brain", "all", -0.1),
        )
    ]
    rows = [*own, row("sbl", "verdict_applied", 1.0), row("sbl", "flag_harm", 0.0)]
    (said,) = [each.text for each in flag_checks(rows) if "detail" in each.text]
    assert said.endswith("no detail; over the brain sbl is below 0 in 1 of 2 contrasts")
    assert not any("over the brain" in each.text for each in flag_checks(rows, ["sbl"]))
