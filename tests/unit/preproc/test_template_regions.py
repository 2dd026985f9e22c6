"""Test regions of interest on the grid of the T1w image."""

import numpy as np

from bids_sr.io.volume import Volume
from bids_sr.preproc.template_regions import resample_to_t1w


def test_a_region_on_the_grid_of_the_t1w_image_is_unchanged_and_any_other_is_resampled() -> None:
    affine = np.diag([-1.0, 1.2, 2.0, 1.0])
    affine[:3, 3] = 12.5, -3.25, 40.0
    affine[0, 1] = 0.25
    region = Volume(np.random.default_rng(0).random((9, 8, 7)) > 0.5, affine)
    t1w = Volume(np.zeros((9, 8, 7), np.float32), affine)
    copy = resample_to_t1w(region, t1w, [], seed=0)
    assert copy.dtype == np.float32
    np.testing.assert_array_equal(copy, region.data)
    shifted = affine.copy()
    shifted[:3, 3] += affine[:3, 2]
    moved = resample_to_t1w(region, Volume(t1w.data, shifted), [], seed=0)
    np.testing.assert_allclose(moved[:, :, :-1], region.data[:, :, 1:], atol=1e-3)
