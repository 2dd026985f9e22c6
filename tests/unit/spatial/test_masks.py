"""Test morphology in mm, downsampled grids and coverage against closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from nibabel.affines import apply_affine as apply
from scipy import ndimage

from bids_sr.spatial import low_resolution_grids, masks, similarity
from bids_sr.spatial.transforms import rigid_matrix

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
AFFINE[:3, 3] = [-30, -30, -30]


def ball(radius: float, shape: tuple[int, int, int] = (31, 31, 21)) -> np.ndarray:
    points = apply(AFFINE, np.argwhere(np.ones(shape)))
    return (np.linalg.norm(points, axis=1) <= radius).reshape(shape)


@settings(max_examples=30, deadline=None)
@given(st.floats(-7.0, 7.0), st.sampled_from([1.0, 1.5, 3.3]), st.integers(0, 2**31))
def test_grow_equals_a_distance_transform(mm: float, size: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(rng.normal(size=rng.integers(2, 16, 3)), 1.5) > 0.02
    if mask.all() or not mask.any():
        return
    padded = np.pad(mask, 8, mode="edge" if mm < 0 else "constant")
    source = padded if mm < 0 else ~padded
    distance = ndimage.distance_transform_edt(source, sampling=(size, 1.0, 2.5))
    expected = distance > 1e-4 - mm if mm < 0 else distance <= mm + 1e-4
    inner = tuple(slice(8, -8) for _ in range(3))
    grown = masks.grow(mask, np.diag([size, 1.0, 2.5, 1.0]), mm)
    assert np.array_equal(grown, expected[inner])


def test_close_bridges_a_cleft_and_open_cuts_a_bridge() -> None:
    two = np.zeros((30, 20, 12), dtype=bool)
    two[2:13, 3:17, 2:10] = two[15:27, 3:17, 2:10] = True
    assert masks.close_mask(two, AFFINE, 4.0)[14, 10, 5]
    bridged = two.copy()
    bridged[13:15, 10, 5] = True
    assert masks.largest_component(bridged).sum() == bridged.sum()
    assert masks.largest_component(masks.open_mask(bridged, AFFINE, 3.0)).sum() < 0.6 * two.sum()


def test_otsu_is_between_two_modes_and_rejects_a_constant() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(10, 1, 5000), rng.normal(50, 4, 3000)])
    assert 13 < masks.otsu_threshold(values) < 40
    with pytest.raises(masks.MaskError, match="intensities of the image are equal"):
        masks.otsu_threshold(np.full(10, 3.0))


def test_coarsen_keeps_edges_mean_and_positions() -> None:
    points = apply(AFFINE, np.argwhere(np.ones((30, 30, 20)))).reshape(30, 30, 20, 3)
    ramp = points @ [1.0, -2.0, 0.5]
    low_res, grid = low_resolution_grids.downsample_volume(ramp, AFFINE, 6.0)
    assert low_res.shape == (10, 10, 10)
    assert np.allclose(grid @ [-0.5, -0.5, -0.5, 1], AFFINE @ [-0.5, -0.5, -0.5, 1])
    expected = apply(grid, np.argwhere(np.ones(low_res.shape))).reshape(*low_res.shape, 3) @ [
        1.0,
        -2.0,
        0.5,
    ]
    assert np.abs(low_res - expected)[2:-2, 2:-2, 2:-2].max() < 1e-2


def test_coverage_of_a_half_space_is_the_share_of_the_voxel() -> None:
    filled = np.zeros((40, 8, 8), dtype=np.float32)
    filled[:21] = 1  # 1 mm voxels, filled up to x = 20.5
    share = low_resolution_grids.coverage(
        filled, np.eye(4), (5, 1, 1), np.diag([8.0, 8.0, 8.0, 1.0]) + _shift(3.5), mm=0.25
    )
    assert np.allclose(share[:, 0, 0], [1, 1, 5 / 8, 0, 0], atol=0.04)


def test_coverage_takes_target_points_to_the_source() -> None:
    block = np.zeros((20, 20, 20), dtype=np.float32)
    block[12, 10, 10] = 1
    move = rigid_matrix([4, 0, 0, 0, 0, 0], [0, 0, 0])
    assert (
        low_resolution_grids.coverage(block, np.eye(4), block.shape, np.eye(4), move)[8, 10, 10]
        > 0.99
    )


def test_mutual_information_of_independent_and_identical_images() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=40000), rng.normal(size=40000)
    assert similarity.normalized_mutual_information(a, b) < 1.01
    assert similarity.normalized_mutual_information(a, -a) > 1.95
    assert 1.05 < similarity.normalized_mutual_information(a, a + 0.5 * b) < 1.95


def test_the_brain_mask_is_the_bright_part_without_holes_or_scalp() -> None:
    brain, scalp = ball(24.0), ball(29.5) & ~ball(27.5)
    volume = 100.0 * brain + 35.0 * scalp + np.random.default_rng(3).normal(0, 2, brain.shape)
    volume[14:17, 14:17, 9:12] = 5  # a ventricle
    mask = masks.brain_mask(volume, AFFINE)
    assert similarity.dice(mask, brain) > 0.95
    assert mask[15, 15, 10]


def test_the_brain_mask_includes_the_edge_slices_of_a_slab() -> None:
    slab = ball(24.0)[:, :, 7:14]
    volume = np.where(slab, 100.0, 0) + np.random.default_rng(3).normal(5, 2, slab.shape)
    assert similarity.dice(masks.brain_mask(volume, AFFINE), slab) > 0.99


def _shift(mm: float) -> np.ndarray:
    out = np.zeros((4, 4))
    out[:3, 3] = mm
    return out


@pytest.mark.parametrize("scale", [0.5, 0.1])
def test_masks_scale_with_the_size_of_the_head(scale: float) -> None:
    """Lengths in mm follow the size of the head; the head of a human infant (half the size) counts
    as human.
    """
    shape, affine = (44, 54, 30), np.diag([3.0, 3.0, 4.0, 1.0])
    x, y, z = ((np.indices(shape).T - (np.array(shape) - 1) / 2) * [3.0, 3.0, 4.0]).T
    angle = np.arctan2(y, x)
    outline = 1 + 0.04 * np.sin(14 * angle) + 0.03 * np.cos(9 * angle)  # open sulci
    radius = np.sqrt((x / 55) ** 2 + (y / 70) ** 2 + (z / 48) ** 2) / outline
    image = 1000.0 * (radius < 1) * (radius > 0.25)  # with ventricles
    image += np.random.default_rng(0).normal(20, 10, shape)
    small = np.diag([scale, scale, scale, 1.0]) @ affine
    brain, head = masks.brain_mask(image, affine), masks.head_mask(image, affine)
    min_dice = 0.99 if scale < 0.5 else 0.9
    assert similarity.dice(brain, masks.brain_mask(image, small)) > min_dice
    assert similarity.dice(head, masks.head_mask(image, small)) > min_dice
    assert masks.head_scale(brain, affine) == 1
    expected_scale = 1 if scale >= 0.5 else pytest.approx(scale * 141 / 150, abs=0.02)
    assert masks.head_scale(brain, small) == expected_scale


@pytest.mark.parametrize("offset", [2000.0, 30000.0])
def test_a_constant_added_to_all_voxels_does_not_change_the_brain_mask(offset: float) -> None:
    rng = np.random.default_rng(0)
    head = ball(24.0)
    volume = np.where(head, rng.normal(600, 60, head.shape), rng.normal(8, 3, head.shape))
    mask = masks.brain_mask(volume, AFFINE)
    assert similarity.dice(mask, head) > 0.97
    assert similarity.dice(masks.brain_mask(volume + offset, AFFINE), mask) > 0.99
