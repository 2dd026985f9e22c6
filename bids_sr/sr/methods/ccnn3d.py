"""The mouse paper's conventional network: three 3D convolutions after cubic interpolation.

`paper` is mouse-sr, section 2.3: 64, 32 and 1 channels, kernels of 3, Glorot weights, mean squared
error, Adam at 1e-3, 20,000 patches of 21 voxels, at most 1,000 epochs, an end after 100 without a
gain; downsampled by block averages. The range of each low-resolution image becomes 0 to 1, in
training and when a model is applied, and a model is applied in patches of 21 that are put together
side by side (section 2.3.6). Ours: batches of 32; "each input" is a volume; where the size of the
image is not a multiple of 21, patches share voxels, which are averaged.

`fast` is ours: half of the channels, the input added to the output, so that only the difference is
learned, and zero filling in the place of the cubic interpolation, which leaves the acquired band
as it was measured.
"""

from dataclasses import replace

from bids_sr.sr.method import Cost, Method
from bids_sr.sr.recipe import OURS, Recipe, loss, network

PAPER = Recipe(
    build_generator=network("volumetric.ConventionalNet3d"),
    losses=(loss("content", "image.MSE", 1.0),),
    upsampled_by="bspline",
    patch=21,
    batch=32,
    epochs=1000,
    patches=20_000,
    patience=100,
    refit=False,
    degradation="block",
    intensity="range",
    applied_in_patches=True,
)

FAST = replace(
    OURS,
    build_generator=network("volumetric.ConventionalNet3d", widths=(32, 16), skip=True),
    losses=PAPER.losses,
    upsampled_by="zerofill",
    patch=(48, 48, 16),
    batch=2,
    iterations=600,
    learning_rate=4e-3,
    degradation="block",
)

METHOD = Method(
    name="ccnn3d",
    ndim=3,
    recipes={"fast": FAST, "paper": PAPER},
    reference="mouse_sr",
    summary="patch-based network with three volumetric convolutions, the simplest of the networks",
    trained_on="images",
    costs={"fast": Cost(always=44.0, high=2.0, series=0.65)},
)
