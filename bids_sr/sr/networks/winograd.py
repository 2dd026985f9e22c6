"""Residual blocks of slice-wise networks by Winograd's convolution: a quarter of the products.

A tile of 4 x 4 voxels with its neighbors (6 x 6) becomes 36 sums, each of which goes through a
matrix of channels of its own; what comes out is summed to the 4 x 4 voxels again (F(4 x 4, 3 x 3)
of Lavin and Gray 2016). Values are those of plain convolution but for rounding, some 1e-6 of the
largest. Gradients take the same way back.

Images are kept as (X, 4, Y / 4 * C): columns by their place in a tile, channels innermost. So all
loops run over contiguous memory, and a compiler turns them into wide instructions.
"""

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from bids_sr.io.array_types import Float32
from bids_sr.spatial.spline_kernels import compiled
from bids_sr.sr.networks.network_blocks import ResidualBlock
from bids_sr.sr.threads import side_by_side

_inlined = numba.njit(inline="always")
_Lines = tuple[Float32, Float32, Float32, Float32, Float32, Float32]

_SIDE = 4  # of a tile
_OF_SIDE = torch.tensor(
    [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24.0]]
)
_OF_KERNEL = torch.kron(_OF_SIDE / 24, _OF_SIDE / 24)  # (36, 9)
_TWO, _FOUR, _FIVE, _EIGHT = (np.float32(k) for k in (2, 4, 5, 8))


@_inlined
def _six(lines: Float32, first: int, step: int) -> _Lines:
    """Six lines of (K, N) in steps, from the beginning again behind the last."""
    k = len(lines)
    return (
        lines[first % k],
        lines[(first + step) % k],
        lines[(first + 2 * step) % k],
        lines[(first + 3 * step) % k],
        lines[(first + 4 * step) % k],
        lines[(first + 5 * step) % k],
    )


@_inlined
def _to_six(seen: _Lines, out: _Lines) -> None:
    """Six sums of six lines; one a loop, as a compiler can tell only so many lines apart."""
    a, b, c, d, e, f = seen
    n = len(a)
    for i in range(n):
        out[0][i] = _FOUR * a[i] - _FIVE * c[i] + e[i]
    for i in range(n):
        out[1][i] = d[i] + e[i] - _FOUR * (b[i] + c[i])
    for i in range(n):
        out[2][i] = e[i] - d[i] + _FOUR * (b[i] - c[i])
    for i in range(n):
        out[3][i] = e[i] - c[i] + _TWO * (d[i] - b[i])
    for i in range(n):
        out[4][i] = e[i] - c[i] - _TWO * (d[i] - b[i])
    for i in range(n):
        out[5][i] = _FOUR * b[i] - _FIVE * d[i] + f[i]


@_inlined
def _to_four(seen: _Lines, out: _Lines) -> None:
    """Four lines, the first of `out`, of six sums."""
    a, b, c, d, e, f = seen
    n = len(a)
    for i in range(n):
        out[0][i] = a[i] + b[i] + c[i] + d[i] + e[i]
    for i in range(n):
        out[1][i] = b[i] - c[i] + _TWO * (d[i] - e[i])
    for i in range(n):
        out[2][i] = b[i] + c[i] + _FOUR * (d[i] + e[i])
    for i in range(n):
        out[3][i] = b[i] - c[i] + _EIGHT * (d[i] - e[i]) + f[i]


@_inlined
def _of_four(seen: _Lines, out: _Lines) -> None:
    """Six sums of the first four lines, the transpose of `_to_four`."""
    a, b, c, d = seen[0], seen[1], seen[2], seen[3]
    n = len(a)
    for i in range(n):
        out[0][i] = a[i]
    for i in range(n):
        out[1][i] = a[i] + c[i] + (b[i] + d[i])
    for i in range(n):
        out[2][i] = a[i] + c[i] - (b[i] + d[i])
    for i in range(n):
        out[3][i] = a[i] + _FOUR * c[i] + _TWO * (b[i] + _FOUR * d[i])
    for i in range(n):
        out[4][i] = a[i] + _FOUR * c[i] - _TWO * (b[i] + _FOUR * d[i])
    for i in range(n):
        out[5][i] = d[i]


