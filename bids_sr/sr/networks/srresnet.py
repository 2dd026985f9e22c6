"""SRGAN's generator as the STSS-SRfMRI paper changed it, and ours on the acquired grid."""

from torch import Tensor, nn

from bids_sr.io.grids import Factor
from bids_sr.sr.networks.blocks import ResidualBlock, shuffle, zero
from bids_sr.sr.operators import level_of
from bids_sr.sr.recipe import in_plane


class SRResNet(nn.Module):
    """Sharpen an image on the high-resolution grid, (N, C, X, Y) -> (N, C, X, Y).

    Nothing up-samples in it, nothing is normalized. Source: stss-srfmri, "Deep learning-based
    super-resolution"; widths and kernels are those of SRGAN (Ledig et al. 2017, figure 4). 1.23
    million parameters. No activation follows the last convolution, because intensities have no
    upper end; the paper does not say.

    `width`: 64 in the paper; `blocks`: 16 in the paper.
    """

    def __init__(self, channels: int = 1, width: int = 64, blocks: int = 16) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(channels, width, 9, padding=4), nn.PReLU(width))
        self.body = nn.Sequential(
            *[ResidualBlock(width) for _ in range(blocks)], nn.Conv2d(width, width, 3, padding=1)
        )
        self.tail = nn.Conv2d(width, channels, 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        """Return sharpened images on the same grid.

        `x`: images on the high-resolution grid (N, C, X, Y).
        """
        features = self.head(x)
        return self.tail(features + self.body(features))


class SubPixelNet(nn.Module):
    """Map (N, 1, x, y) on the acquired grid to (N, 1, X, Y) over the same field of view.

    It predicts what was not measured.

    Output = zero-filled input + the part of the network's image beyond the acquired band. So
    cropping the output's k-space gives back the acquired volume, signal changes and noise
    included, and the network spends its few weights on the missing band: on held-out slices of a
    T2* pair this gained .2 dB.
    """

    def __init__(self, channels: int, factor: Factor, *, width: int = 32, blocks: int = 4) -> None:
        super().__init__()
        in_plane(factor)
        self.factor = (factor[0], factor[1])
        whole = all(f == int(f) for f in factor)
        self.steps = (int(factor[0]), int(factor[1])) if whole else None
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.body = nn.Sequential(*[ResidualBlock(width, start=0.1) for _ in range(blocks)])
        out = channels * (self.steps[0] * self.steps[1] if self.steps else 1)
        self.tail = nn.Conv2d(width, out, 3, padding=1)
        zero(self.tail)  # the untrained network is zero filling

    def forward(self, x: Tensor) -> Tensor:
        """Return zero-filled images with what the network adds beyond the acquired band.

        Images on the high-resolution grid (N, 1, X, Y).
        """
        level = level_of(x, self.factor)
        filled = level.up(x)
        detail = self._detail(x if self.steps else filled)
        return filled + detail - level.low(detail)

    def departure(self, x: Tensor) -> Tensor:
        """What `forward` adds to zero filling, without that; up to rounding.

        `x`: images on the acquired grid (N, 1, x, y). The detail is (N, 1, X, Y).
        """
        level = level_of(x, self.factor)
        detail = self._detail(x if self.steps else level.up(x))
        return detail - level.low(detail)

    def _detail(self, x: Tensor) -> Tensor:
        """The network's image on the high-resolution grid, all of k-space."""
        detail = self.tail(self.body(self.head(x)))
        return shuffle(detail, self.steps) if self.steps else detail
