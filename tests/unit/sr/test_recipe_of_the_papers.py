"""Test recipes of papers 2, 3 and 4: they have the published settings, and in-plane networks
reject thinner slices.
"""

import numpy as np
import pytest
import torch

from bids_sr.io.notices import InvalidInput
from bids_sr.sr.method import get_method
from bids_sr.sr.networks.architectures.circle import CircleResamplingNet
from bids_sr.sr.networks.architectures.volumetric import ScaledResNet3d
from bids_sr.sr.networks.data.examples import Examples
from bids_sr.sr.networks.data.images import TrainingImage
from bids_sr.sr.networks.losses.adversarial import AdversarialBCE, AdversarialWasserstein
from bids_sr.sr.networks.losses.image import (
    MAE,
    MSE,
    JointSparsify,
    SquaredVariation,
    SSIMLoss,
    SummedVariation,
    TotalVariation,
)
from bids_sr.sr.networks.losses.perceptual import VGGPerceptual
from bids_sr.sr.recipe_changes import change_of_method, change_recipe

FACTOR = (2.0, 2.0, 1.0)
TV_FAMILY = ("tv", "dip", "mse3d", "li", "li-agnostic")
MOUSE = ("ccnn3d", "resnet2d", "resnet3d", "gan3d")
PLANES = ("cpce", "circle")


def paper(name):
    return get_method(name).recipes["paper"]


def terms(name, recipe="paper"):
    """Return {kind: (class, weight)} of the losses of a recipe."""
    return {
        term.kind: (term.build.imported_class, term.weight)
        for term in get_method(name).recipes[recipe].losses
    }


def changed(name, *texts):
    """Return recipe `paper` of a method with changes such as ``blocks=12``."""
    return change_recipe(
        get_method(name), "paper", [change_of_method(text, name) for text in texts]
    )


@pytest.mark.parametrize("name", TV_FAMILY)
def test_the_tv_family_shares_network_optimizer_and_schedule(name):
    recipe = paper(name)
    network = recipe.build_generator(1, (2.0, 2.0, 2.0))
    assert isinstance(network, ScaledResNet3d)
    assert len(network.body) == 10 + 1
    assert network.head.out_channels == 96
    assert recipe.upsampled_by == "linear"
    assert recipe.patch is None
    assert (recipe.learning_rate, recipe.schedule, recipe.plateau_factor) == (1e-3, "plateau", 0.5)
    assert recipe.plateau_patience * recipe.look_every == 5 * recipe.steps_per_epoch
    assert (recipe.batch, recipe.epochs, recipe.steps) == (1, 200, 6400)
    assert (recipe.degradation, recipe.intensity) == ("trilinear", "unit")


def test_the_values_of_the_code_of_tv_can_be_set():
    recipe = changed("tv", "blocks=12", "tv=0", "squared_tv=.07", "plateau_patience=1000")
    assert len(recipe.build_generator(1, (2.0, 2.0, 2.0)).body) == 12 + 1
    assert {term.build.imported_class: term.weight for term in recipe.losses if term.weight} == {
        MSE: 1.0,
        SquaredVariation: 0.07,
    }
    # the learning rate is constant for all 200 epochs
    assert recipe.plateau_patience > recipe.epochs


def test_the_tv_family_differs_in_losses_and_training_data():
    assert terms("tv") == {"content": (MSE, 1.0), "tv": (SummedVariation, 0.01)}
    assert terms("tv", "fast") == {"content": (MSE, 1.0), "tv": (TotalVariation, 0.01)}
    assert terms("dip") == {"content": (MSE, 1.0)}
    assert terms("mse3d") == {"content": (MSE, 1.0)}
    assert terms("li") == terms("li-agnostic") == {"content": (MAE, 1.0), "ssim": (SSIMLoss, 0.3)}
    assert [paper(name).objective for name in TV_FAMILY] == ["self", "self", *["supervised"] * 3]
    assert [get_method(name).needs_pair for name in TV_FAMILY] == [False, False, True, True, True]
    assert paper("li").factors == ()
    assert paper("li-agnostic").factors == (1.25, 1.5, 1.75, 2.0)


@pytest.mark.parametrize("name", MOUSE)
def test_the_training_of_the_mouse_paper(name):
    recipe = paper(name)
    assert (recipe.patch, recipe.patches, recipe.epochs) == (21, 20_000, 1000)
    assert recipe.batch == 32  # our choice, because the paper states none
    assert recipe.patience * recipe.look_every == 100 * recipe.steps_per_epoch
    assert (recipe.learning_rate, recipe.betas, recipe.schedule) == (
        1e-3,
        (0.9, 0.999),
        "constant",
    )
    assert (recipe.upsampled_by, recipe.degradation, recipe.intensity) == (
        "bspline",
        "block",
        "range",
    )
    assert recipe.patch_applied == 21
    adversarial = {"adversarial": (AdversarialBCE, 1e-3)} if name == "gan3d" else {}
    assert terms(name) == {"content": (MSE, 1.0), **adversarial}


