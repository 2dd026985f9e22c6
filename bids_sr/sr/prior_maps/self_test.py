"""Self-test of a super-resolution method at lower resolution.

The run is downsampled, so that the acquired volumes serve as the high-resolution reference. It is
split into two halves. The strongest temporal components of one half are downsampled by the
super-resolution factor, super-resolved with the prior SD map of the *other* half, and compared
with the acquired components. The self-test score is 1 - |series - acquired|^2 / |zero filling -
acquired|^2: 1 means no error, 0 the error of zero filling, and negative values a larger error. It
is averaged over components and both halves, and decides whether a map is applied
(`bids_sr.sr.prior_maps.fit_variance`).

The confidence interval is computed from segments of the run: the map of the other half is tested
on the components of each segment, and the spread of scores gives the standard error of their mean.
The spread does not include the estimation error of the map. Therefore, the interval is widened by
a factor that was determined with phantoms (`tests/unit/sr/prior_maps/test_self_test.py`), so
that the interval contains the mean score over many runs of a participant.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import special
from torch import Tensor

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.sr.operators import ResolutionLevel, interpolate, level_below, to_slices
from bids_sr.sr.prior_maps.add_detail import Modulation
from bids_sr.sr.prior_maps.calibration_prior import add_patterns
from bids_sr.sr.prior_maps.estimation import compute_filled_sd, estimate_prior
from bids_sr.sr.prior_maps.prior import Prior, Tile
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.threads import map_in_threads

_Added = Callable[[Tensor], Iterable[Tensor]]
"""Function from data (C, z, x, y) to the images (Z, X, Y) added to each zero-filled image."""
# factor of the interval, because the spread of segments does not include the error of the map
_INTERVAL_FACTOR = 1.7


@dataclass(frozen=True, kw_only=True)
class SelfTestScore:
    """Self-test score of a series.

    Parameters
    ----------
    by_half : tuple[float, ...]
        Relative reduction in squared error compared with zero filling, for each half of the run.
    by_stretch : tuple[float, ...]
        Relative reduction for each segment, beginning with the segments of the first half.
    """

    by_half: tuple[float, ...]
    by_stretch: tuple[float, ...] = ()

    @property
    def share(self) -> float:
        """Mean score of both halves."""
        return float(np.mean(self.by_half))

    @property
    def interval(self) -> tuple[float, float]:
        """Limits of the 95 % confidence interval (t over segments); NaN without segments."""
        count = len(self.by_stretch)
        if count < 2:
            return float("nan"), float("nan")
        error = float(np.std(self.by_stretch, ddof=1)) / count**0.5
        half_width = _INTERVAL_FACTOR * float(special.stdtrit(count - 1, 0.975)) * error
        return self.share - half_width, self.share + half_width


def _compute_mean_score(
    make_additions: _Added, level: ResolutionLevel, images: Tensor, mask: Tensor
) -> float:
    """Return the self-test score, averaged over images.

    The score is the relative reduction in squared error compared with zero filling.
    """
    return _mean(_compute_scores(make_additions, level, images, mask))


def _mean(shares: Array) -> float:
    """Return the mean over all images with a score."""
    valid = shares[np.isfinite(shares)]
    return float(valid.mean()) if len(valid) else 0.0


def _compute_scores(
    make_additions: _Added, level: ResolutionLevel, images: Tensor, mask: Tensor
) -> Array:
    """Return the score of each image (C,), NaN if zero filling has no error."""
    coarse = level.down(images)
    shares = np.full(len(images), np.nan)
    for number, (image, lowres, detail) in enumerate(
        zip(images, coarse, make_additions(coarse), strict=True)
    ):
        missing_detail = (image - level.up(lowres))[mask]
        energy = float(missing_detail.square().sum())
        if energy > 0:
            shares[number] = 1 - float((missing_detail - detail[mask]).square().sum()) / energy
    return shares


def _make_addition(prior: Prior | Modulation, level: ResolutionLevel) -> _Added:
    """Return the function that computes the detail added by a prior."""
    plane = prior.region.level

    def added(coarse: Tensor) -> Iterator[Tensor]:
        images = level.upsample_slices(coarse)
        slices = map_in_threads(
            lambda z: prior.make_slice_function(z)(images[:, z]), range(images.shape[1])
        )
        x, y, z = level.fine
        expected = torch.empty(len(images), z, x, y)
        for number, expected_slice in enumerate(slices):
            expected[:, number] = expected_slice
        # one image at a time, because all images of a run take much memory
        yield from map(plane.select_above_nyquist, expected)

    return added


def _make_interpolation_addition(name: str, level: ResolutionLevel) -> _Added:
    """Return the function that computes the difference of an interpolation from zero filling.

    The difference is not limited to frequencies above the acquired Nyquist frequency.
    """
    return lambda coarse: (
        interpolate(name, image, level.fine) - level.up(image) for image in coarse
    )


class SelfTest:
    """Self-test of series on the two halves of a run.

    ResolutionError is raised if an axis is too short to be downsampled.

    Parameters
    ----------
    halves : Sequence[Array]
        Components of both halves on the acquired grid (K, x, y, z).
    mask : Array
        Brain mask on the acquired grid (x, y, z).
    factor : Factor
        Ratio of acquired to high-resolution voxel size.
    stretches : Sequence[Sequence[Array]], optional
        Components of each segment (K, x, y, z), by half. Without segments, there is no interval.
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
        low_mask = np.moveaxis(self.level.down(inside).numpy(), 0, 2) > 0.5
        self.whole = (
            Tile.from_mask(self.level.restrict_to_plane(), low_mask) if low_mask.any() else None
        )
        self.halves = [self._slices(half) for half in halves]
        self.stretches = [
            [self._slices(segment) for segment in segments] for segments in stretches
        ]

    def _slices(self, components: Array) -> Tensor:
        """Return components in the tested window, with slices first (K, z, x, y)."""
        return torch.stack([to_slices(image[self._cut]) for image in components])

    def cut(self, patterns: Tensor) -> Tensor:
        """Crop patterns (C, z, x, y) on the acquired grid to the window that is downsampled."""
        x, y, z = self._cut
        return patterns[:, z, x, y]

    def score(self, additions: Sequence[_Added]) -> SelfTestScore:
        """Return the score of a series.

        `additions` contains the function that computes the detail, for each half.
        """
        by_half, by_stretch = [], []
        for half, segments, make_additions in zip(
            self.halves, self.stretches or ((), ()), additions, strict=True
        ):
            # all sets at once, so that matrices of a prior are computed only once
            sets = [half, *segments]
            shares = _compute_scores(make_additions, self.level, torch.cat(sets), self.mask)
            means = [
                _mean(set_shares)
                for set_shares in np.split(
                    shares, np.cumsum([len(images) for images in sets])[:-1]
                )
            ]
            by_half.append(means[0])
            by_stretch += means[1:]
        return SelfTestScore(by_half=tuple(by_half), by_stretch=tuple(by_stretch))


