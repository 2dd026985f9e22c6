"""Parts that several networks share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bids_sr.sr.resolution.degradation import crop_matrix, fill_matrix, fine_size


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


class Planes:
    """In-plane k-space operators as matrices on the device of the images, made once per matrix size.

    Not a module: it has nothing to train and nothing to save.
    """

    def __init__(self, factor: tuple[float, float]) -> None:
        self.factor = factor
        self._cache: dict[tuple[object, ...], Tensor] = {}

    def _matrix(self, kind: str, m: int, axis: int, like: Tensor) -> Tensor:
        key = (kind, m, axis, like.device, like.dtype)
        if key not in self._cache:
            n = fine_size(m, self.factor[axis])
            array = {
                "fill": lambda: fill_matrix(m, n),
                "crop": lambda: crop_matrix(n, m),
                "low": lambda: fill_matrix(m, n) @ crop_matrix(n, m),
            }[kind]()
            self._cache[key] = torch.tensor(array, device=like.device, dtype=like.dtype)
        return self._cache[key]

    def _apply(self, kind: str, x: Tensor, size: tuple[int, int]) -> Tensor:
        return self._matrix(kind, size[0], 0, x) @ x @ self._matrix(kind, size[1], 1, x).T

    def fill(self, lr: Tensor) -> Tensor:
        """Zero filling: (..., x, y) on the acquired grid to the high-resolution one."""
        return self._apply("fill", lr, (lr.shape[-2], lr.shape[-1]))

    def crop(self, hr: Tensor, size: tuple[int, int]) -> Tensor:
        """What the acquisition with a matrix of `size` would have seen of a fine image."""
        return self._apply("crop", hr, size)

    def low(self, hr: Tensor, size: tuple[int, int]) -> Tensor:
        """The part of a fine image inside the acquired band: fill(crop(hr))."""
        return self._apply("low", hr, size)
