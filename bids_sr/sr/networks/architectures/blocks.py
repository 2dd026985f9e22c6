"""Layers and initializations shared by several networks.

The layers do not normalize intensities, because a change in intensity may be activity.
"""

import torch
from torch import Tensor, nn


def init_glorot(net: nn.Module) -> None:
    """Initialize convolutions and dense layers in place with Glorot weights and zero bias.

    See Glorot and Bengio 2010. mouse-sr, section 2.3.5, names the normal distribution but prints
    the range of the uniform distribution. The normal distribution is used here.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.xavier_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def init_zero(layer: nn.Module) -> None:
    """Set the weights and biases of a layer to zero.

    If the layer precedes the addition of a skip connection, the untrained network is the identity.
    """
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class PReLUResidualBlock(nn.Module):
    """Residual block of convolution, PReLU and convolution, without normalization.

    Batch normalization would make the intensity of an image depend on the other images in the
    batch.

    `width` is the number of channels, and `initial_scale` a factor on the initial weights of the
    second convolution. With small values, the block is close to the identity at first, so that a
    deep network without normalization can take large steps.
    """

    def __init__(self, width: int, *, initial_scale: float = 1.0) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.activation = nn.PReLU(width)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        if initial_scale != 1.0:
            with torch.no_grad():
                self.second.weight.mul_(initial_scale)
                assert self.second.bias is not None
                self.second.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Return the input (N, width, X, Y) plus the output of the layers."""
        return x + self.second(self.activation(self.first(x)))


class ResidualBlock(nn.Module):
    """Residual block of convolution, ReLU, convolution, ReLU, added to the input.

    Source: mouse-sr, section 2.3.2 and METHODS section 4 ("two convolutions, two ReLU with one
    additional layer", interpreted as an addition). The block has 2 (3^ndim width² + width)
    parameters. `width` is the number of channels, and `ndim` the number of spatial axes, 2 or 3.
    """

    def __init__(self, width: int, ndim: int) -> None:
        super().__init__()
        self.ndim = ndim
        convolution = nn.Conv2d if ndim == 2 else nn.Conv3d
        self.layers = nn.Sequential(
            convolution(width, width, 3, padding=1),
            nn.ReLU(),
            convolution(width, width, 3, padding=1),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the input (N, width, X, Y[, Z]) plus the output of the layers."""
        return x + self.layers(x)


def shuffle_channels(features: Tensor, factor: tuple[int, int]) -> Tensor:
    """Rearrange channels into voxels, (N, C * fx * fy, X, Y) -> (N, C, X * fx, Y * fy).

    Acquired voxel i becomes voxels i * f … i * f + f - 1. The two factors (fx, fy) may differ,
    unlike in torch's pixel shuffle.
    """
    n_images, n_channels, rows, columns = features.shape
    fx, fy = factor
    blocks = features.reshape(n_images, n_channels // (fx * fy), fx, fy, rows, columns)
    return blocks.permute(0, 1, 4, 2, 5, 3).reshape(n_images, -1, rows * fx, columns * fy)
