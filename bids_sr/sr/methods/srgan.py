"""Subject-specific SRGAN on the subject's own T2*-weighted pair (STSS-SRfMRI).

`paper` is what METHODS section 1 fixes: 64 channels, 16 blocks, 9 x 9 ends, Lanczos-3 before the generator, a critic of
ten convolutions, Adam with beta1 .9 at 1e-4, patches of 64, batches of 2, 100,000 iterations (more than a day on two
cores). Ours there, because the paper says only "SRGAN": mean squared error as content, adversarial weight 1e-3 and
VGG-19 features at .006 of SRGAN's scale when their weights are given.

`fast` is our default: the same idea in a network that works on the acquired grid (`networks.subpixel`). It is not
trained again on all slices: measured against true volumes (benchmarks/TRUTH.md) that gained nothing, also on the slices
that the search had held out, and it would double the time. So the card's held-out figures are those of the very model.

`WARM` is `fast` from a network of simulated heads on (the package has one, srgan_start): the same schedule in a quarter
of the steps, with closer looks and no early end, as it was raced against `fast` (benchmarks/warm_start.py).
"""

from __future__ import annotations

from dataclasses import replace

from ..degrade import Factor
from ..losses.bce import AdversarialBCE
from ..losses.mse import MSE
from ..losses.vgg import VGGPerceptual
from ..method import Augmentation, LossTerm, Method, Recipe
from ..networks.critics import PatchCritic, SRGANCritic
from ..networks.srresnet import SRResNet
from ..networks.subpixel import SubPixelNet


def _paper_generator(in_channels: int, factor: Factor) -> SRResNet:
    if factor[2] != 1:
        raise ValueError(f"a 2D network works in-plane; the factor {factor} also asks for thinner slices")
    return SRResNet(in_channels)


PAPER = Recipe(
    build_generator=_paper_generator,
    build_critic=SRGANCritic,
    losses=(
        LossTerm(kind="content", build=MSE, weight=1.0),
        LossTerm(kind="adversarial", build=AdversarialBCE, weight=1e-3),
        LossTerm(kind="perceptual", build=VGGPerceptual, weight=0.006),
    ),
    upsampled_by="lanczos",
    patch=64,
    batch=2,
    iterations=100_000,
    learning_rate=1e-4,
    betas=(0.9, 0.999),
    evaluate_every=1000,
)

FAST = Recipe(
    build_generator=SubPixelNet,
    build_critic=PatchCritic,
    losses=(
        LossTerm(kind="content", build=MSE, weight=1.0),
        LossTerm(kind="adversarial", build=AdversarialBCE, weight=3e-4),
        LossTerm(kind="perceptual", build=VGGPerceptual, weight=1e-4),
    ),
    batch=4,
    iterations=800,
    learning_rate=2e-3,
    betas=(0.9, 0.99),
    schedule="one-cycle",
    critic_learning_rate=5e-4,
    adversarial_from=200,
    background=0.1,
    evaluate_every=50,
    patience=8,
    refit=False,
    gradient_limit=0.05,
    augmentation=Augmentation(dihedral=True, shift=1.0, gamma=0.15, gain=0.1, noise=0.01),
)

WARM = replace(FAST, iterations=200, adversarial_from=50, evaluate_every=10, patience=None)

METHOD = Method(
    name="srgan",
    ndim=2,
    needs_pair=True,
    recipes={"fast": FAST, "paper": PAPER},
    warm={"fast": WARM},
    reference="stss_srfmri",
    summary="SRGAN trained on the subject's own T2*-weighted pair, slice by slice",
)
