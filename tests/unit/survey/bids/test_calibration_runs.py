"""Choice of calibration runs: by voxel size, label or file, and the messages if none fits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data.calls import about, only_run, plan_for, problem_of, settings_for, survey_for
from data.dataset import BidsMaker
from graphmaker import made_by, nodes_of, planned_graph, stage_minutes

from bids_sr.config import SuperRes
from bids_sr.config.settings import analysis_digest
from bids_sr.io.notices import UsageError
from bids_sr.survey.preflight.voxel_checks import check_data

FINE = (3.0, 3.0, 4.0)
STEM = "sub-01_task-tap"
CALIBRATION = f"{STEM}_acq-highres"
FILE = f"{CALIBRATION}_bold.nii.gz"
SBL = ("--sr-method", "sbl")


@pytest.fixture
def calibrated(maker: BidsMaker) -> BidsMaker:
    """Return a participant with a pair, a run, and a short run at the high resolution of the
    pair.
    """
    maker.bold(CALIBRATION, zooms=FINE, n_volumes=20)
    return maker


def calibration_name(maker: BidsMaker, *options: str) -> str | None:
    """Return the file name of the calibration of the only run, None without calibration."""
    result = survey_for(maker, *options)
    assert result.problems == []
    run = only_run(result)
    assert run.stem.endswith("task-tap")
    return None if run.calibration is None else run.calibration.bold.name


def test_a_run_with_smaller_voxels_is_used_as_calibration_and_not_super_resolved(
    calibrated: BidsMaker,
) -> None:
    calibrated.events(CALIBRATION)
    result = survey_for(calibrated)
    assert result.problems == []
    run = only_run(result)
    assert run.stem == STEM
    assert run.factor == (2.0, 2.0, 1.0)
    calibration = run.calibration
    assert calibration is not None
    assert calibration.bold == calibrated.path(FILE, "func")
    assert calibration.events == calibrated.path(f"{CALIBRATION}_events.tsv", "func")
    assert (calibration.n_volumes, calibration.tr) == (20, 1.0)
    assert about(result.notices, FILE, f"{STEM}_bold.nii.gz")


@pytest.mark.parametrize("option", ["highres", "acq-highres", "FILE"])
def test_a_calibration_run_can_be_selected_by_label_or_file(
    calibrated: BidsMaker, option: str
) -> None:
    other = calibrated.bold("sub-01_task-rest_acq-other", zooms=FINE, n_volumes=25)
    file = calibrated.path(FILE, "func")
    selected = str(file) if option == "FILE" else option
    assert calibration_name(calibrated, "--calibration", selected) == FILE
    assert calibration_name(calibrated) == other.name, "the longer run"
    assert about(survey_for(calibrated).notices, other.name, FILE, "--calibration LABEL")
    calibrated.events("sub-01_task-rest_acq-other")
    assert calibration_name(calibrated) == FILE, "a run without events"


def test_a_short_run_with_smaller_voxels_is_always_skipped(calibrated: BidsMaker) -> None:
    for calibration in ("auto", "none"):
        result = survey_for(calibrated, "--calibration", calibration)
        assert [run.stem for run in result.subjects[0].runs] == [STEM]
        assert about(result.notices, FILE)


@pytest.mark.parametrize("n_volumes", [39, 40])
def test_a_long_calibration_run_is_super_resolved_with_calibration_none(
    maker: BidsMaker, n_volumes: int
) -> None:
    maker.bold(CALIBRATION, zooms=FINE, n_volumes=n_volumes)
    maker.events(CALIBRATION)
    result = survey_for(maker)
    assert [run.stem for run in result.subjects[0].runs] == [STEM]
    assert bool(about(result.notices, FILE, "--calibration none")) is (n_volumes == 40)
    result = survey_for(maker, "--calibration", "none", *SBL, "--sr-factor", "2")
    assert [run.stem for run in result.subjects[0].runs] == [CALIBRATION, STEM][n_volumes < 40 :]


def test_a_run_is_not_skipped_for_calibrating_a_skipped_run(maker: BidsMaker) -> None:
    """The run at 1.5 mm could calibrate the run at 3 mm, which calibrates the run at 6 mm."""
    maker.bold(CALIBRATION, zooms=FINE, n_volumes=60)
    for name, n_volumes in (("finest", 60), ("short", 20)):
        maker.bold(f"{STEM}_acq-{name}", zooms=(1.5, 1.5, 4.0), n_volumes=n_volumes)
        maker.events(f"{STEM}_acq-{name}")
    result = survey_for(maker, *SBL)
    runs = {run.stem: run.calibration for run in result.subjects[0].runs}
    assert runs.keys() == {f"{STEM}_acq-finest", STEM}
    assert runs[f"{STEM}_acq-finest"] is None
    assert runs[STEM].bold.name == FILE
    assert not about(result.notices, "", f"{CALIBRATION}_bold.nii.gz", "--calibration LABEL")


def test_runs_of_other_tasks_and_files_outside_the_dataset_are_used(
    maker: BidsMaker, tmp_path: Path
) -> None:
    assert calibration_name(maker) is None, "a run does not calibrate itself"
    rest = maker.bold("sub-01_task-rest_acq-highres", zooms=FINE, n_volumes=20)
    assert calibration_name(maker, "--task-id", "tap") == rest.name
    elsewhere = BidsMaker(tmp_path / "other")
    file = elsewhere.bold("sub-01_acq-short", zooms=FINE, n_volumes=20)
    events = elsewhere.events("sub-01_acq-short")
    calibration = only_run(survey_for(maker, "--calibration", str(file))).calibration
    assert (calibration.bold, calibration.events) == (file, events)


def test_the_same_session_is_preferred_and_another_session_reported(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject(session="a")
    options = ("--session-label", "a")
    other = maker.bold("sub-01_ses-b_task-rest", zooms=FINE, n_volumes=90)
    assert calibration_name(maker, *options) == other.name
    assert about(
        survey_for(maker, *options).notices, other.name, "sub-01_ses-a_task-tap_bold.nii.gz"
    )
    same = maker.bold("sub-01_ses-a_task-rest", zooms=FINE, n_volumes=12)
    assert calibration_name(maker, *options) == same.name


@pytest.mark.parametrize(
    ("zooms", "factor"), [(FINE, 2.0), ((2.9, 2.9, 4.0), 2.0), ((2.0, 2.0, 4.0), 3.0)]
)
def test_the_calibration_run_determines_the_factor_without_a_pair(
    maker: BidsMaker, zooms: tuple[float, ...], factor: float
) -> None:
    maker.remove_pair()
    maker.bold(CALIBRATION, zooms=zooms, n_volumes=20)
    plan = plan_for(maker, *SBL)
    assert plan.problems == ()
    assert only_run(plan).factor == (factor, factor, 1.0)


# voxels, slices, volumes, place: image, and values of the message
UNFIT_RUNS = [
    ({"zooms": (4.0, 4.0, 4.0)}, ["6×6×4", "4×4×4", "1.5 and 1.5"]),
    ({"zooms": (3.0, 3.0, 2.0)}, ["2", "4"]),
    ({"n_volumes": 7}, ["7", "8"]),
    ({"shift": (200.0, 0, 0)}, ["0%", "10%"]),
]


@pytest.mark.parametrize(("image", "values"), UNFIT_RUNS)
def test_an_unfit_calibration_run_is_reported_and_refused_if_selected(
    maker: BidsMaker, image: dict[str, object], values: list[str]
) -> None:
    path = maker.bold(CALIBRATION, **{"zooms": FINE, "n_volumes": 20, **image})
    result = survey_for(maker)
    assert result.problems == []
    assert only_run(result).calibration is None
    assert about(result.notices, str(path), f"{STEM}_bold.nii.gz", *values)
    problems = survey_for(maker, "--calibration", "highres").problems
    problem_of(problems, str(path), *values, "--calibration none")


def test_dummy_scans_do_not_count_as_steady_state_volumes(calibrated: BidsMaker) -> None:
    options = ("--calibration", "highres", "--dummy-scans")
    assert calibration_name(calibrated, *options, "12") == FILE
    problem_of(survey_for(calibrated, *options, "13").problems, FILE, "7", "8")


def test_a_calibration_run_of_another_participant_is_refused(maker: BidsMaker) -> None:
    maker.subject("02")
    other = maker.bold("sub-02_task-tap_acq-highres", zooms=FINE, n_volumes=20)
    options = ("--calibration", str(other))
    problems = survey_for(maker, *options, "--participant-label", "01").problems
    problem_of(problems, str(other), "sub-02", "sub-01", code="option")
    result = survey_for(maker, *options)
    assert result.problems == []
    assert [bool(subject.runs[0].calibration) for subject in result.subjects] == [False, True]


@pytest.mark.parametrize(
    ("options", "values"),
    [
        (["--calibration", "fine"], ["acq-fine", "acq-highres", "--calibration none"]),
        (["--calibration", "sub-01_nowhere_bold.nii.gz"], []),
        (["--calibration", "highres", "--retrospective"], ["--retrospective"]),
    ],
)
def test_an_option_that_selects_no_run_is_refused(
    calibrated: BidsMaker, options: list[str], values: list[str]
) -> None:
    assert only_run(survey_for(calibrated, "--retrospective")).calibration is None
    problem_of(survey_for(calibrated, *options).problems, "--calibration", *values, code="option")


def test_a_constant_calibration_run_is_refused(maker: BidsMaker) -> None:
    data = np.full((16, 16, 6, 20), 7, dtype=np.int16)
    path = maker.bold(CALIBRATION, zooms=FINE, n_volumes=20, data=data)
    plan = plan_for(maker)
    assert plan.problems == ()
    problem_of(check_data(plan), str(path), "--calibration none")


def test_the_digest_depends_on_the_choice_and_the_content_of_the_calibration_file(
    calibrated: BidsMaker, tmp_path: Path
) -> None:
    def digest(calibration: str) -> str:
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


def test_the_graph_has_calibration_steps_only_if_a_method_uses_them(calibrated: BidsMaker) -> None:
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
