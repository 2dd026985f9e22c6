"""Series of other programs (``--compare``): matching by name and entities, and rejected series."""

from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from data.calls import plan_for, settings_for
from data.dataset import EVENTS, BidsMaker
from graphmaker import stage_minutes
from scipy import ndimage

from bids_sr.io.notices import UsageError
from bids_sr.survey.preflight.plan import Plan
from bids_sr.survey.preflight.voxel_checks import check_data

PLAIN = ["--sr-method", "bspline", "zerofill", "--sr-factor", "2"]
HIGH = (3.0, 3.0, 4.0)


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BidsMaker:
    """Return a dataset with a run, events and a T1w image, but without a pair."""
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "templateflow"))
    data = BidsMaker(tmp_path / "bids")
    data.bold()
    data.events()
    data.t1w()
    return data


def other_dataset(maker: BidsMaker) -> BidsMaker:
    return BidsMaker(maker.root.parent / "made")


def options_of(*compare: object) -> list[str]:
    return [part for series in compare for part in ("--compare", str(series))]


def plan_call(maker: BidsMaker, *compare: object, extra: tuple[str, ...] = ()) -> Plan:
    return plan_for(maker, *PLAIN, *extra, *options_of(*compare))


def scanned_head() -> np.ndarray:
    """Return the mean image of a textured head."""
    x, y, z = np.indices((24, 24, 8))
    inside = ((x - 12) / 9) ** 2 + ((y - 12) / 9) ** 2 + ((z - 4) / 5) ** 2 < 1
    texture = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(inside.shape), 1)
    return np.where(inside, 800 + 200 * texture, 20)


def problems_text(plan: Plan) -> str:
    return "\n".join(map(str, plan.problems))


def test_a_file_and_a_folder_are_matched_with_the_run(maker: BidsMaker) -> None:
    denoised = other_dataset(maker).bold("sub-01_task-tap_desc-denoised")
    high_resolution = BidsMaker(maker.root.parent / "finer").bold(
        zooms=HIGH, sidecar={"SliceTimingCorrected": True}
    )
    compared = (f"NORDIC={denoised}", f"finer={high_resolution.parents[2]}:corrected")
    plan = plan_call(maker, *compared)
    assert problems_text(plan) == ""
    series_by_name = plan.runs[0].compared
    assert {name: series.bold for name, series in series_by_name.items()} == {
        "NORDIC": denoised,
        "finer": high_resolution,
    }
    for name, is_corrected in (("NORDIC", False), ("finer", True)):
        assert series_by_name[name].is_corrected is is_corrected
        assert series_by_name[name].motion_corrected is is_corrected
    # voxels of compared series are checked before processing
    assert set(plan.runs[0].images) >= {denoised, high_resolution}
    plan_without = plan_call(maker)
    assert plan_without.runs[0].compared == {}
    assert (
        stage_minutes(settings_for(maker, *PLAIN, *options_of(*compared)))[
            "series from other programs"
        ]
        > 0
    )
    assert plan.estimate.work_gb > plan_without.estimate.work_gb


@pytest.mark.parametrize(
    "name", ["bspline", "sbl", "SBL", "Zerofill", "otherRun", "mineMirror", "mineSame", "my-own"]
)
def test_reserved_and_invalid_names_are_rejected(maker: BidsMaker, name: str) -> None:
    (problem,) = plan_call(maker, f"{name}={other_dataset(maker).bold()}").problems
    assert name in str(problem)


def test_duplicate_missing_and_identical_series_are_rejected(maker: BidsMaker) -> None:
    series = other_dataset(maker).bold()
    own = maker.path("sub-01_task-tap_bold.nii.gz", "func")
    twice = plan_call(maker, f"A={series}", f"a={series}").problems
    assert [problem.what.partition("=")[0] for problem in twice] == ["--compare A", "--compare a"]
    for compared in ((f"A={series}", f"A={series}"), ("A=/nowhere.nii.gz",), (f"A={own}",)):
        (problem,) = plan_call(maker, *compared).problems
        assert compared[0].removeprefix("A=") in str(problem) or "A" in problem.what
    with pytest.raises((UsageError, SystemExit)):
        plan_call(maker, "A=")
    without_zerofill = ("--sr-method", "bspline", "linear")
    factor = ("--sr-factor", "2")
    plan = plan_for(maker, *without_zerofill, *factor, *options_of(f"A={series}"))
    assert "zerofill" in problems_text(plan)


