"""SRGAN, trained on the participant's own T2*-weighted image pair (STSS-SRfMRI).

`paper` is the published training (stss-srfmri, "Deep learning-based super-resolution"): 64
channels, 16 blocks, first and last kernels of 9 x 9, Lanczos-3 interpolation before the generator,
a critic of ten convolutions, Adam with beta1 of 0.9 and a learning rate of 1e-4, patches of
64 voxels per side, a batch size of 2, and 100,000 iterations. All slices of the pair are used for
training and for the PSNR in the log. No slices are held out, training does not end early, and the
last weights are kept. The paper says only "SRGAN"; the loss is therefore taken from Ledig et al.
2017, equation 3: VGG-19 features (scaled by 0.006) plus 1e-3 times the adversarial term. Without
VGG-19 weights, squared error replaces the features, as in SRGAN-MSE of Ledig et al. Its weight is
4, because their images have intensities from -1 to 1, and ours from 0 to 1. The following choices
are ours: no augmentation, a constant learning rate, and random initial weights
(Ledig et al. began with a network trained by squared error). In slices without head voxels,
patches may be at any position.

`fast` is our default and has no critic: the same generator with 16 channels and 2 blocks, whose
output is added to its interpolated input, is trained with squared error on whole slices with
flips, shifts and intensity changes, with a one-cycle learning rate. A critic with an eighth of the
published channels, used in the last 250 of 700 steps, did not change the PSNR of held-out slices
and lowered the explained variance of the effects above the acquired Nyquist frequency
(benchmarks/FINDINGS.md). If VGG-19 weights are available, the squared error of their
features (scaled by 0.006) is added. Every fifth slice is held out for scoring only, and the last
weights are kept.
"""

from dataclasses import replace

from bids_sr.io.run_time import RunTime
from bids_sr.sr.method import Method
from bids_sr.sr.recipe import BASE_RECIPE, Augmentation, Recipe, loss, network

PAPER = Recipe(
    build_generator=network("srresnet.SRResNet"),
    build_critic=network("critics.srgan_critic"),
    losses=(
        loss("adversarial", "adversarial.AdversarialBCE", 1e-3),
        loss("perceptual", "perceptual.VGGPerceptual", 0.006),
        # images from -1 to 1, as in Ledig et al., have four times the squared error
        loss("content", "image.MSE", 4.0, stands_in=True),
    ),
    upsampled_by="lanczos",
    patch=64,
    batch=2,
    iterations=100_000,
    learning_rate=1e-4,
    evaluate_every=1000,
    hold_out=0,
    every_slice=True,
)

_FAST = replace(
    BASE_RECIPE,
    build_generator=network("srresnet.SRResNet", width=16, blocks=2, skip=True),
    losses=(
        loss("content", "image.MSE", 1.0),
        loss("perceptual", "perceptual.VGGPerceptual", 0.006),
    ),
    upsampled_by="lanczos",
    iterations=700,
    learning_rate=2e-3,
    keep="last",
    patience=None,
    gradient_limit=0.05,
    augmentation=Augmentation(dihedral=True, shift=1.0, gamma=0.15, gain=0.1, noise=0.01),
    edition=2,
)

_NETWORK = {
    "fast": (
        "a small network based on the generator of a super-resolution method for fMRI"
        " [@stss_srfmri; @srgan], with fewer channels and blocks than the original network and"
        " without an adversarial loss"
    ),
    "paper": "a generative adversarial network [@stss_srfmri; @srgan]",
}

METHOD = Method(
    name="srgan",
    ndim=2,
    recipes={"fast": _FAST, "paper": PAPER},
    reference="stss_srfmri",
    article="an",
    summary=(
        "SRGAN (generative adversarial network), trained slice by slice on the participant's own"
        " pair of T2*-weighted images; with --recipe fast, a smaller network without adversarial"
        " loss"
    ),
    # `fast` was estimated from single steps at two grid sizes relative to dcnet, which was
    # measured in whole runs. A step of `paper` takes .93 to 1.1 s of processor time with one
    # thread; its `series` is from ``benchmarks/results/paper_subject.md``
    costs={
        "fast": RunTime(always=8.0, low=600.0, series=0.35),
        "paper": RunTime(always=100_000.0, series=19.0),
    },
    network_text=_NETWORK,
    labels={"fast": "srgan (fast, no critic)"},
)
