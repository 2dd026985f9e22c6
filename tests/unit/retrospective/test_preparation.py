"""Test the reference simulated from the data: its files, their content, and that they are written
once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from checking import found_by
from data.dataset import BidsMaker, snapshot
from graphmaker import stage_minutes

from bids_sr.bids import Findings
from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.preflight import Plan, check, check_data, dry_run_text, validator
from bids_sr.retrospective import downsampling, preparation
from bids_sr.retrospective.preparation import _shift_events, prepare
from bids_sr.spatial.transforms import resize_affine
from bids_sr.sr.matrices import kspace_crop

FACTOR = (2.0, 2.0, 1.0)
BOLD, EVENTS = "sub-01_task-tap_bold.nii.gz", "sub-01_task-tap_events.tsv"
BLOCKS = tuple((8.0 + 10 * k, 4.0, ("thumb", "little")[k % 2]) for k in range(6))
TIMES = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BidsMaker:
    """Create a run of 80 volumes with 24 x 24 x 6 voxels, 2 mm in plane, without a T2* pair."""
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "templateflow"))
    monkeypatch.chdir(tmp_path)
    bids_maker = BidsMaker(tmp_path / "bids")
    bids_maker.bold(
        zooms=(2.0, 2.0, 4.0), data=series((24, 24, 6, 80)), sidecar={"SliceTiming": TIMES}
    )
    bids_maker.events(rows=BLOCKS)
    bids_maker.t1w()
    return bids_maker


def series(shape: tuple[int, ...], noise: float = 10.0) -> np.ndarray:
    """Return a structured head with white noise over time, (*shape) as int16."""
    rng = np.random.default_rng(0)
    x, y = np.indices(shape[:2]) / (np.array(shape[:2])[:, None, None] / 2) - 1
    head = (x**2 + y**2 < 0.7)[..., None, None] * (600 + 300 * rng.random((*shape[:3], 1)))
    return (100 + head + noise * rng.standard_normal(shape)).astype("int16")


def test_slices_along_the_first_axis_are_downsampled_in_plane(maker: BidsMaker) -> None:
    path = maker.path(BOLD, "func")
    image = nb.load(path)
    prepare_plan(maker)
    expected = {name: voxels(path) for name, path in _made_series(maker).items()}
    reoriented = nb.Nifti1Image(
        np.transpose(image.dataobj, (2, 0, 1, 3)), image.affine[:, [2, 0, 1, 3]], image.header
    )  # type: ignore[attr-defined]
    nb.save(reoriented, path)
    sidecar = {"SliceTiming": TIMES, "SliceEncodingDirection": "i"}
    maker.json(
        path.with_name(path.name.replace(".nii.gz", ".json")),
        {"TaskName": "tap", "RepetitionTime": 1.0, **sidecar},
    )
    _, plan = prepare_plan(maker)
    (run,) = plan.subjects[0].runs
    assert run.shape == (12, 12, 6)
    assert run.slice_timing == tuple(TIMES)
    for name, series_file in _made_series(maker).items():
        np.testing.assert_allclose(voxels(series_file), expected[name], rtol=1e-5)


def _made_series(maker: BidsMaker) -> dict[str, Path]:
    root = maker.root.parent / "out" / "sourcedata"
    return {path.relative_to(root).parts[0]: path for path in sorted(root.rglob("*_bold.nii.gz"))}


def settings_for(maker: BidsMaker, *extra: str, noise: str = "clean") -> Settings:
    out = str(maker.root.parent / "out")
    line = [
        str(maker.root),
        out,
        "participant",
        "--skip-bids-validation",
        "--retrospective",
        noise,
        *extra,
    ]
    return parse_settings(line).resolve(run_uuid="x")


def prepare_plan(maker: BidsMaker, *extra: str, noise: str = "clean") -> tuple[Settings, Plan]:
    """Check the settings, write the downsampled copy, and check the copy."""
    settings = settings_for(maker, *extra, noise=noise)
    plan = check(settings)
    assert plan.problems == ()
    derived = prepare(settings, plan.subjects, plan.type_order)
    derived_plan = check(derived)
    assert derived_plan.problems == ()
    return derived, derived_plan


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nb.load(path).dataobj)  # type: ignore[attr-defined]


def test_the_acquired_volumes_are_the_reference_and_their_copies_are_downsampled(
    maker: BidsMaker,
) -> None:
    derived, plan = prepare_plan(maker)
    (run,) = plan.subjects[0].runs
    measured = nb.load(maker.path(BOLD, "func"))
    assert run.truth is not None
    assert run.truth.series is not None
    assert run.truth.series.slice_timing == tuple(TIMES)
    truth = nb.load(run.truth.series.bold)
    assert truth.get_data_dtype() == measured.get_data_dtype()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(
        voxels(run.truth.series.bold), np.asarray(measured.dataobj)[..., 10:]
    )  # type: ignore[attr-defined]
    np.testing.assert_array_equal(truth.affine, measured.affine)  # type: ignore[attr-defined]
    assert (run.shape, run.n_volumes, run.tr) == ((12, 12, 6), 70, 1.0)
    np.testing.assert_allclose(
        run.affine, resize_affine(measured.affine, (24, 24, 6), (12, 12, 6)), atol=1e-5
    )  # type: ignore[attr-defined]
    volume = np.asarray(measured.dataobj)[..., 37].astype(complex)  # type: ignore[attr-defined]
    np.testing.assert_allclose(
        voxels(run.bold)[..., 27],
        np.abs(kspace_crop(volume, np.eye(4), factor=FACTOR)[0]),
        rtol=1e-4,
    )
    for root in (derived.paths.retrospective_dir, derived.paths.retrospective_truth_dir):
        name = json.loads((root / "dataset_description.json").read_text())["Name"]
        assert (root / "README").read_text().startswith(f"# {name}\n")
    assert derived.evaluation.truth_dir == derived.paths.retrospective_truth_dir
    assert (derived.evaluation.retrospective, derived.superres.factor) == (None, (2.0,))
    assert check_data(plan) == ()


def test_the_pair_shares_no_volumes_with_the_run(maker: BidsMaker) -> None:
    """Average the first ten volumes, which neither series contains, to make the pair; onsets move
    back by the same time.
    """
    _, plan = prepare_plan(maker)
    (run,) = plan.subjects[0].runs
    assert run.pair is not None
    assert run.pair.lowres is not None
    first = voxels(maker.path(BOLD, "func"))[..., :10].mean(-1)
    np.testing.assert_allclose(voxels(run.pair.highres), first, rtol=1e-5)
    low = np.abs(kspace_crop(first.astype(complex), np.eye(4), factor=FACTOR)[0])
    np.testing.assert_allclose(voxels(run.pair.lowres), low, rtol=1e-3)
    rows = run.events.read_text().splitlines()
    assert rows[1].split("\t") == ["-2", "4.0", "thumb"]
    assert len(rows) == 7


def test_a_pair_of_the_data_moves_to_half_the_resolution(maker: BidsMaker) -> None:
    low_res = series((24, 24, 6, 1))[..., 0]
    maker.star("sub-01_acq-fine_run-2", (1.0, 1.0, 4.0))
    maker.star("sub-01_acq-coarse_run-2", (2.0, 2.0, 4.0), data=low_res)
    derived, plan = prepare_plan(maker, "--dummy-scans", "3")
    (run,) = plan.subjects[0].runs
    assert run.pair is not None
    assert run.pair.highres.name == "sub-01_acq-highres_run-2_T2starw.nii.gz"
    np.testing.assert_array_equal(voxels(run.pair.highres), low_res)
    assert run.n_volumes == 77, "no volume makes the pair; the dummies are left out"
    assert derived.preprocessing.dummy_scans == 0


def test_a_single_high_resolution_image_is_first_downsampled_to_the_bold_resolution(
    maker: BidsMaker,
) -> None:
    high_res_path = maker.star("sub-01_acq-fine", (1.0, 1.0, 4.0))
    _, plan = prepare_plan(maker)
    (run,) = plan.subjects[0].runs
    assert run.pair is not None
    downsampled = kspace_crop(
        voxels(high_res_path).astype(float), np.eye(4), factor=FACTOR, magnitude=True
    )[0]
    np.testing.assert_allclose(voxels(run.pair.highres), downsampled, rtol=1e-4)


def test_dummies_are_detected_before_the_pair_is_averaged(maker: BidsMaker) -> None:
    data = series((24, 24, 6, 80))
    data[..., :3] = (data[..., :3] * np.array([1.5, 1.3, 1.1])).astype("int16")
    maker.bold(zooms=(2.0, 2.0, 4.0), data=data)
    settings = settings_for(maker)
    assert " 67 volumes" in dry_run_text(check(settings), settings)
    _, plan = prepare_plan(maker)
    (run,) = plan.subjects[0].runs
    assert run.n_volumes == 67
    assert run.pair is not None
    np.testing.assert_allclose(voxels(run.pair.highres), data[..., 3:13].mean(-1), rtol=1e-5)


def test_run_and_reference_of_odd_matrices_are_cropped_to_the_same_field_of_view(
    maker: BidsMaker,
) -> None:
    shape = (25, 23, 6, 60)
    image = nb.Nifti1Image(series(shape), nb.load(maker.path(BOLD, "func")).affine)  # type: ignore[attr-defined]
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 1.0
    nb.save(image, maker.path(BOLD, "func"))
    _, plan = prepare_plan(maker)
    (run,) = plan.subjects[0].runs
    assert run.truth is not None
    assert run.truth.series is not None
    assert run.shape == (12, 11, 6)
    np.testing.assert_array_equal(voxels(run.truth.series.bold), series(shape)[:24, :22, :, 10:])


def test_a_factor_that_is_not_an_integer(maker: BidsMaker) -> None:
    _, plan = prepare_plan(maker, "--sr-factor", "1.5")
    (run,) = plan.subjects[0].runs
    assert run.shape == (16, 16, 6)
    assert run.pair is not None
    assert run.pair.factor == (1.5, 1.5, 1.0)


def test_slices_are_averaged_if_the_factor_makes_them_thicker(maker: BidsMaker) -> None:
    """Use a run with an odd number of slices with separate times, whose last slice is dropped."""
    times = [0.0, 0.5, 0.1, 0.6, 0.2, 0.7, 0.3]
    sidecar = {"SliceTiming": times[::-1], "SliceEncodingDirection": "k-", "SliceThickness": 3.0}
    maker.bold(zooms=(2.0, 2.0, 24 / 7), data=series((24, 24, 7, 80)), sidecar=sidecar)
    derived, plan = prepare_plan(maker, "--sr-factor", "2", "2", "2")
    (run,) = plan.subjects[0].runs
    assert derived.superres.factor == (2.0, 2.0, 2.0)
    assert (run.shape, run.factor) == ((12, 12, 3), (2.0, 2.0, 2.0))
    assert run.truth is not None
    assert run.truth.series is not None
    assert run.truth.series.slice_timing == tuple(times[:6])
    assert run.slice_timing == pytest.approx((0.25, 0.35, 0.45))
    thick, thin = (
        data_series.sidecar["SliceThickness"] for data_series in (run, run.truth.series)
    )
    assert (thick, thin) == (6.0, 3.0)
    measured = nb.load(maker.path(BOLD, "func"))
    cropped = np.asarray(measured.dataobj)[:, :, :6]  # type: ignore[attr-defined]
    np.testing.assert_array_equal(voxels(run.truth.series.bold), cropped[..., 10:])
    flat = kspace_crop(cropped[..., 37].astype(complex), np.eye(4), factor=FACTOR)[0]
    mean = flat.reshape(12, 12, 3, 2).mean(-1)
    np.testing.assert_allclose(voxels(run.bold)[..., 27], np.abs(mean), rtol=1e-4)
    low, high = nb.load(run.bold), nb.load(run.truth.series.bold)
    np.testing.assert_allclose(
        low.affine, resize_affine(high.affine, (24, 24, 6), (12, 12, 3)), atol=1e-5
    )  # type: ignore[attr-defined]
    assert run.pair is not None
    assert run.pair.lowres is not None
    assert nb.load(run.pair.lowres).shape == (12, 12, 3)  # type: ignore[attr-defined]
    description = json.loads((derived.paths.bids_dir / "dataset_description.json").read_text())
    assert "factor 2×2×2, averaged across slices" in description["GeneratedBy"][0]["Description"]


def test_too_few_slices_are_rejected(maker: BidsMaker) -> None:
    settings = settings_for(maker, "--sr-factor", "2", "2", "4")
    reasons = [problem.why for problem in check(settings).problems]
    assert any(
        "--retrospective: the downsampled copy would have 1 slice(s)" in why for why in reasons
    )


def test_noisy_copies_have_the_noise_of_the_acquired_series(maker: BidsMaker) -> None:
    clean, noisy = (
        voxels(prepare_plan(maker, noise=noise)[1].subjects[0].runs[0].bold)
        for noise in ("clean", "noisy")
    )
    head = clean.mean(-1) > 500
    measured = voxels(maker.path(BOLD, "func"))
    noise_sd = measured.std(-1)[measured.mean(-1) > 500].mean()
    assert clean.std(-1)[head].mean() == pytest.approx(noise_sd / 2, rel=0.1)
    assert noisy.std(-1)[head].mean() == pytest.approx(noise_sd, rel=0.1)
    assert noisy.mean(-1)[head].mean() == pytest.approx(clean.mean(-1)[head].mean(), rel=1e-3)


def test_thermal_noise_is_estimated_in_spite_of_a_drift(tmp_path: Path) -> None:
    # Adds a drift that all voxels share.
    data = series((24, 24, 6, 60), noise=17.0) + (5 * np.arange(60)).astype("int16")
    save_image(data.astype("float32"), np.eye(4), tmp_path / "x.nii", tr=1.0)
    assert downsampling.thermal_noise(tmp_path / "x.nii") == pytest.approx(17.0, rel=0.05)


@pytest.mark.slow
def test_noise_follows_the_seed(maker: BidsMaker) -> None:
    def first(*extra: str) -> np.ndarray:
        return voxels(prepare_plan(maker, *extra, noise="noisy")[1].subjects[0].runs[0].bold)

    default, other_seed, repeated = first(), first("--random-seed", "1"), first()
    assert not np.array_equal(default, other_seed)
    np.testing.assert_array_equal(default, repeated)


def test_prepared_files_are_not_written_again(maker: BidsMaker) -> None:
    prepare_plan(maker)
    files = sorted((maker.root.parent / "out").rglob("*.*"))
    times = [path.stat().st_mtime_ns for path in files]
    prepare_plan(maker)
    assert [path.stat().st_mtime_ns for path in files] == times


@pytest.mark.parametrize(
    "change", ["events", "same time", "cut", "gone", "factor", "noise", "code"]
)
def test_copies_are_rewritten_after_a_change(
    change: str, maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plan = prepare_plan(maker)
    bold = plan.subjects[0].runs[0].bold
    before = bold.stat().st_mtime_ns
    extra, noise = [], "clean"
    if change == "events":
        maker.events(rows=(*BLOCKS, (70.0, 4.0, "thumb")))
    elif change == "same time":  # The file keeps its size, as after the correction of an onset.
        events = maker.path("sub-01_task-tap_events.tsv", "func")
        state, text = events.stat(), events.read_text()
        events.write_text(text.replace("1", "2", 1))
        os.utime(events, ns=(state.st_atime_ns, state.st_mtime_ns))
    elif change == "cut":
        os.truncate(bold, 100)
    elif change == "gone":
        bold.unlink()
    elif change == "factor":
        extra = ["--sr-factor", "3"]
    elif change == "code":
        monkeypatch.setattr(preparation, "compute_code_digest", lambda _: "another")
    else:
        noise = "noisy"
    prepare_plan(maker, *extra, noise=noise)
    assert bold.stat().st_mtime_ns != before
    assert SeriesReader(bold).shape[3] == 70


def test_an_interruption_leaves_no_partial_images(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(preparation, "write_measured_series", stop)
    settings = settings_for(maker)
    plan = check(settings)
    with pytest.raises(KeyboardInterrupt):
        prepare(settings, plan.subjects, plan.type_order)
    sourcedata = maker.root.parent / "out" / "sourcedata"
    assert sorted(path.name for path in sourcedata.iterdir()) == [
        "retrospective",
        "retrospective-truth",
    ]
    assert not list(sourcedata.rglob("*.nii.gz"))


def test_the_original_data_set_is_not_modified(maker: BidsMaker) -> None:
    before = snapshot(maker.root)
    prepare_plan(maker, noise="noisy")
    assert snapshot(maker.root) == before
    copied_t1w = maker.root.parent / "out/sourcedata/retrospective/sub-01/anat/sub-01_T1w.nii.gz"
    assert not copied_t1w.samefile(maker.path("sub-01_T1w.nii.gz", "anat")), (
        "a link would let a change reach it"
    )


def test_several_runs_share_one_pair(maker: BidsMaker) -> None:
    """Take the volumes of the pair from the first run of the session; the second keeps all
    volumes.
    """
    for number in (1, 2):
        maker.bold(
            f"sub-01_task-tap_run-{number}", zooms=(2.0, 2.0, 4.0), data=series((24, 24, 6, 80))
        )
        maker.events(f"sub-01_task-tap_run-{number}", rows=BLOCKS)
    for end in ("bold.nii.gz", "bold.json", "events.tsv"):
        maker.path(f"sub-01_task-tap_{end}", "func").unlink()
    _, plan = prepare_plan(maker)
    assert [run.n_volumes for run in plan.subjects[0].runs] == [70, 80]
    descriptions = {run.sidecar["Description"] for run in plan.subjects[0].runs}
    assert descriptions == {"simulated from acquired 2 × 2 × 4 mm data by k-space truncation"}
    assert len(plan.subjects[0].pairs) == 1


def test_only_selected_runs_are_prepared(maker: BidsMaker) -> None:
    maker.bold("sub-01_task-rest", zooms=(2.0, 2.0, 4.0), data=series((24, 24, 6, 80)))
    maker.events("sub-01_task-rest", rows=BLOCKS)
    maker.subject("02")
    _, plan = prepare_plan(maker, "--task-id", "tap", "--participant-label", "01")
    assert [run.stem for subject in plan.subjects for run in subject.runs] == ["sub-01_task-tap"]


def problem_text(maker: BidsMaker, *extra: str) -> str:
    return "\n".join(map(str, check(settings_for(maker, *extra)).problems))


def test_runs_of_two_resolutions_in_one_session_are_rejected(maker: BidsMaker) -> None:
    maker.bold("sub-01_task-zoom", zooms=(3.0, 3.0, 4.0), n_volumes=60)
    maker.events("sub-01_task-zoom", rows=BLOCKS[:5])
    message = problem_text(maker, "--strict")
    assert "the voxel sizes differ from sub-01_task-tap" in message
    assert "--task-id" in message
    assert problem_text(maker, "--task-id", "tap") == ""


def test_a_run_too_short_without_the_volumes_of_the_pair_is_rejected(maker: BidsMaker) -> None:
    maker.bold(zooms=(2.0, 2.0, 4.0), n_volumes=25)
    maker.events(
        rows=(
            (2.0, 4.0, "thumb"),
            (8.0, 4.0, "little"),
            (14.0, 4.0, "thumb"),
            (19.0, 4.0, "little"),
        )
    )
    message = problem_text(maker)
    assert "regressors and requires at least" in message
    assert "but the run has 15 volumes" in message


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((24, 24, 6, 12), "only 2 of 12 volumes remain"),
        ((24, 24, 6, 5), "only 0 of 5 volumes remain"),
        ((6, 24, 6, 80), "3 × 12 in-plane voxels"),
    ],
)
def test_a_run_too_small_is_rejected_even_without_events(
    size: tuple[int, ...], reason: str, maker: BidsMaker
) -> None:
    maker.bold(zooms=(2.0, 2.0, 4.0), data=series(size))
    maker.path("sub-01_task-tap_events.tsv", "func").unlink()
    problems = check(settings_for(maker)).problems
    assert any(reason in problem.why and problem.remedy for problem in problems)


def test_results_with_and_without_retrospective_do_not_mix(maker: BidsMaker) -> None:
    result = maker.root.parent / "out/sub-01/func/x_bold.nii.gz"
    result.parent.mkdir(parents=True)
    result.write_text("")
    assert "earlier run without --retrospective" in problem_text(maker)
    (maker.root.parent / "out/sourcedata/retrospective").mkdir(parents=True)
    settings = maker.root.parent / "out/logs/1/settings.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text("")
    assert problem_text(maker) == ""
    arguments = [
        str(maker.root),
        str(maker.root.parent / "out"),
        "participant",
        "--skip-bids-validation",
    ]
    line = [*arguments, "--sr-method", "sbl", "--sr-factor", "2"]
    problems = check(parse_settings(line).resolve(run_uuid="x")).problems
    assert [problem.why for problem in problems] == [
        "the output directory contains results of an earlier run with --retrospective"
    ]


def test_a_dry_run_reports_the_copies_and_writes_nothing(maker: BidsMaker) -> None:
    before = snapshot(maker.root.parent)
    settings = settings_for(maker)
    plan = check(settings)
    text = dry_run_text(plan, settings)
    assert "downsampled by 2×2×1 (clean) to 12×12×6 voxels of 4×4×4 mm, 70 volumes" in text
    assert "easier to super-resolve than a separately acquired pair" in text
    assert "series: acquired bspline zerofill sdmod inject ratio srgan sbl" in text
    assert plan.estimate.sizes.high == pytest.approx(24 * 24 * 6 / 1e6), "of the copy"
    assert stage_minutes(settings)["training"] > 0, "of the pair that will be made"
    assert snapshot(maker.root.parent) == before


def test_memory_does_not_grow_with_the_number_of_volumes(tmp_path: Path) -> None:
    import tracemalloc

    peaks = []
    for n in (20, 80):
        save_image(np.ones((32, 32, 6, n), "float32"), np.eye(4), tmp_path / "x.nii", tr=1.0)
        tracemalloc.start()
        downsampling.write_lr_series(
            tmp_path / "x.nii", tmp_path / "y.nii", factor=FACTOR, first_volume=0, noise_sd=1.0
        )
        downsampling.write_measured_series(
            tmp_path / "x.nii", tmp_path / "z.nii", factor=FACTOR, first_volume=0
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


@pytest.mark.skipif(
    validator._find_validator() is None, reason="bids-validator-deno is not installed"
)
def test_both_data_sets_are_valid(maker: BidsMaker) -> None:
    derived, _ = prepare_plan(maker)
    for root in (derived.paths.retrospective_dir, derived.paths.retrospective_truth_dir):
        assert found_by(validator.validate, root, ["01"], (), [*root.rglob("*")]) == Findings()


@pytest.mark.parametrize(
    ("onset", "expected"),
    [("8.0", "-2"), ("10", "0"), ("12.25", "2.25"), ("n/a", "n/a"), ("1e1", "0")],
)
def test_only_onsets_change_when_events_move(onset: str, expected: str, tmp_path: Path) -> None:
    table = tmp_path / "e.tsv"
    table.write_text(f"trial_type\tonset\tduration\nthumb\t{onset}\t4.0\n")
    assert _shift_events(table, -10.0).splitlines()[1].split("\t") == ["thumb", expected, "4.0"]
    assert _shift_events(table, 0.0) == table.read_text()


def test_all_cells_are_kept_when_events_move(tmp_path: Path) -> None:
    table = tmp_path / "e.tsv"
    table.write_text('note\tonset\tduration\n"a\tb"\t20\t4.0\tsurplus\nc\n\nd\t30\t4.0\n')
    assert _shift_events(table, -10.0) == (
        'note\tonset\tduration\n"a\tb"\t10\t4.0\tsurplus\nc\nd\t20\t4.0\n'
    )


@pytest.mark.parametrize("levels", [("thumb", "little"), ("little", "thumb"), ()])
def test_contrasts_have_the_names_of_the_original_data_set(
    levels: tuple[str, ...], maker: BidsMaker
) -> None:
    """Levels at the root order the types; those of a participant do not, but are kept."""
    own = {"trial_type": {"Levels": {"thumb": "T", "little": "L"}}, "onset": {"Units": "s"}}
    maker.json(maker.path("sub-01_task-tap_events.json", "func"), own)
    shared = maker.root / "task-tap_events.json"
    # an earlier call must leave nothing behind
    maker.json(shared, {"trial_type": {"Levels": dict.fromkeys(("thumb", "little"), "")}})
    prepare_plan(maker)
    shared.unlink()
    if levels:
        maker.json(shared, {"trial_type": {"Levels": dict.fromkeys(levels, "")}})
    original = check(settings_for(maker))
    _, plan = prepare_plan(maker)
    (run,) = plan.runs
    assert list(plan.contrasts.values()) == list(original.contrasts.values())
    assert json.loads(run.events.with_suffix(".json").read_text()) == own


def test_the_command_continues_with_the_downsampled_data(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bids_sr.cli import main, participant_level

    calls: list[tuple[Settings, Plan]] = []

    def work(settings: Settings, plan: Plan, print_line: Callable[[str], None]) -> object:
        from bids_sr.execution.execute import RunOutcome

        calls.append((settings, plan))
        return RunOutcome()

    monkeypatch.setattr(participant_level, "run_participants", work)
    out = maker.root.parent / "out"
    line = [str(maker.root), str(out), "participant", "--skip-bids-validation", "-w", "work"]
    assert main.main([*line, "--retrospective"]) == 0
    ((settings, plan),) = calls
    assert settings.paths.bids_dir == out / "sourcedata" / "retrospective"
    assert settings.paths.work_dir == maker.root.parent / "work" / "retrospective"
    assert plan.subjects[0].runs[0].truth is not None
    assert any(
        "easier to super-resolve than a separately acquired pair" in str(notice)
        for notice in plan.warnings
    )
    saved_settings = Settings.from_toml(next((out / "logs").glob("*/settings.toml")))
    assert (saved_settings.evaluation.retrospective, saved_settings.paths.bids_dir) == (
        "clean",
        maker.root,
    )
    assert (
        "Downsampling the data; the original series will be the high-resolution reference"
        in capsys.readouterr().out
    )


def test_a_resting_state_run_is_also_its_own_reference(maker: BidsMaker) -> None:
    _, plan = prepare_plan(maker, "--ignore", "events")
    (run,) = plan.subjects[0].runs
    assert run.events is None
    assert run.truth is not None
    assert run.truth.series is not None
    assert not list(run.bold.parent.glob("*_events.tsv"))
    assert list(plan.contrasts[run.bold]) == ["motor", "defaultMode", "visual"]


def test_scaled_integers_keep_their_values_in_the_copy(tmp_path: Path) -> None:
    data = np.random.default_rng(0).uniform(0, 1, (4, 4, 3, 5))
    image = nb.Nifti1Image(np.round(data * 1000).astype(np.int16), np.eye(4))
    image.header.set_slope_inter(0.001, 0)
    image.header.set_zooms((1, 1, 1, 2))
    image.to_filename(tmp_path / "scaled.nii")
    downsampling.write_measured_series(
        tmp_path / "scaled.nii", tmp_path / "copy.nii", factor=FACTOR, first_volume=1
    )
    expected = nb.load(tmp_path / "scaled.nii").get_fdata()[..., 1:]
    np.testing.assert_allclose(nb.load(tmp_path / "copy.nii").get_fdata(), expected, atol=1e-6)
