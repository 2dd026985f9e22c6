"""GAN-CIRCLE: densely read feature blocks (gan-cpce-circle, section II.2).

CIRCLE (figures 2 and 3): twelve blocks of 3 x 3 filters, leaky ReLU and dropout, and two branches
that are joined. From what we know of the cited CT paper (You et al. 2020): filters falling from 64
to 16, the outputs of all blocks concatenated, branches of 1 x 1 kernels (24 filters; 8 filters and
then 8 of 3 x 3), and the input added at the end. Ours: dropout of .2, a slope of .1, the two 3 x 3
convolutions of 32 and 16 filters after the branches. Nothing up-samples: both images have one
grid.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from bids_sr.sr.networks.blocks import zero

WIDTHS = (64, 54, 48, 43, 39, 35, 31, 28, 25, 22, 18, 16)


class CircleNet(nn.Module):
    """Network from image to image, (N, C, X, Y) -> the same shape; both G and F of the cycle.

    `widths`: filters of the feature blocks; twelve in the paper. `branches`: filters of the first
    branch, and of both layers of the second. `dropout`: share of features that a training step
    leaves out.
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
                nn.Conv2d(before, width, 3, padding=1), nn.LeakyReLU(0.1), nn.Dropout(dropout)
            )
            for before, width in pairwise((channels, *widths))
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
        # what is learned is the difference between the images; it starts at none
        zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        """Return images of the other resolution on the same grid."""
        maps: list[Tensor] = []
        features = x
        for block in self.blocks:
            features = block(features)
            maps.append(features)
        every = torch.cat(maps, 1)
        return x + self.tail(self.joined(torch.cat((self.first(every), self.second(every)), 1)))
