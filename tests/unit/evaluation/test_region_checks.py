"""Test the checks of a region of interest: no response, not active, misplaced."""

import pytest

from bids_sr.evaluation.region_checks import classify_response, list_response_flags
from bids_sr.glm.region_means import MeanEffect
from bids_sr.glm.region_response import ConditionResponse, RunResponse


def effect_of(effect, noise_sd=0.05):
    return MeanEffect(effect=effect, noise_sd=noise_sd, noise_dof=1e6)


def condition(region, excess=0.0, *, sd=0.05, active=0, in_ring=0, name="thumb"):
    return ConditionResponse(
        condition=name,
        region=effect_of(region, sd),
        ring_excess=effect_of(excess, sd),
        n_active=active,
        n_active_in_ring=in_ring,
    )


def respond(*conditions, strongest=1.5, mean=None):
    effect = None if strongest is None else effect_of(strongest)
    return RunResponse(
        conditions=conditions,
        mean=mean or conditions[0].region,
        strongest=effect,
        strongest_condition="thumb",
    )


@pytest.mark.parametrize(
    ("response", "state"),
    [
        (respond(condition(0.1), strongest=None), "no response"),
        # the upper limit of the mean effect is below 1 %, whatever the conditions
        (respond(condition(0.1), condition(1.5), strongest=None), "no response"),
        (respond(condition(0.1), strongest=None, mean=effect_of(0.95)), "response"),
        (respond(condition(0.1, sd=0.6), strongest=None), "response"),
        (respond(condition(-2.0), strongest=None), "no response"),
        (respond(condition(0.1)), "region not active"),
        (respond(condition(0.1), condition(0.7)), "response"),
        (respond(condition(0.1, sd=0.4)), "response"),
        (respond(condition(0.1, active=1)), "response"),
        (respond(condition(0.1), condition(0.1, active=1)), "response"),
        # effects of deactivated clusters are compared by their size
        (respond(condition(0.1), strongest=-1.5), "region not active"),
        (respond(condition(0.7, 0.5, in_ring=3)), "region misplaced"),
        (respond(condition(0.1, 0.5, in_ring=3)), "region misplaced"),
        # the ring differs by chance, in another condition, or an active voxel is in the region
        (respond(condition(0.7, 0.09, in_ring=3)), "response"),
        (respond(condition(0.7, 0.5), condition(0.7, in_ring=3)), "response"),
        (respond(condition(0.7, 0.5, in_ring=3, active=1)), "response"),
        (respond(condition(0.7, 0.5, in_ring=3), condition(0.1, active=1)), "response"),
    ],
)
def test_all_conditions_decide_on_a_run(response, state):
    assert classify_response(response) == state
    flags = {flag.name: flag for flag in list_response_flags(response)}
    raised = [name for name, flag in flags.items() if flag.raised]
    assert raised == ([] if state == "response" else [state.replace(" ", "_")])
    assert {(flag.series, flag.contrast) for flag in flags.values()} == {("run", "n/a")}


def test_the_brain_is_neither_inactive_nor_misplaced():
    brain = respond(
        ConditionResponse(
            condition="thumb",
            region=effect_of(0.1),
            ring_excess=None,
            n_active=0,
            n_active_in_ring=0,
        )
    )
    assert classify_response(brain, is_named=False) == "response"
    flags = list_response_flags(brain, is_named=False)
    assert [flag.raised for flag in flags] == [False, None, None]
