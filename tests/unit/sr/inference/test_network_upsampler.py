"""A network of volumes applied: identity unchanged, patches as the whole, the scale it was trained
on.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bids_sr.sr import method
from bids_sr.sr.data.images import TrainingImage
from bids_sr.sr.data.windows import prepare
from bids_sr.sr.inference import network_upsampler, precision_pairs
from bids_sr.sr.inference.acquired import InferenceError, UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.sr.matrices import upsample
from bids_sr.sr.models.card import ModelCard, ModelError
from bids_sr.sr.models.model import LoadedModel, load_model, save_model
from bids_sr.sr.operators import get_operator
from bids_sr.sr.recipe_settings import plain_recipe

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


def test_patches_of_the_recipe_are_side_by_side_and_an_option_has_the_last_word():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(1, 3, 5, padding=2), nn.Tanh(), nn.Conv3d(3, 1, 3, padding=1))
    tiled = replace(FAST, patch=9, applied_in_patches=True)
    seen, pose = (
        volume((18, 18, 12)),
        np.eye(4),
    )  # 36 x 36 x 18: whole patches of 9 along each axis

    def made(how=tiled, **given):
        inputs = UpsamplerInputs(factor=FACTOR, scale=700.0, **given)
        return make_upsampler("resnet3d", inputs, model(net, how))(seen, pose)

    whole, patches = made(patch=0), made()
    np.testing.assert_array_equal(whole, made(replace(FAST, patch=9)))
    np.testing.assert_array_equal(patches, made(replace(FAST, patch=None), patch=9))
    # three voxels of each patch are as far from its edges as the network sees
    inner = np.ix_(*([k for k in range(n) if 3 <= k % 9 < 6] for n in whole.shape))
    np.testing.assert_allclose(patches[inner], whole[inner], atol=1e-3)
    assert np.abs(patches - whole).max() > 5
    # neighbors that share enough make the whole image
    np.testing.assert_allclose(made(patch=16, overlap=8), whole, atol=1e-3)


def test_slices_in_patches_of_a_local_network_are_the_whole_slices():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 5, padding=2), nn.Tanh(), nn.Conv2d(3, 1, 3, padding=1))
    plain = replace(method.get_method("unet").recipes["fast"], upsampled_by="bspline")
    whole, seams, shared = (
        network_upsampler.NetworkUpsampler(
            model(net, plain), UpsamplerInputs(factor=(2.0, 2.0, 1.0), scale=700.0, **given)
        )(volume((21, 18, 3)), np.eye(4))
        for given in ({}, {"patch": 12}, {"patch": 16, "overlap": 8})
    )
    np.testing.assert_allclose(shared, whole, atol=1e-3)
    assert np.abs(seams - whole).max() > 5
    with pytest.raises(InferenceError, match="acquired grid"):
        network_upsampler.NetworkUpsampler(
            model(net, replace(plain, upsampled_by=None)),
            UpsamplerInputs(factor=(2.0, 2.0, 1.0), patch=12),
        )


def test_the_range_of_a_volume_becomes_0_to_1():
    seen = []

    class Watched(nn.Module):
        """Adds a tenth of the range."""

        def forward(self, x):
            seen.append(x)
            return x + 0.1

    recipe = replace(FAST, upsampled_by="nearest", intensity="range")
    up = make_upsampler(
        "resnet3d", UpsamplerInputs(factor=FACTOR, scale=1e9), model(Watched(), recipe)
    )
    one = volume()
    for image in (one, 3 * one - 7000):  # the second is negative
        made = up(image, np.eye(4))
        assert (float(seen[-1].min()), float(seen[-1].max())) == pytest.approx((0, 1), abs=1e-6)
        np.testing.assert_allclose(
            made - upsample("nearest", image, FACTOR), 0.1 * np.ptp(image), rtol=1e-3
        )
    constant = np.full((8, 8, 4), 5.0, np.float32)
    np.testing.assert_array_equal(up(constant, np.eye(4)), np.full((16, 16, 6), 5.0))
    assert up.volumetric


def test_a_network_is_trained_on_the_range_that_it_is_applied_to():
    paper = replace(method.get_method("resnet3d").recipes["paper"], degradation="block")
    assert (paper.intensity, paper.patch_applied) == ("range", 21)
    fine = volume((20, 20, 8)) - 480  # partly negative, as after a filter
    image = TrainingImage(
        fine=fine, mask=np.ones(fine.shape, bool), affine=np.eye(4), contrast="T1w", name="one"
    )
    ready = prepare(image, paper, (2.0, 2.0, 2.0), "cpu")
    low = (
        get_operator("block", fine.shape, (2.0, 2.0, 2.0)).forward(torch.from_numpy(fine)).numpy()
    )
    assert (float(ready.coarse.min()), float(ready.coarse.max())) == pytest.approx(
        (0, 1), abs=1e-6
    )
    np.testing.assert_allclose(
        ready.target[0].numpy(), (fine - low.min()) / np.ptp(low), atol=1e-5
    )
    # the input of the network is the same when the model is applied
    seen = []

    class Watched(nn.Module):
        def forward(self, x):
            seen.append(x)
            return x

    inputs = UpsamplerInputs(factor=(2.0, 2.0, 2.0), patch=0)
    make_upsampler("resnet3d", inputs, model(Watched(), paper))(low, np.eye(4))
    np.testing.assert_allclose(seen[0][0].numpy(), ready.source.numpy(), atol=1e-5)
    # a pair whose fine image has another unit
    pair = replace(image, coarse=2 * low, gain=2.0)
    again = prepare(pair, paper, (2.0, 2.0, 2.0), "cpu")
    np.testing.assert_allclose(again.target.numpy(), ready.target.numpy(), atol=1e-5)


def test_older_models_are_applied_as_they_were(tmp_path):
    how = method.get_method("ccnn3d").recipes["paper"]
    torch.manual_seed(0)
    card = {
        "method": "ccnn3d",
        "recipe": "paper",
        "factor": [2.0, 2.0, 2.0],
        "contrast": "T1w",
        "orientation": "I-S",
        "resolution": {"lowres_mm": [2.0, 2.0, 2.0]},
    }
    state = how.build_generator(1, (2.0, 2.0, 2.0)).state_dict()
    for settings, wanted in (
        ({"intensity": "unit"}, ("unit", None)),
        (plain_recipe(how), ("range", 21)),
    ):
        weights, _ = save_model(tmp_path / "model", state, card | {"settings": settings})
        recipe = load_model(weights).recipe
        assert (recipe.intensity, recipe.patch_applied) == wanted
    weights, _ = save_model(tmp_path / "model", state, card | {"settings": {"intensity": "other"}})
    with pytest.raises(ModelError, match="unknown intensity scaling 'other'"):
        load_model(weights)


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
    with pytest.raises(InferenceError, match=r"combines 3 contrasts \(T1w\+T2w\+FLAIR\)"):
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
    full, _ = next(precision_pairs.in_both(Reader(), up, up, (2, 5), inside))
    np.testing.assert_array_equal(full.reshape(40, 36, 2), fine[:, :, [3, 8]])
