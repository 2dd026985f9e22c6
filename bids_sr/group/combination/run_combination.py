"""Combination of effects and errors over the runs of a participant (fixed effects).

The noise of the runs is independent and averages out. The reconstruction error of a method is
proportional to the effect, which is the same in all runs, so most of it repeats: it does not
average out in a mean, and cancels in a difference. With weights ``w`` and correlations ``rho`` of
the reconstruction error between runs, the variance of the combined effect is

    sum(w**2 * (noise + place + (1 - rho) * sd**2))
    + rho * (P**2 + N**2) - 2 * rho_opposite * P * N

where ``P`` and ``N`` are the sums of ``|w| * sd`` over positive and over negative weights. For the
mean of equal runs this is ``(noise + (1 - rho) * sd**2) / n + rho * sd**2``. ``rho`` is a large
measured correlation, and ``rho_opposite`` the smallest, because they enter with opposite signs.
``sd`` is multiplied by `widen_error`, because each run's ``sd`` is itself an estimate. ``place``
is the variance from the error of the registration, which counts in differences.
"""

from collections.abc import Sequence
from itertools import compress

import numpy as np
from scipy import special

from bids_sr.glm.linear_model import compute_t, t_to_z
from bids_sr.group.combination.run_agreement import ACTIVE_T
from bids_sr.io.arrays import Array, Float, MaskArray
from bids_sr.io.frozen import frozen
from bids_sr.io.safe_width import SAFE_VOXELS

SHARED_UNSMOOTHED, SHARED_SMOOTHED = 0.75, 0.80
"""Correlation of the reconstruction error between runs, in active voxels, without smoothing and
smoothed by `SAFE_VOXELS`.
"""
OPPOSITE_ACTIVE, OPPOSITE_SMOOTHED, OPPOSITE_INACTIVE = 0.67, 0.73, 0.35
"""Smallest correlation of the reconstruction error between two runs, in active voxels without
smoothing and smoothed by `SAFE_VOXELS`, and in the brain. It is used for runs whose weights have
opposite signs.
"""
LEAST_RUNS_OF_SPREAD = 3
"""Smallest number of runs for an estimate of the spread between runs."""
# Degrees of freedom of the SD of the reconstruction error in one unsmoothed run. An interval of
# 1.96 SD then covers .93, as measured in single runs in voxels that are active in the measured
# maps.
_ERROR_DOF = 14


@frozen
class RunEstimate:
    """Effect of one contrast in one run, with its errors.

    Maps have any shape; all runs have the same shape and unit. `variance` is the variance of the
    effect due to noise in the run, with `dof` degrees of freedom. Voxels without a positive
    variance, such as voxels outside the brain, have no estimate. `sd` is the standard deviation of
    the reconstruction error; None if unknown. `place_sd` is the standard deviation due to the
    error of the registration to the other runs; None if it does not count.
    """

    effect: Array
    variance: Array
    dof: float
    sd: Array | None = None
    place_sd: Array | None = None


@frozen
class CombinedEstimate:
    """Combined effect of several runs.

    All maps are 0 in voxels without an estimate in every run; `mask` contains the other voxels.
    `effect` is the weighted sum of the effects, and `variance` its variance due to noise, without
    the reconstruction error. `place_variance` is its variance due to the error of the
    registration. `sd` is the standard deviation of the reconstruction error of the combined
    effect; None if the error is unknown in any run. `dof` is the sum of the runs' degrees of
    freedom, as in nilearn. `t` is the effect over the square root of the variance, which in a
    difference is the total variance, and `z` the z value with the same tail probability.

    `between_variance` is the variance of the combined effect as an estimate of the mean over many
    runs of the participant. It is estimated from the spread of the effects between runs, with one
    degree of freedom fewer than the number of runs, and contains noise and the part of the
    reconstruction error that differs between runs. It is None for fewer than three runs, and
    unless the weights sum to 1 and none is negative. `shared_sd` is the part of `sd` that repeats
    in all runs and is not contained in `between_variance`; None if `sd` is None.
    """

    mask: MaskArray
    effect: Float
    variance: Float
    place_variance: Float
    sd: Float | None
    dof: float
    t: Float
    z: Float
    between_variance: Float | None
    shared_sd: Float | None

    @property
    def total_variance(self) -> Float:
        """Variance due to noise, place and, if known, the reconstruction error."""
        known = self.variance + self.place_variance
        return known if self.sd is None else known + np.square(self.sd)

    @property
    def person_sd(self) -> Float | None:
        """Standard deviation of the effect as an estimate for the participant.

        It contains the spread between runs and the repeated part of the reconstruction error. The
        repeated part is omitted if the error of a run is unknown. None for fewer than three runs.
        """
        if self.between_variance is None:
            return None
        shared = 0.0 if self.shared_sd is None else np.square(self.shared_sd)
        return np.asarray(np.sqrt(self.between_variance + shared))


