"""Test the agreement of runs: noise never makes a run disagree, a wrong effect does."""

import numpy as np
import pytest
from scipy import ndimage

from bids_sr.group.combination.run_agreement import compare_effects, find_agreeing_runs

SHAPE = (20, 20, 12)


def signal(seed=0):
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 2.0)
    return 10 * np.where(smooth > smooth.std(), smooth / smooth.std(), 0)


def run(effect, seed, sd=1.0):
    """Return an effect with smooth noise, and its variance."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 0.8)
    return effect + sd * noise / noise.std(), np.full(SHAPE, sd**2)


def compare(effect, *, sd=1.0, seed=1, is_difference=False):
    agreement = compare_effects(
        *run(effect, seed, sd), *run(signal(), 99), is_difference=is_difference
    )
    assert agreement is not None
    return agreement


def test_equal_effects_have_a_slope_of_1_within_the_standard_error():
    deviations = []
    for seed in range(40):
        agreement = compare(signal(), seed=seed, sd=5.0)
        deviations.append((agreement.slope - 1) / agreement.error)
        assert not agreement.disagrees
    # selection in the other run makes its effect slightly too large
    assert -0.5 < np.mean(deviations) < 0.2
    assert 0.4 < np.std(deviations) < 1.2


@pytest.mark.parametrize(
    ("factor", "is_difference", "disagrees"),
    [
        pytest.param(-0.8, False, True, id="reversed"),
        pytest.param(0.0, False, True, id="no effect"),
        pytest.param(0.4, False, False, id="weak"),
        pytest.param(-0.9, True, True, id="reversed difference"),
        pytest.param(0.0, True, False, id="a difference that vanishes"),
    ],
)
def test_only_effects_that_are_absent_or_reversed_disagree(factor, is_difference, disagrees):
    agreement = compare(factor * signal(), is_difference=is_difference)
    assert agreement.slope == pytest.approx(factor, abs=0.15)
    assert agreement.disagrees is disagrees


@pytest.mark.parametrize("sd", [30.0, 100.0])
def test_noise_does_not_make_a_run_disagree(sd):
    assert not any(compare(0 * signal(), sd=sd, seed=seed).disagrees for seed in range(30))


def test_runs_without_active_voxels_are_not_compared():
    inactive, variance = run(0 * signal(), 2)
    assert compare_effects(*run(signal(), 1), inactive, variance, is_difference=False) is None


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], "abcd"),
        ([("a", "b"), ("a", "c"), ("a", "d")], "bcd"),
        ([("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")], None),
        ([("a", "b")], None),
        ([("a", "b"), ("a", "c"), ("b", "c"), ("a", "d"), ("b", "d")], "cd"),
    ],
)
def test_the_largest_set_of_agreeing_runs_must_be_unique(pairs, expected):
    found = find_agreeing_runs(list("abcd"), pairs)
    assert found == (None if expected is None else list(expected))
