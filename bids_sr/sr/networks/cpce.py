"""GAN-CPCE: an encoder-decoder with conveying paths.

Source: gan-cpce-circle, section II.2. CPCE (figure 1): four convolutions and three deconvolutions
of 32 filters, one deconvolution of one filter, all 3 x 3 with stride 1; early maps are
concatenated into late layers. Ours, as the text does not say: the convolutions are not padded, so
that a map shrinks by two and each deconvolution restores it, which is what makes maps of equal
size meet (Shan et al. 2018); maps are joined without 1 x 1 convolutions, which the text does not
list; ReLU follows all layers but the last, because zero filling rings below zero.
"""

import torch
from torch import Tensor, nn

from bids_sr.sr.networks.blocks import zero


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
