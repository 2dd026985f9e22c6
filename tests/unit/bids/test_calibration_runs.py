"""Which run calibrates which: found by voxel size, named by label or file, and what is said where
it does not fit.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from bidsmaker import BidsMaker
from graphmaker import made_by, nodes_of, planned_graph, stage_minutes

from bids_sr.bids import Survey, survey
from bids_sr.cli.parser import parse_settings
from bids_sr.cli.slurm.prepare import _paths as slurm_paths
from bids_sr.config import Paths, Settings, SuperRes, UsageError
from bids_sr.config.memory import step_gb
from bids_sr.config.settings import analysis_digest
from bids_sr.preflight import check, check_data
from bids_sr.preflight.estimates import estimate
from bids_sr.preflight.plan_text import dry_run_text
from bids_sr.steps.memory import RESOLVE

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
    return parse_settings(argv).resolved(run_uuid="x")


def look(maker: BidsMaker, *options: str) -> Survey:
    return survey(settings_for(maker, *options))


def texts(found: Survey) -> str:
    return "\n".join([*map(str, found.problems), *map(str, found.notices)])


@pytest.fixture
def calibrated(maker: BidsMaker) -> BidsMaker:
    """A participant with a pair, a run and a short run at the pair's fine resolution."""
    maker.bold(CALIBRATION, zooms=FINE, n_volumes=20)
    return maker


def test_a_finer_run_is_found_and_is_no_run_itself(calibrated: BidsMaker) -> None:
    found = look(calibrated)
    assert found.problems == []
    (run,) = found.subjects[0].runs
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
        in texts(found)
    )


def test_its_events_are_found_and_shown_in_the_plan(calibrated: BidsMaker) -> None:
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
    """A calibrated run holds patterns and matrices of a tile, and leaves no file of its own."""
    maker.bold(n_volumes=2000)
    maker.bold(CALIBRATION, zooms=FINE, n_volumes=20)
    found = [
        estimate(check(s), s)
        for s in (settings_for(maker, *given) for given in ((), ("--calibration", "none")))
    ]
    (run,) = look(maker).subjects[0].runs
    volumes_gb = math.prod(run.shape) * 2000 * 4e-9
    with_it, without = found
    need = [step_gb(RESOLVE, each.sizes) for each in found]
    assert 0.2 < need[0] - need[1] < 0.4
    assert with_it.work_gb - without.work_gb < volumes_gb


def test_the_methods_text_says_what_is_done_with_the_patterns(calibrated: BidsMaker) -> None:
    """Head motion stays in them, and with them as without them the change is estimated in the
    reference.
    """
    text, alone = (
        planned_graph(
            calibrated, calibrated.root.parent / name, "--sr-method", "sbl", *more
        ).methods_text()
        for name, more in (("a", ()), ("b", ("--calibration", "none")))
    )
    assert "Drift was regressed out, and the residuals were decomposed" in text
    assert "components of head motion were regressed out" not in text
    for each in (text, alone):
        assert "zero-filled series was estimated in the space of the boldref" in each


@pytest.mark.parametrize("option", ["highres", "acq-highres", "FILE"])
def test_it_can_be_named(calibrated: BidsMaker, option: str) -> None:
    other = calibrated.bold("sub-01_task-rest_acq-other", zooms=FINE, n_volumes=25)
    file = calibrated.path(f"{CALIBRATION}_bold.nii.gz", "func")
    found = look(calibrated, "--calibration", str(file) if option == "FILE" else option)
    assert found.problems == []
    assert found.subjects[0].runs[0].calibration.bold == file
    by_itself = look(calibrated)
    assert by_itself.subjects[0].runs[0].calibration.bold == other
    assert (
        "Other possible calibration runs are sub-01_task-tap_acq-highres_bold.nii.gz; select"
        in texts(by_itself)
    )


def test_none_takes_none_and_still_does_not_analyze_a_short_run(calibrated: BidsMaker) -> None:
    found = look(calibrated, "--calibration", "none")
    assert found.problems == []
    (run,) = found.subjects[0].runs
    assert run.calibration is None
    assert (
        "the run is skipped because it has smaller voxels than other runs and no events."
        in texts(found)
    )


def test_a_long_finer_run_with_events_is_told_to_be_left_out_and_stays_with_none(
    maker: BidsMaker,
) -> None:
    maker.bold(CALIBRATION, zooms=FINE, n_volumes=60)
    maker.events(CALIBRATION)
    found = look(maker)
    assert [run.stem for run in found.subjects[0].runs] == ["sub-01_task-tap"]
    assert "To super-resolve this run as well, use --calibration none" in texts(found)
    alone = look(maker, "--calibration", "none", "--sr-method", "sbl", "--sr-factor", "2")
    assert [run.stem for run in alone.subjects[0].runs] == [
        "sub-01_task-tap_acq-highres",
        "sub-01_task-tap",
    ]