def score_interpolation(trial: SelfTest, name: str) -> SelfTestScore:
    """Return the self-test score of an interpolation, which needs no map.

    `name` is one of `bids_sr.series.INTERPOLATIONS`. The score is 0 if the brain is too small.
    """
    if trial.whole is None:
        return SelfTestScore(by_half=(0.0, 0.0))
    with torch.inference_mode():
        return trial.score([_make_interpolation_addition(name, trial.level)] * 2)


def score_maps(
    trial: SelfTest,
    recipe: VarianceRecipe,
    *,
    seed: int = 0,
    patterns: Tensor | None = None,
    weights: Sequence[float] = (0.0,),
) -> dict[float, SelfTestScore]:
    """Return the self-test scores of prior SD maps.

    The map of each half is tested on the other half.

    Parameters
    ----------
    trial : SelfTest
        Halves of the run.
    recipe : VarianceRecipe
        Settings of the maps.
    seed : int, optional
        Seed of the samples from the prior.
    patterns : Tensor | None, optional
        Patterns of a calibration on the acquired grid (C, z, x, y).
    weights : Sequence[float], optional
        Weights of the patterns that are tested, see `add_patterns`. With 0, only the map of the
        run is used.

    Returns
    -------
    dict[float, Explained]
        Score for each weight.
    """
    if (tile := trial.whole) is None:
        return dict.fromkeys(weights, SelfTestScore(by_half=(0.0, 0.0)))
    cropped_patterns = None if patterns is None else trial.cut(patterns)
    with torch.inference_mode():
        maps = [
            estimate_map(trial.level.upsample_slices(trial.level.down(half)), tile, recipe, seed)
            for half in trial.halves[::-1]
        ]
        explained = {}
        for weight in weights:
            priors = [
                prior
                if cropped_patterns is None or isinstance(prior, Modulation)
                else add_patterns(prior, cropped_patterns, weight)
                for prior in maps
            ]
            explained[weight] = trial.score(
                [_make_addition(prior, trial.level) for prior in priors]
            )
    return explained


def estimate_map(
    components: Tensor, tile: Tile, recipe: VarianceRecipe, seed: int
) -> Prior | Modulation:
    """Estimate the prior of components, or the control `sdmod`."""
    if recipe.kind == "sdmod":
        return Modulation(region=tile, weight=compute_filled_sd(components, tile))
    return estimate_prior(components, tile, recipe, seed=seed)
