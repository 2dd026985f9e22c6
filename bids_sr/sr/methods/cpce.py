"""GAN-CPCE: encoder-decoder with conveying paths, a Wasserstein critic and VGG-19 features.

`paper` follows gan-cpce-circle, section II. Low-resolution images keep the central quarter of
k-space. Patches have 64 voxels per side (8,000 slices of 256 x 256 voxels contain 128,000
patches). Training takes 100 epochs, with a learning rate of 1e-4 that decreases linearly to 2e-6
from the 51st epoch on.

The paper does not report the following settings, which are ours. The critic's weights are clipped
at 0.01, and the critic takes five steps per generator step (Arjovsky et al. 2017), because the
printed objective has no gradient penalty. Adam uses betas of 0.5 and 0.9, and the batch size is
16. The perceptual term has a weight of 0.1, as in the CT study that introduced it. Without VGG-19
weights, mean squared error replaces the perceptual term, because the critic does not relate the
output to the input.

`fast` is ours: the output of the same generator is added to its input, mean squared error is the
main loss, and a small critic with a gradient penalty is used from the 200th step on.
"""

from dataclasses import replace

from bids_sr.io.run_time import RunTime
from bids_sr.sr.method import Method
from bids_sr.sr.recipe import BASE_RECIPE, Recipe, loss, network

PAPER = Recipe(
    build_generator=network("cpce.CPCENet", smallest=9, width=32),
    build_critic=network("critics.cpce_critic"),
    losses=(
        loss("adversarial", "adversarial.AdversarialWasserstein", 1.0),
        loss("perceptual", "perceptual.VGGPerceptual", 0.1),
        loss("content", "image.MSE", 1.0, stands_in=True),
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
    critic_steps=5,
    hold_out=0,  # all training slices are used, and the network after the last epoch is kept
    keep="last",
)

FAST = replace(
    BASE_RECIPE,
    build_generator=network("cpce.CPCENet", smallest=9, width=32, skip=True),
    build_critic=network("critics.cpce_critic", widths=(8, 16, 32), dense=32),
    losses=(
        loss("content", "image.MSE", 1.0),
        loss("adversarial", "adversarial.AdversarialWasserstein", 1e-4),
        loss("perceptual", "perceptual.VGGPerceptual", 1e-4),
    ),
    upsampled_by="zerofill",
    patch=64,
    iterations=600,
    learning_rate=2e-3,
    betas=(0.9, 0.99),
    critic_learning_rate=5e-4,
    critic_game="wasserstein-gp",
    adversarial_from=200,
    gradient_limit=0.05,
)

METHOD = Method(
    name="cpce",
    ndim=2,
    recipes={"fast": FAST, "paper": PAPER},
    reference="gan_cpce_circle",
    summary="slice-wise encoder-decoder network with conveying paths and a Wasserstein critic",
    trained_on="images",
    simulated_factor=(2.0, 2.0, 1.0),
    costs={"fast": RunTime(always=58.0, high=3.0, series=1.24)},
)
