"""Charbonnier loss: absolute error, rounded off at zero so that its slope is finite everywhere."""

from __future__ import annotations

from torch import Tensor, nn


class Charbonnier(nn.Module):
    """Weighted mean of sqrt(d^2 + width^2) - width; d = output - target, shapes as in `mse.MSE`.

    Parameters
    ----------
    width : difference (in scaled intensity) below which the loss is quadratic

    Source: Charbonnier et al. 1994, phi_HS; subtracting the width, so that equal images cost nothing, is ours.
    """

    def __init__(self, width: float = 0.01) -> None:
        super().__init__()
        self.width = width

    def forward(self, output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        weight = weight.expand_as(output)
        error = ((output - target).square() + self.width**2).sqrt() - self.width
        return (weight * error).sum() / weight.sum()
