"""Values by participant, in 12 bytes each: thousands of participants have thousands of values."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from bids_sr.io.array_types import Float, Mask


class People:
    """Participants in the order in which they come, numbered."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        """The number of a participant, who is added where not known."""
        if name not in self.numbers:
            self.numbers[name] = len(self.names)
            self.names.append(name)
        return self.numbers[name]


class PeopleValues(Mapping[str, float]):
    """Value of each participant who has one (NaN: not defined), as a mapping; participants are added in their order."""

    def __init__(self, people: People) -> None:
        self.people = people
        self.numbers, self.values_ = array("i"), array("d")

    def add(self, number: int, value: float) -> None:
        """Add a participant, whose number is above those added before."""
        self.numbers.append(number)
        self.values_.append(value)

    def __getitem__(self, name: str) -> float:
        number = self.people.numbers[name]
        at = bisect_left(self.numbers, number)
        if at == len(self.numbers) or self.numbers[at] != number:
            raise KeyError(name)
        return self.values_[at]

    def __iter__(self) -> Iterator[str]:
        return (self.people.names[number] for number in self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


def aligned(series: Sequence[Mapping[str, float]]) -> tuple[list[str], list[tuple[Float, Mask]]]:
    """Participants that any of several series has, in the order of their names, and for each series their values.

    Returns
    -------
    names (n,), and for each series values (n,), NaN where there are none, and (n,) who has one, defined or not
    """
    first = series[0] if series else None
    if isinstance(first, PeopleValues) and all(
        isinstance(s, PeopleValues) and s.people is first.people for s in series
    ):
        names = first.people.names
        every = [(np.frombuffer(s.numbers, np.intc), np.frombuffer(s.values_)) for s in series]  # type: ignore[attr-defined]
    else:
        names = sorted({who for each in series for who in each})
        numbers = {who: k for k, who in enumerate(names)}
        every = [(np.array([numbers[who] for who in s], np.intc), np.array(list(s.values()), float)) for s in series]
    found = []
    for at, values in every:
        placed, there = np.full(len(names), np.nan), np.zeros(len(names), dtype=bool)
        placed[at], there[at] = values, True
        found.append((placed, there))
    return names, found
