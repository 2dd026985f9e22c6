"""The rough model never accepts a design that the full model rejects."""

import numpy as np
import pandas as pd
import pytest

from bids_sr.glm.blocks import find_blocks, response_shares
from bids_sr.glm.design import DesignSettings, build_design, contrast_vector, frame_times
from bids_sr.glm.regressors import DesignError, Events
from bids_sr.preflight.rough_model import approximate_regressors, is_clearly_informative

N_DUMMY, HIGH_PASS = 2, 1 / 128


def _events(rng: np.random.Generator, *, duration: float, length: float) -> Events:
    rows = [
        (onset, duration, name)
        for name in "abc"[: rng.integers(1, 4)]
        for onset in rng.uniform(-30, length + 5, rng.integers(2, 8))
    ]
    if rng.random() < 0.3:  # two names of the same events
        rows += [(onset, length, "same") for onset, length, name in rows if name == "a"]
    return Events(pd.DataFrame(sorted(rows), columns=["onset", "duration", "trial_type"]))


def _is_estimable(events: Events, n_volumes: int, tr: float) -> bool:
    try:
        design = build_design(
            events,
            DesignSettings(high_pass=HIGH_PASS),
            n_volumes=n_volumes,
            tr=tr,
            n_dummy=N_DUMMY,
        )
        for name in events.conditions:
            contrast_vector(design, name, {name: 1.0})
    except DesignError:
        return False
    return True


def test_designs_accepted_by_the_rough_model_are_estimable() -> None:
    rng = np.random.default_rng(0)
    outcomes = []
    for _ in range(80):
        tr, n_volumes = float(rng.choice([0.7, 2.0, 3.0])), int(rng.integers(60, 200))
        duration = float(rng.choice([0.0, 1.0, 4.0, 16.0]))
        events = _events(rng, duration=duration, length=n_volumes * tr)
        times = frame_times(n_volumes, tr)[N_DUMMY:]
        accepted = is_clearly_informative(events, times, n_volumes * tr, tr, HIGH_PASS)
        assert not (accepted and duration == 0)
        outcomes.append((accepted, _is_estimable(events, n_volumes, tr)))
    assert (True, False) not in outcomes
    assert outcomes.count((True, True)) > 30
    assert outcomes.count((False, False)) > 5


@pytest.mark.parametrize("duration", [4.0, 16.0])
def test_rough_regressors_and_response_shares_approximate_nilearn(duration: float) -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        events = _events(rng, duration=duration, length=200.0)
        times = frame_times(100, 2.0)
        exact = events.time_series(times)
        for name, regressor in approximate_regressors(events, times).items():
            np.testing.assert_allclose(regressor, exact[name], atol=0.03)
        blocks = find_blocks(events)
        rough = response_shares(blocks, times, 2.0, approximate_regressors)
        np.testing.assert_allclose(rough, response_shares(blocks, times, 2.0), atol=0.05)
