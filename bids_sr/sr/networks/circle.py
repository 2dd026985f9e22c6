"""Network of GAN-CIRCLE, with densely connected feature blocks (gan-cpce-circle, section II.2).

The network (figures 2 and 3) has twelve blocks of 3 x 3 filters, leaky ReLU and dropout, followed
by two branches that are concatenated.

The following details are from the cited CT paper (You et al. 2020), as far as we know it. The
number of filters decreases from 64 to 16, and the outputs of all blocks are concatenated. The
first branch has 24 filters of 1 x 1, and the second has 8 filters of 1 x 1 and 8 filters of 3 x 3.
The input is added at the end.

Our choices are a dropout rate of .2, a slope of .1, and two 3 x 3 convolutions of 32 and 16
filters after the branches. The network does not upsample, because both images have the same grid.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from bids_sr.sr.networks.blocks import zero

WIDTHS = (64, 54, 48, 43, 39, 35, 31, 28, 25, 22, 18, 16)


class CircleNet(nn.Module):
    """Network between images of two resolutions on the same grid (N, C, X, Y).

    It is used in both directions of the cycle.

    Parameters
    ----------
    channels : int, optional
        Number of contrasts.
    widths : tuple[int, ...], optional
        Number of filters in each feature block; twelve blocks in the paper.
    branches : tuple[int, int], optional
        Number of filters in the first branch, and in both layers of the second branch.
    joined : tuple[int, int], optional
        Number of filters in both convolutions after the branches.
    dropout : float, optional
        Fraction of features dropped in each training step.
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
                nn.Conv2d(in_channels, width, 3, padding=1), nn.LeakyReLU(0.1), nn.Dropout(dropout)
            )
            for in_channels, width in pairwise((channels, *widths))
        )
        total = sum(widths)
        self.first = nn.Sequential(nn.Conv2d(total, branches[0], 1), nn.LeakyReLU(0.1))
        self.second = nn.Sequential(
            nn.Conv2d(total, branches[1], 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(branches[1], branches[1], 3, padding=1),
            nn.LeakyReLU(0.1),
        )
        self.joined = nn.Sequential(
            nn.Conv2d(sum(branches), joined[0], 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(joined[0], joined[1], 3, padding=1),
            nn.LeakyReLU(0.1),
        )
        self.tail = nn.Conv2d(joined[1], channels, 3, padding=1)
        # the network learns the difference between the images, which is zero at first
        zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        """Return images of the other resolution on the same grid."""
        maps: list[Tensor] = []
        features = x
        for block in self.blocks:
            features = block(features)
            maps.append(features)
        all_maps = torch.cat(maps, 1)
        return x + self.tail(
            self.joined(torch.cat((self.first(all_maps), self.second(all_maps)), 1))
        )
