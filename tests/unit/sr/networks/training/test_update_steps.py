"""Test update steps: which network is updated by which loss, clipping, schedules, and training
windows.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from data.tiny_training import CONTENT, ball, balls, recipe
from torch import nn

from bids_sr.spatial.matrices import upsample
from bids_sr.sr.method import get_method, get_recipe
from bids_sr.sr.networks.data.examples import Batch, Examples, Slab
from bids_sr.sr.networks.data.images import TrainingImage
from bids_sr.sr.networks.data.symmetries import apply_symmetry
from bids_sr.sr.networks.data.validation import validation_windows
from bids_sr.sr.networks.losses.adversarial import (
    AdversarialWasserstein,
    gradient_penalty,
)
from bids_sr.sr.networks.losses.image import MAE, MSE
from bids_sr.sr.networks.training.update_steps import Networks
from bids_sr.sr.operators import get_operator
from bids_sr.sr.recipe import Augmentation, LossTerm, network
from bids_sr.sr.recipe_settings import plain_recipe

CUBE = (2.0, 2.0, 2.0)
IN_PLANE = (2.0, 2.0, 1.0)


class Times(nn.Module):
    """Multiply x by one trained number."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(float(value)))

    def forward(self, x):
        return self.value * x


class Sum(nn.Module):
    """Score an image by a trained number times its mean."""

    def __init__(self, _channels=1):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.5]]))

    def forward(self, image):
        return image.flatten(1).mean(1, keepdim=True) @ self.weight


def cycle(**fields):
    """Return networks whose generators multiply by 3 and by 5, with an input of 1 and a target of
    2.
    """
    factors = iter((3, 5))
    changed_recipe = recipe(
        build_generator=lambda channels, factor: Times(next(factors)),
        objective="cycle",
        build_critic=Sum,
        learning_rate=1e-3,
        **fields,
    )
    ones = torch.ones(2, 1, 4, 4, 4)
    return Networks(changed_recipe, CUBE, ndim=3), Batch(input=ones, target=2 * ones, weight=ones)


def test_the_losses_of_a_cycle():
    terms = tuple(
        LossTerm(kind=kind, build=MAE, weight=weight)
        for kind, weight in (("cycle", 1.0), ("identity", 0.1))
    )
    nets, batch = cycle(losses=terms)
    parts = nets.update_generators(batch, nets.generator(batch.input), False)
    # F(G(1)) = 15 and 1, G(F(2)) = 30 and 2; G(2) = 6 and 2, F(1) = 5 and 1
    assert parts == pytest.approx({"cycle": 14 + 28, "identity": 4 + 4, "loss": 42.8})
    # d/dG and d/dF are positive: both numbers decrease by the first step of Adam.
    assert [nets.generator.value.item(), nets.modules["backward"].value.item()] == pytest.approx(
        [2.999, 4.999]
    )


def test_critic_steps_of_a_cycle_update_both_critics_and_no_generator():
    nets, batch = cycle(
        losses=(LossTerm(kind="adversarial", build=AdversarialWasserstein, weight=1.0),),
        critic_game="wasserstein",
        weight_clip=0.4,
    )
    losses = nets.update_critics(batch)
    # D(fake) - D(real): .5 (3 - 2) for the high-resolution image, .5 (10 - 1) for the
    # low-resolution image
    assert losses == pytest.approx({"critic": 0.5, "backward_critic": 4.5})
    assert [
        nets.modules["critic"].weight.item(),
        nets.modules["backward_critic"].weight.item(),
    ] == pytest.approx([0.4, 0.4]), "not clipped"
    assert nets.generator.value.grad is None
    assert nets.modules["backward"].value.grad is None
    parts = nets.update_generators(batch, nets.generator(batch.input), True)
    assert parts["adversarial"] == pytest.approx(-0.4 * 3 - 0.4 * 10)
    assert [nets.modules[name].weight.requires_grad for name in ("critic", "backward_critic")] == [
        True,
        True,
    ], "critics must train again"
    assert nets.generator.value.item() == pytest.approx(3.001)