def test_patches_in_two_dimensions_are_drawn_once():
    """Follows mouse-sr, section 2.3.3 and table 1."""
    recipe = changed("resnet2d", "patches=5000")
    high_res = np.random.default_rng(0).random((64, 60, 12)).astype(np.float32)
    image = TrainingImage(
        fine=high_res,
        mask=np.ones(high_res.shape, bool),
        affine=np.eye(4),
        contrast="T2w",
        name="one",
    )
    examples = Examples((image,), recipe, FACTOR, 2)
    rng, steps = np.random.default_rng(0), -(-5000 // recipe.batch)

    def windows_of_epoch(epoch):
        return {
            box
            for k in range(epoch * steps, (epoch + 1) * steps)
            for _, box in examples.draw_windows(
                rng, FACTOR, iteration=k, seed=0, size=recipe.batch
            )
        }

    first, second = windows_of_epoch(0), windows_of_epoch(1)
    assert len(first ^ second) < 0.02 * len(first)
    assert {tuple(end - start for start, end in box) for box in first} == {(21, 21, 1)}
    assert recipe.steps_per_epoch == steps


@pytest.mark.parametrize("name", PLANES)
def test_the_learning_rate_of_cpce_and_circle_is_constant_for_half_of_the_steps_and_ends_at_2e_6(
    name,
):
    recipe = paper(name)
    assert (recipe.patch, recipe.epochs, recipe.degradation) == (64, 100, "kspace")
    half = recipe.steps // 2
    rates = [
        recipe.rate(i, recipe.learning_rate)
        for i in (0, half - 1, half + half // 2, recipe.steps - 1)
    ]
    assert rates == pytest.approx([1e-4, 1e-4, (1e-4 + 2e-6) / 2, 2e-6], rel=1e-4)
    assert recipe.critic_steps == {"cpce": 5, "circle": 1}[name]


def test_the_adversarial_objectives_of_cpce_and_circle():
    assert paper("cpce").critic_game == "wasserstein"
    for name in ("cpce", "circle"):
        assert (paper(name).hold_out, paper(name).keep) == (0, "last")
    assert paper("circle").critic_game == "wasserstein-gp"
    assert terms("cpce")["adversarial"] == (AdversarialWasserstein, 1.0)
    assert terms("cpce")["perceptual"][0] is VGGPerceptual
    assert [term.kind for term in paper("cpce").losses if term.stands_in] == ["content"]
    assert paper("circle").objective == "cycle"
    kinds = {
        "adversarial": AdversarialWasserstein,
        "cycle": MAE,
        "identity": MAE,
        "sparsify": JointSparsify,
    }
    assert {kind: build for kind, (build, _) in terms("circle").items()} == kinds
    # a critic is trained to score acquired images high, and the generator to score high as well
    loss, real, fake = AdversarialWasserstein(), torch.tensor([3.0, 5.0]), torch.tensor([1.0, 2.0])
    assert (float(loss.critic(real, fake)), float(loss(fake))) == (1.5 - 4.0, -1.5)


def test_the_settings_of_circle_are_those_of_the_code():
    recipe = paper("circle")
    # sums over 64 patches of 64 x 64 voxels, divided by 128 (twice), 256 and 20
    voxels = 64 * 64**2
    code = {
        "adversarial": 1.0,
        "cycle": 2 * voxels / 128,
        "identity": voxels / 256,
        "sparsify": voxels / 20,
    }
    weights = {kind: weight for kind, (_, weight) in terms("circle").items()}
    assert weights == pytest.approx({kind: weight / 2048 for kind, weight in code.items()})
    sparsify = next(term for term in recipe.losses if term.kind == "sparsify")
    assert sparsify.build().tau == 0.1
    assert (recipe.batch, recipe.betas, recipe.penalty_weight) == (64, (0.5, 0.999), 1.0)
    fast = get_method("circle").recipes["fast"]
    assert [term.build().tau for term in fast.losses if term.kind == "sparsify"] == [0.5]
    network = recipe.build_generator(1, FACTOR)
    assert isinstance(network, CircleResamplingNet)
    assert len(network.blocks) == 12


@pytest.mark.parametrize("name", [*PLANES, "resnet2d"])
@pytest.mark.parametrize("recipe", ["paper", "fast"])
def test_in_plane_networks_reject_thinner_slices(name, recipe):
    method = get_method(name)
    image = TrainingImage(
        fine=np.random.default_rng(0).random((16, 16, 4)),
        mask=np.ones((16, 16, 4)),
        affine=np.eye(4),
        contrast="T2w",
        name="one",
    )
    with pytest.raises(InvalidInput, match=r"factor across slices must be 1"):
        Examples((image,), method.recipes[recipe], (2.0, 2.0, 2.0), method.ndim)


@pytest.mark.parametrize("name", [*TV_FAMILY, *MOUSE, *PLANES])
def test_fast_takes_at_most_a_fiftieth_of_the_work_of_paper(name):
    """Work is the number of parameters times the voxels of all steps, because each weight acts
    once per voxel.
    """
    work = {}
    for kind, recipe in get_method(name).recipes.items():
        size = sum(
            parameter.numel() for parameter in recipe.build_generator(1, FACTOR).parameters()
        )
        ndim = get_method(name).ndim
        patch = recipe.patch or (96, 96, 32 if ndim == 3 else 1)
        voxels = patch**ndim if isinstance(patch, int) else patch[0] * patch[1] * patch[2]
        work[kind] = size * voxels * recipe.batch * recipe.steps
    assert work["fast"] < work["paper"] / 50
