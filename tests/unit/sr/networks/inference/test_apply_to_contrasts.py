"""Test networks of several contrasts: scaling, training, application and explanation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from bids_sr.sr.method import get_method
from bids_sr.sr.models.card import ModelCard, ModelError
from bids_sr.sr.models.model import LoadedModel, load_model, save_model
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.networks.architectures.critics import guiding_critic
from bids_sr.sr.networks.architectures.unet import attention_unet
from bids_sr.sr.networks.data.contrast_channels import contrast_image, unit_range
from bids_sr.sr.networks.inference.apply_to_contrasts import (
    SAME_GRID,
    explain_slice,
    super_resolve_contrasts,
)
from bids_sr.sr.networks.training.trainer import train_network
from bids_sr.sr.recipe_changes import change_of_method, change_recipe

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def head(seed=0, shape=(24, 26, 8)):
    """Return (high_res, low_res, mask) of two contrasts with one texture; the low-resolution
    contrasts are blurred.
    """
    rng = np.random.default_rng(seed)
    x, y, _ = np.indices(shape) / (np.array(shape)[:, None, None, None] - 1) * 2 - 1
    mask = x**2 + y**2 < 0.8
    texture = ndimage.gaussian_filter(rng.random(shape), 0.8)
    texture = (texture - texture.min()) / np.ptp(texture)
    high_res = np.stack([texture, 1 - texture]) * mask
    return (
        high_res,
        np.stack([ndimage.gaussian_filter(contrast, (1.2, 1.2, 0)) for contrast in high_res])
        * mask,
        mask,
    )


def model(generator, recipe, channels=2, critic=None):
    card = ModelCard(method="attunet", channels=channels, contrast="T1w+T2w")
    return LoadedModel(generator=generator, recipe=recipe, card=card, critic=critic)


def test_the_unit_is_nearly_the_maximum_and_voxels_outside_the_mask_are_zero():
    image = np.linspace(-1, 9, 1000, dtype=np.float32).reshape(10, 10, 10)
    mask = np.zeros_like(image)
    mask[5:] = 1
    scaled, unit = unit_range(image, mask)
    assert unit == pytest.approx(np.percentile(image[5:], 99.9))
    np.testing.assert_allclose(scaled[5:], np.minimum(image[5:] / unit, 1), rtol=1e-6)
    assert scaled[:5].max() == 0
    with pytest.raises(ValueError, match="no positive intensities"):
        unit_range(-np.abs(image), mask)


def test_a_network_of_recipe_paper_trained_on_patches_is_applied_in_patches():
    high_res, _, mask = head()
    methods = [get_method(name) for name in ("attunet", "unet", "vit")]
    assert {method.recipes["paper"].patch_applied for method in methods} == {None}  # full slices
    paper = change_recipe(methods[0], "paper", [change_of_method("patch=8", "attunet")])
    assert paper.patch_applied == 8
    shapes = []

    class PatchMean(torch.nn.Module):
        """Return the mean of the input and record its shape."""

        def forward(self, x):
            shapes.append(tuple(x.shape[2:]))
            return torch.zeros_like(x) + x.mean((2, 3), keepdim=True)

    result = super_resolve_contrasts(model(PatchMean(), paper), high_res, mask, AFFINE)
    assert set(shapes) == {(8, 8)}
    # 24 voxels are covered by three patches, 26 voxels by four, some of which overlap.
    block = np.where(mask, high_res[0], 0)[:8, :8, 4]
    np.testing.assert_allclose(result[0, :8, :6, 4][mask[:8, :6, 4]], block.mean(), atol=1e-6)
    fast = change_recipe(methods[0], "fast", [change_of_method("patch=8", "attunet")])
    super_resolve_contrasts(model(PatchMean(), fast), high_res, mask, AFFINE)
    assert shapes[-1] == (24, 26)


def test_channels_and_slices_keep_their_order():
    high_res, _, mask = head()

    class Swap(torch.nn.Module):
        def forward(self, x):
            return x.flip(1)

    recipe = get_method("attunet").recipes["fast"]
    result = super_resolve_contrasts(model(Swap(), recipe), high_res, mask, AFFINE)
    levels = [np.percentile(contrast[mask], 99) for contrast in high_res]
    np.testing.assert_allclose(result[0], high_res[1] / levels[1] * levels[0], atol=1e-5)
    np.testing.assert_allclose(result[1], high_res[0] / levels[0] * levels[1], atol=1e-5)


def test_a_model_of_other_contrasts_is_rejected():
    high_res, _, mask = head()
    recipe = get_method("attunet").recipes["fast"]
    with pytest.raises(ModelError, match=r"trained on 3 contrasts .* contain 2\."):
        super_resolve_contrasts(
            model(torch.nn.Identity(), recipe, channels=3), high_res, mask, AFFINE
        )


def test_training_on_two_contrasts_improves_them_and_keeps_the_critic(tmp_path):
    high_res, low_res, mask = head()
    method = get_method("attunet")
    recipe = replace(
        method.recipes["fast"],
        iterations=60,
        evaluate_every=20,
        patience=None,
        build_generator=lambda channels, _f: attention_unet(
            channels, widths=(8, 12, 16), head="residual", sizes="multiple"
        ),
        build_critic=lambda channels: guiding_critic(channels, width=2),
    )
    images = contrast_image(high_res, low_res, mask, AFFINE, ("T1w", "T2w"), "sub-01")
    result = train_network(
        ModelRequest(
            method=method.name, recipe="fast", replacement_recipe=recipe, factor=SAME_GRID
        ),
        (images,),
        tmp_path / "work",
    )
    assert result.card["contrast"] == "T1w+T2w"
    assert result.card["channels"] == 2
    scores = result.card["held_out"]
    assert scores["network"]["psnr"] > scores["input"]["psnr"] + 1
    assert {"bspline", "zerofill"}.isdisjoint(scores), (
        "nothing is upsampled: both would be the input"
    )
    generator, critic = recipe.build_generator(2, SAME_GRID), recipe.build_critic(2)
    generator.load_state_dict(
        {key: value for key, value in result.state.items() if not key.startswith("critic.")}
    )
    critic.load_state_dict(
        {key[7:]: value for key, value in result.state.items() if key.startswith("critic.")}
    )
    loaded = model(generator.eval(), recipe, critic=critic.eval())
    super_resolved = super_resolve_contrasts(loaded, low_res, mask, AFFINE)
    before, after = (
        np.sqrt(((image - high_res)[:, mask] ** 2).mean(1)) for image in (low_res, super_resolved)
    )
    assert (after < 0.85 * before).all()
    explanation = explain_slice(loaded, low_res, high_res, mask, AFFINE, 4)
    assert explanation.masks.shape == (2, 24, 26)
    assert 0 < explanation.masks.min() <= explanation.masks.max() < 1
    assert explanation.critic_made.shape == explanation.critic_fine.shape == (24, 26)
    assert set(explanation.scores) == {"made", "fine"}


def test_a_saved_model_is_loaded_with_its_critic(tmp_path):
    torch.manual_seed(0)
    recipe = get_method("attunet").recipes["fast"]
    generator, critic = recipe.build_generator(2, SAME_GRID), recipe.build_critic(2)
    state = generator.state_dict() | {
        f"critic.{key}": value for key, value in critic.state_dict().items()
    }
    card = {
        "method": "attunet",
        "recipe": "fast",
        "factor": [1, 1, 1],
        "resolution": {"lowres_mm": [2, 2, 2]},
        "contrast": "T1w+T2w",
        "orientation": "I-S",
        "channels": 2,
    }
    loaded = load_model(save_model(tmp_path / "model", state, card)[0])
    image = torch.rand(1, 2, 32, 32)
    assert loaded.critic is not None
    assert torch.equal(loaded.critic(image), critic.eval()(image))
