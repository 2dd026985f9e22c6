"""What the variance maps of a run add to its zero-filled series, in the frame of the reference.

The zero-filled series was brought to the reference before. Downsampled in plane it is the data of
all volumes in one pose, and the change is what differs from the median over time. One slice of all
volumes is read, raised by what the maps reconstruct of its change beyond the acquired band, and
written, so that memory holds no more than that.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from bids_sr.io.arrays import Array
from bids_sr.io.atomic_files import link_whole
from bids_sr.io.grids import Factor, Shape
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.spatial.transforms import hr_grid, resized_affine
from bids_sr.sr.inference.acquired import InferenceError, UpsamplerInputs
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.operators import Level, level_above, to_slices, to_volume
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.threads import side_by_side
from bids_sr.sr.variance.exemplars import FWHM
from bids_sr.sr.variance.posterior import DRAWS, error_draws
from bids_sr.sr.variance.prior import Prior, Tile

# standard deviation of the surroundings of `sdmod` (high-resolution voxels, in plane)
_SURROUNDINGS = 3.0
_SHIFT = 3  # acquired voxels, of the placebo
_AT_ONCE = 128  # volumes


@dataclass(frozen=True, kw_only=True)
class Modulation:
    """Control `sdmod`: the zero-filled change scaled by its local standard deviation.

    The scale is its standard deviation (`weight`, (Z, X, Y)) over that of its surroundings.
    """

    whole: Tile
    weight: Tensor

    @cached_property
    def gain(self) -> Tensor:
        """Return (Z, X, Y) factor of the zero-filled change around the mask."""
        own = self.weight[:, *self.whole.fine]
        low = ndimage.gaussian_filter(own.numpy(), (0, _SURROUNDINGS, _SURROUNDINGS))
        return own / torch.from_numpy(low).clamp_min(1e-6 * float(own.max()) + 1e-30)

    def at(self, z: int) -> Callable[[Tensor], Tensor]:
        """Return what modulates the changes (T, x, y) of a slice, to (T, X, Y)."""

        def expect(change: Tensor) -> Tensor:
            out = self.whole.level.up(change)
            out[:, *self.whole.fine] *= self.gain[z]
            return out

        return expect


@dataclass(frozen=True, kw_only=True)
class Detail:
    """What is added to a zero-filled series.

    `change`: what is made of the change over time; None: nothing. `constant`: static image on the
    boldref's high-resolution grid that is added to every volume, or None.
    """

    change: Prior | Modulation | None
    constant: Array | None = None

    def add(
        self,
        zerofilled: SeriesReader,
        target: Path,
        draws: tuple[Path, Path] | None = None,
        *,
        seed: int = 0,
    ) -> None:
        """Write the zero-filled series, on the boldref's high-resolution grid, with the detail.

        `draws` are files for the draws of a prior (`error_draws`), none for another change: their
        errors, and what is acquired of them in slices as thin as those of the series.
        InferenceError: the result is not finite.
        """
        if self.change is None and self.constant is None:
            link_whole(zerofilled.path, target)
            return
        (x, y, depth, _), affine = zerofilled.shape, zerofilled.affine
        files = [(target, zerofilled.shape, affine, zerofilled.step)]
        if draws is not None and isinstance(self.change, Prior):
            for path, grid in zip(draws, ((x, y), self.change.whole.level.coarse), strict=True):
                shape = (grid[0], grid[1], depth)
                there = resized_affine(affine, (x, y, depth), shape)
                files.append((path, (*shape, DRAWS), there, 0.0))
        with ExitStack() as stack:
            writers = [
                stack.enter_context(
                    SeriesWriter(
                        path,
                        size,
                        there,
                        zerofilled.tr,
                        header_like=zerofilled.header,
                        step=step,
                    )
                )
                for path, size, there, step in files
            ]
            stack.enter_context(torch.inference_mode())
            slabs = ((z, zerofilled.slab(z, z + 1)) for z in range(depth))

            def made(of_slice: tuple[int, Array]) -> tuple[int, list[Array]]:
                return self._added(*of_slice, seed + of_slice[0] if len(files) > 1 else None)

            for z, found in side_by_side(made, slabs):
                for writer, slab in zip(writers, found, strict=True):
                    writer.put_slab(z, slab)

    def _added(self, z: int, slab: Array, seed: int | None) -> tuple[int, list[Array]]:
        """A slice (X, Y, 1, T) to which the detail is added in place, then draws with a seed."""
        drawn: Sequence[Tensor] = ()
        if self.change is not None:
            expect = self.change.at(z)
            # what lies in memory as (T, 1, Y, X) is changed in place
            slices = torch.from_numpy(slab.T)[:, 0].transpose(1, 2)
            raise_slice(self.change.whole.level, expect, slices)
            if seed is not None and isinstance(self.change, Prior):
                drawn = error_draws(self.change, z, expect, DRAWS, seed)
        if self.constant is not None:
            slab += self.constant[:, :, z : z + 1, None]
        if not np.isfinite(slab).all():
            raise InferenceError(f"super-resolution of slice {z} produced NaN or infinite values")
        return z, [slab, *(each.permute(1, 2, 0)[:, :, None].numpy() for each in drawn)]


def raise_slice(level: Level, expect: Callable[[Tensor], Tensor], slices: Tensor) -> None:
    """Add to one slice of all volumes (T, X, Y) what is made of its change."""
    change = level.down(slices)
    # the median is that of the steady volumes, if some at the start are not
    change -= change.median(0).values
    for start in range(0, len(slices), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        slices[part] += level.beyond(expect(change[part]))


def detail_of(model: LoadedModel, acquired: UpsamplerInputs, shape: tuple[int, ...]) -> Detail:
    """Return what the variance maps of a run add to it.

    Static detail of the guide, if any, is its `constant`.
    """
    affine, mask, factor = acquired.affine, acquired.mask, acquired.factor
    if affine is None or mask is None:
        raise InferenceError(
            f"the method {model.card.method} requires the brain mask and the affine of the run"
        )
    if not isinstance(model.recipe, VarianceRecipe):
        raise InferenceError(f"the recipe of {model.card.method} does not specify variance maps")
    torch.set_num_threads(acquired.threads)
    level = level_above(shape, factor)
    constant, change = None, None
    if acquired.guide is not None:
        seen = acquired.guide.seen(level.fine, hr_grid(shape, affine, factor)[1], None)
        detail = to_volume(level.beyond(to_slices(seen)))
        constant = acquired.gain * np.ascontiguousarray(detail)
    state = model.generator.state_dict()
    widths = model.recipe.fwhm
    weight = _displaced(state["weight"].float(), acquired.displaced, affine, factor)
    weight = onto_grid(weight, level.fine)
    whole = Tile.around(level.in_plane(), mask > 0)
    if bool(weight.any()):
        change = (
            # the first maps are the run's own, the others patterns
            Prior(
                whole=whole,
                weight=weight,
                fwhm=(*widths, *(FWHM,) * (len(weight) - len(widths))),
                noise=float(state["noise"]),
            )
            if widths
            else Modulation(whole=whole, weight=weight[0])
        )
    return Detail(change=change, constant=constant)


def onto_grid(weight: Tensor, fine: Shape) -> Tensor:
    """Return maps (Q, Z, X, Y) of another run or person on the grid of this one.

    Parameters
    ----------
    weight : Tensor
        Variance maps on a grid of the same field of view (Q, Z, X, Y).
    fine : tuple[int, int, int]
        Numbers of voxels of the wanted grid (X, Y, Z).

    Returns
    -------
    Tensor
        Maps by linear interpolation, or as given where the size fits.
    """
    x, y, z = fine
    if weight.shape[1:] == (z, x, y):
        return weight
    ratio = (z / weight.shape[1], x / weight.shape[2], y / weight.shape[3])
    maps = [
        ndimage.zoom(each.numpy(), ratio, order=1, mode="nearest", grid_mode=True)
        for each in weight
    ]
    return torch.from_numpy(np.stack(maps).astype(np.float32))


def _displaced(weight: Tensor, displaced: str, affine: Array, factor: Factor) -> Tensor:
    """Return maps (Q, Z, X, Y) of the wrong place, as a placebo.

    `weight`: variance maps on the high-resolution grid (Q, Z, X, Y). `displaced`: ``mirror``
    exchanges left and right about the middle of the maps, so that a head off center stays where it
    is, ``shift`` moves them by three acquired voxels along both axes of the slice, empty leaves
    them. `affine`: voxel to RAS mm, which tells the axis from left to right. Maps wrap around at
    the edges.
    """
    if not displaced:
        return weight
    if displaced == "shift":
        return weight.roll([round(_SHIFT * factor[0]), round(_SHIFT * factor[1])], (2, 3))
    if displaced != "mirror":
        raise ValueError(
            f"unknown displacement of the prior SD map {displaced!r}; expected mirror or shift"
        )
    across = int(np.argmax(np.abs(np.asarray(affine, float)[0, :3])))
    axis = (2, 3, 1)[across]
    n = weight.shape[axis]
    along = weight.abs().sum([a for a in range(4) if a != axis], dtype=torch.float64)
    total = float(along.sum())
    twice = (
        round(2 * float(along @ torch.arange(n, dtype=torch.float64)) / total)
        if total > 0
        else n - 1
    )
    return weight.index_select(axis, (twice - torch.arange(n)) % n)
