"""The simulated dataset on disk."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from data.validator import validation_errors

from bids_sr.io.notices import UsageError
from bids_sr.phantom import simulated_dataset
from bids_sr.phantom.simulated_dataset import make_dataset
from bids_sr.phantom.study import Study
from bids_sr.spatial.itk_files import read_itk


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulate a data set in an existing, empty directory."""
    out = tmp_path_factory.mktemp("phantom")
    make_dataset(out, Study(preset="tiny", seed=5, pairs=2))
    return out


def test_the_simulated_dataset_is_valid_bids(dataset: Path) -> None:
    assert validation_errors(dataset) == []


def test_images_agree_with_their_sidecars_and_with_each_other(dataset: Path) -> None:
    func = dataset / "sub-01" / "func" / "sub-01_task-tap_bold"
    bold, sidecar = nib.load(f"{func}.nii.gz"), json.loads(Path(f"{func}.json").read_text())
    assert bold.shape == (40, 40, 14, 60)
    assert bold.header["pixdim"][4] == pytest.approx(sidecar["RepetitionTime"])
    assert len(sidecar["SliceTiming"]) == 14
    assert bold.get_data_dtype() == np.int16
    for run in (1, 2):
        anat = dataset / "sub-01" / "anat" / "sub-01_acq-"
        high = nib.load(f"{anat}highres_run-{run}_T2starw.nii.gz")
        low = nib.load(f"{anat}lowres_run-{run}_T2starw.nii.gz")
        assert high.shape == (80, 80, 14)
        np.testing.assert_allclose(low.affine, bold.affine)
        edges = [image.affine @ [-0.5, -0.5, -0.5, 1] for image in (high, low)]
        np.testing.assert_allclose(edges[0], edges[1], atol=1e-5)


def test_ground_truth_files_are_readable_and_consistent(dataset: Path) -> None:
    truth = dataset / "derivatives" / "ground-truth" / "sub-01"
    stem = truth / "func" / "sub-01_task-tap"
    motion_file = Path(f"{stem}_from-orig_to-boldref_mode-image_desc-truth_xfm.txt")
    motion, sidecar = (
        read_itk(motion_file),
        json.loads(motion_file.with_suffix(".json").read_text()),
    )
    assert motion.shape == (60, 4, 4)
    np.testing.assert_allclose(motion[sidecar["ReferenceVolume"]], np.eye(4), atol=1e-12)
    to_t1w = read_itk(Path(f"{stem}_from-boldref_to-T1w_mode-image_desc-truth_xfm.txt"))[0]
    from_t1w = read_itk(Path(f"{stem}_from-T1w_to-boldref_mode-image_desc-truth_xfm.txt"))[0]
    np.testing.assert_allclose(to_t1w @ from_t1w, np.eye(4), atol=1e-9)
    for run in (1, 2):
        pair = [
            read_itk(
                truth / "anat" / f"sub-01_run-{run}_from-{direction}_mode-image_desc-truth_xfm.txt"
            )[0]
            for direction in ("highres_to-boldref", "lowres_to-boldref", "highres_to-lowres")
        ]
        np.testing.assert_allclose(pair[2] @ pair[1], pair[0], atol=1e-9)
    lines = Path(f"{stem}_desc-truth_foci.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["label", "thumb", "little", "sma"]
    images = sorted(truth.rglob("*.nii.gz"))
    assert len(images) == 5
    for image in images:
        assert np.isfinite(nib.load(image).get_fdata()).all()
        assert image.with_name(image.name.replace(".nii.gz", ".json")).exists()
    effect = nib.load(f"{stem}_res-hr_contrast-thumb_stat-effect_desc-truth_statmap.nii.gz")
    assert effect.shape == (80, 80, 14)
    assert 1.0 < effect.get_fdata().max() < 4.0
    sidecar = json.loads(
        Path(f"{stem}_res-hr_contrast-thumb_stat-effect_desc-truth_statmap.json").read_text()
    )
    assert sidecar["Units"] == "percent"
    resting = nib.load(f"{stem}_res-hr_desc-noisefree_boldref.nii.gz").get_fdata()
    brain = resting > 0.5 * np.median(resting[resting > 0.5 * resting.max()])
    assert sidecar["MeanSignal"] == pytest.approx(resting[brain].mean(), rel=0.1)


def test_the_preset_of_the_paper_has_the_published_parameters() -> None:
    paper = Study(preset="paper").protocol
    assert (*paper.bold_shape, paper.volumes) == (64, 64, 30, 900)
    assert (paper.tr, paper.te, paper.flip) == (0.5, 0.025, 44.0)
    assert (paper.lead, paper.block) == (30.0, 20.0)
    assert np.multiply(paper.bold_shape, paper.bold_voxel).tolist() == [240, 240, 120]
    assert np.multiply(paper.bold_shape, paper.factor).tolist() == [128, 128, 30]
    pair = paper.pair_sequence
    assert (pair.tr, pair.te, pair.flip) == (2.0, 0.025, 90.0)
    # T1w: 256 x 256 over 250 mm, slices of 1 mm (the paper prints "250 mm x 250 mm")
    assert paper.t1w_shape[1:] == (256, 256)
    assert np.linalg.norm(paper.t1w_affine[:3, :3], axis=0) * paper.t1w_shape == pytest.approx(
        [184, 250, 250]
    )
    t1w = paper.t1w_sequence
    assert (t1w.te, t1w.tr, t1w.flip) == (0.00198, 2.3, 9.0)
    center = paper.t1w_affine @ [*(np.array(paper.t1w_shape) - 1) / 2, 1]
    assert center[:3] == pytest.approx(paper.t1w_center)


def test_an_interrupted_phantom_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(simulated_dataset, "SimulatedSubject", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_dataset(tmp_path / "out", Study(preset="tiny"))
    assert list(tmp_path.iterdir()) == []


def test_full_directories_and_files_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "full" / "mine.txt"
    file.parent.mkdir()
    file.write_text("kept")
    for out, reason in ((file.parent, "not empty"), (file, "is a file")):
        with pytest.raises(UsageError, match=reason):
            make_dataset(out, Study(preset="tiny"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]
    assert file.read_text() == "kept"