@compiled("void(float32[:,::1], float32[:,::1], int64)")
def _to_tiles(image: Float32, tiles: Float32, channels: int) -> None:
    """Sums (36 * X / 4, N) of each tile of an image (X * 4, N)."""
    across, n = len(image) // 16, image.shape[1]
    before, after = np.zeros(n, np.float32), np.zeros(n, np.float32)
    lines = np.zeros((36, n), np.float32)  # six of each of the latest six rows
    for r in range(across):
        for m in range(4 * r + 2 if r else 1, 4 * r + 6):
            if m > 4 * across:
                lines[6 * (m % 6) :][:6] = 0
                continue
            _, a, b, c, d, _ = _six(image, 4 * m - 5, 1)
            before[channels:] = d[: n - channels]
            after[: n - channels] = a[channels:]
            _to_six((before, a, b, c, d, after), _six(lines, 6 * m, 1))
        for j in range(6):
            _to_six(_six(lines, 24 * r + j, 6), _six(tiles, j * across + r, 6 * across))


@compiled("void(float32[:,::1], float32[::1], float32[::1], boolean, float32[:,::1])")
def _from_tiles(tiles: Float32, bias: Float32, slope: Float32, adds: bool, image: Float32) -> None:
    """Image (X * 4, N) of sums and a bias: after PReLU, or added to what it is."""
    across, n, zero = len(image) // 16, len(bias), np.float32(0)
    lines, four = np.empty((24, n), np.float32), np.empty((6, n), np.float32)
    for r in range(across):
        for j in range(6):
            _to_four(_six(tiles, j * across + r, 6 * across), _six(lines, j, 6))
        for k in range(4):
            _to_four(_six(lines, 6 * k, 1), _six(four, 0, 1))
            for p in range(4):
                line, out = four[p], image[16 * r + 4 * k + p]
                if adds:
                    for i in range(n):
                        out[i] += line[i] + bias[i]
                else:
                    for i in range(n):
                        value = line[i] + bias[i]
                        out[i] = max(value, zero) + slope[i] * min(value, zero)


@compiled("void(float32[:,::1], float32[:,::1])")
def _spread(image: Float32, tiles: Float32) -> None:
    """The transpose of what makes an image (X * 4, N) of sums (36 * X / 4, N)."""
    across = len(image) // 16
    lines = np.empty((24, image.shape[1]), np.float32)
    for r in range(across):
        for k in range(4):
            _of_four(_six(image, 16 * r + 4 * k, 1), _six(lines, 6 * k, 1))
        for j in range(6):
            _of_four(_six(lines, j, 6), _six(tiles, j * across + r, 6 * across))


@compiled("void(float32[:,::1], float32[:,::1], float32[::1], float32[::1])")
def _prelu_back(before: Float32, gradient: Float32, slope: Float32, of_slope: Float32) -> None:
    """Take a gradient (K, N) back through PReLU, in place, and add that of its slopes (N,)."""
    zero, one = np.float32(0), np.float32(1)
    for k in range(len(before)):
        z, g = before[k], gradient[k]
        for i in range(len(slope)):
            of_slope[i] += min(z[i], zero) * g[i]
        for i in range(len(slope)):
            g[i] *= one if z[i] > zero else slope[i]


