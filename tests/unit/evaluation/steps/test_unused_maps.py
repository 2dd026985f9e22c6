"""Maps of a run that are not stored because its page does not name them."""

import pytest

from bids_sr.engine.store import LEFT_OUT
from bids_sr.evaluation.detail_support import ContrastResult, RegionResult
from bids_sr.evaluation.result import RunResult
from bids_sr.evaluation.run_evidence import RunEvidence
from bids_sr.evaluation.steps.unused_maps import list_unused_maps

NAMES = ("hand", "foot", "handMinusOthers", "footMinusOthers")


def list_maps(method="sbl", recovered=("hand", "handMinusOthers"), **changes):
    """Return the left out maps of a run, in which the detail of two contrasts is recovered."""
    found = {"recovered": RegionResult(state="recovered"), "": RegionResult(state="not testable")}
    regions = {name: found["recovered" if name in recovered else ""] for name in NAMES}
    contrasts = tuple(
        ContrastResult(contrast=name, map_contrast=name, active=region, brain=region)
        for name, region in regions.items()
    )
    evidence = RunEvidence(result=RunResult(method=method, contrasts=contrasts), **changes)
    facts = list_unused_maps(evidence, primary="sbl", contrasts=NAMES, minus_others=NAMES[2:])
    return facts[LEFT_OUT]


def test_effects_without_use_and_default_contrasts_without_an_answer_are_left_out():
    assert list_maps() == [
        {"desc": "bspline", "stat": "effect", "contrast": "hand"},
        {"desc": "bspline", "stat": "effect", "contrast": "handMinusOthers"},
        {"desc": "sbl", "contrast": "footMinusOthers"},
    ]


@pytest.mark.parametrize("changes", [{"recovered": ()}, {"method": "srgan"}])
def test_without_answers_of_the_exported_series_b_spline_keeps_all_effects(changes):
    assert list_maps(**changes) == [
        {"desc": "sbl", "contrast": name} for name in ("handMinusOthers", "footMinusOthers")
    ]


def test_a_series_that_was_not_applied_has_no_unsmoothed_maps():
    assert list_maps(not_applied=("sbl",)) == [{"desc": "sbl", "contrast": name} for name in NAMES]
