"""Steps that compare series of other programs with the acquired one.

There are controls at the same resolution, and verdicts.
"""

import math
from collections.abc import Sequence

from threadpoolctl import threadpool_limits

from bids_sr.config.memory_model import EFFECTS
from bids_sr.evaluation.agreement import changes_of, same_resolution
from bids_sr.evaluation.effects_of_run import control_width
from bids_sr.glm.block_effects import load_effects
from bids_sr.pipeline.artifacts import Facts, File, Mask, Series
from bids_sr.pipeline.step import step
from bids_sr.sr.method import Cost
from bids_sr.steps.activation import Factor
from bids_sr.steps.compared.placing import UPSAMPLING


@step(makes="same_widths", memory=EFFECTS, cost=Cost(always=5.0))
def match_resolution(
    series: dict[str, Series],
    effects: dict[str, File],
    bold_mask_hr: Mask,
    *,
    factor: Factor,
    n_dummy: int,
    compared_names: Sequence[str],
) -> Facts:
    """Find the smoothing (mm FWHM) that makes the acquired series each compared one's control.

    The results are by the names of the compared series.

    `series, effects`: compared ones, and `zerofill`, which stands for the acquired one, on the
    high-resolution grid. None for one whose smoothness cannot be measured.
    """
    zooms = bold_mask_hr.zooms.tolist()
    found: dict[str, object] = {}
    with threadpool_limits(1):
        acquired, own = changes_of(series[UPSAMPLING], n_dummy), load_effects(effects[UPSAMPLING])
        for name in compared_names:
            inside = load_effects(effects[name]).mask & bold_mask_hr.data
            width = same_resolution(
                acquired, changes_of(series[name], n_dummy), inside, zooms, factor
            )
            found[name] = (
                round(control_width(own, inside, width), 2) if math.isfinite(width) else None
            )
    return found