def test_a_file_matches_a_single_run_and_a_folder_all_runs(maker: BidsMaker) -> None:
    maker.bold("sub-01_task-tap_run-2")
    maker.events("sub-01_task-tap_run-2")
    dataset = other_dataset(maker)
    series = dataset.bold("sub-01_task-tap_run-2")
    assert "2 runs" in problems_text(plan_call(maker, f"A={series}"))
    plan_of_run_2 = plan_call(maker, f"A={series}", extra=("--run-id", "2"))
    assert [entry.bold for run in plan_of_run_2.runs for entry in run.compared.values()] == [
        series
    ]
    partial_plan = plan_call(maker, f"A={dataset.root}")
    assert [len(run.compared) for run in partial_plan.runs] == [0, 1]
    assert any("sub-01_task-tap," in entry.why for entry in partial_plan.warnings)
    assert plan_call(maker, f"A={maker.root / 'sub-01'}").problems
    dataset.bold()
    assert [len(run.compared) for run in plan_call(maker, f"A={dataset.root}").runs] == [1, 1]


def test_several_candidates_are_listed_with_an_option_to_choose(maker: BidsMaker) -> None:
    dataset = other_dataset(maker)
    for desc in ("optcom", "optcomDenoised"):
        dataset.bold(f"sub-01_task-tap_desc-{desc}")
    dataset.bold("sub-01_task-tap_space-MNI152NLin2009cAsym_desc-preproc")
    problems = problems_text(plan_call(maker, f"tedana={dataset.root}"))
    assert "desc-optcomDenoised_bold.nii.gz, sub-01_task-tap_desc-optcom_bold.nii.gz" in problems
    assert "MNI152" not in problems
    assert f"--compare tedana={dataset.root}:desc-optcom" in problems
    assert f"--compare tedana={dataset.root}:desc-optcom:corrected" in problems_text(
        plan_call(maker, f"tedana={dataset.root}:corrected")
    )
    for mark in ("", ":corrected"):
        option = f"tedana={dataset.root}:desc-optcomDenoised{mark}"
        (series,) = plan_call(maker, option).runs[0].compared.values()
        assert series.bold.name == "sub-01_task-tap_desc-optcomDenoised_bold.nii.gz"
        assert series.motion_corrected == bool(mark)
    assert "Available: desc-optcom, desc-optcomDenoised" in problems_text(
        plan_call(maker, f"tedana={dataset.root}:desc-none")
    )


@pytest.mark.parametrize(
    ("changes", "numbers"),
    [
        ({"n_volumes": 29}, ("29", "30")),
        ({"tr": 1.1}, ("1.1 s",)),
        ({"zooms": (12.0, 12.0, 4.0)}, ("4×4×6", "8×8×6")),
        ({"zooms": (1.5, 1.5, 4.0)}, ("32×32×6", "16×16×6")),
        ({"zooms": (4.0, 4.0, 4.0)}, ("12 × 12 × 6", "8 × 8 × 6", "16 × 16 × 6")),
        ({"shift": (6.0, 0, 0)}, ("6 mm", "1 acquired voxel")),
    ],
)
def test_series_with_other_times_or_grids_are_rejected_before_processing(
    maker: BidsMaker, changes: dict[str, object], numbers: tuple[str, ...]
) -> None:
    series = other_dataset(maker).bold(**changes)  # type: ignore[arg-type]
    (problem,) = plan_call(maker, f"A={series}").problems
    assert problem.what == str(series)
    assert [number for number in numbers if number not in problem.why] == []


@pytest.mark.parametrize("zooms", [(6.0, 6.0, 4.0), (4.0, 4.0, 4.0), HIGH])
def test_the_space_in_the_name_of_a_series_allows_grids_between_those_of_the_run(
    maker: BidsMaker, zooms: tuple[float, float, float]
) -> None:
    dataset = other_dataset(maker)
    series = dataset.bold("sub-01_task-tap_space-boldref", zooms=zooms)
    dataset.bold("sub-01_task-tap_space-individual", zooms=zooms)
    for path in (series, dataset.root):
        plan = plan_call(maker, f"A={path}")
        assert problems_text(plan) == ""
        assert plan.runs[0].compared["A"].bold == series


def test_a_series_in_another_space_is_rejected_by_its_name(maker: BidsMaker) -> None:
    dataset = other_dataset(maker)
    series = dataset.bold("sub-01_task-tap_space-T1w")
    for path in (series, dataset.root):
        plan = plan_call(maker, f"A={path}")
        (problem,) = plan.problems
        assert problem.what == str(series)
        assert "space-T1w" in problem.why
        assert "space-boldref" in problem.remedy


