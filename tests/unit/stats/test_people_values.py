"""Values of thousands of participants: as a mapping, and beside each other."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_sr.stats.group.people_values import People, PeopleValues, aligned

tables = st.lists(
    st.dictionaries(st.sampled_from("abcdef"), st.floats(-9, 9) | st.just(math.nan)), min_size=1, max_size=4
)


def _compact(series: list[dict[str, float]]) -> list[PeopleValues]:
    people = People()
    names = sorted({name for each in series for name in each})
    numbers = {name: people.number(name) for name in names}
    found = []
    for each in series:
        found.append(PeopleValues(people))
        for name in sorted(each):
            found[-1].add(numbers[name], each[name])
    return found


@given(tables)
def test_it_is_the_mapping_of_its_values(series: list[dict[str, float]]) -> None:
    for plain, compact in zip(series, _compact(series), strict=True):
        assert list(compact) == sorted(plain)
        assert len(compact) == len(plain)
        np.testing.assert_array_equal([compact[name] for name in plain], list(plain.values()))
        for name in set("abcdefg") - set(plain):
            assert name not in compact
            assert compact.get(name) is None


@given(tables)
def test_aligned_as_plain_mappings_are(series: list[dict[str, float]]) -> None:
    compact = _compact(series)
    names, expected = aligned(series)
    assert (names, len(expected)) == (sorted({name for each in series for name in each}), len(series))
    own_names, found = aligned(compact)
    assert own_names == names
    for (values, there), (own, own_there), plain in zip(expected, found, series, strict=True):
        np.testing.assert_array_equal(own, values)
        np.testing.assert_array_equal(own_there, there)
        assert [name for name, has in zip(names, there, strict=True) if has] == sorted(plain)


def test_mixed_kinds_are_aligned_by_name() -> None:
    (compact,) = _compact([{"b": 2.0, "c": 3.0}])
    names, ((one, _), (two, has)) = aligned([compact, {"a": 1.0, "c": 4.0}])
    assert names == ["a", "b", "c"]
    np.testing.assert_array_equal(one, [math.nan, 2, 3])
    np.testing.assert_array_equal(two, [1, math.nan, 4])
    assert has.tolist() == [True, False, True]


def test_who_is_not_known_has_no_value() -> None:
    (compact,) = _compact([{"a": 1.0}])
    with pytest.raises(KeyError):
        compact["nobody"]
