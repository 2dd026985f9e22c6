"""Losses between images voxel by voxel: squared error, absolute error, peak signal-to-noise ratio.

Output, target and weight are (N, C, *grid); the weight broadcasts.
"""

from __future__ import annotations

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
    """The ratio in dB that a perfect image would have, less that of the output.

    10 log10(1 + MSE / floor): equal images cost nothing, a tenth of the squared error costs 10 dB less, and the slope
    is finite where there is no error. As the ratio is a logarithm, its slope grows as the error falls: next to an
    absolute error of the same images a voxel weighs 8.7 dB over the root mean square error.

    Parameters
    ----------
    data_range : peak value; 1 in scaled intensity

    Source: attention_unet, section 4.3 (the ratio is one of three in the loss) and equation 4; the floor is ours.
    """

    def __init__(self, data_range: float = 1.0) -> None:
        super().__init__()
        self.floor = _FLOOR * data_range**2

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        return (_mean((output - target).square(), weight) / self.floor).log1p() * (10 / math.log(10))
