"""Detail of each contrast that is recovered at half the resolution.

The run is downsampled by the super-resolution factor and super-resolved to the acquired
resolution. The effect of each contrast is then compared with the acquired effect as a
super-resolved effect is compared with a measured effect (`bids_sr.evaluation.agreement`): the
effect in one half of the blocks with the acquired effect in the other half, above the Nyquist
frequency of the downsampled run.

Slices are reconstructed separately, so the standard error is a jackknife over slices. The accuracy
at the acquired resolution also differs from the accuracy at the final resolution. The standard
deviation of this difference, `_LEVEL_SD`, is added in quadrature.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from bids_sr.evaluation.effects_of_run import MIN_VOXELS
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.evaluation.reference_maps import TRUE_T
from bids_sr.frozen import frozen
from bids_sr.glm.block_effects import Effects
from bids_sr.glm.contrasts import Contrasts
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


def iterate_tested_detail(
    reconstructed: Effects,
    acquired: Effects,
    active_t: Mapping[float, Mapping[str, Float32]],
    contrasts: Contrasts,
    factor: Factor,
) -> Iterator[MetricRow]:
    """Yield the explained variance of the detail of each contrast, in active voxels and the brain.

    Parameters
    ----------
    reconstructed, acquired : Effects
        Block effects of the downsampled and super-resolved run, and of the acquired run, on the
        tested part of the acquired grid (x, y, z).
    active_t : Mapping[float, Mapping[str, Float32]]
        t maps of the downsampled run, interpolated to this grid, by smoothing (FWHM, mm) and
        contrast.
    contrasts : Contrasts
        Weights of conditions by contrast. Contrasts that cannot be split into halves are skipped.
    factor : Factor
        Downsampling factor of the run along each axis.

    Yields
    ------
    MetricRow
        Explained variance of the detail (`n` is the number of slices), the same in the upper half
        of the tested frequencies, and `FINENESS` of the acquired effect, all with a 95 % interval,
        and the number of voxels. An explained variance is NaN if the acquired effect has no
        reproducible detail at these frequencies.
    """
    for contrast, weights in contrasts.items():
        halves = acquired.halves(weights)
        if halves is None:
            continue
        for width, t_maps in active_t.items():
            estimates, targets = (
                [_compute_effect(effects, half, width) for half in halves]
                for effects in (reconstructed, acquired)
            )
            details = _split_details(estimates, targets, factor)
            regions = {"brain": acquired.mask}
            if contrast in t_maps:
                regions[ACQUIRED_ACTIVE] = acquired.mask & (np.abs(t_maps[contrast]) > TRUE_T)
            for region, voxels in regions.items():
                row = MetricRow(
                    series=reconstructed.series,
                    statistic="voxels",
                    value=float(np.count_nonzero(voxels)),
                    reference=HALF_RESOLUTION,
                    contrast=contrast,
                    region=region,
                    fwhm_mm=width,
                )
                yield from _iterate_region_rows(row, details, voxels, factor)


@frozen
class _Details:
    """Detail of an effect in both halves of the blocks, (x, y, z) each.

    `estimates` are from the reconstructed run and `targets` from the acquired run, at all tested
    frequencies. `upper_estimates` and `upper_targets` are limited to the upper half of these
    frequencies.
    """

    estimates: Sequence[Real]
    targets: Sequence[Real]
    upper_estimates: Sequence[Real]
    upper_targets: Sequence[Real]


def _split_details(estimates: Sequence[Real], targets: Sequence[Real], factor: Factor) -> _Details:
    """Return the detail of effects (x, y, z) in both halves of the blocks."""
    upper_factor = _compute_middle_factor(factor)
    return _Details(
        estimates=[beyond_nyquist(effect, factor) for effect in estimates],
        targets=[beyond_nyquist(effect, factor) for effect in targets],
        upper_estimates=[beyond_nyquist(effect, upper_factor) for effect in estimates],
        upper_targets=[beyond_nyquist(effect, upper_factor) for effect in targets],
    )


def _iterate_region_rows(
    row: MetricRow, details: _Details, voxels: MaskArray, factor: Factor
) -> Iterator[MetricRow]:
    """Yield explained variances and fineness in a region, and `row` with the number of voxels."""
    n_slices = int(np.count_nonzero(voxels.any(axis=(0, 1))))
    value, half_width = _compute_explained_variance(
        details.estimates, details.targets, voxels, extra_sd=_LEVEL_SD
    )
    upper_value, upper_half_width = _compute_explained_variance(
        details.upper_estimates, details.upper_targets, voxels
    )
    for statistic, statistic_value, width in (
        ("ev", value, half_width),
        (UPPER_HALF, upper_value, upper_half_width),
    ):
        yield replace(
            row,
            statistic=statistic,
            band="beyond",
            value=statistic_value,
            lower=statistic_value - width,
            upper=statistic_value + width,
            n=n_slices,
        )
    upper_share = _compute_frequency_share(_compute_middle_factor(factor))
    white_ratio = upper_share / (_compute_frequency_share(factor) - upper_share)  # of white noise
    ratio, half_width = _compute_energy_ratio(details.targets, details.upper_targets, voxels)
    yield replace(
        row,
        statistic=FINENESS,
        band="beyond",
        value=ratio / white_ratio,
        lower=(ratio - half_width) / white_ratio,
        upper=(ratio + half_width) / white_ratio,
    )
    yield row


def _compute_middle_factor(factor: Factor) -> Factor:
    """Return the factor whose Nyquist frequency is in the middle of the tested frequencies."""
    x, y, z = (2 * axis_factor / (axis_factor + 1) for axis_factor in factor)
    return x, y, z


def _compute_frequency_share(factor: Factor) -> float:
    """Return the fraction of spatial frequencies that are above the Nyquist limit of a factor."""
    return 1 - 1 / math.prod(factor)


def _compute_energy_ratio(
    details: Sequence[Real], upper_details: Sequence[Real], voxels: MaskArray
) -> tuple[float, float]:
    """Return the ratio of energies of reproducible detail in the upper and the lower half.

    The second value is the half-width of its 95 % interval. Both are NaN if there are too few
    voxels or if one of the energies is not above 0; the half-width is NaN if there are too few
    slices.

    Parameters
    ----------
    details, upper_details : Sequence[Real]
        Detail of the acquired effect in both halves of the blocks (x, y, z), at all tested
        frequencies and in their upper half.
    voxels : MaskArray
        Region (x, y, z).
    """
    if np.count_nonzero(voxels) < MIN_VOXELS:
        return math.nan, math.nan
    lower_details = [detail - upper for detail, upper in zip(details, upper_details, strict=True)]
    in_region = voxels.any(axis=(0, 1))
    upper, lower = (
        (_center(first, voxels) * _center(second, voxels)).sum(axis=(0, 1))[in_region]
        for first, second in (upper_details, lower_details)
    )
    if not min(upper.sum(), lower.sum()) > 0:
        return math.nan, math.nan
    half_width = _compute_quantile(len(upper)) * math.sqrt(_compute_ratio_variance(upper, lower))
    return float(upper.sum() / lower.sum()), half_width


def _center(image: Real, voxels: MaskArray) -> Float:
    """Subtract the mean over the voxels of a region; other voxels are set to 0."""
    return np.where(voxels, image - image[voxels].mean(dtype=np.float64), 0).astype(np.float64)


def _compute_ratio_variance(numerators: Float, denominators: Float) -> float:
    """Return the jackknife variance of a ratio of two sums over slices; NaN if there are too few.

    Parameters
    ----------
    numerators, denominators : Float
        Terms of the sums, one per slice.
    """
    n_slices = len(numerators)
    if n_slices < _MIN_SLICES:
        return math.nan
    leave_one_out = (numerators.sum() - numerators) / (denominators.sum() - denominators)
    return (n_slices - 1) / n_slices * float(np.square(leave_one_out - leave_one_out.mean()).sum())


def _compute_quantile(n_slices: int) -> float:
    """Return the half-width of a 95 % interval in standard errors, from Student's t.

    NaN is returned if there are too few slices for a standard error.
    """
    return float(stats.t.ppf(0.975, n_slices - 1)) if n_slices >= _MIN_SLICES else math.nan


def _compute_effect(effects: Effects, weights: Float, width: float) -> Float32:
    """Return a sum of block effects (x, y, z), smoothed with a kernel of `width` (FWHM, mm)."""
    effect = effects.effect(weights)
    return smooth(effect, effects.zooms, width) if width else effect


def _compute_explained_variance(
    estimates: Sequence[Real],
    targets: Sequence[Real],
    voxels: MaskArray,
    *,
    extra_sd: float = 0.0,
) -> tuple[float, float]:
    """Return the explained variance of the detail, and the half-width of its 95 % interval.

    Both are NaN if there are too few voxels, or if the detail of the two targets is not
    reproducible; the half-width is NaN if there are too few slices.

    Parameters
    ----------
    estimates, targets : Sequence[Real]
        Detail of the reconstructed and of the acquired effect (x, y, z) in both halves of the
        blocks.
    voxels : MaskArray
        Region (x, y, z).
    extra_sd : float, optional
        Standard deviation that is added in quadrature to the standard error over slices.
    """
    if np.count_nonzero(voxels) < MIN_VOXELS:
        return math.nan, math.nan
    first_estimate, second_estimate = (_center(image, voxels) for image in estimates)
    first_target, second_target = (_center(image, voxels) for image in targets)
    shared = first_estimate * second_target + second_estimate * first_target
    explained = shared - (first_estimate**2 + second_estimate**2) / 2
    in_region = voxels.any(axis=(0, 1))
    explained_by_slice = explained.sum(axis=(0, 1))[in_region]
    energy_by_slice = (first_target * second_target).sum(axis=(0, 1))[in_region]
    n_slices = len(energy_by_slice)
    energy = float(energy_by_slice.sum())
    quantile = _compute_quantile(n_slices)
    sd = float(energy_by_slice.std(ddof=1)) if n_slices > 1 else 0.0
    if not energy > (0.0 if math.isnan(quantile) else quantile * sd * n_slices**0.5):
        return math.nan, math.nan
    variance = _compute_ratio_variance(explained_by_slice, energy_by_slice)
    half_width = quantile * math.sqrt(variance + extra_sd**2)
    return float(explained_by_slice.sum()) / energy, half_width
