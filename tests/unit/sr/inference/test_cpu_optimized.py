"""Inference made faster gives what the plain network gives, slice by slice and in volumes, and the
same twice.
"""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bids_sr.sr.inference import network_upsampler, upsamplers
from bids_sr.sr.inference.acquired import UpsamplerInputs
from bids_sr.sr.inference.cpu_optimized import channels_innermost, optimize_for_cpu, widest
from bids_sr.sr.inference.network_upsampler import NetworkUpsampler
from bids_sr.sr.method import get_method, method_names
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.networks.blocks import ResidualBlock, ResidualBlock3d
from bids_sr.sr.networks.srresnet import SRResNet, SubPixelNet
from bids_sr.sr.networks.volumetric import DenseResidualNet, ResNet3d
from bids_sr.sr.operators import level_of, upsample_slices

SCALE = 900.0
FAST = get_method("dcnet").recipes["fast"]
PAPER = replace(
    get_method("srgan").recipes["paper"],
    build_generator=lambda channels, _: SRResNet(channels, width=6, blocks=2),
)
VOLUMES = get_method("resnet3d").recipes["fast"]


def spoken(net):
    """Every weight and slope drawn at random, so that nothing is left at zero and no two channels
    are alike.
    """
    torch.manual_seed(1)
    for name, parameter in net.named_parameters():
        nn.init.normal_(parameter, std=0.6 if "activation" in name else 0.1)
    return net.eval().requires_grad_(False)


def loaded(recipe, factor):
    return LoadedModel(
        generator=spoken(recipe.build_generator(1, factor)), recipe=recipe, card=ModelCard()
    )


def noise(shape):
    return np.random.default_rng(0).random(shape, dtype=np.float32) * SCALE


def plain(model, volume, factor):
    """The loop that one writes first."""
    fine = []
    with torch.no_grad():
        for z in range(volume.shape[2]):
            x = torch.from_numpy(np.ascontiguousarray(volume[:, :, z]))[None, None] / SCALE
            fine.append(
                model.generator(upsample_slices(x, factor[:2], model.recipe.upsampled_by))[
                    0, 0
                ].numpy()
            )
    return np.stack(fine, -1) * SCALE


@pytest.mark.parametrize("recipe", [FAST, PAPER], ids=["fast", "paper"])
@pytest.mark.parametrize(
    "factor", [(2.0, 2.0, 1.0), (3.0, 2.0, 1.0), (1.5, 1.5, 1.0), (1.0, 1.0, 1.0)]
)
@pytest.mark.parametrize("shape", [(12, 12, 5), (11, 9, 3), (8, 13, 1)])
@pytest.mark.parametrize("at_once", [1, 300, 1 << 14])
def test_a_volume_is_what_the_plain_loop_makes_of_its_slices(
    recipe, factor, shape, at_once, monkeypatch
):
    monkeypatch.setattr(network_upsampler, "_AT_ONCE", at_once)
    model, volume = loaded(recipe, factor), noise(shape)
    made = upsamplers.make_upsampler("srgan", UpsamplerInputs(factor=factor, scale=SCALE), model)(
        volume, np.eye(4)
    )
    expected = plain(model, volume, factor)
    assert np.ptp(expected) > 50  # the network says something
    np.testing.assert_allclose(made, expected, atol=1e-5 * np.ptp(expected), rtol=0)


@pytest.mark.parametrize("threads", [1, 2])
def test_twice_the_same_bits_whoever_asks(threads):
    before = torch.get_num_threads()
    try:
        ups = [
            upsamplers.make_upsampler(
                "srgan",
                UpsamplerInputs(factor=(2, 2, 1), scale=SCALE, threads=threads),
                loaded(FAST, (2, 2, 1)),
            )
            for _ in range(2)
        ]
        made = [up(noise((16, 14, 5)), np.eye(4)) for up in (ups[0], ups[1], ups[0])]
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[0], made[2])


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (SubPixelNet(1, (2.0, 2.0, 1.0), width=6, blocks=2), (3, 1, 10, 7)),
        (SRResNet(2, width=5, blocks=3), (1, 2, 9, 12)),
        (nn.Sequential(ResidualBlock(4), nn.Tanh(), ResidualBlock(4)), (2, 4, 6, 5)),
        (ResNet3d(1, width=4, blocks=2, skip=True), (2, 1, 6, 5, 7)),
        (nn.Sequential(ResidualBlock3d(3), nn.Sequential(ResidualBlock3d(3))), (1, 3, 4, 6, 5)),
        (ResidualBlock(3), (1, 3, 5, 4)),
        (DenseResidualNet(1, width=3, layers=3), (2, 1, 4, 6, 5)),
        (DenseResidualNet(3, width=2, layers=1), (1, 3, 4, 1, 5)),
        (nn.Identity(), (1, 1, 3, 3)),
    ],
)
def test_a_lean_network_gives_the_same_values_and_leaves_network_and_image_alone(net, shape):
    net, x = spoken(net).requires_grad_(True), torch.randn(shape)
    state, image = copy.deepcopy(net.state_dict()), x.clone()
    changed = optimize_for_cpu(net)
    with torch.inference_mode():
        expected = net(x)
        most = float(expected.abs().max())
        torch.testing.assert_close(changed(x), expected, rtol=0, atol=3e-6 * most)
    assert torch.equal(x, image)
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert all(
        parameter.requires_grad and parameter.is_contiguous() for parameter in net.parameters()
    )
    assert not any(isinstance(m, ResidualBlock3d) for m in changed.modules())


