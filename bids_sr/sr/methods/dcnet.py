"""Small data-consistent network, trained on the participant's own T2*-weighted image pair.

The network operates on the acquired grid, predicts the k-space that was not measured and does not
change the acquired band (`srresnet.SubPixelNet`). As in stss-srfmri, it is trained on a
low- and a high-resolution T2*-weighted image of the same head and applied to every slice of the
BOLD series; the network and its training are ours. Up to version 0.2, it was the recipe `fast` of
the method `srgan`, whose models are loaded as models of `dcnet`.

The loss is mainly the squared error. In five pairs of trainings, the adversarial term added no
energy above the Nyquist frequency and reduced the PSNR by 0.01 dB, a quarter of the spread between
seeds (benchmarks/results/adversarial.md). It is kept for consistency with earlier models. The
network is not retrained on all slices: this had no benefit compared with true volumes
(benchmarks/TRUTH.md), and would double the computing time. Hence, the held-out metrics in the card
describe the stored network.
"""

from dataclasses import replace

from bids_sr.io.run_time import RunTime
from bids_sr.sr.method import Method
from bids_sr.sr.recipe import BASE_RECIPE, Augmentation, loss, network

_FAST = replace(
    BASE_RECIPE,
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
    # costs measured in whole runs with different grid sizes
    costs={"fast": RunTime(always=10.0, low=650.0, series=0.33)},
    network_text={"fast": _NETWORK},
)
