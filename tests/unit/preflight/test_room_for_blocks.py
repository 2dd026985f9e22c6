"""Runs with almost as many blocks as volumes: blocks are joined, or split halves are skipped."""

from pathlib import Path

import pytest
from bidsmaker import BidsMaker
from fmriprepmaker import planned

N_TYPES_JOINED, N_TYPES_TOO_MANY = 2, 9


@pytest.mark.parametrize(
    ("n_types", "outcome", "split"),
    [
        (N_TYPES_JOINED, "split halves are made of groups of consecutive blocks", True),
        (N_TYPES_TOO_MANY, "the evaluation skips split halves", False),
    ],
)
def test_dense_events_are_reported_before_the_run(
    tmp_path: Path, n_types: int, outcome: str, split: bool
) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()  # 30 volumes of 1 s
    maker.events(rows=[(1 + 1.2 * k, 0.5, f"type{k % n_types}") for k in range(18)])
    plan = planned(maker, "--sr-method", "bspline")
    (said,) = [notice.why for notice in plan.warnings if "can tell apart" in notice.why]
    assert said.startswith("18 blocks are more than 30 volumes can tell apart")
    assert outcome in said
    assert (plan.unsplit == frozenset()) is split


def test_few_blocks_are_not_reported(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    plan = planned(maker, "--sr-method", "bspline")
    assert not [notice for notice in plan.warnings if "can tell apart" in notice.why]
