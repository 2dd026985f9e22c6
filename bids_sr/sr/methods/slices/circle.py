"""GAN-CIRCLE: one network to the fine image, one back, each with a critic, held together by cycles.

`paper` is gan-cpce-circle, section II, trained as `methods.cpce` says, on pairs. Its objective is the printed one:
Wasserstein with gradient penalty both ways, cycle, identity and joint sparsifying terms, and no error against the fine
image besides what the last one takes from it. Ours, as the paper gives no weights: 1 for the game, 1 for cycles, .5 for
identity, .001 for the sparsifying term with tau .5; a penalty of 10 and five steps of the critics (Gulrajani et al.
2017).

`fast` is ours: both networks at a quarter of the width, mean squared error against the fine image, and the game as a
small part of the loss from the 200th step on.
"""

from __future__ import annotations

from bids_sr.sr.losses.mae import MAE
from bids_sr.sr.losses.mse import MSE
from bids_sr.sr.losses.penalty import GradientPenalty
from bids_sr.sr.losses.sparsify import JointSparsify
from bids_sr.sr.losses.wasserstein import AdversarialWasserstein
from bids_sr.sr.method import Augmentation, LossTerm, Method, Recipe
from bids_sr.sr.networks.circle_generators import WIDTHS, CircleCritic, CircleNet
from bids_sr.sr.networks.network_blocks import in_plane
from bids_sr.sr.resolution.degradation import Factor


def _paper_generator(channels: int, factor: Factor) -> CircleNet:
    in_plane(factor)
    return CircleNet(channels)


def _paper_critic(channels: int) -> CircleCritic:
    return CircleCritic(channels)


def _fast_generator(channels: int, factor: Factor) -> CircleNet:
    in_plane(factor)
    return CircleNet(
        channels, widths=tuple(width // 4 for width in WIDTHS), branches=(12, 4), joined=(16, 8), dropout=0.0
    )


def _fast_critic(channels: int) -> CircleCritic:
    return CircleCritic(channels, widths=(8, 16, 32, 32), dense=32)


PAPER = Recipe(
    build_generator=_paper_generator,
    build_critic=_paper_critic,
    losses=(
        LossTerm(kind="adversarial", build=AdversarialWasserstein, weight=1.0),
        LossTerm(kind="cycle", build=MAE, weight=1.0),
        LossTerm(kind="identity", build=MAE, weight=0.5),
        LossTerm(kind="sparsify", build=JointSparsify, weight=1e-3),
    ),
    upsampled_by="zerofill",
    patch=64,
    batch=16,
    epochs=100,
    patches=128_000,
    learning_rate=1e-4,
    betas=(0.5, 0.9),
    schedule="linear-decay",
    decay_from=50,
    final_learning_rate=2e-6,
    critic_game="wasserstein-gp",
    build_penalty=GradientPenalty,
    penalty_weight=10.0,
    critic_steps=5,
    refit=False,
    objective="cycle",
    degradation="kspace",
)

FAST = Recipe(
    build_generator=_fast_generator,
    build_critic=_fast_critic,
    losses=(
        LossTerm(kind="content", build=MSE, weight=1.0),
        LossTerm(kind="adversarial", build=AdversarialWasserstein, weight=1e-4),
        LossTerm(kind="cycle", build=MAE, weight=1e-3),
        LossTerm(kind="identity", build=MAE, weight=5e-4),
        LossTerm(kind="sparsify", build=JointSparsify, weight=1e-6),
    ),
    upsampled_by="zerofill",
    patch=64,
    batch=4,
    iterations=600,
    learning_rate=2e-3,
    betas=(0.9, 0.99),
    schedule="one-cycle",
    critic_learning_rate=5e-4,
    critic_game="wasserstein-gp",
    build_penalty=GradientPenalty,
    adversarial_from=200,
    gradient_limit=0.05,
    background=0.1,
    evaluate_every=50,
    patience=8,
    refit=False,
    objective="cycle",
    degradation="kspace",
    augmentation=Augmentation(dihedral=True),
)

METHOD = Method(
    name="circle",
    ndim=2,
    needs_pair=True,
    recipes={"fast": FAST, "paper": PAPER},
    reference="gan_cpce_circle",
    summary="two networks, to the fine image and back, each against a Wasserstein critic, held together by cycles",
    trained_on="images",
)
