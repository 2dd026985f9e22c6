"""Number of blocks that a run needs for the detail of a contrast to be recovered.

The number is for an assumed explained variance (`ASSUMED_VARIANCE`) and the noise of the run: with
so many blocks per condition, the detail is *recovered* (`bids_sr.evaluation.detail_support`) in 80
of 100 runs of the same participant. The explained variance in the upper half of the tested
frequencies is assumed to differ from the assumed value as in the run, and the fineness of the
acquired effect to be as in the run. Both are averaged with the values of simulated contrasts, as
far as the run is not precise.

The standard errors of the run are extrapolated. They fall with the power .75 of the number of
blocks: with the square root if the noise is small, and in proportion if it dominates products of
two halves. The difference between both resolutions (`LEVEL_SD`) does not fall.

The constants were fixed with simulated runs of 16 slices. In simulated runs of 12 slices with the
stated number of blocks, 54 of 84 were recovered: 20 of 22 and 22 of 22 in two contrasts, and 12 of
40 in a contrast whose detail is not recovered in the upper half of the tested frequencies
(``benchmarks/needed_blocks.py``). The number is therefore a rough guide.
"""

import math
from collections.abc import Iterable, Sequence

from scipy import stats

from bids_sr.evaluation.detail_support import MIN_FINENESS, ContrastSupport
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.evaluation.missing_blocks import find_smallest_count
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.tested_detail import (
    FINENESS,
    HALF_RESOLUTION,
    LEVEL_SD,
    ONE_SIDED,
    TWO_SIDED,
    UPPER_HALF,
    compute_quantile,
)
from bids_sr.frozen import frozen
from bids_sr.metrics.rows import MetricRow

ASSUMED_VARIANCE = 0.4
"""Explained variance for which the number of blocks is computed."""
POWER = 0.8
"""Share of runs with the stated number of blocks whose detail is recovered."""
MAX_RATIO = 10
"""Largest number of blocks that is stated, relative to the number of blocks of the run."""
# Mean and standard deviation over contrasts of simulated runs, of the explained variance minus its
# value in the upper half of the tested frequencies, and of the fineness
_DIFFERENCE, _FINENESS = (0.2, 0.15), (0.7, 0.2)
_EXPONENT = 0.75  # of the fall of standard errors with the number of blocks
# Standard deviation over runs, relative to the standard error. The error over space is the same in
# all runs of a participant.
_SPREAD = 0.65


@frozen
class NeededBlocks:
    """Number of blocks that a contrast needs for its detail to be recovered.

    `present` is the number of blocks in the run, and `needed` the number for a power of 80 %, both
    per condition, of the condition with fewest blocks. `needed` is None if no number can be
    stated, and `reason` says why, as a clause.
    """

    contrast: str
    present: int
    needed: int | None
    reason: str = ""

    @property
    def text(self) -> str:
        """Sentence about the number of blocks."""
        values = {
            "contrast": self.contrast,
            "present": self.present,
            "needed": self.needed,
            "percent": f"{100 * ASSUMED_VARIANCE:.0f}",
            "power": f"{100 * POWER:.0f}",
            "reason": self.reason,
        }
        if self.needed is None:
            return Statement.NO_BLOCK_NUMBER.format(**values)
        if self.needed <= self.present:
            return Statement.ENOUGH_BLOCKS.format(**values)
        return Statement.NEEDED_BLOCKS.format(**values)


@frozen
class _Condition:
    """Condition of the rule that the detail of a contrast must meet.

    `assumed` is the assumed value, and `limit` the value that the lower limit of its interval must
    exceed. `sd` is the standard error in the run without `level_sd`, which is part of the interval
    but does not depend on the number of blocks. `quantile` is the half-width of the interval in
    standard errors.
    """

    assumed: float
    limit: float
    sd: float
    quantile: float
    level_sd: float = 0.0

    def compute_power(self, ratio: float) -> float:
        """Return the probability to meet the condition with `ratio` times as many blocks."""
        sd = self.sd / ratio**_EXPONENT
        margin = self.assumed - self.limit - self.quantile * math.hypot(sd, self.level_sd)
        if sd == 0:
            return float(margin > 0)
        return float(stats.norm.cdf(margin / (_SPREAD * sd)))


