"""Windows of a set of images: prepared once for a factor, drawn from the brain, cut as batches.

Coordinates are those of the high-resolution grid. Where a window has to exist on the low-resolution grid too, it begins
and ends at multiples of p for a factor p/q.

A window is placed by its center, which is a voxel of the brain drawn evenly, and moved inside the image at its border
(ours; the papers say how many and how large, not where). Reversing an axis, and exchanging axes of one voxel size,
patch size and factor, map voxel centers of both grids onto centers, so that they commute with the degradation; other
rotations and deformations would interpolate, which blurs the target.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import permutations, product
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bids_sr.io.array_types import Array
from bids_sr.sr.data.examples import Batch, Box
from bids_sr.sr.data.images import ImageSet, ImageSetError, TrainingImage
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.resolution.matrices import Factor, highres_size, lowres_size, upsample
from bids_sr.sr.resolution.operators import get_operator

Corner = tuple[int, ...]


class SamplingError(ValueError):
    """A patch that the image cannot give."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchPlaces:
    """Corners of the patches whose center lies in a mask."""

    corners: NDArray[np.int64]  # (N, d) one for each voxel of the mask
    patch: tuple[int, ...]  # sides in voxels

    @classmethod
    def inside(cls, mask: Array, patch: int | Sequence[int], step: int | Sequence[int] = 1) -> Self:
        """Places in a mask (X, Y) or (X, Y, Z), on the grid on which patches are cut.

        Raises SamplingError: an empty mask, or a patch larger than the image.

        `patch`: side, one for all axes or one each; `step`: corners are multiples of it, where a patch of the
        low-resolution grid is cut beside it.
        """
        sides, steps = (
            np.broadcast_to(np.asarray(value, dtype=np.int64), (mask.ndim,)).copy() for value in (patch, step)
        )
        room = np.asarray(mask.shape) - sides
        if (sides < 1).any() or (room < 0).any():
            raise SamplingError(f"a patch of {tuple(sides.tolist())} voxels does not fit in an image of {mask.shape}")
        centers = np.argwhere(np.asarray(mask) > 0)
        if not len(centers):
            raise SamplingError("the mask is empty: there is nowhere to take patches from")
        corners = np.clip(centers - sides // 2, 0, room) // steps * steps
        corners.setflags(write=False)
        return cls(corners=corners, patch=tuple(sides.tolist()))

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Corner, ...]:
        """Corners of that many patches, drawn evenly over the mask's voxels with replacement."""
        return tuple(tuple(self.corners[k].tolist()) for k in rng.integers(len(self.corners), size=count))

    def cut(self, image: Tensor, corner: Corner) -> Tensor:
        """(..., *grid) -> (..., *patch)."""
        for axis, (start, n) in enumerate(zip(corner, self.patch, strict=True), image.ndim - len(corner)):
            image = image.narrow(axis, start, n)
        return image


