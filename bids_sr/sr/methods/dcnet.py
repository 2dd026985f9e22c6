"""A small data-consistent network trained on the subject's own T2*-weighted pair.

It works on the acquired grid, predicts the k-space that was not measured and leaves the acquired
band as it is (`networks.srresnet.SubPixelNet`). The idea of training on a low- and a
high-resolution T2*-weighted image of the same head, and of applying the network to every slice of
the BOLD series, is that of stss-srfmri; network and training are ours. Up to version 0.2 this was
recipe `fast` of the method `srgan`, whose models are loaded as models of `dcnet`.

The loss is squared error. Over five pairs of trainings its adversarial term adds no energy beyond
Nyquist and costs .01 dB, a quarter of the spread of seeds (benchmarks/results/adversarial.md); it
stays because earlier models have it. No refit: measured against true volumes (benchmarks/TRUTH.md)
that gained nothing and would double the time. So the card's held-out metrics are those of the very
model.
"""

from dataclasses import replace

from bids_sr.sr.method import PLACEBOS_OF_A_PAIR, Cost, Method
from bids_sr.sr.recipe import OURS, Augmentation, loss, network

_FAST = replace(
    OURS,
    build_critic=network("critics.PatchCritic"),
    losses=(
        loss("content", "image.MSE", 1.0),
        loss("adversarial", "adversarial.AdversarialBCE", 3e-4),
        loss("perceptual", "perceptual.VGGPerceptual", 1e-4),
    ),
    iterations=800,
    learning_rate=2e-3,
    betas=(0.9, 0.99),
    critic_learning_rate=5e-4,
    adversarial_from=200,
    gradient_limit=0.05,
    augmentation=Augmentation(dihedral=True, shift=1.0, gamma=0.15, gain=0.1, noise=0.01),
)

_NETWORK = (
    "a small data-consistent network that is trained on a low- and a high-resolution image of the"
    " same head, as proposed for fMRI [@stss_srfmri]; it operates on the acquired grid and"
    " predicts only the part of k-space that was not acquired"
)

METHOD = Method(
    name="dcnet",
    ndim=2,
    recipes={"fast": _FAST},
    reference="stss_srfmri",
    summary=(
        "data-consistent network, trained slice by slice on the participant's own "
        "T2*-weighted image pair; the acquired band of k-space is not changed"
    ),
    placebos=PLACEBOS_OF_A_PAIR,
    # from whole runs on grids of many sizes
    costs={"fast": Cost(always=10.0, low=650.0, series=0.33)},
    network_text={"fast": _NETWORK},
)
