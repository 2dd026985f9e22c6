"""The conventional network of the mouse paper: three volumetric convolutions behind a cubic interpolation.

`paper` is mouse-sr, section 2.3: 64, 32 and 1 channels, kernels of 3, Glorot weights, mean squared error, Adam at 1e-3,
20,000 patches of 21 voxels, at most 1,000 epochs, an end after 100 without a gain; coarse images by block averaging.
Ours: batches of 32, and the largest value of the coarse image as what becomes 1 ("ranging [0, 1]").

`fast` is ours: half of the channels, the input added to the output, so that only the difference is learned, and zero
filling in the place of the cubic interpolation, which leaves a scanner's coarse image as it was measured.
"""

from __future__ import annotations

from bids_sr.sr.losses.mse import MSE
from bids_sr.sr.method import Augmentation, LossTerm, Method, Recipe
from bids_sr.sr.networks.srcnn3d import ConventionalNet3d
from bids_sr.sr.resolution.degradation import Factor


def _paper_generator(channels: int, _factor: Factor) -> ConventionalNet3d:
    return ConventionalNet3d(channels)


def _fast_generator(channels: int, _factor: Factor) -> ConventionalNet3d:
    return ConventionalNet3d(channels, widths=(32, 16), skip=True)


PAPER = Recipe(
    build_generator=_paper_generator,
    build_critic=None,
    losses=(LossTerm(kind="content", build=MSE, weight=1.0),),
    upsampled_by="bspline",
    patch=21,
    batch=32,
    epochs=1000,
    patches=20_000,
    learning_rate=1e-3,
    patience=100,
    refit=False,
    degradation="block",
    intensity="unit",
)

FAST = Recipe(
    build_generator=_fast_generator,
    build_critic=None,
    losses=PAPER.losses,
    upsampled_by="zerofill",
    patch=(48, 48, 16),
    batch=2,
    iterations=600,
    learning_rate=4e-3,
    schedule="one-cycle",
    gradient_limit=1.0,
    background=0.1,
    evaluate_every=50,
    patience=8,
    refit=False,
    degradation="block",
    augmentation=Augmentation(dihedral=True),
)

METHOD = Method(
    name="ccnn3d",
    ndim=3,
    needs_pair=True,
    recipes={"fast": FAST, "paper": PAPER},
    reference="mouse_sr",
    summary="three volumetric convolutions on patches; the plainest network there is",
    trained_on="images",
)
