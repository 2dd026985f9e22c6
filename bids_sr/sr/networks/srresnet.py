"""SRGAN's generator as the STSS-SRfMRI paper changed it: nothing up-samples in it, nothing is normalized.

Source: stss-srfmri, "Deep learning-based super-resolution"; widths and kernels are those of SRGAN (Ledig et al. 2017,
figure 4). 1.23 million parameters. No activation follows the last convolution, because intensities have no upper end;
the paper does not say.
"""

from torch import Tensor, nn

from bids_sr.sr.networks.network_blocks import ResidualBlock


class SRResNet(nn.Module):
    """Image already on the high-resolution grid to a sharper one on the same grid, (N, C, X, Y) -> (N, C, X, Y).

    Parameters
    ----------
    channels : of the image
    width : 64 in the paper
    blocks : 16 in the paper
    """

    def __init__(self, channels: int = 1, width: int = 64, blocks: int = 16) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(channels, width, 9, padding=4), nn.PReLU(width))
        self.body = nn.Sequential(*[ResidualBlock(width) for _ in range(blocks)], nn.Conv2d(width, width, 3, padding=1))
        self.tail = nn.Conv2d(width, channels, 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        features = self.head(x)
        return self.tail(features + self.body(features))
