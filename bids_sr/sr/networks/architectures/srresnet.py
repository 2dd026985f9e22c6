"""Generators of SRGAN in the version of STSS-SRfMRI, and of our network on the acquired grid."""

from torch import Tensor, nn

from bids_sr.io.grids import Factor
from bids_sr.sr.networks.architectures.blocks import (
    PReLUResidualBlock,
    init_zero,
    shuffle_channels,
)
from bids_sr.sr.operators import make_plane_conversion


class SRResNet(nn.Module):
    """Network that sharpens images on the high-resolution grid (N, C, X, Y).

    The network contains neither upsampling nor normalization. Source: stss-srfmri, "Deep
    learning-based super-resolution"; widths and kernels are taken from SRGAN (Ledig et al. 2017,
    figure 4). It has 1.23 million parameters. The paper does not say whether an activation follows
    the last convolution; ours has none, because intensities have no upper limit.

    `width` is 64 and `blocks`, the number of residual blocks, is 16 in the paper. With `skip`, the
    input is added to the output (our choice), so that the untrained network is the identity.
    """

    def __init__(
        self, channels: int = 1, width: int = 64, blocks: int = 16, *, skip: bool = False
    ) -> None:
        super().__init__()
        self.skip = skip
        self.head = nn.Sequential(nn.Conv2d(channels, width, 9, padding=4), nn.PReLU(width))
        self.body = nn.Sequential(
            *[PReLUResidualBlock(width) for _ in range(blocks)],
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.tail = nn.Conv2d(width, channels, 9, padding=4)
        if skip:
            init_zero(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        """Return sharpened images on the same grid."""
        features = self.head(x)
        output: Tensor = self.tail(features + self.body(features))
        return x + output if self.skip else output


class SubPixelNet(nn.Module):
    """Data-consistent network from the acquired to the high-resolution grid.

    The output is the zero-filled input plus the network's image above the acquired Nyquist
    frequency. Cropping the k-space of the output therefore restores the acquired volume, including
    its signal changes and noise, and the few weights of the network serve only the missing band.
    On held-out slices of a T2* pair, this increased the PSNR by .2 dB.

    `factor` is the ratio of acquired to high-resolution voxel size; 1 across slices. `width` is
    the number of channels of the residual blocks.
    """

    def __init__(self, channels: int, factor: Factor, *, width: int = 32, blocks: int = 4) -> None:
        super().__init__()
        self.factor = (factor[0], factor[1])
        is_integer = all(f == int(f) for f in factor)
        # integer factors in plane, or None if the network is applied to the zero-filled images
        self.steps = (int(factor[0]), int(factor[1])) if is_integer else None
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.body = nn.Sequential(
            *[PReLUResidualBlock(width, initial_scale=0.1) for _ in range(blocks)]
        )
        voxels_per_acquired_voxel = self.steps[0] * self.steps[1] if self.steps else 1
        self.tail = nn.Conv2d(width, channels * voxels_per_acquired_voxel, 3, padding=1)
        init_zero(self.tail)  # the untrained network is zero filling

    def forward(self, x: Tensor) -> Tensor:
        """Return zero-filled images plus detail above the acquired Nyquist frequency.

        Images are (N, C, x, y) on the acquired grid, and (N, C, X, Y) on the high-resolution grid.
        """
        conversion = make_plane_conversion(x, self.factor)
        zero_filled = conversion.upsample(x)
        detail = self._compute_detail(x if self.steps else zero_filled)
        return zero_filled + detail - conversion.select_acquired_band(detail)

    def compute_added_detail(self, x: Tensor) -> Tensor:
        """Return the detail that `forward` adds to zero filling (N, C, X, Y), up to rounding.

        `x` are images on the acquired grid (N, C, x, y).
        """
        conversion = make_plane_conversion(x, self.factor)
        detail = self._compute_detail(x if self.steps else conversion.upsample(x))
        return detail - conversion.select_acquired_band(detail)

    def _compute_detail(self, x: Tensor) -> Tensor:
        """Return the network's image on the high-resolution grid, with all spatial frequencies."""
        detail = self.tail(self.body(self.head(x)))
        return shuffle_channels(detail, self.steps) if self.steps else detail
