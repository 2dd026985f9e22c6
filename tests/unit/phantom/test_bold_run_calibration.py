"""Short high-resolution run: same head and fluctuations as the long run, in another pose."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.testing as npt
import pytest
from data.validator import validation_errors

from bids_sr.config import Paths, Settings
from bids_sr.phantom.bold_run import (
    SimulatedRun,
    calibration_preset,
    simulate_calibration,
)
from bids_sr.phantom.presets import PRESETS
from bids_sr.phantom.simulated_dataset import make_dataset
from bids_sr.phantom.study import Study
from bids_sr.spatial.itk_files import read_itk
from bids_sr.spatial.matrices import kspace_crop
from bids_sr.spatial.resampling import sample_volume
from bids_sr.survey.bids.collect import survey


@pytest.fixture(scope="module")
def scan(run: SimulatedRun) -> SimulatedRun:
    return simulate_calibration(run, 12)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "tiny"
    make_dataset(out, Study(preset="tiny", seed=5, calibration=10))
    return out


@pytest.mark.slow
def test_files_of_the_calibration_run_agree_and_are_found(dataset: Path) -> None:
    stem = dataset / "sub-01" / "func" / "sub-01_task-tap_acq-highres"
    assert validation_errors(dataset) == []
    image, sidecar = (
        nib.load(f"{stem}_bold.nii.gz"),
        json.loads(Path(f"{stem}_bold.json").read_text()),
    )
    assert image.shape == (80, 80, 14, 10)
    assert image.header["pixdim"][4] == pytest.approx(sidecar["RepetitionTime"])
    assert len(sidecar["SliceTiming"]) == 14
    bold = nib.load(dataset / "sub-01" / "func" / "sub-01_task-tap_bold.nii.gz")
    edges = [volume.affine @ [-0.5, -0.5, -0.5, 1] for volume in (image, bold)]
    npt.assert_allclose(edges[0], edges[1], atol=1e-5)
    assert Path(f"{stem}_events.tsv").read_text().splitlines()[2].split("\t") == [
        "5",
        "5",
        "thumb",
    ]
    transforms = {
        path.name.split("_")[3]: path
        for path in (dataset / "derivatives").rglob("*acq-highres*to-boldref*desc-truth_xfm.txt")
    }
    assert set(transforms) == {"from-calibration", "from-orig"}
    motion = read_itk(transforms["from-orig"])
    reference = json.loads(transforms["from-orig"].with_suffix(".json").read_text())
    assert motion.shape == (10, 4, 4)
    npt.assert_allclose(motion[reference["ReferenceVolume"]], np.eye(4), atol=1e-12)
    plan = survey(Settings(paths=Paths(bids_dir=dataset, output_dir=dataset / "out")))
    assert plan.problems == []
    (run,) = plan.subjects[0].runs
    assert run.calibration is not None
    assert run.calibration.bold == Path(f"{stem}_bold.nii.gz")


def test_the_pose_of_the_calibration_run_equals_its_known_pose(
    run: SimulatedRun, scan: SimulatedRun
) -> None:
    """Resampled by the known pose and downsampled, it equals the image of the long run."""
    long_image, short_image = run.simulate_still_volume(), scan.simulate_still_volume()
    brain = long_image > 400

    def similarity(xfm: np.ndarray) -> float:
        resampled = sample_volume(short_image, scan.preset.bold_affine, *run.subject.hr_grid, xfm)
        low, _ = kspace_crop(resampled, np.eye(4), factor=(2, 2, 1), magnitude=True)
        return float(np.corrcoef(low[brain], long_image[brain])[0, 1])

    similarity_at_pose = similarity(scan.pose)
    assert similarity_at_pose > 0.98
    assert similarity_at_pose > similarity(np.eye(4)) + 0.02
    assert similarity_at_pose > similarity(np.linalg.inv(scan.pose)) + 0.05


def spread(volumes: Iterable[np.ndarray]) -> np.ndarray:
    """Return the standard deviation over time after removal of mean and linear trend."""
    series = np.stack(list(volumes), axis=-1)
    ramp = np.stack([np.ones(series.shape[-1]), np.linspace(-1, 1, series.shape[-1])], axis=1)
    basis = np.linalg.qr(ramp)[0]
    return np.asarray((series - series @ basis @ basis.T).std(-1))


@pytest.mark.slow
def test_calibration_and_long_run_fluctuate_in_the_same_voxels(
    run: SimulatedRun, scan: SimulatedRun
) -> None:
    steady = max(scan.transient.dummies, run.transient.dummies) + 2
    runs = {}
    for name, source in (("long", run), ("short", simulate_calibration(run, 24))):
        still_run = replace(source, motion=np.tile(np.eye(4), (len(source.motion), 1, 1)))
        volumes = still_run.volumes(2, noise=False)
        runs[name] = spread(volume for t, volume in enumerate(volumes) if t >= steady)
    resampled = sample_volume(
        runs["short"], scan.preset.bold_affine, *run.subject.hr_grid, scan.pose
    )
    low, _ = kspace_crop(resampled, np.eye(4), factor=(2, 2, 1), magnitude=True)
    brain = run.simulate_still_volume() > 400
    assert np.corrcoef(low[brain], runs["long"][brain])[0, 1] > 0.5
    assert set(scan.changes) == {"thumb", "little"}
    assert [event[2] for event in scan.events] == ["rest", "thumb", "rest", "little"]


def test_noise_scales_with_the_voxel_size(run: SimulatedRun, scan: SimulatedRun) -> None:
    assert scan.sigma == pytest.approx(4 * run.sigma)
    quiet, noisy = (next(scan.volumes(noise=noise)) for noise in (False, True))
    bright = quiet > 8 * scan.sigma
    assert float((noisy - quiet)[bright].std()) == pytest.approx(scan.sigma, rel=0.05)


def test_the_tr_of_a_fast_protocol_is_longer_at_high_resolution() -> None:
    preset = calibration_preset(PRESETS["paper"], 20)
    assert (preset.tr, preset.bold_shape, preset.multiband) == (2.0, (128, 128, 30), 1)
    assert preset.bold_voxel == pytest.approx((1.875, 1.875, 4.0))
