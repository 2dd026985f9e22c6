"""Every step of a graph declares what was measured of it, and preflight knows the largest without
the graph.
"""

from pathlib import Path

import pytest
from bidsmaker import BidsMaker
from graphmaker import planned_graph

from bids_sr.config.groups.superres import SuperRes
from bids_sr.config.memory import Need, Sizes, held_of_calibrated, step_gb
from bids_sr.steps.memory import (
    EFFECTS,
    LARGEST,
    RESOLVE,
    SEGMENT,
    SERIES,
    TRAIN_ON_VOLUMES,
    largest_gb,
)


@pytest.mark.parametrize(
    "options",
    [
        ("--null-checks", "--roi-grow", "--output-spaces", "MNI152NLin2009aSym"),
        ("--sr-method", "tv", "sbl", "--n-ensemble", "2", "--retrospective"),
        ("--sr-method", "bspline"),
    ],
)
def test_no_step_of_a_graph_is_above_the_largest(tmp_path: Path, options: tuple[str, ...]) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    graph = planned_graph(maker, tmp_path, *options)
    learned = 4.0 if "tv" in options else 0.0
    for sizes in (
        Sizes(t1w=1.0, low=0.02, high=0.1, learned=learned),
        Sizes(t1w=8.0, low=0.1, high=2, learned=learned),
    ):
        most = max(step_gb(placed.step.memory, sizes) for placed in graph.nodes)
        assert 0.5 < most <= largest_gb(sizes)


def test_larger_grids_need_more_and_those_that_are_not_there_do_not_count() -> None:
    small, large = Sizes(t1w=1.0, low=0.02, high=0.1), Sizes(t1w=8.0, low=0.12, high=0.5)
    for need in LARGEST:
        assert step_gb(need, small) <= step_gb(need, large)
    assert step_gb(SEGMENT, large) > step_gb(SEGMENT, small) + 0.1
    assert step_gb(Need(), large) == step_gb(Need(), Sizes(high=0.5))
    assert largest_gb(Sizes(high=0.5)) < largest_gb(large), (
        "without a T1w image its steps do not count"
    )
    assert largest_gb(large) < largest_gb(Sizes(t1w=8.0, low=0.12, high=0.5, learned=4.0)), (
        "only where there are such"
    )
    assert Need(always=0.1, high=0.0).gigabytes(large) > 0.1


def test_a_measured_reference_counts_where_effects_are_compared() -> None:
    alone, known = Sizes(high=1.0), Sizes(high=1.0, measured=1.0)
    assert step_gb(EFFECTS, known) > step_gb(EFFECTS, alone) + 0.8
    assert largest_gb(known) == step_gb(EFFECTS, known)


def test_the_patterns_of_a_calibrated_run_are_held() -> None:
    small, large = (Sizes(high=n, calibrated=held_of_calibrated(n)) for n in (0.5, 1.0))
    added = [
        step_gb(RESOLVE, each) - step_gb(RESOLVE, Sizes(high=each.high)) for each in (small, large)
    ]
    assert 0.3 < added[0] < added[1] < 0.5


def test_dense_networks_of_the_paper_count_where_they_are_trained_and_applied() -> None:
    plain, dense = Sizes(high=0.2), Sizes(high=0.2, dense=0.2)
    assert step_gb(TRAIN_ON_VOLUMES, dense) > step_gb(TRAIN_ON_VOLUMES, plain) + 2.8
    assert step_gb(SERIES, dense) > step_gb(SERIES, plain) + 0.3
    large = [Sizes(high=n, dense=n) for n in (1.0, 2.0)]
    parts = [step_gb(SERIES, each) - step_gb(SERIES, Sizes(high=each.high)) for each in large]
    assert parts[0] == pytest.approx(parts[1]), "larger volumes go through it in parts"
    assert SuperRes(methods=("tv",), recipe="paper").dense
    assert not SuperRes(methods=("tv",)).dense
    assert not SuperRes(methods=("srgan",), recipe="paper").dense
