"""Attention U-Net: gates weigh the skip connections by what is known so far.

Source: attention_unet (Li et al. 2022), sections 3.3 and 3.7; gates after Oktay et al. 2018. A level is one 3x3
convolution with instance norm and leaky ReLU, four levels down by max pooling and up by transposed convolution, 64
filters at the top, a sigmoid at the end; gates of 32, 64, 128 and 256 voxels a side for slices of 256. 16.0 million
parameters, fewer than the plain U-Net's, as table 1 of the paper says. Ours where it is silent: channels double with
each level, as in the U-Net; the slope of the leaky ReLU is .01; gates are two 1x1 convolutions, their sum through a
ReLU and a third 1x1 convolution to one channel, so that one mask serves all channels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bids_sr.sr.networks.unet_generator import WIDTHS, Head, Sizes, UNet


def normalized_convolution(before: int, after: int) -> nn.Sequential:
    """3x3 convolution, instance norm, leaky ReLU: the convolutional block of the paper (section 3.3)."""
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.InstanceNorm2d(after), nn.LeakyReLU())


class AttentionGate(nn.Module):
    """A mask between 0 and 1, learned from both inputs (of one size), multiplies the skip.

    mask = sigmoid(psi(relu(a(raised) + b(skip)))), all convolutions 1x1. Source: section 3.7; Oktay et al. 2018,
    equations 1 and 2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.from_raised = nn.Conv2d(channels, channels, 1)
        self.from_skip = nn.Conv2d(channels, channels, 1, bias=False)
        self.to_mask = nn.Conv2d(channels, 1, 1)

    def mask(self, raised: Tensor, skip: Tensor) -> Tensor:
        """(N, 1, X, Y) between 0 and 1."""
        return torch.sigmoid(self.to_mask(torch.relu(self.from_raised(raised) + self.from_skip(skip))))

    def forward(self, raised: Tensor, skip: Tensor) -> Tensor:
        return skip * self.mask(raised, skip)


class AttentionUNet(UNet):
    """(N, C, X, Y) -> (N, C, X, Y); all contrasts in, all contrasts out.

    Parameters as of `UNet`; the paper has a sigmoid on images scaled to [0, 1], padded to a power of two.
    """

    def __init__(
        self, channels: int = 1, *, widths: Sequence[int] = WIDTHS, head: Head = "sigmoid", top: float = 1.0,
        sizes: Sizes = "power of two",
    ) -> None:  # fmt: skip
        super().__init__(
            channels, widths=widths, block=normalized_convolution, gate=AttentionGate, head=head, top=top, sizes=sizes
        )

    @property
    def gates(self) -> tuple[AttentionGate, ...]:
        """The gates in the order in which they act, coarse to fine."""
        return tuple(module for module in self.modules() if isinstance(module, AttentionGate))
