"""Effects of a contrast in both halves of a run and in the whole run, and names of contrasts."""

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from data.block_effects import make_blocks
from data.events import make_events

from bids_sr.glm.blocks import block_design
from bids_sr.glm.contrasts import resolve_contrasts
from bids_sr.glm.halves import (
    SplitContrast,
    average_splits,
    balance_splits,
    half_weights,
    missing_conditions,
    run_weights,
    select_split_conditions,
    split_contrasts,
)

N, TR = 120, 2.0


def alternating(count):
    rows = [(10.0 + 36 * k, 16.0, ("thumb", "little")[k % 2]) for k in range(count)]
    return make_events(rows)


def test_a_half_averages_blocks_before_the_contrast_is_computed():
    blocks = make_blocks("ababaa")
    halves = half_weights(blocks, {"a": 2.0, "b": -2.0})
    # the third block of condition a is in half 0 again
    np.testing.assert_allclose(halves[0], [1, -2, 0, 0, 1, 0])
    np.testing.assert_allclose(halves[1], [0, 0, 1, -2, 0, 1])


def iterate_splits(conditions, weights):
    """Yield the weights of the blocks in both halves of each balanced split, in both orders."""
    choices = []
    for name in weights:
        indices = [index for index, condition in enumerate(conditions) if condition == name]
        sizes = {len(indices) // 2, len(indices) - len(indices) // 2}
        choices.append([half for size in sizes for half in combinations(indices, size)])
    for halves in product(*choices):
        first, second = np.zeros((2, len(conditions)))
        for (name, weight), half in zip(weights.items(), halves, strict=True):
            others = [
                index
                for index, condition in enumerate(conditions)
                if condition == name and index not in half
            ]
            first[list(half)] = weight / len(half)
            second[others] = weight / len(others)
        yield first, second


@pytest.mark.parametrize(
    ("conditions", "weights"),
    [
        ("aa", {"a": 1.0}),
        ("aaaaa", {"a": 1.0}),
        ("abaab", {"a": 1.0, "b": -1.0}),
        ("abcabcaa", {"a": 0.5, "b": 0.5, "c": -1.0}),
    ],
)
def test_products_of_halves_are_averaged_over_all_balanced_splits(conditions, weights):
    estimates, targets = np.random.default_rng(0).normal(size=(2, len(conditions)))
    splits = average_splits(make_blocks(conditions), weights)
    between, within = zip(
        *(
            ((first @ estimates) * (second @ targets), (first @ estimates) ** 2)
            for first, second in iterate_splits(conditions, weights)
        ),
        strict=True,
    )
    assert estimates @ splits.between @ targets == pytest.approx(np.mean(between))
    assert estimates @ splits.within @ estimates == pytest.approx(np.mean(within))


def test_splits_without_a_block_leave_one_block_of_a_condition_out():
    blocks = make_blocks("aabaab")
    splits = balance_splits(blocks, {"a": 1.0, "b": -1.0})
    (without_a,) = splits.shorter  # two blocks of condition b are a single split
    assert len(without_a) == 4
    effects = np.arange(6.0)
    for index, shorter in zip([0, 1, 3, 4], without_a, strict=True):
        remaining = [k for k in range(6) if k != index]
        expected = average_splits(make_blocks("aabaab"[k] for k in remaining), {"a": 1, "b": -1})
        value = effects[remaining] @ expected.between @ effects[remaining]
        assert effects @ shorter.between @ effects == pytest.approx(value)
    assert average_splits(make_blocks("aab"), {"a": 1.0, "b": -1.0}) is None
    assert balance_splits(make_blocks("ab"), {"a": 1.0}) is None


def test_a_contrast_that_cannot_be_estimated_has_no_halves():
    confounds = pd.DataFrame({"copy": np.zeros(N)})
    reference_design = block_design(alternating(4), n_volumes=N, tr=TR, confound_names=())
    confounds["copy"] = reference_design.matrix[:, 0]
    design = block_design(
        alternating(4), n_volumes=N, tr=TR, confounds=confounds, confound_names=("copy",)
    )
    assert half_weights(design.blocks, {"little": 1.0}, design.leak) is not None
    assert half_weights(design.blocks, {"thumb": 1.0}, design.leak) is None
    assert average_splits(design.blocks, {"little": 1.0}, design.leak) is not None
    assert average_splits(design.blocks, {"thumb": 1.0}, design.leak) is None


def test_a_contrast_with_a_condition_of_one_block_has_no_halves_but_an_effect_of_the_run():
    blocks = make_blocks("ababc")
    weights = {"a": 1.0, "b": 1.0, "c": 1.0}
    assert missing_conditions(blocks, weights) == ["c"]
    assert half_weights(blocks, weights) is None
    assert half_weights(blocks, {"a": 1.0, "c": -1.0}) is None
    np.testing.assert_allclose(run_weights(blocks, weights), [1 / 2] * 4 + [1])
    np.testing.assert_allclose(run_weights(blocks, {"a": 1.0, "c": -1.0}), [0.5, 0, 0.5, 0, -1])
    assert run_weights(blocks, {"a": 1.0, "d": 1.0}) is None
    # the effect of a run is the mean over blocks, and not over halves
    blocks = make_blocks("aaa")
    np.testing.assert_allclose(run_weights(blocks, {"a": 1.0}), [1 / 3] * 3)
    np.testing.assert_allclose(half_weights(blocks, {"a": 1.0}).mean(axis=0), [0.25, 0.5, 0.25])


def test_contrasts_that_lose_a_condition_are_split_under_the_name_of_the_remaining_conditions():
    blocks = make_blocks(["body", "face", "house", "scene", "body", "house", "scene"])
    contrasts = resolve_contrasts(["body", "face", "house", "scene"])
    split = split_contrasts(blocks, contrasts)
    assert list(split) == [
        "body",
        "house",
        "scene",
        "allWithoutFace",
        "bodyMinusOthersWithoutFace",
        "houseMinusOthersWithoutFace",
        "sceneMinusOthersWithoutFace",
    ]
    assert split["body"] == SplitContrast(weights={"body": 1.0}, origin="body")
    assert split["allWithoutFace"].origin == "all"
    third = pytest.approx(1 / 3)
    assert split["allWithoutFace"].weights == {"body": third, "house": third, "scene": third}
    body = split["bodyMinusOthersWithoutFace"]
    assert body.weights == pytest.approx({"body": 1.0, "house": -0.5, "scene": -0.5})
    for contrast in split.values():
        halves = half_weights(blocks, contrast.weights)
        mean = run_weights(blocks, contrast.weights)
        np.testing.assert_allclose(halves.mean(axis=0), mean, atol=1e-12)


def test_remaining_conditions_that_are_another_contrast_are_not_repeated():
    blocks = make_blocks(["body", "face", "scramble", "scramble"])
    contrasts = resolve_contrasts(["body", "face", "scramble"])
    assert list(split_contrasts(blocks, contrasts)) == ["scramble"]
    assert select_split_conditions(blocks, contrasts["bodyMinusScramble"]) == {}
    blocks = make_blocks("ababc")
    same = {"first": {"a": 1.0, "b": 1.0, "c": 1.0}, "second": {"a": 1.25, "b": 1.25, "c": 0.5}}
    assert list(split_contrasts(blocks, same)) == ["firstWithoutC"]
