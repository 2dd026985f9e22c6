"""Runs that are combined or excluded, and their description in the dry run."""

import re

import pytest
from data.dataset import BidsMaker
from data.records import make_run, make_settings
from graphmaker import planned_call, stage_minutes

from bids_sr.glm.contrasts import label_types, order_types
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.inputs import Subject
from bids_sr.survey.notices import is_problem
from bids_sr.survey.preflight.checks import exclude_runs, judge_combination
from bids_sr.survey.preflight.combined_runs import format_combined_runs, group_runs
from bids_sr.survey.preflight.estimability import TypesOfRun
from bids_sr.survey.preflight.plan import Plan
from bids_sr.survey.preflight.plan_text import choice_lines, dry_run_text
from bids_sr.survey.preflight.run_contrasts import resolve_run_contrasts
from bids_sr.workflows.participant import make_graph

OPTIONS = ["--sr-method", "bspline", "zerofill", "--sr-factor", "2"]
SETTINGS = make_settings(*OPTIONS)
TYPES = ("thumb", "little")


def resolve(runs, requests=()):
    """Choose the contrasts of runs, given as a run or as run and trial types by name."""
    described = {}
    for run, types in runs:
        if run.events is not None:
            described[run.bold] = TypesOfRun.all_described(order_types(types))
    all_types = order_types(name for types in described.values() for name in types.modeled)
    labels = dict.fromkeys(described, label_types(all_types))
    return resolve_run_contrasts(described, requests, labels)


def make_runs(*names, types=TYPES, **fields):
    """Return runs of sub-01 with trial types."""
    return [(make_run(f"sub-01_{name}", **fields), types) for name in names]


def plan_runs(runs, *requests, **fields):
    """Return a plan of these runs."""
    choice = resolve(runs, requests)
    assert not any(map(is_problem, choice.notices))
    by_label = {}
    for run, _ in runs:
        by_label.setdefault(run.entities["subject"], []).append(run)
    return Plan(
        subjects=tuple(
            Subject(label=label, t1w=(), runs=tuple(own)) for label, own in by_label.items()
        ),
        contrasts=choice.value.by_run,
        over_runs=choice.value.over_runs,
        warnings=choice.notices,
        **fields,
    )


def grouped(plan):
    """Return groups, warnings by name of the run, and lines of the dry run."""
    groups = [group for item in plan.subjects for group in group_runs(item.runs, plan)]
    notices = judge_combination(plan, SETTINGS)
    lines = [line for item in plan.subjects for line in format_combined_runs(item.runs, plan)]
    return groups, {notice.run: notice.why for notice in notices}, "\n".join([*lines, ""])


def test_runs_of_a_task_are_combined_in_the_order_of_their_numbers():
    names = [f"task-tap_run-{run}" for run in (10, 1, 2)]
    plan = plan_runs(make_runs(*names, "task-other", "task-tap_acq-x_run-1"))
    (group,), warnings, text = grouped(plan)
    assert list(group.runs) == ["run-1", "run-2", "run-10"]
    assert group.entities == {"subject": "01", "task": "tap", "datatype": "func"}
    assert group.left_out == {}
    assert not group.over_sessions
    assert warnings == {}
    assert text == "sub-01_task-tap: run-1, run-2, run-10 are combined\n"


def test_runs_are_combined_within_and_over_sessions():
    names = "ses-a_task-tap_run-1", "ses-a_task-tap_run-2", "ses-b_task-tap"
    groups, warnings, text = grouped(plan_runs(make_runs(*names)))
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


COARSE = {"zooms": (4.0, 4.0, 4.0)}
ONE_TYPE = {"types": ["toe"]}
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
        {"task-tap_run-1": {}, "task-tap_run-2": {}, "task-tap_run-3": ONE_TYPE},
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
        {"task-tap_run-1": {}, "task-tap_run-2": ONE_TYPE},
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
        {f"task-rest_run-{run}": {"has_events": False} for run in (1, 2)},
        [],
        {},
    ),
}
"""Runs, the groups that are combined, and words of the warning on other runs, by name."""


@pytest.mark.parametrize("dataset", DATASETS)
def test_only_comparable_runs_are_combined_and_others_are_named(dataset):
    runs, groups, warned = DATASETS[dataset]
    plan = plan_runs([made for name, fields in runs.items() for made in make_runs(name, **fields)])
    found, warnings, text = grouped(plan)
    assert [list(group.runs) for group in found] == groups
    assert list(warnings) == [f"sub-01_{name}" for name in warned]
    for words, warning in zip(warned.values(), warnings.values(), strict=True):
        assert words in warning
    assert ("are combined" in text) == bool(groups)


