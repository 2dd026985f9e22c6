"""Test the number of blocks that a contrast needs for its detail to be recovered."""

import math
from dataclasses import replace

import pytest

from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.detail_support import MIN_FINENESS, classify_detail
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.evaluation.missing_blocks import iterate_block_counts
from bids_sr.evaluation.needed_blocks import (
    ASSUMED_UPPER_HALF,
    ASSUMED_VARIANCE,
    MAX_RATIO,
    estimate_needed_blocks,
)
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.support_table import tabulate_support
from bids_sr.evaluation.tested_detail import FINENESS, HALF_RESOLUTION, UPPER_HALF


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
    return estimate_needed_blocks(rows, classify_detail(rows, "sbl")["face"], "sbl")


@pytest.mark.parametrize(
    ("changes", "width"),
    [
        # half-width of the interval / distance of the assumed value to the limit
        ({"upper": (0.1, 0.4)}, 0.4 / ASSUMED_UPPER_HALF),
        ({"upper": (0.1, 0.6)}, 0.6 / ASSUMED_UPPER_HALF),
        ({"upper": (0.1, 0.4), "blocks": 8}, 0.4 / ASSUMED_UPPER_HALF),
        ({"ev": (0.2, 1.2)}, 1.2 / ASSUMED_VARIANCE),
        # the fineness is that of the run
        ({"fineness": (0.7, 1.1)}, 1.1 / (0.7 - MIN_FINENESS)),
        ({"fineness": (1.0, 1.5)}, 1.5 / (1.0 - MIN_FINENESS)),
        # a precise run with a low value has enough blocks
        ({"ev": (0.11, 0.15), "upper": (0.1, 0.11), "blocks": 12}, 0.55),
    ],
)
def test_intervals_around_assumed_values_exclude_the_limits(changes, width):
    changes = {"fineness": (0.7, 0.2)} | changes
    found = estimate(**changes)
    assert found.present == changes.get("blocks", 4), "the condition with fewest blocks"
    # half-widths fall with the power .75 of the number of blocks
    assert found.needed / found.present == pytest.approx(width ** (4 / 3), abs=0.25)
    assert found.reason == ""


def test_recovered_detail_and_runs_without_counts_need_no_number():
    assert estimate(ev=(0.5, 0.2), upper=(0.4, 0.2), fineness=(0.8, 0.2)) is None
    rows = [row for row in rows_of() if row.statistic != "blocks"]
    assert estimate_needed_blocks(rows, classify_detail(rows, "sbl")["face"], "sbl") is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"voxels": 35.0}, Statement.FEW_VOXELS.short),
        ({"ev": (math.nan, math.nan)}, Statement.NOTHING_TO_RECOVER.short),
        ({"ev": (-0.5, 0.2)}, Statement.NO_GAIN.short),
        ({"ev": (0.2, MAX_RATIO * ASSUMED_VARIANCE)}, Statement.NOISY_RUN),
        ({"upper": (math.nan, math.nan)}, Statement.NOISY_RUN),
        ({"fineness": (0.3, 0.2)}, Statement.NOISY_RUN),
    ],
)
def test_the_reason_is_stated_if_no_number_helps(changes, reason):
    found = estimate(**changes)
    assert found.needed is None
    assert found.reason == reason
    assert 0 < len(reason.split()) <= 6


def test_the_table_of_python_contains_the_numbers():
    def tabulate(**changes):
        table = tabulate_support(rows_of(**changes), {"sbl": ""}, ["face"])
        return {tuple(row) for row in table[["blocks", "needed_blocks"]].fillna(-1).to_numpy()}

    assert tabulate() == {(4, estimate().needed)}
    assert tabulate(voxels=35.0) == {(4, -1)}
    assert tabulate(ev=(0.5, 0.2), upper=(0.4, 0.2), fineness=(0.8, 0.2)) == {(-1, -1)}
