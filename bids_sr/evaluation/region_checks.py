"""Checks of the response of a run and of its region of interest.

Each check is for the run: all conditions must agree. A run has at most one of these results:

- *no response*: the brain has no active cluster in any condition, and the upper limit of the
  region's effect, averaged over all conditions, is below `MAX_SILENT_PERCENT`.
- *region misplaced*: the region has no active voxel in any condition, the ring around the region
  has, and in this condition the ring's effect exceeds the region's effect.
- *region not active*: the brain is active, the region has no active voxel in any condition, and in
  all conditions the upper limit of the region's effect is below `MAX_INACTIVE_RATIO` of the effect
  of the brain's strongest cluster.

Limits are of 95 % intervals. Clusters and active voxels are as in `bids_sr.glm.region_response`.
The numbers were fixed with phantoms of seeds 1 to 24 and 2001 to 2013, the runs of two
participants and the example, and measured with other seeds and regions
(``benchmarks/region_checks.py``): 10 of 693 results were false, all in a phantom whose response
was too weak for a cluster. Of regions in runs without the task, 95 % had *no response*; 93 % of
regions off the activation were *not active* or *misplaced*.
"""

from typing import Literal

from bids_sr.engine.number_text import number
from bids_sr.evaluation.qc_flags import Flag
from bids_sr.glm.region_response import ConditionResponse, RunResponse

MAX_SILENT_PERCENT = 1.0
"""Largest upper limit of a region's effect in a run without a response (% of the mean signal)."""
MAX_INACTIVE_RATIO = 0.5
"""Largest upper limit of a region's effect, relative to the effect of the brain's strongest
cluster, in a region that is not active.
"""
ResponseState = Literal["response", "no response", "region not active", "region misplaced"]


def list_response_flags(response: RunResponse, *, is_named: bool = True) -> list[Flag]:
    """Return one flag per check of a run, with effects in percent of the mean signal.

    Checks of the region are not evaluated unless the brain is active and the region is named; see
    `classify_response`.
    """
    state = classify_response(response, is_named=is_named)
    is_active = response.strongest is not None
    place = "region of interest" if is_named else "brain"
    clusters = "active voxels were found" if is_active else "no cluster of active voxels was found"
    silence = (
        f"In the brain, {clusters}. Averaged over all conditions, the effect of the {place} is at"
        f" most {number(response.mean.compute_interval()[1], '.2f')} % of the mean signal (upper"
        f" limit of the 95 % interval; a run without a response: less than"
        f" {MAX_SILENT_PERCENT:g} %)."
    )
    flags = [Flag(name="no_response", raised=state == "no response", text=silence)]
    for name, raised_state, text in (
        ("region_not_active", "region not active", _compare_with_strongest(response)),
        ("region_misplaced", "region misplaced", _compare_with_ring(response)),
    ):
        raised = state == raised_state if is_named and is_active else None
        flags.append(Flag(name=name, raised=raised, text=text))
    return flags


def classify_response(response: RunResponse, *, is_named: bool = True) -> ResponseState:
    """Return the result of the checks of a region, with effects in percent of the mean signal.

    If the region is not named, it is the brain, which can neither be inactive nor misplaced.
    """
    if response.strongest is None:
        is_silent = response.mean.compute_interval()[1] < MAX_SILENT_PERCENT
        return "no response" if is_silent else "response"
    if not is_named or any(condition.n_active for condition in response.conditions):
        return "response"
    if any(map(_is_exceeded_by_ring, response.conditions)):
        return "region misplaced"
    limit = MAX_INACTIVE_RATIO * abs(response.strongest.effect)
    return "region not active" if _find_upper_limit(response) < limit else "response"


def _compare_with_strongest(response: RunResponse) -> str:
    """Return a sentence on the region's effect and the effect of the brain's strongest cluster."""
    if response.strongest is None:
        return "The brain has no cluster of active voxels to compare the region with."
    strongest = f"{number(response.strongest.effect, '.2f')} % ({response.strongest_condition})"
    n_active = max(condition.n_active for condition in response.conditions)
    return (
        f"The region of interest has {n_active} active voxels (false discovery rate .01)."
        " In all conditions, its effect is at most"
        f" {number(_find_upper_limit(response), '.2f')} % of the mean signal (upper limit"
        f" of the 95 % interval). The effect of the brain's strongest cluster is {strongest}."
    )


def _compare_with_ring(response: RunResponse) -> str:
    """Return a sentence on the region's effect and the effect in the ring around it."""
    excesses = {
        condition.condition: condition.ring_excess
        for condition in response.conditions
        if condition.ring_excess is not None
    }
    if not excesses:
        return "The brain has no voxels around the region of interest."
    name, excess = max(excesses.items(), key=lambda item: item[1].compute_interval()[0])
    lower, upper = (number(end, ".2f") for end in excess.compute_interval())
    n_active = max(condition.n_active_in_ring for condition in response.conditions)
    return (
        f"A ring of the same size around the region of interest has {n_active} active voxels. The"
        f" effect of the ring minus the effect of the region is {number(excess.effect, '.2f')} %"
        f" of the mean signal ({lower} to {upper}) in the contrast {name}, where the difference is"
        " clearest."
    )


def _find_upper_limit(response: RunResponse) -> float:
    """Return the highest upper limit of the region's effect in any condition."""
    return max(condition.region.compute_interval()[1] for condition in response.conditions)


def _is_exceeded_by_ring(response: ConditionResponse) -> bool:
    """Return whether the active ring around a region has a higher effect than the region."""
    excess = response.ring_excess
    if excess is None or not response.n_active_in_ring:
        return False
    return excess.compute_interval()[0] > 0
