"""Threads of torch: how many an operation takes, and operations side by side on one each."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import torch

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run with this number of torch's threads.

    Parameters
    ----------
    count : int
        Number of threads of torch.

    Yields
    ------
    None
        The block of the ``with`` statement runs.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def side_by_side(make: Callable[[_Item], _Made], items: Iterable[_Item]) -> Iterator[_Made]:
    """Compute many small things, each on one thread, as many at once as torch has threads.

    The matrices of a tile are too small to be shared by threads. What is made is the same for any
    number of them.

    Parameters
    ----------
    make : Callable[[_Item], _Made]
        Function of one item, which needs no gradients.
    items : Iterable[_Item]
        Items, taken by the calling thread and never further ahead than there are threads.

    Yields
    ------
    _Made
        What was made, in the order of the items.
    """
    count = torch.get_num_threads()
    if count == 1:
        yield from map(make, items)
        return

    def alone(item: _Item) -> _Made:
        with torch.inference_mode():
            return make(item)

    with torch_threads(1), ThreadPoolExecutor(count) as pool:
        left = iter(items)
        while some := list(islice(left, count)):
            yield from pool.map(alone, some)
