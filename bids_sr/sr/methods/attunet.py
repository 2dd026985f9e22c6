"""Attention U-Net for whole slices of one or several contrasts, with a critic for inspection.

`paper` is the published network: images are interpolated to the high-resolution grid and padded to
a power of two, the last activation is a sigmoid, and training takes 100 epochs with Adam. An epoch
contains each training slice that shows the head once, in random order (5,920 slices in the paper:
148 from each of 40 participants; section 3.2). If the network is trained on patches, an epoch
contains 5,920 patches, drawn once. The loss combines mean absolute error, structural similarity
and PSNR, because the paper selects the model with these three terms (section 4.3). The paper's
supplement was not available, so the following settings are ours: weights of 1, 1 and .002 (at the
35.4 dB reported in the paper, the PSNR term then has the same gradient as the absolute error), a
learning rate of 1e-3, a batch size of 8, and B-spline interpolation before the network. The critic
takes five steps per generator step and has no weight in the generator's loss, because the paper
found no benefit from it. A network that was trained on patches (``--set patch=64``) is applied in
patches of the same size, placed side by side (section 3.6).

`fast` is ours: a quarter of the width, and the network output is added to the interpolated image.
Structural similarity has a smaller weight, because it weights a quiet background as much as the
brain. The PSNR term is omitted.
"""

from dataclasses import replace

from bids_sr.sr.method import Cost, Method
from bids_sr.sr.recipe import BASE_RECIPE, Augmentation, Recipe, loss, network

FAST_WIDTHS = (16, 32, 64, 128, 256)
PAPER_WIDTHS = (64, 128, 256, 512, 1024)


def remove_critic(recipe: Recipe) -> Recipe:
    """Return the recipe without its critic and adversarial terms."""
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
    BASE_RECIPE,
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
