"""Seconds per training step with one thread and with several.

OMP_WAIT_POLICY=passive python benchmarks/training_threads.py [METHOD:RECIPE ...] [--threads 2]
                                                              [--steps 16]

Trains on the T2*w pair of examples/studyforrest. The number of threads changes after every step,
and the first two steps are not counted. The processor time of the main thread is measured, because
it does not depend on the load of the machine: with passive waiting, it is the time of a step on an
idle machine if all threads finish their parts together. `divided` is the fraction p of the time
with one thread that N threads divide: the ratio of the medians is 1 / (1 - p + p / N).
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _table import keep
from gpu import FACTOR, Pair, shortened

from bids_sr.sr.method import get_method, get_recipe
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.networks.training.trainer import train_network

TRAININGS = ("srgan:paper", "srgan:fast", "attunet:fast")


def step_seconds(name: str, threads: int, steps: int) -> dict[int, list[float]]:
    """Return the seconds of the steps of a training by number of threads (1 or `threads`)."""
    method, recipe = name.split(":")
    seconds: dict[int, list[float]] = {1: [], threads: []}
    start = time.thread_time()

    def note(_phase: str, step: int, _steps: int) -> None:
        nonlocal start
        if step > 2:
            seconds[torch.get_num_threads()].append(time.thread_time() - start)
        torch.set_num_threads(threads if step % 2 else 1)
        start = time.thread_time()

    request = ModelRequest(
        method=method,
        recipe=recipe,  # type: ignore[arg-type]
        replacement_recipe=shortened(get_recipe(get_method(method), recipe), steps),
        factor=FACTOR,
    )
    with tempfile.TemporaryDirectory() as work:
        train_network(request, (Pair.read().image,), Path(work), note)
    return seconds


def row_of(name: str, threads: int, seconds: dict[int, list[float]]) -> dict[str, Any]:
    """Return a row with the median seconds per step, and the divided fraction."""
    one, several = (statistics.median(seconds[number]) for number in (1, threads))
    return {
        "training": name,
        "steps each": len(seconds[threads]),
        "s per step, 1 thread": round(one, 3),
        f"s per step, {threads} threads": round(several, 3),
        "ratio": round(one / several, 2),
        "divided": round((1 - several / one) / (1 - 1 / threads), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trainings", nargs="*", default=TRAININGS, help="METHOD:RECIPE")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=16)
    options = parser.parse_args()
    if os.environ.get("OMP_WAIT_POLICY", "").lower() != "passive":
        parser.error("set OMP_WAIT_POLICY=passive, so that waiting takes no processor time")
    rows = [
        row_of(name, options.threads, step_seconds(name, options.threads, options.steps))
        for name in options.trainings
    ]
    load, processors = os.getloadavg()[1], os.cpu_count()
    remark = f"Load of {load:.1f} on {processors} processors, averaged over five minutes."
    keep("training_threads", "Training with several threads", rows, remarks=[remark])


if __name__ == "__main__":
    main()
