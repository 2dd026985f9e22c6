"""The short run at the high resolution: the same head and fluctuations as the long one, elsewhere
and finer.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.testing as npt
import pytest

from bids_sr.bids import survey
from bids_sr.cli.phantom_main import build_parser
from bids_sr.config import Paths, Settings, UsageError
from bids_sr.phantom.bold_run import (
    SimulatedRun,
    _calibration_events,
    calibration_of,
    calibration_preset,
)
from bids_sr.phantom.presets import PRESETS
from bids_sr.phantom.simulated_dataset import make_dataset
from bids_sr.phantom.study import Study
from bids_sr.spatial.itk_files import read_itk
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.matrices import kspace_crop


@pytest.fixture(scope="module")
def scan(run: SimulatedRun) -> SimulatedRun:
    return calibration_of(run, 12)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "tiny"
    make_dataset(out, Study(preset="tiny", seed=5, calibration=10))
    return out


@pytest.mark.slow
def test_the_validator_finds_no_error(made: Path) -> None:
    done = subprocess.run(
        ["bids-validator-deno", "--json", str(made)], capture_output=True, text=True, check=False
    )
    report = json.loads(done.stdout)
    assert [
        issue for issue in report["issues"]["issues"] if issue.get("severity") == "error"
    ] == []


@pytest.mark.slow
def test_files_agree_and_the_program_finds_it(made: Path) -> None:
    stem = made / "sub-01" / "func" / "sub-01_task-tap_acq-highres"
    image, sidecar = (
        nib.load(f"{stem}_bold.nii.gz"),
        json.loads(Path(f"{stem}_bold.json").read_text()),
    )
    assert image.shape == (80, 80, 14, 10)
    assert image.header["pixdim"][4] == pytest.approx(sidecar["RepetitionTime"])
    assert len(sidecar["SliceTiming"]) == 14
    bold = nib.load(made / "sub-01" / "func" / "sub-01_task-tap_bold.nii.gz")
    edges = [each.affine @ [-0.5, -0.5, -0.5, 1] for each in (image, bold)]
    npt.assert_allclose(edges[0], edges[1], atol=1e-5)
    assert Path(f"{stem}_events.tsv").read_text().splitlines()[2].split("\t") == [
        "5",
        "5",
        "thumb",
    ]
    assert {
        path.name.rsplit("_", 1)[0]
        for path in (made / "derivatives").rglob("*acq-highres*xfm.txt")
    } == {
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


def test_its_pose_is_that_of_the_truth(run: SimulatedRun, scan: SimulatedRun) -> None:
    """In its place by the truth and downsampled, it is the long run's image; elsewhere it is less
    so.
    """
    rest, fine = run.still(), scan.still()
    brain = rest > 400

    def likeness(xfm: np.ndarray) -> float:
        moved = sample_volume(fine, scan.preset.bold_affine, *run.subject.hr_grid, xfm)
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
def test_it_fluctuates_where_the_long_run_does(run: SimulatedRun, scan: SimulatedRun) -> None:
    steady = max(scan.transient.dummies, run.transient.dummies) + 2
    runs = {}
    for name, of in (("long", run), ("short", calibration_of(run, 24))):
        lying = replace(of, motion=np.tile(np.eye(4), (len(of.motion), 1, 1)))
        volumes = lying.volumes(2, noise=False)
        runs[name] = spread(volume for t, volume in enumerate(volumes) if t >= steady)
    moved = sample_volume(runs["short"], scan.preset.bold_affine, *run.subject.hr_grid, scan.pose)
    low, _ = kspace_crop(moved, np.eye(4), factor=(2, 2, 1), magnitude=True)
    brain = run.still() > 400
    assert np.corrcoef(low[brain], runs["long"][brain])[0, 1] > 0.5
    assert set(scan.changes) == {"thumb", "little"}
    assert [event[2] for event in scan.events] == ["rest", "thumb", "rest", "little"]


def test_noise_follows_from_the_size_of_the_voxel(run: SimulatedRun, scan: SimulatedRun) -> None:
    assert scan.sigma == pytest.approx(4 * run.sigma)
    quiet, noisy = (next(scan.volumes(noise=noise)) for noise in (False, True))
    bright = quiet > 8 * scan.sigma
    assert float((noisy - quiet)[bright].std()) == pytest.approx(scan.sigma, rel=0.05)


def test_a_fast_protocol_is_slower_at_the_high_resolution() -> None:
    preset = calibration_preset(PRESETS["paper"], 20)
    assert (preset.tr, preset.bold_shape, preset.multiband) == (2.0, (128, 128, 30), 1)
    assert preset.bold_voxel == pytest.approx((1.875, 1.875, 4.0))
    assert _calibration_events(preset)[-1] == (30.0, 10.0, "little")


def test_the_option_and_what_is_refused() -> None:
    for given, volumes in (([], 0), (["--calibration"], 20), (["--calibration", "3"], 3)):
        assert build_parser().options(["out", *given], Study).calibration == volumes
    with pytest.raises(UsageError, match="at least 2 volumes"):
        Study(calibration=1)


@pytest.mark.slow
def test_a_null_study_has_a_calibration_without_activity(null_run: SimulatedRun) -> None:
    scan = calibration_of(null_run, 2)
    assert scan.changes == {}
    assert next(scan.volumes()).shape == (80, 80, 14)


@pytest.mark.slow
def test_motion_of_the_truth_can_be_read(made: Path) -> None:
    (path,) = (made / "derivatives").rglob("*acq-highres_from-orig*xfm.txt")
    motion = read_itk(path)
    about = json.loads(path.with_suffix(".json").read_text())
    assert motion.shape == (10, 4, 4)
    npt.assert_allclose(motion[about["ReferenceVolume"]], np.eye(4), atol=1e-12)