def test_another_run_of_the_task_is_the_reference_of_compared_series(maker: BidsMaker) -> None:
    for run in ("2", "3"):
        maker.bold(f"sub-01_task-tap_run-{run}")
        maker.events(f"sub-01_task-tap_run-{run}")
    maker.bold("sub-01_task-other")
    maker.events("sub-01_task-other")
    series = other_dataset(maker).bold("sub-01_task-tap_run-2")
    plan = plan_call(maker, f"A={series}", extra=("--run-id", "2"))
    assert plan.runs[0].same_task_run is not None
    assert plan.runs[0].same_task_run.bold.name == "sub-01_task-tap_run-3_bold.nii.gz", (
        "the run with the closest number"
    )
    assert plan.unsplit == frozenset()
    rows = [
        (2.0, 4.0, "thumb"),
        (14.0, 4.0, "little"),
    ]  # conditions with a single block cannot be split
    maker.events("sub-01_task-tap_run-3", rows=rows)
    plan = plan_call(maker, f"A={series}", extra=("--run-id", "2"))
    assert plan.unsplit == {plan.runs[0].same_task_run.bold}
    rest = [(16.0 + 5 * k, 2.0, name) for k, name in enumerate(("NA", "rest", "n/a"))]
    maker.events("sub-01_task-tap_run-2", rows=[*EVENTS, *rest])
    plan = plan_call(maker, f"A={series}", extra=("--run-id", "2"))
    assert plan.runs[0].same_task_run is not None, "rest and missing types need not be shared"
    maker.events("sub-01_task-tap_run-3", rows=[(2.0, 4.0, "foot"), (8.0, 4.0, "foot")])
    maker.bold("sub-01_task-tap", zooms=(4.0, 4.0, 4.0))
    assert (
        plan_call(maker, f"A={series}", extra=("--run-id", "2")).runs[0].same_task_run is None
    ), "other events, another grid"
    assert plan_call(maker, extra=("--run-id", "2")).runs[0].same_task_run is None, (
        "nothing is compared"
    )


def test_a_series_shifted_by_a_voxel_is_rejected_before_processing(maker: BidsMaker) -> None:
    still, zooms = scanned_head(), (2.0, 2.0, 3.0)
    noise = np.random.default_rng(1).normal(0, 8, (*still.shape, 30))
    run = (still[..., None] + noise).astype(np.float32)
    maker.bold(zooms=zooms, data=run)
    shifted = other_dataset(maker).bold(zooms=zooms, data=np.roll(run, 1, 1))
    aligned = BidsMaker(maker.root.parent / "good").bold(
        zooms=zooms, data=0.5 * run + 0.5 * still[..., None]
    )
    plan = plan_call(maker, f"shifted={shifted}", f"good={aligned}")
    assert problems_text(plan) == ""
    (problem,) = check_data(plan)
    assert (problem.what, "+1.00 voxels along y" in problem.why) == (str(shifted), True)


def test_a_series_that_contradicts_its_mark_is_rejected_before_processing(
    maker: BidsMaker,
) -> None:
    still, zooms = scanned_head(), (2.0, 2.0, 3.0)
    noise = np.random.default_rng(1).normal(0, 8, (*still.shape, 30))
    moving = np.stack(
        [ndimage.shift(still, (0.04 * t, 0, 0), mode="nearest") for t in range(30)], -1
    )
    maker.bold(zooms=zooms, data=(moving + noise).astype(np.float32))
    series = {"denoised": moving + noise / 2, "corrected": still[..., None] + noise}
    files = {
        name: BidsMaker(maker.root.parent / name).bold(zooms=zooms, data=data.astype(np.float32))
        for name, data in series.items()
    }
    right_marks = (f"A={files['denoised']}", f"B={files['corrected']}:corrected")
    assert check_data(plan_call(maker, *right_marks)) == ()
    wrong_marks = (f"A={files['denoised']}:corrected", f"B={files['corrected']}")
    problems = check_data(plan_call(maker, *wrong_marks))
    assert [problem.what for problem in problems] == [str(file) for file in files.values()]
    assert all(":corrected" in problem.remedy for problem in problems)


@pytest.mark.parametrize("is_mirrored", [False, True])
def test_a_series_is_compared_with_the_middle_echo_in_the_order_of_the_run(
    maker: BidsMaker, *, is_mirrored: bool
) -> None:
    rng = np.random.default_rng(0)
    head = ndimage.gaussian_filter(rng.normal(size=(16, 16, 12)), 1) * 400 + 700
    series = head[..., None] + rng.normal(0, 5, (16, 16, 12, 30))
    maker.path("sub-01_task-tap_bold.nii.gz", "func").unlink()
    maker.path("sub-01_task-tap_bold.json", "func").unlink()
    for echo in (1, 2, 3):
        path = maker.bold(
            f"sub-01_task-tap_echo-{echo}",
            data=((series + rng.normal(0, 10, series.shape)) * 0.8**echo).astype("int16"),
            sidecar={"EchoTime": 0.015 * echo},
        )
        if echo == 2 and is_mirrored:
            image = nb.load(path)
            affine = image.affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
            affine[:3, 3] += image.affine[:3, 0] * 15
            nb.Nifti1Image(np.asarray(image.dataobj)[::-1], affine, image.header).to_filename(path)
    combined = other_dataset(maker).bold(data=(series * 0.6).astype("int16"))
    plan = plan_call(maker, f"good={combined}")
    assert problems_text(plan) == ""
    assert list(plan.runs[0].compared) == ["good"]
    assert check_data(plan) == ()
