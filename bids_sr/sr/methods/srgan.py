"""SRGAN trained on the subject's own T2*-weighted pair (STSS-SRfMRI).

`paper` is the published run (stss-srfmri, "Deep learning-based super-resolution"): 64 channels, 16
blocks, 9 x 9 ends, Lanczos-3 before the generator, a critic of ten convolutions, Adam with beta1
.9 at 1e-4, patches of 64, batches of 2, 100,000 iterations, all slices of the pair for training
and for the PSNR in the log, none held out, no early end, the last weights. The paper says only
"SRGAN": the loss is that of Ledig et al. 2017, equation 3: features of VGG-19 (scaled by .006)
plus 1e-3 of the adversarial term, and nothing else. So it needs weights of VGG-19 and is refused
without. Ours: no augmentation, a constant rate, random weights to begin with (Ledig et al. began
with a network trained by squared error); patches lie anywhere in a slice without any head.

`paper-mse` is what `paper` was at first: squared error beside those terms, and in the place of the
features where there are no weights; slices with less than 2 % head are left out, every fifth slice
is held out, and training on all slices anew ends where those were best.

`fast` is our default, a small SRGAN: the same generator with 16 channels and 2 blocks, the same
critic with an eighth of the channels, whole slices with flips, shifts and changes of intensity, a
one-cycle rate. Ours is its pre-training: squared error alone for the first 450 of 700 steps, as
Ledig et al. 2017 did, then squared error plus 1e-3 of the adversarial term. Ours as well: the
critic begins with the weights of He et al. 2015, because with torch's defaults it did not tell
the images apart within 250 steps. With weights of VGG-19 the squared error of their features
(scaled by .006) joins after the pre-training. Every fifth slice is held out, only to be scored:
the last weights are kept, as those with the best score might be from before the critic. The
critic's rate is the published one: four times as much cost .4 dB on held-out slices
(benchmarks/results/small_srgan.md).
"""

from dataclasses import replace

from bids_sr.sr.method import PLACEBOS_OF_A_PAIR, Cost, Method
from bids_sr.sr.recipe import OURS, Augmentation, Recipe, loss, network

_PAPER = Recipe(
    build_generator=network("srresnet.SRResNet", flat=True),
    build_critic=network("critics.srgan_critic"),
    losses=(
        loss("adversarial", "adversarial.AdversarialBCE", 1e-3),
        loss("perceptual", "perceptual.VGGPerceptual", 0.006),
    ),
    upsampled_by="lanczos",
    patch=64,
    batch=2,
    iterations=100_000,
    learning_rate=1e-4,
    evaluate_every=1000,
    hold_out=0,
    refit=False,
    every_slice=True,
)

_PAPER_MSE = replace(
    _PAPER,
    losses=(loss("content", "image.MSE", 1.0), *_PAPER.losses),
    hold_out=5,
    refit=True,
    every_slice=False,
)

_FAST = replace(
    OURS,
    build_generator=network("srresnet.SRResNet", flat=True, width=16, blocks=2),
    build_critic=network("critics.srgan_critic", widths=(8, 16, 32, 64, 64), dense=64, he=True),
    losses=(
        loss("content", "image.MSE", 1.0),
        loss("adversarial", "adversarial.AdversarialBCE", 1e-3),
        loss("perceptual", "perceptual.VGGPerceptual", 0.006),
    ),
    upsampled_by="lanczos",
    iterations=700,
    learning_rate=2e-3,
    critic_learning_rate=1e-4,
    adversarial_from=450,
    pretrained_by=("content",),
    keep="last",
    patience=None,
    gradient_limit=0.05,
    augmentation=Augmentation(dihedral=True, shift=1.0, gamma=0.15, gain=0.1, noise=0.01),
)

_GAN = "a generative adversarial network [@stss_srfmri; @srgan]"
_NETWORK = {
    "fast": (
        "a small generative adversarial network based on a super-resolution method for fMRI"
        " [@stss_srfmri; @srgan], with fewer channels and blocks than the original network"
    ),
    "paper": _GAN,
    "paper-mse": _GAN,
}

METHOD = Method(
    name="srgan",
    ndim=2,
    recipes={"fast": _FAST, "paper": _PAPER, "paper-mse": _PAPER_MSE},
    reference="stss_srfmri",
    article="an",
    summary=(
        "SRGAN (generative adversarial network), trained slice by slice on the participant's own"
        " pair of T2*-weighted images; with --recipe fast, a smaller network"
    ),
    placebos=PLACEBOS_OF_A_PAIR,
    # `fast` from steps at two sizes beside those of dcnet, whose costs are of whole runs; the
    # others from ``benchmarks/results/paper_subject.md``
    costs={
        "fast": Cost(always=14.0, low=850.0, series=0.35),
        "paper": Cost(always=250_000.0, series=19.0),
        "paper-mse": Cost(always=192_000.0, series=19.0),
    },
    network_text=_NETWORK,
)
