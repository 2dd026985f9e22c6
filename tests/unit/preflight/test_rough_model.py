"""The rough model never accepts a design that the full model rejects."""

import numpy as np
import pandas as pd
import pytest

from bids_sr.glm.blocks import find_blocks, response_shares
from bids_sr.glm.design import DesignSettings, build_design, contrast_vector, frame_times
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.glm.regressors import DesignError, Events
from bids_sr.preflight.rough_model import approximate_responses, is_clearly_informative

N_DUMMY = 2
HRF_MODELS = ("spm", "glover + derivative")


def _model(hrf_model: str) -> DesignSettings:
    return DesignSettings(hrf=HemodynamicResponse(hrf_model=hrf_model))


def _events(rng: np.random.Generator, *, duration: float, length: float) -> Events:
    rows = [
        (onset, duration, name)
        for name in "abc"[: rng.integers(1, 4)]
        for onset in rng.uniform(-30, length + 5, rng.integers(2, 8))
    ]
    if rng.random() < 0.3:  # two names of the same events
        rows += [(onset, length, "same") for onset, length, name in rows if name == "a"]
    return Events(pd.DataFrame(sorted(rows), columns=["onset", "duration", "trial_type"]))


def _is_estimable(events: Events, n_volumes: int, tr: float, model: DesignSettings) -> bool:
    try:
        design = build_design(
            events,
            model,
            n_volumes=n_volumes,
            tr=tr,
            n_dummy=N_DUMMY,
        )
        for name in events.conditions:
            contrast_vector(design, name, {name: 1.0})
    except DesignError:
        return False
    return True


@pytest.mark.parametrize("hrf_model", HRF_MODELS)
def test_designs_accepted_by_the_rough_model_are_estimable(hrf_model: str) -> None:
    model = _model(hrf_model)
    rng = np.random.default_rng(0)
    outcomes = []
    for _ in range(80):
        tr, n_volumes = float(rng.choice([0.7, 2.0, 3.0])), int(rng.integers(60, 200))
        duration = float(rng.choice([0.0, 1.0, 4.0, 16.0]))
        events = _events(rng, duration=duration, length=n_volumes * tr)
        times = frame_times(n_volumes, tr)[N_DUMMY:]
        accepted = is_clearly_informative(events, times, n_volumes * tr, tr, model)
        assert not (accepted and duration == 0)
        outcomes.append((accepted, _is_estimable(events, n_volumes, tr, model)))
    assert (True, False) not in outcomes
    assert outcomes.count((True, True)) > 30
    assert outcomes.count((False, False)) > 5


@pytest.mark.parametrize("hrf_model", HRF_MODELS)
@pytest.mark.parametrize("duration", [4.0, 16.0])
def test_rough_regressors_and_response_shares_approximate_nilearn(
    duration: float, hrf_model: str
) -> None:
    hrf = HemodynamicResponse(hrf_model=hrf_model)
    rng = np.random.default_rng(1)
    for _ in range(10):
        events = _events(rng, duration=duration, length=200.0)
        times = frame_times(100, 2.0)
        exact = events.responses(times, hrf)
        for name, columns in approximate_responses(events, times, hrf).items():
            # nilearn removes the main column from the derivative.
            columns[:, 1:] -= columns[:, :1] * (
                columns[:, :1].T @ columns[:, 1:] / (columns[:, 0] ** 2).sum().clip(1e-9)
            )
            np.testing.assert_allclose(columns, exact[name], atol=0.05)
        blocks = find_blocks(events)
        rough = response_shares(blocks, times, 2.0, hrf, approximate_responses)
        np.testing.assert_allclose(rough, response_shares(blocks, times, 2.0, hrf), atol=0.05)
