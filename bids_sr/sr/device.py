"""Where, and in which arithmetic, torch computes.

Threads of torch: how many an operation takes, and operations side by side on one each.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Literal, TypeVar

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]
TrainPrecision = Literal["auto", "fp32", "mixed"]
"""Arithmetic of a training; "auto" is "mixed" on a GPU and "fp32" on the CPU."""


def choose_device(device: str) -> str:
    """Select the torch device: "auto" is CUDA if it works; requesting CUDA in vain is an error."""
    if device == "cpu" or (device == "auto" and _why_no_cuda()):
        return "cpu"
    if device == "cuda" and _why_no_cuda():
        raise RuntimeError(
            f"--device cuda cannot be used, because {_why_no_cuda()}. Use --device cpu or "
            "--device auto."
        )
    return "cuda"


@cache
def _why_no_cuda() -> str:
    """Explain why CUDA cannot be used in this process, or return "".

    A device may be there and too old, taken, or out of order.
    """
    import torch

    if not torch.cuda.is_available():
        return "PyTorch did not find a CUDA device"
    try:
        torch.ones(8, device="cuda").sum().item()
    except RuntimeError as error:
        return (
            f"a test computation on the CUDA device failed: {str(error).strip().splitlines()[0]}"
        )
    return ""


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
