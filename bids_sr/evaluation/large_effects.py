"""Large acquired effects of a contrast: their part of the added detail, and darkness.

A few voxels with a large effect, often in veins (`bids_sr.glm.vein_signs`), contain much of the
detail that super-resolution adds. They are selected by the acquired effect, the part of the effect
below the acquired Nyquist frequency. A selection by the added detail itself would select noise.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bids_sr.engine.metric_rows import MISSING, MetricRow, metric_rows
from bids_sr.evaluation.effects_of_run import MIN_VOXELS
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.glm.block_effects import Effects
from bids_sr.glm.vein_signs import LARGE_PERCENT
from bids_sr.io.arrays import Array, Float32, MaskArray
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.spatial.nyquist import beyond_nyquist

LARGE, OTHERS = "largeEffect", "otherEffect"
"""Regions of active voxels with and without a large acquired effect."""
DARK_SHARE = "dark_share"
"""Share of dark voxels."""
DETAIL_SHARE = "detail_share"
"""Share of the energy of the added detail of active voxels."""
EFFECT_MEDIAN, EFFECT_P95 = "effect_median", "effect_p95"
"""Median and 95th percentile of the absolute effect."""


@frozen
class LargeEffects:
    """Voxels of one contrast with a large acquired effect, next to the other active voxels.

    `median` and `p95` are of the absolute effect in all active voxels (percent). `n` is the number
    of voxels with a large effect, of `n_active` active voxels. `detail_share` is their share of
    the energy of the added detail in active voxels. `dark_share` is the share of dark voxels, and
    `other_dark_share` that of the other active voxels. Values of empty regions are NaN.
    """

    median: float
    p95: float
    n: int
    n_active: int
    detail_share: float
    dark_share: float
    other_dark_share: float

    @property
    def n_dark(self) -> int:
        """Number of voxels with a large effect that are dark, probably in veins."""
        return round(self.n * self.dark_share) if self.n else 0

    def list_rows(self, series: str, contrast: str, fwhm_mm: float) -> list[MetricRow]:
        """Return the values as rows of the metrics table."""
        rows = []
        for region, values in {
            ACQUIRED_ACTIVE: {EFFECT_MEDIAN: self.median, EFFECT_P95: self.p95},
            LARGE: {
                "voxels": self.n,
                DETAIL_SHARE: self.detail_share,
                DARK_SHARE: self.dark_share,
            },
            OTHERS: {
                "voxels": self.n_active - self.n,
                DARK_SHARE: self.other_dark_share,
            },
        }.items():
            rows += metric_rows(series, values, region=region, contrast=contrast, fwhm_mm=fwhm_mm)
        return rows


def describe_large_effects(
    effect: Array,
    active: MaskArray,
    dark: MaskArray,
    factor: Factor,
    percent: float = LARGE_PERCENT,
) -> LargeEffects | None:
    """Return the large effects of a contrast; None if fewer than `MIN_VOXELS` voxels are active.

    All images are on the high-resolution grid (X, Y, Z). `effect` is the super-resolved effect in
    percent, `active` are the voxels that are active in the acquired run, and `dark` the dark
    voxels. See `select_large_effects` for `factor` and `percent`.
    """
    if np.count_nonzero(active) < MIN_VOXELS:
        return None
    is_large, detail = select_large_effects(effect, factor, percent)
    large, others = active & is_large, active & ~is_large
    energy = np.square(detail, dtype=np.float64)
    total = float(energy[active].sum())
    median, p95 = np.percentile(np.abs(effect[active]), [50, 95]).tolist()
    return LargeEffects(
        median=median,
        p95=p95,
        n=int(np.count_nonzero(large)),
        n_active=int(np.count_nonzero(active)),
        detail_share=float(energy[large].sum()) / total if total > 0 else math.nan,
        dark_share=float(dark[large].mean()) if large.any() else math.nan,
        other_dark_share=float(dark[others].mean()) if others.any() else math.nan,
    )


def select_in_run(
    effects: Effects,
    weights: Mapping[str, float],
    mean_signal: float,
    factor: Sequence[float],
    percent: float = LARGE_PERCENT,
) -> MaskArray | None:
    """Return the voxels of a run with a large acquired effect, (X, Y, Z).

    `effects` are block effects of a super-resolved series in signal units, `weights` are the
    weights of conditions in the contrast, and `mean_signal` is the mean signal of the brain. None
    is returned if the contrast cannot be estimated, or if the run has no signal. See
    `select_large_effects` for `factor` and `percent`.
    """
    block_weights = effects.run_weights(weights)
    if block_weights is None or not mean_signal > 0:
        return None
    effect = effects.effect(block_weights) * (100 / mean_signal)
    return select_large_effects(effect, factor, percent)[0]


def select_large_effects(
    effect: Array, factor: Sequence[float], percent: float = LARGE_PERCENT
) -> tuple[MaskArray, Float32]:
    """Return the voxels with a large acquired effect, and the detail above it, (X, Y, Z) each.

    `effect` is a map in percent on the high-resolution grid (X, Y, Z). `factor` is the acquired
    over high-resolution voxel size by axis. `percent` is the smallest large effect.
    """
    detail = beyond_nyquist(effect, factor)
    return np.abs(effect - detail) > percent, detail


def find_large_effects(
    rows: Sequence[MetricRow], series: str, contrast: str
) -> LargeEffects | None:
    """Return the large effects of a contrast from rows of the metrics table; None if missing.

    The rows with the smallest smoothing are used.
    """
    candidates = [
        row
        for row in rows
        if (row.series, row.contrast) == (series, contrast)
        and row.region in (ACQUIRED_ACTIVE, LARGE, OTHERS)
        and row.band == MISSING
        and row.reference == MISSING
    ]
    width = min((row.fwhm_mm for row in candidates if row.statistic == DETAIL_SHARE), default=0.0)
    values = {(row.region, row.statistic): row.value for row in candidates if row.fwhm_mm == width}
    if (LARGE, DETAIL_SHARE) not in values:
        return None
    n, n_others = (int(values[region, "voxels"]) for region in (LARGE, OTHERS))
    return LargeEffects(
        median=values[ACQUIRED_ACTIVE, EFFECT_MEDIAN],
        p95=values[ACQUIRED_ACTIVE, EFFECT_P95],
        n=n,
        n_active=n + n_others,
        detail_share=values[LARGE, DETAIL_SHARE],
        dark_share=values[LARGE, DARK_SHARE],
        other_dark_share=values[OTHERS, DARK_SHARE],
    )
