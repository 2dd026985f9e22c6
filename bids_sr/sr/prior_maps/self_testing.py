"""Self-test of a super-resolution method at lower resolution.

The run is downsampled, so that the acquired volumes serve as the high-resolution reference. It is
split into two halves. The strongest temporal components of one half are downsampled by the
super-resolution factor, super-resolved with the prior SD map of the *other* half, and compared
with the acquired components. The self-test score is 1 - |series - acquired|^2 / |zero filling -
acquired|^2: 1 means no error, 0 the error of zero filling, and negative values a larger error. It
is averaged over components and both halves, and decides whether a map is applied
(`bids_sr.sr.prior_maps.tested_prior`).

The confidence interval is computed from segments of the run: the map of the other half is tested
on the components of each segment, and the spread of scores gives the standard error of their mean.
The spread does not include the estimation error of the map. Therefore, the interval is widened by
a factor that was determined with phantoms (`tests/unit/sr/prior_maps/test_self_testing.py`), so
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
from bids_sr.sr.operators import ResolutionLevel, interpolate, level_below, to_slices, to_volume
from bids_sr.sr.prior_maps.add_detail import Modulation
from bids_sr.sr.prior_maps.calibration_prior import add_patterns
from bids_sr.sr.prior_maps.estimation import estimate_prior
from bids_sr.sr.prior_maps.prior import Prior, Tile
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.threads import map_in_threads

# function from data (C, z, x, y) to the images (Z, X, Y) added to each zero-filled image
_DetailFunction = Callable[[Tensor], Iterable[Tensor]]
# factor that widens the interval, because the spread of segments does not include the error of the
# map
_INTERVAL_FACTOR = 1.7


@dataclass(frozen=True, kw_only=True)
class SelfTestScore:
    """Self-test score of a series.

    Scores are the relative reduction in squared error compared with zero filling, for each half of
    the run and for each segment, beginning with the segments of the first half.
    """

    half_scores: tuple[float, ...]
    segment_scores: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """Mean score of both halves."""
        return float(np.mean(self.half_scores))

    @property
    def interval(self) -> tuple[float, float]:
        """Limits of the 95 % confidence interval (t over segments); NaN without segments."""
        count = len(self.segment_scores)
        if count < 2:
            return float("nan"), float("nan")
        standard_error = float(np.std(self.segment_scores, ddof=1)) / count**0.5
        half_width = _INTERVAL_FACTOR * float(special.stdtrit(count - 1, 0.975)) * standard_error
        return self.mean - half_width, self.mean + half_width


class SelfTest:
    """Self-test of series on the two halves of a run.

    ResolutionError is raised if an axis is too short to be downsampled.

    `halves` are the components of both halves on the acquired grid (K, x, y, z), and `mask` is the
    brain mask on this grid (x, y, z). `segments` are the components of each segment (K, x, y, z),
    by half. Without segments, there is no interval.
    """

    def __init__(
        self,
        halves: Sequence[Array],
        mask: Array,
        factor: Factor,
        segments: Sequence[Sequence[Array]] = (),
    ) -> None:
        self.level, self._window = level_below(mask.shape, factor)
        in_mask = to_slices(np.asarray(mask)[self._window] > 0)
        self.mask = in_mask > 0
        low_mask = to_volume(self.level.downsample(in_mask)) > 0.5
        self.region = (
            Tile.from_mask(self.level.restrict_to_plane(), low_mask) if low_mask.any() else None
        )
        self.halves = [to_slices(half[:, *self._window]) for half in halves]
        self.segments = [
            [to_slices(segment[:, *self._window]) for segment in segments_of_half]
            for segments_of_half in segments
        ]

    def crop(self, patterns: Tensor) -> Tensor:
        """Crop patterns (C, z, x, y) on the acquired grid to the window that is downsampled."""
        x, y, z = self._window
        return patterns[:, z, x, y]

    def score(self, detail_functions: Sequence[_DetailFunction]) -> SelfTestScore:
        """Return the score of a series.

        `detail_functions` contains the function that computes the detail, for each half.
        """
        half_scores, segment_scores = [], []
        for half, segments, compute_detail in zip(
            self.halves, self.segments or ((), ()), detail_functions, strict=True
        ):
            # all sets at once, so that matrices of a prior are computed only once
            image_sets = [half, *segments]
            scores = _compute_scores(compute_detail, self.level, torch.cat(image_sets), self.mask)
            ends = np.cumsum([len(images) for images in image_sets])
            half_score, *scores_of_segments = map(_average_scores, np.split(scores, ends[:-1]))
            half_scores.append(half_score)
            segment_scores += scores_of_segments
        return SelfTestScore(half_scores=tuple(half_scores), segment_scores=tuple(segment_scores))


def _compute_scores(
    compute_detail: _DetailFunction, level: ResolutionLevel, images: Tensor, mask: Tensor
) -> Array:
    """Return the self-test score of each image (C,), NaN if zero filling has no error."""
    lowres_images = level.downsample(images)
    scores = np.full(len(images), np.nan)
    for index, (image, lowres, detail) in enumerate(
        zip(images, lowres_images, compute_detail(lowres_images), strict=True)
    ):
        missing_detail = (image - level.upsample(lowres))[mask]
        energy = float(missing_detail.square().sum())
        if energy > 0:
            scores[index] = 1 - float((missing_detail - detail[mask]).square().sum()) / energy
    return scores


def _average_scores(scores: Array) -> float:
    """Return the mean of the scores that are not NaN, or 0 if all are NaN."""
    valid_scores = scores[np.isfinite(scores)]
    return float(valid_scores.mean()) if len(valid_scores) else 0.0


def score_interpolation(self_test: SelfTest, name: str) -> SelfTestScore:
    """Return the self-test score of an interpolation, which needs no map.

    `name` is an interpolation. The score is 0 if the brain is too small.
    """
    if self_test.region is None:
        return SelfTestScore(half_scores=(0.0, 0.0))
    with torch.inference_mode():
        return self_test.score([_make_interpolation_detail_function(name, self_test.level)] * 2)


def _make_interpolation_detail_function(name: str, level: ResolutionLevel) -> _DetailFunction:
    """Return the function that computes the difference of an interpolation from zero filling.

    The difference is not limited to frequencies above the acquired Nyquist frequency.
    """

    def compute_detail(lowres_images: Tensor) -> Iterator[Tensor]:
        for image in lowres_images:
            yield interpolate(name, image, level.highres_shape) - level.upsample(image)

    return compute_detail


def score_maps(
    self_test: SelfTest,
    recipe: VarianceRecipe,
    *,
    seed: int = 0,
    patterns: Tensor | None = None,
    weights: Sequence[float] = (0.0,),
) -> dict[float, SelfTestScore]:
    """Return the self-test scores of prior SD maps.

    The map of each half is tested on the other half.

    `seed` is the seed of the samples from the prior. `patterns` are of a calibration, on the
    acquired grid (C, z, x, y). `weights` are the weights of the patterns that are tested, see
    `add_patterns`; with 0, only the map of the run is used. Returns the score for each weight.
    """
    if (region := self_test.region) is None:
        return dict.fromkeys(weights, SelfTestScore(half_scores=(0.0, 0.0)))
    cropped_patterns = None if patterns is None else self_test.crop(patterns)
    level = self_test.level
    with torch.inference_mode():
        maps = [
            estimate_map(level.upsample_slices(level.downsample(half)), region, recipe, seed)
            for half in self_test.halves[::-1]
        ]
        scores = {}
        for weight in weights:
            priors = [
                prior
                if cropped_patterns is None or isinstance(prior, Modulation)
                else add_patterns(prior, cropped_patterns, weight)
                for prior in maps
            ]
            scores[weight] = self_test.score(
                [_make_detail_function(prior, level) for prior in priors]
            )
    return scores


def estimate_map(
    components: Tensor, tile: Tile, recipe: VarianceRecipe, seed: int
) -> Prior | Modulation:
    """Estimate the prior of components, or the control `sdmod`."""
    prior = estimate_prior(components, tile, recipe, seed=seed)
    return Modulation(region=tile, weight=prior.weight[0]) if recipe.kind == "sdmod" else prior


def _make_detail_function(prior: Prior | Modulation, level: ResolutionLevel) -> _DetailFunction:
    """Return the function that computes the detail added by a prior."""
    plane = prior.region.level

    def compute_detail(lowres_images: Tensor) -> Iterator[Tensor]:
        images = level.upsample_slices(lowres_images)
        slices = map_in_threads(
            lambda z: prior.make_slice_function(z)(images[:, z]), range(images.shape[1])
        )
        x, y, z = level.highres_shape
        expected = torch.empty(len(images), z, x, y)
        for number, expected_slice in enumerate(slices):
            expected[:, number] = expected_slice
        # one image at a time, because all images of a run take much memory
        yield from map(plane.select_above_nyquist, expected)

    return compute_detail
