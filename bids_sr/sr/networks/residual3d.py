"""The residual network of the mouse paper, and the critic that plays against it in `gan3d`.

Source: mouse-sr, sections 2.3.2, 2.3.3 and 2.3.5: ten residual blocks of 64 channels, kernels 3 x 3 x 3, Glorot
weights; a discriminator of ten such blocks, a dense layer and a sigmoid. The input is interpolated (cubic) to the
wanted grid before. Ours, as the paper is silent: one convolution leads into the blocks and one out of them, without
activation; no long skip connection in the faithful form (`skip` adds it for the fast recipe).
"""

from __future__ import annotations

from torch import Tensor, nn

from bids_sr.sr.networks.blocks3d import ResidualBlock3d, glorot, zero


class ResNet3d(nn.Module):
    """Interpolated volume to a sharper one, (N, C, X, Y, Z) -> the same shape.

    2.22 million parameters as published; a voxel sees ``4 blocks + 5`` along each axis.

    Parameters
    ----------
    channels : of the image
    width, blocks : 64 and 10 in the paper
    skip : add the input to the output and start there; off in the paper
    """

    def __init__(self, channels: int = 1, *, width: int = 64, blocks: int = 10, skip: bool = False) -> None:
        super().__init__()
        self.skip = skip
        self.head = nn.Conv3d(channels, width, 3, padding=1)
        self.body = nn.Sequential(*[ResidualBlock3d(width) for _ in range(blocks)])
        self.tail = nn.Conv3d(width, channels, 3, padding=1)
        glorot(self)
        if skip:
            zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        out = self.tail(self.body(self.head(x)))
        return x + out if self.skip else out


class ResNetCritic3d(nn.Module):
    """Volumes (N, C, X, Y, Z) to one score each, (N, 1).

    The score is a logit: the paper's sigmoid is part of the loss, where it cannot overflow. Features are averaged
    over the patch before the dense layer (ours), so that it serves patches of any size.

    Parameters
    ----------
    channels : of the image
    width, blocks : 64 and 10 in the paper
    stride : of the first convolution; 1 in the paper, 2 saves seven eighths of the work (ours, for the fast recipe)
    """

    def __init__(self, channels: int = 1, *, width: int = 64, blocks: int = 10, stride: int = 1) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv3d(channels, width, 3, stride=stride, padding=1), *[ResidualBlock3d(width) for _ in range(blocks)]
        )
        self.score = nn.Linear(width, 1)
        glorot(self)

    def forward(self, image: Tensor) -> Tensor:
        return self.score(self.features(image).mean((2, 3, 4)))
