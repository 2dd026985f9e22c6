"""Choice of calibration runs: by voxel size, label or file, and the messages if none fits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from data.calls import about, only_run, plan_for, problem_of, settings_for, survey_for
from data.dataset import BidsMaker, affine_for
from data.records import make_run, make_settings
from graphmaker import made_by, nodes_of, planned_graph, stage_minutes

from bids_sr.config import SuperRes
from bids_sr.config.settings import analysis_digest
from bids_sr.io.notices import UsageError
from bids_sr.survey.bids.calibration_runs import (
    assign_calibration_runs,
    judge_calibration_option,
)
from bids_sr.survey.bids.entities import file_stem
from bids_sr.survey.bids.related_runs import infer_calibration_factor
from bids_sr.survey.notices import is_problem
from bids_sr.survey.preflight.voxel_checks import check_data

FINE = (3.0, 3.0, 4.0)
STEM = "sub-01_task-tap"
CALIBRATION = f"{STEM}_acq-highres"
FILE = f"{CALIBRATION}_bold.nii.gz"
RUN = make_run()


def make_fine(stem=CALIBRATION, n_volumes=20, has_events=False):
    """Return a run with half the voxel size in plane."""
    return make_run(stem, zooms=FINE, n_volumes=n_volumes, has_events=has_events)


def assign(*runs, options=(), factor=(2.0, 2.0, 1.0), selected=()):
    """Return the calibration run by processed run, and notices.

    Runs are named by their stems; all are processed, or only `selected` ones.
    """
    bolds = [run.bold for run in selected or runs]
    choice = assign_calibration_runs(bolds, runs, lambda _: factor, make_settings(*options))
    calibrations, skipped = choice.value
    by_run = {run.stem: calibrations.get(run.bold) for run in runs if run.bold in bolds}
    for bold in skipped:
        del by_run[file_stem(bold)]
    return {name: run and run.stem for name, run in by_run.items()}, choice.notices


@pytest.fixture
def calibrated(maker):
    """Return a participant with a pair, a run, and a short run at the high resolution of the
    pair.
    """
    maker.bold(CALIBRATION, zooms=FINE, n_volumes=20)
    return maker


def test_a_run_with_smaller_voxels_is_used_as_calibration_and_not_super_resolved(
    calibrated,
):
    calibrated.events(CALIBRATION)
    result = survey_for(calibrated)
    assert list(result.problems) == []
    run = only_run(result)
    assert run.stem == STEM
    assert run.factor == (2.0, 2.0, 1.0)
    calibration = run.calibration
    assert calibration is not None
    assert calibration.bold == calibrated.path(FILE, "func")
    assert calibration.events == calibrated.path(f"{CALIBRATION}_events.tsv", "func")
    assert (calibration.n_volumes, calibration.tr) == (20, 1.0)
    assert about(result.notices, FILE, f"{STEM}_bold.nii.gz")
    elsewhere = BidsMaker(calibrated.root.parent / "other")
    file = elsewhere.bold("sub-01_acq-short", zooms=FINE, n_volumes=20)
    events = elsewhere.events("sub-01_acq-short")
    calibration = only_run(survey_for(calibrated, "--calibration", str(file))).calibration
    assert (calibration.bold, calibration.events) == (file, events)


@pytest.mark.parametrize("option", ["highres", "acq-highres", f"/bids/sub-01/func/{FILE}"])
def test_a_calibration_run_can_be_selected_by_label_or_file(option):
    fine, rest = make_fine(), make_fine("sub-01_task-rest_acq-other", n_volumes=25)
    assert assign(RUN, fine, rest, options=["--calibration", option])[0] == {STEM: CALIBRATION}
    chosen, notices = assign(RUN, fine, rest)
    assert chosen == {STEM: rest.stem}, "the longer run"
    assert about(notices, rest.bold.name, FILE, "--calibration LABEL")
    rest = make_fine(rest.stem, n_volumes=25, has_events=True)
    assert assign(RUN, fine, rest)[0] == {STEM: CALIBRATION}, "a run without events"


@pytest.mark.parametrize("calibration", ["auto", "none"])
def test_a_short_run_with_smaller_voxels_is_always_skipped(calibration):
    chosen, notices = assign(RUN, make_fine(), options=["--calibration", calibration])
    assert chosen == {STEM: CALIBRATION if calibration == "auto" else None}
    assert about(notices, FILE)


@pytest.mark.parametrize("n_volumes", [39, 40])
def test_a_long_calibration_run_is_super_resolved_with_calibration_none(n_volumes):
    fine = make_fine(n_volumes=n_volumes, has_events=True)
    chosen, notices = assign(RUN, fine)
    assert chosen == {STEM: CALIBRATION}
    assert bool(about(notices, FILE, "--calibration none")) is (n_volumes == 40)
    chosen, _ = assign(RUN, fine, options=["--calibration", "none"])
    assert list(chosen) == [STEM, CALIBRATION][: 1 + (n_volumes == 40)]


def test_a_run_is_not_skipped_for_calibrating_a_skipped_run():
    """The run at 1.5 mm could calibrate the run at 3 mm, which calibrates the run at 6 mm."""
    finest, short = (
        make_run(f"{STEM}_acq-{name}", zooms=(1.5, 1.5, 4.0), n_volumes=n_volumes)
        for name, n_volumes in (("finest", 60), ("short", 20))
    )
    chosen, notices = assign(RUN, make_fine(n_volumes=60), finest, short)
    assert chosen == {STEM: CALIBRATION, finest.stem: None}
    assert not about(notices, "", FILE, "--calibration LABEL")


def test_runs_of_other_tasks_are_used_and_no_run_calibrates_itself():
    assert assign(RUN)[0] == {STEM: None}
    rest = make_fine("sub-01_task-rest_acq-highres")
    assert assign(RUN, rest, selected=[RUN])[0] == {STEM: rest.stem}


def test_the_same_session_is_preferred_and_another_session_reported():
    run = make_run("sub-01_ses-a_task-tap")
    other = make_fine("sub-01_ses-b_task-rest", n_volumes=90)
    chosen, notices = assign(run, other, selected=[run])
    assert chosen == {run.stem: other.stem}
    assert about(notices, other.bold.name, run.bold.name)
    same = make_fine("sub-01_ses-a_task-rest", n_volumes=12)
    assert assign(run, other, same, selected=[run])[0] == {run.stem: same.stem}


@pytest.mark.parametrize(
    ("zooms", "factor"), [(FINE, 2.0), ((2.9, 2.9, 4.0), 2.0), ((2.0, 2.0, 4.0), 3.0)]
)
def test_the_calibration_run_determines_the_factor_without_a_pair(zooms, factor):
    fine = make_run(CALIBRATION, zooms=zooms, n_volumes=20)
    assert assign(RUN, fine, factor=None)[0] == {STEM: CALIBRATION}
    assert infer_calibration_factor(fine, RUN) == (factor, factor, 1.0)


# zooms, volumes, shift (mm), and values of the message
UNFIT_RUNS = [
    ((4.0, 4.0, 4.0), 20, 0.0, ["6×6×4", "4×4×4", "1.5 and 1.5"]),
    ((3.0, 3.0, 2.0), 20, 0.0, ["2", "4"]),
    (FINE, 7, 0.0, ["7", "8"]),
    (FINE, 20, 200.0, ["0%", "10%"]),
]


@pytest.mark.parametrize(("zooms", "n_volumes", "shift", "values"), UNFIT_RUNS)
def test_an_unfit_calibration_run_is_reported_and_refused_if_selected(
    zooms, n_volumes, shift, values
):
    fine = make_run(CALIBRATION, zooms=zooms, n_volumes=n_volumes, has_events=False)
    affine = affine_for(zooms, shift=(shift, 0, 0))
    fine = replace(fine, header=replace(fine.header, affine=affine))
    chosen, notices = assign(RUN, fine)
    assert chosen == {STEM: None}
    assert not any(map(is_problem, notices))
    assert about(notices, str(fine.bold), f"{STEM}_bold.nii.gz", *values)
    _, notices = assign(RUN, fine, options=["--calibration", "highres"])
    problem = problem_of(
        list(filter(is_problem, notices)), str(fine.bold), *values, "--calibration none"
    )
    assert (problem.subject, problem.run) == RUN.owner


@pytest.mark.parametrize(("n_dummies", "fits"), [("12", True), ("13", False)])
def test_dummy_scans_do_not_count_as_steady_state_volumes(n_dummies, *, fits):
    options = ["--calibration", "highres", "--dummy-scans", n_dummies]
    chosen, notices = assign(RUN, make_fine(), options=options)
    assert (chosen[STEM] is not None) is fits
    assert bool(about(filter(is_problem, notices), FILE, "7", "8")) is not fits


@pytest.mark.parametrize(
    ("options", "values"),
    [
        (["sub-02_bold.nii.gz"], ["sub-02", "sub-01"]),
        (["nowhere_sub-01_bold.nii.gz"], []),
        (["highres", "--retrospective"], ["--retrospective"]),
    ],
)
def test_an_option_that_cannot_apply_is_refused(tmp_path, monkeypatch, options, values):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub-02_bold.nii.gz").touch()
    settings = make_settings("--calibration", *options)
    faults = list(judge_calibration_option(settings, ["01"]))
    problem_of(faults, options[0], *values, code="option")
    assert assign(RUN, make_fine(), options=["--retrospective"])[0] == {STEM: None}


def test_a_label_that_no_run_has_is_refused():
    _, notices = assign(RUN, make_fine(), options=["--calibration", "fine"])
    values = ["acq-fine", "acq-highres", "--calibration none"]
    assert about(notices, "--calibration fine", *values)[0].code == "option"


def test_a_constant_calibration_run_is_refused(maker):
    data = np.full((16, 16, 6, 20), 7, dtype=np.int16)
    path = maker.bold(CALIBRATION, zooms=FINE, n_volumes=20, data=data)
    plan = plan_for(maker)
    assert plan.problems == ()
    problem_of(check_data(plan), str(path), "--calibration none")


def test_the_digest_depends_on_the_choice_and_the_content_of_the_calibration_file(
    calibrated, tmp_path
):
    def digest(calibration):
        return analysis_digest(settings_for(calibrated, "--calibration", calibration))

    file = calibrated.path(FILE, "func")
    copy = tmp_path / "sub-01_copy_bold.nii.gz"
    copy.write_bytes(file.read_bytes())
    before = digest(str(file))
    assert digest(str(copy)) == before
    assert len({before, digest("auto"), digest("none"), digest("fine")}) == 4
    assert digest("acq-fine") == digest("fine")
    copy.write_bytes(b"other")
    assert digest(str(copy)) != before
    for text in ("", "a b", "../x"):
        with pytest.raises(UsageError):
            SuperRes(calibration=text)


def test_the_graph_has_calibration_steps_only_if_a_method_uses_them(calibrated):
    calibrated.events(CALIBRATION)
    graph = planned_graph(calibrated, calibrated.root.parent, "--dummy-scans", "2")
    [measure] = nodes_of(graph, "measure_calibration")
    [registered] = nodes_of(graph, "register_calibration")
    [read] = (node for node in nodes_of(graph, "import_series") if node.scope is measure.scope)
    assert made_by(graph, read, "bold_file") == [calibrated.path(FILE, "func")]
    assert made_by(graph, measure, "calibration_events") == [
        calibrated.path(f"{CALIBRATION}_events.tsv", "func")
    ]
    for placed in nodes_of(graph, "estimate_variance"):
        sources = [] if placed.scope.name == "sdmod" else [measure]
        assert made_by(graph, placed, "calibration_patterns") == sources
        assert made_by(graph, placed, "boldref2calibration_xfm") == [registered] * len(sources)
    dummies = [graph.settings[node]["dummy_scans"] for node in nodes_of(graph, "count_dummies")]
    assert dummies == [2, 2], "of the run and of the calibration run"
    text = graph.methods_text()
    assert "calibration" in text
    assert "2 updates" in text
    for options in (("--calibration", "none"), ("--sr-method", "srgan")):
        without = planned_graph(calibrated, calibrated.root.parent, *options)
        assert not any("calibration" in str(placed) for placed in without.nodes)
        assert "calibration" not in stage_minutes(settings_for(calibrated, *options))
    assert (
        "6 updates"
        in planned_graph(
            calibrated, calibrated.root.parent, "--calibration", "none"
        ).methods_text()
    )
    assert stage_minutes(settings_for(calibrated))["calibration"] > 0.1
