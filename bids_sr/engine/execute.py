"""Execution of a workflow on this computer or as SLURM jobs, with a full report of failures."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.engine.records import has_stored_all, invalidate_damaged
from bids_sr.engine.slurm.job_options import JobOptions
from bids_sr.engine.store import store
from bids_sr.io.atomic_files import DiskFullError
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import Notice, UsageError, record

if TYPE_CHECKING:
    from nipype.pipeline import engine as pe
    from nipype.pipeline.plugins.base import PluginBase

_LOGGER = logging.getLogger(__name__)
# function that is called with a node and "start", "end" or "exception"
_StatusCallback = Callable[["pe.Node", str], None]
# Level of nipype's loggers. Reasons of failures are in the crash files and reported once.
_SILENT_LEVEL = logging.CRITICAL + 1


@frozen
class RunOutcome:
    """Outcome of a run.

    `crashes` has a notice per failed step, and `missing` the full names of storing steps with
    missing files. `reported_runs` are runs whose verdict was reported during the run.
    """

    crashes: tuple[Notice, ...] = ()
    missing: tuple[str, ...] = ()
    reports: tuple[Path, ...] = ()
    reported_runs: frozenset[str] = frozenset()


def configure_nipype(*, stop_on_first_crash: bool, verbose: bool) -> None:
    """Configure nipype for the whole run, without any network access."""
    os.environ["NIPYPE_NO_ET"] = "1"
    from nipype import config, logging as nipype_logging

    config.update_config(
        {
            "execution": {
                "crashfile_format": "txt",
                "poll_sleep_duration": "0.2",
                "stop_on_first_crash": str(stop_on_first_crash).lower(),
                "stop_on_first_rerun": "false",
                "remove_unnecessary_outputs": "false",
                "check_version": "false",
                # the report is not used, and two runs would write it to the same place
                "create_report": "false",
            },
            "logging": {"log_to_file": "false"},
        }
    )
    nipype_logging.update_logging(config)
    level = logging.INFO if verbose else _SILENT_LEVEL
    for name in ("nipype.workflow", "nipype.utils", "nipype.interface"):
        logging.getLogger(name).setLevel(level)


def execute(
    workflow: "pe.Workflow",
    *,
    nprocs: int,
    mem_gb: float,
    crash_dir: Path,
    jobs: JobOptions | None = None,
    progress: _StatusCallback | None = None,
    has_gpu: bool = False,
) -> RunOutcome:
    """Run a workflow; a failed node does not stop nodes that do not depend on it.

    The workflow has all steps and its working directory. `nprocs` processors and `mem_gb` GB of
    memory are for all simultaneous nodes together. `crash_dir` is the directory of the record of
    the run. `jobs` are options of SLURM jobs; None to run the steps on this computer. `progress`
    is called with a node and its status. `has_gpu` states whether steps may use a GPU. Returns
    failed steps and missing files.

    Raises `KeyboardInterrupt` if the run was interrupted: all workers have ended, and results of
    finished nodes are kept. Other exceptions mean that the run failed without a crash file.
    """
    # run steps again if their files were deleted, truncated or modified; nipype considers them
    # done
    nodes = list(workflow._create_flat_graph().nodes())
    for node in nodes:
        node.base_dir = workflow.base_dir
    if n_damaged := len(invalidate_damaged(nodes)):
        _LOGGER.warning(
            "output files of %d steps were modified or removed since the last run, so these"
            " steps are run again",
            n_damaged,
        )
    # not in the configuration of nipype, which interprets percent signs
    workflow.config["execution"]["crashdump_dir"] = str(crash_dir)
    nipype_plugin: PluginBase
    if jobs is not None:  # only the module of the used plugin is imported
        from bids_sr.engine.slurm.plugin import ResilientSLURM

        nipype_plugin = ResilientSLURM(options=jobs, status_callback=progress)
    else:
        from bids_sr.engine.multiproc import ResilientMultiProc

        nipype_plugin = ResilientMultiProc(
            n_procs=nprocs,
            memory_gb=mem_gb,
            has_gpu=has_gpu,
            status_callback=progress,
            raise_insufficient=False,
        )
    failure: Exception | None = None
    try:
        with _monotonic_clock(), _cached_results():
            workflow.run(plugin=nipype_plugin)
    except Exception as error:
        failure = error
        if not isinstance(error, DiskFullError):  # reported once, at the end
            _LOGGER.error(
                "processing did not finish: %s",
                str(error).strip().splitlines()[-1] if str(error) else error,
            )
    crashes: tuple[Notice, ...] = tuple(getattr(nipype_plugin, "crashes", ()))
    if isinstance(failure, UsageError):
        crashes = (*crashes, _record_slurm_failure(failure, crash_dir))
    if failure is not None and not crashes:
        raise failure
    storing_nodes = [node for node in nodes if getattr(node.interface, "step", None) is store]
    missing = tuple(
        node.fullname for node in storing_nodes if not has_stored_all(Path(node.output_dir()))
    )
    return RunOutcome(crashes=crashes, missing=missing)


@contextlib.contextmanager
def _monotonic_clock() -> Iterator[None]:
    """Replace the system clock in nipype's schedulers by a monotonic clock.

    If the system clock is set back, the schedulers would otherwise sleep for the same time.
    """
    from nipype.pipeline.plugins import base

    original, base.time = base.time, time.monotonic
    try:
        yield
    finally:
        base.time = original


@contextlib.contextmanager
def _cached_results() -> Iterator[None]:
    """Make the scheduler read the result file of a step only once, not once per following step."""
    from nipype.pipeline.engine import nodes

    original = nodes._load_resultfile
    cache: dict[str, tuple[int, object]] = {}

    def load(path: str) -> object:
        modification_time = os.stat(path).st_mtime_ns
        if cache.get(path, (0,))[0] != modification_time:
            cache[path] = modification_time, original(path)
        return cache[path][1]

    nodes._load_resultfile = load
    try:
        yield
    finally:
        nodes._load_resultfile = original


def _record_slurm_failure(failure: UsageError, crash_dir: Path) -> Notice:
    """Record that SLURM itself is not available, for which no single step is responsible."""
    fix = (
        f"{failure.notice.remedy}. Then run the same command again: remaining jobs are"
        " cancelled, and processing resumes"
    )
    notice = replace(failure.notice, remedy=fix)
    with contextlib.suppress(OSError):  # the disk may be full
        record(crash_dir, [notice])
    return notice
