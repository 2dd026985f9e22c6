"""Large acquired effects, on images with known detail, tSNR and darkness."""

import math

import numpy as np
import pytest
from data.block_effects import make_blocks, make_effects

from bids_sr.evaluation.large_effects import (
    describe_large_effects,
    find_large_effects,
    select_in_run,
    select_large_effects,
)

SHAPE, FACTOR = (32, 32, 6), (2.0, 2.0, 1.0)


def checkerboard():
    """Return the highest spatial frequency in plane, 1 or -1 (X, Y, Z)."""
    x, y, _ = np.indices(SHAPE)
    return np.where((x + y) % 2, 1.0, -1.0)


def split_slices(low, high):
    """Return an image with one value in the lower and another in the upper slices (X, Y, Z)."""
    return np.broadcast_to(np.where(np.arange(SHAPE[2]) < 2, low, high), SHAPE).copy()


def test_the_acquired_effect_selects_voxels_not_the_added_detail():
    """Detail of 7 % does not make an effect of 4 % large; its sign does not matter."""
    is_large, detail = select_large_effects(split_slices(4, -6) + 7 * checkerboard(), FACTOR)
    np.testing.assert_array_equal(is_large, split_slices(0, 1).astype(bool))
    np.testing.assert_allclose(detail, 7 * checkerboard(), atol=1e-9)


def test_effects_of_a_run_are_in_percent_of_the_mean_brain_signal():
    """A block of 40 units is 8 % of a brain with a mean signal of 500; it is 4 % of two blocks."""
    betas = np.stack([split_slices(40, 0), split_slices(0, 0)], axis=-1)
    mean = np.full(SHAPE, 500, np.float32)
    mean[:2] = 0
    effects = make_effects("sbl", betas, make_blocks("ab"), np.eye(4), mean=mean, mask=mean > 0)
    assert effects.mean_signal == 500
    large = select_in_run(effects, {"a": 1.0}, 500, FACTOR)
    np.testing.assert_array_equal(large, split_slices(1, 0).astype(bool))
    assert not select_in_run(effects, {"a": 0.5, "b": 0.5}, 500, FACTOR).any()
    assert select_in_run(effects, {"a": 0.5, "b": 0.5}, 500, FACTOR, percent=3.0).any()
    assert select_in_run(effects, {"c": 1.0}, 500, FACTOR) is None
    assert select_in_run(effects, {"a": 1.0}, math.nan, FACTOR) is None


def test_values_of_large_effects_are_next_to_those_of_other_active_voxels():
    """A third of the voxels has large effects and detail of twice the amplitude."""
    effect = split_slices(8, 2) + split_slices(2, 1) * checkerboard()
    dark = split_slices(1, 0).astype(bool)
    dark[0, 0, 5] = True
    active = np.ones(SHAPE, bool)
    active[16:] = False
    effects = describe_large_effects(effect, active, dark, FACTOR)
    assert (effects.n, effects.n_active) == (16 * 32 * 2, 16 * 32 * 6)
    assert effects.detail_share == pytest.approx(2 * 4 / (2 * 4 + 4))
    assert (effects.dark_share, effects.n_dark) == (1, effects.n)
    assert effects.other_dark_share == pytest.approx(1 / (16 * 32 * 4))
    assert (effects.median, effects.p95) == pytest.approx((3, 10))
    rows = effects.list_rows("sbl", "hand", 0.0)
    smoothed = describe_large_effects(effect / 2, active, dark, FACTOR).list_rows(
        "sbl", "hand", 5.0
    )
    for mixed in ([*rows, *smoothed], [*smoothed, *rows]):
        assert find_large_effects(mixed, "sbl", "hand") == effects
    assert find_large_effects(rows, "sbl", "foot") is None
