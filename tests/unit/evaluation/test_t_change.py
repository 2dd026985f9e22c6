"""Change of t by a disturbance of the series: against least squares of statsmodels, and closed
forms.
"""

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
    return build_design(EVENTS, n_volumes=N, tr=2.0, high_pass=1 / 128)


def courses(design: Design, seed: int = 0, effect: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (
        800
        + effect * design.matrix[:, :1] * np.linspace(0, 4, VOXELS)
        + rng.normal(size=(N, VOXELS))
    )


def pairs(one: np.ndarray, other: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    yield from zip(one.astype(np.float32), other.astype(np.float32), strict=True)


def by_statsmodels(design: Design, y: np.ndarray, vector: np.ndarray) -> np.ndarray:
    from statsmodels.regression.linear_model import OLS

    return np.array(
        [OLS(column, design.matrix).fit().t_test(vector).tvalue.item() for column in y.T]
    )


def test_the_change_is_that_of_least_squares(design: Design) -> None:
    one = courses(design).astype(np.float32)
    other = one + np.random.default_rng(1).normal(0, 0.3, one.shape).astype(np.float32)
    found = t_change(pairs(one, other), design, CONTRASTS)
    for name, weights in (("a", [1.0, 0.0]), ("aMinusB", [1.0, -1.0])):
        vector = np.zeros(design.matrix.shape[1])
        vector[:2] = weights
        few = slice(0, 60)
        expected = by_statsmodels(design, other[:, few], vector) - by_statsmodels(
            design, one[:, few], vector
        )
        some = t_change(pairs(one[:, few], other[:, few]), design, {name: CONTRASTS[name]})
        assert some[name] == pytest.approx(np.sqrt(np.mean(expected**2)), rel=1e-3)
    assert list(found) == list(CONTRASTS)


def test_white_rounding_changes_t_by_its_share_of_the_noise(design: Design) -> None:
    one = courses(design, effect=0.0)
    other = one + np.random.default_rng(1).normal(0, 0.05, one.shape)
    found = t_change(pairs(one, other), design, {"a": {"a": 1.0}})
    assert found["a"] == pytest.approx(0.05, rel=0.15)


def test_an_error_that_follows_the_task_counts_in_full(design: Design) -> None:
    """A tenth of the noise in white errors moves t by .1; in errors that follow the task by much
    more.
    """
    one = courses(design, effect=0.0)
    task = design.matrix[:, :1]
    found = t_change(pairs(one, one + 0.1 * task / task.std()), design, {"a": {"a": 1.0}})
    assert found["a"] > 0.5


def test_the_same_series_or_another_level_passes(design: Design) -> None:
    one = courses(design)
    assert set(t_change(pairs(one, one), design, CONTRASTS).values()) == {0}
    shifted = t_change(pairs(one, one + 3.0), design, CONTRASTS)
    assert max(shifted.values()) < 1e-3


def test_a_constant_voxel_has_t_of_zero_and_wrong_lengths_are_refused(design: Design) -> None:
    flat = np.full((N, 3), 7.0)
    assert set(t_change(pairs(flat, flat), design, CONTRASTS).values()) == {0}
    for rows in (N - 1, N + 1, 0):
        wrong = np.zeros((rows, 3))
        with pytest.raises(ValueError, match=rf"number of volumes \({rows}\) .* \({N}\)"):
            t_change(pairs(wrong, wrong), design, CONTRASTS)
