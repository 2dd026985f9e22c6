"""Test the order of axes: images are imported with slices on the third axis, and stored on grids
of the run in the order of the input.
"""

from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from data.fmriprep import FmriprepMaker, fsl_parameters, rigid
from scipy.ndimage import gaussian_filter

from bids_sr.engine.store import store
from bids_sr.io.volume import Volume
from bids_sr.preproc.steps.acquired_series import import_series
from bids_sr.preproc.steps.imported import import_mask, rebuild_motion
from bids_sr.preproc.steps.registration import truncate_pair

AFFINE = np.array([[-3.0, 0, 0, 40], [0, 3, 0, -42], [0, 0, 5, -20], [0, 0, 0, 1]])
SHAPE = (14, 12, 9)
ORDER = (1, 2, 0)  # order of a file with slices on the first axis
COMMON = {"subject": "01", "datatype": "func", "task": "tap"}


def write_in_file_order(data: np.ndarray, path: Path, affine: np.ndarray = AFFINE) -> str:
    """Write an image with slices on the third axis so that its slices are on the first axis."""
    order = np.argsort(ORDER)
    reordered = np.transpose(data, (*order, *range(3, data.ndim)))
    image = nb.Nifti1Image(reordered, affine[:, [*order, 3]])
    if data.ndim == 4:
        image.header["pixdim"][4] = 2.0
    nb.save(image, path)
    return str(path)


def head(n_volumes: int = 4) -> np.ndarray:
    rng = np.random.default_rng(0)
    image = gaussian_filter(rng.normal(size=SHAPE), 1.5) * 500 + 1000
    return (image[..., None] + rng.normal(0, 5, (*SHAPE, n_volumes))).astype(np.float32)


def store_and_load(source: Path, tmp_path: Path, **entities: str) -> nb.Nifti1Image:
    (tmp_path / "sink").mkdir(exist_ok=True)
    (path,) = store(
        tmp_path / "sink",
        [source],
        output_dir=tmp_path / "out",
        entities=COMMON,
        own_entities=entities,
        axis_order=ORDER,
    )
    return nb.load(path)


def test_a_series_and_its_mask_are_stored_in_the_voxel_order_of_the_input(tmp_path: Path) -> None:
    data = head()
    file = write_in_file_order(data, tmp_path / "bold.nii.gz")
    imported = import_series(Path(file), tmp_path, tr=2.0, axis_order=ORDER).path
    imported_image = nb.load(imported)
    np.testing.assert_array_equal(np.asarray(imported_image.dataobj), data)
    np.testing.assert_allclose(imported_image.affine, AFFINE)
    series = store_and_load(Path(imported), tmp_path, desc="preproc", suffix="bold")
    np.testing.assert_array_equal(np.asarray(series.dataobj), np.asarray(nb.load(file).dataobj))
    np.testing.assert_allclose(series.affine, nb.load(file).affine)
    inside = data[..., 0] > 1000
    nb.save(nb.Nifti1Image(inside.astype(np.uint8), AFFINE), tmp_path / "mask.nii")
    mask = store_and_load(tmp_path / "mask.nii", tmp_path, desc="brain", suffix="mask")
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(
        np.asarray(mask.dataobj) > 0, np.asarray(nb.load(file).dataobj)[..., 0] > 1000
    )


def test_a_mask_of_another_program_is_reordered_like_the_boldref(tmp_path: Path) -> None:
    inside = head()[..., 0] > 1000
    mask = write_in_file_order(inside.astype(np.uint8), tmp_path / "mask.nii.gz")
    boldref = Volume(head()[..., 0], AFFINE)
    low_res_mask, high_res_mask, facts = import_mask(
        boldref, Path(mask), origin="x", factor=(2.0, 2.0, 1.0)
    )
    np.testing.assert_array_equal(low_res_mask.data, inside)
    assert high_res_mask.data.shape == (28, 24, 9)
    assert facts == {"mask_source": "x"}


@pytest.mark.parametrize("mirror", [1, -1])
def test_mcflirt_parameters_refer_to_the_axes_of_the_file(tmp_path: Path, mirror: int) -> None:
    affine = np.diag([mirror, 1, 1, 1]) @ AFFINE
    motion = np.array(
        [rigid(), rigid(2.5, -1, 0.5, 0.03), rigid(-2, 3, 1, -0.05), rigid(1, 1, -2, 0.02)]
    )
    series_data = np.repeat(head(1), 4, -1)
    file = write_in_file_order(series_data, tmp_path / "bold.nii", affine)
    table = tmp_path / "confounds.tsv"
    volume_in_file = np.asarray(nb.load(file).dataobj)[..., 0]
    FmriprepMaker.confounds(table, fsl_parameters(motion, volume_in_file, nb.load(file)), 0)
    series = import_series(Path(file), tmp_path, tr=2.0, axis_order=ORDER)
    xfms, motion_table, _ = rebuild_motion(
        series, pd.read_csv(table, sep="\t", na_values="n/a"), n_dummy=0, axis_order=ORDER
    )
    np.testing.assert_allclose(xfms, motion, atol=2e-3)
    assert len(motion_table) == 4


def test_a_pair_is_downsampled_alike_in_two_orders(tmp_path: Path) -> None:
    high_res = (
        gaussian_filter(np.random.default_rng(1).normal(size=(28, 24, 9)), 1.0).astype(np.float32)
        * 500
        + 1000
    )
    high_affine = AFFINE @ np.diag([0.5, 0.5, 1, 1])
    high_affine[:3, 3] = AFFINE[:3, 3] + AFFINE[:3, :3] @ [-0.25, -0.25, 0]
    nb.save(nb.Nifti1Image(high_res, high_affine), tmp_path / "plain.nii")
    reordered_path = Path(write_in_file_order(high_res, tmp_path / "high.nii.gz", high_affine))
    expected = truncate_pair(tmp_path / "plain.nii", factor=(2.0, 2.0, 1.0))
    reordered = truncate_pair(reordered_path, factor=(2.0, 2.0, 1.0), highres_order=ORDER)
    np.testing.assert_allclose(reordered.train_lowres.data, expected.train_lowres.data, rtol=1e-6)
