"""Train every method of papers 2, 3 and 4 for a few steps on a tiny volume and check its
losses.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from bids_sr.sr.method import get_method
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.networks.architectures.circle import CircleNet, CircleResamplingNet
from bids_sr.sr.networks.architectures.cpce import CPCENet
from bids_sr.sr.networks.architectures.critics import circle_critic, cpce_critic
from bids_sr.sr.networks.architectures.residual import ResNet
from bids_sr.sr.networks.architectures.volumetric import (
    ConventionalNet3d,
    DenseResidualNet,
    ResNetCritic3d,
    ScaledResNet3d,
)
from bids_sr.sr.networks.data.examples import Examples
from bids_sr.sr.networks.data.images import TrainingImage
from bids_sr.sr.networks.training.trainer import train_network
from bids_sr.sr.networks.training.update_steps import Networks
from bids_sr.sr.operators import get_operator

SHAPE, FACTOR = (24, 24, 8), (2.0, 2.0, 1.0)
NETWORKS = {
    "tv": (partial(DenseResidualNet, width=4, layers=2), None),
    "ccnn3d": (partial(ConventionalNet3d, widths=(6, 4)), None),
    "resnet3d": (partial(ResNet, width=4, blocks=2), None),
    "resnet2d": (partial(ResNet, ndim=2, width=4, blocks=2), None),
    "gan3d": (partial(ResNet, width=4, blocks=2), partial(ResNetCritic3d, width=4, blocks=1)),
    "cpce": (partial(CPCENet, width=6), partial(cpce_critic, widths=(4, 6, 8), dense=8)),
    "circle": (
        partial(CircleNet, widths=(6,) * 3, branches=(4, 2), joined=(6, 4), dropout=0.0),
        partial(circle_critic, widths=(4, 6, 8), dense=8),
    ),
}
NETWORKS |= dict.fromkeys(("dip", "mse3d", "li", "li-agnostic"), NETWORKS["tv"])
# networks of recipe `paper` that differ from those of `fast`
OF_PAPER = dict.fromkeys(
    ("tv", "dip", "mse3d", "li", "li-agnostic"), (partial(ScaledResNet3d, width=4, blocks=2), None)
)
OF_PAPER["circle"] = (
    partial(CircleResamplingNet, widths=(6,) * 3, branches=(4, 3, 2), dropout=0.0),
    NETWORKS["circle"][1],
)


@pytest.fixture(scope="module")
def volume():
    """Return smooth blobs with edges, bright inside a ball, and the mask."""
    grid = np.indices(SHAPE).astype(float)
    middle = [(n - 1) / 2 for n in SHAPE]
    inside = sum(((g - m) / (0.9 * m)) ** 2 for g, m in zip(grid, middle, strict=True)) < 1
    stripes = (np.floor(grid[0] / 3) + np.floor(grid[1] / 4) + np.floor(grid[2] / 3)) % 2
    return (100 * inside * (1 + stripes)).astype(np.float32), inside


def images(name, volume):
    """Return the training data of a method: the high-resolution volume, or the low-resolution
    volume if that suffices.
    """
    high_res, inside = volume
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    if get_method(name).trained_on == "self":
        stacked = np.stack([high_res, inside]).astype(np.float32)
        low_res, coverage = (
            get_operator("gauss", SHAPE, FACTOR).forward(torch.from_numpy(stacked)).numpy()
        )
        image = TrainingImage(
            coarse=low_res, mask=coverage > 0.5, affine=affine, contrast="bold", name="one"
        )
    else:
        image = TrainingImage(
            fine=high_res, mask=inside, affine=affine, contrast="bold", name="one"
        )
    return (image,)


def shortened(name, kind, **changes):
    """Return a recipe with tiny networks and otherwise unchanged settings."""
    generator, critic = OF_PAPER.get(name, NETWORKS[name]) if kind == "paper" else NETWORKS[name]
    skip = (
        {"skip": True}
        if kind == "fast" and name in ("ccnn3d", "resnet2d", "resnet3d", "gan3d", "cpce")
        else {}
    )
    return replace(
        get_method(name).recipes[kind],
        build_critic=critic,
        build_generator=lambda channels, factor: generator(channels, **skip),
        **changes,
    )


def networks_and_batch(name, recipe, volume):
    """Return networks with seeded weights and one batch: the full volume, or four slices."""
    ndim = get_method(name).ndim
    windows = Examples(images(name, volume), replace(recipe, patch=None), FACTOR, ndim, "cpu")
    x, y, z = windows.prepare(0).shape
    boxes = (
        [((0, x), (0, y), (k, k + 1)) for k in (2, 3, 4, 5)]
        if ndim == 2
        else [((0, x), (0, y), (0, z))]
    )
    batch = windows.cut_windows([(0, box) for box in boxes], FACTOR, recipe.background)
    return Networks(recipe, FACTOR, seed=3, ndim=ndim), batch


@pytest.mark.parametrize("name", ["gan3d", "cpce", "circle"])
def test_critics_learn_to_recognize_images_of_fixed_generators(name, volume):
    # Without bounds on its gradient, a learning critic has a falling loss.
    recipe = shortened(name, "paper", weight_clip=1.0, penalty_weight=0.0, learning_rate=1e-3)
    nets, batch = networks_and_batch(name, recipe, volume)
    before = {key: value.clone() for key, value in nets.generator.state_dict().items()}
    rows = [nets.update_critics(batch) for _ in range(12)]
    for key in ("critic", "backward_critic") if name == "circle" else ("critic",):
        assert rows[-1][key] < rows[0][key] - 1e-4
    with torch.no_grad():
        comparisons = [(nets.modules["critic"], batch.target, nets.generator(batch.input))]
        if name == "circle":
            comparisons.append(
                (
                    nets.modules["backward_critic"],
                    batch.input,
                    nets.modules["backward"](batch.target),
                )
            )
        for critic, real, fake in comparisons:
            assert critic(real).mean() > critic(fake).mean()
    assert all(
        torch.equal(before[key], value) for key, value in nets.generator.state_dict().items()
    )


@pytest.mark.parametrize("kind", ["paper", "fast"])
def test_the_loss_of_tv_is_equation_2_per_acquired_voxel(volume, kind):
    recipe = shortened("tv", kind)
    nets, batch = networks_and_batch("tv", recipe, volume)
    high_res = nets.generator(batch.input)
    detached = high_res.detach()
    low_res = get_operator(recipe.degradation, SHAPE, FACTOR).forward(detached)
    assert low_res.shape == batch.target.shape
    # Length of the vector of first-order differences, summed over all voxels.
    steps = [np.diff(detached[0, 0].numpy(), axis=axis, append=0) for axis in range(3)]
    for axis, step in enumerate(steps):
        step[(slice(None),) * axis + (-1,)] = 0
    tv = float(np.sqrt(sum(step.astype(float) ** 2 for step in steps)).sum())
    misfit = float((low_res - batch.target).square().sum())
    losses = nets.update_generators(batch, high_res, False)
    if kind == "paper":
        expected = (misfit + 0.01 * tv) / low_res.numel()
    else:  # means, separately over each grid
        expected = misfit / low_res.numel() + 0.01 * tv / detached.numel()
    assert losses["loss"] == pytest.approx(expected, rel=1e-5)
    assert detached.numel() / low_res.numel() == pytest.approx(np.prod(FACTOR), rel=0.1)


def test_li_agnostic_trains_with_all_its_factors(volume, tmp_path, monkeypatch):
    factors, cut = [], Examples.cut_windows

    def record_factor(self, windows, factor, *rest):
        factors.append(factor)
        return cut(self, windows, factor, *rest)

    monkeypatch.setattr(Examples, "cut_windows", record_factor)
    recipe = shortened("li-agnostic", "fast", iterations=16, evaluate_every=16, patch=(16, 16, 8))
    train_network(
        ModelRequest(
            method="li-agnostic",
            recipe="fast",
            replacement_recipe=recipe,
            factor=FACTOR,
            random_seed=3,
        ),
        images("li-agnostic", volume),
        tmp_path,
    )
    # Slices, which the requested factor keeps, are kept by all factors.
    assert {trained_factor[0] for trained_factor in factors} == {1.25, 1.5, 1.75, 2.0}
    assert get_method("li-agnostic").recipes["paper"].factors == (1.25, 1.5, 1.75, 2.0)
    assert all(
        trained_factor[0] == trained_factor[1] and trained_factor[2] == 1
        for trained_factor in factors
    )
