"""Test the number of blocks that a contrast needs for its detail to be recovered."""

import math
from dataclasses import replace

import pytest

from bids_sr.evaluation.detail_support import classify_detail
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.evaluation.missing_blocks import iterate_block_counts
from bids_sr.evaluation.needed_blocks import MAX_RATIO, estimate_needed_blocks
from bids_sr.evaluation.tested_detail import FINENESS, HALF_RESOLUTION, UPPER_HALF
from bids_sr.metrics.rows import MetricRow


def rows_of(ev=(0.2, 0.5), upper=(0.1, 0.4), fineness=(0.7, 0.8), *, voxels=200.0, blocks=4):
    """Return rows of a contrast with values and half-widths of their intervals."""
    row = MetricRow(
        series="sbl",
        statistic="voxels",
        value=voxels,
        contrast="face",
        region=ACQUIRED_ACTIVE,
        reference=HALF_RESOLUTION,
        n=16,
    )
    values = {"ev": ev, UPPER_HALF: upper, FINENESS: fineness}
    rows = [
        replace(row, statistic=name, value=value, lower=value - half, upper=value + half)
        for name, (value, half) in values.items()
    ]
    counts = {"face": blocks, "house": blocks + 3}
    return [*rows, row, *iterate_block_counts("sbl", counts, {"face": {"face": 1, "house": -1}})]


def estimate(**changes):
    rows = rows_of(**changes)
    return estimate_needed_blocks(rows, "sbl", classify_detail(rows, "sbl")["face"])


def test_less_precise_runs_need_more_blocks():
    found = estimate()
    assert found.present == 4, "the condition with fewest blocks"
    assert 4 < found.needed < 40
    assert estimate(ev=(0.2, 0.9), upper=(0.1, 0.8)).needed > found.needed
    assert estimate(fineness=(0.7, 1.5)).needed > found.needed
    # the same intervals from twice as many blocks need twice as many
    assert estimate(blocks=8).needed == pytest.approx(2 * found.needed, abs=1)
    assert f" {found.needed} " in found.text
    assert " 4 " in found.text


def test_recovered_detail_and_runs_without_counts_need_no_number():
    assert estimate(ev=(0.5, 0.2), upper=(0.4, 0.2), fineness=(0.8, 0.2)) is None
    rows = [row for row in rows_of() if row.statistic != "blocks"]
    assert estimate_needed_blocks(rows, "sbl", classify_detail(rows, "sbl")["face"]) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"voxels": 35.0}, "only 35 active voxels at half the resolution (at least 50"),
        ({"ev": (math.nan, math.nan)}, "no reproducible detail"),
        ({"ev": (-0.5, 0.2)}, "evidence against"),
        ({"ev": (0.2, 6.0)}, f"more than {MAX_RATIO} times"),
    ],
)
def test_the_reason_is_stated_if_no_number_helps(changes, reason):
    found = estimate(**changes)
    assert found.needed is None
    assert reason in found.reason
    assert reason in found.text


def test_a_precise_run_has_enough_blocks_although_its_value_is_low():
    found = estimate(ev=(0.11, 0.15), upper=(0.1, 0.11), fineness=(0.7, 0.2), blocks=12)
    assert found.needed <= found.present
    assert "enough" in found.text
