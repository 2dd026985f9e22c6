"""Runs that are combined or excluded, and their description in the dry run."""

import re

import pytest
from data.dataset import EVENTS, BidsMaker
from graphmaker import planned_call, stage_minutes

from bids_sr.cli.parser import parse_settings
from bids_sr.io.notices import Notice
from bids_sr.survey.preflight.checks import exclude_runs
from bids_sr.survey.preflight.combined_runs import group_runs
from bids_sr.survey.preflight.plan_text import choice_lines, dry_run_text
from bids_sr.workflows.call_checks import check
from bids_sr.workflows.participant import make_graph

OPTIONS = ["--sr-method", "bspline", "zerofill", "--sr-factor", "2"]


@pytest.fixture
def maker(tmp_path):
    return BidsMaker(tmp_path / "bids")


def add(maker, *names, rows=EVENTS, **bold):
    for name in names:
        maker.bold(f"sub-01_{name}", **bold)
        if rows is not None:
            maker.events(f"sub-01_{name}", rows)


def grouped(maker, tmp_path, *options):
    """Return groups, warnings by name of the run, and the text of the dry run."""
    settings, plan = planned_call(maker, tmp_path, *OPTIONS, *options)
    groups = [group for item in plan.subjects for group in group_runs(item.runs, plan)]
    warnings = {item.run: item.why for item in plan.warnings if "combined" in item.why}
    return groups, warnings, dry_run_text(plan, settings)


def test_runs_of_a_task_are_combined_in_the_order_of_their_numbers(maker, tmp_path):
    add(maker, *(f"task-tap_run-{run}" for run in (10, 1, 2)))
    add(maker, "task-other", "task-tap_acq-x_run-1")
    (group,), warnings, text = grouped(maker, tmp_path)
    assert list(group.runs) == ["run-1", "run-2", "run-10"]
    assert group.entities == {"subject": "01", "task": "tap", "datatype": "func"}
    assert group.left_out == {}
    assert not group.over_sessions
    assert warnings == {}
    assert "sub-01_task-tap: run-1, run-2, run-10 are combined\n" in text


def test_runs_are_combined_within_and_over_sessions(maker, tmp_path):
    add(maker, "ses-a_task-tap_run-1", "ses-a_task-tap_run-2", "ses-b_task-tap")
    groups, warnings, text = grouped(maker, tmp_path)
    assert [list(group.runs) for group in groups] == [
        ["run-1", "run-2"],
        ["ses-a_run-1", "ses-a_run-2", "ses-b"],
    ]
    within_session, over_sessions = groups
    assert within_session.entities["session"] == "a"
    assert "session" not in over_sessions.entities
    assert [group.over_sessions for group in groups] == [False, True]
    assert warnings == {}
    assert "ses-a_run-1, ses-a_run-2, ses-b are combined over sessions" in text


COARSE = {"zooms": (4.0, 4.0, 4.0), "n_volumes": 150}  # too many for a calibration run
ONE_TYPE = [(onset, duration, "toe") for onset, duration, _ in EVENTS]
DATASETS = {
    "one run per task": ({"task-tap": {}, "task-other_run-1": {}}, [], {}),
    "no run label": (
        {"task-tap": {}, "task-tap_run-1": {}, "task-tap_run-2": {}},
        [["run-1", "run-2"]],
        {"task-tap": "run-"},
    ),
    "one label": (
        {"task-tap": {}, "task-tap_run-2": {}},
        [],
        {"task-tap": "run-"},
    ),
    "no shared contrast": (
        {"task-tap_run-1": {}, "task-tap_run-2": {}, "task-tap_run-3": {"rows": ONE_TYPE}},
        [["run-1", "run-2"]],
        {"task-tap_run-3": "contrast"},
    ),
    "another voxel size": (
        {"task-tap_run-1": {}, "task-tap_run-2": COARSE, "task-tap_run-3": {}},
        [["run-1", "run-3"]],
        {"task-tap_run-2": "voxels of 4 x 4 x 4 mm; expected factor 2 x 2 x 1"},
    ),
    "two runs that differ": (
        {"task-tap_run-1": {}, "task-tap_run-2": COARSE},
        [],
        {"task-tap_run-2": "voxels of 4 x 4 x 4 mm; expected factor 2 x 2 x 1"},
    ),
    "two runs without a shared contrast": (
        {"task-tap_run-1": {}, "task-tap_run-2": {"rows": ONE_TYPE}},
        [],
        {"task-tap_run-2": "contrast"},
    ),
    "a session that differs": (
        {
            "ses-a_task-tap_run-1": {},
            "ses-a_task-tap_run-2": {},
            "ses-b_task-tap_run-1": COARSE,
        },
        [["run-1", "run-2"]],
        {"ses-b_task-tap_run-1": "voxels of 4 x 4 x 4 mm"},
    ),
    # maps of the runs without a session would have the same names
    "runs without a session": (
        {
            "task-tap_run-1": {},
            "task-tap_run-2": {},
            "ses-a_task-tap_run-1": {},
            "ses-a_task-tap_run-2": {},
        },
        [["run-1", "run-2"], ["run-1", "run-2", "ses-a_run-1", "ses-a_run-2"]],
        {},
    ),
    "components at rest": (
        {f"task-rest_run-{run}": {"rows": None, "n_volumes": 90} for run in (1, 2)},
        [],
        {},
    ),
}
"""Runs, the groups that are combined, and words of the warning on other runs, by name."""