@dataclass(frozen=True, kw_only=True, slots=True)
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

    Parameters
    ----------
    patch : sides in voxels
    zooms : voxel size in mm; sizes within one part in a thousand are one
    factor : low- over high-resolution voxel size
    """
    axes = list(zip(patch, zooms, factor, strict=True))
    same = [[n == m and abs(z - y) <= 1e-3 * z and abs(f - g) < 1e-6 for m, y, g in axes] for n, z, f in axes]
    orders = [order for order in permutations(range(len(axes))) if all(same[k][axis] for k, axis in enumerate(order))]
    return tuple(
        Symmetry(order=order, reversed=turned)
        for order in orders
        for turned in product((False, True), repeat=len(axes))
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
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


def prepare(image: TrainingImage, recipe: Recipe, factor: Factor, device: str) -> Prepared:
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
    return Prepared(
        source=source.to(device), coarse=coarse.to(device), target=target.to(device), inside=(inside > 0).to(device),
        inside_coarse=(inside_coarse > 0).to(device), level=level, headroom=level / high,
        steps=tuple(map(ratio, factor)),
    )  # fmt: skip


def _thinned(mask: NDArray[np.bool_], most: int = 1 << 16) -> NDArray[np.bool_]:
    """At most so many voxels of a mask, always the same ones, to save memory."""
    found = np.flatnonzero(mask)
    if len(found) <= most:
        return mask
    out = np.zeros(mask.size, dtype=bool)
    out[np.random.default_rng(0).choice(found, most, replace=False)] = True
    return out.reshape(mask.shape)


class Windows:
    """A set of images at the factor trained for and those drawn in its place, each prepared once and kept."""

    def __init__(self, images: ImageSet, recipe: Recipe, factor: Factor, ndim: int, device: str) -> None:
        if recipe.objective != "self" and any(image.fine is None for image in images.images):
            raise ImageSetError("this method learns from fine images, and there are only coarse ones")
        if recipe.objective == "cycle" and recipe.upsampled_by is None:
            raise ValueError("a cycle needs both images on one grid: the recipe has to upsample the coarse one first")
        self.images, self.recipe, self.factor, self.ndim, self.device = images, recipe, factor, ndim, device
        self._kept: dict[tuple[int, Factor], Prepared] = {}
        self._places: dict[tuple[Any, ...], PatchPlaces] = {}

    def at(self, index: int, factor: Factor | None = None) -> Prepared:
        """One image at a factor (default: that trained for)."""
        key = (index, factor or self.factor)
        if key not in self._kept:
            self._kept[key] = prepare(self.images.images[index], self.recipe, key[1], self.device)
        return self._kept[key]

    @property
    def aligned(self) -> bool:
        """Whether windows have to exist on the low-resolution grid too."""
        return self.recipe.upsampled_by is None or self.recipe.objective == "self"

    def factor_of(self, drawn: float) -> Factor:
        """A number drawn for all axes that the factor trained for changes."""
        fx, fy, fz = (drawn if f != 1 else 1.0 for f in self.factor)
        return fx, fy, fz

    def sides(self, rooms: Sequence[tuple[int, tuple[int, int]]], factor: Factor) -> tuple[int, ...]:
        """Sides of the windows of a batch, of which `rooms` are (image, (first slice, last + 1)).

        The patch, cut down to the smallest image and to whole low-resolution voxels.
        """
        shapes = [(*self.at(i, factor).shape[:2], high - low) for i, (low, high) in rooms]
        smallest = [min(shape[axis] for shape in shapes) for axis in range(3)]
        patch = self.recipe.patch
        wanted = smallest[: self.ndim]
        if patch is not None:
            asked = (patch,) * self.ndim if isinstance(patch, int) else patch
            wanted = [min(n, side) for n, side in zip(wanted, asked, strict=True)]
        if self.aligned:
            wanted = [n // p * p for n, (p, _) in zip(wanted, self.at(rooms[0][0], factor).steps, strict=False)]
        return tuple(wanted) if self.ndim == 3 else (*wanted, 1)

    def places(self, index: int, factor: Factor, slices: tuple[int, int], sides: tuple[int, ...]) -> PatchPlaces:
        """Where windows of these sides lie in a range of slices (first, last + 1); corners count from the first one."""
        key = (index, factor, slices, sides)
        if key not in self._places:
            inside = _thinned(self.at(index, factor).inside[0, ..., slice(*slices)].cpu().numpy())
            steps = [p if self.aligned else 1 for p, _ in self.at(index, factor).steps]
            try:
                self._places[key] = PatchPlaces.inside(inside, sides, steps)
            except SamplingError as error:
                name = self.images.images[index].name
                raise ImageSetError(f"{name}, slices {slices[0]} to {slices[1] - 1}: {error}") from error
        return self._places[key]

    def turns(self, factor: Factor, sides: tuple[int, ...]) -> tuple[Symmetry, ...]:
        """Symmetries of windows of these sides at a factor."""
        zooms = self.images.images[0].zooms
        return symmetries(sides[: self.ndim], zooms[: self.ndim], factor[: self.ndim])

    def cut(
        self, chosen: Sequence[tuple[int, Box]], factor: Factor, background: float, turns: Sequence[Symmetry] = ()
    ) -> Batch:
        """Windows of some images as one batch.

        Parameters
        ----------
        chosen : image and window, of equal sides
        factor : of all
        background : weight outside the mask
        turns : how each window is turned, of `turns`; as they are where there are none
        """
        sources: list[Tensor] = []
        targets: list[Tensor] = []
        weights: list[Tensor] = []
        on_coarse = self.recipe.objective == "self"
        for k, (index, box) in enumerate(chosen):
            image = self.at(index, factor)
            fine = tuple(slice(a, b) for a, b in box)
            coarse = tuple(slice(a * q // p, b * q // p) for (a, b), (p, q) in zip(box, image.steps, strict=True))
            compared = coarse if on_coarse else fine
            mask = image.inside_coarse if on_coarse else image.inside
            weight = mask[(slice(None), *compared)].float()
            parts = (
                image.source[(slice(None), *(coarse if self.recipe.upsampled_by is None else fine))],
                image.target[(slice(None), *compared)],
                weight + background * (1 - weight),
            )
            for stack, part in zip((sources, targets, weights), parts, strict=True):
                flat = part if self.ndim == 3 else part[..., 0]
                stack.append(turns[k].apply(flat) if turns else flat)
        operator = None
        if on_coarse:
            shape = tuple(b - a for a, b in chosen[0][1])[: self.ndim]
            operator = get_operator(
                self.recipe.degradation, shape, tuple(factor[: self.ndim]), tuple(targets[0].shape[1:])
            )
        return Batch(
            input=torch.stack(sources).contiguous(), target=torch.stack(targets).contiguous(),
            weight=torch.stack(weights).contiguous(), operator=operator,
        )  # fmt: skip
