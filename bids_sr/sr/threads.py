"""Control of torch threads, and parallel execution of single-threaded operations."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set the number of torch threads within a context."""
    import torch

    old_count = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(old_count)


def map_in_threads(
    function: Callable[[_Item], _Result], items: Iterable[_Item]
) -> Iterator[_Result]:
    """Apply a function to items in parallel, with one thread per call.

    As many calls run at once as torch has threads, because the matrices of a tile are too small to
    distribute one operation over several threads. Results are yielded in order and do not depend
    on the number of threads. All BLAS libraries are also limited to one thread.
    """
    import torch
    from threadpoolctl import threadpool_limits

    count = torch.get_num_threads()
    if count == 1:
        with threadpool_limits(1, "blas"):
            yield from map(function, items)
        return

    def call_in_inference_mode(item: _Item) -> _Result:
        with torch.inference_mode():
            return function(item)

    with torch_threads(1), threadpool_limits(1, "blas"), ThreadPoolExecutor(count) as pool:
        pending: deque[Future[_Result]] = deque()
        for item in items:
            pending.append(pool.submit(call_in_inference_mode, item))
            if len(pending) > count:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
