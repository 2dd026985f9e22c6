"""Networks in three dimensions: conventional, residual and dense, and the critic of `gan3d`.

Source of the former: mouse-sr, section 2.3; kernels 3 x 3 x 3, Glorot weights, an input that is
interpolated (cubic) to the wanted grid. The paper's networks have no long skip connection and
learn their input first; `skip` (ours, for the fast recipes) adds the input to the output and
starts there.
"""

import torch
from torch import Tensor, nn

from bids_sr.sr.networks.blocks import ResidualBlock3d, glorot, zero


class ConventionalNet3d(nn.Module):
    """SRCNN's three convolutions in 3D, ReLU between (section 2.3.1); keeps (N, C, X, Y, Z).

    57,985 parameters as published (`widths`, channels after the first
    and the second convolution, of (64, 32)); a voxel sees 7 along each axis.
    """

    def __init__(
        self, channels: int = 1, *, widths: tuple[int, int] = (64, 32), skip: bool = False
    ) -> None:
        super().__init__()
        self.skip = skip
        self.body = nn.Sequential(
            nn.Conv3d(channels, widths[0], 3, padding=1),
            nn.ReLU(),
            nn.Conv3d(widths[0], widths[1], 3, padding=1),
            nn.ReLU(),
        )
        self.tail = nn.Conv3d(widths[1], channels, 3, padding=1)
        glorot(self)
        if skip:
            zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        """Return sharpened volumes on the same grid.

        `x`: interpolated volumes on the high-resolution grid (N, C, X, Y, Z).
        """
        out = self.tail(self.body(x))
        return x + out if self.skip else out


class ResNet3d(nn.Module):
    """Ten residual blocks of 64 channels (section 2.3.2); (N, C, X, Y, Z) -> the same shape.

    2.22 million parameters as published; a voxel sees ``4 blocks + 5`` along each axis. Ours, as
    the paper is silent: one convolution leads into the blocks and one out of them, without
    activation.
    """

    def __init__(
        self, channels: int = 1, *, width: int = 64, blocks: int = 10, skip: bool = False
    ) -> None:
        super().__init__()
        self.skip = skip
        self.head = nn.Conv3d(channels, width, 3, padding=1)
        self.body = nn.Sequential(*[ResidualBlock3d(width) for _ in range(blocks)])
        self.tail = nn.Conv3d(width, channels, 3, padding=1)
        glorot(self)
        if skip:
            zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        """Return sharpened volumes on the same grid.

        `x`: interpolated volumes on the high-resolution grid (N, C, X, Y, Z).
        """
        out = self.tail(self.body(self.head(x)))
        return x + out if self.skip else out


class ResNetCritic3d(nn.Module):
    """Score volumes, (N, C, X, Y, Z) -> (N, 1).

    The critic has ten residual blocks and a dense layer (section 2.3.3).

    The score is a logit: the paper's sigmoid is part of the loss, where it cannot overflow.
    Features are averaged over the patch before the dense layer (ours), so that it serves patches
    of any size.

    `stride`: of the first convolution; 1 in the paper, 2 saves seven eighths of the work (ours,
    for the fast recipe).
    """

    def __init__(
        self, channels: int = 1, *, width: int = 64, blocks: int = 10, stride: int = 1
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv3d(channels, width, 3, stride=stride, padding=1),
            *[ResidualBlock3d(width) for _ in range(blocks)],
        )
        self.score = nn.Linear(width, 1)
        glorot(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return scores before the sigmoid.

        `image`: volumes to score (N, C, X, Y, Z).
        """
        return self.score(self.features(image).mean((2, 3, 4)))


class DenseResidualNet(nn.Module):
    """Ten dense residual layers of the TV paper, on an interpolated volume of any size.

    The shape (N, C, X, Y, Z) is kept.

    Source: tv-self-sr, section 2.2 (ten dense residual layers, kernel 3, zero padding, after Li et
    al. 2024). Ours, as the paper gives neither widths nor wiring: "dense" is a layer that reads
    all earlier ones (Huang et al. 2017), each adds 32 channels, "residual" is what the last
    convolution adds to the interpolated input; that convolution starts at zero, so that the
    untrained network is the interpolation. 1.53 million parameters.

    Each layer adds `width` channels. A voxel of the output sees ``2 (layers + 2) + 1`` voxels
    along each axis.
    """

    def __init__(self, channels: int = 1, *, width: int = 32, layers: int = 10) -> None:
        super().__init__()
        self.head = nn.Conv3d(channels, width, 3, padding=1)
        self.body = nn.ModuleList(
            nn.Conv3d(width * n, width, 3, padding=1) for n in range(1, layers + 1)
        )
        self.tail = nn.Conv3d(width * (layers + 1), channels, 3, padding=1)
        zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        """Return interpolated volumes with what the network adds.

        `x`: interpolated volumes on the high-resolution grid (N, C, X, Y, Z).
        """
        features = self.head(x).relu()
        for layer in self.body:
            features = torch.cat((features, layer(features).relu()), 1)
        return x + self.tail(features)
