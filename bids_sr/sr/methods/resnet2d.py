"""Two-dimensional residual network of the mouse paper, used to vary the number of samples.

`paper` is `methods.resnet3d` with kernels of 3 x 3 on slices. The paper used two-dimensional data
to study how many training samples are required (mouse-sr, section 2.3.3 and table 1; for 5,000
instead of 20,000 samples, use ``--set patches=5000``). The paper does not describe the network in
two dimensions. Kernels and patches (21 x 21) are therefore taken from the three-dimensional
network, without the third axis.

`fast` is ours: three blocks of 16 channels on whole slices, and the input is added to the output.
"""

from dataclasses import replace

from bids_sr.sr.method import Method
from bids_sr.sr.methods import ccnn3d, resnet3d
from bids_sr.sr.recipe import BASE_RECIPE, network

PAPER = replace(resnet3d.PAPER, build_generator=network("residual.ResNet", ndim=2, width=64))
FAST = replace(
    BASE_RECIPE,
    build_generator=network("residual.ResNet", ndim=2, width=16, blocks=3, skip=True),
    losses=ccnn3d.PAPER.losses,
    upsampled_by="zerofill",
    iterations=600,
    learning_rate=2e-3,
    degradation="block",
)

METHOD = Method(
    name="resnet2d",
    ndim=2,
    recipes={"fast": FAST, "paper": PAPER},
    reference="mouse_sr",
    summary="two-dimensional version of resnet3d, which processes images slice by slice",
    trained_on="images",
)