@pytest.mark.parametrize("name", ["srgan", "attunet", "cpce", "circle", "gan3d", "dcnet"])
def test_critics_update_as_if_real_and_generated_images_were_scored_separately(name):
    """Compare loss and weights in double precision, without dropout (whose draws differ)."""
    method = get_method(name)
    adversarial_recipe = get_recipe(method, "paper" if name == "srgan" else "fast")
    if name == "srgan":
        small_critic = network("critics.srgan_critic", widths=(4, 8), dense=8)
        adversarial_recipe = replace(adversarial_recipe, build_critic=small_critic)
    ndim = method.ndim
    together, apart = (
        Networks(adversarial_recipe, CUBE if ndim == 3 else IN_PLANE, ndim=ndim) for _ in range(2)
    )
    together.modules = {"critic": together.modules["critic"]}
    critics = [nets.modules["critic"].double() for nets in (together, apart)]
    for layer in (layer for critic in critics for layer in critic.modules()):
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    real, fake = torch.rand(2, 2, 1, *[32 if ndim == 2 else 8] * ndim, dtype=torch.double)

    torch.manual_seed(0)
    loss_module = next(term.module for term in apart.terms if term.kind == "adversarial")
    loss = loss_module.critic(critics[1](real), critics[1](fake))
    if adversarial_recipe.critic_game == "wasserstein-gp":
        penalty = gradient_penalty(critics[1], real, fake)
        loss = loss + adversarial_recipe.penalty_weight * penalty
    loss.backward()
    apart.optimizers["critic"].step()

    torch.manual_seed(0)
    batch = Batch(input=real, target=real, weight=torch.ones_like(real))
    losses = together.update_critics(batch, fake)
    assert losses == {"critic": pytest.approx(loss.item(), rel=1e-9)}
    for updated, expected in zip(*(critic.parameters() for critic in critics), strict=True):
        torch.testing.assert_close(updated, expected, rtol=0, atol=1e-8)


def test_self_supervision_compares_the_downsampled_output():
    changed_recipe = recipe(objective="self", build_generator=lambda channels, factor: Times(2))
    nets = Networks(changed_recipe, CUBE, ndim=3)
    high_res, low_res = torch.ones(1, 1, 4, 4, 4), torch.ones(1, 1, 2, 2, 2)
    batch = Batch(
        input=high_res,
        target=5 * low_res,
        weight=low_res,
        operator=get_operator("block", (4, 4, 4), CUBE),
    )
    parts = nets.update_generators(batch, nets.generator(high_res), False)
    assert parts["content"] == pytest.approx(9)
    assert nets.generator.value.item() == pytest.approx(2.01)


def test_a_replacement_loss_is_only_used_without_vgg_weights():
    replacement = LossTerm(kind="content", build=MAE, weight=0.5, stands_in=True)
    changed_recipe = recipe(losses=(CONTENT, replacement))
    terms = Networks(changed_recipe, CUBE, ndim=3).terms
    assert [(kind, type(module), weight) for kind, module, weight in terms] == [
        ("content", MSE, 1.0),
        ("content", MAE, 0.5),
    ]
    assert len(Networks(changed_recipe, CUBE, vgg_weights="vgg.safetensors", ndim=3).terms) == 1
    assert plain_recipe(changed_recipe, vgg=True)["losses"] == {"content:MSE": 1.0}
    assert plain_recipe(changed_recipe, vgg=False)["losses"] == {
        "content:MSE": 1.0,
        "content:MAE": 0.5,
    }


@pytest.mark.parametrize(
    ("count", "trained"), [(1, ["c.weight", "c.bias"]), (2, ["b.weight", "n.weight", "n.bias"])]
)
def test_layers_are_counted_from_the_end(count, trained):
    net = nn.Sequential()
    for name, layer in (
        ("a", nn.Conv3d(1, 2, 3)),
        ("b", nn.Conv3d(2, 2, 3, bias=False)),
        ("n", nn.InstanceNorm3d(2, affine=True)),
        ("c", nn.Conv3d(2, 1, 3)),
    ):
        net.add_module(name, layer)
    frozen = recipe(build_generator=lambda *_: net, freeze_but_last=count)
    Networks(frozen, CUBE, ndim=3, start=net.state_dict())
    trainable = {name for name, values in net.named_parameters() if values.requires_grad}
    assert trainable == {*trained, "c.weight", "c.bias"}


