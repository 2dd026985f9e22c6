"""The shells write what they say: grids, codes, directions of transforms, tables with n/a; workflows run."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from planmaker import ACQUISITION
from scipy import ndimage

from bids_sr.interfaces.head_motion import (
    BoldMask,
    Confounds,
    EstimateDummies,
    EstimateMotion,
    ImportSeries,
    MakeBoldRef,
    SliceTiming,
)
from bids_sr.interfaces.learning.method_steps import SuperResolve
from bids_sr.io.nifti import SeriesReader, load_image, save_image
from bids_sr.spatial.transforms import apply, displacement, invert, read_itk, rigid_matrix
from bids_sr.workflows.bold.hmc_workflow import init_confounds_wf, init_motion_wf

SHAPE, VOLUMES = (24, 26, 14), 14
AFFINE = np.diag([-6.0, 6.0, 6.0, 1.0])
AFFINE[:3, 3] = [69, -75, -39]


@pytest.fixture(scope="module")
def truth() -> list[np.ndarray]:
    return [rigid_matrix([0.2 * t, -0.1 * t, 0.1 * t, 0, 0, 0.003 * t], [0, 0, 0]) for t in range(VOLUMES)]


@pytest.fixture(scope="module")
def bold(tmp_path_factory: pytest.TempPathFactory, truth: list[np.ndarray]) -> Path:
    """int16 series of a moving head that the slices cut off, two bright volumes at its start."""
    rng = np.random.default_rng(2)
    fine = tuple(2 * n for n in SHAPE)
    at = (np.indices(fine) - (np.array(fine)[:, None, None, None] - 1) / 2) * 3
    radius = np.sqrt((at[0] / 52) ** 2 + (at[1] / 60) ** 2 + (at[2] / 70) ** 2)
    folds = ndimage.gaussian_filter(rng.normal(size=fine), 2.0)
    head = (0.7 + 0.3 * np.tanh(folds / folds.std())) * ndimage.gaussian_filter((radius < 1).astype(float), 1.0)
    coefficients = ndimage.spline_filter(head * 2000)
    points = apply(AFFINE, np.indices(SHAPE).reshape(3, -1).T)
    to_fine = np.diag([1 / 3, 1 / 3, 1 / 3, 1])
    to_fine[:3, 3] = (np.array(fine) - 1) / 2
    series = np.empty((*SHAPE, VOLUMES))
    for t, motion in enumerate(truth):
        places = apply(to_fine @ invert(motion), points)
        series[..., t] = ndimage.map_coordinates(coefficients, places.T, prefilter=False).reshape(SHAPE)
    series += rng.normal(0, 15, series.shape)
    series[..., :2] *= [1.5, 1.15]
    image = nib.Nifti1Image(np.clip(series, 0, None).astype(np.int16), AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((6, 6, 6, 2.0))
    image.set_qform(AFFINE, 1)
    image.set_sform(AFFINE, 2)
    path = tmp_path_factory.mktemp("bold") / "sub-01_task-x_bold.nii.gz"
    image.to_filename(path)
    return path


def _run(interface: Any, tmp_path: Path) -> Any:
    folder = tmp_path / type(interface).__name__
    folder.mkdir()
    return interface.run(cwd=str(folder)).outputs


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, bold: Path) -> Path:
    """The motion workflow with slice timing, run for real; returns its folder."""
    times = [round(2.0 * k / SHAPE[2], 4) for k in range(SHAPE[2])]
    workflow = init_motion_wf(acquisition=replace(ACQUISITION, slice_times=tuple(times)), name="wf")
    workflow.base_dir = tmp_path_factory.mktemp("work")
    workflow.inputs.inputnode.bold_file = bold
    workflow.run()
    return Path(workflow.base_dir) / "wf"


def test_import_is_exact_and_keeps_the_header(tmp_path: Path, bold: Path) -> None:
    out = Path(_run(ImportSeries(in_file=bold), tmp_path).out_file)
    assert out.is_absolute()
    assert out.suffix == ".nii"
    image, source = nib.load(out), nib.load(bold)
    np.testing.assert_array_equal(np.asarray(image.dataobj), source.get_fdata(dtype=np.float32))
    assert image.get_data_dtype() == np.float32
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 2)
    assert float(image.header["pixdim"][4]) == pytest.approx(2.0)


def test_slices_are_brought_to_one_time_by_the_repetition_time_of_the_sidecar(tmp_path: Path, bold: Path) -> None:
    """Though the header has milliseconds for seconds; the same values as with a sound header."""
    wrong = nib.load(bold)
    wrong.header["pixdim"][4] = 2000.0
    nib.save(wrong, tmp_path / "wrong.nii.gz")
    found = []
    for name, file in (("sound", bold), ("wrong", tmp_path / "wrong.nii.gz")):
        (tmp_path / name).mkdir()
        series = _run(ImportSeries(in_file=file, tr=2.0), tmp_path / name).out_file
        timed = SliceTiming(in_file=series, slice_times=[0.4 * k % 2 for k in range(SHAPE[2])])
        found.append(nib.load(_run(timed, tmp_path / name).out_file))
    assert found[1].header["pixdim"][4] == 2.0
    np.testing.assert_array_equal(found[0].get_fdata(), found[1].get_fdata())


def test_dummies_are_detected_or_taken_from_the_user(tmp_path: Path, bold: Path) -> None:
    assert EstimateDummies(in_file=bold).run(cwd=str(tmp_path)).outputs.n_dummy == 2
    assert EstimateDummies(in_file=bold, n_dummy=0).run(cwd=str(tmp_path)).outputs.n_dummy == 0
    assert EstimateDummies(in_file=bold, n_dummy=5).run(cwd=str(tmp_path)).outputs.n_dummy == 5
    with pytest.raises(ValueError, match="13 dummy volumes of 14"):
        EstimateDummies(in_file=bold, n_dummy=13).run(cwd=str(tmp_path))


def test_transforms_on_disk_take_boldref_points_into_each_volume(ran: Path, truth: list[np.ndarray]) -> None:
    found = read_itk(ran / "estimate_motion" / "hmc_xfms.txt")
    assert len(found) == VOLUMES
    np.testing.assert_array_equal(found[0], found[2])
    mask, affine = load_image(ran / "bold_mask" / "boldmask.nii.gz")
    points = apply(affine, np.argwhere(mask > 0))
    # boldref lies in some pose of the run: compare motion between volumes
    for t in range(3, VOLUMES):
        wrong = displacement(found[t] @ invert(found[2]), truth[t] @ invert(truth[2]), points)
        assert wrong.mean() < 0.15


def test_motion_table(ran: Path) -> None:
    table = pd.read_csv(ran / "estimate_motion" / "motion.tsv", sep="\t")
    assert list(table) == ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z", "residual"]
    assert len(table) == VOLUMES
    assert table["residual"].isna().tolist() == [True] * 2 + [False] * 12
    assert 1.5 < table["trans_x"].iloc[-1] - table["trans_x"].iloc[2] < 2.8


def test_mask_reaches_the_edge_slices_that_cut_the_head(ran: Path) -> None:
    mask = load_image(ran / "bold_mask" / "boldmask.nii.gz")[0] > 0
    area = mask.sum(axis=(0, 1))
    assert area[0] > 0.5 * area.max()
    assert area[-1] > 0.5 * area.max()
    assert not mask[0].any()
    assert nib.load(ran / "bold_mask" / "boldmask.nii.gz").get_data_dtype() == np.uint8


def test_slice_timing_acts_in_time_only(ran: Path, tmp_path: Path, bold: Path) -> None:
    with SeriesReader(ran / "slice_timing" / "stc.nii") as got, SeriesReader(bold) as source:
        assert got.shape == source.shape
        assert got.tr == pytest.approx(2.0)
        np.testing.assert_array_equal(got.volume(0), source.volume(0))  # a dummy volume
        assert np.abs(got.volume(6) - source.volume(6)).max() > 5
    still = _run(ImportSeries(in_file=bold), tmp_path).out_file
    same = SliceTiming(in_file=still, slice_times=[0.5] * SHAPE[2], n_dummy=0)
    np.testing.assert_array_equal(load_image(_run(same, tmp_path).out_file)[0], load_image(still)[0])


def _resampled(series: Path, reference: Path, xfms: Path) -> SuperResolve:
    """Raw on its own grid, by one interpolation, as the workflow of a series sets it up."""
    grid = {"factor": (1.0, 1.0, 1.0), "boldref": reference, "mask": reference}
    return SuperResolve(in_file=series, series="raw", data_consistency="off", hmc_xfms=xfms, **grid)


def test_resampled_series_stands_still(ran: Path, tmp_path: Path, bold: Path) -> None:
    reference = ran / "boldref" / "boldref.nii.gz"
    out = _run(_resampled(bold, reference, ran / "estimate_motion" / "hmc_xfms.txt"), tmp_path).out_file
    mask = load_image(ran / "bold_mask" / "boldmask.nii.gz")[0] > 0
    before, after = load_image(bold)[0][mask][:, 2:], load_image(out)[0][mask][:, 2:]
    assert after.std(axis=1).mean() < 0.5 * before.std(axis=1).mean()
    assert nib.load(out).header.get_zooms()[3] == pytest.approx(2.0)


def test_identity_transforms_return_the_series(ran: Path, tmp_path: Path, bold: Path) -> None:
    from bids_sr.spatial.transforms import write_itk

    reference = ran / "boldref" / "boldref.nii.gz"
    write_itk(tmp_path / "x.txt", np.tile(np.eye(4), (VOLUMES, 1, 1)))
    out = _run(_resampled(bold, reference, tmp_path / "x.txt"), tmp_path).out_file
    np.testing.assert_array_equal(load_image(out)[0], load_image(bold)[0])
    write_itk(tmp_path / "y.txt", np.tile(np.eye(4), (3, 1, 1)))
    with pytest.raises(ValueError, match="3 transforms for 14 volumes"):
        _resampled(bold, reference, tmp_path / "y.txt").run(cwd=str(tmp_path))


def test_confounds_table_and_sidecar(ran: Path, tmp_path: Path) -> None:
    workflow = init_confounds_wf(with_anat=False)
    workflow.base_dir = tmp_path
    workflow.inputs.inputnode.preproc_file = ran / "slice_timing" / "stc.nii"
    workflow.inputs.inputnode.bold_mask = ran / "bold_mask" / "boldmask.nii.gz"
    workflow.inputs.inputnode.motion_tsv = ran / "estimate_motion" / "motion.tsv"
    workflow.inputs.inputnode.n_dummy = 2
    workflow.run()
    folder = tmp_path / "confounds_wf" / "confounds"
    rows = (folder / "confounds.tsv").read_text().splitlines()
    names = rows[0].split("\t")
    assert rows[1].split("\t")[names.index("framewise_displacement")] == "n/a"
    assert "nan" not in rows[1]
    assert len(rows) == VOLUMES + 1
    assert list(json.loads((folder / "confounds.json").read_text())) == names
    assert "non_steady_state_outlier01" in names


def test_tissues_of_a_doubtful_brain_are_no_confounds(ran: Path, tmp_path: Path) -> None:
    mask, affine = load_image(ran / "bold_mask" / "boldmask.nii.gz")
    tpms = []
    for k in range(3):
        tpms.append(str(tmp_path / f"tissue{k}.nii"))
        save_image((mask > 0) * (np.arange(mask.shape[1])[:, None] % 12 // 4 == k), affine, tpms[-1])
    given = {
        "in_file": ran / "slice_timing" / "stc.nii",
        "mask": ran / "bold_mask" / "boldmask.nii.gz",
        "motion_tsv": ran / "estimate_motion" / "motion.tsv",
        "tpms": tpms,
        "n_dummy": 2,
    }
    for number, doubts in enumerate([[], ["its brain mask holds 2080 ml"]]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "facts.json").write_text(json.dumps({"brain_doubts": doubts}))
        node = Confounds(registration_json=folder / "facts.json", **given)
        table = pd.read_csv(_run(node, folder).out_file, sep="\t")
        assert ("white_matter" in table) == (not doubts)


def test_settings_reach_the_estimate(ran: Path, tmp_path: Path) -> None:
    options = {
        "in_file": next((ran / "import_series").glob("*.nii")),
        "boldref": ran / "boldref" / "boldref.nii.gz",
        "n_dummy": 2,
    }
    wide = EstimateMotion(fwhm_mm=14.0, **options)
    got = read_itk(_run(wide, tmp_path).hmc_xfms)
    assert not np.array_equal(got, read_itk(ran / "estimate_motion" / "hmc_xfms.txt"))


def test_boldref_and_mask_take_the_same_bytes_twice(ran: Path, tmp_path: Path) -> None:
    source = next((ran / "import_series").glob("*.nii"))
    again = _run(MakeBoldRef(in_file=source, n_dummy=2), tmp_path).out_file
    assert Path(again).read_bytes() == (ran / "boldref" / "boldref.nii.gz").read_bytes()
    mask = _run(BoldMask(boldref=again), tmp_path).out_mask
    assert Path(mask).read_bytes() == (ran / "bold_mask" / "boldmask.nii.gz").read_bytes()


def test_confounds_need_a_mask_that_fits(ran: Path, tmp_path: Path, bold: Path) -> None:
    small = tmp_path / "small.nii.gz"
    nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4)).to_filename(small)
    node = Confounds(
        in_file=ran / "slice_timing" / "stc.nii", mask=small, motion_tsv=ran / "estimate_motion" / "motion.tsv"
    )
    with pytest.raises(ValueError, match=r"stc\.nii"):
        node.run(cwd=str(tmp_path))
