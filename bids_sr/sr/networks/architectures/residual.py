"""Residual network of mouse-sr, in three and in two dimensions."""

from torch import Tensor, nn

from bids_sr.sr.networks.architectures.blocks import ResidualBlock, init_glorot, init_zero


class ResNet(nn.Module):
    """Residual network with ten blocks of 64 channels (mouse-sr, section 2.3.2).

    The published network has 2.22 million parameters in three dimensions, .74 million in two, and
    a receptive field of ``4 blocks + 5`` voxels along each axis. One convolution precedes the
    blocks and one follows them, without activation; the paper does not mention them. Images are
    (N, C, X, Y, Z), or slices (N, C, X, Y) with `ndim` 2.

    `width` is 64 and `blocks` is 10 in the paper. With `skip`, the input is added to the output
    (our choice).
    """

    def __init__(
        self,
        channels: int = 1,
        *,
        ndim: int = 3,
        width: int = 64,
        blocks: int = 10,
        skip: bool = False,
    ) -> None:
        super().__init__()
        convolution = nn.Conv3d if ndim == 3 else nn.Conv2d
        self.skip = skip
        self.head = convolution(channels, width, 3, padding=1)
        self.body = nn.Sequential(*[ResidualBlock(width, ndim) for _ in range(blocks)])
        self.tail = convolution(width, channels, 3, padding=1)
        init_glorot(self)
        if skip:
            init_zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        """Return sharpened images on the same grid, given interpolated images."""
        output: Tensor = self.tail(self.body(self.head(x)))
        return x + output if self.skip else output
