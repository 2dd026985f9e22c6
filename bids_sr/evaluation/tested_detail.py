"""Detail of each contrast that is recovered at half the resolution.

The run is downsampled by the super-resolution factor and super-resolved to the acquired
resolution. The effect of each contrast is then compared with the acquired effect as a
super-resolved effect is compared with a measured effect (`bids_sr.evaluation.agreement`): the
effect in one half of the data with the acquired effect in the other half, above the Nyquist
frequency of the downsampled run. Numerators and denominators are averaged over all balanced splits
of the blocks before they are divided (`bids_sr.glm.halves.average_splits`), because an average of
ratios is dominated by splits whose denominator is small. The blocks are blocks of a run, or runs
(`bids_sr.group.combination.steps.tested_runs`).

The standard error has three parts, which are added in quadrature:

- The error over space is a jackknife over parts of the brain. Slices are reconstructed
  separately, but activity and noise extend over neighboring slices. It is therefore the larger of
  the jackknife over slices and the jackknife over cells of 40 mm in plane and about 10 mm across
  slices.
- The error over time is a jackknife over the blocks of each condition with at least three blocks.
  A condition with two blocks has a single split, and does not contribute to this part.
- The accuracy at the acquired resolution differs from the accuracy at the final resolution, with
  the standard deviation `LEVEL_SD`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.effects_of_run import MIN_VOXELS, smooth_maps
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.evaluation.large_effects import OTHERS, select_in_run
from bids_sr.evaluation.reference_maps import TRUE_T
from bids_sr.glm.block_effects import Effects
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.halves import (
    BalancedSplits,
    SplitProducts,
    balance_splits,
    split_contrasts,
)
from bids_sr.glm.vein_signs import LARGE_PERCENT
from bids_sr.io.arrays import Float, Float32, MaskArray
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.spatial.nyquist import beyond_nyquist, share_beyond_nyquist

TESTED_METHOD = "sbl"
"""Method whose contrasts are tested at half the resolution."""
HALF_RESOLUTION = "oneLevelDown"
"""Reference of values at half the resolution in the table of metrics."""
FINENESS = "detail_fineness"
"""Spectral density of the acquired detail in the upper half of the tested frequencies, relative to
the lower half, inside the outer voxels of the brain.
"""
FOLLOWING = "ev_without_task"
"""Explained variance of the detail if the prior is estimated from the run without its task."""
MIN_UNITS = 8
"""Smallest number of slices of a run, and of parts of a region, for an interval."""
LEVEL_SD = 0.05
"""Standard deviation of the difference between the explained variance at the acquired and at the
final resolution.
"""
ONE_SIDED, TWO_SIDED = 0.95, 0.975
"""Probabilities of the upper limits of one-sided and two-sided 95 % intervals."""
_CELL_MM = 40.0, 40.0, 10.0  # size of a cell in plane and across slices
_MAX_CELLS = 4096  # along an axis
# neighbors of a voxel in its slice
_IN_PLANE = np.array([[[False], [True], [False]], [[True]] * 3, [[False], [True], [False]]])
_MIN_UNIT_SHARE = 0.25  # of the mean number of voxels of a unit; smaller units are merged


@frozen
class HalfResolutionData:
    """Block effects at half the resolution, on the tested part of the acquired grid.

    `series` is the super-resolved series. `estimates` and `targets` are the effects of B blocks
    (x, y, z, B): of the downsampled and super-resolved data, and of the acquired data. Noise must
    be independent between blocks. `active_t` contains t maps of the downsampled data by smoothing
    (FWHM, mm) and contrast. Effects are tested at each smoothing. `mask` is the brain (x, y, z),
    and `zooms` the voxel size (mm). `task_free` are the effects if the prior is estimated from the
    downsampled data without the task (x, y, z, B); None if there is no task. `nuisance` are maps
    that are regressed out of the detail of each block in each region (x, y, z, K); None if there
    are none. `fineness_gain` is the change of `FINENESS` by the interpolation of the effects, as a
    factor.
    """

    series: str
    estimates: Float32
    targets: Float32
    active_t: Mapping[float, Mapping[str, Float32]]
    mask: MaskArray
    zooms: Sequence[float]
    task_free: Float32 | None = None
    nuisance: Float32 | None = None
    fineness_gain: float = 1.0


@frozen
class ContrastSplits:
    """Contrast with all balanced splits of its blocks.

    `origin` is the contrast whose t map selects the active voxels. `large` are the voxels with a
    large effect in the downsampled run (x, y, z); None if they are not tested separately.
    """

    name: str
    origin: str
    splits: BalancedSplits
    large: MaskArray | None = None


def iterate_tested_detail(
    reconstructed: Effects,
    acquired: Effects,
    active_t: Mapping[float, Mapping[str, Float32]],
    contrasts: Contrasts,
    factor: Factor,
    large_percent: float = LARGE_PERCENT,
    task_free: Float32 | None = None,
) -> Iterator[MetricRow]:
    """Yield the explained variance of the detail of each contrast of a run.

    `reconstructed` and `acquired` are block effects of the downsampled and super-resolved run, and
    of the acquired run, on the tested part of the acquired grid (x, y, z). `active_t` contains t
    maps of the downsampled run, interpolated to this grid, by smoothing (FWHM, mm) and contrast.
    `factor` is the downsampling factor of the run along each axis. `large_percent` is the
    effect of the downsampled run (percent of the mean brain signal) above which it is large.
    `task_free` are the block effects with a prior of the run without its task (x, y, z, B); None
    if there is no task.

    `contrasts` contains the weights of conditions by contrast. Contrasts that cannot be split into
    halves are replaced as in `split_contrasts`, or skipped. The rows are from `score_detail`.
    """
    tested_contrasts = [
        ContrastSplits(
            name=name,
            origin=split.origin,
            splits=splits,
            large=select_in_run(
                reconstructed, split.weights, acquired.mean_signal, factor, large_percent
            ),
        )
        for name, split in split_contrasts(acquired.blocks, contrasts).items()
        if (splits := balance_splits(acquired.blocks, split.weights, acquired.leak)) is not None
    ]
    data = HalfResolutionData(
        series=reconstructed.series,
        estimates=reconstructed.betas,
        targets=acquired.betas,
        active_t=active_t,
        mask=acquired.mask,
        zooms=acquired.zooms,
        task_free=task_free,
    )
    yield from score_detail(data, tested_contrasts, factor)


def score_detail(
    data: HalfResolutionData, contrasts: Sequence[ContrastSplits], factor: Factor
) -> Iterator[MetricRow]:
    """Yield the explained variance of the detail of contrasts, in active voxels and the brain.

    `factor` is the downsampling factor along each axis. Rows are the explained variance of the
    detail, `FINENESS` of the acquired effect and, with a task, `FOLLOWING`, all with a 95 %
    interval, and the number of voxels. `n`
    is the number of units of the jackknife over space. If the contrast has large effects,
    explained variance is also computed in the other active voxels (`OTHERS`), without smoothing.
    An explained variance is NaN if the acquired effect has no reproducible detail at these
    frequencies.
    """
    for width, t_maps in data.active_t.items():
        detail = _filter_detail(data, width, factor)
        for contrast in contrasts:
            regions = {"brain": data.mask}
            if contrast.origin in t_maps:
                is_active = np.abs(t_maps[contrast.origin]) > TRUE_T
                active = regions[ACQUIRED_ACTIVE] = data.mask & is_active
                if contrast.large is not None and not width and (active & contrast.large).any():
                    regions[OTHERS] = active & ~contrast.large
            for region, voxels in regions.items():
                row = MetricRow(
                    series=data.series,
                    statistic="voxels",
                    value=float(np.count_nonzero(voxels)),
                    reference=HALF_RESOLUTION,
                    contrast=contrast.name,
                    region=region,
                    fwhm_mm=width,
                )
                ratios = _compute_ratios(detail, voxels, contrast.splits, data)
                if region == OTHERS:
                    ratios = {"ev": ratios["ev"]}
                for statistic, ratio in ratios.items():
                    yield replace(
                        row,
                        statistic=statistic,
                        band="beyond",
                        value=ratio.value,
                        lower=ratio.value - ratio.half_width,
                        upper=ratio.value + ratio.half_width,
                        n=ratio.n_units,
                    )
                yield row


class _Detail(NamedTuple):
    """Detail of the block effects, (x, y, z, B) each.

    `upper_targets` is the upper half of the frequencies of `targets`. `task_free` is the detail
    with a prior of the run without its task; None if there is no task. `nuisance` and
    `upper_nuisance` are the detail of nuisance maps, (x, y, z, K). `upper_ratio` is the energy
    of white noise in the upper half of the tested frequencies, relative to the lower half, after
    interpolation.
    """

    estimates: Float32
    targets: Float32
    upper_targets: Float32
    task_free: Float32 | None
    nuisance: Float32
    upper_nuisance: Float32
    upper_ratio: float


def _filter_detail(data: HalfResolutionData, width: float, factor: Factor) -> _Detail:
    """Return the detail of the smoothed block effects above the Nyquist frequency of a factor."""
    estimates, targets, task_free, nuisance = (
        smooth_maps(effects, data.zooms, width) if width and effects is not None else effects
        for effects in (data.estimates, data.targets, data.task_free, data.nuisance)
    )
    assert estimates is not None
    assert targets is not None
    if nuisance is None:
        nuisance = np.zeros((*data.mask.shape, 0), np.float32)
    middle_factor = _compute_middle_factor(factor)
    shares = [share_beyond_nyquist(targets.shape[:3], limit) for limit in (factor, middle_factor)]
    return _Detail(
        estimates=beyond_nyquist(estimates, factor),
        targets=beyond_nyquist(targets, factor),
        upper_targets=beyond_nyquist(targets, middle_factor),
        task_free=None if task_free is None else beyond_nyquist(task_free, factor),
        nuisance=beyond_nyquist(nuisance, factor),
        upper_nuisance=beyond_nyquist(nuisance, middle_factor),
        upper_ratio=data.fineness_gain * shares[1] / (shares[0] - shares[1]),
    )


def compare_bands(values: Float, factor: Factor) -> float:
    """Return the energy of a map (x, y, z) in the upper over the lower tested frequencies."""
    detail, upper = (
        beyond_nyquist(values, limit) for limit in (factor, _compute_middle_factor(factor))
    )
    return float(np.square(upper).sum() / np.square(detail - upper).sum())


class _Ratio(NamedTuple):
    """Ratio of two sums over voxels, with the half-width of its 95 % interval.

    Both are NaN if the denominator is not found to be above 0; the half-width is NaN if there are
    too few units. `n_units` is the number of units of the jackknife over space.
    """

    value: float
    half_width: float
    n_units: int


def _compute_ratios(
    detail: _Detail,
    voxels: MaskArray,
    splits: BalancedSplits,
    data: HalfResolutionData,
) -> dict[str, _Ratio]:
    """Return explained variances, fineness and `FOLLOWING` in a region (x, y, z), by statistic.

    `data` has the brain and the voxel size, which determine the units of the jackknife.
    """
    units = _divide_region(voxels, data)
    statistics = ["ev", FINENESS, *([] if detail.task_free is None else [FOLLOWING])]
    if np.count_nonzero(voxels) < MIN_VOXELS:
        return dict.fromkeys(statistics, _Ratio(math.nan, math.nan, units.count))
    nuisance = detail.nuisance[voxels]
    estimates, targets = (
        _center(maps[voxels], nuisance) for maps in (detail.estimates, detail.targets)
    )
    explained = {"ev": estimates}
    if detail.task_free is not None:
        explained[FOLLOWING] = _center(detail.task_free[voxels], nuisance)
    ratios = {
        statistic: _divide_sums(
            _compare(maps, targets),
            [_Product(targets, targets)],
            splits,
            units,
            extra_sd=LEVEL_SD,
        )
        for statistic, maps in explained.items()
    }
    ratios[FINENESS] = _compute_fineness(detail, voxels, splits, data)
    return ratios


def _compute_fineness(
    detail: _Detail, voxels: MaskArray, splits: BalancedSplits, data: HalfResolutionData
) -> _Ratio:
    """Return the fineness of the acquired effect in a region (x, y, z).

    The outer voxels of the brain do not count, because any effect is sharp at the edge of the
    brain.
    """
    inner = voxels & ndimage.binary_erosion(data.mask, _IN_PLANE)
    units = _divide_region(inner, data)
    if np.count_nonzero(inner) < MIN_VOXELS:
        return _Ratio(math.nan, math.nan, units.count)
    upper_nuisance = detail.upper_nuisance[inner]
    upper_targets = _center(detail.upper_targets[inner], upper_nuisance)
    lower_targets = _center(
        (detail.targets - detail.upper_targets)[inner], detail.nuisance[inner] - upper_nuisance
    )
    return _divide_sums(
        [_Product(upper_targets, upper_targets, scale=1 / detail.upper_ratio)],
        [_Product(lower_targets, lower_targets)],
        splits,
        units,
    )


def _center(maps: Float32, nuisance: Float32) -> Float:
    """Subtract the mean and the best fit of nuisance maps (N, K) from each block map (N, B)."""
    values, regressors = (
        array.astype(np.float64) - array.mean(axis=0, dtype=np.float64)
        for array in (maps, nuisance)
    )
    return values - regressors @ np.linalg.lstsq(regressors, values)[0]


def _compute_middle_factor(factor: Factor) -> Factor:
    """Return the factor whose Nyquist frequency is in the middle of the tested frequencies."""
    x, y, z = (2 * axis_factor / (axis_factor + 1) for axis_factor in factor)
    return x, y, z


@frozen
class _Units:
    """Units of the jackknife over space: labels of the N voxels of a region, (N,) each.

    `count` is the number of units of the coarser division. `has_interval` is False if the run or
    the region has too few units.
    """

    slices: NDArray[np.intp]
    cells: NDArray[np.intp]
    count: int
    has_interval: bool


def _divide_region(voxels: MaskArray, data: HalfResolutionData) -> _Units:
    """Divide a region (x, y, z) into slices, and into cells of a grid around the brain's center.

    Small slices and cells are merged with the next one.
    """
    indices = np.nonzero(voxels)
    centers = [np.median(places) for places in np.nonzero(data.mask)]
    x, y, z = (
        np.floor((places - center) * zoom / size)
        for places, center, zoom, size in zip(indices, centers, data.zooms, _CELL_MM, strict=True)
    )
    # Cells of the same layer are neighbors in the order of labels.
    cells = ((z * _MAX_CELLS + y) * _MAX_CELLS + x).astype(np.intp)
    slices, cells = _merge_small_units(indices[2]), _merge_small_units(cells)
    count = min(len(np.unique(labels)) for labels in (slices, cells))
    n_slices = int(np.count_nonzero(data.mask.any(axis=(0, 1))))
    return _Units(
        slices=slices,
        cells=cells,
        count=count,
        has_interval=min(count, n_slices) >= MIN_UNITS,
    )


def _merge_small_units(labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Join units with few voxels with the next unit, and return the labels of the voxels (N,).

    The last unit is joined with the one before if it is small.

    >>> _merge_small_units(np.array([0] * 8 + [3] + [5] * 8)).tolist()
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    """
    _, indices, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    min_size = _MIN_UNIT_SHARE * sizes.mean() if len(sizes) else 0
    merged = np.zeros(len(sizes), dtype=np.intp)
    unit, size = 0, 0
    for index, voxels in enumerate(sizes):
        if size >= min_size and size > 0:
            unit, size = unit + 1, 0
        merged[index] = unit
        size += voxels
    if unit > 0 and size < min_size:
        merged[merged == unit] = unit - 1
    return merged[indices]


