"""Runs that are combined or excluded, and their description in the dry run."""

import pytest
from data.dataset import EVENTS, BidsMaker
from graphmaker import planned_call

from bids_sr.combination.checks import group_runs, is_only_run, list_uncombined_runs
from bids_sr.preflight.plan_text import dry_run_text

OPTIONS = ["--sr-method", "bspline", "zerofill", "--sr-factor", "2"]


@pytest.fixture
def maker(tmp_path):
    return BidsMaker(tmp_path / "bids")


def add(maker, *names, rows=EVENTS, **bold):
    for name in names:
        maker.bold(f"sub-01_{name}", **bold)
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


def test_a_single_run_is_not_combined(maker, tmp_path):
    add(maker, "task-tap", "task-other_run-1")
    groups, warnings, text = grouped(maker, tmp_path)
    assert groups == []
    assert warnings == {}
    assert "combined" not in text


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


def test_a_run_without_run_label_next_to_labeled_runs_is_excluded(maker, tmp_path):
    add(maker, "task-tap", "task-tap_run-1", "task-tap_run-2")
    (group,), warnings, text = grouped(maker, tmp_path)
    assert list(group.runs) == ["run-1", "run-2"]
    assert list(warnings) == ["sub-01_task-tap"]
    assert "has no run- entity" in warnings["sub-01_task-tap"]
    assert "Add run- to its name" in text


def test_a_single_labeled_run_is_not_combined(maker, tmp_path):
    add(maker, "task-tap", "task-tap_run-2")
    groups, warnings, _ = grouped(maker, tmp_path)
    assert groups == []
    assert list(warnings) == ["sub-01_task-tap"]


def test_a_run_with_other_weights_is_excluded_from_a_contrast(maker, tmp_path):
    add(maker, "task-tap_run-1", "task-tap_run-2")
    add(maker, "task-tap_run-3", rows=[(on, dur, "thumb") for on, dur, _ in EVENTS])
    (group,), warnings, _ = grouped(maker, tmp_path)
    assert list(group.runs) == ["run-1", "run-2", "run-3"]
    assert group.contrasts["thumb"] == ("run-1", "run-2", "run-3")
    # the mean of a single trial type differs from the mean of two
    assert group.contrasts.get("all", ("run-1", "run-2")) == ("run-1", "run-2")
    assert group.contrasts["little"] == ("run-1", "run-2")
    assert group.missing_contrasts["run-3"]["little"] == "the run has no such contrast"
    assert list(warnings) == ["sub-01_task-tap_run-3"]
    assert "only in part: contrast little" in warnings["sub-01_task-tap_run-3"]


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
    (line,) = (line for line in text.splitlines() if "not combined:" in line and "toe" in line)
    assert "toeMinusOthers" in line
    assert line.endswith("(only in run-1)")


def test_means_over_other_types_are_not_combined_and_the_types_are_named(maker, tmp_path):
    for run, names in enumerate((("thumb", "little"), ("thumb", "toe")), 1):
        rows = [(6.0 + 20 * k, 8.0, names[k % 2]) for k in range(6)]
        add(maker, f"task-tap_run-{run}", rows=rows, n_volumes=80)
    (group,), _, text = grouped(maker, tmp_path)
    assert list(group.contrasts) == ["thumb"]
    reason = "the weights of the trial types differ between runs: only run-1 has little, only"
    assert group.uncombined["all"] == f"{reason} run-2 has toe"
    assert f"not combined: all ({reason} run-2 has toe)" in text


def test_a_run_without_a_shared_contrast_is_excluded(maker, tmp_path):
    add(maker, "task-tap_run-1", "task-tap_run-2")
    add(maker, "task-tap_run-3", rows=[(on, dur, "toe") for on, dur, _ in EVENTS])
    (group,), warnings, _ = grouped(maker, tmp_path)
    assert list(group.runs) == ["run-1", "run-2"]
    assert "no such contrast" in group.left_out["run-3"]
    assert "not combined with the other runs" in warnings["sub-01_task-tap_run-3"]


