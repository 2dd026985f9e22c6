"""A network of volumes applied: identity unchanged, patches as the whole, the scale it was trained
on.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bids_sr.sr import method
from bids_sr.sr.inference import apply_to_series, network_upsampler
from bids_sr.sr.inference.acquired import InferenceError, UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import make_upsampler
from bids_sr.sr.matrices import upsample
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.model import LoadedModel

FACTOR = (2.0, 2.0, 1.5)
FAST = method.get_method("resnet3d").recipes["fast"]


def model(net, recipe=FAST, **card):
    """A loaded model of a volumetric method with a network of the test's own."""
    return LoadedModel(
        generator=net.eval(),
        recipe=recipe,
        card=ModelCard.from_json({"method": "resnet3d"} | card),
    )


def volume(shape=(20, 18, 8)):
    """Noise far from zero."""
    return 500 + np.random.default_rng(1).normal(0, 50, shape).astype(np.float32)


def test_an_identity_network_returns_its_interpolation_to_the_last_bit():
    up = make_upsampler(
        "resnet3d", UpsamplerInputs(factor=FACTOR, scale=700.0), model(nn.Identity())
    )
    np.testing.assert_array_equal(
        up(volume(), np.eye(4)), upsample(FAST.upsampled_by, volume(), FACTOR)
    )


def test_patches_make_what_the_whole_makes(monkeypatch):
    monkeypatch.setattr(network_upsampler, "_PATCH", 16)
    monkeypatch.setattr(network_upsampler, "_OVERLAP", 6)
    monkeypatch.setattr(network_upsampler, "_MARGIN", 2)
    torch.manual_seed(0)
    layers = [nn.Conv3d(1, 3, 3, padding=1), nn.Tanh(), nn.Conv3d(3, 1, 3, padding=1)]
    up = network_upsampler.NetworkUpsampler(
        model(nn.Sequential(*layers)),
        UpsamplerInputs(factor=FACTOR, scale=700.0),
        volumetric=True,
    )
    made = []
    for up.at_once in (10**9, 1000):
        made.append(up(volume((28, 26, 20)), np.eye(4)))
    np.testing.assert_allclose(made[1], made[0], atol=1e-3)
    assert np.abs(made[0] - upsample("zerofill", volume((28, 26, 20)), FACTOR)).max() > 10


def test_a_network_on_the_acquired_grid_is_applied_in_one_piece():
    factor, grow = (2.0, 2.0, 2.0), nn.Upsample(scale_factor=2)
    up = network_upsampler.NetworkUpsampler(
        model(grow, replace(FAST, upsampled_by=None)),
        UpsamplerInputs(factor=factor, scale=700.0),
        volumetric=True,
    )
    up.at_once = 1000
    seen = volume((28, 26, 20))
    np.testing.assert_allclose(up(seen, np.eye(4)), upsample("nearest", seen, factor), rtol=1e-4)


def test_headroom_of_training_is_given_when_applied():
    class Brighter(nn.Module):
        """Adds one unit of the network's intensity."""

        def forward(self, x):
            return x + 1

    plain, roomy = (
        make_upsampler(
            "resnet3d", UpsamplerInputs(factor=FACTOR, scale=700.0), model(Brighter(), **card)
        )(volume(), np.eye(4))
        for card in ({}, {"intensity": {"headroom": [1.25]}})
    )
    base = upsample(FAST.upsampled_by, volume(), FACTOR)
    np.testing.assert_allclose(plain - base, 700, rtol=1e-4)
    np.testing.assert_allclose(roomy - base, 875, rtol=1e-4)


def test_a_model_of_several_contrasts_is_refused_for_a_series():
    with pytest.raises(InferenceError, match=r"fuses 3 contrasts \(T1w\+T2w\+FLAIR\)"):
        make_upsampler(
            "resnet3d",
            UpsamplerInputs(factor=FACTOR),
            model(nn.Identity(), channels=3, contrast="T1w+T2w+FLAIR"),
        )


def test_two_precisions_see_the_slices_within_their_volume():
    up = make_upsampler(
        "resnet3d", UpsamplerInputs(factor=FACTOR, scale=700.0), model(nn.AvgPool3d(3, 1, 1))
    )
    fine = up(volume(), np.eye(4))

    class Reader:
        def volumes(self, start):
            yield volume()

    inside = np.ones((40, 36, 2), bool)
    full, _ = next(apply_to_series.in_both(Reader(), up, up, (2, 5), inside))
    np.testing.assert_array_equal(full.reshape(40, 36, 2), fine[:, :, [3, 8]])
