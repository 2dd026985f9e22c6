"""Comparison of the activation in a series with the activation in the acquired run.

A super-resolved series is computed from the acquired series, so that its effect map, downsampled
to the acquired grid, must contain the acquired activation. No reference is required. Only voxels
that are active in the acquired run, |t| > 4, are compared.

Both maps share the noise of the run. In active voxels, the acquired effect a = s + e consists of
the signal s and noise e, whose energy is at most 1/16 of the energy of a. If a method keeps a
fraction g of the signal and a fraction h of the noise, the slope of its effect on the acquired
effect is λ g + (1 - λ) h, with the reliability λ = 1 - Σ variance / Σ a². A method that keeps the
signal has a slope of at least λ and a correlation of at least √λ, however much noise it removes.
Limits are fractions of these values: activation is lost if less than half of its amplitude is
left, or if less than half of the energy of the map is acquired activation, at every smoothing. At
the largest smoothing, series of different resolution have similar maps, and without smoothing, the
shape of a sampled kernel has no influence.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bids_sr.engine.metric_rows import MetricRow, metric_rows
from bids_sr.engine.number_text import number
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.evaluation.reference_maps import TRUE_T
from bids_sr.evaluation.sentences import Sentence
from bids_sr.evaluation.statements import Statement
from bids_sr.io.arrays import MaskArray, Real
from bids_sr.io.frozen import frozen

_MIN_SLOPE, _MIN_R = 0.5, 0.5**0.5
"""Limits of slope and correlation as fractions of the values of a method that keeps the signal."""
_MIN_VOXELS = 5
_MIN_EXCESS = 10  # ratio of active voxels to the number that noise alone would make active
_NOISE_SHARE = math.erfc(TRUE_T / math.sqrt(2))  # share of noise voxels with |t| > 4
SLOPE, CORRELATION, FLAG = "acquired_slope", "acquired_r", "flag_lost_activation"
"""Statistics of the comparison in the table of the evaluation."""


@frozen
class KeptActivation:
    """Effect of a series relative to the acquired effect, in active voxels on the acquired grid.

    `slope` is the slope of the effect on the acquired effect, through the origin, and `r` the
    correlation of both effects about zero; 0 if the effect is zero. `reliability` is the share of
    the energy of the acquired effect that is not noise, 0 to 1. `voxels` is the number of active
    voxels.
    """

    slope: float
    r: float
    reliability: float
    voxels: int

    @property
    def is_lost(self) -> bool:
        """Whether less than half of the amplitude, or of the energy of the map, is kept."""
        return (
            self.slope < _MIN_SLOPE * self.reliability or self.r < _MIN_R * self.reliability**0.5
        )


KeptByWidth = Mapping[float, KeptActivation]
"""Comparison of one contrast by smoothing (FWHM, mm)."""


def find_clearest(by_width: KeptByWidth) -> KeptActivation:
    """Return the comparison at the smoothing with the largest slope, if possible not lost."""
    return max(by_width.values(), key=lambda result: (not result.is_lost, result.slope))


@frozen
class LostActivation:
    """Slope and correlation of a series that lost the activation of the acquired run.

    They are of the contrast with the smallest slope, at its best smoothing.
    """

    contrast: str
    slope: float
    r: float


def write_lost_activation(series: str, lost: LostActivation) -> Sentence:
    """Return a sentence on a series that lost the activation of the acquired run."""
    values = {
        "series": series,
        "kept": kept_text(lost.slope, lost.r),
        "contrast": lost.contrast,
    }
    return Sentence(Statement.LOST, values, series=series)


def kept_text(slope: float, r: float) -> str:
    """Return slope and correlation in words."""
    return (
        f"{number(slope, '.0%')} of the acquired amplitude and a correlation of"
        f" {number(r, '.2f')} with the acquired effect"
    )


def kept_rows(series: str, by_contrast: Mapping[str, KeptByWidth]) -> list[MetricRow]:
    """Return slope and correlation of a series as rows of the evaluation."""
    return [
        row
        for contrast, by_width in by_contrast.items()
        for fwhm_mm, activation in by_width.items()
        for row in metric_rows(
            series,
            {SLOPE: activation.slope, CORRELATION: activation.r},
            region=ACQUIRED_ACTIVE,
            contrast=contrast,
            fwhm_mm=fwhm_mm,
            n=activation.voxels,
        )
    ]


def find_lost_activation(
    rows: Sequence[MetricRow], series: Sequence[str]
) -> dict[str, LostActivation]:
    """Return the series that lost the activation of the acquired run.

    `rows` are rows of the evaluation, including flags.
    """
    flagged_series = {row.series for row in rows if row.statistic == FLAG and row.value > 0}
    return {name: _find_worst_contrast(rows, name) for name in series if name in flagged_series}


def _find_worst_contrast(rows: Sequence[MetricRow], series: str) -> LostActivation:
    """Return the contrast with the smallest slope, at its best smoothing."""
    best_slopes: dict[str, MetricRow] = {}  # largest slope over the smoothing widths, by contrast
    correlations: dict[tuple[str, float], float] = {}
    for row in rows:
        if row.series != series:
            continue
        if row.statistic == CORRELATION:
            correlations.setdefault((row.contrast, row.fwhm_mm), row.value)
        best_slope = best_slopes.get(row.contrast)
        if row.statistic == SLOPE and not (best_slope and best_slope.value >= row.value):
            best_slopes[row.contrast] = row
    worst = min(best_slopes.values(), key=lambda row: row.value)
    return LostActivation(
        contrast=worst.contrast,
        slope=worst.value,
        r=correlations[worst.contrast, worst.fwhm_mm],
    )


def active_voxels(t: Real, mask: MaskArray) -> MaskArray | None:
    """Return the voxels that are active in the acquired run; None if they may be noise.

    `t` is the t map of the acquired series (X, Y, Z), and `mask` the brain on the same grid.
    """
    active: MaskArray = mask & (np.abs(t) > TRUE_T)
    n_active = int(active.sum())
    n_expected = _NOISE_SHARE * int(mask.sum())
    return active if n_active >= max(_MIN_VOXELS, _MIN_EXCESS * n_expected) else None


def compare_with_acquired(
    effect: Real, acquired: Real, variance: Real, active: MaskArray
) -> KeptActivation:
    """Compare the effect of a series with the acquired effect.

    `effect` is the effect of the series, downsampled to the acquired grid. `acquired` and
    `variance` are the effect of the acquired series and its noise variance. All images are (X, Y,
    Z). `active` selects the active voxels of the acquired run, at least one.
    """
    acquired_effect, series_effect = (
        image[active].astype(np.float64) for image in (acquired, effect)
    )
    energy = float(acquired_effect @ acquired_effect)
    shared_energy = float(acquired_effect @ series_effect)
    norm_product = math.sqrt(energy * float(series_effect @ series_effect))
    noise_share = float(variance[active].sum(dtype=np.float64)) / energy
    return KeptActivation(
        slope=shared_energy / energy,
        r=shared_energy / norm_product if norm_product else 0.0,
        reliability=min(max(1 - noise_share, 0.0), 1.0),
        voxels=len(acquired_effect),
    )
