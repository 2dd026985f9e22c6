"""A node that uses processors, memory or a GPU flag like a step, and records its usage."""

import os
import time
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, SimpleInterface, TraitedSpec, traits

from bids_sr.engine.usage import THREAD_VARIABLES

BOUND = {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores", "GOMP_CPU_AFFINITY": "0"}
"""Variables that let OpenMP bind a process to one processor when it is loaded."""


class _In(BaseInterfaceInputSpec):
    device = traits.Enum("cpu", "auto", "cuda", usedefault=True)
    use_gpu = traits.Bool(False, usedefault=True, nohash=True)  # as in steps with a device
    threads = traits.Int(1, usedefault=True)
    seconds = traits.Float(0.3, usedefault=True)
    work = traits.Enum("sleep", "threads", "memory", usedefault=True)


class _Out(TraitedSpec):
    out = traits.Dict()


class Load(SimpleInterface):
    """Sleep, compute matrix products and convolutions, or allocate 0.2 GB; record time and
    threads.
    """

    input_spec = _In
    output_spec = _Out

    def _run_interface(self, runtime: Any) -> Any:
        start, usage = time.time(), {name: os.environ.get(name) for name in THREAD_VARIABLES}
        if self.inputs.work == "threads":
            usage |= _busy(self.inputs.seconds)
        elif self.inputs.work == "memory":
            block = b"x" * 200_000_000
            usage["held"] = len(block)
        else:
            time.sleep(self.inputs.seconds)
        self._results["out"] = {
            **usage,
            "start": start,
            "end": time.time(),
            "use_gpu": self.inputs.use_gpu,
        }
        return runtime


def _busy(seconds: float) -> dict[str, Any]:
    """Compute matrix products of numpy and convolutions of torch.

    Returns processor time relative to wall time, the threads of each pool, and the numbers of the
    processors that this process may use.
    """
    import numpy as np
    import torch
    from threadpoolctl import threadpool_info

    image, kernel, square = (
        torch.ones(4, 16, 96, 96),
        torch.ones(16, 16, 3, 3),
        np.ones((400, 400)),
    )
    torch.nn.functional.conv2d(image, kernel)
    wall, cpu = time.monotonic(), time.process_time()
    while time.monotonic() - wall < seconds:
        torch.nn.functional.conv2d(image, kernel)
        square @ square
    return {
        "cores": (time.process_time() - cpu) / (time.monotonic() - wall),
        "processors": sorted(os.sched_getaffinity(0)),
        "torch": torch.get_num_threads(),
        "pools": {pool["internal_api"]: pool["num_threads"] for pool in threadpool_info()},
    }
