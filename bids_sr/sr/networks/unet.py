"""U-Nets: encoder-decoders with skip connections, gated or plain, from early to late layers.

Source of the plain one: Ronneberger et al. 2015 (unet), figure 1: two 3x3 convolutions with ReLU a
level, 64 to 1024 channels, max pooling down, 2x2 transposed convolutions up. 31.0 million
parameters. Ours: convolutions are zero-padded, so that the output is as large as the input, and
images are zero-padded to sizes that can be halved.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_sr.sr.networks.blocks import zero

Head = Literal["plain", "sigmoid", "residual"]
_Sizes = Literal["power of two", "multiple"]
_Block = Callable[[int, int], nn.Module]
_Gate = Callable[[int], nn.Module]
WIDTHS = (64, 128, 256, 512, 1024)


def _double_convolution(before: int, after: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with ReLU: the block of the original U-Net."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(after, after, 3, padding=1),
        nn.ReLU(),
    )


def _padded_side(side: int, levels: int, sizes: _Sizes) -> int:
    """The smallest side not below `side` that can be halved `levels` times.

    At least two voxels are left at the bottom, for instance norm. "power of two" is the rule of
    the attention U-Net paper (section 3.2); "multiple" of 2 ** levels costs less.
    """
    step = 2**levels
    if sizes == "multiple":
        return max(-(-side // step) * step, 2 * step)
    return max(1 << (side - 1).bit_length(), 2 * step)


class _Merge(nn.Module):
    """One decoder level: transposed convolution to double the grid, skip connection, block."""

    def __init__(self, before: int, after: int, block: _Block, gate: _Gate | None) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(before, after, 2, stride=2)
        self.gate = None if gate is None else gate(after)
        self.block = block(2 * after, after)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        raised = self.up(deep)
        if self.gate is not None:
            skip = self.gate(raised, skip)
        return self.block(torch.cat([raised, skip], dim=1))


class UNet(nn.Module):
    """Images to images of the same size, (N, C, X, Y) -> (N, C, X, Y).

    `widths`: channels of each level, finest first; one level more than there are poolings.
    `block`: (channels before, after) -> the convolutions of one level. `gate`: (channels) ->
    module (raised, skip) -> skip, or None: the skip passes as it is. `head`: "plain": the last
    convolution is the output; "sigmoid": squeezed to (0, 1); "residual": added to the input, and
    nothing at first.
    """

    def __init__(
        self,
        channels: int = 1,
        *,
        widths: Sequence[int] = WIDTHS,
        block: _Block = _double_convolution,
        gate: _Gate | None = None,
        head: Head = "plain",
        sizes: _Sizes = "multiple",
    ) -> None:
        super().__init__()
        self.head, self.sizes = head, sizes
        self.levels = len(widths) - 1
        self.first = block(channels, widths[0])
        self.down = nn.ModuleList(
            [nn.Sequential(nn.MaxPool2d(2), block(a, b)) for a, b in pairwise(widths)]
        )
        self.up = nn.ModuleList(
            [_Merge(b, a, block, gate) for a, b in reversed(list(pairwise(widths)))]
        )
        self.last = nn.Conv2d(widths[0], channels, 1)
        if head == "residual":
            zero(self.last)

    def forward(self, x: Tensor) -> Tensor:
        """Return images of the same size, padded only in between.

        `x`: images on the high-resolution grid (N, C, X, Y).
        """
        rows, columns = x.shape[-2], x.shape[-1]
        more = [_padded_side(side, self.levels, self.sizes) - side for side in (rows, columns)]
        low = [m // 2 for m in more]
        padded = functional.pad(x, (low[1], more[1] - low[1], low[0], more[0] - low[0]))
        features = [self.first(padded)]
        for step in self.down:
            features.append(step(features[-1]))
        deep = features.pop()
        for merge in self.up:
            deep = merge(deep, features.pop())
        out = self.last(deep)[..., low[0] : low[0] + rows, low[1] : low[1] + columns]
        if self.head == "sigmoid":
            return torch.sigmoid(out)
        return x + out if self.head == "residual" else out


def normalized_convolution(before: int, after: int) -> nn.Sequential:
    """Return the paper's block: 3x3 convolution, instance norm, leaky ReLU (section 3.3)."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1), nn.InstanceNorm2d(after), nn.LeakyReLU()
    )


class AttentionGate(nn.Module):
    """A mask between 0 and 1, learned from both inputs (of one size), multiplies the skip.

    mask = sigmoid(psi(relu(a(raised) + b(skip)))), all convolutions 1x1. Source: section 3.7;
    Oktay et al. 2018, equations 1 and 2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.from_raised = nn.Conv2d(channels, channels, 1)
        self.from_skip = nn.Conv2d(channels, channels, 1, bias=False)
        self.to_mask = nn.Conv2d(channels, 1, 1)

    def mask(self, raised: Tensor, skip: Tensor) -> Tensor:
        """Return (N, 1, X, Y) between 0 and 1.

        `raised`: features from the level below, on the same grid (N, C, X, Y). `skip`: features of
        the skip connection (N, C, X, Y). Share of the skip connection that passes at each voxel.
        """
        return torch.sigmoid(
            self.to_mask(torch.relu(self.from_raised(raised) + self.from_skip(skip)))
        )

    def forward(self, raised: Tensor, skip: Tensor) -> Tensor:
        """Return the skip connection, weighted by the mask.

        `raised`: features from the level below, on the same grid (N, C, X, Y). Features of the
        same shape.
        """
        return skip * self.mask(raised, skip)


def attention_unet(
    channels: int = 1,
    *,
    widths: Sequence[int] = WIDTHS,
    head: Head = "sigmoid",
    sizes: _Sizes = "power of two",
) -> UNet:
    """Return a U-Net with attention gates on its skip connections, (N, C, X, Y) -> (N, C, X, Y).

    The gates weigh a skip connection by what is known so far.

    Source: attention_unet (Li et al. 2022), sections 3.3 and 3.7; gates after Oktay et al. 2018. A
    level is one 3x3 convolution with instance norm and leaky ReLU, four levels down by max pooling
    and up by transposed convolution, 64 filters at the top, a sigmoid at the end; gates of 32, 64,
    128 and 256 voxels a side for slices of 256. 16.0 million parameters, fewer than the plain
    U-Net's, as table 1 of the paper says. Ours where it is silent: channels double with each
    level, as in the U-Net; the slope of the leaky ReLU is .01; gates are two 1x1 convolutions,
    their sum through a ReLU and a third 1x1 convolution to one channel, so that one mask serves
    all channels.

    Parameters as of `UNet`; the paper has a sigmoid on images scaled to [0, 1], padded to a power
    of two.
    """
    return UNet(
        channels,
        widths=widths,
        block=normalized_convolution,
        gate=AttentionGate,
        head=head,
        sizes=sizes,
    )
