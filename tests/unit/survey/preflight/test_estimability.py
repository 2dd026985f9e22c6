"""Default contrasts are those that the events of a run allow to estimate; others are named."""

import re
import time
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from data.calls import about, plan_for
from data.dataset import BidsMaker
from data.events import make_events
from data.records import make_run, make_settings, make_table, plan_run

from bids_sr.glm.design import build_design, contrast_vector
from bids_sr.glm.regressors import read_events
from bids_sr.survey.preflight.plan import Plan

STEM = "sub-01_task-tap"
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
LATE = (116.0, 2.0, "late")
Rows = list[tuple[float, float, str]]


def plan_of(events: Rows, *options: str, n_volumes: int = 60, tr: float = 2.0) -> Plan:
    """Return the plan of a run, of 120 s by default."""
    run = make_run(n_volumes=n_volumes, tr=tr)
    return plan_run(run, make_table(events), make_settings(*options))


def contrasts(plan: Plan) -> dict[str, dict[str, float]]:
    assert plan.problems == ()
    (weights,) = plan.contrasts.values()
    return {name: dict(contrast) for name, contrast in weights.items()}


@pytest.mark.parametrize(
    ("event", "is_modeled"),
    [
        *(((120.0 - seconds, 2.0, "late"), False) for seconds in (0.5, 2.0)),
        *(((120.0 - seconds, 2.0, "late"), True) for seconds in (3.0, 4.0)),
        ((116.0, 20.0, "late"), True),
        ((-20.0, 2.0, "late"), True),
        ((-30.0, 300.0, "late"), True),
    ],
)
def test_a_type_that_is_hardly_observed_has_no_default_contrast(
    event: tuple[float, float, str], *, is_modeled: bool
) -> None:
    plan = plan_of([*BLOCKS, event])
    assert list(contrasts(plan)) == PLAIN
    assert contrasts(plan)["all"] == {"thumb": 0.5, "little": 0.5}
    notices = [notice for notice in plan.warnings if "'late'" in notice.why]
    assert {(notice.level, notice.run) for notice in notices} == {("note", STEM)}
    on_request = plan_of([*BLOCKS, event], "--contrasts", "late", "all")
    assert (on_request.problems == ()) is is_modeled
    if is_modeled:
        assert contrasts(on_request) == {
            "late": {"late": 1.0},
            "all": {"thumb": 0.5, "little": 0.5},
        }


@pytest.mark.parametrize("event", [(115.0, 2.0, "odd"), (112.0, 2.0, "odd"), (80.0, 0.1, "odd")])
def test_a_type_that_dominates_the_error_is_left_out_of_the_mean_only(
    event: tuple[float, float, str],
) -> None:
    plan = plan_of([*BLOCKS, event])
    assert {*PLAIN, "odd", "oddMinusThumb"} <= {*contrasts(plan)}
    assert contrasts(plan)["all"] == {"thumb": 0.5, "little": 0.5}
    assert about(plan.warnings, STEM, "'odd'")


def test_the_mean_keeps_its_standard_error_beside_a_late_type() -> None:
    """The standard error of `all` is within 5 % of that in a run without the late type."""
    errors = []
    for events in (BLOCKS, [*BLOCKS, LATE]):
        plan = plan_of(events)
        design = build_design(make_events(events), n_volumes=60, tr=2.0, confound_names=())
        vector = contrast_vector(design, "all", contrasts(plan)["all"])
        errors.append(np.sqrt(vector @ np.linalg.inv(design.matrix.T @ design.matrix) @ vector))
    assert errors[1] == pytest.approx(errors[0], rel=0.05)


