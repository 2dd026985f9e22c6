"""Places of training patches, and the symmetries that augment them.

A patch is placed by its center, which is a voxel of the brain drawn evenly, and moved inside the image at its border
(ours; the papers say how many and how large, not where). Reversing an axis, and exchanging axes of one voxel size,
patch size and factor, map voxel centers of both grids onto centers, so that they commute with the degradation; other
rotations and deformations would interpolate, which blurs the target.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bids_sr.io.array_types import Array

Corner = tuple[int, ...]


class SamplingError(ValueError):
    """A patch that the image cannot give."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchPlaces:
    """Corners of the patches whose center lies in a mask.

    Parameters
    ----------
    corners : (N, d) one for each voxel of the mask
    patch : sides in voxels
    """

    corners: NDArray[np.int64]
    patch: tuple[int, ...]

    @classmethod
    def inside(cls, mask: Array, patch: int | Sequence[int], step: int | Sequence[int] = 1) -> Self:
        """Places in a mask (X, Y) or (X, Y, Z), on the grid on which patches are cut.

        Parameters
        ----------
        patch : side, one for all axes or one each
        step : corners are multiples of it, where a patch of the low-resolution grid is cut beside it

        Raises
        ------
        SamplingError : an empty mask, or a patch larger than the image
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
    """An exchange of axes followed by reversals, of the last axes of a tensor.

    Parameters
    ----------
    order : axis k of the result is axis order[k] of the image
    reversed : whether axis k of the result is reversed
    """

    order: tuple[int, ...]
    reversed: tuple[bool, ...]

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
