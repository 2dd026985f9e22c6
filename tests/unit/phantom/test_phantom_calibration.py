"""The short run at the high resolution: the same head and fluctuations as the long one, elsewhere and finer."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.testing as npt
import pytest
from scipy import ndimage

from bids_sr.bids import survey
from bids_sr.cli.phantom_main import build_parser
from bids_sr.config import Paths, Settings
from bids_sr.phantom.calibration_scan import CalibrationScan, Differences, calibration_events, calibration_preset
from bids_sr.phantom.poses import CENTER
from bids_sr.phantom.presets import PRESETS
from bids_sr.phantom.scanner import READOUT
from bids_sr.phantom.simulated_dataset import PhantomError, Study, make_dataset
from bids_sr.phantom.simulated_subject import SimulatedSubject
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import read_itk, rigid_params
from bids_sr.sr.resolution.matrices import kspace_crop


@pytest.fixture(scope="module")
def scan(subject: SimulatedSubject) -> CalibrationScan:
    return CalibrationScan(subject, 12)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "tiny"
    make_dataset(out, Study(preset="tiny", seed=5, calibration=10))
    return out


@pytest.mark.slow
def test_the_validator_finds_no_error(made: Path) -> None:
    done = subprocess.run(["bids-validator-deno", "--json", str(made)], capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    assert [issue for issue in report["issues"]["issues"] if issue.get("severity") == "error"] == []


@pytest.mark.slow
def test_files_agree_and_the_program_finds_it(made: Path) -> None:
    stem = made / "sub-01" / "func" / "sub-01_task-tap_acq-highres"
    image, sidecar = nib.load(f"{stem}_bold.nii.gz"), json.loads(Path(f"{stem}_bold.json").read_text())
    assert image.shape == (80, 80, 14, 10)
    assert image.header["pixdim"][4] == pytest.approx(sidecar["RepetitionTime"])
    assert len(sidecar["SliceTiming"]) == 14
    bold = nib.load(made / "sub-01" / "func" / "sub-01_task-tap_bold.nii.gz")
    edges = [each.affine @ [-0.5, -0.5, -0.5, 1] for each in (image, bold)]
    npt.assert_allclose(edges[0], edges[1], atol=1e-5)
    assert Path(f"{stem}_events.tsv").read_text().splitlines()[2].split("\t") == ["5", "5", "thumb"]
    assert {path.name.rsplit("_", 1)[0] for path in (made / "derivatives").rglob("*acq-highres*xfm.txt")} == {
        "sub-01_task-tap_acq-highres_from-calibration_to-boldref_mode-image_desc-truth",
        "sub-01_task-tap_acq-highres_from-orig_to-boldref_mode-image_desc-truth",
    }
    found = survey(Settings(paths=Paths(bids_dir=made, output_dir=made / "out")))
    assert found.problems == []
    (run,) = found.subjects[0].runs
    assert run.calibration is not None
    assert run.calibration.bold == Path(f"{stem}_bold.nii.gz")


@pytest.mark.slow
def test_everything_else_is_as_without_it(made: Path, tmp_path: Path) -> None:
    make_dataset(tmp_path / "plain", Study(preset="tiny", seed=5))
    images = sorted((tmp_path / "plain").rglob("*.nii.gz"))
    assert len(images) > 5
    for image in images:
        assert image.read_bytes() == (made / image.relative_to(tmp_path / "plain")).read_bytes()


def test_its_pose_is_that_of_the_truth(subject: SimulatedSubject, scan: CalibrationScan) -> None:
    """In its place by the truth and downsampled, it is the long run's image; elsewhere it is less so."""
    rest = subject.scanner.measure(subject.rest, np.eye(4))
    fine = scan.scanner.measure(scan.rest, np.eye(4))
    brain = rest > 400

    def likeness(xfm: np.ndarray) -> float:
        moved = sample_volume(fine, scan.grid[1], *subject.hr_grid, xfm)
        low, _ = kspace_crop(moved, np.eye(4), factor=(2, 2, 1), magnitude=True)
        return float(np.corrcoef(low[brain], rest[brain])[0, 1])

    there = likeness(scan.pose)
    assert there > 0.98
    assert there > likeness(np.eye(4)) + 0.02
    assert there > likeness(np.linalg.inv(scan.pose)) + 0.05


