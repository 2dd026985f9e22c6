"""Whole slices with varied intensities and places keep the physics between the coarse and the fine
image.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bids_sr.sr import matrices
from bids_sr.sr.data.examples import Examples
from bids_sr.sr.data.images import pair_image
from bids_sr.sr.data.validation import validation_windows
from bids_sr.sr.data.windows import shifted
from bids_sr.sr.method import get_method
from bids_sr.sr.operators import level_of, upsample_slices
from bids_sr.sr.recipe import Augmentation

FACTOR = (2.0, 2.0, 1.0)
FAST = get_method("dcnet").recipes["fast"]
LEVEL = level_of(torch.zeros(12, 12), (2, 2))
PLAIN = replace(FAST, augmentation=Augmentation(), background=0.0)


def batch_of(pair, recipe, seed=0, size=6):
    """(batch, images as the network sees them) of one draw."""
    examples = Examples((pair,), replace(recipe, hold_out=0), FACTOR, 2)
    batch = examples.batch(
        np.random.default_rng(seed), examples.train, iteration=0, seed=0, size=size
    )
    return batch, examples.at(0)


def slices_in(stack, images):
    """The number of the slice that each image of a stack is nearest to."""
    every = torch.movedim(images, -1, 0)
    return [int((every - image).square().flatten(1).sum(1).argmin()) for image in stack]


def test_a_draw_replays_and_another_differs(small_pair):
    batch, _ = batch_of(small_pair, FAST)
    again, _ = batch_of(small_pair, FAST)
    assert torch.equal(batch.input, again.input)
    assert torch.equal(batch.target, again.target)
    assert not torch.equal(batch.target, batch_of(small_pair, FAST, seed=1)[0].target)


@pytest.mark.parametrize(
    "vary",
    [{"dihedral": True}, {"shift": 1.0}, {"gamma": 0.3}, {"gain": 0.3}, {"noise": 0.05}],
    ids=str,
)
def test_every_variation_acts_and_leaves_coarse_the_crop_of_fine(small_pair, vary):
    batch, seen = batch_of(small_pair, replace(PLAIN, augmentation=Augmentation(**vary)))
    every = torch.movedim(seen.target, -1, 0)
    assert not any(torch.equal(batch.target, every[k : k + 1]) for k in range(6))
    plain, _ = batch_of(small_pair, PLAIN)
    assert plain.input.shape == batch.input.shape
    assert all(any(torch.equal(image, one) for one in every) for image in plain.target)
    assert torch.allclose(LEVEL.down(batch.target), batch.input, atol=2e-5)


def test_a_slice_is_drawn_at_most_once_while_they_last(small_pair):
    shades = replace(PLAIN, augmentation=Augmentation(gamma=1e-6))
    for seed in range(5):
        batch, seen = batch_of(small_pair, shades, seed)
        assert sorted(slices_in(batch.target, seen.target)) == list(range(6))
    batch, _ = batch_of(small_pair, shades, size=8)
    assert len(batch.target) == 8


def test_what_only_the_coarse_image_holds_stays_in_it(small_pair):
    noise = np.random.default_rng(1).normal(0, 5, small_pair.coarse.shape).astype(np.float32)
    noisy = replace(small_pair, coarse=small_pair.coarse + noise)
    batch, seen = batch_of(noisy, replace(PLAIN, augmentation=Augmentation(gamma=0.02)))
    own = torch.movedim(seen.coarse, -1, 0) - LEVEL.down(torch.movedim(seen.target, -1, 0))
    found = batch.input - LEVEL.down(batch.target)
    drawn = slices_in(batch.target, seen.target)
    assert sorted(drawn) == list(range(6))
    assert torch.allclose(found, own[drawn], atol=2e-5)


def test_a_shift_by_a_whole_voxel_is_a_roll():
    image = torch.from_numpy(np.random.default_rng(0).random((1, 1, 9, 8), dtype=np.float32))
    assert torch.allclose(
        shifted(image, (1.0, -2.0)), torch.roll(image, (1, -2), (-2, -1)), atol=1e-5
    )


def test_patches_are_windows_of_both_grids_at_one_place(small_pair):
    paper = replace(get_method("srgan").recipes["paper"], patch=8)
    examples = Examples((small_pair,), paper, FACTOR, 2)
    chosen = examples.windows(
        np.random.default_rng(0), examples.train, FACTOR, iteration=0, seed=0, size=3
    )
    batch, seen = examples.cut(chosen, FACTOR, 0.0), examples.at(0)
    up = upsample_slices(torch.movedim(seen.coarse, -1, 0), (2.0, 2.0), "lanczos")
    for i, (_, ((x, _), (y, _), (z, _))) in enumerate(chosen):
        assert torch.allclose(batch.input[i], up[z][:, x : x + 8, y : y + 8], atol=1e-6)
        assert torch.equal(batch.target[i], seen.target[:, x : x + 8, y : y + 8, z])


def test_noise_is_in_both_images_and_only_inside_the_acquired_band(small_pair):
    batch, seen = batch_of(small_pair, replace(PLAIN, augmentation=Augmentation(noise=0.1)))
    drawn = slices_in(batch.target, seen.target)
    added = batch.target - torch.movedim(seen.target, -1, 0)[drawn]
    assert added.std() > 0.005
    assert torch.allclose(LEVEL.low(added), added, atol=1e-5)


def test_slices_of_several_images_are_varied_too(small_pair):
    other = replace(
        small_pair,
        name="other",
        fine=small_pair.fine[::-1].copy(),
        coarse=small_pair.coarse[::-1].copy(),
    )
    examples = Examples((small_pair, other, replace(other, name="third")), FAST, FACTOR, 2)
    batch = examples.batch(np.random.default_rng(0), examples.train, iteration=0, seed=0, size=12)
    assert batch.input.shape == (12, 1, 12, 12)
    low = LEVEL.down(batch.target)
    assert torch.allclose(low, batch.input, atol=2e-5)
    with pytest.raises(ValueError, match="on whole slices"):
        Examples((small_pair,), replace(FAST, patch=8), FACTOR, 2)


def test_a_whole_slice_is_whole_whatever_the_factor_divides():
    shape, factor = (13, 12, 4), (1.25, 1.25, 1.0)  # 16.25 and 15 voxels
    rng = np.random.default_rng(0)
    fine = rng.random((16, 15, 4), dtype=np.float32) + 1
    lowres = matrices.downsample(fine, shape)
    pair = pair_image(lowres, fine, np.ones(shape), np.eye(4), factor)
    recipe = replace(FAST, augmentation=Augmentation(dihedral=True), hold_out=0)
    examples = Examples((pair,), recipe, factor, 2)
    batch = examples.batch(rng, examples.train, iteration=0, seed=0, size=2)
    assert batch.input.shape == (2, 1, 13, 12)
    assert batch.target.shape == (2, 1, 16, 15)
    (first, *_) = validation_windows(examples, examples.train)
    assert first.batch.input.shape == (1, 1, 13, 12)


def test_planes_agree_with_the_operators_on_volumes():
    hr = np.random.default_rng(0).random((10, 12, 3))
    lr, _ = matrices.kspace_crop(hr, np.eye(4), factor=(2, 2, 1))
    stack = torch.from_numpy(np.moveaxis(hr, 2, 0)[:, None].copy())
    seen = level_of(torch.zeros(5, 6, dtype=torch.float64), (2, 2)).down(stack)[:, 0].numpy()
    np.testing.assert_allclose(seen, np.moveaxis(lr, 2, 0), atol=1e-12)
