"""Test optimized inference: equal to the plain network in slices and volumes, and reproducible."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bids_sr.networks.architectures.blocks import PReLUResidualBlock, ResidualBlock
from bids_sr.networks.architectures.srresnet import SRResNet, SubPixelNet
from bids_sr.networks.architectures.volumetric import (
    DenseResidualNet,
    ResNet3d,
    ScaledResidualBlock3d,
    ScaledResNet3d,
)
from bids_sr.networks.inference import network_upsampler
from bids_sr.networks.inference.cpu_optimized import (
    find_largest_width,
    make_channels_innermost,
    optimize_for_cpu,
)
from bids_sr.networks.inference.network_upsampler import NetworkUpsampler
from bids_sr.sr.inference import upsamplers
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.method import get_method, method_names
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.operators import make_plane_conversion, upsample_slices

SCALE = 900.0
FAST = get_method("dcnet").recipes["fast"]
PAPER = replace(
    get_method("srgan").recipes["paper"],
    build_generator=lambda channels, _: SRResNet(channels, width=6, blocks=2),
)
VOLUMES = get_method("resnet3d").recipes["fast"]


def with_random_weights(net):
    """Draw every weight and slope at random, so that none is zero and no two channels are
    alike.
    """
    torch.manual_seed(1)
    for name, parameter in net.named_parameters():
        nn.init.normal_(parameter, std=0.6 if "activation" in name else 0.1)
    return net.eval().requires_grad_(False)


def loaded_model(recipe, factor):
    return LoadedModel(
        generator=with_random_weights(recipe.build_generator(1, factor)),
        recipe=recipe,
        card=ModelCard(),
    )


def noise(shape):
    return np.random.default_rng(0).random(shape, dtype=np.float32) * SCALE


def slice_by_slice(model, volume, factor):
    """Apply the network slice by slice, without optimizations."""
    slices = []
    with torch.no_grad():
        for z in range(volume.shape[2]):
            x = torch.from_numpy(np.ascontiguousarray(volume[:, :, z]))[None, None] / SCALE
            slices.append(
                model.generator(upsample_slices(x, factor[:2], model.recipe.upsampled_by))[
                    0, 0
                ].numpy()
            )
    return np.stack(slices, -1) * SCALE


@pytest.mark.parametrize("recipe", [FAST, PAPER], ids=["fast", "paper"])
@pytest.mark.parametrize(
    "factor", [(2.0, 2.0, 1.0), (3.0, 2.0, 1.0), (1.5, 1.5, 1.0), (1.0, 1.0, 1.0)]
)
@pytest.mark.parametrize("shape", [(12, 12, 5), (11, 9, 3), (8, 13, 1)])
@pytest.mark.parametrize("at_once", [1, 300, 1 << 14])
def test_a_volume_equals_the_plain_loop_over_slices(recipe, factor, shape, at_once, monkeypatch):
    monkeypatch.setattr(network_upsampler, "_MAX_SLICE_VOXELS", at_once)
    model, volume = loaded_model(recipe, factor), noise(shape)
    result = upsamplers.make_upsampler(
        "srgan", UpsamplerInputs(factor=factor, scale=SCALE), model
    )(volume, np.eye(4))
    expected = slice_by_slice(model, volume, factor)
    assert np.ptp(expected) > 50  # The network changes its input.
    np.testing.assert_allclose(result, expected, atol=1e-5 * np.ptp(expected), rtol=0)


@pytest.mark.parametrize("threads", [1, 2])
def test_results_are_bitwise_reproducible_across_upsamplers(threads):
    before = torch.get_num_threads()
    try:
        pair = [
            upsamplers.make_upsampler(
                "srgan",
                UpsamplerInputs(factor=(2, 2, 1), scale=SCALE, threads=threads),
                loaded_model(FAST, (2, 2, 1)),
            )
            for _ in range(2)
        ]
        results = [
            upsampler(noise((16, 14, 5)), np.eye(4)) for upsampler in (pair[0], pair[1], pair[0])
        ]
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (SubPixelNet(1, (2.0, 2.0, 1.0), width=6, blocks=2), (3, 1, 10, 7)),
        (SRResNet(2, width=5, blocks=3), (1, 2, 9, 12)),
        (nn.Sequential(PReLUResidualBlock(4), nn.Tanh(), PReLUResidualBlock(4)), (2, 4, 6, 5)),
        (ResNet3d(1, width=4, blocks=2, skip=True), (2, 1, 6, 5, 7)),
        (nn.Sequential(ResidualBlock(3, 3), nn.Sequential(ResidualBlock(3, 3))), (1, 3, 4, 6, 5)),
        (PReLUResidualBlock(3), (1, 3, 5, 4)),
        (DenseResidualNet(1, width=3, layers=3), (2, 1, 4, 6, 5)),
        (DenseResidualNet(3, width=2, layers=1), (1, 3, 4, 1, 5)),
        (ScaledResNet3d(1, width=3, blocks=2), (2, 1, 4, 6, 5)),
        (nn.Identity(), (1, 1, 3, 3)),
    ],
)
def test_an_optimized_network_gives_the_same_values_without_modifying_its_input(net, shape):
    net, x = with_random_weights(net).requires_grad_(True), torch.randn(shape)
    state, image = copy.deepcopy(net.state_dict()), x.clone()
    optimized = optimize_for_cpu(net)
    with torch.inference_mode():
        expected = net(x)
        largest = float(expected.abs().max())
        torch.testing.assert_close(optimized(x), expected, rtol=0, atol=3e-6 * largest)
    assert torch.equal(x, image)
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert all(
        parameter.requires_grad and parameter.is_contiguous() for parameter in net.parameters()
    )
    kinds = (ResidualBlock, ScaledResidualBlock3d)
    assert not any(isinstance(module, kinds) for module in optimized.modules())


def test_a_network_can_be_optimized_after_it_was_used():
    net, x = (
        with_random_weights(SubPixelNet(1, (2.0, 2.0, 1.0), width=4, blocks=1)),
        torch.rand(1, 1, 6, 6),
    )
    with torch.inference_mode():
        expected = net(x)
        torch.testing.assert_close(optimize_for_cpu(net)(x), expected)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 5, 3, padding=1),
        nn.Conv2d(4, 1, 4, padding=2),
        nn.Conv2d(4, 1, 3, padding=0),
        nn.Conv2d(4, 1, 3, padding=1, stride=2),
        nn.Conv2d(4, 1, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 2, 3, padding=1, groups=2),
        nn.Conv2d(4, 1, 3, padding=1, dilation=2),
        nn.Conv2d(4, 1, 3, padding="same"),
    ],
)
def test_other_convolutions_are_unchanged(layer):
    x = torch.randn(2, 4, 7, 6)
    torch.testing.assert_close(
        optimize_for_cpu(layer)(x), layer.requires_grad_(False)(x), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("factor", [(2.0, 3.0, 1.0), (1.25, 1.5, 1.0)])
def test_departure_is_the_difference_from_zero_filling(factor):
    net, x = (
        with_random_weights(SubPixelNet(1, factor, width=4, blocks=1)),
        torch.rand(2, 1, 8, 12),
    )
    added = net(x) - make_plane_conversion(x, net.factor).upsample(x)
    torch.testing.assert_close(net.compute_added_detail(x), added, rtol=0, atol=1e-6)
    assert added.abs().max() > 0.01


@pytest.mark.parametrize("shape", [(1, 1, 5, 4), (1, 3, 5, 4), (3, 1, 5, 4), (2, 3, 1, 1)])
def test_channels_become_the_innermost_axis_without_changing_values(shape):
    x = torch.randn(shape)
    result = make_channels_innermost(x)
    assert torch.equal(result, x)
    assert result.stride() == (shape[1] * shape[2] * shape[3], 1, shape[3] * shape[1], shape[1])


def test_only_narrow_networks_process_larger_volumes_at_once():
    assert find_largest_width(ResNet3d(1, width=16, blocks=1)) == 16
    assert find_largest_width(nn.Identity()) == 1
    upsamplers = {
        width: NetworkUpsampler(
            LoadedModel(
                generator=ResNet3d(1, width=width, blocks=1), recipe=VOLUMES, card=ModelCard()
            ),
            UpsamplerInputs(factor=(2, 2, 1), scale=SCALE),
            volumetric=True,
        )
        for width in (16, 64, 96)
    }
    assert [upsamplers[width].max_voxels for width in (16, 64, 96)] == [5 << 19, 1 << 19, 1 << 19]


def test_a_volume_at_once_equals_the_plain_network():
    model, volume = loaded_model(VOLUMES, (2.0, 2.0, 1.0)), noise((9, 8, 5))
    upsampler = upsamplers.make_upsampler(
        "resnet3d",
        UpsamplerInputs(factor=(2.0, 2.0, 1.0), scale=SCALE),
        replace(model, card=ModelCard(method="resnet3d")),
    )
    with torch.no_grad():
        source = (
            torch.from_numpy(upsamplers.upsample(VOLUMES.upsampled_by, volume, (2.0, 2.0, 1.0)))
            / SCALE
        )
        expected = model.generator(source[None, None])[0, 0].numpy() * SCALE
    result = upsampler(volume, np.eye(4))
    np.testing.assert_allclose(result, expected, atol=1e-5 * np.ptp(expected), rtol=0)
    np.testing.assert_array_equal(result, upsampler(volume, np.eye(4)))


@pytest.mark.parametrize(
    "name", [name for name in method_names() if get_method(name).trained_on != "series"]
)
def test_every_network_gives_the_same_values_after_optimization(name):
    method = get_method(name)
    recipe = method.recipes["fast"]
    net = with_random_weights(recipe.build_generator(1, (2.0, 2.0, 1.0)))
    shape = (1, 1, 16, 16) if method.ndim == 2 else (1, 1, 16, 16, 6)
    x = torch.from_numpy(np.random.default_rng(2).random(shape, dtype=np.float32))
    with torch.inference_mode():
        expected, optimized = net(x), optimize_for_cpu(net)(x)
    assert float((optimized - expected).abs().max()) <= 1e-5 * float(
        expected.max() - expected.min()
    )


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 1, 3, padding=1), nn.Conv3d(3, 1, 3, padding=1)])
def test_a_single_voxel_does_not_change_the_layer(layer):
    torch.manual_seed(0)
    x = torch.randn(1, 3, *[1] * (layer.weight.ndim - 2))
    optimized = optimize_for_cpu(nn.Sequential(layer))
    with torch.inference_mode():
        first = optimized(x).clone()
        torch.testing.assert_close(optimized(x), first, rtol=0, atol=0)
