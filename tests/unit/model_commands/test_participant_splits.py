"""Test sets of participants: they are disjoint and not empty."""

from collections import Counter

import pytest

from bids_sr.model_commands.participant_splits import (
    ParticipantSplit,
    SplitError,
    make_folds,
    split_at_random,
    split_by_names,
)

PARTICIPANTS = [f"sub-{k:02}" for k in range(1, 8)]


@pytest.mark.parametrize(("count", "validation"), [(2, 0), (3, 2), (7, 1)])
def test_each_participant_is_tested_in_exactly_one_fold(count: int, validation: int) -> None:
    folds = make_folds(PARTICIPANTS, count, validation, seed=1)
    assert Counter(participant for fold in folds for participant in fold.test) == Counter(
        PARTICIPANTS
    )
    for fold in folds:
        assert sorted((*fold.train, *fold.validation, *fold.test)) == PARTICIPANTS
        assert len(fold.validation) == validation
    sizes = [len(fold.test) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


def test_a_random_split_has_the_requested_sizes_and_depends_on_the_seed() -> None:
    split = split_at_random(PARTICIPANTS, (4, 1, 2), seed=0)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [4, 1, 2]
    assert sorted((*split.train, *split.validation, *split.test)) == PARTICIPANTS
    assert split == split_at_random(PARTICIPANTS, (4, 1, 2), seed=0)
    assert len({split_at_random(PARTICIPANTS, (4, 1, 2), seed=seed).test for seed in range(9)}) > 1
    assert split_at_random(PARTICIPANTS, (5, 2), seed=0).validation == ()


@pytest.mark.parametrize(
    ("make_split", "why"),
    [
        (
            lambda: split_at_random(PARTICIPANTS, (6, 0, 1), 0),
            "the validation set contains no participants",
        ),
        (
            lambda: split_at_random(PARTICIPANTS, (7, 0), 0),
            "the test set contains no participants",
        ),
        (
            lambda: split_at_random(PARTICIPANTS, (4, 1, 1), 0),
            "6 participants, but there are images from 7",
        ),
        (
            lambda: split_by_names(PARTICIPANTS, ["sub-01"], ["sub-01"]),
            "in both the validation set and the test set: sub-01",
        ),
        (
            lambda: split_by_names(PARTICIPANTS, [], PARTICIPANTS),
            "the training set contains no participants",
        ),
        (lambda: split_by_names(PARTICIPANTS, [], []), "the test set contains no participants"),
        (lambda: split_by_names(PARTICIPANTS, [], ["sub-99"]), "no images .* sub-99"),
        (
            lambda: make_folds(PARTICIPANTS, 8, 0, 0),
            "8 folds cannot be formed from 7 participants",
        ),
        (lambda: make_folds(PARTICIPANTS, 7, 6, 0), "no participants remain for the training set"),
        (lambda: ParticipantSplit(train=("a",), test=("a",)), "in both the training set"),
    ],
)
def test_impossible_splits_are_rejected(make_split, why: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SplitError, match=why):
        make_split()
