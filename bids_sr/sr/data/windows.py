"""Images prepared for a factor, and where windows of them lie and how they may be turned.

Coordinates are those of the high-resolution grid. Where a window has to exist on the low-resolution grid too, it begins
and ends at multiples of p for a factor p/q.

A window is placed by its center, which is a voxel of the brain drawn evenly, and moved inside the image at its border
(ours; the papers say how many and how large, not where). Reversing an axis, and exchanging axes of one voxel size,
patch size and factor, map voxel centers of both grids onto centers, so that they commute with the degradation; other
rotations and deformations would interpolate, which blurs the target.
"""

from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations, product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Array
from bids_sr.sr.data.images import ImageSetError, TrainingImage
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.resolution.matrices import Factor, highres_size, lowres_size, upsample
from bids_sr.sr.resolution.operators import get_operator


class SamplingError(ValueError):
    """A patch that the image cannot give."""


def corners_inside(mask: Array, patch: int | Sequence[int], step: int | Sequence[int] = 1) -> NDArray[np.int64]:
    """(N, d) corners of the patches whose center lies in a mask (X, Y) or (X, Y, Z), one for each of its voxels.

    `patch`: side, one for all axes or one each; `step`: corners are multiples of it, where a patch of the
    low-resolution grid is cut beside it. SamplingError for an empty mask, or a patch larger than the image.
    """
    sides, steps = (np.broadcast_to(np.asarray(value, dtype=np.int64), (mask.ndim,)) for value in (patch, step))
    room = np.asarray(mask.shape) - sides
    if (sides < 1).any() or (room < 0).any():
        raise SamplingError(f"a patch of {tuple(sides.tolist())} voxels does not fit in an image of {mask.shape}")
    centers = np.argwhere(np.asarray(mask) > 0)
    if not len(centers):
        raise SamplingError("the mask is empty: there is nowhere to take patches from")
    return np.clip(centers - sides // 2, 0, room) // steps * steps


@frozen
class Symmetry:
    """An exchange of axes followed by reversals, of the last axes of a tensor."""

    order: tuple[int, ...]  # axis k of the result is axis order[k] of the image
    reversed: tuple[bool, ...]  # whether axis k of the result is reversed

    def apply(self, image: Tensor) -> Tensor:
        """(..., *grid) in the new arrangement; a view where it can be."""
        rest = image.ndim - len(self.order)
        moved = image.permute(*range(rest), *(rest + k for k in self.order))
        turned = [rest + k for k, back in enumerate(self.reversed) if back]
        return moved.flip(turned) if turned else moved


def symmetries(patch: Sequence[int], zooms: Sequence[float], factor: Sequence[float]) -> tuple[Symmetry, ...]:
    """All arrangements of a patch that keep the physics: 8 or 48 for equal axes, 4 or 8 where none are equal.

    Sides of the patch are in voxels, voxel sizes in mm; sizes within one part in a thousand are one.
    """
    axes = list(zip(patch, zooms, factor, strict=True))
    same = [[n == m and abs(z - y) <= 1e-3 * z and abs(f - g) < 1e-6 for m, y, g in axes] for n, z, f in axes]
    orders = [order for order in permutations(range(len(axes))) if all(same[k][axis] for k, axis in enumerate(order))]
    return tuple(
        Symmetry(order=order, reversed=turned)
        for order in orders
        for turned in product((False, True), repeat=len(axes))
    )


@frozen
class PreparedImage:
    """One image at one factor, scaled."""

    source: Tensor  # (C, *) input of the generator
    coarse: Tensor  # (C, x, y, z) low-resolution image
    target: Tensor  # (C, *) what the output is compared with: the high-resolution image, or `coarse` (objective "self")
    # (1, X, Y, Z), (1, x, y, z) the mask, boolean
    inside: Tensor
    inside_coarse: Tensor
    level: NDArray[np.float64]  # (C,) intensity that is 1 for the network
    headroom: NDArray[np.float64]  # (C,) that level over the 99th percentile of `coarse` in the mask
    steps: tuple[tuple[int, int], ...]  # (p, q) an axis, for a factor p/q

    @property
    def shape(self) -> tuple[int, int, int]:
        """The high-resolution grid."""
        x, y, z = self.inside.shape[1:]
        return x, y, z


def ratio(factor: float) -> tuple[int, int]:
    """(p, q) of a factor p/q."""
    fraction = Fraction(factor).limit_denominator(64)
    return fraction.numerator, fraction.denominator


def _channels_first(image: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.ascontiguousarray(image[None] if image.ndim == 3 else image, dtype=np.float32)


def _centered(image: Tensor, shape: Sequence[int]) -> Tensor:
    """The last three axes cropped around their center."""
    for axis, n in zip((-3, -2, -1), shape, strict=True):
        image = image.narrow(axis, (image.shape[axis] - n) // 2, n)
    return image


def _grids(image: TrainingImage, recipe: Recipe, factor: Factor) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    """(fine or None, coarse, mask on either grid), unscaled, cropped to what the factor divides."""
    inside = torch.from_numpy(_channels_first((image.mask > 0).astype(np.float32)))
    fine = None if image.fine is None else torch.from_numpy(_channels_first(image.fine))
    coarse = None if image.coarse is None else torch.from_numpy(_channels_first(image.coarse))
    if fine is None:
        assert coarse is not None
        held = [n // q * q for n, (_, q) in zip(image.shape, map(ratio, factor), strict=True)]
        coarse, inside_coarse = _centered(coarse, held), _centered(inside, held)
        grown = upsample("nearest", inside_coarse[0].numpy(), factor)
        return None, coarse, torch.from_numpy(_channels_first(grown)), inside_coarse
    if coarse is None or fine.shape[-3:] != tuple(
        highres_size(n, f) for n, f in zip(coarse.shape[-3:], factor, strict=True)
    ):  # a measured coarse image serves its own factor alone
        size = [lowres_size(n, f)[0] if f != 1 else n for n, f in zip(image.shape, factor, strict=True)]
        fine, inside = _centered(fine, size), _centered(inside, size)
        coarse = get_operator(recipe.degradation, tuple(size), tuple(factor)).forward(fine)
    grid = tuple(fine.shape[-3:])
    seen = get_operator("block", grid, tuple(factor), tuple(coarse.shape[-3:])).forward(inside)
    return fine, coarse, inside, (seen > 0.5).float()


def prepare(image: TrainingImage, recipe: Recipe, factor: Factor, device: str) -> PreparedImage:
    """Bring an image to the grids and the intensity that the recipe wants, at a factor.

    The level that becomes 1 is found in the low-resolution image: there is no other when a model is applied. Raises
    ImageSetError: nothing in the mask, or no positive intensity in it.
    """
    fine, coarse, inside, inside_coarse = _grids(image, recipe, factor)
    if not (inside > 0).any() or not (inside_coarse > 0).any():
        raise ImageSetError(f"{image.name}: nothing is left of the mask at a factor of {factor}")
    values = coarse.numpy()
    high = np.array([np.percentile(c[inside_coarse[0].numpy() > 0], 99) for c in values], dtype=np.float64)
    level = high if recipe.intensity == "percentile" else values.reshape(len(values), -1).max(1).astype(np.float64)
    if not (level > 0).all() or not (high > 0).all():
        raise ImageSetError(f"{image.name}: no positive intensity inside the mask")
    unit = torch.tensor(level, dtype=torch.float32)[:, None, None, None]
    coarse = coarse / unit
    source = coarse
    if recipe.upsampled_by is not None:
        name = recipe.upsampled_by
        source = torch.from_numpy(np.stack([upsample(name, c, factor) for c in coarse.numpy()]).astype(np.float32))
    target = coarse if fine is None or recipe.objective == "self" else fine / unit
    return PreparedImage(
        source=source.to(device), coarse=coarse.to(device), target=target.to(device), inside=(inside > 0).to(device),
        inside_coarse=(inside_coarse > 0).to(device), level=level, headroom=level / high,
        steps=tuple(map(ratio, factor)),
    )  # fmt: skip
