"""GAN-CPCE: an encoder-decoder with conveying paths, a Wasserstein critic and features of VGG-19.

`paper` is gan-cpce-circle, section II: low-resolution images that keep the central quarter of
k-space, patches of 64 (8,000 slices of 256 x 256 hold 128,000 of them), 100 epochs at 1e-4, from
the 51st in a line to 2e-6. Ours, as the paper is silent: the critic's weights are clipped at .01
and it takes five steps to the generator's one (Arjovsky et al. 2017, as the printed objective has
no penalty); Adam with betas .5 and .9; batches of 16; the perceptual term weighs .1 as in the CT
work it comes from. Without VGG-19's weights mean squared error stands in: a critic alone would not
tie the output to the input.

`fast` is ours: the same generator added to its input, mean squared error first, and a small critic
with a gradient penalty from the 200th step on.
"""

from dataclasses import replace

from bids_sr.sr.method import Cost, Method
from bids_sr.sr.recipe import OURS, Recipe, loss, network

PAPER = Recipe(
    build_generator=network("cpce.CPCENet", flat=True, smallest=9, width=32),
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
    refit=False,
    hold_out=0,  # all training slices are used, and the network after the last epoch is kept
    keep="last",
)

FAST = replace(
    OURS,
    build_generator=network("cpce.CPCENet", flat=True, smallest=9, width=32, skip=True),
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
    costs={"fast": Cost(always=58.0, high=3.0, series=1.24)},
)
