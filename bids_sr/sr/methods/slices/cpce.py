"""GAN-CPCE: an encoder-decoder with conveying paths, a Wasserstein critic and features of VGG-19.

`paper` is gan-cpce-circle, section II: images of one grid whose coarse form keeps the central quarter of k-space,
patches of 64 (8,000 slices of 256 x 256 hold 128,000 of them), 100 epochs at 1e-4, from the 51st in a line to 2e-6.
Ours, as the paper is silent: the critic's weights are clipped at .01 and it takes five steps to the generator's one
(Arjovsky et al. 2017, as the printed objective has no penalty); Adam with betas .5 and .9; batches of 16; the
perceptual term weighs .1 as in the CT work it comes from. Where VGG-19's weights are not given, mean squared error
stands in: a critic alone would not tie the output to the image that it was made from.

`fast` is ours: the same generator added to its input, mean squared error first, and a small critic with a gradient
penalty from the 200th step on.
"""

from __future__ import annotations

from bids_sr.sr.losses.mse import MSE
from bids_sr.sr.losses.vgg import VGGPerceptual
from bids_sr.sr.losses.wasserstein import AdversarialWasserstein
from bids_sr.sr.method import Augmentation, LossTerm, Method, Recipe
from bids_sr.sr.networks.conveying_encoder import CPCECritic, CPCENet
from bids_sr.sr.networks.network_blocks import in_plane
from bids_sr.sr.resolution.degradation import Factor


def _paper_generator(channels: int, factor: Factor) -> CPCENet:
    in_plane(factor)
    return CPCENet(channels)


def _paper_critic(channels: int) -> CPCECritic:
    return CPCECritic(channels)


def _fast_generator(channels: int, factor: Factor) -> CPCENet:
    in_plane(factor)
    return CPCENet(channels, skip=True)


def _fast_critic(channels: int) -> CPCECritic:
    return CPCECritic(channels, widths=(8, 16, 32), dense=32)


PAPER = Recipe(
    build_generator=_paper_generator,
    build_critic=_paper_critic,
    losses=(
        LossTerm(kind="adversarial", build=AdversarialWasserstein, weight=1.0),
        LossTerm(kind="perceptual", build=VGGPerceptual, weight=0.1),
        LossTerm(kind="content", build=MSE, weight=1.0, stands_in=True),
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
    critic_game="wasserstein",
    weight_clip=0.01,
    critic_steps=5,
    refit=False,
    degradation="kspace",
)

FAST = Recipe(
    build_generator=_fast_generator,
    build_critic=_fast_critic,
    losses=(
        LossTerm(kind="content", build=MSE, weight=1.0),
        LossTerm(kind="adversarial", build=AdversarialWasserstein, weight=1e-4),
        LossTerm(kind="perceptual", build=VGGPerceptual, weight=1e-4),
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
    adversarial_from=200,
    gradient_limit=0.05,
    background=0.1,
    evaluate_every=50,
    patience=8,
    refit=False,
    degradation="kspace",
    augmentation=Augmentation(dihedral=True),
)

METHOD = Method(
    name="cpce",
    ndim=2,
    needs_pair=True,
    recipes={"fast": FAST, "paper": PAPER},
    reference="gan_cpce_circle",
    summary="encoder-decoder with conveying paths against a Wasserstein critic, slice by slice",
    trained_on="images",
)
