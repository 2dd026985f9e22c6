"""Training images: a plan replays, and every variation keeps the physics between the coarse and the fine image."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bids_sr.sr.data import patches
from bids_sr.sr.method import get_method
from bids_sr.sr.recipe import Augmentation
from bids_sr.sr.resolution import matrices
from bids_sr.sr.resolution.operators import plane_level

FAST = get_method("srgan").recipes["fast"]
LEVEL = plane_level((12, 12), (2, 2))
PLAIN = replace(FAST, augmentation=Augmentation(), background=0.0)


def batch_of(pair, recipe, seed=0):
    """(batch, plan) of one draw."""
    images = patches.slices_of(pair)
    plan = patches.draw(np.random.default_rng(seed), tuple(range(6)), (24, 24), recipe)
    return patches.cut(images, plan, recipe), plan


def test_a_plan_replays_and_another_draw_differs(small_pair):
    batch, plan = batch_of(small_pair, FAST)
    again = patches.cut(patches.slices_of(small_pair), plan, FAST)
    assert torch.equal(batch.input, again.input)
    assert torch.equal(batch.target, again.target)
    assert not torch.equal(batch.target, batch_of(small_pair, FAST, seed=1)[0].target)


@pytest.mark.parametrize(
    "vary", [{"dihedral": True}, {"shift": 1.0}, {"gamma": 0.3}, {"gain": 0.3}, {"noise": 0.05}], ids=str
)
def test_every_variation_acts_and_leaves_coarse_the_crop_of_fine(small_pair, vary):
    changed = replace(PLAIN, augmentation=Augmentation(**vary))
    plain, _ = batch_of(small_pair, PLAIN)
    batch, plan = batch_of(small_pair, changed)
    first = patches.slices_of(small_pair).highres[list(plan.slices)]
    assert not torch.equal(batch.target, first)
    assert plain.input.shape == batch.input.shape
    seen = LEVEL.down(batch.target)
    assert torch.allclose(seen, batch.input, atol=2e-5)


@pytest.mark.parametrize("code", range(8))
def test_flips_and_exchange_commute_with_the_crop(code):
    fine = torch.from_numpy(np.random.default_rng(0).random((1, 1, 16, 16)))
    level = plane_level((8, 8), (2, 2), torch.float64)
    turned = level.down(patches.dihedral(fine, code))
    assert torch.allclose(turned, patches.dihedral(level.down(fine), code))


def test_axes_are_never_exchanged_where_the_matrix_is_not_square():
    rng = np.random.default_rng(0)
    plans = [patches.draw(rng, (0, 1, 2, 3), (24, 20), FAST) for _ in range(50)]
    assert max(max(plan.dihedral) for plan in plans) == 3


def test_what_only_the_coarse_image_holds_stays_in_it(small_pair):
    noise = np.random.default_rng(1).normal(0, 5, small_pair.lowres.shape).astype(np.float32)
    noisy = replace(small_pair, lowres=small_pair.lowres + noise)
    recipe = replace(PLAIN, augmentation=Augmentation(gamma=0.2))
    batch, plan = batch_of(noisy, recipe)
    images = patches.slices_of(noisy)
    own = (images.lowres - LEVEL.down(images.highres))[list(plan.slices)]
    found = batch.input - LEVEL.down(batch.target)
    assert torch.allclose(found, own, atol=2e-5)


def test_a_shift_by_a_whole_voxel_is_a_roll():
    image = torch.from_numpy(np.random.default_rng(0).random((1, 1, 9, 8), dtype=np.float32))
    assert torch.allclose(patches.shifted(image, (1.0, -2.0)), torch.roll(image, (1, -2), (-2, -1)), atol=1e-5)


def test_patches_are_windows_of_both_grids_at_one_place(small_pair):
    paper = replace(get_method("srgan").recipes["paper"], patch=8, batch=3)
    batch, plan = batch_of(small_pair, paper)
    images = patches.slices_of(small_pair)
    up = patches.upsample_slices(images.lowres, images.factor, "lanczos")
    for i, (z, (x, y)) in enumerate(zip(plan.slices, plan.origins, strict=True)):
        assert torch.equal(batch.input[i], up[z][:, x : x + 8, y : y + 8])
        assert torch.equal(batch.target[i], images.highres[z][:, x : x + 8, y : y + 8])


def test_noise_is_in_both_images_and_only_inside_the_acquired_band(small_pair):
    recipe = replace(PLAIN, augmentation=Augmentation(noise=0.1))
    batch, plan = batch_of(small_pair, recipe)
    added = batch.target - patches.slices_of(small_pair).highres[list(plan.slices)]
    assert added.std() > 0.005
    assert torch.allclose(LEVEL.low(added), added, atol=1e-5)


def test_planes_agree_with_the_operators_on_volumes():
    hr = np.random.default_rng(0).random((10, 12, 3))
    lr, _ = matrices.kspace_crop(hr, np.eye(4), factor=(2, 2, 1))
    stack = torch.from_numpy(np.moveaxis(hr, 2, 0)[:, None].copy())
    seen = plane_level((5, 6), (2, 2), torch.float64).down(stack)[:, 0].numpy()
    np.testing.assert_allclose(seen, np.moveaxis(lr, 2, 0), atol=1e-12)
