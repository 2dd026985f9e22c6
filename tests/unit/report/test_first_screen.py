"""The first screen of a run shows the values of its rows and leads to the next step."""

import math
from dataclasses import replace

import pytest
from data.page import Page, read_numbers
from data.rows import judge_rows, make_detail_row, make_row, make_run_rows, make_tested_rows

from bids_sr.evaluation.self_test import EARLIER_ACCURACY, UNCALIBRATED_RANGE
from bids_sr.metrics.flags import FLAGS
from bids_sr.report.overview import MapFiles, RunFacts, overview_html

RUN = RunFacts(
    entities={"subject": "01", "task": "tap", "run": "2"},
    acquired_mm=(6, 6, 3.3),
    super_resolved_mm=(3, 3, 3.3),
    displacement=(math.nan, 0.1, 0.2),
)
MOVED = (math.nan, *[1.2] * 8, 0.1)
SELF_TEST = {
    "from_mm": [12, 12, 3.3],
    "to_mm": [6, 6, 3.3],
    "calibrated": False,
    "series": {"srgan": {"reason": "no network was trained for this resolution"}},
}
SCORES = [make_row("sbl", "tested_share", 0.27, 0.04, n=8), make_row("sdmod", "tested_share", 0.1)]


def first_screen(rows, registration=(), run=RUN, **options) -> Page:
    """Return the first screen of a run; see `judge_rows` for options."""
    verdict = judge_rows(rows, ["srgan", "sbl"], margin=0.0, **options)
    html = overview_html(
        verdict.to_json(), verdict.evidence, [*rows, *verdict.rows], dict(registration), run
    )
    return Page(html)


def untested(calibrated=False, used=False) -> Page:
    """Return the first screen of a run without a reference, which has only the self-test."""
    facts = {**SELF_TEST, "calibrated": used}
    return first_screen(SCORES, run=replace(RUN, calibrated=calibrated), self_test_facts=facts)


def test_the_header_names_run_volumes_resolution_and_origin():
    run = replace(RUN, described="simulated data", only_run=True)
    page = first_screen(make_run_rows(), run=run)
    (heading,) = page.headings
    for part in ("sub-01", "task tap, run 2", "3 volumes", "6 × 6 × 3.3 mm → 3 × 3 × 3.3 mm"):
        assert part in heading
    assert "Simulated data" in page.text
    assert "only run of its task" in page.text
    assert "only run" not in first_screen(make_run_rows()).text
    for name in ("sbl: sparse Bayesian", "srgan: SRGAN"):
        assert page.text.count(name) == 1


@pytest.mark.parametrize(
    ("acquired_mm", "new_mm", "words"),
    [
        ((6, 6, 3.3), (3, 3, 3.3), "measured at 3 mm"),
        ((6, 6, 3.3), (3, 2, 3.3), "measured at 3 × 2 mm"),
        ((3, 3, 3.3), (3, 3, 3.3), "measured at 3 × 3 × 3.3 mm"),
    ],
)
def test_the_reference_is_named_with_the_voxel_sizes_that_changed(acquired_mm, new_mm, words):
    run = replace(RUN, acquired_mm=acquired_mm, super_resolved_mm=new_mm)
    assert words in first_screen(make_run_rows(), run=run).text


def test_known_activation_is_no_reference_in_halves():
    page = first_screen([replace(row, reference="truth") for row in make_run_rows()])
    assert "known activation" in page.text
    assert "half of the task blocks" not in page.text


@pytest.mark.parametrize(
    ("at_rest", "map_noun", "unit"), [(False, "contrast", "blocks"), (True, "seed", "segments")]
)
def test_maps_of_a_run_at_rest_are_of_seeds(at_rest, map_noun, unit):
    page = first_screen(make_run_rows(), run=replace(RUN, at_rest=at_rest))
    assert f"the {map_noun} is all" in page.text
    assert f"over {unit}:" in page.text
    assert ("task blocks" in page.text) is not at_rest


