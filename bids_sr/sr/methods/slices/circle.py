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

from bids_sr.sr.method import Cost, Method
from bids_sr.sr.recipe import Augmentation, Recipe, lazy, loss, network

PAPER = Recipe(
    build_generator=network("circle_generators.CircleNet", flat=True),
    build_critic=network("circle_generators.CircleCritic"),
    losses=(
        loss("adversarial", "adversarial.AdversarialWasserstein", 1.0),
        loss("cycle", "pixel.MAE", 1.0),
        loss("identity", "pixel.MAE", 0.5),
        loss("sparsify", "structure.JointSparsify", 1e-3),
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
    build_penalty=lazy("losses.adversarial.GradientPenalty"),
    penalty_weight=10.0,
    critic_steps=5,
    refit=False,
    objective="cycle",
    degradation="kspace",
)

FAST = Recipe(
    build_generator=network(
        "circle_generators.CircleNet",
        flat=True,
        widths=(16, 13, 12, 10, 9, 8, 7, 7, 6, 5, 4, 4),
        branches=(12, 4),
        joined=(16, 8),
        dropout=0.0,
    ),
    build_critic=network("circle_generators.CircleCritic", widths=(8, 16, 32, 32), dense=32),
    losses=(
        loss("content", "pixel.MSE", 1.0),
        loss("adversarial", "adversarial.AdversarialWasserstein", 1e-4),
        loss("cycle", "pixel.MAE", 1e-3),
        loss("identity", "pixel.MAE", 5e-4),
        loss("sparsify", "structure.JointSparsify", 1e-6),
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
    build_penalty=lazy("losses.adversarial.GradientPenalty"),
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
    costs={"fast": Cost(always=192.0, high=2.0, series=0.75)},
)
