"""What a series explains of this run one level of resolution down, where the acquired volumes are the truth.

The run is split into two halves. The strongest temporal components of one half are brought down by the factor of the
super-resolution, brought up again by a method, with the variance map of the *other* half, and held against what was
acquired. The share is 1 - |series - acquired|^2 / |zero filling - acquired|^2: 1 is all that zero filling misses, 0 is
zero filling, less is harm. It is a mean over components and over both ways, and decides whether a map is applied at all
(`bids_sr.sr.variance.fit_variance`).

Its interval is a jackknife over stretches of volumes: the components of a half are found again without one stretch,
among the combinations of those that it has. Each image is reconstructed by a linear operator, so that two matrices of
components x components hold all that this needs, and nothing is estimated twice. The map itself stays as it is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from bids_sr.io.array_types import Array, Float
from bids_sr.sr.data.temporal_components import TemporalStatistics
from bids_sr.sr.recipe import Estimator
from bids_sr.sr.resolution.matrices import Factor, matrix_for
from bids_sr.sr.resolution.operators import Level, level_below, to_slices
from bids_sr.sr.variance.prior import Prior, Window
from bids_sr.sr.variance.upsampler import Modulation
from bids_sr.sr.variance.variance_estimation import blended, estimate_prior, filled_sd

_ROUNDS, _DRAWS = 4, 32  # fewer than for the map itself: enough to tell something from nothing
_STRETCH = 8  # volumes of a stretch at least
_STRETCHES = 4  # of a half at most


class Added(Protocol):
    """What a series adds to the zero-filled image, (z, x, y) to (Z, X, Y)."""

    def beyond(self, coarse: Tensor) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Interpolation:
    """A plain interpolation, which differs from zero filling inside the acquired band too."""

    name: str
    level: Level

    def beyond(self, coarse: Tensor) -> Tensor:
        """The interpolated image less the zero-filled one."""
        level, out = self.level, coarse
        for axis, dim in ((0, -2), (1, -1), (2, -3)):
            m, n = level.coarse[axis], level.fine[axis]
            if m != n:
                matrix = torch.tensor(np.array(matrix_for(self.name, m, n, axis)), dtype=out.dtype)
                out = torch.movedim(torch.tensordot(matrix, out, ([1], [dim])), 0, dim)
        return out - level.up(coarse)


@dataclass(frozen=True, kw_only=True)
class Explained:
    """The explained share of one series, by half and with stretches of volumes left out."""

    by_half: tuple[float, ...]
    left_out: tuple[tuple[float, ...], ...] = ()  # of each half, its share without each of its stretches
    volumes: int = 0  # of a stretch

    @property
    def share(self) -> float:
        """Mean of both halves."""
        return float(np.mean(self.by_half))

    @property
    def stretches(self) -> int:
        """Of both halves."""
        return sum(map(len, self.left_out))

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Ends of the 95 % interval: jackknife over stretches, t distribution; NaN where there are none."""
        if not self.stretches:
            return float("nan"), float("nan")
        variance = sum((len(each) - 1) ** 2 / len(each) * float(np.var(each, ddof=1)) for each in self.left_out)
        freedom = self.stretches - len(self.left_out)
        reach = float(stats.t.ppf(0.975, freedom)) * variance**0.5 / len(self.by_half)
        return self.share - reach, self.share + reach


def explained_share(prior: Added, level: Level, images: Tensor, mask: Tensor) -> float:
    """Share of zero filling's squared error that a prior explains, mean over images.

    Parameters
    ----------
    prior, level : what is added to zero filling, on a level
    images : (C, Z, X, Y) on the high-resolution grid of the level; downsampled they are the data
    mask : (Z, X, Y) bool, voxels that count

    Returns
    -------
    1 - |zero filling + reconstruction - image|^2 / |zero filling - image|^2; 1 is all, 0 is zero filling, less is harm
    """
    missed, left = _errors(prior, level, images, mask)
    return _mean_share(missed.square().sum(1).numpy(), left.square().sum(1).numpy())


