"""Test steps if super-resolution makes slices thinner."""

import numpy as np
import pytest

from bids_sr.evaluation.steps.reference_comparisons import (
    describe_halves,
    describe_known_activation,
)
from bids_sr.evaluation.steps.self_test_rows import gather_self_tests
from bids_sr.io.volume import Volume
from bids_sr.preproc.pair_frames import make_truncated_pair
from bids_sr.report.series_description import describe_all_series, describe_hr_resolution
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


@pytest.mark.parametrize(
    ("factor", "sizes", "voxels"),
    [(THIN, ("6×6×5", "3×3×2.5", "12×12×10"), "2x2x2"), (FLAT, ("6 mm", "3 mm"), "2x2x1")],
)
def test_texts_contain_the_sizes_of_all_axes_that_change(factor, sizes, voxels):
    _, facts = gather_self_tests(
        series_names=["tv"], network_names=["tv"], voxel=(6.0, 6.0, 5.0), factor=factor
    )
    reason = facts["series"]["tv"]["reason"]
    assert [size for size in sizes if size not in reason] == []
    assert voxels in describe_hr_resolution("tv", factor, (0, 1, 2))
    for text in (describe_halves(factor, at_rest=False), describe_known_activation(factor)):
        assert ("across slices" in text) == (factor == THIN)
    text = describe_all_series(["zerofill"], False, with_thinner_slices=factor == THIN)
    assert ("Across slices" in text) == (factor == THIN)
