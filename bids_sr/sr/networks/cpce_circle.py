"""Generators of GAN-CPCE and GAN-CIRCLE.

GAN-CPCE has an encoder-decoder with conveying paths, GAN-CIRCLE densely read feature blocks.

Source: gan-cpce-circle, section II.2. CPCE (figure 1): four convolutions and three deconvolutions
of 32 filters, one deconvolution of one filter, all 3 x 3 with stride 1; early maps are
concatenated into late layers. Ours, as the text does not say: the convolutions are not padded, so
that a map shrinks by two and each deconvolution restores it, which is what makes maps of equal
size meet (Shan et al. 2018); maps are joined without 1 x 1 convolutions, which the text does not
list; ReLU follows all layers but the last, because zero filling rings below zero.

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

from bids_sr.sr.networks.network_blocks import zero


class CPCENet(nn.Module):
    """Network that sharpens an image on the wanted grid, (N, C, X, Y), sides of at least 9.

    The output has the same shape.

    74,817 parameters as published; a pixel sees 17 x 17.

    `skip`: add the input to the output and start there; off in the paper (ours, for the fast
    recipe).
    """

    def __init__(self, channels: int = 1, *, width: int = 32, skip: bool = False) -> None:
        super().__init__()
        self.skip = skip
        self.down = nn.ModuleList(nn.Conv2d(n, width, 3) for n in (channels, width, width, width))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(n, width, 3) for n in (width, 2 * width, 2 * width)
        )
        self.tail = nn.ConvTranspose2d(2 * width, channels, 3)
        if skip:
            zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        """Return sharpened images on the same grid.

        `x`: images on the high-resolution grid (N, C, X, Y).
        """
        maps: list[Tensor] = []
        features = x
        for layer in self.down:
            features = layer(features).relu()
            maps.append(features)
        maps.pop()
        for layer in self.up:
            features = torch.cat((layer(features).relu(), maps.pop()), 1)
        out = self.tail(features)
        return x + out if self.skip else out


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
