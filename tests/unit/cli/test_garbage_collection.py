"""Searches for cyclic garbage while a call is planned."""

import gc
import weakref

import pytest

from bids_sr.cli.garbage_collection import collect_rarely


class Ring:
    """Object that refers to itself, so that only the garbage collector deletes it."""

    def __init__(self) -> None:
        self.ring = self


def make_objects() -> bool:
    """Create garbage and then 20,000 objects; return whether the garbage was deleted."""
    garbage = weakref.ref(Ring())
    objects = [[number] for number in range(20_000)]
    assert len(objects) == 20_000
    return garbage() is None


def test_garbage_is_deleted_rarely_within_the_context() -> None:
    assert make_objects()
    with collect_rarely():
        assert not make_objects()
    assert make_objects()


def test_an_error_restores_the_default() -> None:
    thresholds = gc.get_threshold()

    @collect_rarely()
    def fail() -> None:
        raise ValueError("no data")

    for _ in range(2):
        with pytest.raises(ValueError, match="no data"):
            fail()
        assert gc.get_threshold() == thresholds