def test_the_plan_of_two_runs_combines_maps_of_the_linear_model(tmp_path):
    """Their combination costs time and disk space."""
    maker = BidsMaker(tmp_path / "bids")
    maker.bold("sub-01_task-tap_run-1")
    maker.events("sub-01_task-tap_run-1")
    settings, single_run_plan = planned_call(maker, tmp_path, *OPTIONS)
    assert "combination of runs" not in stage_minutes(settings)
    maker.bold("sub-01_task-tap_run-2")
    maker.events("sub-01_task-tap_run-2")
    settings, combined_plan = planned_call(maker, tmp_path, *OPTIONS)
    assert stage_minutes(settings)["combination of runs"] > 0
    assert combined_plan.estimate.work_gb > 2 * single_run_plan.estimate.work_gb
    settings, plan = planned_call(maker, tmp_path, *OPTIONS, "--set", "activation.kinds=cc")
    assert "are combined" not in dry_run_text(plan, settings)
    names = {node.step.__name__ for node in make_graph(settings, plan, "1").nodes}
    assert "combine_maps" not in names


def test_a_skipped_run_is_named():
    skipped = {"sub-01_task-tap_run-3": (Notice(what="table", why="no onset"),)}
    plan = plan_runs(make_runs("task-tap_run-1", "task-tap_run-2"), skipped=skipped)
    (group,), *_ = grouped(plan)
    assert list(group.runs) == ["run-1", "run-2"]
    assert group.left_out == {"run-3": "the run was skipped: no onset"}


def test_a_run_with_other_weights_is_excluded_from_a_contrast():
    runs = make_runs("task-tap_run-1", "task-tap_run-2")
    runs += make_runs("task-tap_run-3", types=["thumb"])
    (group,), warnings, _ = grouped(plan_runs(runs))
    assert list(group.runs) == ["run-1", "run-2", "run-3"]
    assert group.contrasts["thumb"] == ("run-1", "run-2", "run-3")
    # the mean of a single trial type differs from the mean of two
    assert group.contrasts.get("all", ("run-1", "run-2")) == ("run-1", "run-2")
    assert group.contrasts["little"] == ("run-1", "run-2")
    assert "little" in group.missing_contrasts["run-3"]
    assert list(warnings) == ["sub-01_task-tap_run-3"]
    assert "little" in warnings["sub-01_task-tap_run-3"]


def test_means_over_types_are_combined_over_the_types_of_both_runs():
    types = ("thumb", "little", "index", "toe")
    runs = make_runs("task-tap_run-1", types=types) + make_runs("task-tap_run-2", types=types[:3])
    (group,), _, text = grouped(plan_runs(runs))
    assert group.contrasts["all"] == ("run-1", "run-2")
    assert group.uncombined["toe"] == "only in run-1"
    assert "toe" not in group.contrasts
    assert "sub-01_task-tap: run-1, run-2 are combined\n" in text
    assert re.search(r"not combined: .*toeMinusOthers.*only in run-1", text)


def test_means_over_other_types_are_not_combined_and_the_types_are_named():
    runs = make_runs("task-tap_run-1") + make_runs("task-tap_run-2", types=("thumb", "toe"))
    (group,), _, text = grouped(plan_runs(runs))
    assert list(group.contrasts) == ["thumb"]
    assert re.search("run-1 has little.* run-2 has toe", group.uncombined["all"])
    assert group.uncombined["all"] in text


def test_terms_of_a_contrast_are_runs_with_their_entities():
    names = [f"ses-{ses}_task-tap_run-0{run}" for ses in ("pre", "post") for run in (1, 2)]
    requests = ["thumb@ses-post - thumb@ses-pre", "thumb@run-1 - little@run-2", "defaults"]
    plan = plan_runs(make_runs(*names), *requests)
    groups, _, text = grouped(plan)
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
    assert f"  {formula}\n" in text
    assert ("contrasts", f"sub-01_task-tap: {formula}") in choice_lines(plan, SETTINGS)


def test_terms_of_the_same_runs_are_one_contrast_of_these_runs():
    """Their estimates are correlated. Runs without a requested contrast get the missing one."""
    request = "change=thumb@run-2 - little@run-2 - thumb@run-1 + little@run-1"
    (group,), *_ = grouped(plan_runs(make_runs("task-tap_run-1", "task-tap_run-2"), request))
    assert [(term.contrast, term.weight) for term in group.over_runs["change"]] == [
        ("thumbMinusLittle", 1),
        ("thumbMinusLittle", -1),
    ]
    assert list(group.contrasts) == ["thumbMinusLittle"]


@pytest.mark.parametrize(
    ("request_text", "words"),
    [
        ("thumb@run-1 - thumb@run-3", "no run of any participant has 'thumb' in run-3"),
        ("thumb@run-1 - thumb", "a run belongs to several terms"),
        ("toe@run-1 - thumb@run-2", "'toe@run' is not a trial type"),
        ("thumb@1 - thumb@2", "thumb@ is not followed by entities"),
        ("thumb@run-1 - little@run-1", "from a single run"),
        ("thumb@run-1 - thumb@run-1", "'thumb' in run-1 cancel"),
        ("2*all@run-1 - thumb@run-1 - little@run-1 + thumb@run-2", "in run-1 cancel"),
    ],
)
def test_impossible_terms_are_refused(request_text, words):
    choice = resolve(make_runs("task-tap_run-1", "task-tap_run-2"), [request_text])
    problems = [notice for notice in choice.notices if is_problem(notice)]
    assert words in " ".join(problem.why for problem in problems)
    assert {problem.code for problem in problems} == {"option"}


