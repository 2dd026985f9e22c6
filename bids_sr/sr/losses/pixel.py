"""Losses between images voxel by voxel: squared error, absolute error, peak signal-to-noise ratio.

Output, target and weight are (N, C, *grid); the weight broadcasts.
"""

import math

from torch import Tensor, nn

_FLOOR = 1e-8  # mean squared error (80 dB at a range of 1) below which less error gains hardly more


def _mean(error: Tensor, weight: Tensor) -> Tensor:
    weight = weight.expand_as(error)
    return (weight * error).sum() / weight.sum()


class MSE(nn.Module):
    """Weighted mean of squared differences: the content term of SRGAN before VGG features.

    Source: Ledig et al. 2017, equation 4.
    """

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        return _mean((output - target).square(), weight)


class MAE(nn.Module):
    """Weighted mean of absolute differences."""

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        return _mean((output - target).abs(), weight)


class PSNRLoss(nn.Module):
    """10 log10(1 + MSE / floor): PSNR (dB) below that of a perfect image, with a finite slope where there is no error.

    Source: attention_unet, section 4.3 and equation 4; the floor is ours. `data_range` is the peak value.
    """

    def __init__(self, data_range: float = 1.0) -> None:
        super().__init__()
        self.floor = _FLOOR * data_range**2

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        return (_mean((output - target).square(), weight) / self.floor).log1p() * (10 / math.log(10))
