"""Series of other programs (``--compare``): found by name and entities, and refused where they do
not fit the run.
"""

from pathlib import Path

import numpy as np
import pytest
from bidsmaker import BidsMaker
from graphmaker import stage_minutes
from scipy import ndimage

from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings, UsageError
from bids_sr.preflight import Plan, check, check_data

PLAIN = ["--skip-bids-validation", "--sr-method", "bspline", "zerofill", "--sr-factor", "2"]
HIGH = (3.0, 3.0, 4.0)


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BidsMaker:
    """A run with events and a T1w image, and no pair."""
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "templateflow"))
    made = BidsMaker(tmp_path / "bids")
    made.bold()
    made.events()
    made.t1w()
    return made


def other(maker: BidsMaker) -> BidsMaker:
    return BidsMaker(maker.root.parent / "made")


def settings_for(maker: BidsMaker, *compare: object, more: tuple[str, ...] = ()) -> Settings:
    argv = [str(maker.root), str(maker.root.parent / "out"), "participant", *PLAIN, *more]
    options = [part for each in compare for part in ("--compare", str(each))]
    return parse_settings([*argv, *options]).resolved(run_uuid="x")


def planned(maker: BidsMaker, *compare: object, more: tuple[str, ...] = ()) -> Plan:
    return check(settings_for(maker, *compare, more=more))


def told(plan: Plan) -> str:
    return "\n".join(map(str, plan.problems))


def test_a_file_and_a_folder_give_the_series_of_the_run(maker: BidsMaker) -> None:
    denoised = other(maker).bold("sub-01_task-tap_desc-denoised")
    finer = BidsMaker(maker.root.parent / "finer").bold(
        zooms=HIGH, sidecar={"SliceTimingCorrected": True}
    )
    asked = (f"NORDIC={denoised}", f"finer={finer.parents[2]}")
    plan = planned(maker, *asked)
    assert told(plan) == ""
    found = plan.runs[0].compared
    assert {name: each.bold for name, each in found.items()} == {
        "NORDIC": denoised,
        "finer": finer,
    }
    assert {name: each.is_corrected for name, each in found.items()} == {
        "NORDIC": False,
        "finer": True,
    }
    assert set(plan.runs[0].images) >= {denoised, finer}, (
        "their voxels are checked before the work"
    )
    alone = planned(maker)
    assert alone.runs[0].compared == {}
    assert stage_minutes(settings_for(maker, *asked))["series from other programs"] > 0
    assert plan.estimate.work_gb > alone.estimate.work_gb


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("bspline", "is reserved for a series"),
        ("sbl", "is reserved for a series"),
        ("measured", "is reserved for a series"),
        ("otherRun", "is reserved for a series"),
        ("mineMirror", "is reserved for a series"),
        ("mineSame", "is reserved for a series"),
        ("my-own", "other than letters and digits"),
    ],
)
def test_names_that_stand_for_something_else_are_refused(
    maker: BidsMaker, name: str, why: str
) -> None:
    assert why in told(planned(maker, f"{name}={other(maker).bold()}"))


def test_what_is_given_twice_or_is_nowhere_is_refused(maker: BidsMaker) -> None:
    series = other(maker).bold()
    assert "is used for several series" in told(planned(maker, f"A={series}", f"A={series}"))
    assert "the file or directory was not found" in told(planned(maker, "A=/nowhere.nii.gz"))
    assert "the file is identical to the run" in told(
        planned(maker, f"A={maker.path('sub-01_task-tap_bold.nii.gz', 'func')}")
    )
    with pytest.raises((UsageError, SystemExit)):
        planned(maker, "A=")
    alone = [each if each != "zerofill" else "linear" for each in PLAIN]
    argv = [
        str(maker.root),
        str(maker.root.parent / "out"),
        "participant",
        *alone,
        "--compare",
        f"A={series}",
    ]
    assert "Add zerofill to --sr-method" in told(
        check(parse_settings(argv).resolved(run_uuid="x"))
    )


def test_a_file_is_of_one_run_and_a_folder_of_all(maker: BidsMaker) -> None:
    maker.bold("sub-01_task-tap_run-2")
    maker.events("sub-01_task-tap_run-2")
    made = other(maker)
    series = made.bold("sub-01_task-tap_run-2")
    assert "is a single series, but 2 runs are selected" in told(planned(maker, f"A={series}"))
    found = planned(maker, f"A={series}", more=("--run-id", "2"))
    assert [each.bold for run in found.runs for each in run.compared.values()] == [series]
    some = planned(maker, f"A={made.root}")
    assert [len(run.compared) for run in some.runs] == [0, 1]
    assert any(
        "does not contain a series for sub-01_task-tap, so this run is not compared" in each.why
        for each in some.warnings
    )
    assert ("a series for any of the selected runs") in told(
        planned(maker, f"A={maker.root / 'sub-01'}")
    )
    made.bold()
    assert [len(run.compared) for run in planned(maker, f"A={made.root}").runs] == [1, 1]