def test_a_run_with_another_voxel_size_is_excluded(maker, tmp_path):
    add(maker, "task-tap_run-1", "task-tap_run-3")
    # too many volumes for a calibration run
    add(maker, "task-tap_run-2", zooms=(4.0, 4.0, 4.0), n_volumes=150)
    (group,), warnings, _ = grouped(maker, tmp_path)
    assert list(group.runs) == ["run-1", "run-3"]
    assert "voxels of 4 x 4 x 4 mm; expected factor 2 x 2 x 1" in group.left_out["run-2"]
    assert list(warnings) == ["sub-01_task-tap_run-2"]


def test_two_runs_that_differ_are_not_combined_and_the_second_is_named(maker, tmp_path):
    add(maker, "task-tap_run-1")
    add(maker, "task-tap_run-2", zooms=(4.0, 4.0, 4.0), n_volumes=150)
    add(maker, "task-other_run-1")
    add(maker, "task-other_run-2", rows=[(on, dur, "toe") for on, dur, _ in EVENTS])
    groups, warnings, _ = grouped(maker, tmp_path)
    assert groups == []
    assert list(warnings) == ["sub-01_task-other_run-2", "sub-01_task-tap_run-2"]
    assert "no contrast in common" in warnings["sub-01_task-other_run-2"]
    text = warnings["sub-01_task-tap_run-2"]
    assert "not combined with the other runs of its task" in text
    assert "voxels of 4 x 4 x 4 mm; expected factor 2 x 2 x 1" in text
    assert text.endswith("as in run-1.")


def test_a_session_that_cannot_be_combined_is_named(maker, tmp_path):
    add(maker, "ses-a_task-tap_run-1", "ses-a_task-tap_run-2")
    add(maker, "ses-b_task-tap_run-1", zooms=(4.0, 4.0, 4.0), n_volumes=150)
    (group,), warnings, _ = grouped(maker, tmp_path)
    assert group.entities["session"] == "a"
    assert list(warnings) == ["sub-01_ses-b_task-tap_run-1"]


def test_runs_without_session_label_are_only_combined_over_sessions(maker, tmp_path):
    add(maker, "task-tap_run-1", "task-tap_run-2")
    add(maker, "ses-a_task-tap_run-1", "ses-a_task-tap_run-2")
    groups, _, _ = grouped(maker, tmp_path)
    # maps of the runs without a session would have the same names
    assert [list(group.entities) for group in groups] == [
        ["subject", "session", "task", "datatype"],
        ["subject", "task", "datatype"],
    ]
    assert list(groups[1].runs) == ["run-1", "run-2", "ses-a_run-1", "ses-a_run-2"]


def test_a_skipped_run_is_named(maker, tmp_path):
    add(maker, "task-tap_run-1", "task-tap_run-2")
    add(maker, "task-tap_run-3", rows=[("soon", 4.0, "thumb")])
    (group,), _, _ = grouped(maker, tmp_path)
    assert list(group.runs) == ["run-1", "run-2"]
    assert "the run was skipped: " in group.left_out["run-3"]


def test_components_of_runs_at_rest_are_not_combined(maker, tmp_path):
    for run in (1, 2):
        maker.bold(f"sub-01_task-rest_run-{run}", n_volumes=90)
    groups, warnings, _ = grouped(maker, tmp_path)
    assert groups == []
    assert warnings == {}


def test_correlation_maps_are_not_combined(maker, tmp_path):
    add(maker, "task-tap", "task-tap_run-1", "task-tap_run-2")
    _, warnings, text = grouped(maker, tmp_path, "--set", "activation.kinds=cc")
    assert warnings == {}
    assert "are combined" not in text


def test_combined_runs_cost_time_and_disk(maker, tmp_path):
    from graphmaker import stage_minutes

    add(maker, "task-tap_run-1")
    settings, single_run_plan = planned_call(maker, tmp_path, *OPTIONS)
    assert "combination of runs" not in stage_minutes(settings)
    add(maker, "task-tap_run-2")
    settings, combined_plan = planned_call(maker, tmp_path, *OPTIONS)
    assert stage_minutes(settings)["combination of runs"] > 0
    assert combined_plan.estimate.work_gb > 2 * single_run_plan.estimate.work_gb


