"""Training images prepared at a factor, and positions of windows.

Coordinates refer to the high-resolution grid. If windows are also cut from the low-resolution
grid, their bounds are multiples of p for a factor of p/q.

The center of a window is drawn uniformly from the brain voxels; a window that crosses the image
border is moved inside (our choice: the papers report only the number and size of windows).
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor, Shape, highres_size
from bids_sr.networks.data.images import TrainingDataError, TrainingImage
from bids_sr.sr.matrices import lowres_size, upsample
from bids_sr.sr.operators import get_operator
from bids_sr.sr.recipe import Recipe

Window = tuple[tuple[int, int], ...]
"""First voxel, and the voxel after the last, along each axis of the high-resolution grid."""


@frozen
class PreparedImage:
    """Image prepared at one factor, with intensities scaled for the network.

    Parameters
    ----------
    source : Tensor
        Input of the generator (C, *grid).
    coarse : Tensor
        Low-resolution image (C, x, y, z).
    target : Tensor
        Image to compare the output with (C, *grid): the high-resolution image, or the
        low-resolution image for the objective "self".
    inside, inside_coarse : Tensor
        Mask on the high-resolution grid (1, X, Y, Z) and on the low-resolution grid (1, x, y, z),
        boolean.
    level : NDArray[np.float64]
        Width of the original intensity range that is scaled to a width of 1 (C,).
    lowest : NDArray[np.float64]
        Original intensity that becomes 0 (C,).
    headroom : NDArray[np.float64]
        Ratio of `level` to the 99th percentile of the low-resolution image in the mask (C,).
    steps : tuple[tuple[int, int], ...]
        Numerator and denominator (p, q) of the factor p/q along each axis.
    """

    source: Tensor
    coarse: Tensor
    target: Tensor
    inside: Tensor
    inside_coarse: Tensor
    level: NDArray[np.float64]
    lowest: NDArray[np.float64]
    headroom: NDArray[np.float64]
    steps: tuple[tuple[int, int], ...]

    @property
    def shape(self) -> Shape:
        """Shape of the high-resolution grid."""
        x, y, z = self.inside.shape[1:]
        return x, y, z

    def slice_box(self, z: int) -> Window:
        """Return the window that covers a whole slice.

        `z` is the index of the slice along the third axis.
        """
        return (0, self.shape[0]), (0, self.shape[1]), (z, z + 1)

    def lowres_voxels(self, box: Window) -> tuple[slice, ...]:
        """Return the range of low-resolution voxels that a window covers.

        A window that ends at the border of the high-resolution grid also ends at the border of the
        low-resolution grid.
        """
        return tuple(
            slice(a * q // p, m if b == n else b * q // p)
            for (a, b), (p, q), n, m in zip(
                box, self.steps, self.shape, self.coarse.shape[1:], strict=True
            )
        )


def prepare(image: TrainingImage, recipe: Recipe, factor: Factor, device: str) -> PreparedImage:
    """Prepare an image for a recipe at a factor: compute both grids and scale intensities.

    Unless the image is a measured pair with this factor, it is cropped around its center to a size
    that the factor divides. The intensity scale is computed from the low-resolution image, because
    no other image is available when a model is applied.

    Raises
    ------
    TrainingDataError
        If the mask is empty after downsampling, or contains no positive intensity.
    """
    ratios = [Fraction(f).limit_denominator(64) for f in factor]
    inside = _tensor((image.mask > 0).astype(np.float32))
    fine, coarse = (
        None if array is None else _tensor(array) for array in (image.fine, image.coarse)
    )
    if fine is not None:
        if coarse is None or fine.shape[-3:] != tuple(
            map(highres_size, coarse.shape[-3:], factor)
        ):
            # a measured low-resolution image is used only at its own factor
            size = tuple(
                lowres_size(n, f)[0] if f != 1 else n
                for n, f in zip(image.shape, factor, strict=True)
            )
            fine, inside = _crop_center(fine, size), _crop_center(inside, size)
            coarse = get_operator(recipe.degradation, size, tuple(factor)).forward(fine)
        block = get_operator(
            "block", tuple(fine.shape[-3:]), tuple(factor), tuple(coarse.shape[-3:])
        )
        inside_coarse = (block.forward(inside) > 0.5).float()
    else:
        assert coarse is not None
        cropped_shape = [
            n // f.denominator * f.denominator for n, f in zip(image.shape, ratios, strict=True)
        ]
        coarse, inside_coarse = (
            _crop_center(coarse, cropped_shape),
            _crop_center(inside, cropped_shape),
        )
        inside = _tensor(upsample("nearest", inside_coarse[0].numpy(), factor))
    if not (inside > 0).any() or not (inside_coarse > 0).any():
        raise TrainingDataError(
            f"{image.name}: the mask is empty after downsampling by a factor of {factor}"
        )
    values = coarse.numpy()
    high = np.array(
        [np.percentile(c[inside_coarse[0].numpy() > 0], 99) for c in values], dtype=np.float64
    )
    flat = values.reshape(len(values), -1).astype(np.float64)
    lowest = flat.min(1) if recipe.intensity == "range" else np.zeros(len(flat))
    level = high if recipe.intensity == "percentile" else flat.max(1) - lowest
    if not (level > 0).all() or not (high > 0).all():
        raise TrainingDataError(
            f"{image.name}: the image has no positive intensities within the mask"
        )
    unit, zero = (
        torch.tensor(intensity, dtype=torch.float32)[:, None, None, None]
        for intensity in (level, lowest)
    )
    source = coarse = (coarse - zero) / unit if lowest.any() else coarse / unit
    if recipe.upsampled_by is not None:
        source = _tensor(
            np.stack([upsample(recipe.upsampled_by, c, factor) for c in coarse.numpy()])
        )
    target = coarse
    if fine is not None and recipe.objective != "self":
        gains = (
            None if image.gain is None else torch.tensor(image.gain / level, dtype=torch.float32)
        )
        target = fine / unit if gains is None else fine * gains[:, None, None, None]
        target = target - zero / unit if lowest.any() else target
    return PreparedImage(
        source=source.to(device),
        coarse=coarse.to(device),
        target=target.to(device),
        inside=(inside > 0).to(device),
        inside_coarse=(inside_coarse > 0).to(device),
        level=level,
        lowest=lowest,
        headroom=level / high,
        steps=tuple((f.numerator, f.denominator) for f in ratios),
    )


def _tensor(image: Array) -> Tensor:
    """Convert an image (X, Y, Z) or (C, X, Y, Z) to a float32 tensor with channels first."""
    return torch.from_numpy(
        np.ascontiguousarray(image[None] if image.ndim == 3 else image, dtype=np.float32)
    )


def _crop_center(image: Tensor, shape: Sequence[int]) -> Tensor:
    """Crop the last three axes around their center."""
    for axis, n in zip((-3, -2, -1), shape, strict=True):
        image = image.narrow(axis, (image.shape[axis] - n) // 2, n)
    return image


def corners_inside(mask: Array, sides: Sequence[int], steps: Sequence[int]) -> NDArray[np.int64]:
    """Return (N, d) corners of windows centered on each voxel of a mask (X, Y) or (X, Y, Z).

    Corners are rounded down to multiples of `steps`, so that windows can also be cut from the
    low-resolution grid.

    Raises
    ------
    TrainingDataError
        If a window does not fit into the mask's grid, or the mask is empty.
    """
    last_corner = np.asarray(mask.shape) - sides
    if min(sides) < 1 or (last_corner < 0).any():
        raise TrainingDataError(
            f"a patch of {tuple(sides)} voxels does not fit into an image of {mask.shape} voxels"
        )
    centers = np.argwhere(np.asarray(mask) > 0)
    if not len(centers):
        raise TrainingDataError("the mask is empty, so no patches can be extracted")
    return np.clip(centers - np.asarray(sides) // 2, 0, last_corner) // steps * steps


def shift_image(image: Tensor, shift: tuple[float, float]) -> Tensor:
    """Shift images by fractions of a voxel with a linear phase ramp in k-space.

    Content that leaves the image on one side enters it on the opposite side.

    Parameters
    ----------
    image : Tensor
        Images whose last two axes are shifted (..., X, Y).
    shift : tuple[float, float]
        Distance towards higher indices along the last two axes (voxels).
    """
    rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64) for n in image.shape[-2:])
    angle = -2 * torch.pi * (rows[:, None] * shift[0] + columns[None] * shift[1])
    ramp = torch.polar(torch.ones_like(angle), angle).to(image.device, torch.complex64)
    return torch.fft.ifft2(torch.fft.fft2(image) * ramp).real