@pytest.mark.parametrize(
    ("events", "expected", "values"),
    [
        (
            [*BLOCKS, (76.0, 12.0, "index")],
            {"all": dict.fromkeys(("thumb", "little", "index"), 1 / 3)},
            [],
        ),
        # types at the same moments have a mean only
        (SAME, {"all": {"cue": 0.5, "target": 0.5}}, ["cue, target, cueMinusTarget"]),
        # types that fill the run have a difference only
        (
            WITHOUT_PAUSE,
            {"littleMinusThumb": {"little": 1.0, "thumb": -1.0}},
            ["little, thumb, all"],
        ),
        # a sum of other types is not modeled
        (SUM, {"all": {"thumb": 0.5, "little": 0.5}}, ["'both'", "'little'", "'thumb'"]),
    ],
)
def test_contrasts_that_cannot_be_estimated_are_left_out_and_named(
    events: Rows,
    expected: dict[str, dict[str, float]],
    values: list[str],
) -> None:
    plan = plan_of(events)
    found = contrasts(plan)
    assert {name: found[name] for name in expected} == {
        name: pytest.approx(weights) for name, weights in expected.items()
    }
    if events in (SAME, WITHOUT_PAUSE):
        assert found.keys() == expected.keys()
    if events is SUM:
        assert list(found) == PLAIN
    assert bool(about(plan.warnings, STEM, *(values or ["'index'"]))) is bool(values)


@pytest.mark.parametrize(
    ("events", "contrast", "values"),
    [
        (SAME, "cue", ["cue", "--contrasts"]),
        (SAME, "cue-target", ["cueMinusTarget", "--contrasts"]),
        (WITHOUT_PAUSE, "thumb", ["thumb", "--contrasts"]),
        (SUM, "both", ["'little'", "'thumb'"]),
        ([*BLOCKS, (118.0, 2.0, "late")], "late", ["late"]),
        ([(-30.0, 170.0, "scan")], None, ["'scan'"]),  # fills the run
        # rest is an event of the only type, as in a table without trial_type
        ([(14.0 * k - 12.0, 14.0, "task") for k in range(10)], None, ["8 times", "trial_type"]),
        ([(118.5, 1.0, "a"), (119.0, 1.0, "b")], None, []),  # no response in the run
    ],
)
def test_runs_and_requested_contrasts_that_cannot_be_estimated_are_refused(
    events: Rows, contrast: str | None, values: list[str]
) -> None:
    options = [] if contrast is None else ["--contrasts", contrast]
    (problem,) = plan_of(events, *options).problems
    is_named = "--contrasts" in values or contrast is None
    assert about([problem], STEM if is_named else f"--contrasts {contrast}", *values)


@pytest.mark.parametrize(
    "onsets", [np.full(3000, 10.0), np.linspace(0, 100, 3000), np.full(3000, 118.0)]
)
def test_a_run_with_more_types_than_volumes_is_rejected_without_its_model(
    onsets: np.ndarray,
) -> None:
    events = [(float(onset), 1.0, f"t{index}") for index, onset in enumerate(onsets)]
    begin = time.process_time()
    (problem,) = plan_of(events).problems
    assert time.process_time() - begin < 10  # s; the model would take minutes
    assert f"{STEM}_bold" in problem.what
    assert "60 volumes" in problem.why


@pytest.mark.parametrize("n_dummy", [0, 3])
def test_contrasts_are_judged_without_the_volumes_that_are_not_fitted(
    tmp_path: Path, n_dummy: int
) -> None:
    """The rise of the first response, in volumes 0 to 2, is the only rest of the run."""
    events = [(10.0 * k, 10.0, ("a", "c", "b", "c")[k % 4]) for k in range(24)]
    maker = BidsMaker(tmp_path / "bids")
    maker.bold(n_volumes=120, tr=2.0)
    (file,) = maker.root.glob("sub-*/func/*_bold.nii.gz")
    image = nb.load(file)
    data = np.full(image.shape, 100.0)
    data[0] = 10  # background
    data[..., :n_dummy] *= 1.5
    nb.save(nb.Nifti1Image(data.astype(np.float32), image.affine, image.header), file)
    maker.events(rows=events)
    plan = plan_for(maker)
    found = contrasts(plan)
    if n_dummy:
        assert {*found} == {"aMinusB", "aMinusC", "bMinusC"}
        assert about(plan.warnings, STEM, "'c'", "not computed")
    else:
        assert {"a", "b", "c", "all"} <= {*found}
    requested = plan_for(maker, "--contrasts", "a", "a-c")
    assert {*contrasts(requested)} == {"a", "aMinusC"}
    (notice,) = [one for one in requested.warnings if "standard errors" in one.why]
    assert notice.why.startswith("standard errors of a are ")  # not of aMinusC
    design = build_design(
        read_events(next(iter(maker.root.glob("sub-*/func/*_events.tsv")))),
        n_volumes=120,
        tr=2.0,
        n_dummy=n_dummy,
        confound_names=(),
    )
    paused = [(22.0 * k, length, name) for k, (_, length, name) in enumerate(events)]
    reference = build_design(make_events(paused), n_volumes=264, tr=2.0, confound_names=())
    variances = [np.linalg.inv(one.matrix.T @ one.matrix)[0, 0] for one in (design, reference)]
    expected = np.sqrt(variances[0] / variances[1])
    match = re.search(r"are ([\d.]+) times", notice.why)
    assert match
    assert float(match[1]) == pytest.approx(expected, rel=0.1)