def test_the_card_of_accuracy_has_the_values_of_all_series_that_a_reader_compares():
    rows = [
        *make_run_rows(),
        make_detail_row("zerofill", 0.05, "acquired40"),
        make_detail_row("sdmod", 0.37, "acquired40"),
        make_detail_row("sbl", 0.34, "brain", "correct_fraction"),
        make_detail_row("sbl", 0.5, "acquired40", "correct_fraction"),
    ]
    level, correct, *_ = first_screen(rows).cards
    assert (level.value, correct.value) == ("40 %", "50 %")
    assert "sbl" in level.label
    region, ends, spline, strongest, other, brain = level.facts
    assert "|t| > 4" in region
    assert read_numbers(ends)[1:] == [39, 41]
    assert (spline, strongest, other) == (
        "B-spline interpolation: 2 %",
        "Strongest baseline (sdmod): 37 %",
        "srgan: 10 %",
    )
    assert read_numbers(brain) == [20, 19, 21]
    assert read_numbers(correct.facts[1])[1:] == [49, 51]
    assert read_numbers(correct.facts[2]) == [34, 33, 35]


def test_the_strongest_baseline_is_named_only_if_it_is_not_b_spline():
    rows = [
        *make_run_rows(),
        make_detail_row("zerofill", 0.001, "acquired40"),
        make_detail_row("sdmod", math.nan, "acquired40"),
    ]
    assert "Strongest" not in first_screen(rows).text
    alone = first_screen(make_run_rows(sbl=0.2, bspline=0.01)).cards[0]
    assert not any("srgan" in fact for fact in alone.facts)


@pytest.mark.parametrize(
    ("value", "shown", "state"),
    [(0.4, "40 %", "recovered"), (-0.3, "−30 %", "not supported"), (-1.64, "below −100 %", "not")],
)
def test_detail_below_zero_is_shown_with_its_state(value, shown, state):
    rows = [
        replace(row, value=value, lower=value - 0.1, upper=value + 0.1) for row in make_run_rows()
    ]
    card = first_screen(rows).cards[0]
    assert card.value == shown
    assert card.label.rpartition(": ")[2].startswith(state)
    assert card.facts[-1].startswith(f"Whole brain: {shown}")


def test_correlations_are_not_percentages():
    place = {"reference": "measuredMap", "statistic": "r"}
    rows = [make_detail_row("sbl", 0.61, **place), make_detail_row("bspline", 0.4, **place)]
    card = first_screen(rows).cards[0]
    assert (card.value, card.facts[2]) == ("0.610", "B-spline interpolation: 0.400")
    assert "correlation" in card.label
    assert not any("%" in fact for fact in card.facts[2:])


def test_an_unmeasured_run_shows_earlier_results_and_how_to_measure():
    page = untested()
    assert page.status == "open"
    card, checks = page.cards
    assert card.value == "not measured"
    (fact,) = card.facts
    for text in (EARLIER_ACCURACY[False].active, EARLIER_ACCURACY[False].brain):
        assert text in fact
    assert "do not measure accuracy" in checks.facts[-1]
    assert SELF_TEST["series"]["srgan"]["reason"] in page.text
    for part in ("--retrospective", "3 × 3 × 3.3 mm", "6 × 6 × 3.3 mm", "12 × 12 × 3.3 mm"):
        assert part in page.steps
    assert "acquire a calibration run" in page.steps
    assert EARLIER_ACCURACY[True].active in page.steps
    assert UNCALIBRATED_RANGE in page.steps
    for claim in ("27 %", "sdmod", "better", "▲", "▼", "reproduc"):
        assert claim not in page.text


def test_earlier_results_are_of_calibrated_runs_only_if_the_calibration_was_used():
    for used in (True, False):
        page = untested(calibrated=True, used=used)
        assert EARLIER_ACCURACY[used].active in page.cards[0].facts[0]
        assert "calibration run" not in page.steps


@pytest.mark.parametrize(("gain", "status"), [(0.1, "good"), (0.0, "bad")])
def test_the_lines_of_the_verdict_are_repeated_around_the_table(gain, status):
    rows = make_run_rows(gain)
    page = first_screen(rows)
    verdict = judge_rows(rows, ["srgan", "sbl"], margin=0.0).to_json()
    assert page.status == status
    assert [text for _, text in page.lines] == [line["text"] for line in verdict["lines"]]
    marks = {text.split()[0]: mark for mark, text in page.lines[1:]}
    assert (marks["sbl"], marks["srgan"]) == ("✓" if status == "good" else "✗", "✗")
    first, second = page.lines[0][1], page.lines[1][1]
    assert page.text.index(first) < page.text.index("What you may") < page.text.index(second)


