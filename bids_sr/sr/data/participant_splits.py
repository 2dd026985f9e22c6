"""Splits of participants into training, validation and test sets, and cross-validation."""

from collections.abc import Sequence

import numpy as np

from bids_sr.frozen import frozen


class SplitError(ValueError):
    """Participants that cannot be split as requested: the reason and the remedy."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(f"{why}. {remedy}")
        self.why, self.remedy = why, remedy


@frozen
class ParticipantSplit:
    """Participants to train on, to stop training by, and to test on; none is in two sets."""

    train: tuple[str, ...]
    validation: tuple[str, ...] = ()
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        sets = {"training": self.train, "validation": self.validation, "test": self.test}
        for name in ("training", "test"):
            if not sets[name]:
                raise SplitError(
                    f"the {name} set contains no participants",
                    f"Assign at least 1 participant to the {name} set.",
                )
        names = list(sets)
        for k, one in enumerate(names):
            for other in names[k + 1 :]:
                if both := sorted(set(sets[one]) & set(sets[other])):
                    raise SplitError(
                        f"these participants are in both the {one} set and the {other} set: "
                        f"{' '.join(both)}",
                        "Assign each participant to only one set.",
                    )


def split_at_random(
    participants: Sequence[str], sizes: Sequence[int], seed: int
) -> ParticipantSplit:
    """Split participants at random.

    `sizes`: numbers of participants to train, validate and test on, or to train and test on.
    Raises SplitError for an empty set, and unless the sizes add up to all participants.
    """
    if min(sizes) < 1:
        empty = ("training", "validation", "test") if len(sizes) == 3 else ("training", "test")
        name = empty[[size < 1 for size in sizes].index(True)]
        raise SplitError(
            f"the {name} set contains no participants",
            "Assign at least 1 participant to each set.",
        )
    if sum(sizes) != len(participants):
        raise SplitError(
            f"the set sizes add up to {sum(sizes)} participants, but there are images from "
            f"{len(participants)} participants",
            "Specify sizes that add up to the number of participants.",
        )
    order = [participants[k] for k in np.random.default_rng(seed).permutation(len(participants))]
    first, last = sizes[0], len(order) - sizes[-1]
    return ParticipantSplit(
        train=tuple(sorted(order[:first])),
        validation=tuple(sorted(order[first:last])),
        test=tuple(sorted(order[last:])),
    )


def split_by_names(
    participants: Sequence[str], validation: Sequence[str], test: Sequence[str]
) -> ParticipantSplit:
    """Split participants by the names of those to validate and to test on; others are trained on.

    Raises SplitError for an unknown participant, one in both sets, and an empty training set.
    """
    if unknown := sorted({*validation, *test} - set(participants)):
        raise SplitError(
            f"no images were found for these participants: {' '.join(unknown)}",
            f"Choose from {' '.join(participants)}.",
        )
    named = {*validation, *test}
    return ParticipantSplit(
        train=tuple(who for who in participants if who not in named),
        validation=tuple(dict.fromkeys(validation)),
        test=tuple(dict.fromkeys(test)),
    )


def make_folds(
    participants: Sequence[str], count: int, validation: int, seed: int
) -> list[ParticipantSplit]:
    """Return folds in which each participant is in the test set exactly once.

    The sizes of the test sets differ by at most one.

    Parameters
    ----------
    participants : Sequence[str]
        Names of all participants.
    count : int
        Number of folds, at least 2.
    validation : int
        Participants of each fold that are drawn from those outside the test set to validate on.
    seed : int
        Seed of the order of the participants.

    Returns
    -------
    list[ParticipantSplit]
        One split per fold.

    Raises
    ------
    SplitError
        More folds than participants, or a fold without participants to train on.
    """
    if not 2 <= count <= len(participants):
        raise SplitError(
            f"{count} folds cannot be formed from {len(participants)} participants; at least 2 "
            "folds are required, and at most one fold per participant",
            "Specify a number of folds from 2 to the number of participants.",
        )
    order = [participants[k] for k in np.random.default_rng(seed).permutation(len(participants))]
    folds = list[ParticipantSplit]()
    for k in range(count):
        test = order[k::count]
        # those behind the test set in the order, so that folds validate on different participants
        others = [who for who in order[k:] + order[:k] if who not in test]
        if validation >= len(others):
            raise SplitError(
                f"with {validation} validation participants, no participants remain for the "
                "training set",
                f"Use at most {len(others) - 1} validation participants.",
            )
        folds.append(
            ParticipantSplit(
                train=tuple(sorted(others[validation:])),
                validation=tuple(sorted(others[:validation])),
                test=tuple(sorted(test)),
            )
        )
    return folds
