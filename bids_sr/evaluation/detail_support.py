"""Rule for contrasts whose added detail is supported by a run without a reference.

The detail of a contrast was *tested* if the test at half the resolution
(`bids_sr.evaluation.tested_detail`) is precise, its interval is above 0, and the acquired effect
was not found to be smooth. It is smooth if the spectral density of its detail falls by more than
half toward the highest acquired frequencies (one-sided test at .05). The detail is *not supported*
if the interval contains 0 or is below 0, or if the effect is smooth, and *not tested* if the test
is not possible or not precise. The limits were set before the rule was applied to any data, with
one exception: fineness was added after simulated foci of 8 and 12 mm had passed the rule in one
participant, whose fluctuations are finer, although their added detail was wrong
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
SupportState = Literal["tested", "not supported", "not tested"]


@frozen
class DetailSupport:
    """Result of the test at half the resolution for one contrast in one region.

    Attributes
    ----------
    row : MetricRow | None
        Explained variance of the detail; None if it was not computed.
    reason : str
        Why the detail was not tested, as a clause; "" if it was tested.
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
    names = [*contrasts, *(row.contrast for row in tested_rows if row.statistic == "ev")]
    supports = {}
    for name in dict.fromkeys(names):
        contrast_rows = [row for row in tested_rows if row.contrast == name]
        coverage = coverages.get(name, math.nan)
        supports[name] = ContrastSupport(
            contrast=name,
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

    The intervals must have been covered, and the detail must not be unsupported. None is returned
    if the coverage of the contrast was not measured. For the parameters, see `classify_detail`.
    """
    rows = list(rows)
    coverages = [
        row.value for row in rows if (row.statistic, row.contrast) == (COVERAGE, contrast)
    ]
    if not coverages:
        return None
    support = classify_detail(rows, method, fwhm_mm=fwhm_mm).get(contrast)
    is_unsupported = support is not None and support.state == "not supported"
    return min(coverages) >= MIN_COVERAGE and not is_unsupported


def _compute_upper_limit(row: MetricRow) -> float:
    """Return the limit of the one-sided 95 % interval of a row with a two-sided 95 % interval."""
    return row.value + 1.645 / 1.96 * (row.upper - row.value)


def _classify_region(
    rows: Sequence[MetricRow], region: str, coverage: float, *, region_words: str
) -> DetailSupport:
    """Apply the rule to the explained variance of one contrast in one region.

    `rows` are the tested rows of the contrast. `coverage` is NaN if it was not measured.
    """
    row_of_statistic = {row.statistic: row for row in rows if row.region == region}
    if not row_of_statistic.keys() >= {"ev", FINENESS, "voxels"}:
        return DetailSupport(state="not tested", reason=NOT_SPLIT)
    row, fineness = row_of_statistic["ev"], row_of_statistic[FINENESS]
    n_voxels = row_of_statistic["voxels"].value
    reason = ""
    half_width = (row.upper - row.lower) / 2
    if n_voxels < MIN_ACTIVE_VOXELS:
        reason = (
            f"at half the resolution, the run has only {n_voxels:.0f} {region_words} in this"
            f" contrast (at least {MIN_ACTIVE_VOXELS} are required)"
        )
    elif not math.isfinite(row.value):
        reason = "the acquired effect has no reproducible detail at half the resolution"
    elif not math.isfinite(half_width):
        reason = "the run has too few slices for a confidence interval"
    elif row.lower <= 0:
        return DetailSupport(state="not supported", row=row)
    elif not math.isfinite(fineness.value):
        reason = (
            "the acquired effect is not reproducible at the highest acquired spatial frequencies"
        )
    elif _compute_upper_limit(fineness) < MIN_FINENESS:
        return DetailSupport(state="not supported", row=row, is_smooth=True)
    elif half_width > MAX_HALF_WIDTH:
        reason = (
            f"the confidence interval (± {number(half_width, '.0%')}) is wider than"
            f" ± {number(MAX_HALF_WIDTH, '.0%')}"
        )
    elif math.isnan(coverage):
        reason = "the coverage of the 95 % intervals was not measured"
    elif coverage < MIN_COVERAGE:
        reason = (
            "the 95 % intervals of the effect contained the acquired effect in only"
            f" {number(coverage, '.0%')} of the voxels"
        )
    return DetailSupport(state="not tested" if reason else "tested", row=row, reason=reason)
