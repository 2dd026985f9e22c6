"""Searches for cyclic garbage while a call is planned."""

import gc
import weakref

import pytest

from bids_sr.cli.garbage_collection import collect_rarely


class Ring:
    """Object that refers to itself, so that only the garbage collector deletes it."""

    def __init__(self) -> None:
        self.ring = self


def is_garbage_deleted() -> bool:
    """Create garbage and then 20,000 objects; return whether the garbage was deleted."""
    garbage = weakref.ref(Ring())
    objects = [[number] for number in range(20_000)]
    return garbage() is None and len(objects) > 0


def test_garbage_is_deleted_rarely_within_the_context_and_normally_after_an_error() -> None:
    assert is_garbage_deleted()

    @collect_rarely()
    def fail() -> None:
        assert not is_garbage_deleted()
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError):  # noqa: PT011
            fail()
        assert is_garbage_deleted()
    assert gc.isenabled()