def estimate_needed_blocks(
    rows: Iterable[MetricRow], method: str, support: ContrastSupport, fwhm_mm: float = 0.0
) -> NeededBlocks | None:
    """Return the number of blocks that a contrast needs for its detail to be recovered.

    `rows` are the metrics of a run, and `support` is the result for a contrast of the `method`.
    `fwhm_mm` is the smoothing of the effects (FWHM). None is returned if the detail is recovered,
    or if the blocks were not counted.
    """
    method_rows = [row for row in rows if row.series == method]
    present = find_smallest_count(method_rows, support.map_contrast)
    if support.state == "recovered" or present is None:
        return None
    conditions = _collect_conditions(
        [
            row
            for row in method_rows
            if (row.reference, row.contrast, row.region, row.fwhm_mm)
            == (HALF_RESOLUTION, support.contrast, ACQUIRED_ACTIVE, fwhm_mm)
        ]
    )
    needed, reason = None, ""
    if support.state == "not supported":
        reason = Statement.CONTRARY_EVIDENCE
    elif not conditions or support.active.deciding_row is None:
        reason = support.active.reason
    else:
        needed = _find_smallest_number(conditions, present)
        if needed is None:
            reason = Statement.MANY_BLOCKS.format(ratio=MAX_RATIO)
    return NeededBlocks(
        contrast=support.contrast, present=present, needed=needed, reason=str(reason)
    )


def _collect_conditions(rows: Iterable[MetricRow]) -> list[_Condition]:
    """Return the conditions of the rule with the standard errors of a run.

    `rows` are the tested rows of a contrast in active voxels. The result is empty if an interval
    is not known.
    """
    rows_by_statistic = {row.statistic: row for row in rows}
    if not rows_by_statistic.keys() >= {"ev", UPPER_HALF, FINENESS}:
        return []
    assumed_values = {
        "ev": ASSUMED_VARIANCE,
        UPPER_HALF: _assume_upper_half(rows_by_statistic["ev"], rows_by_statistic[UPPER_HALF]),
        FINENESS: _combine(
            rows_by_statistic[FINENESS].value,
            _get_spread(rows_by_statistic[FINENESS]),
            *_FINENESS,
        ),
    }
    conditions = []
    for statistic, assumed in assumed_values.items():
        row = rows_by_statistic[statistic]
        if not math.isfinite(row.upper - row.value) or (row.n or 0) < 2:
            return []
        n_units = row.n or 0
        sd = (row.upper - row.value) / compute_quantile(n_units, TWO_SIDED)
        if statistic == "ev":
            conditions.append(
                _Condition(
                    assumed=assumed,
                    limit=0.0,
                    sd=math.sqrt(max(sd**2 - LEVEL_SD**2, 0.0)),
                    quantile=compute_quantile(n_units, TWO_SIDED),
                    level_sd=LEVEL_SD,
                )
            )
            continue
        if statistic == FINENESS and row.value > assumed:
            sd *= assumed / row.value  # the error of a ratio grows with the ratio
        conditions.append(
            _Condition(
                assumed=assumed,
                limit=MIN_FINENESS if statistic == FINENESS else 0.0,
                sd=sd,
                quantile=compute_quantile(n_units, ONE_SIDED),
            )
        )
    return conditions


def _assume_upper_half(row: MetricRow, upper_half: MetricRow) -> float:
    """Return the assumed explained variance in the upper half of the tested frequencies.

    It is below the assumed explained variance by the expected difference. `row` is the explained
    variance at all tested frequencies.
    """
    difference = _combine(row.value - upper_half.value, _get_spread(upper_half), *_DIFFERENCE)
    return ASSUMED_VARIANCE - difference


def _combine(value: float, sd: float, expected: float, expected_sd: float) -> float:
    """Return the mean of a run's value and a value that is expected for any contrast.

    Weights are inverse variances; the run has no weight if its standard deviation is NaN.
    """
    weight = expected_sd**2 / (expected_sd**2 + sd**2)
    return weight * value + (1 - weight) * expected if math.isfinite(weight) else expected


def _get_spread(row: MetricRow) -> float:
    """Return the standard deviation of a value over runs of a participant; NaN if unknown."""
    n_units = row.n or 0
    if n_units < 2:
        return math.nan
    return _SPREAD * (row.upper - row.value) / compute_quantile(n_units, TWO_SIDED)


def _find_smallest_number(conditions: Sequence[_Condition], present: int) -> int | None:
    """Return the smallest number of blocks with the required power; None if it is too large.

    The conditions are met independently of each other. `present` is the number of blocks of the
    run.
    """
    for number in range(2, MAX_RATIO * present + 1):
        power = math.prod(condition.compute_power(number / present) for condition in conditions)
        if power >= POWER:
            return number
    return None
