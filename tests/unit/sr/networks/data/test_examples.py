"""Test training examples: augmented slices keep the physical relation of the high- and
low-resolution image.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bids_sr.spatial import matrices
from bids_sr.sr.method import get_method
from bids_sr.sr.networks.data.examples import Examples
from bids_sr.sr.networks.data.images import pair_image
from bids_sr.sr.networks.data.validation import validation_windows
from bids_sr.sr.networks.data.windows import shift_image
from bids_sr.sr.operators import make_plane_conversion, upsample_slices
from bids_sr.sr.recipe import Augmentation

FACTOR = (2.0, 2.0, 1.0)
FAST = get_method("dcnet").recipes["fast"]
LEVEL = make_plane_conversion(torch.zeros(12, 12), (2, 2))
PLAIN = replace(FAST, augmentation=Augmentation(), background=0.0)


def batch_of(pair, recipe, seed=0, size=6):
    """Return (batch, images as the network gets them) of one draw."""
    examples = Examples((pair,), replace(recipe, hold_out=0), FACTOR, 2)
    batch = examples.draw_batch(np.random.default_rng(seed), iteration=0, seed=0, size=size)
    return batch, examples.prepare(0)


def slices_in(stack, images):
    """Return the index of the slice nearest to each image of a stack."""
    slices = torch.movedim(images, -1, 0)
    return [int((slices - image).square().flatten(1).sum(1).argmin()) for image in stack]


@pytest.mark.parametrize(
    "augmentation",
    [{"dihedral": True}, {"shift": 1.0}, {"gamma": 0.3}, {"gain": 0.3}, {"noise": 0.05}],
    ids=str,
)
def test_each_augmentation_acts_and_preserves_the_degradation(small_pair, augmentation):
    batch, images = batch_of(small_pair, replace(PLAIN, augmentation=Augmentation(**augmentation)))
    slices = torch.movedim(images.target, -1, 0)
    assert not any(torch.equal(batch.target, slices[k : k + 1]) for k in range(6))
    unchanged, _ = batch_of(small_pair, PLAIN)
    assert unchanged.input.shape == batch.input.shape
    assert all(
        any(torch.equal(image, image_slice) for image_slice in slices)
        for image in unchanged.target
    )
    assert torch.allclose(LEVEL.downsample(batch.target), batch.input, atol=2e-5)


def test_no_slice_is_drawn_twice_before_all_were_drawn(small_pair):
    recipe = replace(PLAIN, augmentation=Augmentation(gamma=1e-6))
    for seed in range(5):
        batch, images = batch_of(small_pair, recipe, seed)
        assert sorted(slices_in(batch.target, images.target)) == list(range(6))
    batch, _ = batch_of(small_pair, recipe, size=8)
    assert len(batch.target) == 8


def test_noise_of_only_the_low_resolution_image_is_kept(small_pair):
    noise = np.random.default_rng(1).normal(0, 5, small_pair.coarse.shape).astype(np.float32)
    noisy = replace(small_pair, coarse=small_pair.coarse + noise)
    batch, images = batch_of(noisy, replace(PLAIN, augmentation=Augmentation(gamma=0.02)))
    noise_of_slices = torch.movedim(images.lowres, -1, 0) - LEVEL.downsample(
        torch.movedim(images.target, -1, 0)
    )
    residual = batch.input - LEVEL.downsample(batch.target)
    indices = slices_in(batch.target, images.target)
    assert sorted(indices) == list(range(6))
    assert torch.allclose(residual, noise_of_slices[indices], atol=2e-5)


def test_a_shift_by_an_integer_voxel_is_a_roll():
    image = torch.from_numpy(np.random.default_rng(0).random((1, 1, 9, 8), dtype=np.float32))
    assert torch.allclose(
        shift_image(image, (1.0, -2.0)), torch.roll(image, (1, -2), (-2, -1)), atol=1e-5
    )


def test_patches_are_windows_of_both_grids_at_the_same_position(small_pair):
    paper = replace(get_method("srgan").recipes["paper"], patch=8)
    examples = Examples((small_pair,), paper, FACTOR, 2)
    windows = examples.draw_windows(np.random.default_rng(0), FACTOR, iteration=0, seed=0, size=3)
    batch, images = examples.cut_windows(windows, FACTOR, 0.0), examples.prepare(0)
    upsampled = upsample_slices(torch.movedim(images.lowres, -1, 0), (2.0, 2.0), "lanczos")
    for i, (_, ((x, _), (y, _), (z, _))) in enumerate(windows):
        assert torch.allclose(batch.input[i], upsampled[z][:, x : x + 8, y : y + 8], atol=1e-6)
        assert torch.equal(batch.target[i], images.target[:, x : x + 8, y : y + 8, z])


def test_full_slices_are_used_for_any_factor():
    shape, factor = (13, 12, 4), (1.25, 1.25, 1.0)  # voxels along the first two axes: 16.25 and 15
    rng = np.random.default_rng(0)
    high_res = rng.random((16, 15, 4), dtype=np.float32) + 1
    lowres = matrices.downsample(high_res, shape)
    pair = pair_image(lowres, high_res, np.ones(shape), np.eye(4), factor)
    recipe = replace(FAST, augmentation=Augmentation(dihedral=True), hold_out=0)
    examples = Examples((pair,), recipe, factor, 2)
    batch = examples.draw_batch(rng, iteration=0, seed=0, size=2)
    assert batch.input.shape == (2, 1, 13, 12)
    assert batch.target.shape == (2, 1, 16, 15)
    (first, *_) = validation_windows(examples, examples.training_slabs)
    assert first.batch.input.shape == (1, 1, 13, 12)


def test_in_plane_operators_agree_with_operators_on_volumes():
    hr = np.random.default_rng(0).random((10, 12, 3))
    lr, _ = matrices.kspace_crop(hr, np.eye(4), factor=(2, 2, 1))
    stack = torch.from_numpy(np.moveaxis(hr, 2, 0)[:, None].copy())
    downsampled = (
        make_plane_conversion(torch.zeros(5, 6, dtype=torch.float64), (2, 2))
        .downsample(stack)[:, 0]
        .numpy()
    )
    np.testing.assert_allclose(downsampled, np.moveaxis(lr, 2, 0), atol=1e-12)
