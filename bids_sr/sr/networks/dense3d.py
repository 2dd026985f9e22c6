"""The volumetric network of the TV paper: ten dense residual layers on an interpolated volume, for every factor.

Source: tv-self-sr, section 2.2 (ten dense residual layers, kernel 3, zero padding, after Li et al. 2024). Ours, as the
paper gives neither widths nor wiring: "dense" is a layer that reads all earlier ones (Huang et al. 2017), each adds 32
channels, "residual" is what the last convolution adds to the interpolated input; that convolution starts at zero, so
that the untrained network is the interpolation. 1.53 million parameters.
"""

import torch
from torch import Tensor, nn

from bids_sr.sr.networks.network_blocks import zero


class DenseResidualNet(nn.Module):
    """Interpolated volume to a sharper one, (N, C, X, Y, Z) -> the same shape; any size.

    Each layer adds `width` channels. A voxel of the output sees ``2 (layers + 2) + 1`` voxels along each axis.
    """

    def __init__(self, channels: int = 1, *, width: int = 32, layers: int = 10) -> None:
        super().__init__()
        self.head = nn.Conv3d(channels, width, 3, padding=1)
        self.body = nn.ModuleList(nn.Conv3d(width * n, width, 3, padding=1) for n in range(1, layers + 1))
        self.tail = nn.Conv3d(width * (layers + 1), channels, 3, padding=1)
        zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        features = self.head(x).relu()
        for layer in self.body:
            features = torch.cat((features, layer(features).relu()), 1)
        return x + self.tail(features)
