"""Detail of each contrast that is recovered at half the resolution.

The run is downsampled by the super-resolution factor and super-resolved to the acquired
resolution. The effect of each contrast is then compared with the acquired effect as a
super-resolved effect is compared with a measured effect (`bids_sr.evaluation.agreement`): the
effect in one half of the data with the acquired effect in the other half, above the Nyquist
frequency of the downsampled run. The halves are halves of the blocks of a run, or runs
(`bids_sr.combination.steps.tested_runs`).

Slices are reconstructed separately, so the standard error is a jackknife over slices. The accuracy
at the acquired resolution also differs from the accuracy at the final resolution. The standard
deviation of this difference, `_LEVEL_SD`, is added in quadrature.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import stats

from bids_sr.evaluation.effects_of_run import MIN_VOXELS
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.evaluation.reference_maps import TRUE_T
from bids_sr.frozen import frozen
from bids_sr.glm.block_effects import Effects
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.halves import split_contrasts
from bids_sr.glm.smoothing import smooth
from bids_sr.io.arrays import Float, Float32, MaskArray, Real
from bids_sr.io.grids import Factor
from bids_sr.metrics.rows import MetricRow
from bids_sr.spatial.nyquist import beyond_nyquist

HALF_RESOLUTION = "oneLevelDown"
"""Reference of values at half the resolution in the table of metrics."""
FINENESS = "detail_fineness"
"""Spectral density of the acquired detail in the upper half of the tested frequencies, relative to
the lower half.
"""
UPPER_HALF = "ev_upper_half"
"""Explained variance of the detail in the upper half of the tested frequencies."""
_LEVEL_SD = 0.05  # of explained variance, see the docstring of this module
_MIN_SLICES = 4  # smallest number of slices for an interval
# probabilities of the upper limits of one-sided and two-sided 95 % intervals
_ONE_SIDED, _TWO_SIDED = 0.95, 0.975


@frozen
class HalfEffects:
    """Effects of one contrast in two halves of the data, on the tested part of the acquired grid.

    `series` is the super-resolved series. `estimates` and `targets` are the effect in both halves
    (x, y, z): of the downsampled and super-resolved data, and of the acquired data. Noise must be
    independent between halves. `active_t` contains t maps of the downsampled data by smoothing
    (FWHM, mm); None if a map was not computed. Effects are tested at each smoothing. `mask` is the
    brain (x, y, z), and `zooms` the voxel size (mm).
    """

    series: str
    contrast: str
    estimates: Sequence[Float32]
    targets: Sequence[Float32]
    active_t: Mapping[float, Float32 | None]
    mask: MaskArray
    zooms: Sequence[float]


def iterate_tested_detail(
    reconstructed: Effects,
    acquired: Effects,
    active_t: Mapping[float, Mapping[str, Float32]],
    contrasts: Contrasts,
    factor: Factor,
) -> Iterator[MetricRow]:
    """Yield the explained variance of the detail of each contrast, with halves of blocks.

    `reconstructed` and `acquired` are block effects of the downsampled and super-resolved run, and
    of the acquired run, on the tested part of the acquired grid (x, y, z). `active_t` contains t
    maps of the downsampled run, interpolated to this grid, by smoothing (FWHM, mm) and contrast.
    `factor` is the downsampling factor of the run along each axis.

    `contrasts` contains the weights of conditions by contrast. Contrasts that cannot be split into
    halves are replaced as in `split_contrasts`, or skipped. The rows are from
    `iterate_detail_of_halves`.
    """
    for contrast, split in split_contrasts(acquired.blocks, contrasts).items():
        half_weights = acquired.halves(split.weights)
        if half_weights is None:
            continue
        estimates, targets = (
            [effects.effect(half) for half in half_weights]
            for effects in (reconstructed, acquired)
        )
        half_effects = HalfEffects(
            series=reconstructed.series,
            contrast=contrast,
            estimates=estimates,
            targets=targets,
            active_t={width: t_maps.get(split.origin) for width, t_maps in active_t.items()},
            mask=acquired.mask,
            zooms=acquired.zooms,
        )
        yield from iterate_detail_of_halves(half_effects, factor)


class _Halves(NamedTuple):
    """Effect in both halves, in one band of spatial frequencies, (x, y, z) each.

    `estimates` are from the reconstructed data and `targets` from the acquired data.
    """

    estimates: Sequence[Real]
    targets: Sequence[Real]

    def select_above(self, factor: Factor) -> "_Halves":
        """Return the effects above the Nyquist frequency of a run downsampled by `factor`."""
        estimates, targets = (
            [beyond_nyquist(effect, factor) for effect in effects] for effects in self
        )
        return _Halves(estimates, targets)


def iterate_detail_of_halves(half_effects: HalfEffects, factor: Factor) -> Iterator[MetricRow]:
    """Yield the explained variance of the detail of one contrast, in active voxels and the brain.

    `factor` is the downsampling factor along each axis. Rows are the explained variance of the
    detail (`n` is the number of slices), the same in the upper half of the tested frequencies, and
    `FINENESS` of the acquired effect, all with a 95 % interval, and the number of voxels. An
    explained variance is NaN if the acquired effect has no reproducible detail at these
    frequencies.
    """
    for width, t_map in half_effects.active_t.items():
        estimates, targets = (
            [smooth(effect, half_effects.zooms, width) if width else effect for effect in effects]
            for effects in (half_effects.estimates, half_effects.targets)
        )
        halves = _Halves(estimates, targets)
        detail = halves.select_above(factor)
        upper_detail = halves.select_above(_compute_middle_factor(factor))
        regions = {"brain": half_effects.mask}
        if t_map is not None:
            regions[ACQUIRED_ACTIVE] = half_effects.mask & (np.abs(t_map) > TRUE_T)
        for region, voxels in regions.items():
            row = MetricRow(
                series=half_effects.series,
                statistic="voxels",
                value=float(np.count_nonzero(voxels)),
                reference=HALF_RESOLUTION,
                contrast=half_effects.contrast,
                region=region,
                fwhm_mm=width,
            )
            yield from _iterate_region_rows(row, detail, upper_detail, voxels, factor)


class _Ratio(NamedTuple):
    """Ratio of two sums over slices, with the half-width of its 95 % interval.

    Both are NaN if the denominator is not found to be above 0; the half-width is NaN if there are
    too few slices.
    """

    value: float
    half_width: float


def _iterate_region_rows(
    row: MetricRow, detail: _Halves, upper_detail: _Halves, voxels: MaskArray, factor: Factor
) -> Iterator[MetricRow]:
    """Yield explained variances and fineness in a region, and `row` with the number of voxels.

    `detail` has all tested frequencies, `upper_detail` their upper half.
    """
    if np.count_nonzero(voxels) >= MIN_VOXELS:
        upper_share = _compute_frequency_share(_compute_middle_factor(factor))
        ratios = {
            "ev": _compute_explained_variance(detail, voxels, extra_sd=_LEVEL_SD),
            UPPER_HALF: _compute_explained_variance(upper_detail, voxels),
            FINENESS: _compute_density_ratio(
                detail.targets,
                upper_detail.targets,
                voxels,
                white_ratio=upper_share / (_compute_frequency_share(factor) - upper_share),
            ),
        }
    else:
        ratios = dict.fromkeys(("ev", UPPER_HALF, FINENESS), _Ratio(math.nan, math.nan))
    for statistic, ratio in ratios.items():
        yield replace(
            row,
            statistic=statistic,
            band="beyond",
            value=ratio.value,
            lower=ratio.value - ratio.half_width,
            upper=ratio.value + ratio.half_width,
            n=int(np.count_nonzero(voxels.any(axis=(0, 1)))),
        )
    yield row


def _compute_frequency_share(factor: Factor) -> float:
    """Return the fraction of spatial frequencies that are above the Nyquist limit of a factor."""
    return 1 - 1 / math.prod(factor)


def _compute_middle_factor(factor: Factor) -> Factor:
    """Return the factor whose Nyquist frequency is in the middle of the tested frequencies."""
    x, y, z = (2 * axis_factor / (axis_factor + 1) for axis_factor in factor)
    return x, y, z


def _compute_explained_variance(
    halves: _Halves, voxels: MaskArray, *, extra_sd: float = 0.0
) -> _Ratio:
    """Return the explained variance of an effect in a region (x, y, z).

    `extra_sd` is added in quadrature to the standard error over slices.
    """
    first_estimate, second_estimate = (_center(image, voxels) for image in halves.estimates)
    first_target, second_target = (_center(image, voxels) for image in halves.targets)
    shared = first_estimate * second_target + second_estimate * first_target
    explained = shared - (first_estimate**2 + second_estimate**2) / 2
    return _divide_sums(
        _sum_over_slices(explained, voxels),
        _sum_over_slices(first_target * second_target, voxels),
        extra_sd=extra_sd,
    )


def _compute_density_ratio(
    targets: Sequence[Real],
    upper_targets: Sequence[Real],
    voxels: MaskArray,
    *,
    white_ratio: float,
) -> _Ratio:
    """Return the ratio of spectral densities of reproducible detail, upper to lower half.

    `targets` and `upper_targets` are the detail of the acquired effect in both halves of the
    blocks (x, y, z), at all tested frequencies and in their upper half. `voxels` is the region (x,
    y, z). `white_ratio` is the ratio of the energies of white noise in the upper and the lower
    half.
    """
    lower_targets = [target - upper for target, upper in zip(targets, upper_targets, strict=True)]
    energies, lower_energies = (
        _sum_over_slices(_center(first, voxels) * _center(second, voxels), voxels)
        for first, second in (upper_targets, lower_targets)
    )
    return _divide_sums(energies / white_ratio, lower_energies)


def _sum_over_slices(image: Float, voxels: MaskArray) -> Float:
    """Return the sum of an image (x, y, z) in each slice of a region (n_slices,)."""
    sums: Float = image.sum(axis=(0, 1))[voxels.any(axis=(0, 1))]
    return sums


def _center(image: Real, voxels: MaskArray) -> Float:
    """Subtract the mean over the voxels of a region; other voxels are set to 0."""
    return np.where(voxels, image - image[voxels].mean(dtype=np.float64), 0).astype(np.float64)


def _divide_sums(numerators: Float, denominators: Float, *, extra_sd: float = 0.0) -> _Ratio:
    """Return the ratio of two sums over slices, with a jackknife interval (Student's t).

    `numerators` and `denominators` are the terms of the sums (n_slices,). `extra_sd` is a standard
    deviation that is added in quadrature to the standard error.
    """
    n_slices, denominator = len(denominators), float(denominators.sum())
    has_interval = n_slices >= _MIN_SLICES
    smallest = (
        _compute_quantile(n_slices, _ONE_SIDED) * denominators.std(ddof=1) * n_slices**0.5
        if has_interval
        else 0.0
    )
    if not denominator > smallest:
        return _Ratio(math.nan, math.nan)
    value = float(numerators.sum()) / denominator
    if not has_interval:
        return _Ratio(value, math.nan)
    leave_one_out = (numerators.sum() - numerators) / (denominator - denominators)
    deviations = leave_one_out - leave_one_out.mean()
    variance = (n_slices - 1) / n_slices * float(np.square(deviations).sum())
    return _Ratio(
        value, _compute_quantile(n_slices, _TWO_SIDED) * math.sqrt(variance + extra_sd**2)
    )


def compute_one_sided_limits(row: MetricRow) -> tuple[float, float]:
    """Return both limits of one-sided 95 % intervals of a row with a two-sided 95 % interval.

    The row must have the number of slices, `n`.
    """
    n_slices = row.n or 0
    if n_slices < _MIN_SLICES:
        return math.nan, math.nan
    ratio = _compute_quantile(n_slices, _ONE_SIDED) / _compute_quantile(n_slices, _TWO_SIDED)
    half_width = ratio * (row.upper - row.value)
    return row.value - half_width, row.value + half_width


def _compute_quantile(n_slices: int, probability: float) -> float:
    """Return a quantile of Student's t for a standard error over slices."""
    return float(stats.t.ppf(probability, n_slices - 1))
