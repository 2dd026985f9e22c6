"""Mean squared error: the content term of SRGAN before VGG features (Ledig et al. 2017, equation 4)."""

from __future__ import annotations

from torch import Tensor, nn


class MSE(nn.Module):
    """Weighted mean of squared differences; output, target, weight: (N, C, *grid), weight broadcasts."""

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        weight = weight.expand_as(output)
        return (weight * (output - target).square()).sum() / weight.sum()