def correlate_error(fwhm_voxels: float, *, calibrated: bool, n_runs: int) -> float:
    """Return the correlation of the reconstruction error between runs of one participant.

    The correlation was measured without a calibration run and for smoothing up to `SAFE_VOXELS`.
    Otherwise, the error is assumed to be identical in all runs, which is the most conservative
    assumption. It is also assumed for two runs, because the correlation differs between pairs of
    runs, and the mean over many pairs does not hold for a single pair.

    `fwhm_voxels` is the smoothing of the maps (FWHM) in acquired in-plane voxels. `calibrated`
    states whether any run was super-resolved with a high-resolution calibration run. The
    correlation is from 0 to 1.

    >>> [correlate_error(fwhm, calibrated=False, n_runs=3) for fwhm in (0, 5 / 6, 1)]
    [0.75, 0.8, 1.0]
    >>> correlate_error(0, calibrated=True, n_runs=3)
    1.0
    >>> correlate_error(0, calibrated=False, n_runs=2)
    1.0
    """
    if calibrated or _is_wider(fwhm_voxels) or n_runs < LEAST_RUNS_OF_SPREAD:
        return 1.0
    share = fwhm_voxels / SAFE_VOXELS
    return SHARED_UNSMOOTHED + share * (SHARED_SMOOTHED - SHARED_UNSMOOTHED)


def correlate_opposite(
    fwhm_voxels: float, runs: Sequence[RunEstimate], *, calibrated: bool, same_condition: bool
) -> float | Float:
    """Return the smallest correlation of the reconstruction error between runs, or a map of it.

    It was measured for two runs of one condition, in active voxels and in the brain. Otherwise, no
    error is assumed to be shared. Active voxels have |t| > 4 in the mean of the `runs`. For
    `fwhm_voxels` and `calibrated`, see `correlate_error`.
    """
    if calibrated or _is_wider(fwhm_voxels) or not same_condition:
        return 0.0
    mean = combine_estimates(runs, shared=1.0)
    active = np.interp(fwhm_voxels, (0, SAFE_VOXELS), (OPPOSITE_ACTIVE, OPPOSITE_SMOOTHED))
    return np.where(np.abs(mean.t) > ACTIVE_T, active, OPPOSITE_INACTIVE)


def widen_error(fwhm_voxels: float, *, n_runs: int) -> float:
    """Return the factor of the SD of the reconstruction error of several runs.

    The SD is estimated from the local effect of each run. The factor makes an interval of 1.96 SD
    as wide as an interval from Student's t distribution, whose degrees of freedom grow with the
    number of runs. Smoothing averages the local estimates; at `SAFE_VOXELS`, intervals of single
    runs need no factor.

    `fwhm_voxels` is the smoothing of the maps (FWHM) in acquired in-plane voxels. The
    factor is at least 1, and 1 for a single run, whose maps are unchanged.

    >>> [round(widen_error(0, n_runs=n_runs), 3) for n_runs in (1, 2, 4)]
    [1.0, 1.045, 1.022]
    >>> widen_error(5 / 6, n_runs=2)
    1.0
    """
    if n_runs < 2:
        return 1.0
    t_quantile, normal_quantile = special.stdtrit(_ERROR_DOF * n_runs, 0.975), special.ndtri(0.975)
    unsmoothed_share = max(0.0, 1 - fwhm_voxels / SAFE_VOXELS)
    return 1 + unsmoothed_share * (float(t_quantile / normal_quantile) - 1)


def _is_wider(fwhm_voxels: float) -> bool:
    """Return whether smoothing is wider than measured, beyond rounding of voxel sizes."""
    return fwhm_voxels > 1.01 * SAFE_VOXELS


