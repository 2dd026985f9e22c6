"""Rule for contrasts whose added detail is supported by a run without a reference.

The detail of a contrast is *recovered* if the test at half the resolution
(`bids_sr.evaluation.tested_detail`) is precise, its interval is above 0, and the acquired effect
was not found to be smooth. It is smooth if the spectral density of its detail falls by more than
half toward the highest acquired frequencies (one-sided test at .05). The detail is *not supported*
if the interval contains 0 or is below 0, or if the effect is smooth, and *not testable* if the
test is not possible or not precise. The limits were set before the rule was applied to any data,
with one exception: fineness was added after simulated foci of 8 and 12 mm had passed the rule in
one participant, whose fluctuations are finer, although their added detail was wrong
(``benchmarks/results/tested_worlds.md``). It was compared without its error until a measured run
with 85 active voxels was rejected.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.evaluation.tested_detail import FINENESS, HALF_RESOLUTION
from bids_sr.frozen import frozen
from bids_sr.metrics.number_text import number
from bids_sr.metrics.rows import MetricRow

COVERAGE = "coverage_one_level_down"
MIN_COVERAGE = 0.9
"""Lowest coverage of 95 % intervals at half the resolution that permits supported detail."""
MIN_ACTIVE_VOXELS = 50
"""Smallest number of active voxels at half the resolution."""
MAX_HALF_WIDTH = 0.3
"""Largest half-width of the interval of the explained variance."""
MIN_FINENESS = 0.5
"""Smallest spectral density of the detail in the upper half of the tested frequencies, relative to
the lower half.
"""
_Z_ONE_SIDED, _Z_TWO_SIDED = 1.645, 1.96  # standard errors to the limit of a 95 % interval
SupportState = Literal["recovered", "not supported", "not testable"]


@frozen
class DetailSupport:
    """Result of the test at half the resolution for one contrast in one region.

    Attributes
    ----------
    row : MetricRow | None
        Explained variance of the detail; None if it was not computed.
    reason : str
        Why the detail is not testable, as a clause; "" if it is.
    is_smooth : bool
        Whether the detail is not supported because the acquired effect is smooth.
    """

    state: SupportState
    row: MetricRow | None = None
    reason: str = ""
    is_smooth: bool = False


@frozen
class ContrastSupport:
    """Results for the detail of one contrast in active voxels, which decide, and in the brain."""

    contrast: str
    active: DetailSupport
    brain: DetailSupport

    @property
    def state(self) -> SupportState:
        """Result in active voxels."""
        return self.active.state


NOT_SPLIT = "the run cannot be split into two halves of its blocks"


def classify_detail(
    rows: Iterable[MetricRow], method: str, contrasts: Sequence[str] = (), fwhm_mm: float = 0.0
) -> dict[str, ContrastSupport]:
    """Return whether the run supports the detail of a method, for each contrast.

    Parameters
    ----------
    rows : Iterable[MetricRow]
        Rows of the evaluation.
    method : str
        Series whose detail was tested.
    contrasts : Sequence[str], optional
        Contrasts that are listed even if they were not tested.
    fwhm_mm : float, optional
        Smoothing of the effects (FWHM, mm).

    Returns
    -------
    dict[str, ContrastSupport]
        Results by contrast, in the order of the rows; empty if nothing was tested and there are no
        `contrasts`.
    """
    method_rows = [row for row in rows if row.series == method]
    coverages = {row.contrast: row.value for row in method_rows if row.statistic == COVERAGE}
    tested_rows = [
        row for row in method_rows if row.reference == HALF_RESOLUTION and row.fwhm_mm == fwhm_mm
    ]
    tested_contrasts = [row.contrast for row in tested_rows if row.statistic == "ev"]
    supports = {}
    for contrast in dict.fromkeys([*contrasts, *tested_contrasts]):
        contrast_rows = [row for row in tested_rows if row.contrast == contrast]
        coverage = coverages.get(contrast, math.nan)
        supports[contrast] = ContrastSupport(
            contrast=contrast,
            active=_classify_region(
                contrast_rows, ACQUIRED_ACTIVE, coverage, region_words="active voxels"
            ),
            brain=_classify_region(contrast_rows, "brain", coverage, region_words="brain"),
        )
    return supports


def permits_reliable(
    rows: Iterable[MetricRow], method: str, contrast: str, fwhm_mm: float
) -> bool | None:
    """Return whether the tests of a run permit reliable voxels of a contrast.

    Voxels can only be reliable if the detail of the contrast is recovered in active voxels,
    without smoothing and at the smoothing of the map, and if the intervals were covered. None is
    returned if the coverage of the contrast was not measured. For the parameters, see
    `classify_detail`.
    """
    rows = list(rows)
    coverages = [
        row.value for row in rows if (row.statistic, row.contrast) == (COVERAGE, contrast)
    ]
    if not coverages:
        return None
    supports = [
        classify_detail(rows, method, [contrast], fwhm_mm=width)[contrast]
        for width in {0.0, fwhm_mm}
    ]
    is_recovered = all(support.state == "recovered" for support in supports)
    return min(coverages) >= MIN_COVERAGE and is_recovered


def _compute_upper_limit(row: MetricRow) -> float:
    """Return the limit of the one-sided 95 % interval of a row with a two-sided 95 % interval."""
    return row.value + _Z_ONE_SIDED / _Z_TWO_SIDED * (row.upper - row.value)


def _classify_region(
    rows: Sequence[MetricRow], region: str, coverage: float, *, region_words: str
) -> DetailSupport:
    """Apply the rule to the explained variance of one contrast in one region.

    `rows` are the tested rows of the contrast. `coverage` is NaN if it was not measured.
    """
    rows_by_statistic = {row.statistic: row for row in rows if row.region == region}
    if not rows_by_statistic.keys() >= {"ev", FINENESS, "voxels"}:
        return DetailSupport(state="not testable", reason=NOT_SPLIT)
    row, fineness_row = rows_by_statistic["ev"], rows_by_statistic[FINENESS]
    n_voxels = rows_by_statistic["voxels"].value
    reason = _explain_missing_value(row, n_voxels, region_words)
    if not reason and row.lower <= 0:
        return DetailSupport(state="not supported", row=row)
    if not reason and not math.isfinite(fineness_row.value):
        reason = (
            "the acquired effect is not reproducible at the highest acquired spatial frequencies"
        )
    if not reason and _compute_upper_limit(fineness_row) < MIN_FINENESS:
        return DetailSupport(state="not supported", row=row, is_smooth=True)
    reason = reason or _explain_imprecision(row, coverage)
    return DetailSupport(state="not testable" if reason else "recovered", row=row, reason=reason)


def _explain_missing_value(row: MetricRow, n_voxels: float, region_words: str) -> str:
    """Return why the detail of a region has no value with an interval; "" if it has them.

    `row` is the explained variance, and `n_voxels` the number of voxels of the region.
    """
    if n_voxels < MIN_ACTIVE_VOXELS:
        return (
            f"at half the resolution, the run has only {n_voxels:.0f} {region_words} in this"
            f" contrast (at least {MIN_ACTIVE_VOXELS} are required)"
        )
    if not math.isfinite(row.value):
        return "the acquired effect has no reproducible detail at half the resolution"
    if not math.isfinite(row.upper - row.lower):
        return "the run has too few slices for a confidence interval"
    return ""


def _explain_imprecision(row: MetricRow, coverage: float) -> str:
    """Return why an explained variance is not precise; "" if it is precise.

    `coverage` is NaN if it was not measured.
    """
    half_width = (row.upper - row.lower) / 2
    if half_width > MAX_HALF_WIDTH:
        return (
            f"the confidence interval (± {number(half_width, '.0%')}) is wider than"
            f" ± {number(MAX_HALF_WIDTH, '.0%')}"
        )
    if math.isnan(coverage):
        return "the coverage of the 95 % intervals was not measured"
    if coverage < MIN_COVERAGE:
        return (
            "the 95 % intervals of the effect contained the acquired effect in only"
            f" {number(coverage, '.0%')} of the voxels"
        )
    return ""
