"""Two-dimensional residual network of mouse-sr."""

from torch import Tensor, nn

from bids_sr.sr.networks.architectures.blocks import ResidualBlock, init_glorot, init_zero


class ResNet2d(nn.Module):
    """Residual network for slices (N, C, X, Y), with 3 x 3 kernels.

    The published size, ten blocks of 64 channels, has 0.74 million parameters. As in `ResNet3d`,
    one convolution precedes the blocks and one follows them (our choice).

    `width` is 64 and `blocks` is 10 in the paper. With `skip`, the input is added to the output
    (our choice).
    """

    def __init__(
        self, channels: int = 1, *, width: int = 64, blocks: int = 10, skip: bool = False
    ) -> None:
        super().__init__()
        self.skip = skip
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.body = nn.Sequential(*[ResidualBlock(width, 2) for _ in range(blocks)])
        self.tail = nn.Conv2d(width, channels, 3, padding=1)
        init_glorot(self)
        if skip:
            init_zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        """Return sharpened slices on the same grid, given interpolated slices."""
        output: Tensor = self.tail(self.body(self.head(x)))
        return x + output if self.skip else output
