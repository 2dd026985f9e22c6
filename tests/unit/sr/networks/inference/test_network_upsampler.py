"""Test volumetric networks: identity, patches against the full volume, and intensity scales as in
training.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bids_sr.io.notices import InvalidInput
from bids_sr.spatial.matrices import upsample
from bids_sr.sr import method
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.networks.data.images import TrainingImage
from bids_sr.sr.networks.data.windows import prepare
from bids_sr.sr.networks.inference import network_upsampler
from bids_sr.sr.operators import get_operator

FACTOR = (2.0, 2.0, 1.5)
FAST = method.get_method("resnet3d").recipes["fast"]


def model(net, recipe=FAST, **card):
    """Return a loaded model of a volumetric method with a given network."""
    return LoadedModel(
        generator=net.eval(),
        recipe=recipe,
        card=ModelCard.from_json({"method": "resnet3d"} | card),
    )


def volume(shape=(20, 18, 8)):
    """Return noise far from zero."""
    return 500 + np.random.default_rng(1).normal(0, 50, shape).astype(np.float32)


def test_patches_give_the_result_of_the_full_volume():
    torch.manual_seed(0)
    layers = [nn.Conv3d(1, 3, 3, padding=1), nn.Tanh(), nn.Conv3d(3, 1, 3, padding=1)]
    upsampler = network_upsampler.NetworkUpsampler(
        model(nn.Sequential(*layers)),
        UpsamplerInputs(factor=FACTOR, scale=700.0),
        volumetric=True,
    )
    image = volume((36, 34, 6))  # patches of 64 voxels do not contain 72 x 68 x 9 voxels
    results = []
    for upsampler.max_voxels in (10**9, 1000):
        results.append(upsampler(image, np.eye(4)))
    np.testing.assert_allclose(results[1], results[0], atol=1e-3)
    assert np.abs(results[0] - upsample("zerofill", image, FACTOR)).max() > 10


def test_recipe_patches_do_not_overlap_and_options_override_the_recipe():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(1, 3, 5, padding=2), nn.Tanh(), nn.Conv3d(3, 1, 3, padding=1))
    tiled = replace(FAST, patch=9, applied_in_patches=True)
    image, pose = (
        volume((18, 18, 12)),
        np.eye(4),
    )  # voxels: 36 x 36 x 18, a multiple of the patch size 9 along each axis

    def apply(changed_recipe=tiled, **options):
        inputs = UpsamplerInputs(factor=FACTOR, scale=700.0, **options)
        return make_upsampler("resnet3d", inputs, model(net, changed_recipe))(image, pose)

    full, patches = apply(patch=0), apply()
    np.testing.assert_array_equal(full, apply(replace(FAST, patch=9)))
    np.testing.assert_array_equal(patches, apply(replace(FAST, patch=None), patch=9))
    # Three voxels per patch are at least the receptive field away from its edges.
    inner = np.ix_(*([k for k in range(n) if 3 <= k % 9 < 6] for n in full.shape))
    np.testing.assert_allclose(patches[inner], full[inner], atol=1e-3)
    assert np.abs(patches - full).max() > 5
    # Overlapping patches reproduce the full image.
    np.testing.assert_allclose(apply(patch=16, overlap=8), full, atol=1e-3)


def test_overlapping_patches_of_a_local_network_equal_the_full_slices():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 5, padding=2), nn.Tanh(), nn.Conv2d(3, 1, 3, padding=1))
    recipe = replace(method.get_method("unet").recipes["fast"], upsampled_by="bspline")
    full, seams, shared = (
        network_upsampler.NetworkUpsampler(
            model(net, recipe), UpsamplerInputs(factor=(2.0, 2.0, 1.0), scale=700.0, **options)
        )(volume((21, 18, 3)), np.eye(4))
        for options in ({}, {"patch": 12}, {"patch": 16, "overlap": 8})
    )
    np.testing.assert_allclose(shared, full, atol=1e-3)
    assert np.abs(seams - full).max() > 5
    with pytest.raises(InvalidInput, match="acquired grid"):
        network_upsampler.NetworkUpsampler(
            model(net, replace(recipe, upsampled_by=None)),
            UpsamplerInputs(factor=(2.0, 2.0, 1.0), patch=12),
        )


def test_the_range_of_a_volume_is_scaled_to_0_1():
    inputs = []

    class AddTenth(nn.Module):
        """Add a tenth of the range and record the input."""

        def forward(self, x):
            inputs.append(x)
            return x + 0.1

    recipe = replace(FAST, upsampled_by="nearest", intensity="range")
    upsampler = make_upsampler(
        "resnet3d", UpsamplerInputs(factor=FACTOR, scale=1e9), model(AddTenth(), recipe)
    )
    first = volume()
    for image in (first, 3 * first - 7000):  # Some values of the second image are negative.
        result = upsampler(image, np.eye(4))
        assert (float(inputs[-1].min()), float(inputs[-1].max())) == pytest.approx(
            (0, 1), abs=1e-6
        )
        np.testing.assert_allclose(
            result - upsample("nearest", image, FACTOR), 0.1 * np.ptp(image), rtol=1e-3
        )
    constant = np.full((8, 8, 4), 5.0, np.float32)
    np.testing.assert_array_equal(upsampler(constant, np.eye(4)), np.full((16, 16, 6), 5.0))


def test_training_and_inference_scale_intensities_alike():
    paper = replace(method.get_method("resnet3d").recipes["paper"], degradation="block")
    assert (paper.intensity, paper.patch_applied) == ("range", 21)
    high_res = volume((20, 20, 8)) - 480  # partly negative, as after a filter
    image = TrainingImage(
        fine=high_res,
        mask=np.ones(high_res.shape, bool),
        affine=np.eye(4),
        contrast="T1w",
        name="one",
    )
    ready = prepare(image, paper, (2.0, 2.0, 2.0), "cpu")
    low_res = (
        get_operator("block", high_res.shape, (2.0, 2.0, 2.0))
        .forward(torch.from_numpy(high_res))
        .numpy()
    )
    assert (float(ready.lowres.min()), float(ready.lowres.max())) == pytest.approx(
        (0, 1), abs=1e-6
    )
    np.testing.assert_allclose(
        ready.target[0].numpy(), (high_res - low_res.min()) / np.ptp(low_res), atol=1e-5
    )
    # Applying the model gives the network the same input.
    network_inputs = []

    class Identity(nn.Module):
        def forward(self, x):
            network_inputs.append(x)
            return x

    inputs = UpsamplerInputs(factor=(2.0, 2.0, 2.0), patch=0)
    make_upsampler("resnet3d", inputs, model(Identity(), paper))(low_res, np.eye(4))
    np.testing.assert_allclose(network_inputs[0][0].numpy(), ready.source.numpy(), atol=1e-5)
    # Units of the high-resolution image of the pair differ by the factor 2.
    pair = replace(image, coarse=2 * low_res, gain=2.0)
    scaled = prepare(pair, paper, (2.0, 2.0, 2.0), "cpu")
    np.testing.assert_allclose(scaled.target.numpy(), ready.target.numpy(), atol=1e-5)


def test_a_network_on_the_acquired_grid_is_applied_to_the_full_volume():
    factor, network = (2.0, 2.0, 2.0), nn.Upsample(scale_factor=2)
    upsampler = network_upsampler.NetworkUpsampler(
        model(network, replace(FAST, upsampled_by=None)),
        UpsamplerInputs(factor=factor, scale=700.0),
        volumetric=True,
    )
    upsampler.max_voxels = 1000
    image = volume((28, 26, 20))
    np.testing.assert_allclose(
        upsampler(image, np.eye(4)), upsample("nearest", image, factor), rtol=1e-4
    )


def test_a_model_of_several_contrasts_is_rejected_for_a_series():
    with pytest.raises(InvalidInput, match=r"combines 3 contrasts \(T1w\+T2w\+FLAIR\)"):
        make_upsampler(
            "resnet3d",
            UpsamplerInputs(factor=FACTOR),
            model(nn.Identity(), channels=3, contrast="T1w+T2w+FLAIR"),
        )
