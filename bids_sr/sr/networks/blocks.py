"""Layers and initializations shared by several networks; activity is intensity, so no norm."""

import torch
from torch import Tensor, nn


def glorot(net: nn.Module) -> None:
    """Initialize convolutions and dense layers in place: Glorot and Bengio 2010 (normal), bias 0.

    Source: mouse-sr, section 2.3.5, which names the normal form and prints a uniform range; the
    normal form is used.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.xavier_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def zero(layer: nn.Module) -> None:
    """Set a layer to zero, so that it outputs nothing until trained.

    Behind a skip connection, the network then starts as its input.

    `layer`: layer whose weights and biases become 0.
    """
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class ResidualBlock(nn.Module):
    """Convolution, PReLU, convolution, added to the input; no normalization.

    Batch norm would tie an image's intensity to its neighbors in the batch.

    `start`: factor on the initial weights of the second convolution; small values begin near the
    identity, which lets a deep net without normalization take large steps.
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
        """Return the input plus what the layers make of it.

        `x`: features on any grid (N, width, X, Y). Features of the same shape.
        """
        return x + self.second(self.activation(self.first(x)))


class ResidualBlock3d(nn.Module):
    """Convolution, ReLU, convolution, ReLU, added to the input; keeps (N, width, X, Y, Z).

    Source: mouse-sr, section 2.3.2 and METHODS section 4 ("two convolutions, two ReLU with one
    additional layer", read as an addition). 2 (27 width² + width) parameters.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv3d(width, width, 3, padding=1),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the input plus what the layers make of it.

        `x`: features on any grid (N, width, X, Y, Z). Features of the same shape.
        """
        return x + self.layers(x)


def shuffle(x: Tensor, factor: tuple[int, int]) -> Tensor:
    """Rearrange (N, C * fx * fy, X, Y) to (N, C, X * fx, Y * fy).

    Acquired voxel i becomes i * f … i * f + f - 1.

    `x`: images on the acquired grid, with one channel for each finer voxel. Images on the
    high-resolution grid.
    """
    n, channels, rows, columns = x.shape
    fx, fy = factor
    x = x.reshape(n, channels // (fx * fy), fx, fy, rows, columns)
    return x.permute(0, 1, 4, 2, 5, 3).reshape(n, -1, rows * fx, columns * fy)
