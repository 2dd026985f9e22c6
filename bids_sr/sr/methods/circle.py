"""GAN-CIRCLE: a network to high and a network to low resolution, each with a critic.

`paper` follows gan-cpce-circle, section II, and is trained as in `methods.cpce`, on image pairs.
The loss is as printed in the paper: Wasserstein losses with gradient penalty in both directions; a
cycle term, which compares an image with the result of both networks in succession; and identity
and joint sparsifying terms. Only the joint sparsifying term compares the output with the target.
The paper refers to a CT paper (You et al. 2020). Settings that it does not state have the values
of the code of the CT paper (charlesyou999648/GAN-CIRCLE): the numbers of filters, the weights of
the terms with tau 0.1, a gradient penalty of 1, one critic step per generator step, batches of 64
patches, and Adam with betas of 0.5 and 0.999. The code sums over the voxels of a batch and divides
by 128 (cycle, counted twice), 256 (identity) and 20 (sparsifying term). Relative to means over 64
patches of 64 x 64 voxels, all weights are divided by 2048 here, which does not change the steps of
Adam. The code has a learning rate of 1e-5 for up to 150 epochs (``--set learning_rate=1e-5
epochs=150``), unpaired images with flips, dropout that is never active (ours: 0.2), a critic whose
last layer is a convolution (print: two dense layers, ours 1,024 and 1 units), a gradient penalty
on single rows, and the joint sparsifying term of G(y) and F(x). Recipe `paper` follows the print
in these. Generated images of earlier steps, which the code shows to the critic, are not used.

`fast` is ours: both networks have few filters and no stride, the main loss is the mean squared
error against the target, and the other terms have small weights.
"""

from dataclasses import replace

from bids_sr.io.run_time import RunTime
from bids_sr.sr.method import Method
from bids_sr.sr.methods import cpce
from bids_sr.sr.recipe import loss, network

_PAPER = replace(
    cpce.PAPER,
    build_generator=network("circle.CircleResamplingNet"),
    build_critic=network("critics.circle_critic", smallest=32, last_stride=1),
    losses=(
        loss("adversarial", "adversarial.AdversarialWasserstein", 1 / 2048),
        loss("cycle", "image.MAE", 2.0),
        loss("identity", "image.MAE", 0.5),
        loss("sparsify", "image.JointSparsify", 6.4, tau=0.1),
    ),
    batch=64,
    betas=(0.5, 0.999),
    critic_game="wasserstein-gp",
    critic_steps=1,
    penalty_weight=1.0,
    objective="cycle",
    edition=2,
)

_FAST = replace(
    cpce.FAST,
    build_generator=network(
        "circle.CircleNet",
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
    simulated_factor=(2.0, 2.0, 1.0),
    costs={"fast": RunTime(always=192.0, high=2.0, series=0.75)},
)
