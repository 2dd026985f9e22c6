"""What the variance maps of a run add to its zero-filled series, in the frame of the reference.

The zero-filled series was brought to the reference before. Downsampled in plane it is the data of
all volumes in one pose, and the change is what differs from the median over time. One slice of all
volumes is read, raised by what the maps reconstruct of its change beyond the acquired band, and
written, so that memory holds no more than that.

Error of a reconstruction by variance maps: what an effect on the high-resolution grid lacks.

A method that is linear in the data, R, gives of an effect ``beta`` that was acquired as ``D beta``
the estimate ``R D beta``. Its error ``(R D - I) beta`` is the same in every block and proportional
to the effect, so that neither more volumes nor the residuals of a linear model tell it. Under the
prior of the run, ``beta ~ N(0, tau^2 C)``, it is drawn: fluctuations x of unit scale are acquired
with noise and reconstructed, and what is missing of them beyond the acquired band is the error.
The scale tau^2 of a contrast is how much the power of its acquired effect exceeds that of noise,
over the power of acquired draws, both averaged locally; nothing is tuned on a reference.

Estimate of a run's variance maps w on the high-resolution grid, from what was acquired alone.

w climbs the marginal likelihood of the acquired components, ``y_c ~ N(0, D C D' + s2 I)``: the
model of sparse Bayesian learning (Tipping 2001; Wipf and Rao 2004), where all components share the
variance map. Stopped after a few smoothed steps, w is neither sparse nor at one of its maxima.

The update compares data with draws from the current prior. With ``a = (D C D' + s2 I)^-1 y`` and
``b = D' a`` the derivative of the log likelihood by log w_q is ``<b W_q K_q W_q b>`` over the data
less the same over draws, voxel by voxel, so w_q is multiplied by a power of their ratio: no
determinant is needed. For a draw a is ``L'^-1 white``, L the Cholesky factor of the covariance,
so that many draws cost little. Components enter with nearly equal weight, as each is a sample of
where the run fluctuates. The likelihood alone fits noise, so ratios are smoothed by less than a
voxel and log w is drawn a little towards its neighborhood. Settings were fixed on one person, one
level of resolution down (``benchmarks/people.py settings``).
"""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage, special
from scipy.ndimage import gaussian_filter
from torch import Tensor

from bids_sr.io.atomic_files import link_whole
from bids_sr.io.grids import Array, Factor, Float32, Mask, Shape
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.spatial.transforms import hr_grid, resized_affine
from bids_sr.sr.device import side_by_side
from bids_sr.sr.inference.acquired import InferenceError, UpsamplerInputs
from bids_sr.sr.lapack import solve_in_place
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.operators import Level, level_above, to_slices, to_volume
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.variance.prior import FWHM, Prior, Tile, correlation

DRAWS = 64  # of which the standard deviation errs by 9 %
_AROUND = 0.75  # standard deviation of the local average (acquired voxels in plane)


@lru_cache(maxsize=64)
def _root(size: int, fwhm: float) -> Tensor:
    """The symmetric square root of `correlation`."""
    with torch.inference_mode(False):
        values, vectors = torch.linalg.eigh(correlation(size, fwhm).double())
        return ((vectors * values.clamp_min(0).sqrt()) @ vectors.T).float()