class _Product(NamedTuple):
    """Products of block effects in voxels (N, B), of different halves or within a half."""

    left: Float
    right: Float
    is_between: bool = True
    scale: float = 1.0

    def average_in_voxels(self, splits: SplitProducts) -> Float:
        """Return the product in each voxel, averaged over splits (N,)."""
        return self.scale * np.einsum("nb,nb->n", self.left @ self._select(splits), self.right)

    def average_sums(self, shorter_splits: Sequence[SplitProducts]) -> Float:
        """Return the sum over voxels for each of several splits."""
        sums = self.scale * self.left.T @ self.right
        return np.array([np.vdot(self._select(splits), sums) for splits in shorter_splits])

    def _select(self, splits: SplitProducts) -> Float:
        """Return the weights of the products (B, B)."""
        return splits.between if self.is_between else splits.within


def _compare(estimates: Float, targets: Float) -> list[_Product]:
    """Return the products whose sum over the energy of the targets is the explained variance."""
    return [
        _Product(estimates, targets, scale=2.0),
        _Product(estimates, estimates, is_between=False, scale=-1.0),
    ]


def _divide_sums(
    numerator: Sequence[_Product],
    denominator: Sequence[_Product],
    splits: BalancedSplits,
    units: _Units,
    *,
    extra_sd: float = 0.0,
) -> _Ratio:
    """Return the ratio of two sums over voxels, with a jackknife interval (Student's t).

    `extra_sd` is a standard deviation that is added in quadrature to the standard error.
    """
    numerators, denominators = (
        np.sum([product.average_in_voxels(splits.whole) for product in products], axis=0)
        for products in (numerator, denominator)
    )
    total, n = float(denominators.sum()), len(denominators)
    if not total > 0:
        return _Ratio(math.nan, math.nan, units.count)
    value = float(numerators.sum()) / total
    if not units.has_interval:
        return _Ratio(value, math.nan, units.count)
    shorter_ratios, shorter_means = [], []
    for shorter_splits in splits.shorter:
        shorter_numerators, shorter_denominators = (
            np.sum([product.average_sums(shorter_splits) for product in products], axis=0)
            for products in (numerator, denominator)
        )
        shorter_ratios.append(shorter_numerators / shorter_denominators)
        shorter_means.append(shorter_denominators / n)
    variance = _estimate_variance(denominators, np.ones(n), shorter_means, units)
    smallest = compute_quantile(units.count, ONE_SIDED) * n * math.sqrt(variance)
    if not total > smallest:
        return _Ratio(math.nan, math.nan, units.count)
    variance = _estimate_variance(numerators, denominators, shorter_ratios, units)
    half_width = compute_quantile(units.count, TWO_SIDED) * math.sqrt(variance + extra_sd**2)
    return _Ratio(value, half_width, units.count)


