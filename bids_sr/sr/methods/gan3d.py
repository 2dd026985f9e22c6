"""Adversarial network of the mouse paper: `resnet3d` with a critic of ten residual blocks.

Source: mouse-sr, section 2.3.3. The paper does not report the weight of the adversarial term. Ours
is 1e-3 relative to the mean squared error, as in SRGAN. Critic and generator take alternating
steps with the same learning rate. Features are averaged before the dense layer.

`fast` is ours: the generator of `resnet3d` with the recipe `fast`, a critic of two blocks with 8
channels that begins with a stride, and an adversarial term with a tenth of the weight, used from
the 150th step on.
"""

from dataclasses import replace

from bids_sr.io.run_time import RunTime
from bids_sr.sr.method import Method
from bids_sr.sr.methods import resnet3d
from bids_sr.sr.recipe import loss, network

_PAPER = replace(
    resnet3d.PAPER,
    build_critic=network("volumetric.ResNetCritic3d"),
    losses=(*resnet3d.PAPER.losses, loss("adversarial", "adversarial.AdversarialBCE", 1e-3)),
)
_FAST = replace(
    resnet3d.FAST,
    build_critic=network("volumetric.ResNetCritic3d", width=8, blocks=2, stride=2),
    losses=(*resnet3d.FAST.losses, loss("adversarial", "adversarial.AdversarialBCE", 1e-4)),
    critic_learning_rate=5e-4,
    adversarial_from=150,
)

METHOD = Method(
    name="gan3d",
    ndim=3,
    recipes={"fast": _FAST, "paper": _PAPER},
    reference="mouse_sr",
    article="",
    summary="resnet3d trained with a critic; in the paper, errors were larger than without it",
    trained_on="images",
    costs={"fast": RunTime(always=139.0, high=3.0, series=1.0)},
)
