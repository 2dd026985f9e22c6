"""Regressors of brief events have the area of their duration at any repetition time."""

import numpy as np
import pandas as pd
import pytest
from data.events import make_events
from scipy.special import gammainc

from bids_sr.glm.design import build_design, contrast_vector, frame_times
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.glm.regressors import Events

N_VOLUMES = 100


def plateau_share(since: np.ndarray) -> np.ndarray:
    """Return the share of its plateau that SPM's response to a block reached, in closed form."""
    after = np.maximum(since, 0.0)
    return (gammainc(6, after) - gammainc(16, after) / 6) / (1 - 1 / 6)


@pytest.mark.parametrize("tr", [0.8, 3.1, 15.0])
@pytest.mark.parametrize("duration", [0.0, 0.012, 0.05, 0.3, 1.7])
def test_the_response_is_proportional_to_the_duration(tr: float, duration: float) -> None:
    onsets = np.arange(5, 60, 9.37)
    table = pd.DataFrame({"onset": onsets, "duration": duration, "trial_type": "flash"})
    times = frame_times(N_VOLUMES, tr)
    course = Events(table).responses(times, HemodynamicResponse())["flash"][:, 0]
    length, area = max(duration, 1e-3), duration or 1.0
    since = times[:, None] - onsets
    expected = ((plateau_share(since) - plateau_share(since - length)) / length * area).sum(axis=1)
    assert np.linalg.norm(course - expected) < 0.001 * np.linalg.norm(expected)
    assert float(course @ expected / (expected @ expected)) == pytest.approx(1, abs=5e-4)


def test_a_duplicate_event_is_modeled_once() -> None:
    rows = [
        (line, {"onset": onset, "duration": "2", "trial_type": "tap"})
        for line, onset in enumerate(["10", "30", "10", "50"], 2)
    ]
    events = Events.from_rows(["onset", "duration", "trial_type"], rows)
    assert events.spans() == {"tap": [(10.0, 2.0), (30.0, 2.0), (50.0, 2.0)]}


@pytest.mark.parametrize("duration", [0.0002, 0.001, 0.004])
def test_events_of_milliseconds_are_in_the_model(duration: float) -> None:
    onsets = np.arange(5, 160, 11.3)
    types = np.resize(["flash", "click"], len(onsets))
    table = pd.DataFrame({"onset": onsets, "duration": duration, "trial_type": types})
    design = build_design(Events(table), n_volumes=N_VOLUMES, tr=2.0)
    assert design.conditions == ("click", "flash")
    vector = contrast_vector(design, "flash", {"flash": 1.0})
    series = 1 / duration * design.matrix[:, design.columns.index("flash")]
    effect = np.linalg.lstsq(design.matrix, series, rcond=None)[0] @ vector
    assert effect == pytest.approx(1 / duration, rel=1e-6)


def test_an_event_whose_response_starts_after_the_run_is_not_modeled() -> None:
    rows = [(10.0, 2.0, "tap"), (40.0, 2.0, "tap"), (198.9, 30.0, "late")]
    assert build_design(make_events(rows), n_volumes=N_VOLUMES, tr=2.0).conditions == ("tap",)