def _estimate_variance(
    numerators: Float, denominators: Float, shorter_ratios: Sequence[Float], units: _Units
) -> float:
    """Return the variance of a ratio of sums over voxels (N,), over space and over blocks.

    `shorter_ratios` are the ratios without one block, by condition.
    """
    over_space = max(
        _jackknife(
            *(
                values.sum() - np.bincount(labels, weights=values)
                for values in (numerators, denominators)
            )
        )
        for labels in (units.slices, units.cells)
    )
    over_blocks = sum(_jackknife(ratios, np.ones(len(ratios))) for ratios in shorter_ratios)
    return over_space + over_blocks


def _jackknife(numerators: Float, denominators: Float) -> float:
    """Return the variance from ratios without one unit (K,)."""
    n = len(numerators)
    ratios = numerators / denominators
    return float((n - 1) / n * np.square(ratios - ratios.mean()).sum())


def compute_one_sided_limits(row: MetricRow) -> tuple[float, float]:
    """Return both limits of one-sided 95 % intervals of a row with a two-sided 95 % interval.

    The row must have the number of units, `n`.
    """
    n_units = row.n or 0
    if n_units < MIN_UNITS:
        return math.nan, math.nan
    ratio = compute_quantile(n_units, ONE_SIDED) / compute_quantile(n_units, TWO_SIDED)
    half_width = ratio * (row.upper - row.value)
    return row.value - half_width, row.value + half_width


def compute_quantile(n_units: int, probability: float) -> float:
    """Return a quantile of Student's t for a standard error over units."""
    return float(stats.t.ppf(probability, n_units - 1))
