"""U-Net, for comparison with the attention U-Net.

`paper` is the network as published (Ronneberger et al. 2015), 31 million parameters, trained as attention_unet trains
its own (section 4.6): nothing is squeezed or normalized. `fast` is the fast attention U-Net without its gates, and so
tells what they are good for. The critic is left out: nothing is read from it here.
"""

from __future__ import annotations

from dataclasses import replace

from bids_sr.sr.method import Method
from bids_sr.sr.methods.slices import attunet
from bids_sr.sr.networks.attention_unet import normalized_convolution
from bids_sr.sr.networks.unet_generator import UNet
from bids_sr.sr.resolution.degradation import Factor


def _paper_generator(channels: int, factor: Factor) -> UNet:
    attunet.in_plane(factor)
    return UNet(channels)


def _fast_generator(channels: int, factor: Factor) -> UNet:
    attunet.in_plane(factor)
    return UNet(channels, widths=attunet.FAST_WIDTHS, block=normalized_convolution, head="residual")


PAPER = replace(
    attunet.PAPER, build_generator=_paper_generator, build_critic=None, keep_critic=False,
    losses=attunet.without_critic(attunet.PAPER.losses), critic_steps=1,
)  # fmt: skip
FAST = replace(
    attunet.FAST, build_generator=_fast_generator, build_critic=None, keep_critic=False,
    losses=attunet.without_critic(attunet.FAST.losses),
)  # fmt: skip

METHOD = Method(
    name="unet",
    ndim=2,
    needs_pair=True,
    recipes={"fast": FAST, "paper": PAPER},
    reference="unet",
    summary="U-Net on whole slices, the attention U-Net's comparison",
    trained_on="images",
)
