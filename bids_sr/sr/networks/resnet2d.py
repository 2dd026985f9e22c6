"""The residual network of the mouse paper in two dimensions."""

from torch import Tensor, nn

from bids_sr.sr.networks.blocks import glorot, zero


class ResidualBlock2d(nn.Module):
    """Convolution, ReLU, convolution, ReLU, added to the input; keeps (N, width, X, Y).

    Source: mouse-sr, section 2.3.2, as `ResidualBlock3d` reads it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the input plus the output of the layers.

        `x`: features on any grid (N, width, X, Y).
        """
        return x + self.layers(x)


class ResNet2d(nn.Module):
    """Ten residual blocks of 64 channels, kernels of 3 x 3; (N, C, X, Y) -> the same shape.

    .74 million parameters as published. As in `ResNet3d`, one convolution leads into the blocks
    and one out of them (ours).

    Parameters
    ----------
    channels : int, optional
        Channels of the images.
    width : int, optional
        Channels of the blocks; 64 in the paper.
    blocks : int, optional
        Number of blocks; 10 in the paper.
    skip : bool, optional
        Whether the input is added to the output (ours).
    """

    def __init__(
        self, channels: int = 1, *, width: int = 64, blocks: int = 10, skip: bool = False
    ) -> None:
        super().__init__()
        self.skip = skip
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.body = nn.Sequential(*[ResidualBlock2d(width) for _ in range(blocks)])
        self.tail = nn.Conv2d(width, channels, 3, padding=1)
        glorot(self)
        if skip:
            zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        """Return sharpened slices on the same grid.

        `x`: interpolated slices on the high-resolution grid (N, C, X, Y).
        """
        out: Tensor = self.tail(self.body(self.head(x)))
        return x + out if self.skip else out
