"""What a series explains of this run one level of resolution down.

There the acquired volumes are the truth.

The run is split into two halves. The strongest temporal components of one half are brought down by
the factor of the super-resolution, brought up again by a method, with the variance map of the
*other* half, and held against what was acquired. The share is 1 - |series - acquired|^2 / |zero
filling - acquired|^2: 1 is all that zero filling misses, 0 is zero filling, less is harm. It is a
mean over components and over both ways, and decides whether a map is applied at all
(`bids_sr.sr.variance.fit_variance`).

Its interval comes from stretches of volumes: the map of the other half is tried on the components
of each stretch, and the spread of these shares tells how sure their mean is. The map is itself an
estimate, of volumes that a stretch does not have, which that spread cannot show: the interval is
widened by a factor that was set on phantoms (`tests/unit/sr/variance/test_one_level_down.py`),
where it holds the mean share of many runs of one person.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import special
from torch import Tensor

from bids_sr.io.arrays import Array, Float32, Mask
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.spatial.transforms import resized_affine
from bids_sr.sr.operators import Level, interpolate, level_below, to_slices
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.threads import side_by_side
from bids_sr.sr.variance.estimation import estimate_prior, filled_sd
from bids_sr.sr.variance.exemplars import with_exemplars
from bids_sr.sr.variance.in_reference import Modulation, raise_slice
from bids_sr.sr.variance.posterior import DRAWS, error_draws
from bids_sr.sr.variance.prior import Prior, Tile
from bids_sr.sr.variance.temporal_components import temporal_statistics

_Added = Callable[[Tensor], Iterable[Tensor]]
"""From data (C, z, x, y), what a series adds to each zero-filled image, (Z, X, Y)."""
_WIDER = 1.7  # than the spread of stretches alone tells, which is blind to the error of the map


@dataclass(frozen=True, kw_only=True)
class Explained:
    """The explained share of one series.

    `by_half`: explained share of zero filling's error in each half of the run. `by_stretch`: that
    of stretches of volumes, those of the first half first.
    """

    by_half: tuple[float, ...]
    by_stretch: tuple[float, ...] = ()

    @property
    def share(self) -> float:
        """Mean of both halves."""
        return float(np.mean(self.by_half))

    @property
    def interval(self) -> tuple[float, float]:
        """Return ends of the 95 % interval (t over stretches); NaN without stretches."""
        count = len(self.by_stretch)
        if count < 2:
            return float("nan"), float("nan")
        error = float(np.std(self.by_stretch, ddof=1)) / count**0.5
        reach = _WIDER * float(special.stdtrit(count - 1, 0.975)) * error
        return self.share - reach, self.share + reach


def _explained_share(added: _Added, level: Level, images: Tensor, mask: Tensor) -> float:
    """Share of zero filling's squared error that a series explains, mean over images."""
    return _mean(_shares_of(added, level, images, mask))


def _mean(shares: Array) -> float:
    """Of the images of which zero filling misses something."""
    known = shares[np.isfinite(shares)]
    return float(known.mean()) if len(known) else 0.0


def _shares_of(added: _Added, level: Level, images: Tensor, mask: Tensor) -> Array:
    """`_explained_share` of each image (C,); NaN where zero filling misses nothing."""
    coarse = level.down(images)
    shares = np.full(len(images), np.nan)
    for number, (image, low, more) in enumerate(zip(images, coarse, added(coarse), strict=True)):
        missed = (image - level.up(low))[mask]
        energy = float(missed.square().sum())
        if energy > 0:
            shares[number] = 1 - float((missed - more[mask]).square().sum()) / energy
    return shares


def _added_by(prior: Prior | Modulation, level: Level) -> _Added:
    """Return what a prior adds to zero filling on a level."""
    plane = prior.whole.level

    def added(coarse: Tensor) -> Tensor:
        images = level.across(coarse)
        made = side_by_side(lambda z: prior.at(z)(images[:, z]), range(images.shape[1]))
        return plane.beyond(torch.stack(list(made), 1))

    return added


def _added_by_interpolation(name: str, level: Level) -> _Added:
    """Return what an interpolation adds, which is something inside the acquired band too."""
    return lambda coarse: (
        interpolate(name, image, level.fine) - level.up(image) for image in coarse
    )


