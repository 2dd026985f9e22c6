"""Residual network of the mouse paper: ten volumetric blocks after cubic interpolation.

`paper` follows mouse-sr, section 2.3, and is trained as in `methods.ccnn3d`, with the same choices
of ours. It is intended for transfer learning: the network is trained on many images of one type,
and its last three layers are fine-tuned on a few images of another type (`freeze_but_last`). The
convolutions before and after the residual blocks are ours.

`fast` is ours: three blocks of 16 channels, and the input is added to the output.
"""

from dataclasses import replace

from bids_sr.io.run_time import RunTime
from bids_sr.sr.method import Method
from bids_sr.sr.methods import ccnn3d
from bids_sr.sr.recipe import network

PAPER = replace(ccnn3d.PAPER, build_generator=network("residual.ResNet", width=64))
FAST = replace(
    ccnn3d.FAST,
    build_generator=network("residual.ResNet", width=16, blocks=3, skip=True),
    learning_rate=2e-3,
)

METHOD = Method(
    name="resnet3d",
    ndim=3,
    recipes={"fast": FAST, "paper": PAPER},
    reference="mouse_sr",
    summary=(
        "patch-based network with ten volumetric residual blocks, which can be trained on one "
        "type of image and fine-tuned on another"
    ),
    trained_on="images",
    costs={"fast": RunTime(always=95.0, high=3.0, series=1.15)},
)
