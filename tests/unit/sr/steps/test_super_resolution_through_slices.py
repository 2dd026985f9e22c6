"""Test steps if super-resolution makes slices thinner."""

import numpy as np
import pytest

from bids_sr.io.volume import Volume
from bids_sr.preproc.pair_frames import make_truncated_pair
from bids_sr.spatial.matrices import acquire
from bids_sr.sr.method import get_method
from bids_sr.sr.steps.training import recipe_for_thinner_slices

THIN, FLAT = (2.0, 2.0, 2.0), (2.0, 2.0, 1.0)


@pytest.mark.parametrize(
    ("method", "recipe", "degradation"),
    [
        ("tv", "fast", "multislice"),
        ("mse3d", "fast", "multislice"),
        ("tv", "paper", "trilinear"),
        ("ccnn3d", "fast", "block"),
    ],
)
def test_recipes_that_crop_k_space_only_crop_in_plane(method, recipe, degradation):
    changed = recipe_for_thinner_slices(get_method(method), recipe, THIN)
    original = get_method(method).recipes[recipe]
    assert (changed or original).degradation == degradation
    assert (changed is None) == (original.degradation != "kspace")
    assert recipe_for_thinner_slices(get_method(method), recipe, FLAT) is None


def test_slices_of_a_truncated_pair_are_averaged():
    rng = np.random.default_rng(0)
    x, y = np.indices((24, 24, 8))[:2]
    head = (((x - 11.5) / 9) ** 2 + ((y - 11.5) / 9) ** 2 < 1) * (500 + 100 * rng.random(x.shape))
    high_res = Volume(head.astype(np.float32), np.diag([2.0, 2, 2, 1]))
    high_res_copy, low_res, *_ = make_truncated_pair(high_res, THIN)
    expected = np.maximum(acquire(head, high_res.affine, factor=THIN)[0], 0)
    np.testing.assert_allclose(low_res.data, expected, rtol=1e-4, atol=1e-2)
    assert (high_res_copy.data.shape, low_res.data.shape) == ((24, 24, 8), (12, 12, 4))