class Trial:
    """The two halves of a run one level of resolution down, on which series are tried.

    `halves`: (K, x, y, z) components of either half, on the acquired grid. `stretches`: (K, x, y,
    z) components of each stretch of volumes, by half; without them there is no interval.
    `ResolutionError`: an axis too short to be downsampled.
    """

    def __init__(
        self,
        halves: Sequence[Array],
        mask: Array,
        factor: Factor,
        stretches: Sequence[Sequence[Array]] = (),
    ) -> None:
        self.level, self._cut = level_below(mask.shape, factor)
        inside = to_slices(np.asarray(mask)[self._cut] > 0)
        self.mask = inside > 0
        low = np.moveaxis(self.level.down(inside).numpy(), 0, 2) > 0.5
        self.whole = Tile.around(self.level.in_plane(), low) if low.any() else None
        self.halves = [self._slices(half) for half in halves]
        self.stretches = [[self._slices(each) for each in own] for own in stretches]

    def _slices(self, components: Array) -> Tensor:
        return torch.stack([to_slices(image[self._cut]) for image in components])

    def cut(self, patterns: Tensor) -> Tensor:
        """Return patterns (C, z, x, y) of the acquired grid where it can be downsampled.

        Part of them on the fine grid of the level (C, Z, X, Y).
        """
        x, y, z = self._cut
        return patterns[:, z, x, y]

    def tried(self, additions: Sequence[_Added]) -> Explained:
        """How each half fares with what is added to it."""
        by_half, by_stretch = [], []
        for half, own, added in zip(
            self.halves, self.stretches or ((), ()), additions, strict=True
        ):
            sets = [half, *own]  # all at once: a prior that is written out is written once
            shares = _shares_of(added, self.level, torch.cat(sets), self.mask)
            means = [
                _mean(each)
                for each in np.split(shares, np.cumsum([len(images) for images in sets])[:-1])
            ]
            by_half.append(means[0])
            by_stretch += means[1:]
        return Explained(by_half=tuple(by_half), by_stretch=tuple(by_stretch))


def try_interpolation(trial: Trial, name: str) -> Explained:
    """Share of a plain interpolation (`bids_sr.series.INTERPOLATIONS`), which takes no map.

    `trial`: halves of the run, one level of resolution down. Explained share by half and stretch;
    0 for a brain that is too small.
    """
    if trial.whole is None:
        return Explained(by_half=(0.0, 0.0))
    with torch.inference_mode():
        return trial.tried([_added_by_interpolation(name, trial.level)] * 2)


def try_maps(
    trial: Trial,
    recipe: VarianceRecipe,
    *,
    seed: int = 0,
    patterns: Tensor | None = None,
    weights: Sequence[float] = (0.0,),
) -> dict[float, Explained]:
    """Share of each half's components that the map of the other half explains.

    `trial`: halves of the run, one level of resolution down. `patterns`: (C, z, x, y) of a
    calibration on the acquired grid; or None. `weights`: shares of the prior to try for them, see
    `with_exemplars`; 0 is the run's own map alone. Dict from weight to what was found.
    """
    if (whole := trial.whole) is None:
        return dict.fromkeys(weights, Explained(by_half=(0.0, 0.0)))
    other = None if patterns is None else trial.cut(patterns)
    with torch.inference_mode():
        maps = [
            map_of(trial.level.across(trial.level.down(half)), whole, recipe, seed)
            for half in trial.halves[::-1]
        ]
        explained = {}
        for weight in weights:
            priors = [
                each
                if other is None or isinstance(each, Modulation)
                else with_exemplars(each, other, weight)
                for each in maps
            ]
            explained[weight] = trial.tried([_added_by(prior, trial.level) for prior in priors])
    return explained


def map_of(
    components: Tensor, whole: Tile, recipe: VarianceRecipe, seed: int
) -> Prior | Modulation:
    """The map of some components."""
    if recipe.kind == "sdmod":
        return Modulation(whole=whole, weight=filled_sd(components, whole))
    return estimate_prior(components, whole, recipe, seed=seed)


