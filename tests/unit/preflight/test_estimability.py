"""Default contrasts are those that the events of a run allow to estimate; others are named."""

from pathlib import Path

import numpy as np
import pytest
from data.dataset import BidsMaker

from bids_sr.cli.parser import parse_settings
from bids_sr.glm.design import build_design, contrast_vector
from bids_sr.glm.regressors import read_events
from bids_sr.preflight import Plan, check

BLOCKS = [
    (6.0, 14.0, "thumb"),
    (34.0, 14.0, "little"),
    (62.0, 14.0, "thumb"),
    (90.0, 14.0, "little"),
]
WITHOUT_PAUSE = [(12.0 * k, 12.0, ("thumb", "little")[k % 2]) for k in range(-3, 10)]
PLAIN = ["little", "thumb", "all", "littleMinusThumb"]
SAME = [(onset, duration, kind) for onset, duration, _ in BLOCKS for kind in ("cue", "target")]
SUM = [*BLOCKS, *((onset, duration, "both") for onset, duration, _ in BLOCKS)]


def plan_for(tmp_path: Path, events: list[tuple[float, float, str]], *options: str) -> Plan:
    maker = BidsMaker(tmp_path / "bids")
    maker.bold("sub-01_task-tap", n_volumes=60, tr=2.0)
    maker.events("sub-01_task-tap", events)
    line = [
        str(maker.root),
        str(tmp_path / "out"),
        "participant",
        "--skip-bids-validation",
        "--dry-run",
    ]
    return check(parse_settings([*line, *options]).resolve(run_uuid="x"))


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        *(((120.0 - seconds, 2.0, "late"), "not modeled") for seconds in (0.5, 1.0, 1.5, 2.0)),
        *(((120.0 - seconds, 2.0, "late"), "left out of the default") for seconds in (3.0, 4.0)),
        ((116.0, 20.0, "late"), "left out of the default"),
        ((-20.0, 2.0, "late"), "left out of the default"),
        ((-30.0, 300.0, "late"), "left out of the default"),
    ],
)
def test_a_type_that_is_hardly_observed_is_left_out_and_named(
    tmp_path: Path, event: tuple[float, float, str], expected: str
) -> None:
    plan = plan_for(tmp_path, [*BLOCKS, event])
    (contrasts,) = plan.contrasts.values()
    assert plan.problems == ()
    assert list(contrasts) == PLAIN
    assert contrasts["all"] == {"thumb": 0.5, "little": 0.5}
    (note,) = [n for n in plan.warnings if "'late' is" in n.why and "split" not in n.why]
    assert (note.level, note.run) == ("note", "sub-01_task-tap")
    assert expected in note.why


@pytest.mark.parametrize("event", [(115.0, 2.0, "odd"), (112.0, 2.0, "odd"), (80.0, 0.1, "odd")])
def test_a_type_that_dominates_the_error_is_left_out_of_the_mean_only(
    tmp_path: Path, event: tuple[float, float, str]
) -> None:
    plan = plan_for(tmp_path, [*BLOCKS, event])
    (contrasts,) = plan.contrasts.values()
    assert {*PLAIN, "odd", "oddMinusThumb"} <= {*contrasts}
    assert contrasts["all"] == {"thumb": 0.5, "little": 0.5}
    assert any("'odd' is left out of the mean" in notice.why for notice in plan.warnings)


def test_the_mean_keeps_its_standard_error_beside_a_late_type(tmp_path: Path) -> None:
    """The standard error of `all` is within 5 % of that in a run without the late type."""
    errors = []
    for number, events in enumerate([BLOCKS, [*BLOCKS, (116.0, 2.0, "late")]]):
        plan = plan_for(tmp_path / str(number), events)
        (contrasts,), (run,) = plan.contrasts.values(), plan.runs
        assert run.events is not None
        design = build_design(read_events(run.events), n_volumes=60, tr=2.0, confound_names=())
        vector = contrast_vector(design, "all", contrasts["all"])
        errors.append(np.sqrt(vector @ np.linalg.inv(design.matrix.T @ design.matrix) @ vector))
    assert errors[1] == pytest.approx(errors[0], rel=0.05)


def test_balanced_types_are_all_described(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, [*BLOCKS, (76.0, 12.0, "index")])
    (contrasts,) = plan.contrasts.values()
    assert contrasts["all"] == pytest.approx(dict.fromkeys(("thumb", "little", "index"), 1 / 3))
    assert not [n for n in plan.warnings if "left out" in n.why or "not modeled" in n.why]


def test_types_at_the_same_moments_have_a_mean_only(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, SAME)
    assert plan.problems == ()
    assert [*plan.contrasts.values()] == [{"all": {"cue": 0.5, "target": 0.5}}]
    (note,) = [notice.why for notice in plan.warnings if "default contrasts" in notice.why]
    assert "cue, target, cueMinusTarget" in note


def test_types_that_fill_the_run_have_a_difference_only(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, WITHOUT_PAUSE)
    assert plan.problems == ()
    assert [*plan.contrasts.values()] == [{"littleMinusThumb": {"little": 1.0, "thumb": -1.0}}]
    (note,) = [notice.why for notice in plan.warnings if "default contrasts" in notice.why]
    assert "little, thumb, all" in note
    assert "the mean of the run" in note
    assert "each other" not in note


def test_a_run_that_a_single_type_fills_is_refused(tmp_path: Path) -> None:
    (problem,) = plan_for(tmp_path, [(-30.0, 170.0, "scan")]).problems
    assert "'scan'" in problem.why
    assert "the mean of the run" in problem.why


def test_a_sum_of_other_types_is_not_modeled(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, SUM)
    assert [list(contrasts) for contrasts in plan.contrasts.values()] == [PLAIN]
    assert any("'both' is not modeled" in notice.why for notice in plan.warnings)


@pytest.mark.parametrize(
    ("events", "contrast", "reason"),
    [
        (SAME, "cue", "cue cannot be estimated"),
        (SAME, "cue-target", "cueMinusTarget cannot be estimated"),
        (WITHOUT_PAUSE, "thumb", "cannot be separated from the mean of the run"),
        (SUM, "both", "lists the events of 'little' and 'thumb' again"),
        ([*BLOCKS, (118.0, 2.0, "late")], "late", "no volume of the run shows its response"),
    ],
)
def test_requested_contrasts_that_cannot_be_estimated_are_refused(
    tmp_path: Path, events: list[tuple[float, float, str]], contrast: str, reason: str
) -> None:
    (problem,) = plan_for(tmp_path, events, "--contrasts", contrast).problems
    assert reason in problem.why


def test_a_faint_type_is_mapped_on_request(tmp_path: Path) -> None:
    plan = plan_for(tmp_path, [*BLOCKS, (116.0, 2.0, "late")], "--contrasts", "late", "all")
    assert [*plan.contrasts.values()] == [
        {"late": {"late": 1.0}, "all": {"thumb": 0.5, "little": 0.5}}
    ]


def test_a_run_without_any_response_is_refused(tmp_path: Path) -> None:
    (problem,) = plan_for(tmp_path, [(118.5, 1.0, "a"), (119.0, 1.0, "b")]).problems
    assert "no volume of the run shows a response" in problem.why
