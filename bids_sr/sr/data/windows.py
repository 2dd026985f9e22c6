"""Images prepared for a factor, and where windows of them lie and how they may be turned.

Coordinates are those of the high-resolution grid. Where a window has to exist on the
low-resolution grid too, it begins and ends at multiples of p for a factor p/q.

A window is placed by its center, which is a voxel of the brain drawn evenly, and moved inside the
image at its border (ours; the papers say how many and how large, not where). Reversing an axis,
and exchanging axes of one voxel size, patch size and factor, map voxel centers of both grids onto
centers, so that they commute with the degradation; other rotations and deformations would
interpolate, which blurs the target.
"""

from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations, product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor, Shape
from bids_sr.sr.data.images import TrainingDataError, TrainingImage
from bids_sr.sr.matrices import highres_size, lowres_size, upsample
from bids_sr.sr.operators import get_operator, matrices_along
from bids_sr.sr.recipe import Recipe

Box = tuple[tuple[int, int], ...]
"""(first, last + 1) of each axis on the high-resolution grid."""
Turn = tuple[tuple[int, ...], tuple[bool, ...]]
"""An exchange of axes followed by reversals: axis k becomes axis order[k] of the image, reversed
where reversed[k].
"""


@frozen
class Prepared:
    """One image at one factor, in the intensity of the network.

    `source`: (C, *) input of the generator. `coarse`: (C, x, y, z) low-resolution image. `target`:
    (C, *) what the output is compared with: the high-resolution image, or `coarse` (objective
    "self"). `inside`, `inside_coarse`: (1, X, Y, Z) and (1, x, y, z) mask, boolean. `level`: (C,)
    intensity between 0 and 1 for the network. `lowest`: (C,) intensity that is 0. `headroom`: (C,)
    that level over the 99th percentile of `coarse` in the mask. `steps`: (p, q) an axis, for a
    factor p/q.
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
        """The high-resolution grid."""
        x, y, z = self.inside.shape[1:]
        return x, y, z

    def slice_box(self, z: int) -> Box:
        """A whole slice.

        `z`: number of the slice along the third axis, counted from 0.
        """
        return (0, self.shape[0]), (0, self.shape[1]), (z, z + 1)

    def on_coarse(self, box: Box) -> tuple[slice, ...]:
        """Return the low-resolution voxels of a window.

        They go to the end where it ends there, whatever the factor divides.
        """
        return tuple(
            slice(a * q // p, m if b == n else b * q // p)
            for (a, b), (p, q), n, m in zip(
                box, self.steps, self.shape, self.coarse.shape[1:], strict=True
            )
        )


def prepare(image: TrainingImage, recipe: Recipe, factor: Factor, device: str) -> Prepared:
    """Bring an image to the grids and the intensity that a recipe wants, at a factor.

    An image is cropped around its center to what the factor divides. The level that becomes 1 is
    found in the low-resolution image: there is no other when a model is applied.
    TrainingDataError: nothing in the mask, or no positive intensity in it.
    """
    ratios = [Fraction(f).limit_denominator(64) for f in factor]
    inside = _tensor((image.mask > 0).astype(np.float32))
    fine, coarse = (None if each is None else _tensor(each) for each in (image.fine, image.coarse))
    if fine is not None:
        if coarse is None or fine.shape[-3:] != tuple(
            map(highres_size, coarse.shape[-3:], factor)
        ):
            # a measured coarse image serves its own factor alone
            size = tuple(
                lowres_size(n, f)[0] if f != 1 else n
                for n, f in zip(image.shape, factor, strict=True)
            )
            fine, inside = _centered(fine, size), _centered(inside, size)
            coarse = get_operator(recipe.degradation, size, tuple(factor)).forward(fine)
        block = get_operator(
            "block", tuple(fine.shape[-3:]), tuple(factor), tuple(coarse.shape[-3:])
        )
        inside_coarse = (block.forward(inside) > 0.5).float()
    else:
        assert coarse is not None
        held = [
            n // f.denominator * f.denominator for n, f in zip(image.shape, ratios, strict=True)
        ]
        coarse, inside_coarse = _centered(coarse, held), _centered(inside, held)
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
        torch.tensor(found, dtype=torch.float32)[:, None, None, None] for found in (level, lowest)
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
    return Prepared(
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
    """(X, Y, Z) or (C, X, Y, Z) with channels first."""
    return torch.from_numpy(
        np.ascontiguousarray(image[None] if image.ndim == 3 else image, dtype=np.float32)
    )


def _centered(image: Tensor, shape: Sequence[int]) -> Tensor:
    """The last three axes cropped around their center."""
    for axis, n in zip((-3, -2, -1), shape, strict=True):
        image = image.narrow(axis, (image.shape[axis] - n) // 2, n)
    return image


def corners_inside(mask: Array, sides: Sequence[int], steps: Sequence[int]) -> NDArray[np.int64]:
    """Return (N, d) corners of windows centered on each voxel of a mask (X, Y) or (X, Y, Z).

    `steps`: corners are multiples of them, where a window of the low-resolution grid is cut
    beside.
    """
    room = np.asarray(mask.shape) - sides
    if min(sides) < 1 or (room < 0).any():
        raise TrainingDataError(
            f"a patch of {tuple(sides)} voxels does not fit into an image of {mask.shape} voxels"
        )
    centers = np.argwhere(np.asarray(mask) > 0)
    if not len(centers):
        raise TrainingDataError("the mask is empty, so no patches can be extracted")
    return np.clip(centers - np.asarray(sides) // 2, 0, room) // steps * steps


def symmetries(
    sides: Sequence[int],
    zooms: Sequence[float],
    factor: Sequence[float],
    degradation: str = "kspace",
) -> tuple[Turn, ...]:
    """Return all arrangements of a window that keep the physics.

    There are 8 or 48 for equal axes, 4 or 8 if none are equal.

    Parameters
    ----------
    sides, zooms, factor : Sequence[float]
        Side of the window (voxels), voxel size (mm) and factor along each axis. Voxel sizes within
        one part in a thousand are equal.
    degradation : str, optional
        Name of the degradation; axes along which it acts differently are not exchanged.
    """
    acts = matrices_along(degradation)[: len(sides)]
    axes = list(zip(sides, zooms, factor, acts, strict=True))
    same = [
        [n == m and abs(z - y) <= 1e-3 * z and abs(f - g) < 1e-6 and a == b for m, y, g, b in axes]
        for n, z, f, a in axes
    ]
    orders = [
        order
        for order in permutations(range(len(axes)))
        if all(same[k][axis] for k, axis in enumerate(order))
    ]
    return tuple(product(orders, product((False, True), repeat=len(axes))))


def turned(image: Tensor, turn: Turn, *, back: bool = False) -> Tensor:
    """Return (..., *grid) in another arrangement, or `back` from it; a view where it can be.

    `image`: images or windows, with the axes of the grid last. `turn`: exchange of axes, and
    reversals to follow.
    """
    order, reverse = turn
    first = image.ndim - len(order)
    axes = [first + k for k, each in enumerate(reverse) if each]
    if back and axes:
        image = image.flip(axes)
    places = np.argsort(order) if back else order
    image = image.permute(*range(first), *(first + int(k) for k in places))
    return image.flip(axes) if axes and not back else image


def shifted(image: Tensor, shift: tuple[float, float]) -> Tensor:
    """Move the content by fractions of a voxel (towards higher indices) with a phase ramp.

    `image`: images whose last two axes are moved (..., X, Y). `shift`: distance along the last two
    axes (voxels). What leaves one side enters the other.
    """
    rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64) for n in image.shape[-2:])
    angle = -2 * torch.pi * (rows[:, None] * shift[0] + columns[None] * shift[1])
    ramp = torch.polar(torch.ones_like(angle), angle).to(image.device, torch.complex64)
    return torch.fft.ifft2(torch.fft.fft2(image) * ramp).real
