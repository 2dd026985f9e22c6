"""Test the choice of calibration runs: by voxel size, label or file, and the messages if none
fits.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from data.dataset import BidsMaker
from graphmaker import made_by, nodes_of, planned_graph, stage_minutes

from bids_sr.bids import Survey, survey
from bids_sr.cli.parser import parse_settings
from bids_sr.config import Paths, Settings, SuperRes, UsageError
from bids_sr.config.memory import step_gb
from bids_sr.config.settings import analysis_digest
from bids_sr.preflight import check, check_data
from bids_sr.preflight.estimates import estimate
from bids_sr.preflight.plan_text import dry_run_text
from bids_sr.slurm.cli.main import _list_paths as slurm_paths
from bids_sr.steps.memory import SUPER_RESOLVE

FINE = (3.0, 3.0, 4.0)
CALIBRATION = "sub-01_task-tap_acq-highres"


def settings_for(maker: BidsMaker, *options: str) -> Settings:
    argv = [
        str(maker.root),
        str(maker.root.parent / "out"),
        "participant",
        "--skip-bids-validation",
        *options,
    ]
    return parse_settings(argv).resolve(run_uuid="x")


def survey_of(maker: BidsMaker, *options: str) -> Survey:
    return survey(settings_for(maker, *options))


def texts(result: Survey) -> str:
    return "\n".join([*map(str, result.problems), *map(str, result.notices)])


@pytest.fixture
def calibrated(maker: BidsMaker) -> BidsMaker:
    """Return a participant with a pair, a run, and a short run at the high resolution of the
    pair.
    """
    maker.bold(CALIBRATION, zooms=FINE, n_volumes=20)
    return maker


def test_a_run_with_smaller_voxels_is_used_as_calibration_and_not_super_resolved(
    calibrated: BidsMaker,
) -> None:
    result = survey_of(calibrated)
    assert result.problems == []
    (run,) = result.subjects[0].runs
    assert run.stem == "sub-01_task-tap"
    assert run.calibration is not None
    assert run.calibration.bold == calibrated.path(f"{CALIBRATION}_bold.nii.gz", "func")
    assert (run.calibration.n_volumes, run.calibration.tr, run.calibration.events) == (
        20,
        1.0,
        None,
    )
    assert run.factor == (2.0, 2.0, 1.0)
    assert (
        "used as calibration run for sub-01_task-tap_bold.nii.gz and is not super-resolved."
        in texts(result)
    )


def test_events_of_the_calibration_run_are_found_and_shown_in_the_plan(
    calibrated: BidsMaker,
) -> None:
    calibrated.events(CALIBRATION)
    settings = settings_for(calibrated)
    plan = check(settings)
    (run,) = plan.subjects[0].runs
    assert run.calibration is not None
    assert run.calibration.events == calibrated.path(f"{CALIBRATION}_events.tsv", "func")
    line = "calibration: sub-01_task-tap_acq-highres_bold.nii.gz, 20 volumes of 3×3×4 mm, with"
    assert line in dry_run_text(plan, settings)
    none = settings_for(calibrated, "--calibration", "none")
    assert "calibration: none" in dry_run_text(check(none), none)


def test_memory_and_disk_of_a_long_run_do_not_grow_with_its_volumes(maker: BidsMaker) -> None:
    """Calibrated runs need memory for patterns and the matrices of one tile, and no extra file."""
    maker.bold(n_volumes=2000)
    maker.bold(CALIBRATION, zooms=FINE, n_volumes=20)
    result = [
        estimate(check(settings), settings)
        for settings in (
            settings_for(maker, *options) for options in ((), ("--calibration", "none"))
        )
    ]
    (run,) = survey_of(maker).subjects[0].runs
    volumes_gb = math.prod(run.shape) * 2000 * 4e-9
    calibrated, without = result
    memory_gb = [step_gb(SUPER_RESOLVE, cost.sizes) for cost in result]
    assert 0.2 < memory_gb[0] - memory_gb[1] < 0.4
    assert calibrated.work_gb - without.work_gb < volumes_gb


def test_the_methods_text_describes_the_calibration_patterns(calibrated: BidsMaker) -> None:
    """Head motion is not regressed out of the patterns, and the change is estimated in the boldref
    space with or without calibration.
    """
    with_calibration, without = (
        planned_graph(
            calibrated, calibrated.root.parent / name, "--sr-method", "sbl", *options
        ).methods_text()
        for name, options in (("a", ()), ("b", ("--calibration", "none")))
    )
    assert "Drift was regressed out, and the residuals were decomposed" in with_calibration
    assert "components of head motion were regressed out" not in with_calibration
    for text in (with_calibration, without):
        assert "band of k-space was estimated in the space of the boldref" in text
    assert "In each of 2 updates" in with_calibration
    assert "In each of 6 updates" in without


@pytest.mark.parametrize("option", ["highres", "acq-highres", "FILE"])
def test_a_calibration_run_can_be_selected_by_label_or_file(
    calibrated: BidsMaker, option: str
) -> None:
    other = calibrated.bold("sub-01_task-rest_acq-other", zooms=FINE, n_volumes=25)
    file = calibrated.path(f"{CALIBRATION}_bold.nii.gz", "func")
    result = survey_of(calibrated, "--calibration", str(file) if option == "FILE" else option)
    assert result.problems == []
    assert result.subjects[0].runs[0].calibration.bold == file
    automatic = survey_of(calibrated)
    assert automatic.subjects[0].runs[0].calibration.bold == other
    assert (
        "Other possible calibration runs are sub-01_task-tap_acq-highres_bold.nii.gz; select"
        in texts(automatic)
    )


def test_calibration_none_still_skips_a_short_run_with_smaller_voxels(
    calibrated: BidsMaker,
) -> None:
    result = survey_of(calibrated, "--calibration", "none")
    assert result.problems == []
    (run,) = result.subjects[0].runs
    assert run.calibration is None
    assert (
        "the run is skipped because it has smaller voxels than other runs and no events."
        in texts(result)
    )


def test_a_long_calibration_run_is_super_resolved_with_calibration_none(
    maker: BidsMaker,
) -> None:
    maker.bold(CALIBRATION, zooms=FINE, n_volumes=60)
    maker.events(CALIBRATION)
    result = survey_of(maker)
    assert [run.stem for run in result.subjects[0].runs] == ["sub-01_task-tap"]
    assert "To super-resolve this run as well, use --calibration none" in texts(result)
    uncalibrated = survey_of(
        maker, "--calibration", "none", "--sr-method", "sbl", "--sr-factor", "2"
    )
    assert [run.stem for run in uncalibrated.subjects[0].runs] == [
        "sub-01_task-tap_acq-highres",
        "sub-01_task-tap",
    ]


def test_a_run_is_not_skipped_for_calibrating_a_skipped_run(maker: BidsMaker) -> None:
    """The run at 1.5 mm could calibrate the run at 3 mm, which calibrates the run at 6 mm."""
    maker.bold(CALIBRATION, zooms=FINE, n_volumes=60)
    for name, n_volumes in (("finest", 60), ("short", 20)):
        maker.bold(f"sub-01_task-tap_acq-{name}", zooms=(1.5, 1.5, 4.0), n_volumes=n_volumes)
        maker.events(f"sub-01_task-tap_acq-{name}")
    result = survey_of(maker, "--sr-method", "sbl")
    runs = {run.stem: run.calibration for run in result.subjects[0].runs}
    assert runs.keys() == {"sub-01_task-tap_acq-finest", "sub-01_task-tap"}
    assert runs["sub-01_task-tap_acq-finest"] is None
    assert f"{CALIBRATION}_bold.nii.gz" == runs["sub-01_task-tap"].bold.name
    assert "used as calibration run for sub-01_task-tap_acq-highres" not in texts(result)


def test_a_single_run_is_not_a_calibration_run(maker: BidsMaker) -> None:
    result = survey_of(maker)
    assert result.subjects[0].runs[0].calibration is None
    assert result.notices == []


def test_calibration_runs_of_tasks_not_selected_are_used(maker: BidsMaker) -> None:
    maker.bold("sub-01_task-rest_acq-highres", zooms=FINE, n_volumes=20)
    result = survey_of(maker, "--task-id", "tap")
    assert (
        result.subjects[0].runs[0].calibration.bold.name
        == "sub-01_task-rest_acq-highres_bold.nii.gz"
    )


def test_the_same_session_is_preferred_and_another_session_reported(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject(session="a")
    maker.bold("sub-01_ses-b_task-rest", zooms=FINE, n_volumes=90)
    result = survey_of(maker, "--session-label", "a")
    assert result.subjects[0].runs[0].calibration.entities["session"] == "b"
    assert "from another session" in texts(result)
    maker.bold("sub-01_ses-a_task-rest", zooms=FINE, n_volumes=12)
    same_session = survey_of(maker, "--session-label", "a")
    assert same_session.subjects[0].runs[0].calibration.entities["session"] == "a"
    assert "from another session" not in texts(same_session)


@pytest.mark.parametrize(
    ("zooms", "factor"), [(FINE, 2.0), ((2.9, 2.9, 4.0), 2.0), ((2.0, 2.0, 4.0), 3.0)]
)
def test_the_calibration_run_determines_the_factor_without_a_pair(
    tmp_path: Path, zooms: tuple[float, ...], factor: float
) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.bold()
    maker.events()
    options = ("--sr-method", "sbl")
    before = survey_of(maker, *options)
    assert before.subjects[0].runs[0].factor == (2.0, 2.0, 1.0)
    maker.bold(CALIBRATION, zooms=zooms, n_volumes=20)
    result = survey_of(maker, *options)
    assert result.problems == []
    (run,) = result.subjects[0].runs
    assert run.factor == (factor, factor, 1.0)
    assert check(settings_for(maker, *options)).problems == ()


def unfit_calibration(maker: BidsMaker, **image: object) -> Path:
    return maker.bold(CALIBRATION, **{"zooms": FINE, "n_volumes": 20, **image})  # type: ignore[arg-type]


UNFIT_RUNS = {
    "voxels": (
        {"zooms": (4.0, 4.0, 4.0)},
        "run (6×6×4 mm) and of the calibration run (4×4×4 mm) is 1.5 and 1.5",
    ),
    "slices": (
        {"zooms": (3.0, 3.0, 2.0)},
        "the slice spacing is 2 mm, but 4 mm in the run to be calibrated",
    ),
    "three volumes": (
        {"n_volumes": 3},
        "3 steady-state volumes were found, but calibration requires at least 8",
    ),
    "elsewhere": (
        {"shift": (200.0, 0, 0)},
        "covers 0% of the field of view of the run, but at least 10% is required",
    ),
}


@pytest.mark.parametrize(("image", "reason"), UNFIT_RUNS.values(), ids=UNFIT_RUNS)
def test_an_unfit_calibration_run_is_reported_and_rejected_if_selected(
    maker: BidsMaker, image: dict, reason: str
) -> None:
    path = unfit_calibration(maker, **image)
    result = survey_of(maker)
    assert result.problems == []
    assert result.subjects[0].runs[0].calibration is None
    messages = [str(notice) for notice in result.notices if notice.what == str(path)]
    assert any(
        reason in text and ("cannot be used as its calibration run") in text for text in messages
    ), messages
    (problem,) = survey_of(maker, "--calibration", "highres").problems
    assert problem.what == str(path)
    assert reason in problem.why
    assert "--calibration none" in problem.remedy


def test_dummy_scans_do_not_count_as_steady_state_volumes(calibrated: BidsMaker) -> None:
    (problem,) = survey_of(calibrated, "--calibration", "highres", "--dummy-scans", "13").problems
    assert "7 steady-state volumes were found" in problem.why


def test_a_calibration_run_of_another_participant_is_rejected(maker: BidsMaker) -> None:
    maker.subject("02")
    other = maker.bold("sub-02_task-tap_acq-highres", zooms=FINE, n_volumes=20)
    options = ("--calibration", str(other))
    (problem,) = survey_of(maker, *options, "--participant-label", "01").problems
    assert "the file belongs to sub-02, but the selected participants are sub-01" in problem.why
    assert "same participant" in problem.remedy
    result = survey_of(maker, *options)
    assert result.problems == []
    assert [bool(subject.runs[0].calibration) for subject in result.subjects] == [False, True]


def test_an_unknown_label_or_a_missing_file_is_rejected(calibrated: BidsMaker) -> None:
    (problem,) = survey_of(calibrated, "--calibration", "fine").problems
    assert "no other BOLD run" in problem.why
    assert "acq-highres" in problem.remedy
    (problem,) = survey_of(calibrated, "--calibration", "sub-01_nowhere_bold.nii.gz").problems
    assert problem.why == "file not found"


def test_a_file_outside_the_dataset_is_accepted(maker: BidsMaker, tmp_path: Path) -> None:
    elsewhere = BidsMaker(tmp_path / "other")
    file = elsewhere.bold("sub-01_acq-short", zooms=FINE, n_volumes=20)
    elsewhere.events("sub-01_acq-short")
    result = survey_of(maker, "--calibration", str(file))
    assert result.problems == []
    calibration = result.subjects[0].runs[0].calibration
    assert (calibration.bold, calibration.events) == (
        file,
        elsewhere.path("sub-01_acq-short_events.tsv", "func"),
    )


def test_a_constant_calibration_run_is_rejected_with_a_remedy(maker: BidsMaker) -> None:
    path = unfit_calibration(maker, data=np.full((16, 16, 6, 20), 7, dtype=np.int16))
    plan = check(settings_for(maker))
    assert plan.problems == ()
    (problem,) = check_data(plan)
    assert problem.what == str(path)
    assert "constant" in problem.why
    assert "--calibration none" in problem.remedy


def test_retrospective_rejects_a_calibration_run(calibrated: BidsMaker) -> None:
    assert survey_of(calibrated, "--retrospective").subjects[0].runs[0].calibration is None
    (problem,) = survey_of(
        calibrated, "--retrospective", "clean", "--calibration", "highres"
    ).problems
    assert "--retrospective uses each run as its own" in problem.why


def test_the_calibration_setting_is_validated_and_part_of_the_digest(tmp_path: Path) -> None:
    paths = Paths(bids_dir=tmp_path, output_dir=tmp_path / "out")
    settings = Settings(paths=paths, superres=SuperRes(calibration="acq-fine"))
    assert settings.superres.calibration == "fine"
    assert Settings(paths=paths).superres.calibration == "auto"
    for text in ("", "a b", "../x"):
        with pytest.raises(UsageError, match="calibration"):
            SuperRes(calibration=text)
    automatic, without = (
        dataclasses.replace(settings, superres=SuperRes(calibration=calibration))
        for calibration in ("auto", "none")
    )
    assert analysis_digest(automatic) != analysis_digest(without)


def test_the_digest_depends_on_the_content_of_the_calibration_file(
    calibrated: BidsMaker, tmp_path: Path
) -> None:
    file = calibrated.path(f"{CALIBRATION}_bold.nii.gz", "func")
    copy = tmp_path / "sub-01_copy_bold.nii.gz"
    copy.write_bytes(file.read_bytes())
    digest, digest_of_copy = (
        analysis_digest(settings_for(calibrated, "--calibration", str(path)))
        for path in (file, copy)
    )
    assert digest == digest_of_copy
    copy.write_bytes(b"other")
    assert analysis_digest(settings_for(calibrated, "--calibration", str(copy))) != digest


def test_the_graph_has_calibration_steps_only_if_a_method_uses_them(calibrated: BidsMaker) -> None:
    calibrated.events(CALIBRATION)
    graph = planned_graph(calibrated, calibrated.root.parent)
    [measure], [registered] = (
        nodes_of(graph, "measure_calibration"),
        nodes_of(graph, "register_calibration"),
    )
    [read] = (node for node in nodes_of(graph, "import_series") if node.scope is measure.scope)
    assert made_by(graph, read, "bold_file") == [
        calibrated.path(f"{CALIBRATION}_bold.nii.gz", "func")
    ]
    assert made_by(graph, measure, "calibration_events") == [
        calibrated.path(f"{CALIBRATION}_events.tsv", "func")
    ]
    assert "store_calibration_facts" in {placed.name for placed in graph.nodes}
    for placed in nodes_of(graph, "estimate_variance"):
        sources = [] if placed.scope.name == "sdmod" else [measure]
        assert made_by(graph, placed, "calibration_patterns") == sources
        assert made_by(graph, placed, "boldref2calibration_xfm") == [registered] * len(sources)
    assert "The calibration run was coregistered" in graph.methods_text()
    for options in (("--calibration", "none"), ("--sr-method", "srgan")):
        without = planned_graph(calibrated, calibrated.root.parent, *options)
        assert not any("calibration" in str(placed) for placed in without.nodes)


def test_dummy_scans_apply_to_the_calibration_run(calibrated: BidsMaker) -> None:
    graph = planned_graph(calibrated, calibrated.root.parent, "--dummy-scans", "2")
    counted = {
        placed.scope.name: graph.settings[placed]["dummy_scans"]
        for placed in nodes_of(graph, "count_dummies")
    }
    assert counted == {"sub_01_task_tap_wf": 2, "calibration_wf": 2}


def test_calibration_has_a_row_in_the_time_estimate(calibrated: BidsMaker) -> None:
    def rows(*options: str) -> dict[str, float]:
        return stage_minutes(settings_for(calibrated, *options))

    assert rows()["calibration"] > 0.1
    assert "calibration" not in rows("--calibration", "none")
    assert "calibration" not in rows("--sr-method", "srgan")


def test_a_relative_calibration_file_is_stored_as_an_absolute_path(
    calibrated: BidsMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = calibrated.path(f"{CALIBRATION}_bold.nii.gz", "func")
    monkeypatch.chdir(file.parent)
    settings = settings_for(calibrated, "--calibration", file.name)
    monkeypatch.chdir(tmp_path)
    assert settings.superres.calibration == str(file)
    assert survey(settings).subjects[0].runs[0].calibration.bold == file
    assert file in slurm_paths(settings)
    assert settings_for(calibrated).superres.calibration_file is None
