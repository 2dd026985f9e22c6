"""Splits of participants into training, validation and test sets, and cross-validation."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from bids_sr.io.frozen import frozen
from bids_sr.io.notices import InvalidInput


@frozen
class ParticipantSplit:
    """Disjoint sets of participants for training, validation and testing.

    The validation set decides when training stops. It may be empty.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...] = ()
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        sets = {"training": self.train, "validation": self.validation, "test": self.test}
        for name in ("training", "test"):
            if not sets[name]:
                raise InvalidInput(
                    f"the {name} set contains no participants",
                    f"Assign at least 1 participant to the {name} set.",
                )
        for first, second in combinations(sets, 2):
            if overlap := sorted(set(sets[first]) & set(sets[second])):
                raise InvalidInput(
                    f"these participants are in both the {first} set and the {second} set: "
                    f"{' '.join(overlap)}",
                    "Assign each participant to only one set.",
                )


def split_at_random(
    participants: Sequence[str], sizes: Sequence[int], seed: int
) -> ParticipantSplit:
    """Split participants at random.

    `sizes` are numbers of participants in the training, validation and test sets, or in the
    training and test sets. Raises `InvalidInput` if a set is empty, or the sizes do not add up to
    the number of participants.
    """
    if min(sizes) < 1:
        set_names = ("training", "validation", "test") if len(sizes) == 3 else ("training", "test")
        empty_set = next(name for name, size in zip(set_names, sizes, strict=True) if size < 1)
        raise InvalidInput(
            f"the {empty_set} set contains no participants",
            "Assign at least 1 participant to each set.",
        )
    if sum(sizes) != len(participants):
        raise InvalidInput(
            f"the set sizes add up to {sum(sizes)} participants, but there are images from "
            f"{len(participants)} participants",
            "Specify sizes that add up to the number of participants.",
        )
    order = _shuffle(participants, seed)
    n_training, n_test = sizes[0], sizes[-1]
    return ParticipantSplit(
        train=tuple(sorted(order[:n_training])),
        validation=tuple(sorted(order[n_training:-n_test])),
        test=tuple(sorted(order[-n_test:])),
    )


def divide_in_proportion(count: int, shares: Sequence[int]) -> tuple[int, ...]:
    """Divide a number of participants into sets in proportion to `shares`.

    Every set has at least 1 participant. Raises `InvalidInput` if there are fewer participants
    than sets.

    >>> divide_in_proportion(61, (40, 11, 10)), divide_in_proportion(7, (40, 11, 10))
    ((40, 11, 10), (5, 1, 1))
    """
    if count < len(shares):
        raise InvalidInput(
            f"at least {len(shares)} participants are required, one per set, but there are"
            f" {count}",
            "Add participants.",
        )
    exact_sizes = [count * share / sum(shares) for share in shares]
    sizes = [max(1, int(size)) for size in exact_sizes]
    while sum(sizes) > count:
        sizes[sizes.index(max(sizes))] -= 1
    while sum(sizes) < count:
        rests = [exact - size for exact, size in zip(exact_sizes, sizes, strict=True)]
        sizes[rests.index(max(rests))] += 1
    return tuple(sizes)


def split_by_names(
    participants: Sequence[str], validation: Sequence[str], test: Sequence[str]
) -> ParticipantSplit:
    """Assign named participants to validation and test sets, and the rest to the training set.

    Raises `InvalidInput` if a participant is unknown or in both sets, or if the training or test
    set is empty.
    """
    if unknown_labels := sorted({*validation, *test} - set(participants)):
        raise InvalidInput(
            f"no images were found for these participants: {' '.join(unknown_labels)}",
            f"Choose from {' '.join(participants)}.",
        )
    assigned_labels = {*validation, *test}
    return ParticipantSplit(
        train=tuple(
            participant for participant in participants if participant not in assigned_labels
        ),
        validation=tuple(dict.fromkeys(validation)),
        test=tuple(dict.fromkeys(test)),
    )


def make_folds(
    participants: Sequence[str], count: int, validation: int, seed: int
) -> list[ParticipantSplit]:
    """Return cross-validation folds that test each participant exactly once.

    The sizes of the test sets differ by at most one. `count` is the number of folds, at least 2.
    `validation` is the number of validation participants per fold, chosen from participants
    outside the test set. Raises `InvalidInput` if there are more folds than participants, fewer
    than 2 folds, or no participants remain for training in a fold.
    """
    if not 2 <= count <= len(participants):
        raise InvalidInput(
            f"{count} folds cannot be formed from {len(participants)} participants; at least 2 "
            "folds are required, and at most one fold per participant",
            "Specify a number of folds from 2 to the number of participants.",
        )
    order = _shuffle(participants, seed)
    folds = list[ParticipantSplit]()
    for k in range(count):
        test = order[k::count]
        # rotated order, so that validation participants differ between folds
        candidates = [
            participant for participant in order[k:] + order[:k] if participant not in test
        ]
        if validation >= len(candidates):
            raise InvalidInput(
                f"with {validation} validation participants, no participants remain for the "
                "training set",
                f"Use at most {len(candidates) - 1} validation participants.",
            )
        folds.append(
            ParticipantSplit(
                train=tuple(sorted(candidates[validation:])),
                validation=tuple(sorted(candidates[:validation])),
                test=tuple(sorted(test)),
            )
        )
    return folds


def _shuffle(participants: Sequence[str], seed: int) -> list[str]:
    """Return participants in random order."""
    return [participants[k] for k in np.random.default_rng(seed).permutation(len(participants))]