def test_contrasts_over_runs_need_a_linear_model():
    plan = plan_runs(make_runs("task-tap_run-1", "task-tap_run-2"), "thumb@run-1 - thumb@run-2")
    (problem,) = judge_combination(plan, make_settings("--set", "activation.kinds=[cc]"))
    assert "from the linear model only" in problem.why


def test_terms_of_the_only_run_of_a_session_are_not_combined_in_it():
    names = "ses-a_task-tap_run-1", "ses-b_task-tap_run-1", "ses-b_task-tap_run-2"
    plan = plan_runs(make_runs(*names), "thumb@run-1 - little@run-1", "thumb")
    (session, group), *_ = grouped(plan)
    assert not session.over_runs
    (terms,) = group.over_runs.values()
    assert [term.runs for term in terms] == [("ses-a_run-1", "ses-b_run-1")]


def test_a_participant_without_a_session_is_left_out():
    runs = make_runs("ses-a_task-tap", "ses-b_task-tap")
    runs.append((make_run("sub-02_ses-a_task-tap"), TYPES))
    plan = plan_runs(runs, "thumb@ses-b - thumb@ses-a")
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
def test_a_contrast_whose_runs_are_not_combined_is_named(names, directions, request_text, reason):
    runs = []
    for name, direction in zip(names, ("j", directions[1:]), strict=True):
        runs += make_runs(name, sidecar={"PhaseEncodingDirection": direction})
    plan = plan_runs(runs, "defaults", request_text)
    settings = make_settings("--contrasts", "defaults", request_text)
    notices = [*judge_combination(plan, settings)]
    (warning,) = (item.why for item in notices if "is not computed" in item.why)
    assert reason in warning
    assert not any(map(is_problem, notices))
    assert "thumb" in plan.contrasts[plan.runs[0].bold]
    plan = plan_runs(runs, request_text)
    refused = [*judge_combination(plan, make_settings("--contrasts", request_text))][-1]
    assert refused.level == "error"
    assert "no requested contrast" in refused.why
    assert reason in refused.why


def test_runs_with_another_phase_encoding_are_no_terms():
    """The maps would differ by their distortion."""
    runs = []
    for name, direction in (("ses-a", "j"), ("ses-b", "j"), ("ses-c", "j-")):
        runs += make_runs(f"{name}_task-tap", sidecar={"PhaseEncodingDirection": direction})
    (group,), _, text = grouped(plan_runs(runs, "thumb@ses-c - thumb@ses-a", "defaults"))
    assert not group.over_runs
    assert "PhaseEncodingDirection" in group.uncombined["thumbSesCMinusThumbSesA"]
    assert "thumbSesCMinusThumbSesA (sub-01_ses-c_task-tap: PhaseEncodingDirection" in text
    assert "fMRIPrep with field maps" in text


def test_a_contrast_is_named_that_is_lost_with_a_skipped_run():
    """A task without the skipped session has no terms to lose."""
    names = "ses-a_task-tap", "ses-b_task-tap", "ses-a_task-go", "ses-b_task-go", "ses-a_task-x"
    plan = plan_runs(make_runs(*names), "thumb@ses-b - thumb@ses-a", "defaults")
    run = next(run for run in plan.runs if run.stem == "sub-01_ses-b_task-go")
    problem = Notice(what=str(run.bold), why="a copy", subject="01", run=run.stem)
    reduced = exclude_runs(plan, [problem])
    (warning,) = {*reduced.warnings} - {*plan.warnings}
    assert warning.subject == "01"
    assert warning.why.endswith("are skipped (sub-01_ses-b_task-go).")
    assert {*plan.warnings} <= {*reduced.warnings}


def test_sessions_with_other_trial_types_need_not_share_them():
    """A run of the named session without the type is still warned of."""
    runs = make_runs("ses-a_task-tap_run-1", "ses-a_task-tap_run-2", types=("toe", "little"))
    runs += make_runs("ses-a_task-tap_run-3", "ses-b_task-tap_run-1", "ses-b_task-tap_run-2")
    groups, warnings, text = grouped(plan_runs(runs, "toe@ses-a - thumb@ses-b", "little"))
    assert list(groups[-1].over_runs) == ["toeSesAMinusThumbSesB"]
    assert list(warnings) == ["sub-01_ses-a_task-tap_run-3"]
    assert "contrast toe: the run has no such contrast" in next(iter(warnings.values()))
    assert "toe (only in" not in text
