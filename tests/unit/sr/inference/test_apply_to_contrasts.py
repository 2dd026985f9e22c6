"""Several contrasts through one network: scaling, training, application, and what shows of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from bids_sr.sr.data.contrast_channels import contrast_image, unit_range
from bids_sr.sr.inference.apply_to_contrasts import (
    SAME_GRID,
    explain_slice,
    super_resolve_contrasts,
)
from bids_sr.sr.method import get_method
from bids_sr.sr.models.card import ModelCard, ModelError
from bids_sr.sr.models.model import LoadedModel, load_model, save_model
from bids_sr.sr.models.request import TrainingRequest
from bids_sr.sr.networks.critics import guiding_critic
from bids_sr.sr.networks.unet import attention_unet
from bids_sr.sr.recipe_changes import change_of_method, changed_recipe
from bids_sr.sr.training.trainer import fit

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def head(seed=0, shape=(24, 26, 8)):
    """(fine, coarse, mask): two contrasts of one texture, the coarse ones blurred."""
    rng = np.random.default_rng(seed)
    x, y, _ = np.indices(shape) / (np.array(shape)[:, None, None, None] - 1) * 2 - 1
    mask = x**2 + y**2 < 0.8
    texture = ndimage.gaussian_filter(rng.random(shape), 0.8)
    texture = (texture - texture.min()) / np.ptp(texture)
    fine = np.stack([texture, 1 - texture]) * mask
    return fine, np.stack([ndimage.gaussian_filter(c, (1.2, 1.2, 0)) for c in fine]) * mask, mask


def model(generator, recipe, channels=2, critic=None):
    card = ModelCard(method="attunet", channels=channels, contrast="T1w+T2w")
    return LoadedModel(generator=generator, recipe=recipe, card=card, critic=critic)


def test_one_is_nearly_the_brightest_and_nothing_is_left_outside():
    image = np.linspace(-1, 9, 1000, dtype=np.float32).reshape(10, 10, 10)
    mask = np.zeros_like(image)
    mask[5:] = 1
    scaled, top = unit_range(image, mask)
    assert top == pytest.approx(np.percentile(image[5:], 99.9))
    np.testing.assert_allclose(scaled[5:], np.minimum(image[5:] / top, 1), rtol=1e-6)
    assert scaled[:5].max() == 0
    with pytest.raises(ValueError, match="no positive intensities"):
        unit_range(-np.abs(image), mask)


def test_an_identity_network_returns_every_contrast_in_its_place():
    fine, _, mask = head()
    recipe = get_method("attunet").recipes["fast"]
    out = super_resolve_contrasts(model(torch.nn.Identity(), recipe), fine * 0.7, mask, AFFINE)
    np.testing.assert_allclose(out, fine * 0.7, atol=1e-6)


def test_a_network_trained_on_patches_is_applied_in_patches_by_the_recipe_of_the_paper():
    fine, _, mask = head()
    methods = [get_method(name) for name in ("attunet", "unet", "vit")]
    assert {m.recipes["paper"].patch_applied for m in methods} == {None}  # whole slices
    paper = changed_recipe(methods[0], "paper", [change_of_method("patch=8", "attunet")])
    assert paper.patch_applied == 8
    seen = []

    class Mean(torch.nn.Module):
        """The mean of what it sees."""

        def forward(self, x):
            seen.append(tuple(x.shape[2:]))
            return torch.zeros_like(x) + x.mean((2, 3), keepdim=True)

    out = super_resolve_contrasts(model(Mean(), paper), fine, mask, AFFINE)
    assert set(seen) == {(8, 8)}
    # 24 voxels are three patches; 26 are four, of which neighbors share some
    block = np.where(mask, fine[0], 0)[:8, :8, 4]
    np.testing.assert_allclose(out[0, :8, :6, 4][mask[:8, :6, 4]], block.mean(), atol=1e-6)
    fast = changed_recipe(methods[0], "fast", [change_of_method("patch=8", "attunet")])
    super_resolve_contrasts(model(Mean(), fast), fine, mask, AFFINE)
    assert seen[-1] == (24, 26)


def test_channels_do_not_change_places_and_slices_keep_theirs():
    fine, _, mask = head()

    class Swap(torch.nn.Module):
        def forward(self, x):
            return x.flip(1)

    recipe = get_method("attunet").recipes["fast"]
    out = super_resolve_contrasts(model(Swap(), recipe), fine, mask, AFFINE)
    level = [np.percentile(c[mask], 99) for c in fine]
    np.testing.assert_allclose(out[0], fine[1] / level[1] * level[0], atol=1e-5)
    np.testing.assert_allclose(out[1], fine[0] / level[0] * level[1], atol=1e-5)


def test_a_model_of_other_contrasts_is_refused():
    fine, _, mask = head()
    recipe = get_method("attunet").recipes["fast"]
    with pytest.raises(ModelError, match=r"trained on 3 contrasts .* contain 2\."):
        super_resolve_contrasts(model(torch.nn.Identity(), recipe, channels=3), fine, mask, AFFINE)


def test_training_on_two_contrasts_gains_and_keeps_the_critic(tmp_path):
    fine, coarse, mask = head()
    method = get_method("attunet")
    recipe = replace(
        method.recipes["fast"],
        iterations=60,
        evaluate_every=20,
        patience=None,
        build_generator=lambda c, _f: attention_unet(
            c, widths=(8, 12, 16), head="residual", sizes="multiple"
        ),
        build_critic=lambda c: guiding_critic(c, width=2),
    )
    images = contrast_image(fine, coarse, mask, AFFINE, ("T1w", "T2w"), "sub-01")
    made = fit(
        TrainingRequest(method=method, recipe="fast", changed=recipe, factor=SAME_GRID),
        (images,),
        tmp_path / "work",
    )
    assert made.card["contrast"] == "T1w+T2w"
    assert made.card["channels"] == 2
    reached = made.card["held_out"]
    assert reached["network"]["psnr"] > reached["input"]["psnr"] + 1
    assert {"bspline", "zerofill"}.isdisjoint(reached), (
        "nothing is upsampled: both would be the input"
    )
    generator, critic = recipe.build_generator(2, SAME_GRID), recipe.build_critic(2)
    generator.load_state_dict({k: v for k, v in made.state.items() if not k.startswith("critic.")})
    critic.load_state_dict({k[7:]: v for k, v in made.state.items() if k.startswith("critic.")})
    loaded = model(generator.eval(), recipe, critic=critic.eval())
    out = super_resolve_contrasts(loaded, coarse, mask, AFFINE)
    before, after = (np.sqrt(((image - fine)[:, mask] ** 2).mean(1)) for image in (coarse, out))
    assert (after < 0.85 * before).all()
    seen = explain_slice(loaded, coarse, fine, mask, AFFINE, 4)
    assert seen.masks.shape == (2, 24, 26)
    assert 0 < seen.masks.min() <= seen.masks.max() < 1
    assert seen.critic_made.shape == seen.critic_fine.shape == (24, 26)
    assert set(seen.scores) == {"made", "fine"}


def test_a_saved_model_comes_back_with_its_critic(tmp_path):
    torch.manual_seed(0)
    recipe = get_method("attunet").recipes["fast"]
    generator, critic = recipe.build_generator(2, SAME_GRID), recipe.build_critic(2)
    state = generator.state_dict() | {f"critic.{k}": v for k, v in critic.state_dict().items()}
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


def test_without_gates_or_critic_there_is_nothing_to_see():
    fine, coarse, mask = head()
    recipe = get_method("unet").recipes["fast"]
    seen = explain_slice(model(torch.nn.Identity(), recipe), coarse, fine, mask, AFFINE, 3)
    assert seen.masks.shape == (0, 24, 26)
    assert seen.critic_made is None
    assert seen.scores == {}
