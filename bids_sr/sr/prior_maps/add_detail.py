"""Detail that prior SD maps add to the zero-filled series of a run, on the boldref grid.

The zero-filled series has already been resampled to boldref. In-plane downsampling yields the data
of all volumes in the same pose, and the signal change is the difference from the temporal median.
To limit memory use, the slices are processed one at a time: a slice of all volumes is read, detail
above the acquired Nyquist frequency is reconstructed from its change and added, and the slice is
written.
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
from bids_sr.io.atomic_files import link_or_copy
from bids_sr.io.grids import Factor, Shape
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.spatial.transforms import hr_grid, resize_affine
from bids_sr.sr.inference.upsampler_inputs import InferenceError, UpsamplerInputs
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.operators import ResolutionLevel, level_above, to_slices, to_volume
from bids_sr.sr.prior_maps.calibration_prior import FWHM
from bids_sr.sr.prior_maps.posterior import DRAWS, draw_errors
from bids_sr.sr.prior_maps.prior import Prior, Tile
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.threads import map_in_threads

# high-resolution voxels in plane, standard deviation of the neighborhood for `sdmod`
_SURROUNDINGS = 3.0
_SHIFT = 3  # acquired voxels, displacement of the negative control
_AT_ONCE = 128  # volumes processed together


@dataclass(frozen=True, kw_only=True)
class Modulation:
    """Control `sdmod`: the zero-filled signal change, weighted by its relative temporal SD.

    The signal change of a voxel is multiplied by its temporal SD (`weight`, (Z, X, Y)), divided by
    the smoothed SD of its neighborhood in plane.
    """

    region: Tile
    weight: Tensor

    @cached_property
    def gain(self) -> Tensor:
        """Factor that multiplies the zero-filled change around the mask (Z, X, Y)."""
        sd = self.weight[:, *self.region.fine]
        neighborhood = ndimage.gaussian_filter(sd.numpy(), (0, _SURROUNDINGS, _SURROUNDINGS))
        return sd / torch.from_numpy(neighborhood).clamp_min(1e-6 * float(sd.max()) + 1e-30)

    def make_slice_function(self, z: int) -> Callable[[Tensor], Tensor]:
        """Return the function that modulates the changes of a slice, (T, x, y) -> (T, X, Y)."""

        def expect(change: Tensor) -> Tensor:
            out = self.region.level.up(change)
            out[:, *self.region.fine] *= self.gain[z]
            return out

        return expect


@dataclass(frozen=True, kw_only=True)
class Detail:
    """Detail that is added to a zero-filled series.

    Parameters
    ----------
    change : Prior | Modulation | None
        Source of detail that follows the signal change; None if there is no such detail.
    constant : Array | None
        Static image on the high-resolution boldref grid, added to every volume; None if there is
        none.
    """

    change: Prior | Modulation | None
    constant: Array | None = None

    def add(
        self,
        zerofilled: SeriesReader,
        target: Path,
        sample_files: tuple[Path, Path] | None = None,
        *,
        seed: int = 0,
    ) -> None:
        """Write a zero-filled series on the high-resolution boldref grid with added detail.

        Parameters
        ----------
        zerofilled : SeriesReader
            Zero-filled series (X, Y, Z, T).
        target : Path
            Output file.
        sample_files : tuple[Path, Path] | None, optional
            Output files for reconstruction errors of samples from the prior (`draw_errors`), and
            for the acquired samples, whose slices are as thin as in the series. Without a prior,
            they are not written.
        seed : int, optional
            Seed of the samples.

        Raises
        ------
        InferenceError
            If the result contains NaN or infinite values.
        """
        if self.change is None and self.constant is None:
            link_or_copy(zerofilled.path, target)
            return
        (x, y, depth, _), affine = zerofilled.shape, zerofilled.affine
        files = [(target, zerofilled.shape, affine, zerofilled.step)]
        if sample_files is not None and isinstance(self.change, Prior):
            for path, grid in zip(
                sample_files, ((x, y), self.change.region.level.coarse), strict=True
            ):
                shape = (grid[0], grid[1], depth)
                grid_affine = resize_affine(affine, (x, y, depth), shape)
                files.append((path, (*shape, DRAWS), grid_affine, 0.0))
        with ExitStack() as stack:
            writers = [
                stack.enter_context(
                    SeriesWriter(
                        path,
                        size,
                        grid_affine,
                        zerofilled.tr,
                        header_like=zerofilled.header,
                        step=step,
                    )
                )
                for path, size, grid_affine, step in files
            ]
            stack.enter_context(torch.inference_mode())
            slabs = ((z, zerofilled.slab(z, z + 1)) for z in range(depth))

            def compute_slice(job: tuple[int, Array]) -> tuple[int, list[Array]]:
                return self._add(*job, seed + job[0] if len(files) > 1 else None)

            for z, outputs in map_in_threads(compute_slice, slabs):
                for writer, slab in zip(writers, outputs, strict=True):
                    writer.put_slab(z, slab)

    def _add(self, z: int, slab: Array, seed: int | None) -> tuple[int, list[Array]]:
        """Return a slice (X, Y, 1, T) with added detail, followed by samples if a seed is given.

        The detail is added in place.
        """
        error_samples: Sequence[Tensor] = ()
        if self.change is not None:
            expect = self.change.make_slice_function(z)
            # a view of the slab, which is changed in place
            slices = torch.from_numpy(slab.T)[:, 0].transpose(1, 2)
            add_detail_to_slice(self.change.region.level, expect, slices)
            if seed is not None and isinstance(self.change, Prior):
                error_samples = draw_errors(self.change, z, expect, DRAWS, seed)
        if self.constant is not None:
            slab += self.constant[:, :, z : z + 1, None]
        if not np.isfinite(slab).all():
            raise InferenceError(f"super-resolution of slice {z} produced NaN or infinite values")
        return z, [
            slab,
            *(samples.permute(1, 2, 0)[:, :, None].numpy() for samples in error_samples),
        ]


def add_detail_to_slice(
    level: ResolutionLevel, expect: Callable[[Tensor], Tensor], slices: Tensor
) -> None:
    """Add detail to one slice of all volumes (T, X, Y) in place, based on its signal change."""
    change = level.down(slices)
    # the median is not affected by a few volumes before the steady state
    change -= change.median(0).values
    for start in range(0, len(slices), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        slices[part] += level.select_above_nyquist(expect(change[part]))


def make_detail(model: LoadedModel, acquired: UpsamplerInputs, shape: tuple[int, ...]) -> Detail:
    """Return the detail that the prior SD maps of a run add to its series.

    If the inputs include a guide, its static detail is added to every volume (`constant`).
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
        guide_image = acquired.guide.resample(level.fine, hr_grid(shape, affine, factor)[1], None)
        detail = to_volume(level.select_above_nyquist(to_slices(guide_image)))
        constant = acquired.gain * np.ascontiguousarray(detail)
    state = model.generator.state_dict()
    widths = model.recipe.fwhm
    weight = _displace(state["weight"].float(), acquired.placebo, affine, factor)
    weight = onto_grid(weight, level.fine)
    tile = Tile.from_mask(level.restrict_to_plane(), mask > 0)
    if bool(weight.any()):
        change = (
            # maps of the run itself come first, followed by patterns
            Prior(
                region=tile,
                weight=weight,
                fwhm=(*widths, *(FWHM,) * (len(weight) - len(widths))),
                noise=float(state["noise"]),
            )
            if widths
            else Modulation(region=tile, weight=weight[0])
        )
    return Detail(change=change, constant=constant)


