"""Test the comparison of runs before they are combined."""

import logging

import numpy as np
import pytest
from scipy import ndimage

from bids_sr.engine.artifacts import Derivative
from bids_sr.group.combination.steps.sibling_runs import check_runs, compare_with_first_run
from bids_sr.io.volume import Volume

SHAPE, AFFINE = (24, 24, 10), np.diag([3.0, 3.0, 4.0, 1.0])
AFFINE[:3, 3] = (-34.5, -34.5, -18.0)
MASK = np.zeros(SHAPE, bool)
MASK[3:-3, 3:-3, 1:-1] = True


def head(seed=0):
    cortex = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 1.0)
    return np.where(MASK, 600 * (1 + 0.2 * cortex / cortex.std()), 10.0).astype(np.float32)


def effect(seed, factor):
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), 2.0)
    true = 10 * np.where(smooth > smooth.std(), smooth / smooth.std(), 0)
    return factor * true + np.random.default_rng(seed).normal(size=SHAPE)


def acquired_maps(factors):
    """Return effects and variances of runs, whose true effects differ by factors."""
    maps = []
    for seed, (run, factor) in enumerate(factors.items(), 1):
        values = {"effect": effect(seed, factor), "variance": np.ones(SHAPE)}
        for stat, data in values.items():
            labels = {"space": "firstBoldref", "contrast": "tap", "stat": stat}
            entities = {**labels, "suffix": "statmap"}
            sidecar = {"Run": run, "SmoothingFWHM": 0.0, "ContrastWeights": {"tap": 1.0}}
            inside = np.where(MASK, data, 0).astype(np.float32)
            maps.append(Derivative(Volume(inside, AFFINE), entities, sidecar))
    return maps


def check(factors, heads=None, mirrored=(), *, combine_all=False, unusual_runs=None):
    first, *further = factors
    heads = heads or {}
    facts = check_runs(
        acquired_maps(factors),
        {name: Volume(heads.get(name, head()), AFFINE) for name in further},
        {name: {"Mirrored": name in mirrored, "SignalRatio": 1.0} for name in further},
        Volume(heads.get(first, head()), AFFINE),
        Volume(MASK, AFFINE),
        first=first,
        combine_all=combine_all,
        unusual_runs=unusual_runs or {},
    )
    return facts["LeftOut"], facts["Disagreeing"], facts["Pairs"]


@pytest.mark.parametrize(
    ("factors", "combine_all", "left_out", "disagreeing"),
    [
        ((1.0, 0.8, 1.2), False, [], []),
        ((1.0, -0.8, 1.0), False, ["run-2"], []),
        ((-1.0, 1.0, 1.0), False, ["run-1"], []),
        ((1.0, -1.0), False, [], ["run-1", "run-2"]),  # neither of two runs
        ((1.0, -0.8, 1.0), True, [], ["run-2"]),
    ],
)
def test_a_run_with_a_wrong_log_is_left_out_or_named(
    caplog, factors, combine_all, left_out, disagreeing
):
    runs = {f"run-{number}": factor for number, factor in enumerate(factors, 1)}
    found_left_out, found_disagreeing, pairs = check(runs, combine_all=combine_all)
    assert (list(found_left_out), list(found_disagreeing)) == (left_out, disagreeing)
    assert len(pairs) == len(runs) * (len(runs) - 1) / 2
    reasons = {**found_left_out, **found_disagreeing}
    assert all("tap" in reason and "r -" in reason for reason in reasons.values())
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == len(reasons)
    assert all(name in caplog.text for name in left_out)
    assert ("activation.combine_all_runs=true" in caplog.text) == bool(left_out)


def test_a_run_that_was_acquired_otherwise_counts_as_disagreeing():
    runs = {"run-1": 1.0, "run-2": 1.0, "run-3": 1.0}
    reasons = {"run-2": "EchoTime 40 ms"}
    left_out, disagreeing, _ = check(runs, combine_all=True, unusual_runs=reasons)
    assert (left_out, disagreeing) == ({}, reasons)


@pytest.mark.parametrize("mirrored", [True, False])
def test_another_head_is_left_out_although_the_effects_agree(mirrored):
    heads = {"run-2": head()[::-1] if mirrored else head(7)}
    factors = {"run-1": 1.0, "run-2": 1.0, "run-3": 1.0}
    left_out, _, _ = check(factors, heads, ["run-2"] if mirrored else [])
    assert list(left_out) == ["run-2"]
    assert ("swapped" if mirrored else "different heads") in left_out["run-2"]


@pytest.mark.parametrize(
    ("gain", "over_sessions", "noted"), [(3, False, 1), (1, False, 0), (3, True, 0)]
)
def test_another_scale_is_measured_and_noted(caplog, gain, over_sessions, noted):
    framed, facts = compare_with_first_run(
        Volume(gain * head(), AFFINE),
        Volume(head(), AFFINE),
        Volume(MASK, AFFINE),
        np.eye(4)[None],
        run="run-2",
        first="run-1",
        over_sessions=over_sessions,
    )
    assert facts == {
        "SignalRatio": pytest.approx(gain),
        "FirstMeanSignal": pytest.approx(head()[MASK].mean()),
        "Mirrored": False,
    }
    assert len(caplog.records) == noted
    np.testing.assert_allclose(framed.data[MASK], gain * head()[MASK], rtol=1e-5)
