"""U-Nets: encoder-decoders with plain or gated skip connections.

The plain U-Net follows Ronneberger et al. 2015 (unet), figure 1: two 3x3 convolutions with ReLU
per level, 64 to 1024 channels, max pooling for downsampling, and 2x2 transposed convolutions for
upsampling. It has 31.0 million parameters. Our choices: convolutions are zero-padded, so that
output and input have the same size, and images are zero-padded to sizes that can be halved.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_sr.sr.networks.architectures.blocks import init_zero

OutputLayer = Literal["plain", "sigmoid", "residual"]
_ImageSizes = Literal["power of two", "multiple"]
_BlockFactory = Callable[[int, int], nn.Module]
_GateFactory = Callable[[int], nn.Module]
WIDTHS = (64, 128, 256, 512, 1024)
"""Channels of each level of the published network, from high to low resolution."""


def _double_convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return the block of the original U-Net: two 3x3 convolutions, each with ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
        nn.ReLU(),
    )


class UNet(nn.Module):
    """U-Net between images of the same size (N, C, X, Y).

    `widths` are the channels of each level, from high to low resolution; there is one level more
    than poolings. `block` returns the convolutions of a level from input and output channels.
    `gate` returns, from channels, a module that weights the skip connection, given the upsampled
    features and the skip connection; None leaves the skip connection unchanged. The last
    convolution is the output if `head` is "plain". Its sigmoid is the output for "sigmoid". For
    "residual", it is added to the input, and its weights are zero at first. `sizes` is the rule
    for the padded image size.
    """

    def __init__(
        self,
        channels: int = 1,
        *,
        widths: Sequence[int] = WIDTHS,
        block: _BlockFactory = _double_convolution,
        gate: _GateFactory | None = None,
        head: OutputLayer = "plain",
        sizes: _ImageSizes = "multiple",
    ) -> None:
        super().__init__()
        self.head, self.sizes = head, sizes
        self.levels = len(widths) - 1
        self.first = block(channels, widths[0])
        self.down = nn.ModuleList(
            [
                nn.Sequential(nn.MaxPool2d(2), block(width, lower_width))
                for width, lower_width in pairwise(widths)
            ]
        )
        self.up = nn.ModuleList(
            [
                _Merge(lower_width, width, block, gate)
                for lower_width, width in pairwise(reversed(widths))
            ]
        )
        self.last = nn.Conv2d(widths[0], channels, 1)
        if head == "residual":
            init_zero(self.last)

    def forward(self, x: Tensor) -> Tensor:
        """Return images of the same size; padding is removed from the output."""
        rows, columns = x.shape[-2], x.shape[-1]
        row_padding, column_padding = (
            _find_padded_side(side, self.levels, self.sizes) - side for side in (rows, columns)
        )
        top, left = row_padding // 2, column_padding // 2
        padded_image = functional.pad(x, (left, column_padding - left, top, row_padding - top))
        encoder_maps = [self.first(padded_image)]
        for level in self.down:
            encoder_maps.append(level(encoder_maps[-1]))
        features = encoder_maps.pop()
        for merge in self.up:
            features = merge(features, encoder_maps.pop())
        output = self.last(features)[..., top : top + rows, left : left + columns]
        if self.head == "sigmoid":
            return torch.sigmoid(output)
        return x + output if self.head == "residual" else output


class _Merge(nn.Module):
    """Decoder level: transposed convolution that doubles the grid, skip connection, and block."""

    def __init__(
        self, in_channels: int, out_channels: int, block: _BlockFactory, gate: _GateFactory | None
    ) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.gate = None if gate is None else gate(out_channels)
        self.block = block(2 * out_channels, out_channels)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        upsampled = self.up(features)
        if self.gate is not None:
            skip = self.gate(upsampled, skip)
        return self.block(torch.cat([upsampled, skip], dim=1))


def _find_padded_side(side: int, levels: int, sizes: _ImageSizes) -> int:
    """Return the smallest size of at least `side` that can be halved `levels` times.

    At least two voxels remain at the lowest level, as required by instance normalization. The rule
    "power of two" is from the attention U-Net paper (section 3.2). The rule "multiple" results in
    a multiple of 2 ** levels, which requires less computation.
    """
    step = 2**levels
    if sizes == "multiple":
        return max(-(-side // step) * step, 2 * step)
    return max(1 << (side - 1).bit_length(), 2 * step)


class AttentionGate(nn.Module):
    """Attention gate that multiplies a skip connection by a learned mask between 0 and 1.

    The mask is sigmoid(psi(relu(a(upsampled) + b(skip)))) with 1x1 convolutions a, b and psi.
    Source: attention_unet, section 3.7; Oktay et al. 2018, equations 1 and 2.

    `channels` is the number of channels of both inputs. If `normalized`, instance normalization
    follows each of the convolutions, as in the code of Li et al. 2022. It has no weights.
    """

    def __init__(self, channels: int, *, normalized: bool = False) -> None:
        super().__init__()
        self.norm: Callable[[Tensor], Tensor] = (
            functional.instance_norm if normalized else nn.Identity()
        )
        self.from_raised = nn.Conv2d(channels, channels, 1)
        self.from_skip = nn.Conv2d(channels, channels, 1, bias=False)
        self.to_mask = nn.Conv2d(channels, 1, 1)

    def mask(self, upsampled: Tensor, skip: Tensor) -> Tensor:
        """Return the fraction of the skip connection that passes at each voxel (N, 1, X, Y).

        `upsampled` are features of the level below, and `skip` features of the skip connection (N,
        C, X, Y).
        """
        norm = self.norm
        features = torch.relu(norm(self.from_raised(upsampled)) + norm(self.from_skip(skip)))
        return torch.sigmoid(norm(self.to_mask(features)))

    def forward(self, upsampled: Tensor, skip: Tensor) -> Tensor:
        """Return the skip connection, weighted by the mask."""
        return skip * self.mask(upsampled, skip)


def attention_unet(
    channels: int = 1,
    *,
    widths: Sequence[int] = WIDTHS,
    convolutions: int = 1,
    normalized_gates: bool = False,
    head: OutputLayer = "sigmoid",
    sizes: _ImageSizes = "power of two",
) -> UNet:
    """Return a U-Net with attention gates on its skip connections.

    Source: attention_unet (Li et al. 2022), sections 3.3 and 3.7; gates after Oktay et al. 2018.
    Each level is one 3x3 convolution with instance normalization and leaky ReLU. There are four
    levels of max pooling and transposed convolution, 64 filters at the highest resolution, a final
    sigmoid, and gates at 32, 64, 128 and 256 voxels per side for slices of 256 voxels. The network
    has 16.0 million parameters, fewer than the plain U-Net, as stated for table 1 of the paper. In
    the code of the authors, each level has two convolutions, and the network has 31.7 million
    parameters, more than the plain U-Net.

    The following details are not in the paper and are taken from the code of the authors. The
    number of channels doubles with each level, as in the U-Net. The slope of the leaky ReLU is
    .01. A gate consists of two 1x1 convolutions, whose sum passes a ReLU and a third 1x1
    convolution to one channel, so that one mask applies to all channels.

    `widths` are the channels of each level, from high to low resolution, and `convolutions` is the
    number of convolutions per level, 1 or 2. `normalized_gates` normalizes the convolutions of the
    gates, as in the code of the authors. The output layer `head` is described in `UNet`. `sizes`
    is the rule for the padded image size, a power of two in the paper.
    """
    return UNet(
        channels,
        widths=widths,
        block={1: normalized_convolution, 2: normalized_convolutions}[convolutions],
        gate=partial(AttentionGate, normalized=normalized_gates),
        head=head,
        sizes=sizes,
    )


def normalized_convolutions(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return a block of two `normalized_convolution`, as in the code of Li et al. 2022."""
    return nn.Sequential(
        *normalized_convolution(in_channels, out_channels),
        *normalized_convolution(out_channels, out_channels),
    )


def normalized_convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return a block of 3x3 convolution, instance normalization and leaky ReLU.

    The block is described in attention_unet, section 3.3.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.InstanceNorm2d(out_channels),
        nn.LeakyReLU(),
    )
