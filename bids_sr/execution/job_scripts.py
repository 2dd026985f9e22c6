"""What a job of SLURM is asked for with, and the script that it runs."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bids_sr.config.plugin import Plugin
from bids_sr.execution.usage import POOLS

_HANDED_ON = (*POOLS, "PYTHONPATH", "TEMPLATEFLOW_HOME", "MPLCONFIGDIR")
"""Variables that a job gets also where sbatch is told to export none."""

SMALL = frozenset({"MergeEvaluation", "MergeFacts", "MergeMetrics", "ClaimTable", "Verdict", "Flags"})
"""Interfaces whose steps are small."""


def requests(nodes: Sequence[Any], folder: Path, options: Plugin) -> list[str]:
    """Arguments of ``sbatch`` for a job; what the user gives comes later and has precedence."""
    extra = [word for node in nodes for word in shlex.split(node.plugin_args.get("sbatch_args", ""))]
    gpu = options.gpu_args if any(uses_gpu(node) for node in nodes) else ()
    given = [*options.sbatch_args, *gpu, *extra]
    no_pattern = str(folder).replace("%", "%%")  # SLURM finds no replacement symbol in it
    own = ["--no-requeue", "--nodes=1", "--ntasks=1", f"--chdir={folder}", f"--output={no_pattern}/log.txt"]
    if not any(word.partition("=")[0] in ("--mem", "--mem-per-cpu", "--mem-per-gpu") for word in given):
        gigabytes = max(node.mem_gb for node in nodes) + options.memory_extra_gb
        own.append(f"--mem={int(gigabytes * 1e9 / 2**20) + 1}M")
    own.append(f"--cpus-per-task={max(node.n_procs for node in nodes)}")
    if options.time_minutes is not None:
        seconds = round(60 * options.time_minutes)
        own.append(f"--time={seconds // 60}:{seconds % 60:02d}")
    return [*own, *given]


def is_small(node: Any) -> bool:
    """Whether a step only handles a few small tables, in less time than it takes to start a job."""
    return bool(node.run_without_submitting) or type(node.interface).__name__ in SMALL


def uses_gpu(node: Any) -> bool:
    """Whether a step would use a GPU if there is one."""
    return getattr(node.interface.inputs, "device", "cpu") in ("auto", "cuda")


def script(folder: Path, template: str) -> str:
    """The script of a job: the template, then the job itself in its place, so that signals reach it."""
    lines = [*([] if template.startswith("#!") else ["#!/bin/bash"]), *template.splitlines()]
    lines += [f"export {key}={shlex.quote(os.environ[key])}" for key in _HANDED_ON if key in os.environ]
    run = shlex.join(["exec", sys.executable, "-m", "bids_sr.execution.node_job", str(folder)])
    return "\n".join([*lines, "export NIPYPE_NO_ET=1", run]) + "\n"
