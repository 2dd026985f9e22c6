"""Attention U-Net with a critic beside it, for whole slices of one or several contrasts at once.

`paper` is the network of the paper: images interpolated to the high-resolution grid and padded to
a power of two, a sigmoid at the end, 100 epochs of Adam. An epoch contains each training slice
that shows the head once, in random order (5,920 in the paper: 148 of each of 40 participants;
section 3.2). Trained on patches, an epoch has 5,920 patches, drawn once. Mean absolute error,
structural similarity and PSNR are the loss, because the paper names these three for the model that
it keeps (section 4.3). Ours, as its supplement was not at hand: weights of 1, 1 and .002 (with
which a voxel's slope is that of the absolute error at the 35.4 dB that the paper reached), a rate
of 1e-3, batches of 8, a B-spline before the network. The critic takes five steps for each of the
network's and weighs nothing in its loss: adding it gained nothing there. A network that was
trained on patches (``--set patch=64``) is applied in patches of that size, put together side by
side (section 3.6).

`fast` is ours: a quarter of the width, added to the interpolated image; structural similarity
weighs less, because it cares as much for a quiet background as for the brain, and the PSNR is left
out.
"""

from dataclasses import replace

from bids_sr.sr.method import Cost, Method
from bids_sr.sr.recipe import OURS, Augmentation, Recipe, loss, network

FAST_WIDTHS = (16, 32, 64, 128, 256)
PAPER_WIDTHS = (64, 128, 256, 512, 1024)


def without_critic(recipe: Recipe) -> Recipe:
    """The recipe of a network that has no critic beside it."""
    losses = tuple(term for term in recipe.losses if term.kind != "adversarial")
    return replace(recipe, build_critic=None, keep_critic=False, losses=losses, critic_steps=1)


PAPER = Recipe(
    build_generator=network("unet.attention_unet", flat=True, widths=PAPER_WIDTHS),
    build_critic=network("critics.guiding_critic"),
    losses=(
        loss("content", "image.MAE", 1.0),
        loss("ssim", "image.SSIMLoss", 1.0),
        loss("psnr", "image.PSNRLoss", 0.002),
        loss("adversarial", "adversarial.CriticScore", 0.0),
    ),
    upsampled_by="bspline",
    batch=8,
    epochs=100,
    patches=5920,
    each_slice_once=True,
    critic_steps=5,
    refit=False,
    keep_critic=True,
    intensity="unit",
    applied_in_patches=True,
)

FAST = replace(
    OURS,
    build_generator=network(
        "unet.attention_unet",
        flat=True,
        widths=FAST_WIDTHS,
        head="residual",
        sizes="multiple",
    ),
    build_critic=network("critics.guiding_critic", width=16),
    losses=(
        loss("content", "image.MAE", 1.0),
        loss("ssim", "image.SSIMLoss", 0.1),
        loss("adversarial", "adversarial.CriticScore", 0.0),
    ),
    upsampled_by="zerofill",
    iterations=800,
    learning_rate=2e-3,
    critic_learning_rate=2e-4,
    keep_critic=True,
    augmentation=Augmentation(dihedral=True, gain=0.1),
)

METHOD = Method(
    name="attunet",
    ndim=2,
    recipes={"fast": FAST, "paper": PAPER},
    reference="attention_unet",
    article="an",
    summary=(
        "attention U-Net that processes whole slices, with several contrasts as input "
        "channels; a critic is trained only for inspection"
    ),
    trained_on="images",
    fuses=True,
    costs={"fast": Cost(high=620.0, series=1.06)},
)
