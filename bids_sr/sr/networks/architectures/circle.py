"""Networks of GAN-CIRCLE, with densely connected feature blocks (gan-cpce-circle, section II.2).

The published network (figures 2 and 3) has twelve blocks of 3 x 3 filters, leaky ReLU and dropout,
followed by two branches that are joined. The paper refers to a CT paper (You et al. 2020) for
details, which are taken from the code of its authors here (`CircleResamplingNet`).

`CircleNet` is the network of recipe `fast`, and of recipe `paper` in earlier versions of bids-sr.
It does not change the sampling of the image. Its numbers of filters are our choice.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from bids_sr.sr.networks.architectures.blocks import init_zero

WIDTHS = (64, 54, 48, 43, 39, 35, 31, 28, 25, 22, 18, 16)
"""Number of filters in each feature block of `CircleNet`."""
SLOPE = 0.1
"""Slope of the leaky ReLU for negative values."""


def decreasing_widths(first: int, last: int, count: int) -> tuple[int, ...]:
    """Return numbers of filters that decrease from `first` to `last`, fast at first.

    Filter k of n = `count` - 1 has (first - last) (1 - (k / n) ** (1 / 1.5)) + last channels.
    """
    shares = [1 - (k / (count - 1)) ** (1 / 1.5) for k in range(count)]
    return tuple(int((first - last) * share + last) for share in shares)


class _BranchedNet(nn.Module):
    """Network whose feature blocks are followed by two branches that are joined."""

    blocks: nn.ModuleList
    first: nn.Sequential
    second: nn.Sequential
    joined: nn.Sequential
    tail: nn.Conv2d

    def _compute_change(self, x: Tensor) -> Tensor:
        """Return the output of the last layer; the outputs of all blocks are concatenated."""
        outputs: list[Tensor] = []
        for block in self.blocks:
            outputs.append(block(outputs[-1] if outputs else x))
        features = torch.cat(outputs, 1)
        branches = torch.cat((self.first(features), self.second(features)), 1)
        return self.tail(self.joined(branches))


class CircleResamplingNet(_BranchedNet):
    """Published network between images of two resolutions on the same grid (N, C, X, Y).

    It is used in both directions of the cycle. The first of twelve blocks has a stride of 2; each
    of the others receives the output of the block before it, and the outputs of all blocks are
    concatenated. One branch has 64 filters of 1 x 1, and the other has 32 filters of 1 x 1 and 8
    filters of 3 x 3. The joined branches pass a 3 x 3 convolution, a transposed convolution with a
    stride of 2 and half of the filters, and a 3 x 3 convolution, whose output is added to the
    input. The network has 611,418 parameters.

    The paper describes blocks, branches and their junction; all numbers and the resampling are
    from the code of the CT paper. There, dropout has a rate of .8 but is never active; the rate of
    .2 is our choice. Images with an odd side are padded with zeros.

    `widths` are the numbers of filters in the feature blocks (128 to 16 in twelve blocks), and
    `branches` the numbers of filters in the first branch and in both layers of the second branch.
    `dropout` is the fraction of features dropped in each training step.
    """

    def __init__(
        self,
        channels: int = 1,
        *,
        widths: tuple[int, ...] = decreasing_widths(128, 16, 12),
        branches: tuple[int, int, int] = (64, 32, 8),
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(in_channels, width, 3, padding=1, stride=1 if k else 2),
                nn.LeakyReLU(SLOPE),
                nn.Dropout(dropout),
            )
            for k, (in_channels, width) in enumerate(pairwise((channels, *widths)))
        )
        total_width, joined_width = sum(widths), branches[0] + branches[2]
        self.first = nn.Sequential(
            nn.Conv2d(total_width, branches[0], 1), nn.LeakyReLU(SLOPE), nn.Dropout(dropout)
        )
        self.second = nn.Sequential(
            nn.Conv2d(total_width, branches[1], 1),
            nn.LeakyReLU(SLOPE),
            nn.Dropout(dropout),
            nn.Conv2d(branches[1], branches[2], 3, padding=1),
            nn.Dropout(dropout),
        )
        self.joined = nn.Sequential(
            nn.Conv2d(joined_width, joined_width, 3, padding=1),
            nn.ConvTranspose2d(joined_width, joined_width // 2, 4, stride=2, padding=1),
            nn.LeakyReLU(SLOPE),
        )
        self.tail = nn.Conv2d(joined_width // 2, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return images of the other resolution on the same grid."""
        rows, columns = x.shape[-2:]
        padded_image = functional.pad(x, (0, columns % 2, 0, rows % 2))
        return x + self._compute_change(padded_image)[..., :rows, :columns]


class CircleNet(_BranchedNet):
    """Network between images of two resolutions, without resampling (N, C, X, Y).

    It is used in both directions of the cycle. The outputs of all blocks are concatenated and pass
    two branches, whose outputs are joined. The last layer is zero at first, so that the untrained
    network returns its input.

    `widths` are the numbers of filters in the feature blocks, `branches` those in the first branch
    and in both layers of the second branch, and `joined` those in both convolutions after the
    branches. `dropout` is the fraction of features dropped in each training step.
    """

    def __init__(
        self,
        channels: int = 1,
        *,
        widths: tuple[int, ...] = WIDTHS,
        branches: tuple[int, int] = (24, 8),
        joined: tuple[int, int] = (32, 16),
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(in_channels, width, 3, padding=1),
                nn.LeakyReLU(SLOPE),
                nn.Dropout(dropout),
            )
            for in_channels, width in pairwise((channels, *widths))
        )
        total_width = sum(widths)
        self.first = nn.Sequential(nn.Conv2d(total_width, branches[0], 1), nn.LeakyReLU(SLOPE))
        self.second = nn.Sequential(
            nn.Conv2d(total_width, branches[1], 1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(branches[1], branches[1], 3, padding=1),
            nn.LeakyReLU(SLOPE),
        )
        self.joined = nn.Sequential(
            nn.Conv2d(sum(branches), joined[0], 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(joined[0], joined[1], 3, padding=1),
            nn.LeakyReLU(SLOPE),
        )
        self.tail = nn.Conv2d(joined[1], channels, 3, padding=1)
        # the network learns the difference between the images, which is zero at first
        init_zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        """Return images of the other resolution on the same grid."""
        return x + self._compute_change(x)
