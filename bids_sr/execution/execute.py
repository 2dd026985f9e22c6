"""Run a workflow, on this machine or as jobs of SLURM, and say honestly what came of it."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.config import UsageError
from bids_sr.config.plugin import Plugin
from bids_sr.execution.records import all_stored, forget_damaged
from bids_sr.execution.slurm_plugin import ResilientSLURM
from bids_sr.frozen import frozen
from bids_sr.io.atomic_files import DiskFullError
from bids_sr.notices import Notice, record
from bids_sr.pipeline.store import store

if TYPE_CHECKING:
    from nipype.pipeline import engine as pe
    from nipype.pipeline.plugins.base import PluginBase

_LOGGER = logging.getLogger(__name__)
_Told = Callable[["pe.Node", str], None]
"""Is called with a node and "start", "end" or "exception"."""
_SILENT = logging.CRITICAL + 1
"""Level of nipype's loggers: what failed and why is in the crash files, and said once."""


@frozen
class RunOutcome:
    """Outcome of a run."""

    crashes: tuple[Notice, ...] = ()  # of each step that failed
    missing: tuple[str, ...] = ()  # full names of steps that have not stored all
    reports: tuple[Path, ...] = ()
    judged: frozenset[str] = frozenset()  # runs whose verdict was told when it was there


def configure_nipype(*, crash_dir: Path, stop_on_first_crash: bool, verbose: bool) -> None:
    """Configure nipype for the whole run.

    Nothing is sent or looked up over the network.
    """
    os.environ["NIPYPE_NO_ET"] = "1"
    from nipype import config
    from nipype import logging as nipype_logging

    config.update_config(
        {
            "execution": {
                "crashdump_dir": str(crash_dir),
                "crashfile_format": "txt",
                "poll_sleep_duration": "0.2",
                "stop_on_first_crash": str(stop_on_first_crash).lower(),
                "stop_on_first_rerun": "false",
                "remove_unnecessary_outputs": "false",
                "check_version": "false",
                # nobody reads it, and two runs would write one at a time to one place
                "create_report": "false",
            },
            "logging": {"log_to_file": "false"},
        }
    )
    nipype_logging.update_logging(config)
    level = logging.INFO if verbose else _SILENT
    for name in ("nipype.workflow", "nipype.utils", "nipype.interface"):
        logging.getLogger(name).setLevel(level)


def _nodes(workflow: "pe.Workflow") -> "list[pe.Node]":
    """The nodes of a graph, as copies that know where they will run."""
    nodes = list(workflow._create_flat_graph().nodes())
    for node in nodes:
        node.base_dir = workflow.base_dir
    return nodes


def _runner(
    plugin: Plugin, nprocs: int, mem_gb: float, has_gpu: bool, progress: _Told | None
) -> "PluginBase":
    """The plugin of nipype; nothing of the others is imported."""
    if not plugin.is_cluster:
        from bids_sr.execution.multiproc import ResilientMultiProc

        return ResilientMultiProc(
            n_procs=nprocs,
            memory_gb=mem_gb,
            has_gpu=has_gpu,
            status_callback=progress,
            raise_insufficient=False,
        )

    return ResilientSLURM(options=plugin, status_callback=progress)


@contextlib.contextmanager
def _steady_time() -> Iterator[None]:
    """Give nipype's schedulers a monotonic clock.

    With the system clock, they would sleep for as long as it was put back.
    """
    from nipype.pipeline.plugins import base

    before, base.time = base.time, time.monotonic
    try:
        yield
    finally:
        base.time = before


@contextlib.contextmanager
def _results_read_once() -> Iterator[None]:
    """Have the scheduler read the result file of a step once, not for each step that follows."""
    from nipype.pipeline.engine import nodes

    before = nodes._load_resultfile
    known: dict[str, tuple[int, object]] = {}

    def load(path: str) -> object:
        changed = os.stat(path).st_mtime_ns
        if known.get(path, (0,))[0] != changed:
            known[path] = changed, before(path)
        return known[path][1]

    nodes._load_resultfile = load
    try:
        yield
    finally:
        nodes._load_resultfile = before


def execute(
    workflow: "pe.Workflow",
    *,
    nprocs: int,
    mem_gb: float,
    crash_dir: Path,
    plugin: Plugin,
    progress: _Told | None = None,
    has_gpu: bool = False,
    keep_series: bool = True,
) -> RunOutcome:
    """Run the workflow; a node that fails does not stop those that do not need it.

    `workflow`: graph of all steps, with its working directory. `nprocs`, `mem_gb`: what all nodes
    that run at one time may take together. `plugin`: whether nodes run here or as jobs of SLURM,
    and how these are asked for. `keep_series`: whether large series stay that no step is to read
    any more. `KeyboardInterrupt`: when the run was interrupted; workers are gone by then, and
    finished nodes stay finished. `Exception`: the run failed and no crash file tells of it.
    """
    # steps run again whose files were deleted, cut short or touched since; nipype would call them
    # done
    nodes = _nodes(workflow)
    if again := len(forget_damaged(nodes)):
        _LOGGER.warning(
            "output files of %d steps were modified or removed since the last run, so these"
            " steps are run again",
            again,
        )
    runner = _runner(plugin, nprocs, mem_gb, has_gpu, progress)
    runner.keeps = keep_series
    failure: Exception | None = None
    try:
        with _steady_time(), _results_read_once():
            workflow.run(plugin=runner)
    except Exception as error:
        failure = error
        if not isinstance(error, DiskFullError):  # which is said once, at the end
            _LOGGER.error(
                "processing did not finish: %s",
                str(error).strip().splitlines()[-1] if str(error) else error,
            )
    crashes: tuple[Notice, ...] = tuple(getattr(runner, "crashes", ()))
    if isinstance(failure, UsageError):  # SLURM itself cannot be used: no single step is at fault
        fix = (
            f"{failure.notice.remedy}. Then run the same command again: remaining jobs are"
            " cancelled, and processing resumes"
        )
        told = replace(failure.notice, remedy=fix)
        crashes = (*crashes, told)
        with contextlib.suppress(OSError):  # a full disk
            record(crash_dir, [told])
    if failure is not None and not crashes:
        raise failure
    sinks = [node for node in nodes if getattr(node.interface, "step", None) is store]
    missing = tuple(node.fullname for node in sinks if not all_stored(Path(node.output_dir())))
    return RunOutcome(crashes=crashes, missing=missing)