@pytest.mark.parametrize("dataset", DATASETS)
def test_only_comparable_runs_are_combined_and_others_are_named(maker, tmp_path, dataset):
    runs, groups, warned = DATASETS[dataset]
    for name, options in runs.items():
        add(maker, name, **options)
    found, warnings, text = grouped(maker, tmp_path)
    assert [list(group.runs) for group in found] == groups
    assert list(warnings) == [f"sub-01_{name}" for name in warned]
    for words, warning in zip(warned.values(), warnings.values(), strict=True):
        assert words in warning
    assert ("are combined" in text) == bool(groups)


def test_correlation_maps_are_not_combined(maker, tmp_path):
    add(maker, "task-tap", "task-tap_run-1", "task-tap_run-2")
    settings, plan = planned_call(maker, tmp_path, *OPTIONS, "--set", "activation.kinds=cc")
    assert "are combined" not in dry_run_text(plan, settings)
    names = {node.step.__name__ for node in make_graph(settings, plan, "1").nodes}
    assert "combine_maps" not in names


def test_a_skipped_run_is_named(maker, tmp_path):
    add(maker, "task-tap_run-1", "task-tap_run-2")
    add(maker, "task-tap_run-3", rows=[("soon", 4.0, "thumb")])
    (group,), _, _ = grouped(maker, tmp_path)
    assert (list(group.runs), list(group.left_out)) == (["run-1", "run-2"], ["run-3"])


def test_a_run_with_other_weights_is_excluded_from_a_contrast(maker, tmp_path):
    add(maker, "task-tap_run-1", "task-tap_run-2")
    add(maker, "task-tap_run-3", rows=[(on, dur, "thumb") for on, dur, _ in EVENTS])
    (group,), warnings, _ = grouped(maker, tmp_path)
    assert list(group.runs) == ["run-1", "run-2", "run-3"]
    assert group.contrasts["thumb"] == ("run-1", "run-2", "run-3")
    # the mean of a single trial type differs from the mean of two
    assert group.contrasts.get("all", ("run-1", "run-2")) == ("run-1", "run-2")
    assert group.contrasts["little"] == ("run-1", "run-2")
    assert "little" in group.missing_contrasts["run-3"]
    assert list(warnings) == ["sub-01_task-tap_run-3"]
    assert "little" in warnings["sub-01_task-tap_run-3"]


def test_means_over_types_are_combined_over_the_types_of_both_runs(maker, tmp_path):
    types = ("thumb", "little", "index", "toe")
    for run, names in enumerate((types, types[:3]), 1):
        rows = [(6.0 + 20 * k, 8.0, names[k % len(names)]) for k in range(9)]
        add(maker, f"task-tap_run-{run}", rows=rows, n_volumes=120)
    (group,), _, text = grouped(maker, tmp_path)
    assert group.contrasts["all"] == ("run-1", "run-2")
    assert group.uncombined["toe"] == "only in run-1"
    assert "toe" not in group.contrasts
    assert "sub-01_task-tap: run-1, run-2 are combined\n" in text
    assert re.search(r"not combined: .*toeMinusOthers.*only in run-1", text)


def test_means_over_other_types_are_not_combined_and_the_types_are_named(maker, tmp_path):
    for run, names in enumerate((("thumb", "little"), ("thumb", "toe")), 1):
        rows = [(6.0 + 20 * k, 8.0, names[k % 2]) for k in range(6)]
        add(maker, f"task-tap_run-{run}", rows=rows, n_volumes=80)
    (group,), _, text = grouped(maker, tmp_path)
    assert list(group.contrasts) == ["thumb"]
    assert re.search("run-1 has little.* run-2 has toe", group.uncombined["all"])
    assert group.uncombined["all"] in text


