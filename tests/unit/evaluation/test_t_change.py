"""Compare the change of t by a disturbance of the series with statsmodels and closed forms."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from bids_sr.evaluation.t_change import t_change
from bids_sr.glm.design import Design, build_design
from bids_sr.glm.regressors import Events

N, VOXELS = 120, 400
EVENTS = Events(
    pd.DataFrame(
        {"onset": np.arange(10, 230, 40.0), "duration": 16.0, "trial_type": ["a", "b"] * 3}
    )
)
CONTRASTS = {"a": {"a": 1.0}, "aMinusB": {"a": 1.0, "b": -1.0}}


@pytest.fixture(scope="module")
def design() -> Design:
    return build_design(EVENTS, n_volumes=N, tr=2.0)


def simulated_series(design: Design, seed: int = 0, effect: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (
        800
        + effect * design.matrix[:, :1] * np.linspace(0, 4, VOXELS)
        + rng.normal(size=(N, VOXELS))
    )


def pairs(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    yield from zip(first.astype(np.float32), second.astype(np.float32), strict=True)


def statsmodels_t(design: Design, y: np.ndarray, vector: np.ndarray) -> np.ndarray:
    from statsmodels.regression.linear_model import OLS

    return np.array(
        [OLS(column, design.matrix).fit().t_test(vector).tvalue.item() for column in y.T]
    )


def test_the_change_of_t_equals_least_squares_of_statsmodels(design: Design) -> None:
    series = simulated_series(design).astype(np.float32)
    disturbed = series + np.random.default_rng(1).normal(0, 0.3, series.shape).astype(np.float32)
    changes = t_change(pairs(series, disturbed), design, CONTRASTS)
    for name, weights in (("a", [1.0, 0.0]), ("aMinusB", [1.0, -1.0])):
        vector = np.zeros(design.matrix.shape[1])
        vector[:2] = weights
        subset = slice(0, 60)
        expected = statsmodels_t(design, disturbed[:, subset], vector) - statsmodels_t(
            design, series[:, subset], vector
        )
        subset_changes = t_change(
            pairs(series[:, subset], disturbed[:, subset]), design, {name: CONTRASTS[name]}
        )
        assert subset_changes[name] == pytest.approx(np.sqrt(np.mean(expected**2)), rel=1e-3)
    assert list(changes) == list(CONTRASTS)


def test_white_rounding_errors_change_t_by_their_fraction_of_the_noise(design: Design) -> None:
    series = simulated_series(design, effect=0.0)
    disturbed = series + np.random.default_rng(1).normal(0, 0.05, series.shape)
    changes = t_change(pairs(series, disturbed), design, {"a": {"a": 1.0}})
    assert changes["a"] == pytest.approx(0.05, rel=0.15)


def test_an_error_correlated_with_the_task_changes_t_more_than_white_errors(
    design: Design,
) -> None:
    """White errors of a tenth of the noise change t by .1; errors correlated with the task change
    t much more.
    """
    series = simulated_series(design, effect=0.0)
    task = design.matrix[:, :1]
    changes = t_change(pairs(series, series + 0.1 * task / task.std()), design, {"a": {"a": 1.0}})
    assert changes["a"] > 0.5


def test_t_is_unchanged_for_equal_or_shifted_series(design: Design) -> None:
    series = simulated_series(design)
    assert set(t_change(pairs(series, series), design, CONTRASTS).values()) == {0}
    shifted = t_change(pairs(series, series + 3.0), design, CONTRASTS)
    assert max(shifted.values()) < 1e-3


def test_constant_voxels_have_t_0_and_wrong_lengths_are_rejected(design: Design) -> None:
    flat = np.full((N, 3), 7.0)
    assert set(t_change(pairs(flat, flat), design, CONTRASTS).values()) == {0}
    for rows in (N - 1, N + 1, 0):
        short_or_long = np.zeros((rows, 3))
        with pytest.raises(ValueError, match=rf"number of volumes \({rows}\) .* \({N}\)"):
            t_change(pairs(short_or_long, short_or_long), design, CONTRASTS)