def spread(volumes: Iterable[np.ndarray]) -> np.ndarray:
    """Standard deviation over time without constant and ramp."""
    series = np.stack(list(volumes), axis=-1)
    ramp = np.stack([np.ones(series.shape[-1]), np.linspace(-1, 1, series.shape[-1])], axis=1)
    basis = np.linalg.qr(ramp)[0]
    return np.asarray((series - series @ basis @ basis.T).std(-1))


@pytest.mark.slow
def test_it_fluctuates_where_the_long_run_does(subject: SimulatedSubject, scan: CalibrationScan) -> None:
    steady = max(scan.transient.dummies, subject.transient.dummies) + 2
    runs = {}
    for name, of in (("long", subject), ("short", CalibrationScan(subject, 24))):
        kept, of.motion = of.motion, np.tile(np.eye(4), (len(of.motion), 1, 1))
        volumes = of.bold(2, noise=False) if name == "long" else of.volumes(2, noise=False)
        runs[name] = spread(volume for t, volume in enumerate(volumes) if t >= steady)
        of.motion = kept
    moved = sample_volume(runs["short"], scan.grid[1], *subject.hr_grid, scan.pose)
    low, _ = kspace_crop(moved, np.eye(4), factor=(2, 2, 1), magnitude=True)
    brain = subject.scanner.measure(subject.rest, np.eye(4)) > 400
    assert np.corrcoef(low[brain], runs["long"][brain])[0, 1] > 0.5
    assert set(scan.parts) == {"thumb", "little"}
    assert [event[2] for event in scan.events] == ["rest", "thumb", "rest", "little"]


def test_noise_follows_from_the_size_of_the_voxel(subject: SimulatedSubject, scan: CalibrationScan) -> None:
    assert scan.sigma == pytest.approx(4 * subject.bold_sigma)
    quiet, noisy = (next(scan.volumes(noise=noise)) for noise in (False, True))
    bright = quiet > 8 * scan.sigma
    assert float((noisy - quiet)[bright].std()) == pytest.approx(scan.sigma, rel=0.05)


def test_a_fast_protocol_is_slower_at_the_high_resolution() -> None:
    preset = calibration_preset(PRESETS["paper"], 20)
    assert (preset.tr, preset.bold_shape, preset.multiband) == (2.0, (128, 128, 30), 1)
    assert preset.bold_voxel == pytest.approx((1.875, 1.875, 4.0))
    assert calibration_events(preset)[-1] == (30.0, 10.0, "little")


def test_the_option_and_what_is_refused() -> None:
    assert build_parser().parse_args(["out"]).calibration == 0
    assert build_parser().parse_args(["out", "--calibration"]).calibration == 20
    assert build_parser().parse_args(["out", "--calibration", "3"]).calibration == 3
    with pytest.raises(PhantomError, match="at least 2 volumes"):
        Study(calibration=1)


@pytest.mark.slow
def test_a_null_study_has_a_calibration_without_activity(null_subject: SimulatedSubject) -> None:
    scan = CalibrationScan(null_subject, 2)
    assert scan.parts == {}
    assert next(scan.volumes()).shape == (80, 80, 14)


@pytest.mark.slow
def test_motion_of_the_truth_can_be_read(made: Path) -> None:
    (path,) = (made / "derivatives").rglob("*acq-highres_from-orig*xfm.txt")
    motion = read_itk(path)
    about = json.loads(path.with_suffix(".json").read_text())
    assert motion.shape == (10, 4, 4)
    npt.assert_allclose(motion[about["ReferenceVolume"]], np.eye(4), atol=1e-12)


def test_more_distortion_displaces_along_phase_encoding_with_the_field(
    subject: SimulatedSubject, scan: CalibrationScan
) -> None:
    """Two fine voxels more: nothing else differs, and undoing the known displacement brings the plain image back."""
    more = CalibrationScan(subject, 12, Differences(distortion=2.0))
    npt.assert_array_equal(more.pose, scan.pose)
    plain, changed = (each.scanner.measure(each.rest, np.eye(4)) for each in (scan, more))
    assert scan.scanner.shift is not None
    assert more.scanner.shift is not None
    grid = (scan.grid[0], scan.grid[1])
    further = sample_volume(more.scanner.shift - scan.scanner.shift, scan.scanner.oversampled_grid[1], *grid, np.eye(4))
    fine = scan.preset.bold_voxel[1]
    brain = plain > 400
    assert 1.2 * fine < np.abs(further[brain]).max() < 2.1 * fine  # the largest of the head is not inside the volume
    found = displacement(plain, changed, fine)
    seen = brain & (np.abs(np.gradient(plain, axis=1)) > 40)
    assert np.corrcoef(found[seen], further[seen])[0, 1] > 0.9
    slope = float((found[seen] * further[seen]).sum() / (further[seen] ** 2).sum())
    assert slope == pytest.approx(1, abs=0.1)


