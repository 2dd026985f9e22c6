"""Test interpolation: geometry to 0.05 voxel, exact cases, and volumes of a series."""

import numpy as np
import pytest
from data.known_positions import AFFINE, blob, centroid_mm
from hypothesis import given, strategies as st

from bids_sr.spatial import matrices, transforms
from bids_sr.spatial.transforms import resize_affine

NAMES = tuple(matrices.MATRICES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("shape", "factor"),
    [((24, 25, 9), (2, 2, 1)), ((21, 20, 9), (1.5, 2, 2)), ((20, 22, 9), (3, 1.25, 1))],
)
def test_a_blob_moves_by_less_than_a_twentieth_of_a_voxel(name, shape, factor):
    lr = blob(shape, [s / 2 + 0.3 for s in shape], (2.5, 2.5, 1.0))
    hr = matrices.upsample(name, lr, factor)
    affine = resize_affine(AFFINE, lr.shape, hr.shape)
    shift = np.linalg.inv(affine)[:3, :3] @ (centroid_mm(hr, affine) - centroid_mm(lr, AFFINE))
    assert np.abs(shift).max() < 0.05


def test_cubic_splines_reproduce_a_cubic_away_from_the_edges():
    x = np.arange(40.0) / 20 - 1
    hr = matrices.upsample("bspline", (x**3 - x**2)[:, None, None], (3, 1, 1))[:, 0, 0]
    fine = ((np.arange(120) + 0.5) / 3 - 0.5) / 20 - 1
    np.testing.assert_allclose(hr[45:75], (fine**3 - fine**2)[45:75], atol=1e-7)


def test_nearest_repeats_voxels():
    lr = np.arange(4.0)[:, None, None]
    np.testing.assert_array_equal(
        matrices.upsample("nearest", lr, (2, 1, 1))[:, 0, 0], [0, 0, 1, 1, 2, 2, 3, 3]
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_series_equals_its_separate_volumes_and_stays_float32(name):
    lr = np.random.default_rng(1).random((8, 7, 3, 4), dtype=np.float32)
    series = matrices.upsample(name, lr, (2, 2, 1))
    assert series.dtype == np.float32
    assert series.shape == (16, 14, 3, 4)
    for t in range(4):
        np.testing.assert_allclose(
            series[..., t], matrices.upsample(name, lr[..., t], (2, 2, 1)), atol=1e-5
        )


def test_slices_are_not_zero_filled():
    lr = np.random.default_rng(3).random((6, 6, 5))
    filled, spline = (matrices.upsample(name, lr, (1, 1, 2)) for name in ("zerofill", "bspline"))
    np.testing.assert_allclose(filled, spline)


@given(n=st.integers(3, 40), f=st.floats(1, 3))
def test_the_grid_equals_the_grid_of_spatial_transforms(n, f):
    shape, affine = transforms.hr_grid((n, n, 5), AFFINE, (f, f, 1))
    hr = matrices.upsample("linear", np.zeros((n, n, 5)), (f, f, 1))
    assert hr.shape == tuple(shape)
    np.testing.assert_allclose(resize_affine(AFFINE, (n, n, 5), hr.shape), affine, atol=1e-9)


def test_an_unknown_name_is_rejected_with_the_list():
    with pytest.raises(KeyError, match="bspline"):
        matrices.upsample("cubic", np.ones((4, 4, 2)), (2, 2, 1))