def test_combined_runs_cost_time_and_disk(maker, tmp_path):
    add(maker, "task-tap_run-1")
    settings, single_run_plan = planned_call(maker, tmp_path, *OPTIONS)
    assert "combination of runs" not in stage_minutes(settings)
    add(maker, "task-tap_run-2")
    settings, combined_plan = planned_call(maker, tmp_path, *OPTIONS)
    assert stage_minutes(settings)["combination of runs"] > 0
    assert combined_plan.estimate.work_gb > 2 * single_run_plan.estimate.work_gb


def _refused(maker, tmp_path, *options):
    settings = parse_settings(
        [str(maker.root), str(tmp_path / "out"), "participant", *OPTIONS, *options]
    )
    return " ".join(problem.why for problem in check(settings.resolve(run_uuid="x")).problems)


def test_terms_of_a_contrast_are_runs_with_their_entities(maker, tmp_path):
    add(maker, *(f"ses-{ses}_task-tap_run-0{run}" for ses in ("pre", "post") for run in (1, 2)))
    requests = ["thumb@ses-post - thumb@ses-pre", "thumb@run-1 - little@run-2", "defaults"]
    groups, _, text = grouped(maker, tmp_path, "--contrasts", *requests)
    *sessions, over_sessions = groups
    change, other = over_sessions.over_runs.values()
    assert list(over_sessions.over_runs) == [
        "thumbSesPostMinusThumbSesPre",
        "thumbRun1MinusLittleRun2",
    ]
    assert [(term.contrast, term.weight, term.runs) for term in change] == [
        ("thumb", 1, ("ses-post_run-01", "ses-post_run-02")),
        ("thumb", -1, ("ses-pre_run-01", "ses-pre_run-02")),
    ]
    assert [(term.contrast, term.weight) for term in other] == [("thumb", 1), ("little", -1)]
    # within a session, there is no other session
    assert [list(group.over_runs) for group in sessions] == [["thumbRun1MinusLittleRun2"]] * 2
    assert "littleMinusThumb" in over_sessions.contrasts  # the default contrasts
    formula = (
        "thumbSesPostMinusThumbSesPre = thumb in ses-post_run-01 and ses-post_run-02"
        " - thumb in ses-pre_run-01 and ses-pre_run-02"
    )
    assert f"    {formula}\n" in text
    settings, plan = planned_call(maker, tmp_path, *OPTIONS, "--contrasts", *requests)
    assert ("contrasts", f"sub-01_task-tap: {formula}") in choice_lines(plan, settings)


def test_terms_of_the_same_runs_are_one_contrast_of_these_runs(maker, tmp_path):
    """Their estimates are correlated. Runs without a requested contrast get the missing one."""
    add(maker, "task-tap_run-1", "task-tap_run-2")
    request = "thumb@run-2 - little@run-2 - thumb@run-1 + little@run-1"
    (group,), *_ = grouped(maker, tmp_path, "--contrasts", f"change={request}")
    assert [(term.contrast, term.weight) for term in group.over_runs["change"]] == [
        ("thumbMinusLittle", 1),
        ("thumbMinusLittle", -1),
    ]
    assert list(group.contrasts) == ["thumbMinusLittle"]


def test_impossible_terms_are_refused(maker, tmp_path):
    add(maker, "task-tap_run-1", "task-tap_run-2")
    for request, words in (
        ("thumb@run-1 - thumb@run-3", "no run of any participant has 'thumb' in run-3"),
        ("thumb@run-1 - thumb", "a run belongs to several terms"),
        ("toe@run-1 - thumb@run-2", "'toe@run' is not a trial type"),
        ("thumb@1 - thumb@2", "thumb@ is not followed by entities"),
        ("thumb@run-1 - little@run-1", "from a single run"),
        ("thumb@run-1 - thumb@run-1", "'thumb' in run-1 cancel"),
        ("2*all@run-1 - thumb@run-1 - little@run-1 + thumb@run-2", "in run-1 cancel"),
    ):
        assert words in _refused(maker, tmp_path, "--contrasts", request)
    options = ("--contrasts", "thumb@run-1 - thumb@run-2", "--set", "activation.kinds=[cc]")
    assert "from the linear model only" in _refused(maker, tmp_path, *options)


def test_terms_of_the_only_run_of_a_session_are_not_combined_in_it(maker, tmp_path):
    add(maker, "ses-a_task-tap_run-1", "ses-b_task-tap_run-1", "ses-b_task-tap_run-2")
    request = "thumb@run-1 - little@run-1"
    (group,), *_ = grouped(maker, tmp_path, "--contrasts", request)
    (terms,) = group.over_runs.values()
    assert [term.runs for term in terms] == [("ses-a_run-1", "ses-b_run-1")]


