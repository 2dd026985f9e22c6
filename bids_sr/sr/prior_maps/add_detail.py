"""Detail that prior SD maps add to the zero-filled series of a run, on the boldref grid.

The zero-filled series has already been resampled to boldref. In-plane downsampling yields the data
of all volumes in the same pose, and the signal change is the difference from the temporal median.
To limit memory use, the slices are processed one at a time: a slice of all volumes is read, detail
above the acquired Nyquist frequency is reconstructed from its change and added, and the slice is
written.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from bids_sr.io.arrays import Array
from bids_sr.io.atomic_files import link_or_copy
from bids_sr.io.grids import Shape
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.io.notices import InvalidInput
from bids_sr.spatial.transforms import hr_grid, resize_affine
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.operators import ResolutionLevel, level_above, to_slices, to_volume
from bids_sr.sr.prior_maps.calibration_prior import FWHM
from bids_sr.sr.prior_maps.posterior import N_SAMPLES, draw_errors
from bids_sr.sr.prior_maps.prior import Prior, Tile
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.threads import map_in_threads

# high-resolution voxels in plane, standard deviation of the neighborhood for `sdmod`
_NEIGHBORHOOD_SD = 3.0
_VOLUMES_PER_BLOCK = 128  # volumes processed together


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
        sd = self.weight[:, *self.region.highres_range]
        neighborhood = ndimage.gaussian_filter(sd.numpy(), (0, _NEIGHBORHOOD_SD, _NEIGHBORHOOD_SD))
        return sd / torch.from_numpy(neighborhood).clamp_min(1e-6 * float(sd.max()) + 1e-30)

    def make_slice_function(self, z: int) -> Callable[[Tensor], Tensor]:
        """Return the function that modulates the changes of a slice, (T, x, y) -> (T, X, Y)."""

        def reconstruct(change: Tensor) -> Tensor:
            modulated_change = self.region.level.upsample(change)
            modulated_change[:, *self.region.highres_range] *= self.gain[z]
            return modulated_change

        return reconstruct


@dataclass(frozen=True, kw_only=True)
class Detail:
    """Detail that is added to a zero-filled series.

    `source` is the source of detail that follows the signal change; None if there is no such
    detail. `static_image` is on the high-resolution boldref grid and is added to every volume;
    None if there is none.
    """

    source: Prior | Modulation | None
    static_image: Array | None = None

    def add(
        self,
        zerofilled: SeriesReader,
        target: Path,
        sample_files: tuple[Path, Path] | None = None,
        *,
        seed: int = 0,
    ) -> None:
        """Write a zero-filled series on the high-resolution boldref grid with added detail.

        `zerofilled` is (X, Y, Z, T). `sample_files` are the output files for reconstruction errors
        of samples from the prior (`draw_errors`), and for the acquired samples, whose slices are
        as thin as in the series. Without a prior, they are not written. `seed` is the seed of the
        samples. Raises `InvalidInput` if the result contains NaN or infinite values.
        """
        if self.source is None and self.static_image is None:
            link_or_copy(zerofilled.path, target)
            return
        has_samples = sample_files is not None and isinstance(self.source, Prior)
        add_to_slab = partial(self._add_to_slab, seed=seed if has_samples else None)
        with ExitStack() as stack:
            # every writer is entered before the next one is opened
            writers = [
                stack.enter_context(writer)
                for writer in self._open_writers(zerofilled, target, sample_files)
            ]
            stack.enter_context(torch.inference_mode())
            slabs = ((z, zerofilled.slab(z)) for z in range(zerofilled.shape[2]))
            for z, output_slabs in enumerate(map_in_threads(add_to_slab, slabs)):
                for writer, output_slab in zip(writers, output_slabs, strict=True):
                    writer.put_slab(z, output_slab)

    def _open_writers(
        self, zerofilled: SeriesReader, target: Path, sample_files: tuple[Path, Path] | None
    ) -> Iterator[SeriesWriter]:
        """Yield the writer of the series, followed by writers of the samples from a prior."""
        (x, y, depth, _), affine = zerofilled.shape, zerofilled.affine
        open_writer = partial(SeriesWriter, tr=zerofilled.tr, header_like=zerofilled.header)
        yield open_writer(target, zerofilled.shape, affine, storage=zerofilled.storage)
        if sample_files is None or not isinstance(self.source, Prior):
            return
        acquired_x, acquired_y, _ = self.source.region.level.acquired_shape
        shapes = ((x, y, depth), (acquired_x, acquired_y, depth))
        for path, shape in zip(sample_files, shapes, strict=True):
            sample_affine = resize_affine(affine, (x, y, depth), shape)
            yield open_writer(path, (*shape, N_SAMPLES), sample_affine)

    def _add_to_slab(self, numbered_slab: tuple[int, Array], seed: int | None) -> list[Array]:
        """Return a slice with added detail, followed by samples unless the seed is None.

        The slab (X, Y, 1, T), which is given with its slice number, is changed in place. `seed` is
        the seed of the first slice.
        """
        z, slab = numbered_slab
        samples: Sequence[Tensor] = ()
        if self.source is not None:
            reconstruct = self.source.make_slice_function(z)
            # a view of the slab, which is changed in place
            slices = torch.from_numpy(slab.T)[:, 0].transpose(1, 2)
            add_detail_to_slice(self.source.region.level, reconstruct, slices)
            if seed is not None and isinstance(self.source, Prior):
                samples = draw_errors(self.source, z, reconstruct, N_SAMPLES, seed + z)
        if self.static_image is not None:
            slab += self.static_image[:, :, z : z + 1, None]
        if not np.isfinite(slab).all():
            raise InvalidInput(f"super-resolution of slice {z} produced NaN or infinite values")
        return [slab, *(images.permute(1, 2, 0)[:, :, None].numpy() for images in samples)]


def add_detail_to_slice(
    level: ResolutionLevel, reconstruct: Callable[[Tensor], Tensor], slices: Tensor
) -> None:
    """Add detail to one slice of all volumes in place, based on its signal change.

    `level` is the in-plane conversion between the acquired and the high-resolution grid.
    `reconstruct` returns high-resolution signal changes (T, X, Y) from signal changes (T, x, y).
    `slices` is the slice in all volumes (T, X, Y).
    """
    change = level.downsample(slices)
    # the median is not affected by a few volumes before the steady state
    change -= change.median(0).values
    for start in range(0, len(slices), _VOLUMES_PER_BLOCK):
        volumes = slice(start, start + _VOLUMES_PER_BLOCK)
        slices[volumes] += level.select_above_nyquist(reconstruct(change[volumes]))


def make_detail(model: LoadedModel, acquired: UpsamplerInputs, shape: tuple[int, ...]) -> Detail:
    """Return the detail that the prior SD maps of a run add to its series.

    If the inputs include a guide, its static detail is added to every volume.

    `model` has the prior SD maps, and `acquired` grid, mask and guide of the run. `shape` is the
    shape of the acquired grid (x, y, z).
    """
    affine, mask, factor = acquired.affine, acquired.mask, acquired.factor
    assert affine is not None
    assert mask is not None
    assert isinstance(model.recipe, VarianceRecipe)
    torch.set_num_threads(acquired.threads)
    level = level_above(shape, factor)
    static_image = None
    if acquired.guide is not None:
        _, highres_affine = hr_grid(shape, affine, factor)
        guide_image = acquired.guide.resample(level.highres_shape, highres_affine, None)
        guide_detail = to_volume(level.select_above_nyquist(to_slices(guide_image)))
        static_image = acquired.gain * np.ascontiguousarray(guide_detail)
    state = model.generator.state_dict()
    maps = onto_grid(state["weight"].float(), level.highres_shape)
    if not bool(maps.any()):
        return Detail(source=None, static_image=static_image)
    region = Tile.from_mask(level.restrict_to_plane(), mask > 0)
    widths = model.recipe.fwhm
    if not widths:
        return Detail(source=Modulation(region=region, weight=maps[0]), static_image=static_image)
    # maps of the run itself come first, followed by patterns
    prior = Prior(
        region=region,
        weight=maps,
        fwhm=(*widths, *(FWHM,) * (len(maps) - len(widths))),
        noise=float(state["noise"]),
    )
    return Detail(source=prior, static_image=static_image)


def onto_grid(maps: Tensor, highres_shape: Shape) -> Tensor:
    """Resample maps of another run or participant to the grid of this run.

    Parameters
    ----------
    maps : Tensor
        Prior SD maps on a grid with the same field of view (Q, Z, X, Y).
    highres_shape : Shape
        Shape of the high-resolution grid of this run (X, Y, Z).

    Returns
    -------
    Tensor
        Linearly interpolated maps (Q, Z, X, Y); the input if its size matches.
    """
    x, y, z = highres_shape
    if maps.shape[1:] == (z, x, y):
        return maps
    ratio = (z / maps.shape[1], x / maps.shape[2], y / maps.shape[3])
    resampled_maps = [
        ndimage.zoom(image.numpy(), ratio, order=1, mode="nearest", grid_mode=True)
        for image in maps
    ]
    return torch.from_numpy(np.stack(resampled_maps).astype(np.float32))