def test_a_method_that_was_not_applied_comes_first_and_has_no_number():
    page = first_screen(make_run_rows(), not_applied=["sbl"])
    assert page.text.index("sbl was not applied") < page.text.index(page.lines[0][1])
    assert page.cards[0].value == "10 %"
    assert "Acquire a calibration run" in page.steps
    idle = first_screen(make_run_rows(), not_applied=["sbl", "srgan"])
    assert idle.status == "idle"
    assert "40 %" not in idle.text
    assert [card.label for card in idle.cards] == ["checks passed"]
    run = replace(RUN, calibrated=True)
    assert "calibration" not in first_screen(make_run_rows(), run=run, not_applied=["sbl"]).steps
    scores = [make_row("sbl", "tested_share", 0.01, 0.004)]
    unapplied = first_screen(scores, not_applied=["sbl", "srgan"], self_test_facts=SELF_TEST)
    assert unapplied.text.count(SELF_TEST["series"]["srgan"]["reason"]) == 1


def test_a_reference_without_reproducible_detail_shows_no_number():
    rows = [
        replace(row, value=math.nan, lower=math.nan, upper=math.nan) for row in make_run_rows()
    ]
    page = first_screen(rows)
    assert page.cards[0].value == "not measured"
    assert "no reproducible detail" in page.cards[0].label
    assert page.status == "open"
    assert "--retrospective" not in page.steps
    assert "n/a" not in page.text


REGISTERED = {"bold_t1w_poor": False}
DISTORTED = {("run", "distortion"): 1.0, ("run", "broad"): 0.0}
HARMFUL = {("srgan", "harm"): 1.0, ("sbl", "harm"): 0.0}


@pytest.mark.parametrize(
    ("displacement", "registration", "flags", "failed"),
    [
        (RUN.displacement, {}, {}, []),
        (RUN.displacement, {"roi_voxels": 900}, {("acquired", "task_not_done"): math.nan}, []),
        (MOVED, {}, {}, ["Head motion"]),
        ((0.6, 0.7), {}, {}, ["Head motion"]),
        (RUN.displacement, {"bold_t1w_poor": True}, {}, ["Registration: 1 warning"]),
        (
            RUN.displacement,
            {"bold_t1w_poor": True, "bold_pair_poor": True},
            {},
            ["Registration: 2 warnings"],
        ),
        (RUN.displacement, REGISTERED, DISTORTED, [FLAGS["distortion"].failed]),
        (RUN.displacement, REGISTERED, HARMFUL, [FLAGS["harm"].failed]),
    ],
)
def test_every_check_is_counted_once_and_failed_flags_come_first(
    displacement, registration, flags, failed
):
    rows = [
        *make_run_rows(),
        *(make_row(series, f"flag_{name}", value) for (series, name), value in flags.items()),
    ]
    page = first_screen(rows, registration, replace(RUN, displacement=displacement))
    not_passed = [text for text, passed in page.checks.items() if not passed]
    assert len(not_passed) == len(failed)
    assert all(text.startswith(start) for text, start in zip(not_passed, failed, strict=True))
    card = page.cards[-1]
    assert card.value == f"{len(page.checks) - len(failed)} of {len(page.checks)}"
    assert card.facts == [f"Failed: {text}" for text in not_passed]
    flag_results = [
        passed
        for text, passed in page.checks.items()
        if not text.startswith(("Head", "Registration"))
    ]
    assert flag_results == sorted(flag_results)
    is_registered = any(text.startswith("Registration") for text in page.checks)
    assert is_registered is any(name.startswith("bold_") for name in registration)
    if flags is HARMFUL:
        assert "(contrast all)" in not_passed[0]
        assert not_passed[0].endswith(": srgan")
        assert "srgan maps" in page.steps
    if failed == ["Head motion"]:
        assert "0.5 mm in" in not_passed[0]


