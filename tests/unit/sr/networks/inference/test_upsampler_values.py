"""Test applied networks: equal to the plain network in slices and volumes, and reproducible."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bids_sr.sr.inference import upsamplers
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.method import get_method
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.networks.architectures.srresnet import SRResNet
from bids_sr.sr.operators import upsample_slices

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
        card=ModelCard(method="srgan"),
    )


def noise(shape):
    return np.random.default_rng(0).random(shape, dtype=np.float32) * SCALE


def slice_by_slice(model, volume, factor):
    """Apply the network slice by slice."""
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
@pytest.mark.parametrize("shape", [(33, 30, 12), (8, 13, 1)])
def test_a_volume_equals_the_plain_loop_over_slices(recipe, factor, shape):
    """The larger volume is processed in several portions."""
    model, volume = loaded_model(recipe, factor), noise(shape)
    result = upsamplers.make_upsampler(
        "srgan", UpsamplerInputs(factor=factor, scale=SCALE, threads=1), model
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