def test_a_network_may_be_made_lean_after_it_was_used():
    net, x = spoken(SubPixelNet(1, (2.0, 2.0, 1.0), width=4, blocks=1)), torch.rand(1, 1, 6, 6)
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
def test_other_convolutions_stay_what_they_are(layer):
    x = torch.randn(2, 4, 7, 6)
    torch.testing.assert_close(
        optimize_for_cpu(layer)(x), layer.requires_grad_(False)(x), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("factor", [(2.0, 3.0, 1.0), (1.25, 1.5, 1.0)])
def test_departure_is_what_the_network_adds_to_zero_filling(factor):
    net, x = spoken(SubPixelNet(1, factor, width=4, blocks=1)), torch.rand(2, 1, 8, 12)
    added = net(x) - level_of(x, net.factor).up(x)
    torch.testing.assert_close(net.departure(x), added, rtol=0, atol=1e-6)
    assert added.abs().max() > 0.01


@pytest.mark.parametrize("shape", [(1, 1, 5, 4), (1, 3, 5, 4), (3, 1, 5, 4), (2, 3, 1, 1)])
def test_channels_lie_innermost_and_images_stay(shape):
    x = torch.randn(shape)
    out = channels_innermost(x)
    assert torch.equal(out, x)
    assert out.stride() == (shape[1] * shape[2] * shape[3], 1, shape[3] * shape[1], shape[1])


def test_narrow_networks_take_larger_volumes_in_one_piece_and_none_smaller_ones():
    assert widest(ResNet3d(1, width=16, blocks=1)) == 16
    assert widest(nn.Identity()) == 1
    ups = {
        width: NetworkUpsampler(
            LoadedModel(
                generator=ResNet3d(1, width=width, blocks=1), recipe=VOLUMES, card=ModelCard()
            ),
            UpsamplerInputs(factor=(2, 2, 1), scale=SCALE),
            volumetric=True,
        )
        for width in (16, 64, 96)
    }
    assert [ups[width].at_once for width in (16, 64, 96)] == [5 << 19, 1 << 19, 1 << 19]


def test_a_volume_in_one_piece_is_what_the_plain_network_makes_of_it():
    model, volume = loaded(VOLUMES, (2.0, 2.0, 1.0)), noise((9, 8, 5))
    up = upsamplers.make_upsampler(
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
    made = up(volume, np.eye(4))
    np.testing.assert_allclose(made, expected, atol=1e-5 * np.ptp(expected), rtol=0)
    np.testing.assert_array_equal(made, up(volume, np.eye(4)))


@pytest.mark.parametrize(
    "name", [name for name in method_names() if get_method(name).trained_on != "series"]
)
def test_every_network_gives_the_same_made_lean(name):
    method = get_method(name)
    recipe = method.recipes["fast"]
    net = spoken(recipe.build_generator(1, (2.0, 2.0, 1.0)))
    shape = (1, 1, 16, 16) if method.ndim == 2 else (1, 1, 16, 16, 6)
    x = torch.from_numpy(np.random.default_rng(2).random(shape, dtype=np.float32))
    with torch.inference_mode():
        expected, made = net(x), optimize_for_cpu(net)(x)
    assert float((made - expected).abs().max()) <= 1e-5 * float(expected.max() - expected.min())


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 1, 3, padding=1), nn.Conv3d(3, 1, 3, padding=1)])
def test_a_single_voxel_does_not_change_the_layer(layer):
    torch.manual_seed(0)
    x = torch.randn(1, 3, *[1] * (layer.weight.ndim - 2))
    made = optimize_for_cpu(nn.Sequential(layer))
    with torch.inference_mode():
        first = made(x).clone()
        torch.testing.assert_close(made(x), first, rtol=0, atol=0)
