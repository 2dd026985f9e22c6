"""Test resources of workers: threads per step, one step at a time on the GPU, and immediate
scheduling.
"""

import json
import os
import subprocess
import sys
from functools import partial
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
from loadnode import BOUND, Load
from nipype.pipeline import engine as pe

from bids_sr.engine.multiproc import ResilientMultiProc
from bids_sr.engine.usage import THREAD_VARIABLES, limit_threads


def _run(
    base: Path, nodes: dict[str, dict[str, Any]], *, procs: int = 3, poll: str = "5", **plugin: Any
) -> dict[str, Any]:
    """Run independent nodes; return the output of each node."""
    workflow = pe.Workflow("wf", base_dir=str(base))
    workflow.config["execution"] = {
        "poll_sleep_duration": poll,
        "crashdump_dir": str(base),
        "crashfile_format": "txt",
    }
    for name, inputs in nodes.items():
        node = pe.Node(Load(), name=name, mem_gb=0.1, n_procs=inputs.get("threads", 1))
        node.inputs.trait_set(**inputs)
        workflow.add_nodes([node])
    graph = workflow.run(plugin=ResilientMultiProc(n_procs=procs, memory_gb=2.0, **plugin))
    return {node.name: node.result.outputs.out for node in graph.nodes()}


def _overlap(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return max(first["start"], second["start"]) < min(first["end"], second["end"])


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_gpu_serves_one_step_at_a_time(tmp_path: Path) -> None:
    results = _run(
        tmp_path,
        {
            "one": {"device": "cuda"},
            "two": {"device": "auto"},
            "plain": {"device": "cpu", "seconds": 3.0},
        },
        has_gpu=True,
    )
    assert [results[name]["use_gpu"] for name in ("one", "two", "plain")] == [True, True, False]
    assert not _overlap(results["one"], results["two"])
    assert _overlap(results["one"], results["plain"]) or _overlap(results["two"], results["plain"])


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_worker_uses_only_the_threads_of_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in THREAD_VARIABLES:
        monkeypatch.setenv(name, "7")
    for name, value in BOUND.items():
        monkeypatch.setenv(name, value)
    limit_threads()
    forkserver._forkserver._stop()  # the fork server of earlier tests has another environment
    results = _run(
        tmp_path,
        {
            "one": {"work": "threads", "seconds": 0.5},
            "two": {"work": "threads", "threads": 2, "seconds": 0.1},
        },
        procs=2,
    )
    assert [results[name]["torch"] for name in ("one", "two")] == [1, 2]
    assert results["one"]["cores"] < 1.15
    assert set(results["one"]["pools"].values()) == {1}, results["one"]["pools"]
    assert results["one"]["processors"] == sorted(os.sched_getaffinity(0))
    assert {results["two"][name] for name in THREAD_VARIABLES} == {"1"}


_LOADED_IN_A_PROGRAM = """
import os
from bids_sr.cli.exit_codes import run_program

def work(_arguments):
    import sklearn  # which loads OpenMP
    print(sorted(os.sched_getaffinity(0)))
    return 0

run_program("bids-sr", work, interrupted="")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="masks of processors")
@pytest.mark.parametrize("count", [1, None], ids=["one", "all"])
def test_a_program_uses_all_processors_of_its_mask(count: int | None) -> None:
    processors = sorted(os.sched_getaffinity(0))[::-1][:count]
    output = subprocess.run(
        [sys.executable, "-c", _LOADED_IN_A_PROGRAM],
        env={**os.environ, **BOUND},
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=partial(os.sched_setaffinity, 0, processors),
    ).stdout
    assert json.loads(output) == sorted(processors)


_VOLUMES_TWICE = """
import resource
import numpy as np
from bids_sr.engine.usage import retain_freed_memory, release_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    volumes = [np.ones(1 << 19, np.float32) for _ in range(8)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

retain_freed_memory()
first, second = faults(), faults()
release_memory()
print(first, second, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_reused_until_released() -> None:
    output = subprocess.run(
        [sys.executable, "-c", _VOLUMES_TWICE], capture_output=True, text=True, check=True
    ).stdout
    first, second, after = map(int, output.split())
    pages = 8 * (4 << 19) // 4096
    assert first > 0.9 * pages
    assert second < 0.1 * pages
    assert after > 0.9 * pages
