"""GAN-CPCE: an encoder-decoder with conveying paths, and its critic.

Source: gan-cpce-circle, section II.2 and figure 1. Four convolutions and three deconvolutions of 32 filters, one
deconvolution of one filter, all 3 x 3 with stride 1; early maps are concatenated into late layers. Ours, as the text
does not say: the convolutions are not padded, so that a map shrinks by two and each deconvolution restores it, which is
what makes maps of equal size meet (Shan et al. 2018); maps are joined without 1 x 1 convolutions, which the text does
not list; ReLU follows all layers but the last, because zero filling rings below zero.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from bids_sr.sr.networks.blocks3d import zero


class CPCENet(nn.Module):
    """Image on the wanted grid to a sharper one, (N, C, X, Y) -> the same shape; sides of at least 9.

    74,817 parameters as published; a pixel sees 17 x 17.

    Parameters
    ----------
    channels : of the image
    width : 32 in the paper
    skip : add the input to the output and start there; off in the paper (ours, for the fast recipe)
    """

    def __init__(self, channels: int = 1, *, width: int = 32, skip: bool = False) -> None:
        super().__init__()
        self.skip = skip
        self.down = nn.ModuleList(nn.Conv2d(n, width, 3) for n in (channels, width, width, width))
        self.up = nn.ModuleList(nn.ConvTranspose2d(n, width, 3) for n in (width, 2 * width, 2 * width))
        self.tail = nn.ConvTranspose2d(2 * width, channels, 3)
        if skip:
            zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
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


class CPCECritic(nn.Module):
    """Images (N, C, X, Y) to one score each, (N, 1).

    Six 3 x 3 convolutions with stride 1 (odd) and 2 (even), then two dense layers, leaky ReLU between them. Ours: its
    slope of .2; no activation after the score, which would take the Wasserstein distance its sign; and images other
    than 64 x 64 are averaged to the 8 x 8 features that a patch of 64 has there.

    Parameters
    ----------
    channels : of the image
    widths : of the three pairs of convolutions; (64, 128, 256) in the paper
    dense : of the first dense layer; 1024 in the paper
    """

    def __init__(self, channels: int = 1, *, widths: tuple[int, ...] = (64, 128, 256), dense: int = 1024) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in pairwise((channels, *widths)):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.LeakyReLU(0.2)]
            layers += [nn.Conv2d(width, width, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.features = nn.Sequential(*layers)
        self.score = nn.Sequential(
            nn.AdaptiveAvgPool2d(8), nn.Flatten(),
            nn.Linear(64 * widths[-1], dense), nn.LeakyReLU(0.2), nn.Linear(dense, 1),
        )  # fmt: skip

    def forward(self, image: Tensor) -> Tensor:
        return self.score(self.features(image))