def error_draws(
    prior: Prior, z: int, expect: Callable[[Tensor], Tensor], count: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Draw errors (count, X, Y) of what `prior.at` expects of a slice, beyond the acquired band.

    Second come the fluctuations as acquired, without noise (count, x, y); both of unit scale.
    """
    level, fine = prior.whole.level, prior.whole.fine
    generator = torch.Generator().manual_seed(seed)
    change = torch.zeros(count, *level.fine[:2])
    inside = change[:, *fine]
    for width, weight in zip(prior.fwhm, prior.weight[:, z, *fine], strict=True):
        white = torch.randn(count, *weight.shape, generator=generator)
        along_x, along_y = (_root(size, width) for size in weight.shape)
        inside.addcmul_(weight, along_x @ white @ along_y)
    seen = level.down(change)
    noise = prior.noise**0.5 * torch.randn(seen.shape, generator=generator)
    return level.beyond(change - expect(seen + noise)), seen


def effect_scale(
    effect: Array, variance: Array, power: Array, mask: Mask, zooms: Sequence[float]
) -> Float32:
    """Return tau^2 of a contrast, by its effect and variance on the acquired grid.

    Where the effect does not exceed its noise it is 0.

    Parameters
    ----------
    effect : Array
        Effect in signal units (3D).
    variance : Array
        Variance of the effect by the linear model (3D).
    power : Array
        Mean square of acquired draws from the prior (3D).
    mask : Mask
        Voxels of the brain (3D, boolean).
    zooms : Sequence[float]
        Voxel size along each axis (mm).

    Returns
    -------
    Float32
        Scale of the draws' variance (3D), 0 or more.
    """
    sigma = [_AROUND * zooms[0] / size for size in zooms]
    above, drawn = (
        ndimage.gaussian_filter(np.where(mask, each, 0).astype(np.float32), sigma)
        for each in (np.square(effect) - variance, power)
    )
    found: Float32 = np.where(
        mask & (drawn > 0), np.maximum(above, 0) / np.where(drawn > 0, drawn, 1), 0
    ).astype(np.float32)
    return found


def wrong_sign(effect: Array, variance: Array) -> Float32:
    """The posterior probability that an effect has the opposite sign, .5 where it is unknown."""
    sd = np.sqrt(np.where(variance > 0, variance, 1))
    found: Float32 = np.where(variance > 0, special.ndtr(-np.abs(effect) / sd), 0.5).astype(
        np.float32
    )
    return found


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


_FLOOR = 0.02  # of the median of w: where nothing fluctuates w is small, but never nothing
_RATIO = 20.0  # a step multiplies w by no more than a power of this
_SCALE = 1e-30  # below what any run has, in any unit


def filled_sd(components: Tensor, whole: Tile) -> Tensor:
    """Return the RMS over zero-filled components (C, z, x, y), 0 far from the mask (Z, X, Y).

    `components`: with as many slices as the high-resolution grid has.
    """
    x, y, z = whole.level.fine
    total = torch.zeros(z, x, y)
    for image in components:
        total[:, *whole.fine] += whole.level.up(image)[:, *whole.fine].square()
    return (total / len(components)).sqrt()


def _floored(weight: Tensor, whole: Tile) -> Tensor:
    """Positive around the mask."""
    positive = weight[weight > 0]
    if not len(positive):
        raise ValueError("the components of the series are zero in all voxels")
    out = torch.zeros_like(weight)
    out[:, *whole.fine] = weight[:, *whole.fine].clamp_min(_FLOOR * float(positive.median()))
    return out


def estimate_prior(
    components: Tensor,
    whole: Tile,
    recipe: VarianceRecipe,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Prior:
    """Find the variance maps (Q, Z, X, Y) of a run, in the unit of its components.

    `components`: (C, z, x, y) strongest temporal components, with as many slices as the
    high-resolution grid has. `progress`: called with (rounds done, rounds).
    """
    if not bool(torch.isfinite(components).all()):
        raise ValueError("the components of the series contain NaN or infinite values")
    with torch.inference_mode():
        if recipe.kind == "sdmod":
            sd = filled_sd(components, whole)
            return Prior(whole=whole, weight=sd[None], fwhm=(0.0,), noise=0.0)
        return _marginal_likelihood(components, whole, recipe, seed, progress)


def _marginal_likelihood(
    components: Tensor,
    whole: Tile,
    recipe: VarianceRecipe,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> Prior:
    """Sparse Bayesian learning; see the module."""
    total = float(components[:, :, *whole.seen].square().sum(0).mean())
    sizes = components[:, :, *whole.seen].square().mean((1, 2, 3)).sqrt().clamp_min(_SCALE)
    data = components * ((sizes / sizes.max()) ** -recipe.equalize)[:, None, None, None]
    variance = float(data[:, :, *whole.seen].square().mean())
    first = _floored(filled_sd(data, whole), whole).expand(len(recipe.fwhm), -1, -1, -1)
    prior = Prior(
        whole=whole, weight=first, fwhm=recipe.fwhm, noise=recipe.noise * variance
    ).scaled(variance)
    generator = torch.Generator().manual_seed(seed)
    tiles = prior.tiles()
    for done in range(recipe.rounds):
        seen, drawn = _responses(prior, data, tiles, recipe.draws, generator)
        weight = torch.zeros_like(prior.weight)
        here = (slice(None), *whole.fine)
        for new, old, of_data, of_draws in zip(weight, prior.weight, seen, drawn, strict=True):
            new[here] = _updated(old[here], of_data[here], of_draws[here], recipe)
        prior = replace(prior, weight=weight)
        if progress is not None:
            progress(done + 1, recipe.rounds)
    return replace(prior, noise=recipe.noise * total).scaled(total)


def _responses(
    prior: Prior, data: Tensor, tiles: Sequence[Tile], draws: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mean of b W_q K_q W_q b over data (C, z, x, y), and over draws (Q, Z, X, Y)."""
    seen, drawn = torch.zeros_like(prior.weight), torch.zeros_like(prior.weight)

    def compare(job: tuple[int, Tile, Tensor]) -> None:
        z, tile, white = job
        root = prior.root(z, tile)
        of_data = data[:, z, *tile.seen].flatten(1).numpy()
        solved = np.concatenate([of_data, white.T.numpy()])
        count = len(of_data)
        solve_in_place(root, solved[:count], transposed=False)
        solve_in_place(root, solved, transposed=True)
        back, responses = prior.responses(z, tile, solved)
        for number, response in enumerate(responses):
            response *= back
            for out, part in ((seen, response[:count]), (drawn, response[count:])):
                out[number, z, *tile.made] = torch.from_numpy(part.mean(0))

    jobs = (
        (z, tile, torch.randn(math.prod(map(len, tile.down)), draws, generator=generator))
        for z in range(data.shape[1])
        for tile in tiles
    )
    # far from the brain maps stay as they began
    for _ in side_by_side(compare, (job for job in jobs if job[1].counts(job[0]))):
        pass
    return seen, drawn


def _updated(weight: Tensor, seen: Tensor, expected: Tensor, recipe: VarianceRecipe) -> Tensor:
    """One map after one update."""
    sigma = (recipe.across, recipe.smooth, recipe.smooth)
    above, below = (
        torch.from_numpy(gaussian_filter(each.numpy(), sigma)) for each in (seen, expected)
    )
    known = (above > 0) & (below > 0)
    ratio = torch.where(known, above / below.clamp_min(1e-30), torch.ones(())).clamp(
        1 / _RATIO, _RATIO
    )
    log = (weight * ratio**recipe.step).log()
    near = torch.from_numpy(gaussian_filter(log.numpy(), (recipe.across, 1.0, 1.0)))
    return torch.lerp(log, near, recipe.pull).exp()
