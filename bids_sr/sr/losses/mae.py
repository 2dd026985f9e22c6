"""Mean absolute error."""

from __future__ import annotations

from torch import Tensor, nn


class MAE(nn.Module):
    """Weighted mean of absolute differences; output, target, weight: (N, C, *grid), weight broadcasts."""

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        weight = weight.expand_as(output)
        return (weight * (output - target).abs()).sum() / weight.sum()
