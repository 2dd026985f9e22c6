"""The residual network of the mouse paper in two dimensions, for tests of the number of samples.

`paper` is `methods.resnet3d` with kernels of 3 x 3 on slices. The paper used data in two
dimensions to test how many training samples are needed (mouse-sr, section 2.3.3 and table 1: 5,000
and 20,000, which is ``--set patches=5000``). Ours, as the paper gives no network and no size in
two dimensions: kernels and patches (21 x 21) are those of three dimensions without the third.

`fast` is ours: three blocks of 16 channels on whole slices, and the input added to the output.
"""

from dataclasses import replace

from bids_sr.sr.method import Method
from bids_sr.sr.methods import ccnn3d, resnet3d
from bids_sr.sr.recipe import OURS, network

PAPER = replace(resnet3d.PAPER, build_generator=network("resnet2d.ResNet2d", flat=True, width=64))
FAST = replace(
    OURS,
    build_generator=network("resnet2d.ResNet2d", flat=True, width=16, blocks=3, skip=True),
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