def test_a_run_is_the_only_run_of_its_task_over_sessions(maker, tmp_path):
    add(maker, "ses-a_task-tap", "ses-b_task-tap_run-1", "ses-b_task-tap_acq-x_run-1")
    _, plan = planned_call(maker, tmp_path, *OPTIONS)
    (subject,) = plan.subjects
    only = [run.stem for run in subject.runs if is_only_run(run, subject.runs)]
    assert only == ["sub-01_ses-b_task-tap_acq-x_run-1"]


def uncombined(maker, tmp_path, *options):
    """Return the runs of the first participant that are not combined, and the graph's figures."""
    from bids_sr.workflows.participant import make_graph

    settings, plan = planned_call(maker, tmp_path, *OPTIONS, *options)
    graph = make_graph(settings, plan, "1")
    steps = [node.step.__name__ for node in graph.nodes]
    groups = [
        runs for subject in plan.subjects for runs in list_uncombined_runs(subject.runs, plan)
    ]
    assert steps.count("explain_missing_map") == len(groups)
    return groups


def test_the_page_explains_why_two_runs_are_not_combined(maker, tmp_path):
    add(maker, "task-tap_run-1")
    add(maker, "task-tap_run-2", zooms=(4.0, 4.0, 4.0), n_volumes=150)
    (runs,) = uncombined(maker, tmp_path)
    assert runs.names == ("run-1", "run-2")
    assert runs.entities == {"subject": "01", "task": "tap", "datatype": "func"}
    assert list(runs.reasons) == ["run-2"]
    assert runs.reasons["run-2"].startswith("factor 2 x 2 x 1, voxels of 4 x 4 x 4 mm; expected")


def test_the_page_names_a_run_without_number_that_is_not_combined(maker, tmp_path):
    add(maker, "task-tap", "task-tap_run-2")
    (runs,) = uncombined(maker, tmp_path)
    assert runs.names == ("no run-", "run-2")
    assert list(runs.reasons) == ["no run-"]
    assert "has no run- entity" in runs.reasons["no run-"]


def test_the_page_explains_why_sessions_are_not_combined(maker, tmp_path):
    add(maker, "ses-a_task-tap_run-1", "ses-a_task-tap_run-2")
    add(maker, "ses-b_task-tap_run-1", zooms=(4.0, 4.0, 4.0), n_volumes=150)
    (runs,) = uncombined(maker, tmp_path)
    assert runs.over_sessions
    assert runs.names == ("ses-a_run-1", "ses-a_run-2", "ses-b_run-1")
    assert list(runs.reasons) == ["ses-b_run-1"]


def test_combined_and_single_runs_need_no_explanation(maker, tmp_path):
    add(maker, "task-tap_run-1", "task-tap_run-2", "task-other")
    for run in (1, 2):
        maker.bold(f"sub-01_task-rest_run-{run}", n_volumes=90)
    assert uncombined(maker, tmp_path) == []


def test_correlations_alone_need_no_explanation(maker, tmp_path):
    from bids_sr.workflows.participant import make_graph

    add(maker, "task-tap_run-1")
    add(maker, "task-tap_run-2", zooms=(4.0, 4.0, 4.0), n_volumes=150)
    settings, plan = planned_call(maker, tmp_path, *OPTIONS, "--set", "activation.kinds=cc")
    names = [node.step.__name__ for node in make_graph(settings, plan, "1").nodes]
    assert "explain_missing_map" not in names


def test_combined_maps_are_stored_with_the_digest_of_the_settings(maker, tmp_path):
    from bids_sr.config.settings import analysis_digest
    from bids_sr.workflows.participant import make_graph

    add(maker, "task-tap_run-1", "task-tap_run-2")
    settings, plan = planned_call(maker, tmp_path, *OPTIONS)
    stored = [
        node.get_setting("provenance")
        for node in make_graph(settings, plan, "1").nodes
        if node.step.__name__ == "store"
        and "run" not in node.get_setting("entities")
        and node.get_setting("among")
    ]
    assert stored
    for provenance in stored:
        assert provenance["SettingsDigest"] == analysis_digest(settings)
