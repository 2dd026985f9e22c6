"""Test parallel computation of small items on torch's threads."""

import threading

import pytest
import torch
from data.known_priors import normal_noise, whole_of
from threadpoolctl import threadpool_info, threadpool_limits

from bids_sr.sr.method import get_method
from bids_sr.sr.prior_maps.estimation import estimate_prior
from bids_sr.sr.threads import map_in_threads, torch_threads


def test_results_are_in_order_and_each_is_computed_on_one_thread():
    thread_ids = []

    def compute(item: int) -> tuple[int, int, bool]:
        thread_ids.append(threading.get_ident())
        return 2 * item, torch.get_num_threads(), torch.is_inference_mode_enabled()

    with torch_threads(2):
        results = list(map_in_threads(compute, range(9)))
        assert torch.get_num_threads() == 2  # The number of threads is restored.
    assert results == [(2 * item, 1, True) for item in range(9)]
    assert threading.get_ident() not in thread_ids


@pytest.mark.parametrize("threads", [1, 2])
def test_blas_uses_one_thread_per_worker(threads):
    def blas_threads(_: int) -> set[int]:
        return {info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"}

    with threadpool_limits(2, "blas"), torch_threads(threads):
        assert list(map_in_threads(blas_threads, range(3))) == [{1}] * 3
        assert blas_threads(0) == {2}


def test_at_most_one_item_more_than_threads_is_taken_in_advance():
    items_taken = []

    def items():
        for item in range(8):
            items_taken.append(item)
            yield item

    with torch_threads(2):
        first = map_in_threads(lambda item: item, items())
        assert next(first) == 0
        assert items_taken == [0, 1, 2]
        assert list(first) == list(range(1, 8))


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_worker_is_raised_in_the_caller(threads):
    def fail(item: int) -> int:
        if item == 3:
            raise ValueError("item 3")
        return item

    with torch_threads(threads):
        with pytest.raises(ValueError, match="item 3"):
            list(map_in_threads(fail, range(5)))
        assert torch.get_num_threads() == threads


def test_maps_do_not_depend_on_the_number_of_threads():
    inputs = whole_of((16, 16, 3), (2.0, 2.0, 1.0))
    components = normal_noise(3, 6, 3, 16, 16)
    recipe = get_method("sbl").variance
    maps = []
    for threads in (1, 2):
        with torch_threads(threads):
            maps.append(estimate_prior(components, inputs, recipe, seed=1).weight)
    assert torch.equal(*maps)
