"""Control of torch threads, and parallel execution of single-threaded operations."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


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

    n_threads = torch.get_num_threads()
    if n_threads == 1:
        with threadpool_limits(1, "blas"):
            yield from map(function, items)
        return

    def call_in_inference_mode(item: _Item) -> _Result:
        with torch.inference_mode():  # applies only to the current thread
            return function(item)

    with torch_threads(1), threadpool_limits(1, "blas"), ThreadPoolExecutor(n_threads) as pool:
        pending_results: deque[Future[_Result]] = deque()
        for item in items:
            pending_results.append(pool.submit(call_in_inference_mode, item))
            if len(pending_results) > n_threads:
                yield pending_results.popleft().result()
        while pending_results:
            yield pending_results.popleft().result()


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set the number of torch threads within a context."""
    import torch

    previous_count = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(previous_count)