def test_flags_of_unapplied_methods_are_ignored_and_the_self_test_is_named_as_basis():
    rows = [*make_run_rows(), make_row("srgan", "flag_harm", 1.0)]
    assert not all(first_screen(rows).checks.values())
    assert all(first_screen(rows, not_applied=["srgan"]).checks.values())
    assert any(text.endswith("(self-test)") for text in untested().checks)


def test_the_check_of_wrong_detail_names_its_regions():
    rows = [
        replace(row, value=-0.2, lower=-0.3, upper=-0.1)
        if (row.series, row.region, row.minus) == ("sbl", "brain", "n/a")
        else row
        for row in make_run_rows()
    ]
    assert any(text.endswith("sbl in whole brain") for text in first_screen(rows).checks)


def test_large_motion_comes_first_and_is_the_first_step():
    rows = [*make_run_rows(), make_row("acquired", "flag_broad", 1.0)]
    page = first_screen(rows, run=replace(RUN, displacement=MOVED), displacement=MOVED)
    assert page.text.index("89 %") < page.text.index(page.lines[0][1])
    assert page.steps.index("head motion") < page.steps.index(FLAGS["broad"].remedy)
    assert "--level" not in page.steps, "two steps are enough"


def test_the_next_step_follows_from_the_verdict():
    least, smoothed = (
        MapFiles(
            fwhm_mm=fwhm_mm,
            maps=f"a_stat-effect_{fwhm_mm}*.nii.gz",
            total_sds=f"a_stat-sdTotal_{fwhm_mm}*.nii.gz",
            sign_reliable=f"a_label-*_{fwhm_mm}SignReliable_mask.nii.gz",
            size_known=f"a_label-*_{fwhm_mm}SizeKnown_mask.nii.gz",
        )
        for fwhm_mm in (0.0, 5.0)
    )
    stored = replace(RUN, files=[least, smoothed])
    page = first_screen(make_run_rows(), run=stored)
    unsmoothed = [least.maps, least.total_sds, least.sign_reliable, least.size_known]
    assert [code.text for code in page.all("code")] == [*unsmoothed, smoothed.sign_reliable]
    assert "5 mm" in page.steps
    only_t = MapFiles(fwhm_mm=0.0, maps="a_stat-t_*.nii.gz")
    page = first_screen(make_run_rows(), run=replace(stored, files=[only_t]))
    assert [code.text for code in page.all("code")] == [only_t.maps]
    assert "--level standard" in first_screen(make_run_rows()).steps
    undecided = first_screen(make_run_rows(gain=0.0), run=stored)
    assert not undecided.all("code"), "other series may be as accurate"
    assert "B-spline maps" not in undecided.steps
    none = [replace(row, value=0.0, lower=-0.1, upper=0.1) for row in make_run_rows()]
    assert "B-spline maps" in first_screen(none, run=stored).steps
    tested = first_screen([*SCORES, *make_tested_rows()], run=stored, self_test_facts=SELF_TEST)
    assert least.maps in tested.steps
    assert "--retrospective" in tested.steps


@pytest.mark.parametrize(("n_wrong", "has_names"), [(0, False), (1, True), (9, False)])
def test_a_caution_names_the_contrasts_with_wrong_detail_of_other_methods(n_wrong, has_names):
    rows = [*make_run_rows(), make_detail_row("srgan", 0.3, contrast="house")]
    rows += [make_detail_row("srgan", -0.21, contrast=f"c{k}") for k in range(n_wrong)]
    # neither active voxels nor another reference count
    rows += [
        make_detail_row("srgan", -0.5, "active40", contrast="x"),
        make_detail_row("srgan", -0.5, contrast="y", reference="truth"),
    ]
    text = first_screen(rows).text
    assert (f"{n_wrong} of {n_wrong + 2} contrasts" in text) is bool(n_wrong)
    assert ("c0 −21 %" in text) is has_names
    assert ("every contrast other than all, house" in text) is (n_wrong == 9)


def test_wrong_detail_of_the_best_method_fails_the_check_of_added_detail():
    rows = [*make_run_rows(), make_detail_row("sbl", -0.21, contrast="faces")]
    page = first_screen(rows)
    (failed,) = (text for text, passed in page.checks.items() if not passed)
    assert "sbl" in failed
    assert "1 of 2 contrasts" in failed
    assert len(page.checks) == 2, "head motion, and added detail once"
