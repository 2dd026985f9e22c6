"""Test memory requirements: every step declares its memory, and preflight knows the largest value
without the graph.
"""

from pathlib import Path

import pytest
from data.dataset import BidsMaker
from graphmaker import planned_graph

from bids_sr.config.sections.superres import SuperRes
from bids_sr.engine.memory import Need, Sizes, count_calibration_millions, step_gb
from bids_sr.engine.step_memory import (
    EFFECTS,
    LARGEST_NEEDS,
    SEGMENT,
    SERIES,
    SUPER_RESOLVE,
    TRAIN_ON_VOLUMES,
    find_largest_gb,
)


@pytest.mark.parametrize(
    "options",
    [
        ("--set", "evaluation.roi_grow=true", "--output-spaces", "MNI152NLin2009aSym"),
        ("--sr-method", "tv", "sbl", "--retrospective"),
        ("--sr-method", "bspline"),
    ],
)
def test_no_step_of_a_graph_exceeds_the_largest_requirement(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    graph = planned_graph(maker, tmp_path, *options)
    learned = 4.0 if "tv" in options else 0.0
    for sizes in (
        Sizes(t1w=1.0, low=0.02, high=0.1, learned=learned),
        Sizes(t1w=8.0, low=0.1, high=2, learned=learned),
    ):
        largest_step = max(step_gb(node.step.memory, sizes) for node in graph.nodes)
        assert 0.5 < largest_step <= find_largest_gb(sizes)


def test_larger_grids_need_more_memory_and_missing_images_do_not_count() -> None:
    small_sizes, large_sizes = (
        Sizes(t1w=1.0, low=0.02, high=0.1),
        Sizes(t1w=8.0, low=0.12, high=0.5),
    )
    for need in LARGEST_NEEDS:
        assert step_gb(need, small_sizes) <= step_gb(need, large_sizes)
    assert step_gb(SEGMENT, large_sizes) > step_gb(SEGMENT, small_sizes) + 0.1
    assert step_gb(Need(), large_sizes) == step_gb(Need(), Sizes(high=0.5))
    assert find_largest_gb(Sizes(high=0.5)) < find_largest_gb(large_sizes), (
        "without a T1w image its steps do not count"
    )
    assert find_largest_gb(large_sizes) < find_largest_gb(
        Sizes(t1w=8.0, low=0.12, high=0.5, learned=4.0)
    ), "only where there are such"
    assert Need(always=0.1, high=0.0).gigabytes(large_sizes) > 0.1


def test_a_measured_reference_counts_in_the_comparison_of_effects() -> None:
    without_reference, with_reference = Sizes(high=1.0), Sizes(high=1.0, measured=1.0)
    assert step_gb(EFFECTS, with_reference) > step_gb(EFFECTS, without_reference) + 0.8
    assert find_largest_gb(with_reference) == step_gb(EFFECTS, with_reference)


def test_patterns_of_a_calibrated_run_are_counted() -> None:
    small, large = (Sizes(high=n, calibrated=count_calibration_millions(n)) for n in (0.5, 1.0))
    additional = [
        step_gb(SUPER_RESOLVE, sizes) - step_gb(SUPER_RESOLVE, Sizes(high=sizes.high))
        for sizes in (small, large)
    ]
    assert 0.3 < additional[0] < additional[1] < 0.5


def test_dense_networks_count_in_training_and_inference() -> None:
    without_network, dense = Sizes(high=0.2), Sizes(high=0.2, dense=0.2)
    assert step_gb(TRAIN_ON_VOLUMES, dense) > step_gb(TRAIN_ON_VOLUMES, without_network) + 2.8
    assert step_gb(SERIES, dense) > step_gb(SERIES, without_network) + 0.3
    large = [Sizes(high=n, dense=n) for n in (1.0, 2.0)]
    parts = [step_gb(SERIES, sizes) - step_gb(SERIES, Sizes(high=sizes.high)) for sizes in large]
    assert parts[0] == pytest.approx(parts[1]), "larger volumes go through it in parts"
    assert SuperRes(method=("tv",), recipe="paper").dense
    assert not SuperRes(method=("tv",)).dense
    assert not SuperRes(method=("srgan",), recipe="paper").dense
