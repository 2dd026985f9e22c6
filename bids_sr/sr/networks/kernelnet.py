"""A network that looks at static guides only and says, for every voxel, how its neighbors are to be weighed.

What it predicts is a small kernel a voxel, and the kernels are applied to the change over time by nothing but sums of
products. So the result is linear in the change: no change in, none out, and one set of kernels serves a whole run.

Source: kernel prediction as in Mildenhall et al. 2018 (kernel_prediction); guides, widths and use are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, product

import torch
from torch import Tensor, nn
from torch.nn import functional

GUIDES = 5  # channels of `temporal.guide_channels`


def offsets(ndim: int) -> tuple[tuple[int, ...], ...]:
    """Steps to the neighbors of a 3 x 3 (x 3) kernel, in the order of its taps; the slice axis comes first in 3D."""
    return tuple(product((-1, 0, 1), repeat=ndim))


def shifted_views(image: Tensor, ndim: int) -> Iterator[Tensor]:
    """The image seen from each neighbor, (..., *grid), edge values held: the factors of the taps, in their order."""
    grid = image.shape[-ndim:]
    flat = image.reshape(1, -1, *grid)
    padded = functional.pad(flat, (1,) * (2 * ndim), mode="replicate").reshape(
        *image.shape[:-ndim], *(n + 2 for n in grid)
    )
    for step in offsets(ndim):
        seen = padded
        for axis, (s, n) in enumerate(zip(step, grid, strict=True)):
            seen = seen.narrow(axis - ndim, 1 + s, n)
        yield seen


def apply_kernels(change: Tensor, kernels: Tensor) -> Tensor:
    """Sum of the neighbors' change times their taps.

    change: (N, C, *grid); kernels: (N, taps, *grid), one kernel a voxel for all C. Linear in the change.
    """
    ndim = kernels.dim() - 2
    out = torch.zeros_like(change)
    for tap, seen in enumerate(shifted_views(change, ndim)):
        out = out + kernels[:, tap : tap + 1] * seen
    return out


class KernelNet(nn.Module):
    """Guides (N, 5, *grid) to the taps (N, 9 or 27, *grid) of what is *added* to the change: all zero at the start.

    Parameters
    ----------
    channels : of the guides
    width : channels between the layers
    depth : convolutions with an activation after them
    ndim : 2 (slice by slice) or 3
    """

    def __init__(self, channels: int = GUIDES, *, width: int = 32, depth: int = 5, ndim: int = 2) -> None:
        super().__init__()
        self.ndim = ndim
        convolution = nn.Conv2d if ndim == 2 else nn.Conv3d
        widths: Sequence[int] = (channels, *[width] * depth)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [convolution(before, after, 3, padding=1), nn.LeakyReLU(0.1)]
        self.body = nn.Sequential(*layers)
        self.head = convolution(width, 3**ndim, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    def forward(self, guides: Tensor) -> Tensor:
        return self.head(self.body(guides))