def test_pauses_are_rest_only_by_name_by_design_and_without_a_request() -> None:
    """Contrasts are as if the pauses were called rest; conditions of any name are kept."""
    blocks = [(10.0 * k, 10.0, ("thumb", "fix", "little", "fix")[k % 4]) for k in range(24)]

    def plan_named(pause: str, *options: str, rows: Rows = blocks) -> Plan:
        renamed = [(start, length, name.replace("fix", pause)) for start, length, name in rows]
        return plan_of(renamed, *options, n_volumes=120)

    at_rest = contrasts(plan_named("rest"))
    for number, name in enumerate(("fix", "ITI", "off", "rest_block", "fixation cross")):
        late = [(start + 3 * number, length, kind) for start, length, kind in blocks]
        plan = plan_named(name, rows=late)
        assert contrasts(plan) == at_rest
        assert [run.pauses for run in plan.runs] == [(name,)]
        assert about(plan.warnings, STEM, repr(name), "taken for rest")
    for options in (("thumb-fix",), ("fix", "thumb"), ("h=thumb-.5*fix",)):
        plan = plan_named("fix", "--contrasts", *options)
        assert [run.pauses for run in plan.runs] == [()]
        assert any("fix" in weights for weights in contrasts(plan).values())
    plan = plan_named("fix", "--contrasts", "all")
    assert contrasts(plan) == {"all": {"little": 0.5, "thumb": 0.5}}
    sparse = [(start, length / 2, name) for start, length, name in blocks]
    for name, rows in (("0-back", blocks), ("fix", sparse)):
        assert [run.pauses for run in plan_named(name, rows=rows).runs] == [()]
    only = [(start, length, "fix") for start, length, _ in blocks[1::2]]
    assert contrasts(plan_named("off", rows=only)) == {"off": {"off": 1.0}}


def repeat_blocks(period: float, trial_type: str = "a", *, share: float = 0.5) -> Rows:
    """Return blocks that fill a share of each period of a run of 600 s."""
    onsets = np.arange(0.3 * period, 600, period)
    return [(float(onset), share * period, trial_type) for onset in onsets]


def find_percentages(plan: Plan) -> dict[str, float]:
    """Return the observed share of the response (%) in notes about imprecise types."""
    assert plan.problems == ()
    pattern = re.compile(r"effects of the trial type '(\w+)' .* only ([\d.]+)% of its response")
    matches = [pattern.match(notice.why) for notice in plan.warnings]
    return {match[1]: float(match[2]) for match in matches if match}


FILM = [(0.0, 600.0, "film")]


@pytest.mark.parametrize(
    ("events", "tr", "expected"),
    [
        (FILM, 2.0, {"film": 0.6}),
        (FILM, 0.1, {"film": 0.6}),
        ([(10.0, 580.0, "film")], 10.0, {"film": 2}),
        (repeat_blocks(150), 2.0, {"a": 9.5}),
        (repeat_blocks(200), 0.5, {"a": 10}),
        (repeat_blocks(256), 10.0, {"a": 11}),
        ([*repeat_blocks(200), *repeat_blocks(40, "b", share=0.25)], 2.0, {"a": 10}),
        (repeat_blocks(100), 2.0, {}),
        (repeat_blocks(60, share=0.75), 0.5, {}),
        ([(float(onset), 0.0, "a") for onset in range(3, 590, 12)], 2.0, {}),
    ],
)
def test_a_design_whose_response_is_removed_by_mean_and_drift_is_noted(
    events: Rows, tr: float, expected: dict[str, float]
) -> None:
    plan = plan_of(events, n_volumes=round(600 / tr), tr=tr)
    assert find_percentages(plan) == pytest.approx(expected, rel=0.25)
