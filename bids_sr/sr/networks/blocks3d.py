"""Parts that the volumetric networks share; none normalizes, because activity is intensity."""

from __future__ import annotations

from torch import Tensor, nn


def glorot(net: nn.Module) -> None:
    """Weights of all convolutions and dense layers drawn after Glorot and Bengio 2010 (normal), biases zero, in place.

    Source: mouse-sr, section 2.3.5, which names the normal form and prints a uniform range; the normal form is used.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.xavier_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def zero(layer: nn.Module) -> None:
    """A layer that gives nothing until it is trained: behind a skip connection the net then starts as its input."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class ResidualBlock3d(nn.Module):
    """Convolution, ReLU, convolution, ReLU, and the sum with the block's input; (N, width, X, Y, Z) keeps its shape.

    Source: mouse-sr, section 2.3.2 and METHODS section 4 ("two convolutions, two ReLU with one additional layer", read
    as an addition). 2 (27 width² + width) parameters.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(width, width, 3, padding=1), nn.ReLU(), nn.Conv3d(width, width, 3, padding=1), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)