def onto_grid(weight: Tensor, fine: Shape) -> Tensor:
    """Resample maps of another run or participant to the grid of this run.

    Parameters
    ----------
    weight : Tensor
        Prior SD maps on a grid with the same field of view (Q, Z, X, Y).
    fine : tuple[int, int, int]
        Shape of the high-resolution grid of this run (X, Y, Z).

    Returns
    -------
    Tensor
        Linearly interpolated maps (Q, Z, X, Y); the input if its size matches.
    """
    x, y, z = fine
    if weight.shape[1:] == (z, x, y):
        return weight
    ratio = (z / weight.shape[1], x / weight.shape[2], y / weight.shape[3])
    maps = [
        ndimage.zoom(image.numpy(), ratio, order=1, mode="nearest", grid_mode=True)
        for image in weight
    ]
    return torch.from_numpy(np.stack(maps).astype(np.float32))


def _displace(weight: Tensor, placebo: str, affine: Array, factor: Factor) -> Tensor:
    """Return displaced prior SD maps (Q, Z, X, Y) for a negative control.

    Maps wrap around at the edges.

    Parameters
    ----------
    weight : Tensor
        Prior SD maps on the high-resolution grid (Q, Z, X, Y).
    placebo : str
        ``mirror`` exchanges left and right about the center of the maps, so that an off-center
        head keeps its position. ``shift`` moves the maps by three acquired voxels along both
        in-plane axes. "" leaves them unchanged.
    affine : Array
        Voxel-to-world matrix (4 x 4, RAS+ mm), which determines the left-right axis.
    factor : Factor
        Ratio of acquired to high-resolution voxel size.
    """
    if not placebo:
        return weight
    if placebo == "shift":
        return weight.roll([round(_SHIFT * factor[0]), round(_SHIFT * factor[1])], (2, 3))
    if placebo != "mirror":
        raise ValueError(
            f"unknown displacement of the prior SD map {placebo!r}; expected mirror or shift"
        )
    left_right_axis = int(np.argmax(np.abs(np.asarray(affine, float)[0, :3])))
    axis = (2, 3, 1)[left_right_axis]
    n = weight.shape[axis]
    profile = weight.abs().sum([a for a in range(4) if a != axis], dtype=torch.float64)
    total = float(profile.sum())
    double_center = (
        round(2 * float(profile @ torch.arange(n, dtype=torch.float64)) / total)
        if total > 0
        else n - 1
    )
    return weight.index_select(axis, (double_center - torch.arange(n)) % n)
