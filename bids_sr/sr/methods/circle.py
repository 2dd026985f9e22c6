"""GAN-CIRCLE: a network to high and a network to low resolution, each with a critic.

`paper` follows gan-cpce-circle, section II, and is trained as in `methods.cpce`, on image pairs.
The loss is as printed in the paper: Wasserstein losses with gradient penalty in both directions; a
cycle term, which compares an image with the result of both networks in succession; and identity
and joint sparsifying terms. Only the joint sparsifying term compares the output with the target.
The paper reports no weights. Ours are 1 for the adversarial terms, 1 for cycles, .5 for identity,
.001 for the sparsifying term with tau .5, and a gradient penalty of 10 (Gulrajani et al. 2017).

`fast` is ours: both networks have a quarter of the width, the main loss is the mean squared error
against the target, and the other terms have small weights.
"""

from dataclasses import replace

from bids_sr.sr.method import Cost, Method
from bids_sr.sr.methods import cpce
from bids_sr.sr.recipe import loss, network

_PAPER = replace(
    cpce.PAPER,
    build_generator=network("circle.CircleNet", flat=True),
    build_critic=network("critics.circle_critic", smallest=32),
    losses=(
        loss("adversarial", "adversarial.AdversarialWasserstein", 1.0),
        loss("cycle", "image.MAE", 1.0),
        loss("identity", "image.MAE", 0.5),
        loss("sparsify", "image.JointSparsify", 1e-3),
    ),
    critic_game="wasserstein-gp",
    objective="cycle",
)

_FAST = replace(
    cpce.FAST,
    build_generator=network(
        "circle.CircleNet",
        flat=True,
        widths=(16, 13, 12, 10, 9, 8, 7, 7, 6, 5, 4, 4),
        branches=(12, 4),
        joined=(16, 8),
        dropout=0.0,
    ),
    build_critic=network("critics.circle_critic", smallest=32, widths=(8, 16, 32, 32), dense=32),
    losses=(
        loss("content", "image.MSE", 1.0),
        loss("adversarial", "adversarial.AdversarialWasserstein", 1e-4),
        loss("cycle", "image.MAE", 1e-3),
        loss("identity", "image.MAE", 5e-4),
        loss("sparsify", "image.JointSparsify", 1e-6),
    ),
    objective="cycle",
)

METHOD = Method(
    name="circle",
    ndim=2,
    recipes={"fast": _FAST, "paper": _PAPER},
    reference="gan_cpce_circle",
    article="",
    summary=(
        "two networks (from low to high resolution, and back) that are linked by cycle "
        "consistency, each with a Wasserstein critic"
    ),
    trained_on="images",
    costs={"fast": Cost(always=192.0, high=2.0, series=0.75)},
)
