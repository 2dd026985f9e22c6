"""Test parallel computation of small items on torch's threads."""

import threading

import pytest
import torch

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
def test_an_error_in_a_worker_is_raised_in_the_caller(threads):
    def fail(item: int) -> int:
        if item == 3:
            raise ValueError("item 3")
        return item

    with torch_threads(threads):
        with pytest.raises(ValueError, match="item 3"):
            list(map_in_threads(fail, range(5)))
        assert torch.get_num_threads() == threads
