"""Test the losses of the attention U-Net: cross-entropy of intensities, and guidance by the
critic.
"""

import math

import pytest
import torch
from torch import nn

from bids_sr.sr.method import get_method
from bids_sr.sr.networks.data.examples import Batch
from bids_sr.sr.networks.losses.adversarial import CriticScore
from bids_sr.sr.networks.losses.image import BCE, MAE, SSIMLoss
from bids_sr.sr.networks.training.update_steps import Networks
from bids_sr.sr.recipe import LossTerm, Recipe
from bids_sr.sr.recipe_changes import RecipeChange, apply_changes


def entropy(output, target, weight=1.0):
    """Return the loss of single voxels."""
    image = torch.tensor(output, dtype=torch.float64)
    shape = (1, 1, *image.shape, 1)
    output_image = image.reshape(shape)
    target_image = torch.tensor(target, dtype=torch.float64).reshape(shape)
    return BCE()(
        output_image, target_image, torch.as_tensor(weight, dtype=torch.float64).reshape(-1, 1)
    )


@pytest.mark.parametrize(("output", "target"), [(0.3, 0.8), (0.5, 0.5), (0.9, 0.1)])
def test_cross_entropy_matches_the_closed_form(output, target):
    expected = -target * math.log(output) - (1 - target) * math.log(1 - output)
    assert float(entropy([output], [target])) == pytest.approx(expected, rel=1e-12)
    reference = nn.functional.binary_cross_entropy(
        torch.tensor([output], dtype=torch.float64), torch.tensor([target], dtype=torch.float64)
    )
    assert float(entropy([output], [target])) == pytest.approx(float(reference), rel=1e-12)


class Scale(nn.Module):
    """Multiply the image by one number."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, image):
        return self.value * image


class MeanScore(nn.Module):
    """Logit: the mean of the image."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, image):
        return self.weight * image.mean((1, 2, 3), keepdim=True)


def guided(weight):
    """Return losses and gradients of a generator whose output is half of a target of ones."""
    recipe = Recipe(
        build_generator=lambda channels, factor: Scale(0.5),
        build_critic=lambda channels: MeanScore(),
        losses=(
            LossTerm(kind="content", build=MAE, weight=1.0),
            LossTerm(kind="adversarial", build=CriticScore, weight=0.0),
        ),
    )
    # Recipe `attunet` has a term of the same name and range.
    changed_recipe = apply_changes(
        recipe, (RecipeChange(method="attunet", field="adversarial", value=weight),)
    )
    nets = Networks(changed_recipe, (2.0, 2.0, 1.0))
    ones = torch.ones(2, 1, 8, 8)
    batch = Batch(input=ones, target=ones, weight=ones)
    parts = nets.update_generators(batch, nets.generator(ones), True)
    return parts, nets.generator.value.grad.item(), nets.modules["critic"].weight.grad


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_lambda_adds_one_minus_the_score_of_the_critic_as_in_equation_2(weight):
    parts, gradient, critic_gradient = guided(weight)
    score = 1 / (1 + math.exp(-0.5))
    assert parts["loss"] == pytest.approx(0.5 + weight * (1 - score))
    assert parts["adversarial"] == pytest.approx(1 - score)
    # d/dv |v - 1| is -1, and d/dv (1 - sigmoid(v)) is -s (1 - s).
    assert gradient == pytest.approx(-1 - weight * score * (1 - score), rel=1e-5)
    assert critic_gradient is None


@pytest.mark.parametrize("name", ["li", "li-agnostic"])
def test_the_loss_of_li_is_the_absolute_error_minus_a_fraction_of_ssim(name):
    """L1 - .3 SSIM, up to a constant of .3, for volumes of constant intensity."""
    recipe = get_method(name).recipes["paper"]
    output, target = (torch.full((1, 1, 4, 4, 4), level) for level in (0.5, 0.25))
    total = sum(
        term.weight * float(term.build()(output, target, torch.ones_like(output)))
        for term in recipe.losses
    )
    # the variances are zero, so that SSIM is the luminance term
    ssim = (2 * 0.5 * 0.25 + 1e-4) / (0.5**2 + 0.25**2 + 1e-4)
    assert total == pytest.approx(0.25 - 0.3 * ssim + 0.3, rel=1e-5)
    assert {term.build.imported_class for term in recipe.losses} == {MAE, SSIMLoss}
