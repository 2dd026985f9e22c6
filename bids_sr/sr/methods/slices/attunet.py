"""Attention U-Net with a critic beside it, for whole slices of one or several contrasts at once.

`paper` is the network of the paper: images interpolated to the fine grid and padded to a power of two, a sigmoid at the
end, 100 epochs of Adam over the 5,920 slices of its training set. Mean absolute error, structural similarity and PSNR
are the loss, because the paper names these three for the model that it keeps (section 4.3); how they are weighed stands
in a supplement that we did not have. So weights of 1, 1 and .002 (with which a voxel's slope is that of the absolute
error at the 35.4 dB that the paper reached), a step of 1e-3, batches of 8 and a B-spline before the network are our
choice. The critic takes five steps for each of the network's and weighs nothing in its loss: adding it gained nothing
there.

`fast` is ours: a quarter of the width, added to the interpolated image, where the faithful network has to make all of
it; the structural similarity weighs less, because it cares as much for a quiet background as for the brain, and the
PSNR is left out.
"""

from __future__ import annotations

from bids_sr.sr.losses.critic_score import CriticScore
from bids_sr.sr.losses.mae import MAE
from bids_sr.sr.losses.psnr import PSNRLoss
from bids_sr.sr.losses.ssim import SSIMLoss
from bids_sr.sr.method import Augmentation, LossTerm, Method, Recipe
from bids_sr.sr.networks.attention_unet import AttentionUNet, GuidingCritic
from bids_sr.sr.resolution.degradation import Factor

FAST_WIDTHS = (16, 32, 64, 128, 256)


def in_plane(factor: Factor) -> None:
    """Refuse a factor that asks for thinner slices; raises ValueError."""
    if factor[2] != 1:
        raise ValueError(f"a 2D network works in-plane; the factor {factor} also asks for thinner slices")


def without_critic(losses: tuple[LossTerm, ...]) -> tuple[LossTerm, ...]:
    """Terms of a network that has no critic beside it."""
    return tuple(term for term in losses if term.kind != "adversarial")


def _paper_generator(channels: int, factor: Factor) -> AttentionUNet:
    in_plane(factor)
    return AttentionUNet(channels)


def _fast_generator(channels: int, factor: Factor) -> AttentionUNet:
    in_plane(factor)
    return AttentionUNet(channels, widths=FAST_WIDTHS, head="residual", sizes="multiple")


def _small_critic(channels: int) -> GuidingCritic:
    return GuidingCritic(channels, width=16)


PAPER = Recipe(
    build_generator=_paper_generator,
    build_critic=GuidingCritic,
    losses=(
        LossTerm(kind="content", build=MAE, weight=1.0),
        LossTerm(kind="ssim", build=SSIMLoss, weight=1.0),
        LossTerm(kind="psnr", build=PSNRLoss, weight=0.002),
        LossTerm(kind="adversarial", build=CriticScore, weight=0.0),
    ),
    upsampled_by="bspline",
    batch=8,
    epochs=100,
    patches=5920,
    learning_rate=1e-3,
    critic_steps=5,
    refit=False,
    keep_critic=True,
    intensity="unit",
)

FAST = Recipe(
    build_generator=_fast_generator,
    build_critic=_small_critic,
    losses=(
        LossTerm(kind="content", build=MAE, weight=1.0),
        LossTerm(kind="ssim", build=SSIMLoss, weight=0.1),
        LossTerm(kind="adversarial", build=CriticScore, weight=0.0),
    ),
    upsampled_by="zerofill",
    batch=4,
    iterations=800,
    learning_rate=2e-3,
    schedule="one-cycle",
    critic_learning_rate=2e-4,
    gradient_limit=1.0,
    background=0.1,
    evaluate_every=50,
    patience=8,
    refit=False,
    augmentation=Augmentation(dihedral=True, gain=0.1),
    keep_critic=True,
)

METHOD = Method(
    name="attunet",
    ndim=2,
    needs_pair=True,
    recipes={"fast": FAST, "paper": PAPER},
    reference="attention_unet",
    summary="attention U-Net on whole slices, several contrasts fused, with a critic beside it to look at",
    trained_on="images",
)
