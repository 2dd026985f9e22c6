"""CPU-optimized copies of trained networks for inference.

- A convolution fills a processor's registers with output channels, sixteen at a time. The last one
  of a network has one to four: here it is a matrix product that makes every tap's image, and a sum
  of these, shifted.
- A dense layer, which would copy all earlier ones into one image first, is the sum of one
  convolution for each of them.

Values are those of the plain network but for rounding.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bids_sr.sr.networks.network_blocks import ResidualBlock3d
from bids_sr.sr.networks.residual3d import DenseResidualNet


def optimize_for_cpu(network: nn.Module) -> nn.Module:
    """Return a faster CPU copy of a network in evaluation mode, with channels innermost."""
    changed = _changed(copy.deepcopy(network).to("cpu")).eval().requires_grad_(False)
    for module in changed.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        elif isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return changed


def channels_innermost(x: Tensor) -> Tensor:
    """Return (N, C, X, Y) with channels innermost in memory.

    Its strides say so too where one channel leaves that open.

    `x`: images of any number of channels (N, C, X, Y). Same values and shape, ordered anew in
    memory.
    """
    _, channels, rows, columns = x.shape
    x = x.contiguous(memory_format=torch.channels_last)
    return x.as_strided(x.shape, (channels * rows * columns, 1, columns * channels, channels))


def widest(network: nn.Module) -> int:
    """The most channels that a convolution of a network reads or writes; 1 where it has none."""
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    return max((max(m.in_channels, m.out_channels) for m in layers), default=1)


def _changed(module: nn.Module) -> nn.Module:
    """The module, or what stands for it, with its parts changed likewise."""
    if isinstance(module, ResidualBlock3d):
        return _Block3d(module)
    if isinstance(module, DenseResidualNet):
        return _Dense(module)
    for name, part in module.named_children():
        setattr(module, name, _changed(part))
    return module


class _Block3d(nn.Module):
    """`ResidualBlock3d`."""

    def __init__(self, block: ResidualBlock3d) -> None:
        super().__init__()
        self.first, _, self.second, _ = block.layers

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu_()).relu_().add_(x)


class _Dense(nn.Module):
    """`DenseResidualNet`, with half its memory."""

    def __init__(self, net: DenseResidualNet) -> None:
        super().__init__()
        width = net.head.out_channels
        self.head = net.head
        self.layers = nn.ModuleList(_split(layer, width) for layer in net.body)
        self.tail = _split(net.tail, width)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.head(x).relu_()]
        for parts in self.layers:
            features.append(_summed(parts, features).relu_())
        return _summed(self.tail, features).add_(x)


def _split(layer: nn.Module, width: int) -> nn.ModuleList:
    """Split a convolution into one for each `width` input channels.

    The convolution is their sum; the first has the bias.
    """
    assert isinstance(layer, nn.Conv3d)
    parts: list[nn.Module] = []
    for first in range(0, layer.in_channels, width):
        part = nn.Conv3d(width, layer.out_channels, layer.kernel_size, padding=1, bias=not first)  # type: ignore[arg-type]
        part.weight = nn.Parameter(layer.weight[:, first : first + width].detach())
        if not first:
            part.bias = layer.bias
        parts.append(part)
    return nn.ModuleList(parts)


def _summed(parts: nn.Module, features: Sequence[Tensor]) -> Tensor:
    """The sum of each part of what it reads."""
    first, *others = parts.children()
    out = first(features[0])
    for part, seen in zip(others, features[1:], strict=True):
        out.add_(part(seen))
    return out
