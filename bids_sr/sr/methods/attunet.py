"""Attention U-Net for whole slices of one or several contrasts, with a critic for inspection.

`paper` is the published network: images are interpolated to the high-resolution grid and padded to
a power of two, the last activation is a sigmoid, and training takes 100 epochs with Adam. An epoch
contains each training slice that shows the head once, in random order (5,920 slices in the paper:
148 from each of 40 participants; section 3.2). If the network is trained on patches, an epoch
contains 5,920 patches, drawn once. The critic takes five steps per generator step and has no
weight in the generator's loss, because the paper found no benefit from it. A network that was
trained on patches (``--set patch=64``) is applied in patches of the same size, placed side by side
(section 3.6).

The paper lists four objectives (section 3.4) and refers to a supplement for the configuration,
which was not available to us. The loss is that of section 4.3: MAE, SSIM and PSNR, with our
weights of 1, 1 and 0.002 per dB. The authors' code (bryanlimy/clinical-super-mri) takes the
cross-entropy (``--set bce=1 mae=0 ssim=0 psnr=0``). The following settings have the values of this
code: batches of 32 slices; a learning rate of 1e-3, which is halved every 20 epochs; a critic with
a learning rate of 2e-4 and betas of 0.5 and 0.999; and normalized attention gates.
B-spline interpolation before the network is ours. The code has two convolutions per level (print
and recipe: one; ``--set convolutions=2``), 16 filters in its README, early stopping from the 50th
epoch on, and one critic step. Its critic has one convolution and one block with dropout of 0.2;
the recipe has the printed critic with the slope and last activation of the code. The printed NMSE
of 4.32e-10 agrees with the PSNR only if the ratio of sums is divided by the number of values: for
it, divide `nmse` by 3 x 148 x 137 x 135; `nmse_voxel` is equation 3.

`fast` is ours: a quarter of the width, and the network output is added to the interpolated image.
Structural similarity has a smaller weight, because it weights a quiet background as much as the
brain. The PSNR term is omitted.
"""

from dataclasses import replace

from bids_sr.io.run_time import RunTime
from bids_sr.sr.method import Method
from bids_sr.sr.recipe import BASE_RECIPE, Augmentation, Recipe, loss, network

FAST_WIDTHS = (16, 32, 64, 128, 256)
PAPER_WIDTHS = (64, 128, 256, 512, 1024)
PAPER = Recipe(
    build_generator=network(
        "unet.attention_unet",
        widths=PAPER_WIDTHS,
        convolutions=1,
        normalized_gates=True,
    ),
    build_critic=network("critics.guiding_critic", slope=0.01, activated=True),
    losses=(
        loss("content", "image.MAE", 1.0),
        loss("ssim", "image.SSIMLoss", 1.0),
        loss("psnr", "image.PSNRLoss", 0.002),
        loss("adversarial", "adversarial.CriticScore", 0.0),
    ),
    upsampled_by="bspline",
    batch=32,
    epochs=100,
    patches=5920,
    schedule="step-decay",
    decay_every=20,
    decay_factor=0.5,
    each_slice_once=True,
    critic_learning_rate=2e-4,
    critic_betas=(0.5, 0.999),
    critic_steps=5,
    keep_critic=True,
    intensity="unit",
    applied_in_patches=True,
    edition=2,
)

FAST = replace(
    BASE_RECIPE,
    build_generator=network(
        "unet.attention_unet",
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
    fuses_contrasts=True,
    paper_precision="mixed",
    costs={"fast": RunTime(high=620.0, series=1.06)},
)


def remove_critic(recipe: Recipe) -> Recipe:
    """Return the recipe without its critic and adversarial terms."""
    losses = tuple(term for term in recipe.losses if term.kind != "adversarial")
    return replace(
        recipe,
        build_critic=None,
        keep_critic=False,
        losses=losses,
        critic_steps=1,
        critic_betas=None,
    )
