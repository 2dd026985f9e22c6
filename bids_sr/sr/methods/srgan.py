"""A network trained on the subject's own T2*-weighted pair (STSS-SRfMRI), after SRGAN.

`paper` is the published run (stss-srfmri, "Deep learning-based super-resolution"): 64 channels, 16
blocks, 9 x 9 ends, Lanczos-3 before the generator, a critic of ten convolutions, Adam with beta1
.9 at 1e-4, patches of 64, batches of 2, 100,000 iterations, all slices of the pair (that show the
head), none held out, no early end, the last weights. The paper says only "SRGAN": the loss is that
of Ledig et al. 2017, equation 3: features of VGG-19 (scaled by .006) plus 1e-3 of the adversarial
term, and nothing else. So it needs weights of VGG-19 and is refused without. Ours: no
augmentation, a constant rate, random weights to begin with (Ledig et al. began with a network
trained by squared error).

`paper-mse` is what `paper` was at first: squared error beside those terms, and in the place of the
features where there are no weights; every fifth slice is held out, and training on all slices anew
ends where those were best.

`fast` is our default: a network that works on the acquired grid and leaves the acquired band of
k-space as it was measured (`networks.residual2d`), trained by squared error: over five pairs of
trainings its adversarial term adds no energy beyond Nyquist and costs .01 dB, a quarter of the
spread of seeds (benchmarks/results/adversarial.md); it stays because earlier models have it. No
refit: measured against true volumes (benchmarks/TRUTH.md) that gained nothing and would double the
time. So the card's held-out metrics are those of the very model.
"""

from dataclasses import replace

from bids_sr.sr.method import PLACEBOS_OF_A_PAIR, Cost, Method
from bids_sr.sr.recipe import OURS, Augmentation, Recipe, loss, network

_PAPER = Recipe(
    build_generator=network("convolutional.SRResNet", flat=True),
    build_critic=network("convolutional.srgan_critic"),
    losses=(
        loss("adversarial", "AdversarialBCE", 1e-3),
        loss("perceptual", "VGGPerceptual", 0.006),
    ),
    upsampled_by="lanczos",
    patch=64,
    batch=2,
    iterations=100_000,
    learning_rate=1e-4,
    evaluate_every=1000,
    hold_out=0,
    refit=False,
)

_PAPER_MSE = replace(
    _PAPER,
    losses=(loss("content", "MSE", 1.0), *_PAPER.losses),
    hold_out=5,
    refit=True,
)

FAST = replace(
    OURS,
    build_critic=network("convolutional.PatchCritic"),
    losses=(
        loss("content", "MSE", 1.0),
        loss("adversarial", "AdversarialBCE", 3e-4),
        loss("perceptual", "VGGPerceptual", 1e-4),
    ),
    iterations=800,
    learning_rate=2e-3,
    betas=(0.9, 0.99),
    critic_learning_rate=5e-4,
    adversarial_from=200,
    gradient_limit=0.05,
    augmentation=Augmentation(dihedral=True, shift=1.0, gamma=0.15, gain=0.1, noise=0.01),
)

_GAN = "a generative adversarial network [@stss_srfmri; @srgan]"
_NETWORK = {
    "fast": (
        "a small data-consistent network after a super-resolution method for fMRI [@stss_srfmri];"
        " unlike the network of that method, it works on the acquired grid and predicts only the"
        " unmeasured band of k-space"
    ),
    "paper": _GAN,
    "paper-mse": _GAN,
}

METHOD = Method(
    name="srgan",
    ndim=2,
    recipes={"fast": FAST, "paper": _PAPER, "paper-mse": _PAPER_MSE},
    reference="stss_srfmri",
    summary=(
        "network trained on the participant's own T2*-weighted pair, slice by slice;"
        " adversarial in effect only with --recipe paper"
    ),
    placebos=PLACEBOS_OF_A_PAIR,
    # `fast` from whole runs on grids of many sizes, the others from
    # ``benchmarks/results/paper_subject.md``
    costs={
        "fast": Cost(always=10.0, low=650.0, series=0.33),
        "paper": Cost(always=250_000.0, series=19.0),
        "paper-mse": Cost(always=192_000.0, series=19.0),
    },
    network_text=_NETWORK,
)
