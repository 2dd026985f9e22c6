"""Self-supervised 3D super-resolution with a total variation prior, without high-res images.

The output is downsampled by an assumed degradation B and compared with the input; total variation
keeps what B does not see from being noise: |x - B f(x)|^2 + alpha TV(f(x)).

`paper` is tv-self-sr: equation 2 with alpha .01, ten dense residual layers behind a trilinear
interpolation, Adam at 1e-3, halved after five epochs without a gain, whole volumes drawn at random
from the runs. Both terms are sums, divided by the number of acquired voxels (`SummedVariation`).
Ours, as the paper is silent: intensities are scaled to the 99th percentile of the mask (alpha
depends on their unit), a step sees one volume, an epoch 100 of them, training ends after 100
epochs, and B is a Gaussian as wide as the acquired voxel followed by decimation. Nothing is held
out: the training loss itself tells of a plateau.

`fast` is ours: each term is a mean over the voxels of its own grid (`TotalVariation`), four layers
of eight channels on whole planes of 16 slices, 400 steps, zero filling in the place of the
trilinear interpolation, and a B that crops k-space, as a scanner does. A B that is not what
happened costs more than the network gains (benchmarks/results/tv_images.md). The crop acts on
whole planes: on smaller patches it is another operator, and the network learns their edges.
"""

from dataclasses import replace

from bids_sr.sr.method import Cost, Method
from bids_sr.sr.recipe import OURS, Recipe, loss, network

_ALPHA = 0.01
# millions of voxels that steps of `fast` see at most: 16 slices of 128 x 128, measured on 35
# slices, twice a step's
PLANES = 128 * 128 * 35 / 1e6


PAPER = Recipe(
    build_generator=network("volumetric.DenseResidualNet", width=32),
    losses=(
        loss("content", "image.MSE", 1.0),
        loss("tv", "image.SummedVariation", _ALPHA),
    ),
    upsampled_by="linear",
    batch=1,
    epochs=100,
    patches=100,
    schedule="plateau",
    hold_out=0,
    refit=False,
    objective="self",
    degradation="gauss",
)

FAST = replace(
    OURS,
    build_generator=network("volumetric.DenseResidualNet", width=8, layers=4),
    losses=(
        loss("content", "image.MSE", 1.0),
        loss("tv", "image.TotalVariation", _ALPHA),
    ),
    upsampled_by="zerofill",
    patch=(128, 128, 16),
    patch_at_most=True,
    batch=1,
    iterations=400,
    learning_rate=4e-3,
    background=1.0,
    patience=None,
    hold_out=0,
    objective="self",
)

# for its supervised twins, which compare at high resolution, so that parts of volumes do
FAST_PARTS = replace(FAST, patch=(48, 48, 16), batch=2, iterations=600)

METHOD = Method(
    name="tv",
    ndim=3,
    recipes={"fast": FAST, "paper": PAPER},
    reference="tv_self_sr",
    summary=(
        "network with a total-variation prior, trained without high-resolution images; the "
        "output is smooth except at edges and matches the acquired volumes after downsampling"
    ),
    trained_on="self",
    large=True,
    costs={"fast": Cost(high=595.0, series=1.03, most=PLANES)},
)
