"""Threads of torch: how many an operation takes, and operations side by side on one each."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run with this number of torch's threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def side_by_side(make: Callable[[_Item], _Made], items: Iterable[_Item]) -> Iterator[_Made]:
    """Compute many small things, each on one thread, as many at once as torch has threads.

    The matrices of a tile are too small to be shared by threads. What is made is the same for any
    number of them. BLAS libraries other than torch's are limited to one thread, too.
    """
    import torch
    from threadpoolctl import threadpool_limits

    count = torch.get_num_threads()
    if count == 1:
        with threadpool_limits(1, "blas"):
            yield from map(make, items)
        return

    def alone(item: _Item) -> _Made:
        with torch.inference_mode():
            return make(item)

    with torch_threads(1), threadpool_limits(1, "blas"), ThreadPoolExecutor(count) as pool:
        ahead: deque[Future[_Made]] = deque()
        for item in items:
            ahead.append(pool.submit(alone, item))
            if len(ahead) > count:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
