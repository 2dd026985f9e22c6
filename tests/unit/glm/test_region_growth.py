"""Growth of a region of interest: activation cut off by its border is added, nothing else."""

import numpy as np
import pytest

from bids_sr.glm.region_growth import grow_roi, select_ring, transfer_growth

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


def test_ring_contains_brain_voxels_within_the_distance(roi):
    mask = MASK.copy()
    mask[7] = False
    border_ring = select_ring(roi, mask, AFFINE, 6.0)
    assert border_ring[0, 4, 1]  # two voxels of 3 mm away
    assert not border_ring[8, 4, 1]  # 9 mm away
    assert not border_ring[7, 4, 1]  # 6 mm away, outside the brain
    assert border_ring[4, 4, 0]  # a slice of 4 mm away
    assert not (border_ring & roi).any()


def test_activation_cut_off_by_the_border_is_added(roi):
    cc = np.full(SHAPE, 0.1)
    cc[4:8, 4, 1] = [0.6, 0.8, 0.9, 0.85]  # 4 and 5 inside, 6 and 7 outside
    cc[13, 4, 1] = 0.95  # another activation, 24 mm off
    grown, level = grow_roi(roi, cc, MASK, AFFINE)
    # equation 2 over region and surroundings: .9 - .8 / 4 = .7
    assert level == pytest.approx(0.7)
    np.testing.assert_array_equal(np.argwhere(grown & ~roi), [[6, 4, 1], [7, 4, 1]])
    assert not (roi & ~grown).any()


def test_activation_is_reached_through_voxels_below_the_level_that_are_not_added(roi):
    cc = np.full(SHAPE, 0.1)
    cc[5:9, 4, 1] = [0.55, 0.55, 0.9, 0.3]
    assert added(roi, cc) == 1
    cc[6, 4, 1] = 0.45  # below .5: the activation is no longer connected to the region
    assert added(roi, cc) == 0


def test_a_region_outside_the_brain_is_rejected(roi):
    with pytest.raises(ValueError, match="does not overlap the brain mask"):
        grow_roi(roi, np.ones(SHAPE), ~roi, AFFINE)


def test_added_voxels_are_transferred_to_the_high_resolution_grid():
    coarse = np.zeros((4, 4, 2), dtype=bool)
    coarse[2, 1, 1] = True
    affine = np.diag([4.0, 4.0, 5.0, 1.0])
    # in-plane resolution doubled, same outer edges: the first voxel center is shifted by a
    # quarter of a low-resolution voxel
    fine_affine = np.diag([2.0, 2.0, 5.0, 1.0])
    fine_affine[:2, 3] = -1.0
    mask = np.ones((8, 8, 2), dtype=bool)
    mask[5, 3, 1] = False
    roi = np.zeros_like(mask)
    roi[0, 0, 0] = True
    grown = transfer_growth(coarse, affine, roi, mask, fine_affine)
    expected = roi.copy()
    expected[4:6, 2:4, 1] = True
    expected[5, 3, 1] = False
    np.testing.assert_array_equal(grown, expected)