def test_linear_decay_is_constant_and_then_linear():
    changed_recipe = recipe(
        schedule="linear-decay",
        epochs=10,
        patches=4,
        batch=2,
        decay_from=5,
        learning_rate=1e-4,
        final_learning_rate=2e-6,
    )
    assert (changed_recipe.steps, changed_recipe.look_every) == (20, 2)
    rates = [changed_recipe.rate(k, changed_recipe.learning_rate) for k in range(20)]
    np.testing.assert_allclose(rates[:11], 1e-4)
    np.testing.assert_allclose(np.diff(rates[10:]), (2e-6 - 1e-4) / 9)
    assert rates[-1] == pytest.approx(2e-6)
    with pytest.raises(ValueError, match="must also specify `patches`"):
        recipe(epochs=3)


def examples(changed_recipe, images, factor=CUBE):
    """Return images as a training with this recipe uses them."""
    return Examples(images, changed_recipe, factor, 2 if factor[2] == 1 else 3, "cpu")


def draw_windows(images, factor=CUBE, iteration=0):
    """Return the windows of a step."""
    return images.draw_windows(
        np.random.default_rng(1),
        factor,
        iteration=iteration,
        seed=1,
        size=images.recipe.batch,
    )


def sides_of(windows):
    """Return the sides of windows."""
    return {tuple(end - start for start, end in box) for _, box in windows}


def test_each_window_is_used_once_per_epoch():
    images = examples(recipe(epochs=3, patches=6, batch=2, hold_out=0), balls(2))
    steps = [draw_windows(images, iteration=step) for step in range(9)]
    epochs = [[window for step in steps[k : k + 3] for window in step] for k in (0, 3, 6)]
    assert [sorted(windows) for windows in epochs[1:]] == [sorted(epochs[0])] * 2
    assert epochs[0] != epochs[1]
    assert len(set(epochs[0])) == 6
    assert {image for image, _ in epochs[0]} == {0, 1}


def test_every_factor_is_used_with_its_low_resolution_image():
    shape = (20, 20, 10)
    images = examples(
        recipe(factors=(1.25, 2.0), patch=None, hold_out=0), balls(1, shape=shape), CUBE
    )
    high_res, rng = torch.from_numpy(ball(shape=shape).fine), np.random.default_rng(1)
    inputs = {}
    for factor in (1.25, 2.0):
        low_res = get_operator("block", shape, (factor,) * 3).forward(high_res).numpy()
        unit = images.prepare(0, (factor,) * 3).level[0]
        inputs[factor] = upsample("linear", low_res, (factor,) * 3) / unit
    factors_seen = set()
    for step in range(12):
        batch = images.draw_batch(rng, iteration=step, seed=1, size=1).input[0, 0]
        factors_seen |= {
            factor for factor, image in inputs.items() if np.allclose(batch, image, atol=1e-5)
        }
    assert factors_seen == {1.25, 2.0}


def test_windows_of_both_grids_are_aligned():
    factor = (1.25,) * 3
    shape = (20, 15, 10)
    noise = np.random.default_rng(0).random(shape).astype(np.float32) + 1
    # Values are constant in blocks, so block means keep the values.
    blocks = upsample("nearest", noise[::5, ::5, ::5], (5.0, 5.0, 5.0))
    image = TrainingImage(
        fine=blocks, mask=np.ones(shape), affine=np.eye(4), contrast="T1w", name="blocks"
    )
    low_res = get_operator("block", shape, factor).forward(torch.from_numpy(blocks)).numpy()
    low_res_image = replace(image, fine=None, coarse=low_res, mask=np.ones(low_res.shape))
    images = examples(recipe(objective="self", patch=10, hold_out=0), (low_res_image,), factor)
    for step in range(5):
        windows = draw_windows(images, factor, step)
        batch = images.cut_windows(windows, factor, 0.0)
        assert sides_of(windows) == {(10, 10, 10)}
        for (_, box), target in zip(windows, batch.target, strict=True):
            assert all(start % 5 == 0 for start, _ in box)
            truth = torch.from_numpy(blocks[tuple(slice(*side) for side in box)])
            downsampled = batch.operator.forward(truth) / images.prepare(0).level[0]
            torch.testing.assert_close(target[0], downsampled.to(target))


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_generator_on_the_low_resolution_grid_gets_low_resolution_windows(ndim):
    factor = (1.5, 1.5, 1.0) if ndim == 2 else (1.5, 1.5, 1.5)
    low_res_recipe = recipe(ndim, upsampled_by=None, patch=9, batch=4)
    images = examples(low_res_recipe, balls(1, shape=(18, 21, 12)), factor)
    windows = draw_windows(images, factor)
    assert sides_of(windows) == {(9, 9, 1) if ndim == 2 else (9, 9, 9)}
    batch, ready = images.cut_windows(windows, factor, 0.0), images.prepare(0)
    assert batch.input.shape == (4, 1, *[6] * ndim)
    for (_, box), network_input, target in zip(windows, batch.input, batch.target, strict=True):
        low_res_box = [
            slice(int(start / zoom), int(end / zoom))
            for (start, end), zoom in zip(box, factor, strict=True)
        ]
        low_res = ready.lowres[(slice(None), *low_res_box)]
        high_res = ready.target[(slice(None), *(slice(*side) for side in box))]
        torch.testing.assert_close(network_input, low_res.reshape(network_input.shape))
        torch.testing.assert_close(target, high_res.reshape(target.shape))


