"""Information of a model about its trial types agrees with least squares, and names bad types."""

import numpy as np
import pytest
from data.events import make_events

from bids_sr.glm.design import Design, build_design
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.glm.type_information import TypeInformation, measure_information

BLOCKS = [
    (6.0, 14.0, "thumb"),
    (34.0, 14.0, "little"),
    (62.0, 14.0, "thumb"),
    (90.0, 14.0, "little"),
]
N_VOLUMES, TR = 60, 2.0


def model(events: list[tuple[float, float, str]]) -> tuple[Design, TypeInformation]:
    table = make_events(events)
    long = table.responses(np.arange(-20, N_VOLUMES + 20) * TR + TR / 2, HemodynamicResponse())
    outside = {name: float((c[:20] ** 2).sum() + (c[-20:] ** 2).sum()) for name, c in long.items()}
    design = build_design(table, n_volumes=N_VOLUMES, tr=TR, confound_names=())
    return design, measure_information(design.matrix, design.conditions, outside)


@pytest.mark.parametrize(
    "weights",
    [{"thumb": 1.0}, {"thumb": 0.5, "little": 0.5}, {"thumb": 1.0, "little": -1.0}],
)
def test_variances_are_those_of_least_squares(weights: dict[str, float]) -> None:
    design, information = model([*BLOCKS, (70.0, 8.0, "other")])
    vector = np.array([weights.get(name, 0.0) for name in design.columns])
    expected = vector @ np.linalg.inv(design.matrix.T @ design.matrix) @ vector
    assert information.variance(weights) == pytest.approx(expected, rel=1e-6)


def test_contrasts_of_types_at_the_same_moments() -> None:
    same = [(onset, duration, name) for onset, duration, _ in BLOCKS for name in ("cue", "target")]
    _, information = model(same)
    assert information.variance({"cue": 1.0}) == np.inf
    assert information.variance({"cue": 1.0, "target": -1.0}) == np.inf
    _, joined = model([(onset, duration, "one") for onset, duration, _ in BLOCKS])
    mean = information.variance({"cue": 0.5, "target": 0.5})
    assert mean == pytest.approx(joined.variance({"one": 0.5}), rel=1e-6)


def test_a_difference_can_be_estimated_beside_nearly_the_sum_of_its_types() -> None:
    _, information = model(
        BLOCKS + [(onset + 0.1, duration, "both") for onset, duration, _ in BLOCKS]
    )
    assert information.inflation({"thumb": 1.0, "little": -1.0}) < 2
    assert information.inflation({"thumb": 1.0}) > 100
    assert information.dominating_types(["thumb", "little", "both"]) == {}


@pytest.mark.parametrize(
    ("event", "share", "ratio"),
    [
        ((117.0, 2.0, "odd"), (0, 0.002), 68),
        ((116.0, 2.0, "odd"), (0.01, 0.05), 14.1),
        ((115.0, 2.0, "odd"), (0.1, 0.3), 5.9),
        ((-30.0, 300.0, "odd"), (0, 1e-6), None),
        ((0.0, 120.0, "odd"), (0, 0.06), None),
        ((80.0, 2.0, "odd"), (0.7, 1), 2.6),
    ],
)
def test_shares_and_effects_on_the_mean(
    event: tuple[float, float, str], share: tuple[float, float], ratio: float | None
) -> None:
    """Ratios of standard errors of the mean over three types and the mean over two types."""
    _, information = model([*BLOCKS, event])
    shares = information.shares()
    assert share[0] <= shares["odd"] <= share[1]
    assert 0.4 < shares["thumb"] < 1
    assert ("odd" in information.faint_types()) == (share[1] < 0.1)
    dominating = information.dominating_types(["thumb", "little", "odd"])
    if ratio is not None:
        assert dominating == {"odd": pytest.approx(ratio, rel=0.05)}
    elif share[0] > 0.1:
        assert dominating == {}
