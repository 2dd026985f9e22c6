"""Sets of participants: none is in two sets, and none is empty."""

from collections import Counter

import pytest

from bids_sr.sr.data.participant_splits import (
    ParticipantSplit,
    SplitError,
    make_folds,
    split_at_random,
    split_by_names,
)

PEOPLE = [f"sub-{k:02}" for k in range(1, 8)]


@pytest.mark.parametrize(("count", "validation"), [(2, 0), (3, 2), (7, 1)])
def test_everyone_is_tested_once_in_folds(count: int, validation: int) -> None:
    folds = make_folds(PEOPLE, count, validation, seed=1)
    assert Counter(who for fold in folds for who in fold.test) == Counter(PEOPLE)
    for fold in folds:
        assert sorted((*fold.train, *fold.validation, *fold.test)) == PEOPLE
        assert len(fold.validation) == validation
    sizes = [len(fold.test) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


def test_a_random_split_has_the_sizes_and_depends_on_the_seed() -> None:
    split = split_at_random(PEOPLE, (4, 1, 2), seed=0)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [4, 1, 2]
    assert sorted((*split.train, *split.validation, *split.test)) == PEOPLE
    assert split == split_at_random(PEOPLE, (4, 1, 2), seed=0)
    assert len({split_at_random(PEOPLE, (4, 1, 2), seed=seed).test for seed in range(9)}) > 1
    assert split_at_random(PEOPLE, (5, 2), seed=0).validation == ()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (
            lambda: split_at_random(PEOPLE, (6, 0, 1), 0),
            "the validation set contains no participants",
        ),
        (lambda: split_at_random(PEOPLE, (7, 0), 0), "the test set contains no participants"),
        (
            lambda: split_at_random(PEOPLE, (4, 1, 1), 0),
            "6 participants, but there are images from 7",
        ),
        (
            lambda: split_by_names(PEOPLE, ["sub-01"], ["sub-01"]),
            "in both the validation set and the test set: sub-01",
        ),
        (lambda: split_by_names(PEOPLE, [], PEOPLE), "the training set contains no participants"),
        (lambda: split_by_names(PEOPLE, [], []), "the test set contains no participants"),
        (lambda: split_by_names(PEOPLE, [], ["sub-99"]), "no images .* sub-99"),
        (lambda: make_folds(PEOPLE, 8, 0, 0), "8 folds cannot be formed from 7 participants"),
        (lambda: make_folds(PEOPLE, 7, 6, 0), "no participants remain for the training set"),
        (lambda: ParticipantSplit(train=("a",), test=("a",)), "in both the training set"),
    ],
)
def test_sets_that_cannot_be_made(make, why: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SplitError, match=why):
        make()
