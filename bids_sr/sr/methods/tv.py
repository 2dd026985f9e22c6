"""Self-supervised volumetric super-resolution with a total variation prior.

No high-resolution images are required: the output is downsampled by an assumed degradation B and
compared with the input. The loss for an input x and output f(x) is |x - B f(x)|^2 + alpha
TV(f(x)). Its second term, total variation, suppresses noise in the components that B removes.

`paper` follows tv-self-sr: equation 2 with alpha 0.01, ten residual layers after trilinear
interpolation, Adam with a learning rate of 1e-3, which is halved after five epochs without
improvement, and whole volumes drawn at random from the runs. Both terms are sums, divided by the
number of acquired voxels (`SummedVariation`). The following settings are not in the paper and have
the values of the authors' code (zalteck/TV-Deep-SR-fMRI): width and connections of the network
(`ScaledResNet3d`), a maximum of 1 for the low-resolution volume, one volume per step, 200 epochs,
trilinear downsampling without a filter as B, and gradients that are clipped at a norm of 1e5. In
the code, an epoch contains one volume of each run. The authors trained on eight participants with
four runs each, so an epoch has 32 volumes here. No volumes are held out, because the plateau is
detected in the training loss.

The code differs from the paper in three settings: twelve blocks, squared differences with a weight
of 0.07 instead of total variation, and a constant learning rate. They can be set with ``--set
blocks=12 tv=0 squared_tv=.07 plateau_patience=1000``. Its loss is a mean over the voxels of each
grid: for a factor of 2 along all axes, ``--set tv=0.00125``. The code pads images whose size the
factor does not divide, the recipe crops them around the center. The weights with the smallest
training loss are kept.

`fast` is ours: each term is a mean over the voxels of its own grid (`TotalVariation`), the network
has four dense layers of eight channels and is trained for 400 steps, each on a window of up to 128
x 128 x 16 high-resolution voxels; zero filling replaces trilinear interpolation, and B crops
k-space, as a scanner does, because a wrong B costs more than the network gains. The crop is exact
only for whole slices: on smaller windows, it is a different operator, and the network could learn
edge effects. Slices with a side of more than 128 voxels are cut nevertheless, which limits the
cost of a step.
"""

from dataclasses import replace

from bids_sr.io.run_time import RunTime
from bids_sr.sr.method import Method
from bids_sr.sr.recipe import BASE_RECIPE, Recipe, loss, network

_ALPHA = 0.01
MAX_MILLION_VOXELS = 128 * 128 * 35 / 1e6
"""Number of voxels (millions) above which the cost of `fast` no longer increases: a step uses at
most 16 slices of 128 x 128 voxels (costs were measured with 35 slices).
"""

PAPER = Recipe(
    build_generator=network("volumetric.ScaledResNet3d", width=96, blocks=10),
    losses=(
        loss("content", "image.MSE", 1.0),
        loss("tv", "image.SummedVariation", _ALPHA),
    ),
    upsampled_by="linear",
    batch=1,
    epochs=200,
    patches=32,
    schedule="plateau",
    hold_out=0,
    objective="self",
    degradation="trilinear",
    intensity="unit",
    gradient_limit=1e5,
    edition=2,
)

FAST = replace(
    BASE_RECIPE,
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

FAST_ON_PATCHES = replace(FAST, patch=(48, 48, 16), batch=2, iterations=600)
"""Recipe of the supervised versions, which compare high-resolution images and can use small
patches.
"""

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
    needs_much_memory=True,
    costs={"fast": RunTime(high=595.0, series=1.03, most=MAX_MILLION_VOXELS)},
)
