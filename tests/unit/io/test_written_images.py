"""Bytes of written images, and zeros around a brain, which take no disk space."""

import numpy as np
import pytest

from bids_sr.io.nifti import load_image, save_image

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("dtype", ["float32", "bool", "int64"])
@pytest.mark.parametrize("indices", [(), (700, 1100, 5000), (1, 30 * 20 * 16 - 1)])
def test_skipping_pages_of_zeros_changes_no_byte(indices, dtype, order, tmp_path):
    values = np.zeros((30, 20, 16), dtype)
    values.ravel(order="K")[list(indices)] = 1
    values = np.asarray(values, order=order)
    save_image(values, AFFINE, path := tmp_path / "image.nii")
    stored_dtype = {"bool": np.uint8, "int64": np.int32}.get(dtype, np.float32)
    assert path.read_bytes()[352:] == values.astype(stored_dtype).tobytes(order="F")
    save_image(values, AFFINE, packed := tmp_path / "image.nii.gz")
    for file in (path, packed):
        data, affine = load_image(file)
        np.testing.assert_array_equal(data, values)
        np.testing.assert_allclose(affine, AFFINE)


@pytest.mark.parametrize("name", ["map.nii", "map.nii.gz"])
def test_zeros_around_a_brain_take_no_disk_space(name, tmp_path):
    values = np.zeros((64, 64, 64), np.float32)
    values[20:40, 20:40, 20:40] = np.random.default_rng(0).normal(size=(20, 20, 20))
    values[3, 3, 60] = 7.0  # in one of the last slices, after a hole
    save_image(values, AFFINE, path := tmp_path / name)
    assert path.stat().st_blocks * 512 < 0.5 * values.nbytes
    if path.suffix == ".nii":
        assert path.stat().st_size == 352 + values.nbytes, "also if the file ends with zeros"
    loaded, _ = load_image(path)
    np.testing.assert_array_equal(loaded, values)