def displacement(plain: np.ndarray, changed: np.ndarray, voxel: float) -> np.ndarray:
    """Displacement (mm) along y that makes one image the other, in windows of five by nine voxels in plane."""
    steps = np.arange(-4, 4.01, 0.25)
    at = np.arange(plain.shape[1], dtype=float)
    errors = []
    for step in steps:
        moved = np.stack([[np.interp(at + step, at, line) for line in x.T] for x in plain]).transpose(0, 2, 1)
        moved = moved * (changed.mean() / plain.mean())
        errors.append(ndimage.uniform_filter((moved - changed) ** 2, (5, 9, 1)))
    return np.asarray(steps[np.argmin(errors, axis=0)] * voxel)


def test_the_readout_in_the_sidecar_is_that_of_the_distortion(subject: SimulatedSubject) -> None:
    fine = calibration_preset(subject.preset, 2).bold_voxel[1]
    more = CalibrationScan(subject, 2, Differences(distortion=1.0))
    assert more.readout == pytest.approx(READOUT * (2 + fine) / 2)  # 2 mm is the largest displacement of the run


def test_the_head_lies_as_far_away_as_was_asked_for(subject: SimulatedSubject) -> None:
    far = CalibrationScan(subject, 2, Differences(moved=4.0))
    params = rigid_params(far.pose, CENTER)
    assert np.linalg.norm(params[:3]) == pytest.approx(4.0)
    assert np.rad2deg(np.linalg.norm(params[3:])) == pytest.approx(4.0)


def test_a_drift_is_in_the_volumes(subject: SimulatedSubject) -> None:
    """Without noise and motion, the first and last volume differ from the plain ones by the known uneven factor."""
    plain, drifting = (CalibrationScan(subject, 12, Differences(drift=drift)) for drift in (0.0, 10.0))
    for each in (plain, drifting):
        each.motion = np.tile(np.eye(4), (12, 1, 1))
    series = [np.stack(list(each.volumes(2, noise=False)), axis=-1) for each in (plain, drifting)]
    brain = series[0][..., -1] > 400
    ratio = series[1][brain] / series[0][brain]
    rise = ratio[:, -1] - ratio[:, 0]
    assert float(rise.mean()) == pytest.approx(0.1, rel=0.3)
    assert float(rise.std()) > 0.005
    sampled = sample_volume(
        drifting.drift(11) - drifting.drift(0), drifting.scanner.sampling_grid[1], *drifting.grid, np.eye(4)
    )
    npt.assert_allclose(rise, sampled[brain], atol=0.004)
    npt.assert_allclose(ratio.mean(1), 1, atol=0.004)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"calibration_distortion": 1.0}, "needs one: give --calibration"),
        ({"calibration": 8, "calibration_moved": -1.0}, "0 to 20 mm"),
        ({"calibration": 8, "calibration_distortion": 9.0}, "0 to 4 fine voxels"),
        ({"calibration": 8, "calibration_drift": 80.0}, "at most 50 percent"),
    ],
)
def test_differences_that_cannot_be_are_refused(more: dict[str, float], why: str) -> None:
    with pytest.raises(PhantomError, match=why):
        Study(**more)  # type: ignore[arg-type]


def test_the_options_reach_the_calibration(tmp_path: Path) -> None:
    words = "--preset tiny --calibration 8 --calibration-distortion 2 --calibration-moved 3 --calibration-drift 5"
    options = vars(build_parser().parse_args(["out", *words.split()]))
    options.pop("out")
    assert Study(**options).differences == Differences(distortion=2.0, moved=3.0, drift=5.0)


@pytest.mark.slow
def test_what_differs_is_in_the_files(tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    make_dataset(out, Study(preset="tiny", seed=5, calibration=8, calibration_distortion=1.0, volumes=31))
    func = out / "sub-01" / "func"
    times = [
        json.loads((func / f"sub-01_task-tap{acq}_bold.json").read_text())["TotalReadoutTime"]
        for acq in ("", "_acq-highres")
    ]
    assert times == pytest.approx([0.028, 0.07])
    (field,) = (out / "derivatives").rglob("*acq-highres_desc-distortion_fieldmap.nii.gz")
    largest = np.abs(np.asarray(nib.load(field).dataobj)).max()
    assert largest > 4.5
