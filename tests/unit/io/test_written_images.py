"""Bytes of written images."""

import numpy as np
import pytest

from bids_sr.io.nifti import load_image, save_image

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("dtype", ["float32", "bool", "int64", "float64"])
@pytest.mark.parametrize("indices", [(), (0, 1), (700, 1100, 5000), (1, 30 * 20 * 16 - 1)])
def test_skipping_pages_of_zeros_changes_no_byte(indices, dtype, order, tmp_path):
    values = np.zeros((30, 20, 16), dtype)
    values.ravel(order="K")[list(indices)] = 1
    values = np.asarray(values, order=order)
    path = tmp_path / "image.nii"
    save_image(values, AFFINE, path)
    stored_dtype = {"bool": np.uint8, "int64": np.int32}.get(dtype, np.float32)
    content = path.read_bytes()
    assert content[352:] == values.astype(stored_dtype).tobytes(order="F")
    data, affine = load_image(path)
    np.testing.assert_array_equal(data, values)
    np.testing.assert_allclose(affine, AFFINE)
    packed = tmp_path / "image.nii.gz"
    save_image(values, AFFINE, packed)
    np.testing.assert_array_equal(load_image(packed)[0], values)


def test_zeros_around_a_brain_take_no_disk_space(tmp_path):
    values = np.zeros((64, 64, 64), np.float32)
    values[20:40, 20:40, 20:40] = 1
    path = tmp_path / "map.nii"
    save_image(values, AFFINE, path)
    assert path.stat().st_size == 352 + values.nbytes
    assert path.stat().st_blocks * 512 < 0.5 * values.nbytes
