"""Test sets of participants: they are disjoint and not empty."""

from collections import Counter

import pytest

from bids_sr.evaluation.statistics.participant_splits import (
    ParticipantSplit,
    make_folds,
    split_at_random,
    split_by_names,
)
from bids_sr.io.notices import InvalidInput

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


def test_sets_that_overlap_or_are_empty_are_rejected() -> None:
    """Further cases are calls of the command ``compare``."""
    with pytest.raises(InvalidInput, match="training set"):
        make_folds(PARTICIPANTS, 7, 6, 0)
    with pytest.raises(InvalidInput, match="test set"):
        split_by_names(PARTICIPANTS, [], [])
    with pytest.raises(InvalidInput, match="training set and the test set: a"):
        ParticipantSplit(train=("a",), test=("a",))