def test_a_participant_without_a_session_is_left_out(maker, tmp_path):
    add(maker, "ses-a_task-tap", "ses-b_task-tap")
    maker.bold("sub-02_ses-a_task-tap")
    maker.events("sub-02_ses-a_task-tap", EVENTS)
    _, plan = planned_call(maker, tmp_path, *OPTIONS, "--contrasts", "thumb@ses-b - thumb@ses-a")
    assert any("sub-02 has no run with 'thumb' in ses-b" in item.why for item in plan.warnings)
    by_participant = [group_runs(item.runs, plan) for item in plan.subjects]
    assert [[list(group.over_runs) for group in groups] for groups in by_participant] == [
        [["thumbSesBMinusThumbSesA"]],
        [],
    ]
    assert "thumb" in plan.contrasts[plan.subjects[1].runs[0].bold]


@pytest.mark.parametrize(
    ("names", "directions", "request_text", "reason"),
    [
        (("ses-a_task-tap", "ses-b_task-tap"), "jj-", "thumb@ses-b-thumb@ses-a", "PhaseEncoding"),
        (("task-tap", "task-go"), "jj", "thumb@task-tap-thumb@task-go", "differ in more than ses"),
    ],
)
def test_a_contrast_whose_runs_are_not_combined_is_named(
    maker, tmp_path, names, directions, request_text, reason
):
    for name, direction in zip(names, ("j", directions[1:]), strict=True):
        add(maker, name, sidecar={"PhaseEncodingDirection": direction})
    request = ["--contrasts", "defaults", request_text]
    _, plan = planned_call(maker, tmp_path, *OPTIONS, *request)
    (warning,) = (item.why for item in plan.warnings if "is not computed" in item.why)
    assert reason in warning
    assert "thumb" in plan.contrasts[plan.runs[0].bold]
    refused = _refused(maker, tmp_path, "--contrasts", request_text)
    assert "no requested contrast" in refused
    assert reason in refused


def test_runs_with_another_phase_encoding_are_no_terms(maker, tmp_path):
    """The maps would differ by their distortion."""
    for name, direction in (("ses-a", "j"), ("ses-b", "j"), ("ses-c", "j-")):
        add(maker, f"{name}_task-tap", sidecar={"PhaseEncodingDirection": direction})
    (group,), _, text = grouped(
        maker, tmp_path, "--contrasts", "thumb@ses-c - thumb@ses-a", "defaults"
    )
    assert not group.over_runs
    assert "PhaseEncodingDirection" in group.uncombined["thumbSesCMinusThumbSesA"]
    assert "thumbSesCMinusThumbSesA (sub-01_ses-c_task-tap: PhaseEncodingDirection" in text
    assert "fMRIPrep with field maps" in text


def test_a_contrast_is_named_that_is_lost_with_a_skipped_run(maker, tmp_path):
    """A task without the skipped session has no terms to lose."""
    add(
        maker, "ses-a_task-tap", "ses-b_task-tap", "ses-a_task-go", "ses-b_task-go", "ses-a_task-x"
    )
    request = ["--contrasts", "thumb@ses-b - thumb@ses-a", "defaults"]
    _, plan = planned_call(maker, tmp_path, *OPTIONS, *request)
    run = next(run for run in plan.runs if run.stem == "sub-01_ses-b_task-go")
    problem = Notice(what=str(run.bold), why="a copy", subject="01", run=run.stem)
    reduced = exclude_runs(plan, [problem])
    (warning,) = {*reduced.warnings} - {*plan.warnings}
    assert warning.subject == "01"
    assert warning.why.endswith("are skipped (sub-01_ses-b_task-go).")
    assert {*plan.warnings} < {*reduced.warnings}


def test_sessions_with_other_trial_types_need_not_share_them(maker, tmp_path):
    """A run of the named session without the type is still warned of."""
    types = {"a_task-tap_run-1": "toe", "a_task-tap_run-2": "toe", "a_task-tap_run-3": "thumb"}
    types |= {"b_task-tap_run-1": "thumb", "b_task-tap_run-2": "thumb"}
    for name, other in types.items():
        rows = [(onset, s, other if name == "thumb" else name) for onset, s, name in EVENTS]
        add(maker, f"ses-{name}", rows=rows)
    request = ["--contrasts", "toe@ses-a - thumb@ses-b", "little"]
    groups, warnings, text = grouped(maker, tmp_path, *request)
    assert list(groups[-1].over_runs) == ["toeSesAMinusThumbSesB"]
    assert list(warnings) == ["sub-01_ses-a_task-tap_run-3"]
    assert "contrast toe: the run has no such contrast" in next(iter(warnings.values()))
    assert "toe (only in" not in text