def test_several_candidates_are_listed_with_the_way_to_choose(maker: BidsMaker) -> None:
    made = other(maker)
    for desc in ("optcom", "optcomDenoised"):
        made.bold(f"sub-01_task-tap_desc-{desc}")
    made.bold("sub-01_task-tap_space-MNI152NLin2009cAsym_desc-preproc")
    problems = told(planned(maker, f"tedana={made.root}"))
    assert "desc-optcomDenoised_bold.nii.gz, sub-01_task-tap_desc-optcom_bold.nii.gz" in problems
    assert "MNI152" not in problems
    assert f"--compare tedana={made.root}:desc-optcom" in problems
    (chosen,) = planned(maker, f"tedana={made.root}:desc-optcomDenoised").runs[0].compared.values()
    assert chosen.bold.name == "sub-01_task-tap_desc-optcomDenoised_bold.nii.gz"
    assert "Available: desc-optcom, desc-optcomDenoised" in told(
        planned(maker, f"tedana={made.root}:desc-none")
    )


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"n_volumes": 29}, "29 volumes, but sub-01_task-tap_bold.nii.gz has 30"),
        ({"tr": 1.1}, "repetition time of the series is 1.1 s"),
        (
            {"zooms": (12.0, 12.0, 4.0)},
            ("matrix size 4×4×6 is smaller than the acquired matrix size 8×8×6"),
        ),
        (
            {"zooms": (1.5, 1.5, 4.0)},
            "matrix size 32×32×6 is larger than the high-resolution matrix size 16×16×6",
        ),
        ({"shift": (6.0, 0, 0)}, "outer edges are shifted by up to 6 mm (1 acquired voxels)"),
    ],
)
def test_times_and_grids_that_do_not_fit_are_refused_before_the_work(
    maker: BidsMaker, changed: dict[str, object], why: str
) -> None:
    series = other(maker).bold(**changed)  # type: ignore[arg-type]
    assert why in told(planned(maker, f"A={series}"))


def test_another_run_of_the_task_is_the_reference_of_compared_series(maker: BidsMaker) -> None:
    for run in ("2", "3"):
        maker.bold(f"sub-01_task-tap_run-{run}")
        maker.events(f"sub-01_task-tap_run-{run}")
    maker.bold("sub-01_task-other")
    maker.events("sub-01_task-other")
    series = other(maker).bold("sub-01_task-tap_run-2")
    plan = planned(maker, f"A={series}", more=("--run-id", "2"))
    assert plan.runs[0].another is not None
    assert plan.runs[0].another.bold.name == "sub-01_task-tap_run-3_bold.nii.gz", (
        "the nearest in number"
    )
    assert any("compared with this run" in notice.why for notice in plan.warnings)
    assert plan.unsplit == frozenset()
    rows = [(2.0, 4.0, "thumb"), (14.0, 4.0, "little")]  # one block each cannot be split
    maker.events("sub-01_task-tap_run-3", rows=rows)
    plan = planned(maker, f"A={series}", more=("--run-id", "2"))
    assert plan.unsplit == {plan.runs[0].another.bold}
    maker.events("sub-01_task-tap_run-3", rows=[(2.0, 4.0, "foot"), (8.0, 4.0, "foot")])
    maker.bold("sub-01_task-tap", zooms=(4.0, 4.0, 4.0))
    assert planned(maker, f"A={series}", more=("--run-id", "2")).runs[0].another is None, (
        "other events, another grid"
    )
    assert planned(maker, more=("--run-id", "2")).runs[0].another is None, "nothing is compared"


def test_a_series_shifted_by_a_voxel_is_refused_before_the_work(maker: BidsMaker) -> None:
    rng = np.random.default_rng(0)
    x, y, z = np.indices((24, 24, 8))
    head = ((x - 12) / 9) ** 2 + ((y - 12) / 9) ** 2 + ((z - 4) / 5) ** 2 < 1
    still = np.where(
        head, 800 + 200 * ndimage.gaussian_filter(rng.standard_normal(head.shape), 1), 20
    )
    run = (still[..., None] + rng.normal(0, 8, (*head.shape, 30))).astype(np.float32)
    maker.bold(zooms=(2.0, 2.0, 3.0), data=run)
    shifted = other(maker).bold(zooms=(2.0, 2.0, 3.0), data=np.roll(run, 1, 1))
    good = BidsMaker(maker.root.parent / "good").bold(
        zooms=(2.0, 2.0, 3.0), data=0.5 * run + 0.5 * still[..., None]
    )
    plan = planned(maker, f"shifted={shifted}", f"good={good}")
    assert told(plan) == ""
    (problem,) = check_data(plan)
    assert (problem.what, "+1.00 voxels along y" in problem.why) == (str(shifted), True)
