"""Volumetric networks: conventional, residual and dense, and the critic of `gan3d`.

`ScaledResNet3d` is the network of the TV paper.

The conventional and residual networks and the critic follow mouse-sr, section 2.3: kernels of
3 x 3 x 3, Glorot weights, and an input that was interpolated (cubic) to the high-resolution grid.
The networks of the paper have no long skip connection and first have to learn their input. With
`skip` (our choice, for the recipes `fast`), the input is added to the output, and the untrained
network is the identity.
"""

import torch
from torch import Tensor, nn

from bids_sr.sr.networks.architectures.blocks import ResidualBlock, init_glorot, init_zero


class ConventionalNet3d(nn.Module):
    """Three 3D convolutions with ReLU between them, after SRCNN (mouse-sr, section 2.3.1).

    The published network has 57,985 parameters, and a receptive field of 7 voxels along each axis.
    Images are (N, C, X, Y, Z).

    `widths` are the channels after the first and the second convolution; (64, 32) in the paper.
    With `skip`, the input is added to the output (our choice).
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
        init_glorot(self)
        if skip:
            init_zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        """Return sharpened volumes on the same grid, given interpolated volumes."""
        output = self.tail(self.body(x))
        return x + output if self.skip else output


class ResNetCritic3d(nn.Module):
    """Critic for volumes, with ten residual blocks and a dense layer (mouse-sr, section 2.3.3).

    Volumes (N, C, X, Y, Z) are mapped to logits (N, 1). The sigmoid of the paper is part of the
    loss, which prevents overflow. Features are averaged over the patch before the dense layer (our
    choice), so that patches may have any size.

    `width` is 64, `blocks` is 10, and the `stride` of the first convolution is 1 in the paper. A
    stride of 2 saves seven eighths of the computation (our choice, for the recipe `fast`).
    """

    def __init__(
        self, channels: int = 1, *, width: int = 64, blocks: int = 10, stride: int = 1
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv3d(channels, width, 3, stride=stride, padding=1),
            *[ResidualBlock(width, 3) for _ in range(blocks)],
        )
        self.score = nn.Linear(width, 1)
        init_glorot(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return the scores of volumes, before the sigmoid."""
        return self.score(self.features(image).mean((2, 3, 4)))


class ScaledResidualBlock3d(nn.Module):
    """Residual block of convolution, ReLU and convolution, multiplied by .1 and then added.

    There is no normalization. The block has 2 (27 width² + width) parameters.
    """

    SCALE = 0.1

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(width, width, 3, padding=1)
        self.second = nn.Conv3d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the input (N, width, X, Y, Z) plus a tenth of the output of the layers."""
        return x + self.SCALE * self.second(self.first(x).relu())


class ScaledResNet3d(nn.Module):
    """Network of the TV paper with ten residual blocks of 96 channels, for interpolated volumes.

    Source: tv-self-sr, section 2.2, states the number of layers (ten "dense residual layers"),
    kernels of 3 voxels and zero padding. The other details are from the code of the authors, whose
    network is a volumetric EDSR (Lim et al. 2017) of twelve blocks: 96 channels, blocks of two
    convolutions with ReLU between them, a factor of .1 on the output of a block, a convolution
    after the last block, and a skip connection around the blocks and this convolution. The input
    is not added to the output.

    The published network has 5.23 million parameters, and a receptive field of ``4 blocks + 7``
    voxels along each axis. Images are (N, C, X, Y, Z).

    `width` is the number of channels of the residual blocks.
    """

    def __init__(self, channels: int = 1, *, width: int = 96, blocks: int = 10) -> None:
        super().__init__()
        self.head = nn.Conv3d(channels, width, 3, padding=1)
        self.body = nn.Sequential(
            *[ScaledResidualBlock3d(width) for _ in range(blocks)],
            nn.Conv3d(width, width, 3, padding=1),
        )
        self.tail = nn.Conv3d(width, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return sharpened volumes on the same grid, given interpolated volumes."""
        features = self.head(x)
        return self.tail(features + self.body(features))


class DenseResidualNet(nn.Module):
    """Volumetric network of dense layers, whose output is added to its input.

    It is the network of recipe `fast` of `tv`, and of recipe `paper` in earlier versions of
    bids-sr. Each layer receives the output of all earlier layers (Huang et al. 2017). The last
    convolution is zero at first, so that the untrained network is the interpolation. With ten
    layers of 32 channels, the network has 1.53 million parameters.

    The receptive field has ``2 (layers + 2) + 1`` voxels along each axis. Images are (N, C, X, Y,
    Z).

    `width` is the number of channels that each layer adds, and `layers` the number of layers
    between the first and the last convolution.
    """

    def __init__(self, channels: int = 1, *, width: int = 32, layers: int = 10) -> None:
        super().__init__()
        self.head = nn.Conv3d(channels, width, 3, padding=1)
        self.body = nn.ModuleList(
            nn.Conv3d(width * n, width, 3, padding=1) for n in range(1, layers + 1)
        )
        self.tail = nn.Conv3d(width * (layers + 1), channels, 3, padding=1)
        init_zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        """Return interpolated volumes plus the detail computed by the network."""
        features = self.head(x).relu()
        for layer in self.body:
            features = torch.cat((features, layer(features).relu()), 1)
        return x + self.tail(features)