def test_a_run_alone_is_a_run_however_fine(maker: BidsMaker) -> None:
    found = look(maker)
    assert found.subjects[0].runs[0].calibration is None
    assert found.notices == []


def test_it_is_found_in_a_task_that_was_not_chosen(maker: BidsMaker) -> None:
    maker.bold("sub-01_task-rest_acq-highres", zooms=FINE, n_volumes=20)
    found = look(maker, "--task-id", "tap")
    assert (
        found.subjects[0].runs[0].calibration.bold.name
        == "sub-01_task-rest_acq-highres_bold.nii.gz"
    )


def test_the_same_session_comes_first_and_another_one_is_told(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject(session="a")
    maker.bold("sub-01_ses-b_task-rest", zooms=FINE, n_volumes=90)
    found = look(maker, "--session-label", "a")
    assert found.subjects[0].runs[0].calibration.entities["session"] == "b"
    assert "from another session" in texts(found)
    maker.bold("sub-01_ses-a_task-rest", zooms=FINE, n_volumes=12)
    again = look(maker, "--session-label", "a")
    assert again.subjects[0].runs[0].calibration.entities["session"] == "a"
    assert "from another session" not in texts(again)


@pytest.mark.parametrize(
    ("zooms", "factor"), [(FINE, 2.0), ((2.9, 2.9, 4.0), 2.0), ((2.0, 2.0, 4.0), 3.0)]
)
def test_it_tells_the_factor_where_there_is_no_pair(
    tmp_path: Path, zooms: tuple[float, ...], factor: float
) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.bold()
    maker.events()
    asked = ("--sr-method", "sbl")
    before = look(maker, *asked)
    assert before.subjects[0].runs[0].factor == (2.0, 2.0, 1.0)
    maker.bold(CALIBRATION, zooms=zooms, n_volumes=20)
    found = look(maker, *asked)
    assert found.problems == []
    (run,) = found.subjects[0].runs
    assert run.factor == (factor, factor, 1.0)
    assert check(settings_for(maker, *asked)).problems == ()


def bad(maker: BidsMaker, **image: object) -> Path:
    return maker.bold(CALIBRATION, **{"zooms": FINE, "n_volumes": 20, **image})  # type: ignore[arg-type]


BAD = {
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


@pytest.mark.parametrize(("spoilt", "reason"), BAD.values(), ids=BAD)
def test_what_does_not_fit_is_told_and_if_it_was_named_refused(
    maker: BidsMaker, spoilt: dict, reason: str
) -> None:
    path = bad(maker, **spoilt)
    found = look(maker)
    assert found.problems == []
    assert found.subjects[0].runs[0].calibration is None
    told = [str(notice) for notice in found.notices if notice.what == str(path)]
    assert any(
        reason in text and ("cannot be used as its calibration run") in text for text in told
    ), told
    (problem,) = look(maker, "--calibration", "highres").problems
    assert problem.what == str(path)
    assert reason in problem.why
    assert "--calibration none" in problem.remedy


def test_dummies_that_are_known_do_not_count(calibrated: BidsMaker) -> None:
    (problem,) = look(calibrated, "--calibration", "highres", "--dummy-scans", "13").problems
    assert "7 steady-state volumes were found" in problem.why


def test_another_participants_run_is_refused(maker: BidsMaker) -> None:
    maker.subject("02")
    other = maker.bold("sub-02_task-tap_acq-highres", zooms=FINE, n_volumes=20)
    options = ("--calibration", str(other))
    (problem,) = look(maker, *options, "--participant-label", "01").problems
    assert "the file belongs to sub-02, but the selected participants are sub-01" in problem.why
    assert "same participant" in problem.remedy
    found = look(maker, *options)
    assert found.problems == []
    assert [bool(subject.runs[0].calibration) for subject in found.subjects] == [False, True]


def test_a_label_or_a_file_that_is_nowhere_is_refused(calibrated: BidsMaker) -> None:
    (problem,) = look(calibrated, "--calibration", "fine").problems
    assert "no other BOLD run" in problem.why
    assert "acq-highres" in problem.remedy
    (problem,) = look(calibrated, "--calibration", "sub-01_nowhere_bold.nii.gz").problems
    assert problem.why == "file not found"


def test_a_file_outside_of_the_data_set_serves(maker: BidsMaker, tmp_path: Path) -> None:
    elsewhere = BidsMaker(tmp_path / "other")
    file = elsewhere.bold("sub-01_acq-short", zooms=FINE, n_volumes=20)
    elsewhere.events("sub-01_acq-short")
    found = look(maker, "--calibration", str(file))
    assert found.problems == []
    calibration = found.subjects[0].runs[0].calibration
    assert (calibration.bold, calibration.events) == (
        file,
        elsewhere.path("sub-01_acq-short_events.tsv", "func"),
    )


def test_a_constant_one_is_refused_with_the_way_out(maker: BidsMaker) -> None:
    path = bad(maker, data=np.full((16, 16, 6, 20), 7, dtype=np.int16))
    plan = check(settings_for(maker))
    assert plan.problems == ()
    (problem,) = check_data(plan)
    assert problem.what == str(path)
    assert "constant" in problem.why
    assert "--calibration none" in problem.remedy


def test_retrospective_takes_none(calibrated: BidsMaker) -> None:
    assert look(calibrated, "--retrospective").subjects[0].runs[0].calibration is None
    (problem,) = look(calibrated, "--retrospective", "clean", "--calibration", "highres").problems
    assert "--retrospective uses each run as its own" in problem.why


def test_the_option_keeps_its_word(tmp_path: Path) -> None:
    paths = Paths(bids_dir=tmp_path, output_dir=tmp_path / "out")
    settings = Settings(paths=paths, superres=SuperRes(calibration="acq-fine"))
    assert settings.superres.calibration == "fine"
    assert Settings(paths=paths).superres.calibration == "auto"
    for text in ("", "a b", "../x"):
        with pytest.raises(UsageError, match="calibration"):
            SuperRes(calibration=text)
    one, two = (
        dataclasses.replace(settings, superres=SuperRes(calibration=c)) for c in ("auto", "none")
    )
    assert analysis_digest(one) != analysis_digest(two)


def test_a_file_counts_by_its_content(calibrated: BidsMaker, tmp_path: Path) -> None:
    file = calibrated.path(f"{CALIBRATION}_bold.nii.gz", "func")
    copy = tmp_path / "sub-01_copy_bold.nii.gz"
    copy.write_bytes(file.read_bytes())
    one, two = (
        analysis_digest(settings_for(calibrated, "--calibration", str(path)))
        for path in (file, copy)
    )
    assert one == two
    copy.write_bytes(b"other")
    assert analysis_digest(settings_for(calibrated, "--calibration", str(copy))) != one


def test_the_graph_has_it_where_a_method_uses_it(calibrated: BidsMaker) -> None:
    calibrated.events(CALIBRATION)
    graph = planned_graph(calibrated, calibrated.root.parent)
    [measure], [registered] = (
        nodes_of(graph, "measure_calibration"),
        nodes_of(graph, "register_calibration"),
    )
    [read] = (each for each in nodes_of(graph, "import_series") if each.scope is measure.scope)
    assert made_by(graph, read, "bold_file") == [
        calibrated.path(f"{CALIBRATION}_bold.nii.gz", "func")
    ]
    assert made_by(graph, measure, "calibration_events") == [
        calibrated.path(f"{CALIBRATION}_events.tsv", "func")
    ]
    assert "keep_calibration_facts" in {placed.name for placed in graph.nodes}
    for placed in nodes_of(graph, "estimate_variance"):
        taken = [] if placed.scope.name == "sdmod" else [measure]
        assert made_by(graph, placed, "calibration_patterns") == taken
        assert made_by(graph, placed, "boldref2calibration_xfm") == [registered] * len(taken)
    assert "The calibration run was coregistered" in graph.methods_text()
    for options in (("--calibration", "none"), ("--sr-method", "srgan")):
        without = planned_graph(calibrated, calibrated.root.parent, *options)
        assert not any("calibration" in str(placed) for placed in without.nodes)


def test_dummies_that_were_given_are_those_of_the_calibration_too(calibrated: BidsMaker) -> None:
    graph = planned_graph(calibrated, calibrated.root.parent, "--dummy-scans", "2")
    counted = {
        placed.scope.name: graph.settings[placed]["dummy_scans"]
        for placed in nodes_of(graph, "count_dummies")
    }
    assert counted == {"sub_01_task_tap_wf": 2, "calibration_wf": 2}


def test_it_has_its_row_in_the_estimate(calibrated: BidsMaker) -> None:
    def rows(*options: str) -> dict[str, float]:
        return stage_minutes(settings_for(calibrated, *options))

    assert rows()["calibration"] > 0.1
    assert "calibration" not in rows("--calibration", "none")
    assert "calibration" not in rows("--sr-method", "srgan")


def test_a_relative_file_is_the_same_from_anywhere(
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
