"""A network trained on the subject's own T2*-weighted pair (STSS-SRfMRI), after SRGAN.

`paper` is the published run (stss-srfmri, "Deep learning-based super-resolution"): 64 channels, 16 blocks, 9 x 9 ends,
Lanczos-3 before the generator, a critic of ten convolutions, Adam with beta1 .9 at 1e-4, patches of 64, batches of 2,
100,000 iterations, all slices of the pair (that show the head), none held out, no early end, the last weights. The
paper says only "SRGAN": the loss is that of Ledig et al. 2017, equation 3: features of VGG-19 (scaled by .006) plus
1e-3 of the adversarial term, and nothing else. So it needs weights of VGG-19 and is refused without. Ours: no
augmentation, a constant rate, random weights to begin with (Ledig et al. began with a network trained by squared
error).

`paper-mse` is what `paper` was at first: squared error beside those terms, and in the place of the features where
there are no weights; every fifth slice is held out, and training on all slices anew ends where those were best.

`fast` is our default: the same idea in a network that works on the acquired grid and leaves the acquired band of
k-space as it was measured (`networks.subpixel`). That makes it a data-consistent network trained by squared error and
no GAN to speak of: over five pairs of trainings its adversarial term adds no energy beyond Nyquist and costs .01 dB, a
quarter of the spread of seeds (benchmarks/results/adversarial.md). It stays because models of before have it. It is
not trained again on all slices: measured against true volumes (benchmarks/TRUTH.md) that gained nothing, also on the
slices that the search had held out, and it would double the time. So the card's held-out figures are those of the very
model.

`WARM` is `fast` from a network of simulated heads on (the package has one, srgan_start): the same schedule in a
quarter of the steps, with closer looks and no early end, as it was raced against `fast` (benchmarks/warm_start.py).
"""

from __future__ import annotations

from dataclasses import replace

from bids_sr.sr.losses.bce import AdversarialBCE
from bids_sr.sr.losses.mse import MSE
from bids_sr.sr.losses.vgg import VGGPerceptual
from bids_sr.sr.method import Augmentation, LossTerm, Method, Recipe
from bids_sr.sr.networks.critics import PatchCritic, SRGANCritic
from bids_sr.sr.networks.srresnet import SRResNet
from bids_sr.sr.networks.subpixel import SubPixelNet
from bids_sr.sr.resolution.degradation import Factor


def _paper_generator(in_channels: int, factor: Factor) -> SRResNet:
    if factor[2] != 1:
        raise ValueError(f"a 2D network works in-plane; the factor {factor} also asks for thinner slices")
    return SRResNet(in_channels)


PAPER = Recipe(
    build_generator=_paper_generator,
    build_critic=SRGANCritic,
    losses=(
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
    hold_out=0,
    refit=False,
)

PAPER_MSE = replace(
    PAPER, losses=(LossTerm(kind="content", build=MSE, weight=1.0), *PAPER.losses), hold_out=5, refit=True
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
    recipes={"fast": FAST, "paper": PAPER, "paper-mse": PAPER_MSE},
    warm={"fast": WARM},
    reference="stss_srfmri",
    summary="network trained on the subject's own T2*-weighted pair, slice by slice; a GAN only as published",
)
