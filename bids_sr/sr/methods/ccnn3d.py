"""Conventional network of the mouse paper: three 3D convolutions after cubic interpolation.

`paper` follows mouse-sr, section 2.3. The network has 64, 32 and 1 channels, kernels of size 3 and
Glorot weights. It is trained with mean squared error and Adam (learning rate 1e-3) on 20,000
patches of 21 voxels per side, for at most 1,000 epochs, and stops after 100 epochs without
improvement. Images are downsampled by block averaging. The range of each low-resolution image is
scaled to 0 to 1, in training and in application. The model is applied in patches of 21 voxels,
placed side by side (section 2.3.6).

Our choices: the batch size is 32, "each input" is understood as a volume, and if the image size is
not a multiple of 21, patches overlap and overlapping voxels are averaged.

`fast` is ours: half of the channels, and the input is added to the output, so that only the
difference is learned. Zero filling replaces cubic interpolation, because it preserves the acquired
band.
"""

from dataclasses import replace

from bids_sr.io.run_time import RunTime
from bids_sr.sr.method import Method
from bids_sr.sr.recipe import BASE_RECIPE, Recipe, loss, network

PAPER = Recipe(
    build_generator=network("volumetric.ConventionalNet3d"),
    losses=(loss("content", "image.MSE", 1.0),),
    upsampled_by="bspline",
    patch=21,
    batch=32,
    epochs=1000,
    patches=20_000,
    patience=100,
    degradation="block",
    intensity="range",
    applied_in_patches=True,
)

FAST = replace(
    BASE_RECIPE,
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
    costs={"fast": RunTime(always=44.0, high=2.0, series=0.65)},
)
