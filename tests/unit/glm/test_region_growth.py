"""Growing a region of interest: what its border cuts off comes in, nothing else does."""

import numpy as np
import pytest

from bids_sr.glm.region_growth import carry_over, grow_roi, ring

SHAPE = (16, 10, 3)
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
MASK = np.ones(SHAPE, dtype=bool)


def region(*box):
    out = np.zeros(SHAPE, dtype=bool)
    out[tuple(slice(*b) for b in box)] = True
    return out


def added(roi, cc):
    return int((grow_roi(roi, cc, MASK, AFFINE)[0] & ~roi).sum())


@pytest.fixture
def roi():
    return region((2, 6), (3, 7), (1, 2))


def test_ring_keeps_to_the_distance_and_the_brain(roi):
    mask = MASK.copy()
    mask[7] = False
    around = ring(roi, mask, AFFINE, 6.0)
    assert around[0, 4, 1]  # two voxels of 3 mm away
    assert not around[8, 4, 1]  # 9 mm away
    assert not around[7, 4, 1]  # 6 mm away, outside the brain
    assert around[4, 4, 0]  # a slice of 4 mm away
    assert not (around & roi).any()


def test_activity_that_the_border_cuts_comes_in(roi):
    cc = np.full(SHAPE, 0.1)
    cc[4:8, 4, 1] = [0.6, 0.8, 0.9, 0.85]  # 4 and 5 inside, 6 and 7 outside
    cc[13, 4, 1] = 0.95  # another activation, 24 mm off
    grown, level = grow_roi(roi, cc, MASK, AFFINE)
    # equation 2 over region and surroundings: .9 - .8 / 4 = .7
    assert level == pytest.approx(0.7)
    np.testing.assert_array_equal(np.argwhere(grown & ~roi), [[6, 4, 1], [7, 4, 1]])
    assert not (roi & ~grown).any()


def test_a_bridge_below_the_level_leads_but_does_not_join(roi):
    cc = np.full(SHAPE, 0.1)
    cc[5:9, 4, 1] = [0.55, 0.55, 0.9, 0.3]
    assert added(roi, cc) == 1
    cc[6, 4, 1] = 0.45  # a gap below .5: the activation no longer hangs together with the region
    assert added(roi, cc) == 0


def test_corners_do_not_connect(roi):
    cc = np.full(SHAPE, 0.1)
    cc[6, 7, 1] = 0.9  # touches the region's corner (5, 6) only
    assert added(roi, cc) == 0


def test_nothing_is_added_where_nothing_is_active(roi):
    cc = np.random.default_rng(0).uniform(-0.3, 0.45, SHAPE)
    grown, level = grow_roi(roi, cc, MASK, AFFINE)
    assert level == 0.5
    np.testing.assert_array_equal(grown, roi)


def test_a_region_outside_the_brain_is_refused(roi):
    with pytest.raises(ValueError, match="does not overlap the brain mask"):
        grow_roi(roi, np.ones(SHAPE), ~roi, AFFINE)


def test_added_voxels_reach_the_fine_grid():
    coarse = np.zeros((4, 4, 2), dtype=bool)
    coarse[2, 1, 1] = True
    affine = np.diag([4.0, 4.0, 5.0, 1.0])
    # twice as fine in-plane, same outer edges: the first center lies a quarter of a coarse voxel
    # before
    fine_affine = np.diag([2.0, 2.0, 5.0, 1.0])
    fine_affine[:2, 3] = -1.0
    mask = np.ones((8, 8, 2), dtype=bool)
    mask[5, 3, 1] = False
    roi = np.zeros_like(mask)
    roi[0, 0, 0] = True
    found = carry_over(coarse, affine, roi, mask, fine_affine)
    expected = roi.copy()
    expected[4:6, 2:4, 1] = True
    expected[5, 3, 1] = False
    np.testing.assert_array_equal(found, expected)
