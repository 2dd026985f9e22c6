"""Smoothing that gives the acquired series the smoothness of another one."""

import numpy as np
import pytest

from bids_sr.evaluation.same_resolution import _WIDEST_MM, _smoothness, same_resolution
from bids_sr.glm.smoothing import smooth

ZOOMS = (1.5, 1.5, 3.0)
FACTOR = (2.0, 2.0, 1.0)


@pytest.fixture
def noise():
    """Changes of a series, a little smooth by themselves, and a brain."""
    rng = np.random.default_rng(0)
    changes = [smooth(rng.standard_normal((48, 44, 10)), ZOOMS, 3.0) for _ in range(4)]
    mask = np.zeros((48, 44, 10), dtype=bool)
    mask[6:42, 6:38, 1:9] = True
    return changes, mask


@pytest.mark.parametrize("width", [0.0, 3.0, 6.0, 9.0])
def test_the_width_of_what_was_smoothed_is_found(noise, width):
    changes, mask = noise
    other = [smooth(each, ZOOMS, width) for each in changes]
    assert same_resolution(changes, other, mask, ZOOMS, FACTOR) == pytest.approx(width, abs=0.05)


def test_a_sharper_series_needs_no_smoothing_and_a_flat_one_the_widest(noise):
    changes, mask = noise
    rng = np.random.default_rng(1)
    assert same_resolution(changes, [rng.standard_normal(mask.shape)], mask, ZOOMS, FACTOR) == 0
    assert same_resolution(changes, [np.ones(mask.shape)], mask, ZOOMS, FACTOR) == _WIDEST_MM
    assert np.isnan(same_resolution(changes, [np.zeros(mask.shape)], mask, ZOOMS, FACTOR)), (
        "nothing changes in it"
    )


def test_detail_between_acquired_voxels_is_no_sharpness_of_theirs(noise):
    """Where it alternates from voxel to voxel, neighbors differ and acquired voxels do not."""
    changes, mask = noise
    board = (-1.0) ** np.indices(mask.shape)[:2].sum(0)
    wide = [smooth(each, ZOOMS, 6.0) for each in changes]
    fine = [each + board * another for each, another in zip(wide, wide[::-1], strict=True)]
    assert same_resolution(changes, fine, mask, ZOOMS, FACTOR) == pytest.approx(6.0, abs=0.5)


def test_smoothness_is_the_correlation_of_voxels_an_acquired_voxel_apart():
    rng = np.random.default_rng(2)
    change = np.repeat(np.repeat(rng.standard_normal((200, 200, 1)), 2, 0), 2, 1)
    mask = np.ones(change.shape, dtype=bool)
    assert _smoothness([change], mask, (1, 1)) == pytest.approx(0.5, abs=0.02)
    assert _smoothness([change], mask, (2, 2)) == pytest.approx(0.0, abs=0.02)