def test_symmetries_are_applied_to_input_target_and_weight():
    images = examples(recipe(augmentation=Augmentation(dihedral=True), hold_out=0), balls(1))
    box = ((4, 12), (4, 12), (2, 10))
    turns = images.list_symmetries(CUBE, (8, 8, 8))
    assert len(turns) == 48
    unchanged = images.cut_windows([(0, box)], CUBE, 0.0)
    transformed = images.cut_windows([(0, box)] * 48, CUBE, 0.0, turns)
    arrangements = set()
    for k in range(48):
        for name in ("input", "target", "weight"):
            torch.testing.assert_close(
                getattr(transformed, name)[k, 0],
                apply_symmetry(getattr(unchanged, name)[0, 0], turns[k]),
            )
        arrangements.add(transformed.target[k].numpy().tobytes())
    assert len(arrangements) == 48


def test_held_out_data_of_few_images_are_slices_or_the_last_part():
    def held_out(ndim, images):
        split = Examples(images, recipe(ndim), CUBE if ndim == 3 else IN_PLANE, ndim, "cpu")
        return [
            [(slab.image, slab.slices) for slab in slabs]
            for slabs in (split.training_slabs, split.held_out_slabs)
        ]

    train, test = held_out(2, balls(1))
    assert sorted(train + test) == [(0, (z, z + 1)) for z in range(12)]
    assert len(test) == 3
    assert held_out(3, balls(1)) == [[(0, (0, 8))], [(0, (8, 12))]]
    image = ball(shape=(16, 16, 24))
    mask = image.mask.copy()
    mask[..., 12:] = False
    # a quarter of the slices with brain, and all slices without
    assert held_out(3, (replace(image, mask=mask),)) == [[(0, (0, 8))], [(0, (8, 24))]]
    assert held_out(3, balls(2)) == [[(k, slices) for k in (0, 1)] for slices in ((0, 8), (8, 12))]
    train, test = held_out(3, balls(5))
    assert ([image for image, _ in train], [image for image, _ in test]) == ([0, 1, 3, 4], [2])


def test_validation_scores_only_held_out_slices_and_includes_their_surroundings():
    windows = Examples(balls(1, shape=(16, 16, 20)), recipe(), CUBE, 3, "cpu")
    (window,) = validation_windows(windows, [Slab(image=0, slices=(12, 20))])
    assert window.box == ((0, 16), (0, 16), (6, 20))
    weight_of_slices = window.batch.weight[0, 0].sum((0, 1))
    inside = windows.prepare(0).mask[0].float().sum((0, 1))
    torch.testing.assert_close(weight_of_slices[:6], torch.zeros(6))
    torch.testing.assert_close(weight_of_slices[6:], inside[12:])
    assert (inside[6:12] > 0).all()
    many_slices = Examples(balls(1, shape=(16, 16, 120)), recipe(), CUBE, 3, "cpu")
    (largest_window,) = validation_windows(many_slices, [Slab(image=0, slices=(0, 120))])
    assert largest_window.box[2] == (36, 84)
