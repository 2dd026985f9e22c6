"""Training images prepared at a factor, and positions of windows.

Coordinates refer to the high-resolution grid. If windows are also cut from the low-resolution
grid, their bounds are multiples of p for a factor of p/q.

The center of a window is drawn uniformly from the brain voxels; a window that crosses the image
border is moved inside (our choice: the papers report only the number and size of windows).
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor, Shape, highres_size
from bids_sr.io.notices import InvalidInput
from bids_sr.spatial.matrices import lowres_size, upsample
from bids_sr.sr.networks.data.images import TrainingImage
from bids_sr.sr.operators import get_operator
from bids_sr.sr.recipe import Recipe

_MAX_DENOMINATOR = 64  # largest q of a factor p/q

Window = tuple[tuple[int, int], ...]
"""First voxel, and the voxel after the last, along each axis of the high-resolution grid."""


@frozen
class PreparedImage:
    """Image prepared at one factor, with intensities scaled for the network.

    `source` is the input of the generator (C, *grid), and `lowres` the low-resolution image (C, x,
    y, z). `target` is compared with the output (C, *grid): the high-resolution image, or the
    low-resolution image for the objective "self". `mask` is on the high-resolution grid (1, X, Y,
    Z) and `lowres_mask` on the low-resolution grid (1, x, y, z), both boolean.

    `level` is the width of the original intensity range that is scaled to a width of 1, `lowest`
    the original intensity that becomes 0, and `headroom` the ratio of `level` to the 99th
    percentile of the low-resolution image in the mask (C,). `ratios` are numerator and denominator
    (p, q) of the factor p/q along each axis.
    """

    source: Tensor
    lowres: Tensor
    target: Tensor
    mask: Tensor
    lowres_mask: Tensor
    level: NDArray[np.float64]
    lowest: NDArray[np.float64]
    headroom: NDArray[np.float64]
    ratios: tuple[tuple[int, int], ...]

    @property
    def shape(self) -> Shape:
        """Shape of the high-resolution grid."""
        x, y, z = self.mask.shape[1:]
        return x, y, z

    def get_slice_window(self, z: int) -> Window:
        """Return the window that covers a whole slice.

        `z` is the index of the slice along the third axis.
        """
        return (0, self.shape[0]), (0, self.shape[1]), (z, z + 1)

    def get_lowres_box(self, window: Window) -> tuple[slice, ...]:
        """Return the range of low-resolution voxels that a window covers.

        A window that ends at the border of the high-resolution grid also ends at the border of the
        low-resolution grid.
        """
        return tuple(
            slice(start * q // p, lowres_side if stop == side else stop * q // p)
            for (start, stop), (p, q), side, lowres_side in zip(
                window, self.ratios, self.shape, self.lowres.shape[1:], strict=True
            )
        )


def index_window(window: Window) -> tuple[slice, ...]:
    """Return the index of a window in an image with channels (C, *grid)."""
    return (slice(None), *(slice(start, stop) for start, stop in window))


def prepare(image: TrainingImage, recipe: Recipe, factor: Factor, device: str) -> PreparedImage:
    """Prepare an image for a recipe at a factor: compute both grids and scale intensities.

    Unless the image is a measured pair with this factor, it is cropped around its center to a size
    that the factor divides. The intensity scale is computed from the low-resolution image, because
    no other image is available when a model is applied. Raises `InvalidInput` if the mask is
    empty after downsampling, or contains no positive intensity.
    """
    ratios = [Fraction(f).limit_denominator(_MAX_DENOMINATOR) for f in factor]
    grids = (
        _crop_lowres(image, ratios, factor)
        if image.fine is None
        else _make_grids(image, recipe, factor)
    )
    if not (grids.mask > 0).any() or not (grids.lowres_mask > 0).any():
        raise InvalidInput(
            f"the mask is empty after downsampling by a factor of {factor}", file=image.name
        )
    scale = _measure_intensity(grids, recipe)
    if not (scale.level > 0).all() or not (scale.percentile > 0).all():
        raise InvalidInput(
            "the image has no positive intensities within the mask", file=image.name
        )
    lowres = (grids.lowres - _broadcast(scale.lowest)) / _broadcast(scale.level)
    source = lowres
    if recipe.upsampled_by is not None:
        channels = [upsample(recipe.upsampled_by, channel, factor) for channel in lowres.numpy()]
        source = _to_tensor(np.stack(channels))
    target = lowres
    if grids.highres is not None and recipe.objective != "self":
        target = _scale_highres(grids.highres, scale, image.gain)
    return PreparedImage(
        source=source.to(device),
        lowres=lowres.to(device),
        target=target.to(device),
        mask=(grids.mask > 0).to(device),
        lowres_mask=(grids.lowres_mask > 0).to(device),
        level=scale.level,
        lowest=scale.lowest,
        headroom=scale.level / scale.percentile,
        ratios=tuple((ratio.numerator, ratio.denominator) for ratio in ratios),
    )


class _Grids(NamedTuple):
    """Images and masks of a training image on both grids, with their original intensities.

    `highres` is (C, X, Y, Z), or None if it does not exist, and `lowres` (C, x, y, z). Masks, (1,
    X, Y, Z) and (1, x, y, z), are 1 inside and 0 outside.
    """

    highres: Tensor | None
    lowres: Tensor
    mask: Tensor
    lowres_mask: Tensor


def _crop_lowres(image: TrainingImage, ratios: Sequence[Fraction], factor: Factor) -> _Grids:
    """Return an image without a high-resolution version, cropped to a size that allows the factor.

    `ratios` are the factors p/q along each axis; the size is a multiple of q.
    """
    assert image.coarse is not None
    shape = [
        round_down(n, ratio.denominator) for n, ratio in zip(image.shape, ratios, strict=True)
    ]
    lowres = _crop_center(_to_tensor(image.coarse), shape)
    lowres_mask = _crop_center(_to_tensor((image.mask > 0).astype(np.float32)), shape)
    mask = _to_tensor(upsample("nearest", lowres_mask[0].numpy(), factor))
    return _Grids(None, lowres, mask, lowres_mask)


def round_down(n: int, step: int) -> int:
    """Return the largest multiple of `step` that does not exceed `n`.

    >>> round_down(11, 4)
    8
    """
    return n // step * step


def _make_grids(image: TrainingImage, recipe: Recipe, factor: Factor) -> _Grids:
    """Return an image with a high-resolution version on both grids.

    The low-resolution image is measured if the factor is the factor of the pair, and computed with
    the recipe's degradation otherwise.
    """
    assert image.fine is not None
    highres = _to_tensor(image.fine)
    lowres = None if image.coarse is None else _to_tensor(image.coarse)
    mask = _to_tensor((image.mask > 0).astype(np.float32))
    if lowres is None or highres.shape[-3:] != tuple(map(highres_size, lowres.shape[-3:], factor)):
        shape = tuple(
            lowres_size(n, f)[0] if f != 1 else n for n, f in zip(image.shape, factor, strict=True)
        )
        highres, mask = _crop_center(highres, shape), _crop_center(mask, shape)
        lowres = get_operator(recipe.degradation, shape, tuple(factor)).forward(highres)
    block = get_operator(
        "block", tuple(highres.shape[-3:]), tuple(factor), tuple(lowres.shape[-3:])
    )
    lowres_mask = (block.forward(mask) > 0.5).float()
    return _Grids(highres, lowres, mask, lowres_mask)


def _to_tensor(image: Array) -> Tensor:
    """Convert an image (X, Y, Z) or (C, X, Y, Z) to a float32 tensor with channels first."""
    return torch.from_numpy(
        np.ascontiguousarray(image[None] if image.ndim == 3 else image, dtype=np.float32)
    )


def _crop_center(image: Tensor, shape: Sequence[int]) -> Tensor:
    """Crop the last three axes around their center."""
    for axis, n in zip((-3, -2, -1), shape, strict=True):
        image = image.narrow(axis, (image.shape[axis] - n) // 2, n)
    return image


class _IntensityScale(NamedTuple):
    """Intensity scale of each channel of a low-resolution image.

    `level` is the width of the intensity range that is scaled to 1, `lowest` the intensity that
    becomes 0, and `percentile` the 99th percentile in the mask (C,).
    """

    level: NDArray[np.float64]
    lowest: NDArray[np.float64]
    percentile: NDArray[np.float64]


def _measure_intensity(grids: _Grids, recipe: Recipe) -> _IntensityScale:
    """Return the intensity scale of the low-resolution image by the rule of the recipe."""
    channels = grids.lowres.numpy()
    is_inside = grids.lowres_mask[0].numpy() > 0
    percentile = np.array(
        [np.percentile(channel[is_inside], 99) for channel in channels], dtype=np.float64
    )
    voxels = channels.reshape(len(channels), -1).astype(np.float64)
    lowest = voxels.min(1) if recipe.intensity == "range" else np.zeros(len(voxels))
    level = percentile if recipe.intensity == "percentile" else voxels.max(1) - lowest
    return _IntensityScale(level, lowest, percentile)


def _scale_highres(highres: Tensor, scale: _IntensityScale, gain: float | None) -> Tensor:
    """Return a high-resolution image (C, X, Y, Z) in the intensity unit of the network.

    `gain` matches its intensity to the low-resolution image; None if both have the same unit.
    """
    unit, zero = _broadcast(scale.level), _broadcast(scale.lowest)
    scaled_image = highres / unit if gain is None else highres * _broadcast(gain / scale.level)
    return scaled_image - zero / unit


def _broadcast(channel_values: NDArray[np.float64]) -> Tensor:
    """Return one value per channel as a tensor that is broadcast to images (C, 1, 1, 1)."""
    return torch.tensor(channel_values, dtype=torch.float32)[:, None, None, None]


def find_corners(mask: Array, sides: Sequence[int], steps: Sequence[int]) -> NDArray[np.int64]:
    """Return (N, d) corners of windows centered on each voxel of a mask (X, Y) or (X, Y, Z).

    Corners are rounded down to multiples of `steps`, so that windows can also be cut from the
    low-resolution grid. Raises `InvalidInput` if a window does not fit into the mask's grid,
    or if the mask is empty.
    """
    last_corner = np.asarray(mask.shape) - sides
    if min(sides) < 1 or (last_corner < 0).any():
        raise InvalidInput(
            f"a patch of {tuple(sides)} voxels does not fit into an image of {mask.shape} voxels"
        )
    centers = np.argwhere(np.asarray(mask) > 0)
    if not len(centers):
        raise InvalidInput("the mask is empty, so no patches can be extracted")
    return np.clip(centers - np.asarray(sides) // 2, 0, last_corner) // steps * steps


def shift_image(image: Tensor, shift: tuple[float, float]) -> Tensor:
    """Shift images by fractions of a voxel with a linear phase ramp in k-space.

    Content that leaves the image on one side enters it on the opposite side. The last two axes of
    the images (..., X, Y) are shifted by `shift` voxels towards higher indices.
    """
    rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64) for n in image.shape[-2:])
    angle = -2 * torch.pi * (rows[:, None] * shift[0] + columns[None] * shift[1])
    ramp = torch.polar(torch.ones_like(angle), angle).to(image.device, torch.complex64)
    return torch.fft.ifft2(torch.fft.fft2(image) * ramp).real
