"""Parts that several networks share."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Convolution, PReLU, convolution, added to the input; no normalization.

    Batch norm would tie an image's intensity to its neighbors in the batch, and activity is intensity.

    Parameters
    ----------
    width : channels
    start : factor on the initial weights of the second convolution; small values begin near the identity, which lets
        a deep net without normalization take large steps
    """

    def __init__(self, width: int, *, start: float = 1.0) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.activation = nn.PReLU(width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        if start != 1.0:
            with torch.no_grad():
                self.second.weight.mul_(start)
                assert self.second.bias is not None
                self.second.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.activation(self.first(x)))


def shuffle(x: Tensor, factor: tuple[int, int]) -> Tensor:
    """(N, C * fx * fy, X, Y) to (N, C, X * fx, Y * fy); coarse voxel i becomes the fine ones i * f … i * f + f - 1."""
    n, channels, rows, columns = x.shape
    fx, fy = factor
    x = x.reshape(n, channels // (fx * fy), fx, fy, rows, columns)
    return x.permute(0, 1, 4, 2, 5, 3).reshape(n, -1, rows * fx, columns * fy)