@dataclass(frozen=True, kw_only=True)
class ErrorsBelow:
    """A run brought down in plane, what its reconstruction misses, and unit draws of both."""

    low: Path  # series (4D) as seen at the lower resolution
    errors: Path  # reconstruction of it less what was acquired (4D)
    mask: Mask  # where it counts on the acquired grid, (x, y, z)
    low_mask: Mask
    power: Float32  # mean square of draws as seen at the lower resolution
    error_power: Float32  # mean square of the errors of draws, (x, y, z)


def errors_below(
    reader: SeriesReader,
    mask: Array,
    factor: Factor,
    recipe: VarianceRecipe,
    here: Path,
    *,
    n_dummy: int = 0,
    nuisance: Array | None = None,
    seed: int = 0,
) -> ErrorsBelow:
    """Reconstruct a run (uncompressed, head motion undone) one level of resolution down, in plane.

    Its own maps are estimated there.

    Parameters
    ----------
    reader : SeriesReader
        Series of the run (X, Y, Z, T), on the acquired grid.
    mask : Array
        Voxels of the brain on that grid (3D).
    factor : Factor
        Acquired over high-resolution voxel size along each axis.
    recipe : VarianceRecipe
        How variance maps are estimated.
    here : Path
        Folder for the series one level down and their errors.
    n_dummy : int, optional
        Number of volumes before the steady state, which are left out.
    nuisance : Array | None, optional
        Regressors that are removed first (T, K); None for none.
    seed : int, optional
        Seed of the draws.

    Returns
    -------
    ErrorsBelow
        Series one level down, its errors, and the power of acquired draws.

    Raises
    ------
    SeriesError, ResolutionError
        The run does not allow it.
    """
    level, (x, y, z) = level_below(mask.shape, (factor[0], factor[1], 1.0))
    inside = np.asarray(mask)[x, y, z] > 0
    low_mask = np.moveaxis(level.down(to_slices(inside)).numpy(), 0, 2) > 0.5
    grid = reader.affine.copy()
    grid[:3, 3] = (reader.affine @ (x.start, y.start, z.start, 1))[:3]
    low, errors = here / "low.nii", here / "errors.nii"
    shapes = {low: level.coarse, errors: level.fine}
    power, error_power = (np.zeros(shape, np.float32) for shape in shapes.values())
    plane = level.in_plane()

    def measured(number: int) -> Tensor:
        slab = reader.slab(number, number + 1)[x, y, 0]
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(slab, -1, 0)))

    def writer(path: Path) -> SeriesWriter:
        affine = resized_affine(grid, level.fine, shapes[path])
        return SeriesWriter(path, (*shapes[path], reader.shape[3]), affine, reader.tr)

    def put(target: SeriesWriter, number: int, images: Tensor) -> None:
        target.put_slab(number, np.moveaxis(images.numpy(), 0, -1)[:, :, None])

    with torch.inference_mode():
        with writer(low) as target:
            for k in range(z.start, z.stop):
                put(target, k - z.start, plane.down(measured(k)))
        with SeriesReader(low) as seen:
            found = temporal_statistics(
                seen, low_mask, n_dummy, recipe.components, nuisance=nuisance
            )
        components = torch.stack([to_slices(image) for image in found.components])
        prior = estimate_prior(components, Tile.around(plane, low_mask), recipe, seed=seed)

        def reconstruct(k: int) -> tuple[Tensor, Tensor, Tensor]:
            """Return the error of a slice, and the mean squares of its draws and their errors."""
            known, expect = measured(k + z.start), prior.at(k)
            raised = plane.up(plane.down(known))
            raise_slice(plane, expect, raised)
            missed, drawn = error_draws(prior, k, expect, DRAWS, seed + k)
            return raised - known, drawn.square().mean(0), missed.square().mean(0)

        with writer(errors) as target:
            slices = side_by_side(reconstruct, range(len(components[0])))
            for k, (error, drawn_square, missed_square) in enumerate(slices):
                put(target, k, error)
                power[..., k] = drawn_square
                error_power[..., k] = missed_square
    return ErrorsBelow(
        low=low,
        errors=errors,
        mask=inside,
        low_mask=low_mask,
        power=power,
        error_power=error_power,
    )
