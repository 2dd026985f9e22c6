"""The reference simulated from the data: its files, their content, and that they are written
once.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
import torch
from data.calls import about, arguments, only_run, plan_for, problem_of, settings_for
from data.dataset import BidsMaker, snapshot
from data.records import make_run, make_settings
from graphmaker import stage_minutes

from bids_sr.cli import main, participant_level
from bids_sr.config import Settings
from bids_sr.engine.execute import RunOutcome
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.notices import Notice, UsageError
from bids_sr.spatial.matrices import kspace_crop
from bids_sr.spatial.transforms import resize_affine
from bids_sr.sr.method import get_method
from bids_sr.sr.operators import get_operator
from bids_sr.survey.bids.inputs import BoldRun, Subject
from bids_sr.survey.bids.retrospective_plan import RETROSPECTIVE_RULES, note_retrospective
from bids_sr.survey.notices import judge
from bids_sr.survey.preflight import validator
from bids_sr.survey.preflight.directories import judge_directories
from bids_sr.survey.preflight.plan import Plan
from bids_sr.survey.preflight.plan_text import dry_run_text
from bids_sr.survey.preflight.voxel_checks import check_data
from bids_sr.survey.retrospective import downsampling, preparation
from bids_sr.survey.retrospective.preparation import prepare
from bids_sr.workflows.call_checks import check

FACTOR = (2.0, 2.0, 1.0)
ZOOMS = (2.0, 2.0, 4.0)
TAP, REST = "sub-01_task-tap", "sub-01_task-rest"
BLOCKS = tuple((8.0 + 10 * k, 4.0, ("thumb", "little")[k % 2]) for k in range(6))
TRILINEAR = ("--set", "evaluation.retrospective_operator=trilinear")
TIMES = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


def series(shape: tuple[int, ...] = (24, 24, 6, 80), noise: float = 10.0) -> np.ndarray:
    """Return a structured head with white noise over time, (*shape) as int16."""
    rng = np.random.default_rng(0)
    x, y = np.indices(shape[:2]) / (np.array(shape[:2])[:, None, None] / 2) - 1
    head = (x**2 + y**2 < 0.7)[..., None, None] * (600 + 300 * rng.random((*shape[:3], 1)))
    return (100 + head + noise * rng.standard_normal(shape)).astype("int16")


def make_dataset(root: Path) -> BidsMaker:
    """Write a run of 80 volumes with 24 x 24 x 6 voxels, 2 mm in plane, without a T2* pair."""
    maker = BidsMaker(root / "bids")
    maker.bold(zooms=ZOOMS, data=series(), sidecar={"SliceTiming": TIMES})
    maker.events(rows=BLOCKS)
    maker.t1w()
    return maker


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BidsMaker:
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "templateflow"))
    monkeypatch.chdir(tmp_path)
    return make_dataset(tmp_path)


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nb.load(path).dataobj)  # type: ignore[attr-defined]


def file_of(maker: BidsMaker, end: str = "bold.nii.gz") -> Path:
    return maker.path(f"{TAP}_{end}", "func")


def plan_copy(maker: BidsMaker, *options: str, noise: str = "clean") -> tuple[Settings, Plan]:
    """Check the settings, write the downsampled copy, and check the copy."""
    settings = settings_for(maker, "--retrospective", noise, *options)
    plan = check(settings)
    assert plan.problems == ()
    derived = prepare(settings, plan.subjects, plan.type_order)
    derived_plan = check(derived)
    assert derived_plan.problems == ()
    return derived, derived_plan


def copy_run(maker: BidsMaker, *options: str, noise: str = "clean") -> BoldRun:
    """Return the run of the downsampled copy."""
    return only_run(plan_copy(maker, *options, noise=noise)[1])


def plan_notes(maker: BidsMaker, factor: float) -> list[Notice]:
    """Return the notes on the downsampling of a run by trilinear interpolation."""
    plan = plan_for(maker, "--retrospective", "--sr-factor", *[str(factor)] * 3, *TRILINEAR)
    notices = [notice for notice in plan.warnings if "downsampled by" in notice.why]
    assert notices
    return notices


def reference_of(run: BoldRun) -> BoldRun:
    assert run.truth is not None
    assert run.truth.series is not None
    return run.truth.series


@dataclass(frozen=True)
class Prepared:
    """A data set, and settings, plan and run of its copy."""

    maker: BidsMaker
    original: dict[str, bytes | None]
    settings: Settings
    plan: Plan
    run: BoldRun


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    maker = make_dataset(tmp_path_factory.mktemp("prepared"))
    original = snapshot(maker.root)
    settings, plan = plan_copy(maker)
    return Prepared(maker, original, settings, plan, only_run(plan))


def test_the_acquired_volumes_are_the_reference_and_their_copies_are_downsampled(
    prepared: Prepared,
) -> None:
    run, derived = prepared.run, prepared.settings
    measured = nb.load(file_of(prepared.maker))
    reference = reference_of(run)
    assert reference.slice_timing == tuple(TIMES)
    truth = nb.load(reference.bold)
    assert truth.get_data_dtype() == measured.get_data_dtype()  # type: ignore[attr-defined]
    data = np.asarray(measured.dataobj)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(voxels(reference.bold), data[..., 10:])
    np.testing.assert_array_equal(truth.affine, measured.affine)  # type: ignore[attr-defined]
    assert (run.shape, run.n_volumes, run.tr) == ((12, 12, 6), 70, 1.0)
    affine = resize_affine(measured.affine, (24, 24, 6), (12, 12, 6))  # type: ignore[attr-defined]
    np.testing.assert_allclose(run.affine, affine, atol=1e-5)
    low = kspace_crop(data[..., 37].astype(complex), np.eye(4), factor=FACTOR)[0]
    np.testing.assert_allclose(voxels(run.bold)[..., 27], np.abs(low), rtol=1e-4)
    for root in (derived.paths.retrospective_dir, derived.paths.retrospective_truth_dir):
        name = json.loads((root / "dataset_description.json").read_text())["Name"]
        assert (root / "README").read_text().startswith(f"# {name}\n")
    assert derived.evaluation.truth_dir == derived.paths.retrospective_truth_dir
    assert (derived.evaluation.retrospective, derived.superres.factor) == (None, (2.0,))
    assert check_data(prepared.plan) == ()


def test_the_pair_shares_no_volumes_with_the_run(prepared: Prepared) -> None:
    """The first ten volumes, which neither series contains, are averaged to make the pair; onsets
    move back by the same time.
    """
    run = prepared.run
    assert run.pair is not None
    assert run.pair.lowres is not None
    first = voxels(file_of(prepared.maker))[..., :10].mean(-1)
    np.testing.assert_allclose(voxels(run.pair.highres), first, rtol=1e-5)
    low = np.abs(kspace_crop(first.astype(complex), np.eye(4), factor=FACTOR)[0])
    np.testing.assert_allclose(voxels(run.pair.lowres), low, rtol=1e-3)
    rows = [line.split("\t") for line in run.events.read_text().splitlines()]
    assert rows[1] == ["-2", "4.0", "thumb"]
    assert len(rows) == 7


def test_prepared_files_are_not_written_again_and_the_original_is_not_modified(
    prepared: Prepared,
) -> None:
    files = sorted((prepared.maker.root.parent / "out").rglob("*.*"))
    times = [path.stat().st_mtime_ns for path in files]
    plan_copy(prepared.maker)
    assert [path.stat().st_mtime_ns for path in files] == times
    assert snapshot(prepared.maker.root) == prepared.original
    t1w = prepared.maker.path("sub-01_T1w.nii.gz", "anat")
    copies = [path for path in files if path.name == t1w.name]
    # a link would let a change reach it
    assert [path.samefile(t1w) for path in copies] == [False] * len(copies) != []


def test_both_data_sets_are_valid(prepared: Prepared) -> None:
    program = "bids-validator-deno"
    if not (Path(sys.executable).with_name(program).is_file() or shutil.which(program)):
        pytest.skip(f"{program} is not installed")
    paths = prepared.settings.paths
    for root in (paths.retrospective_dir, paths.retrospective_truth_dir):
        assert list(validator.validate(root, ["01"], {}, [*root.rglob("*")], ())) == []


def test_slices_along_the_first_axis_are_downsampled_in_plane(
    maker: BidsMaker, prepared: Prepared
) -> None:
    path = file_of(maker)
    image = nb.load(path)
    values, affine = np.transpose(image.dataobj, (2, 0, 1, 3)), image.affine[:, [2, 0, 1, 3]]  # type: ignore[attr-defined]
    nb.save(nb.Nifti1Image(values, affine, image.header), path)
    sidecar = {"SliceTiming": TIMES, "SliceEncodingDirection": "i"}
    maker.json(file_of(maker, "bold.json"), {"TaskName": "tap", "RepetitionTime": 1.0, **sidecar})
    run = copy_run(maker)
    assert run.shape == (12, 12, 6)
    assert run.slice_timing == tuple(TIMES)
    for file, expected in (
        (run.bold, prepared.run.bold),
        (reference_of(run).bold, reference_of(prepared.run).bold),
    ):
        np.testing.assert_allclose(voxels(file), voxels(expected), rtol=1e-5)


def test_noisy_copies_have_the_noise_of_the_acquired_series(
    maker: BidsMaker, prepared: Prepared
) -> None:
    """The noise follows the seed."""
    clean, noisy = (voxels(run.bold) for run in (prepared.run, copy_run(maker, noise="noisy")))
    head = clean.mean(-1) > 500
    measured = voxels(file_of(maker))
    noise_sd = measured.std(-1)[measured.mean(-1) > 500].mean()
    assert clean.std(-1)[head].mean() == pytest.approx(noise_sd / 2, rel=0.1)
    assert noisy.std(-1)[head].mean() == pytest.approx(noise_sd, rel=0.1)
    assert noisy.mean(-1)[head].mean() == pytest.approx(clean.mean(-1)[head].mean(), rel=1e-3)
    other_seed = copy_run(maker, "--random-seed", "1", noise="noisy")
    assert not np.array_equal(noisy, voxels(other_seed.bold))


def test_thermal_noise_is_estimated_in_spite_of_a_drift(tmp_path: Path) -> None:
    """All voxels share the drift."""
    data = series((24, 24, 6, 60), noise=17.0) + (5 * np.arange(60)).astype("int16")
    save_image(data.astype("float32"), np.eye(4), tmp_path / "x.nii", tr=1.0)
    assert downsampling.thermal_noise(tmp_path / "x.nii") == pytest.approx(17.0, rel=0.05)


def test_a_pair_of_the_data_moves_to_half_the_resolution(maker: BidsMaker) -> None:
    """No volume makes the pair; the dummies are left out."""
    low_res = series((24, 24, 6, 1))[..., 0]
    maker.star("sub-01_acq-fine_run-2", (1.0, 1.0, 4.0))
    maker.star("sub-01_acq-coarse_run-2", (2.0, 2.0, 4.0), data=low_res)
    derived, plan = plan_copy(maker, "--dummy-scans", "3")
    run = only_run(plan)
    assert run.pair is not None
    assert run.pair.highres.name == "sub-01_acq-highres_run-2_T2starw.nii.gz"
    np.testing.assert_array_equal(voxels(run.pair.highres), low_res)
    assert run.n_volumes == 77
    assert derived.preprocessing.dummy_scans == 0


def test_dummies_are_detected_before_the_pair_is_averaged(maker: BidsMaker) -> None:
    data = series()
    data[..., :3] = (data[..., :3] * np.array([1.5, 1.3, 1.1])).astype("int16")
    maker.bold(zooms=ZOOMS, data=data)
    settings = settings_for(maker, "--retrospective")
    assert " 67 volumes" in dry_run_text(check(settings), settings)
    run = copy_run(maker)
    assert run.n_volumes == 67
    assert run.pair is not None
    np.testing.assert_allclose(voxels(run.pair.highres), data[..., 3:13].mean(-1), rtol=1e-5)


def test_run_and_reference_of_odd_matrices_are_cropped_to_the_same_field_of_view(
    maker: BidsMaker,
) -> None:
    shape = (25, 23, 6, 60)
    maker.bold(zooms=ZOOMS, data=series(shape))
    run = copy_run(maker)
    assert run.shape == (12, 11, 6)
    np.testing.assert_array_equal(voxels(reference_of(run).bold), series(shape)[:24, :22, :, 10:])


@pytest.mark.parametrize("factor", [1.25, 2.0])
def test_copies_can_be_downsampled_by_the_operator_that_tv_assumes(
    maker: BidsMaker, factor: float
) -> None:
    """The degradation of recipe `paper` returns the copies of the run and of its pair."""
    maker.bold(zooms=ZOOMS, data=series((25, 25, 10, 80)), sidecar={"SliceTiming": [0.0] * 10})
    derived, plan = plan_copy(maker, "--sr-factor", *[str(factor)] * 3, *TRILINEAR)
    run = only_run(plan)
    reference = voxels(reference_of(run).bold)[..., 27].astype("float32")
    name = get_method("tv").recipes["paper"].degradation
    assumed = get_operator(name, reference.shape, (factor,) * 3, run.shape)
    lowres = assumed.forward(torch.from_numpy(reference)).numpy()
    np.testing.assert_allclose(voxels(run.bold)[..., 27], lowres, rtol=1e-4, atol=1e-2)
    affine = assumed.lowres_affine(nb.load(reference_of(run).bold).affine)  # type: ignore[attr-defined]
    np.testing.assert_allclose(run.affine, affine, atol=1e-4)
    assert run.pair is not None
    assert run.pair.lowres is not None
    highres = torch.from_numpy(voxels(run.pair.highres).astype("float32"))
    lowres = assumed.forward(highres).numpy()
    np.testing.assert_allclose(voxels(run.pair.lowres), lowres, rtol=1e-4, atol=1e-2)
    description = json.loads((derived.paths.bids_dir / "dataset_description.json").read_text())
    for text in (
        description["GeneratedBy"][0]["Description"],
        *map(str, plan_notes(maker, factor)),
    ):
        assert "trilinear" in text
        assert "averag" not in text
    assert "k-space" not in description["Name"]
    assert run.sidecar["Retrospective"]["Operator"] == "trilinear"


@pytest.mark.parametrize(
    ("options", "differs"),
    [
        (("--recipe", "paper", *TRILINEAR), False),
        (("--recipe", "paper"), True),
        (("--recipe", "fast", *TRILINEAR), True),
        (("--recipe", "fast"), False),
        (("--recipe", "fast", "--sr-factor", "2", "2", "2"), False),
        (("--sr-method", "dcnet", *TRILINEAR), False),
    ],
)
def test_a_network_that_assumes_another_operator_than_the_data_is_reported(
    options: tuple[str, ...], differs: bool
) -> None:
    method = () if "--sr-method" in options else ("--sr-method", "tv")
    warnings = [*note_retrospective((), make_settings("--retrospective", *method, *options))]
    assert [warning.level for warning in warnings] == ["warning"] * differs
    assert all("evaluation.retrospective_operator=" in warning.why for warning in warnings)


def test_noise_is_only_added_after_a_crop_of_kspace() -> None:
    with pytest.raises(UsageError, match="retrospective_operator"):
        make_settings("--retrospective", "noisy", *TRILINEAR)


def test_slices_are_averaged_if_the_factor_makes_them_thicker(maker: BidsMaker) -> None:
    """The last slice of an odd number of slices with separate times is dropped."""
    times = [0.0, 0.5, 0.1, 0.6, 0.2, 0.7, 0.3]
    sidecar = {"SliceTiming": times[::-1], "SliceEncodingDirection": "k-", "SliceThickness": 3.0}
    maker.bold(zooms=(2.0, 2.0, 24 / 7), data=series((24, 24, 7, 80)), sidecar=sidecar)
    derived, plan = plan_copy(maker, "--sr-factor", "2", "2", "2")
    run = only_run(plan)
    reference = reference_of(run)
    assert derived.superres.factor == run.factor == (2.0, 2.0, 2.0)
    assert run.shape == (12, 12, 3)
    assert reference.slice_timing == tuple(times[:6])
    assert run.slice_timing == pytest.approx((0.25, 0.35, 0.45))
    thickness = [item.sidecar["SliceThickness"] for item in (run, reference)]
    assert thickness == [6.0, 3.0]
    cropped = voxels(file_of(maker))[:, :, :6]
    np.testing.assert_array_equal(voxels(reference.bold), cropped[..., 10:])
    flat = kspace_crop(cropped[..., 37].astype(complex), np.eye(4), factor=FACTOR)[0]
    mean = flat.reshape(12, 12, 3, 2).mean(-1)
    np.testing.assert_allclose(voxels(run.bold)[..., 27], np.abs(mean), rtol=1e-4)
    affine = resize_affine(nb.load(reference.bold).affine, (24, 24, 6), (12, 12, 3))  # type: ignore[attr-defined]
    np.testing.assert_allclose(nb.load(run.bold).affine, affine, atol=1e-5)  # type: ignore[attr-defined]
    assert run.pair is not None
    assert run.pair.lowres is not None
    assert voxels(run.pair.lowres).shape == (12, 12, 3)
    description = (derived.paths.bids_dir / "dataset_description.json").read_text()
    assert "2×2×2" in json.loads(description)["GeneratedBy"][0]["Description"]


def test_copies_are_rewritten_after_each_change(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    bold = copy_run(maker).bold
    written = [bold.stat().st_mtime_ns]

    def write_again(*options: str, noise: str = "clean") -> None:
        copy_run(maker, *options, noise=noise)
        assert bold.stat().st_mtime_ns not in written
        assert SeriesReader(bold).shape[3] == 70
        written.append(bold.stat().st_mtime_ns)

    events = maker.events(rows=(*BLOCKS, (70.0, 4.0, "thumb")))
    write_again()
    # the file keeps its size and time, as after the correction of an onset
    state = events.stat()
    events.write_text(events.read_text().replace("18.0", "17.0", 1))
    os.utime(events, ns=(state.st_atime_ns, state.st_mtime_ns))
    write_again()
    os.truncate(bold, 100)
    write_again()
    bold.unlink()
    write_again()
    write_again("--sr-factor", "3")
    write_again("--sr-factor", "3", *TRILINEAR)
    write_again(noise="noisy")
    monkeypatch.setattr(preparation, "digest_program", lambda: "another")
    write_again(noise="noisy")


def test_an_interruption_leaves_no_partial_images(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(preparation, "write_measured_series", stop)
    with pytest.raises(KeyboardInterrupt):
        plan_copy(maker)
    sourcedata = maker.root.parent / "out" / "sourcedata"
    assert {path.name for path in sourcedata.iterdir()} == {
        "retrospective",
        "retrospective-truth",
    }
    assert not list(sourcedata.rglob("*.nii.gz"))


def test_runs_of_a_session_share_one_pair_and_only_selected_runs_are_prepared(
    maker: BidsMaker,
) -> None:
    """The volumes of the pair are from the first run; the second keeps all volumes."""
    for stem in (f"{TAP}_run-2", REST):
        maker.bold(stem, zooms=ZOOMS, data=series())
        maker.events(stem, rows=BLOCKS)
    maker.subject("02")
    _, plan = plan_copy(maker, "--task-id", "tap", "--participant-label", "01")
    (subject,) = plan.subjects
    assert {run.stem: run.n_volumes for run in subject.runs} == {TAP: 70, f"{TAP}_run-2": 80}
    assert len(subject.pairs) == 1
    assert {"2 × 2 × 4 mm" in run.sidecar["Description"] for run in subject.runs} == {True}


def judge_runs(*runs: BoldRun, options: tuple[str, ...] = ()) -> list[Notice]:
    """Return the problems of the runs of a participant that are to be downsampled."""
    subject = Subject(label="01", t1w=(), runs=runs)
    return [*judge(RETROSPECTIVE_RULES, subject, make_settings("--retrospective", *options))]


def test_runs_of_two_resolutions_in_one_session_are_rejected() -> None:
    runs = make_run(zooms=ZOOMS), make_run("sub-01_task-zoom", zooms=(3.0, 3.0, 4.0))
    problem_of(judge_runs(*runs), "sub-01_task-zoom", TAP, "--task-id")
    assert judge_runs(runs[0]) == []


@pytest.mark.parametrize(
    ("shape", "options", "numbers"),
    [
        ((24, 24, 6, 12), (), "2 of 12 volumes"),
        ((24, 24, 6, 5), (), "0 of 5 volumes"),
        ((6, 24, 6, 80), (), "3 × 12"),
        ((24, 24, 6, 80), ("--sr-factor", "2", "2", "4"), "1 slice"),
    ],
)
def test_a_run_too_small_is_rejected(
    shape: tuple[int, ...], options: tuple[str, ...], numbers: str
) -> None:
    run = make_run(has_events=False)
    run = replace(run, header=replace(run.header, shape=shape))
    problem_of(judge_runs(run, options=options), TAP, numbers)


def test_a_run_too_short_without_the_volumes_of_the_pair_is_rejected(maker: BidsMaker) -> None:
    maker.bold(zooms=ZOOMS, n_volumes=25)
    types = ("thumb", "little")
    maker.events(rows=[(2.0 + 6 * k, 4.0, types[k % 2]) for k in range(4)])
    problems = plan_for(maker, "--retrospective", "--sr-factor", "2", "2", "4").problems
    for value in ("15 volumes", "1 slice"):
        assert len(about(problems, TAP, value)) == 1


def test_results_with_and_without_retrospective_do_not_mix(maker: BidsMaker) -> None:
    def judge_output(*options: str) -> list[Notice]:
        return [*judge_directories(settings_for(maker, *options))]

    out = maker.root.parent / "out"
    for folder in ("sub-01/func", "logs/1"):
        (out / folder).mkdir(parents=True)
    (out / "sub-01/func/x_bold.nii.gz").touch()
    (out / "logs/1/settings.toml").touch()
    problem_of(judge_output("--retrospective"), str(out), "--retrospective")
    (out / "sourcedata/retrospective").mkdir(parents=True)
    assert judge_output("--retrospective") == []
    problem_of(judge_output(), str(out), "--retrospective")


def test_a_dry_run_reports_the_copies_and_writes_nothing(maker: BidsMaker) -> None:
    before = snapshot(maker.root.parent)
    settings = settings_for(maker, "--retrospective")
    plan = check(settings)
    text = dry_run_text(plan, settings)
    for part in ("2×2×1", "12×12×6 voxels", "4×4×4 mm", "70 volumes"):
        assert part in text
    assert "series: acquired bspline zerofill sdmod inject ratio srgan sbl" in text
    assert plan.estimate.sizes.high == pytest.approx(24 * 24 * 6 / 1e6), "of the copy"
    assert stage_minutes(settings)["training"] > 0, "of the pair that will be made"
    assert snapshot(maker.root.parent) == before


def test_only_onsets_change_when_events_move(maker: BidsMaker) -> None:
    """All other cells are kept, and rows without an onset."""
    onsets = ("8.0", "10", "12.25", "n/a", "3e1", "40")
    types = ("thumb", "little")
    rows = [(f'"a\tb{k}"', at, "4.0", types[k % 2]) for k, at in enumerate(onsets)]
    maker.events(rows=rows, header="note\tonset\tduration\ttrial_type")
    moved = copy_run(maker).events.read_text()
    for onset, expected in zip(onsets, ("-2", "0", "2.25", "n/a", "20", "30"), strict=True):
        moved = moved.replace(f"\t{expected}\t4.0", f"\t{onset}\t4.0", 1)
    assert moved == file_of(maker, "events.tsv").read_text()


@pytest.mark.parametrize("levels", [("thumb", "little"), ()])
def test_contrasts_have_the_names_of_the_original_data_set(
    levels: tuple[str, ...], maker: BidsMaker
) -> None:
    """Levels at the root order the types; those of a participant do not, but are kept. An earlier
    call leaves nothing behind.
    """
    own = {"trial_type": {"Levels": {"thumb": "T", "little": "L"}}, "onset": {"Units": "s"}}
    maker.json(file_of(maker, "events.json"), own)
    shared = maker.root / "task-tap_events.json"
    maker.json(shared, {"trial_type": {"Levels": dict.fromkeys(("thumb", "little"), "")}})
    plan_copy(maker)
    shared.unlink()
    if levels:
        maker.json(shared, {"trial_type": {"Levels": dict.fromkeys(levels, "")}})
    original = plan_for(maker, "--retrospective")
    _, plan = plan_copy(maker)
    assert list(plan.contrasts.values()) == list(original.contrasts.values())
    assert json.loads(only_run(plan).events.with_suffix(".json").read_text()) == own


def test_the_command_continues_with_the_downsampled_data(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Settings, Plan]] = []

    def process(settings: Settings, plan: Plan) -> RunOutcome:
        calls.append((settings, plan))
        return RunOutcome()

    monkeypatch.setattr(participant_level, "run_participants", process)
    assert main.main(arguments(maker, "--retrospective")) == 0
    ((settings, plan),) = calls
    root = maker.root.parent
    assert settings.paths.bids_dir == root / "out" / "sourcedata" / "retrospective"
    assert settings.paths.work_dir == root / "work" / "retrospective"
    assert only_run(plan).truth is not None
    saved = Settings.from_toml(next((root / "out" / "logs").glob("*/settings.toml")))
    assert saved.evaluation.retrospective == "clean"
    assert saved.paths.bids_dir == maker.root


def test_scaled_integers_keep_their_values_in_the_copy(tmp_path: Path) -> None:
    data = np.random.default_rng(0).uniform(0, 1, (4, 4, 3, 5))
    image = nb.Nifti1Image(np.round(data * 1000).astype(np.int16), np.eye(4))
    image.header.set_slope_inter(0.001, 0)
    image.header.set_zooms((1, 1, 1, 2))
    scaled, copy = tmp_path / "scaled.nii", tmp_path / "copy.nii"
    image.to_filename(scaled)
    downsampling.write_measured_series(scaled, copy, factor=FACTOR, first_volume=1)
    expected = nb.load(scaled).get_fdata()[..., 1:]
    np.testing.assert_allclose(nb.load(copy).get_fdata(), expected, atol=1e-6)
