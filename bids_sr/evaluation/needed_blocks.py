"""Number of blocks that a run needs for the detail of a contrast to be recovered.

The number is for assumed explained variances of the detail (`ASSUMED_VARIANCE`) and of its finer
half (`ASSUMED_UPPER_HALF`), and for the noise and the fineness of the run: with so many blocks,
the 95 % intervals around these values exclude the limits of the rule
(`bids_sr.evaluation.detail_support`) in about 80 of 100 runs. Half-widths of the intervals fall
with the power .75 of the number of blocks: with the square root if the noise is small, and in
proportion if it dominates products of two halves.

The power was fixed with simulated runs of seeds 301 to 303, 402, 511 to 513 and 521 to 523. With
other seeds, 98 of 120 runs with the stated number of blocks were recovered
(``benchmarks/needed_blocks.py``), but 11 of 40 in a contrast with hardly any detail in the finer
half. The assumption therefore decides, and the number is rough.
"""

import math
from collections.abc import Sequence

from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.detail_support import MIN_FINENESS, ContrastSupport
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.evaluation.missing_blocks import find_smallest_count
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.tested_detail import FINENESS, HALF_RESOLUTION, UPPER_HALF
from bids_sr.io.frozen import frozen

ASSUMED_VARIANCE, ASSUMED_UPPER_HALF = 0.4, 0.2
"""Explained variances, of the detail and of its finer half, for which the number is computed."""
MAX_RATIO = 10
"""Largest number of blocks that is stated, relative to the number of blocks of the run."""

_EXPONENT = 0.75  # of the fall of half-widths with the number of blocks


@frozen
class NeededBlocks:
    """Number of blocks that a contrast needs for its detail to be recovered.

    `present` is the number of blocks in the run, and `needed` the number for about 80 recovered
    runs of 100, both of the condition with fewest blocks. `needed` is None if no number can be
    stated, and `reason` says why in at most six words.
    """

    present: int
    needed: int | None
    reason: str = ""


def estimate_needed_blocks(
    rows: Sequence[MetricRow], support: ContrastSupport, method: str, fwhm_mm: float = 0.0
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
    if support.state == "not supported" or support.active.deciding_row is None:
        return NeededBlocks(present=present, needed=None, reason=support.active.short_reason)
    rows_by_statistic = {
        row.statistic: row
        for row in method_rows
        if (row.reference, row.contrast, row.region, row.fwhm_mm)
        == (HALF_RESOLUTION, support.contrast, ACQUIRED_ACTIVE, fwhm_mm)
    }
    margins = {
        "ev": ASSUMED_VARIANCE,
        UPPER_HALF: ASSUMED_UPPER_HALF,
        FINENESS: rows_by_statistic[FINENESS].value - MIN_FINENESS,
    }
    half_widths = {name: row.upper - row.value for name, row in rows_by_statistic.items()}
    largest = MAX_RATIO**_EXPONENT
    # NaN if an interval is unknown
    if not all(half_widths[name] <= largest * margin for name, margin in margins.items()):
        return NeededBlocks(present=present, needed=None, reason=Statement.NOISY_RUN)
    ratio = max(half_widths[name] / margin for name, margin in margins.items())
    return NeededBlocks(present=present, needed=math.ceil(ratio ** (1 / _EXPONENT) * present))