def weigh_runs(runs: Sequence[RunEstimate]) -> list[float]:
    """Return one inverse-variance weight per run, from its mean variance over the voxels.

    Variances are due to noise, and are averaged over voxels with an estimate in every run. Weights
    sum to 1.
    """
    mask = _common_mask(runs)
    if not mask.any():
        return [1 / len(runs)] * len(runs)
    precisions = [1 / float(run.variance[mask].mean(dtype=np.float64)) for run in runs]
    return [precision / sum(precisions) for precision in precisions]


def combine_estimates(
    runs: Sequence[RunEstimate],
    weights: Sequence[float] | None = None,
    *,
    shared: float,
    opposite: float | Array = 0.0,
    widening: float = 1.0,
) -> CombinedEstimate:
    """Combine runs of one participant as fixed effects.

    Maps of the runs, at least one, are on one grid. `weights` are the weights of the effects in
    their sum, and None is the mean. Runs with a weight of 0 are left out. `shared` is the
    correlation of the reconstruction error between runs, from 0 to 1 (see `correlate_error`),
    `opposite` the correlation between runs whose weights have opposite signs (see
    `correlate_opposite`), and `widening` a factor of the standard deviation of the reconstruction
    error (see `widen_error`).
    """
    if weights is None:
        weights = [1 / len(runs)] * len(runs)
    # runs without weight contribute nothing, in particular no degrees of freedom
    runs, shares = list(compress(runs, weights)), np.array([*filter(None, weights)])
    mask = _common_mask(runs)
    effect = _sum_weighted([run.effect for run in runs], shares, mask, power=1)
    variance = _sum_weighted([run.variance for run in runs], shares, mask, power=2)
    dof = float(sum(run.dof for run in runs))
    is_difference = bool((shares < 0).any())
    is_mean = not is_difference and np.isclose(shares.sum(), 1)
    places = [
        0 * run.variance if run.place_sd is None else np.square(run.place_sd) for run in runs
    ]
    place_variance = _sum_weighted(places, shares, mask, power=2)
    sds = [run.sd for run in runs if run.sd is not None]
    sd = shared_sd = None
    if len(sds) == len(runs):
        positive, negative = (
            widening * _sum_weighted(sds, np.maximum(sign * shares, 0), mask, power=1)
            for sign in (1, -1)
        )
        shared_variance = shared * (np.square(positive) + np.square(negative))
        shared_variance = shared_variance - 2 * opposite * positive * negative
        error_variances = [np.square(widening * run_sd) for run_sd in sds]
        independent_variance = (1 - shared) * _sum_weighted(error_variances, shares, mask, power=2)
        shared_sd = np.sqrt(np.maximum(shared_variance, 0))
        sd = np.sqrt(np.maximum(independent_variance + shared_variance, 0))
    between_variance = None
    if len(runs) >= LEAST_RUNS_OF_SPREAD and is_mean:
        between_variance = _estimate_between_variance(runs, shares, effect, mask)
    total = variance
    if is_difference:
        # what differs between runs besides their effect is not evidence for a difference
        total = variance + place_variance + (0 if sd is None else np.square(sd))
    t = compute_t(effect, total)
    return CombinedEstimate(
        mask=mask,
        effect=effect,
        variance=variance,
        place_variance=place_variance,
        sd=sd,
        dof=dof,
        t=t,
        z=t_to_z(t, dof),
        between_variance=between_variance,
        shared_sd=shared_sd,
    )


def _common_mask(runs: Sequence[RunEstimate]) -> MaskArray:
    """Return the voxels with an estimate in every run."""
    return np.logical_and.reduce([run.variance > 0 for run in runs])


def _sum_weighted(maps: Sequence[Array], shares: Float, mask: MaskArray, *, power: int) -> Float:
    """Sum maps over runs with a power of the weights (R,); the sum is 0 outside the mask."""
    total = np.zeros(mask.shape)
    for share, values in zip(shares, maps, strict=True):
        total += np.where(mask, share**power * values, 0)
    return total


def _estimate_between_variance(
    runs: Sequence[RunEstimate], shares: Float, effect: Float, mask: MaskArray
) -> Float:
    """Estimate the variance of the weighted mean from the spread of effects between runs."""
    squares = [np.square(run.effect - effect) for run in runs]
    spread = _sum_weighted(squares, shares, mask, power=1)
    concentration = sum(np.square(shares))  # 1/n for equal weights
    # if one run has all the weight, the spread cannot be estimated
    bias_correction = np.where(concentration < 1, 1 - concentration, 1)
    return np.asarray(spread / bias_correction * concentration)