class _Tiles:
    """Room for the tiles of one image of (N, C, X, Y), and what is done by way of them."""

    def __init__(self, shape: Sequence[int]) -> None:
        _, self._channels, self._rows, columns = shape
        # in the last tile, columns that the image has
        self._left = (columns - 1) % _SIDE + 1
        count = -(-self._rows // _SIDE) * -(-columns // _SIDE)
        self._sums, self._products = (torch.empty(36, count, self._channels) for _ in range(2))

    def _lines(self, tiles: Tensor, image: Float32) -> Float32:
        return tiles.view(-1, image.shape[1]).numpy()

    def convolve(
        self,
        image: Float32,
        weights: Tensor,
        bias: Float32,
        slope: Float32,
        out: Float32,
        adds: bool,
    ) -> None:
        """Image (X * 4, N) through weights (36, C, C); see `_from_tiles`."""
        _to_tiles(image, self._lines(self._sums, image), self._channels)
        torch.bmm(self._sums, weights, out=self._products)
        _from_tiles(self._lines(self._products, image), bias, slope, adds, out)
        out[self._rows * _SIDE :] = 0  # beyond the image
        out.reshape(-1, _SIDE, out.shape[1])[:, self._left :, -self._channels :] = 0

    def add_gradient(self, image: Float32, gradient: Float32, of_weights: Tensor) -> None:
        """Add what the gradient behind a convolution of an image says of its weights."""
        _to_tiles(image, self._lines(self._sums, image), self._channels)
        _spread(gradient, self._lines(self._products, image))
        of_weights.baddbmm_(self._sums.transpose(1, 2), self._products)


def _weights_of_tiles(kernel: Tensor) -> Tensor:
    """Return matrices (36, C, C) for the sums of a tile, of a kernel (C, C, 3, 3)."""
    rows = kernel.permute(2, 3, 1, 0)
    return (_OF_KERNEL.to(kernel) @ rows.reshape(9, -1)).view(36, *rows.shape[2:])


def _of_kernel(of_weights: Tensor) -> Tensor:
    """Gradient of a kernel (C, C, 3, 3) from that of its weights (36, C, C)."""
    rows = _OF_KERNEL.T @ of_weights.flatten(1)
    return rows.view(3, 3, *of_weights.shape[1:]).permute(3, 2, 0, 1)


def _lines(values: Tensor, count: int) -> Float32:
    """Values of channels for each of `count` columns."""
    return values.detach().repeat(count).numpy()


def _folded(x: Tensor) -> Tensor:
    """Copy (N, C, X, Y) as (N, X * 4, Y / 4 * C), with zeros beyond the sides to whole tiles."""
    if any(side % _SIDE for side in x.shape[2:]):
        x = functional.pad(x, (0, -x.shape[3] % _SIDE, 0, -x.shape[2] % _SIDE))
    n, channels, rows = x.shape[:3]
    image = x.permute(0, 2, 3, 1).reshape(n, rows, -1, _SIDE, channels).transpose(2, 3)
    return image.clone(memory_format=torch.contiguous_format).view(n, rows * _SIDE, -1)


def _unfolded(image: Tensor, shape: Sequence[int]) -> Tensor:
    n, channels, rows, columns = shape
    image = image.view(n, -1, _SIDE, image.shape[2] // channels, channels).transpose(2, 3)
    image = image.reshape(n, image.shape[1], -1, channels)
    return image.permute(0, 3, 1, 2)[:, :, :rows, :columns]


class _Blocks(torch.autograd.Function):
    """Residual blocks one after the other: kernels, biases and slopes of each, and an image."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        image, tiles, kept = _folded(x), _Tiles(x.shape), []
        even, count = np.ones(image.shape[2], np.float32), image.shape[2] // x.shape[1]
        for k in range(0, len(parameters), 5):
            first, bias, slope, second, bias2 = parameters[k : k + 5]
            before, weights, line = (
                torch.empty_like(image),
                _weights_of_tiles(first),
                _lines(bias, count),
            )
            for one, out in zip(image.numpy(), before.numpy(), strict=True):
                tiles.convolve(one, weights, line, even, out, False)
            kept += [image, before]
            active, image = _prelu(before, slope), image.clone()
            weights, line = _weights_of_tiles(second), _lines(bias2, count)
            for one, out in zip(active.numpy(), image.numpy(), strict=True):
                tiles.convolve(one, weights, line, even, out, True)
        ctx.save_for_backward(*parameters, *kept)
        return _unfolded(image, x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        channels, g, tiles = gradient.shape[1], _folded(gradient), _Tiles(gradient.shape)
        size = g.shape[2]
        even, none = np.ones(size, np.float32), np.zeros(size, np.float32)
        saved: list[Tensor] = list(ctx.saved_tensors)
        found: list[Tensor] = []
        total = len(saved) // 7

        def through(
            kernel: Tensor, seen: Tensor, behind: Tensor, out: Tensor, adds: bool
        ) -> Tensor:
            """Gradient of a kernel; that of what it saw goes to `out`, or is added."""
            back = _weights_of_tiles(kernel.flip(2, 3).transpose(0, 1))
            of_weights = torch.zeros(36, channels, channels)
            for image, one, before in zip(seen.numpy(), behind.numpy(), out.numpy(), strict=True):
                tiles.add_gradient(image, one, of_weights)
                tiles.convolve(one, back, none, even, before, adds)
            return _of_kernel(of_weights)

        for k in reversed(range(total)):
            first, _, slope, second, _ = saved[5 * k : 5 * k + 5]
            image, before = saved[5 * total + 2 * k :][:2]
            behind, of_slope = torch.empty_like(g), np.zeros(size, np.float32)
            of_bias2 = g.view(-1, channels).sum(0)
            of_second = through(second, _prelu(before, slope), g, behind, False)
            lines = (each.view(-1, size).numpy() for each in (before, behind))
            _prelu_back(*lines, _lines(slope, size // channels), of_slope)
            of_bias = behind.view(-1, channels).sum(0)
            of_first = through(first, image, behind, g, True)
            own = torch.from_numpy(of_slope).view(-1, channels).sum(0)
            found[:0] = [of_first, of_bias, own, of_second, of_bias2]
        return (_unfolded(g, gradient.shape) if ctx.needs_input_grad[0] else None, *found)


def _prelu(image: Tensor, slope: Tensor) -> Tensor:
    lines = image.view(-1, image.shape[-1])
    return functional.prelu(lines, slope.repeat(lines.shape[1] // len(slope))).view(image.shape)


def _parts(block: ResidualBlock) -> tuple[Tensor, ...]:
    first, second = block.first, block.second
    return first.weight, first.bias, block.activation.weight, second.weight, second.bias  # type: ignore[return-value]


def _fits(x: Tensor) -> bool:
    """Whether tiles serve images: on one thread of a processor, in full precision."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and torch.get_num_threads() == 1
    )


def apply_blocks(blocks: Sequence[nn.Module], x: Tensor) -> Tensor:
    """Apply residual blocks one after the other, by tiles on one thread.

    Parameters
    ----------
    blocks : Sequence[nn.Module]
        Residual blocks, or what stands for them.
    x : Tensor
        Features (N, C, X, Y).

    Returns
    -------
    Tensor
        Features of the same shape.
    """
    parts = [_parts(block) for block in blocks if isinstance(block, ResidualBlock)]
    if len(parts) == len(blocks) and _fits(x):
        return _Blocks.apply(x, *(each for some in parts for each in some))
    for block in blocks:
        x = block(x)
    return x


class TrainedBlocks(nn.Module):
    """Residual blocks one after the other, to be applied often on a processor.

    Parameters
    ----------
    blocks : Sequence[ResidualBlock]
        Trained blocks.
    """

    def __init__(self, blocks: Sequence[ResidualBlock]) -> None:
        super().__init__()
        self._layers: list[tuple[Tensor, Tensor, Tensor]] = []
        for first, bias, slope, second, bias2 in map(_parts, blocks):
            for kernel, shift in ((first, bias), (second, bias2)):
                weights = _weights_of_tiles(kernel.detach().double()).float()
                self._layers.append((weights, shift, slope))

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape.

        Parameters
        ----------
        x : Tensor
            Features (N, C, X, Y).

        Returns
        -------
        Tensor
            Features of the same shape.
        """
        images = _folded(x)
        count = images.shape[2] // x.shape[1]
        layers = [
            (w, _lines(bias, count), _lines(slope, count)) for w, bias, slope in self._layers
        ]

        def change(image: Float32) -> None:
            tiles, between = _Tiles(x.shape), np.empty_like(image)
            for k, layer in enumerate(layers):
                source, out = (between, image) if k % 2 else (image, between)
                tiles.convolve(source, *layer, out, k % 2 == 1)

        for _ in side_by_side(change, images.numpy()):
            pass
        return _unfolded(images, x.shape)