def _errors(prior: Added, level: Level, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(C, V) what zero filling misses of each image, and what is left of that."""
    missed = torch.empty(len(images), int(mask.sum()))
    left = torch.empty_like(missed)
    for number, image in enumerate(images):
        coarse = level.down(image)
        missed[number] = (image - level.up(coarse))[mask]
        left[number] = missed[number] - prior.beyond(coarse)[mask]
    return missed, left


def _mean_share(missed: Float, left: Float) -> float:
    known = missed > 0
    return float(np.mean(1 - left[known] / missed[known])) if known.any() else 0.0


def _stretches(volumes: int) -> list[NDArray[np.intp]]:
    """Volumes of each stretch of a half."""
    return np.array_split(np.arange(volumes), max(2, min(_STRETCHES, volumes // _STRETCH)))


def _without_each(missed: Tensor, left: Tensor, inside: Tensor, courses: Array) -> Iterator[float]:
    """The share without each stretch of volumes in turn, of components found again among those of all.

    missed, left : (C, V) errors of the components; inside : (C, V) the components; courses : (C, T)
    """
    missed, left, inside = missed.double(), left.double(), inside.double()
    energy = [(each @ each.T).numpy() for each in (missed, left)]
    values, vectors = np.linalg.eigh((inside @ inside.T).numpy())
    values = np.maximum(values, 1e-12 * values[-1])
    root, inverse = ((vectors * values**power) @ vectors.T for power in (0.5, -0.5))
    for stretch in _stretches(courses.shape[1]):
        kept = np.delete(courses, stretch, axis=1).astype(float)
        found, rotation = np.linalg.eigh(root @ (kept @ kept.T) @ root)
        combined = inverse @ rotation[:, found > 1e-9 * found[-1]]
        yield _mean_share(*(np.einsum("ck,cd,dk->k", combined, each, combined) for each in energy))


class Trial:
    """The two halves of a run one level of resolution down, on which series are tried.

    Parameters
    ----------
    halves : of the run, on the acquired grid
    mask : (x, y, z) brain
    factor : acquired over wanted voxel size

    Raises
    ------
    ResolutionError : an axis too short to be downsampled
    """

    def __init__(self, halves: Sequence[TemporalStatistics], mask: Array, factor: Factor) -> None:
        shape = mask.shape
        self.level, self._cut = level_below((shape[0], shape[1], shape[2]), factor)
        inside = to_slices(np.asarray(mask)[self._cut] > 0)
        self.mask = inside > 0
        low = np.moveaxis(self.level.down(inside).numpy(), 0, 2) > 0.5
        self.window = Window.around(self.level, low) if low.any() else None
        self.halves = [torch.stack([to_slices(image[self._cut]) for image in half.components]) for half in halves]
        self.courses = [half.courses for half in halves]

    def cut(self, measured: Tensor) -> Tensor:
        """A map (z, x, y) of the acquired grid on the window."""
        assert self.window is not None
        x, y, z = self._cut
        return measured[z, x, y][self.window.fine].contiguous()

    def tried(self, priors: Sequence[Added]) -> Explained:
        """How each half fares with its prior."""
        by_half, left_out = [], []
        for images, courses, prior in zip(self.halves, self.courses, priors, strict=True):
            missed, left = _errors(prior, self.level, images, self.mask)
            by_half.append(_mean_share(missed.square().sum(1).numpy(), left.square().sum(1).numpy()))
            if courses is not None:
                left_out.append(tuple(_without_each(missed, left, images[:, self.mask], courses)))
        volumes = min((courses.shape[1] // len(each) for courses, each in zip(self.courses, left_out, strict=False)
                       if courses is not None), default=0)  # fmt: skip
        return Explained(by_half=tuple(by_half), left_out=tuple(left_out), volumes=volumes)


def try_interpolation(trial: Trial, name: str) -> Explained:
    """Share of a plain interpolation (`bids_sr.series.INTERPOLATIONS`), which takes no map."""
    if trial.window is None:
        return Explained(by_half=(0.0, 0.0))
    with torch.inference_mode():
        return trial.tried([Interpolation(name=name, level=trial.level)] * 2)


def try_maps(
    trial: Trial, estimator: Estimator, *, seed: int = 0, measured: Tensor | None = None,
    blends: Sequence[float] = (0.0,),
) -> dict[float, Explained]:  # fmt: skip
    """Share of each half's components that the map of the other half explains.

    Parameters
    ----------
    estimator, seed : of the map
    measured : (z, x, y) standard deviation on the acquired grid that was measured in another run; or None
    blends : shares of that map to try, see `blended`; 0 is the run's own map alone

    Returns
    -------
    dict from blend to what was found
    """
    if trial.window is None:
        return dict.fromkeys(blends, Explained(by_half=(0.0, 0.0)))
    other_map = None if measured is None else trial.cut(measured)
    with torch.inference_mode():
        maps = [_quick_map(trial.level.down(half), trial.window, estimator, seed) for half in trial.halves[::-1]]
        found = {}
        for blend in blends:
            priors = [
                each if other_map is None or isinstance(each, Modulation) else blended(each, other_map, blend)
                for each in maps
            ]
            found[blend] = trial.tried(priors)
    return found


def _quick_map(components: Tensor, window: Window, estimator: Estimator, seed: int) -> Prior | Modulation:
    """The map of some components."""
    if estimator.kind == "sdmod":
        return Modulation(window=window, weight=filled_sd(components, window))
    quick = replace(estimator, rounds=min(estimator.rounds, _ROUNDS), draws=min(estimator.draws, _DRAWS))
    return estimate_prior(components, window, quick, seed=seed)
