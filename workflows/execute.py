"""Run a workflow on this machine and say honestly what came of it."""

import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nipype.pipeline import engine as pe

from bids_sr.interfaces.bids import RECORD, WriteDerivatives

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOutcome:
    """What a run left.

    Attributes
    ----------
    crash_files : one text file for each node that failed
    missing : the nodes whose outputs are not there, by full name
    reports : the HTML reports that were written
    """

    crash_files: tuple[Path, ...] = ()
    missing: tuple[str, ...] = ()
    reports: tuple[Path, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every node ran and left its outputs."""
        return not self.crash_files and not self.missing


def configure_nipype(
    *, crash_dir: Path, stop_on_first_crash: bool, resource_monitor: bool, verbose: bool, forbid_reruns: bool = False
) -> None:
    """Settings of nipype that the whole run shares; nothing is sent or looked up over the network."""
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
                "stop_on_first_rerun": str(forbid_reruns).lower(),
                "remove_unnecessary_outputs": "false",
                "check_version": "false",
            },
            "monitoring": {
                "enabled": str(resource_monitor).lower(),
                "summary_file": str(crash_dir / "resources.json"),
                "summary_append": "true",
            },
            "logging": {"log_to_file": "false", "workflow_level": "INFO" if verbose else "WARNING"},
        }
    )
    level = logging.INFO if verbose else logging.WARNING
    for name in ("nipype.workflow", "nipype.utils", "nipype.interface"):
        logging.getLogger(name).setLevel(level)
    nipype_logging.update_logging(config)
    if resource_monitor:
        config.enable_resource_monitor()


def _sinks(workflow: pe.Workflow) -> list[pe.Node]:
    """The sinks of a graph, as copies that know where they will run."""
    nodes = [node for node in workflow._create_flat_graph().nodes() if isinstance(node.interface, WriteDerivatives)]
    for node in nodes:
        node.base_dir = workflow.base_dir
    return nodes


def _written(node: pe.Node) -> list[str] | None:
    """Files that a finished sink has recorded; None where it has not finished."""
    record = Path(node.output_dir(), RECORD)
    return json.loads(record.read_text()) if record.exists() else None


def _complete(node: pe.Node) -> bool:
    written = _written(node)
    return written is not None and all(os.path.exists(path) for path in written)


def forget_lost_outputs(workflow: pe.Workflow) -> int:
    """Make the sinks whose files were deleted run again; nipype would call them done.

    Returns
    -------
    number of sinks that will run again
    """
    lost = [node for node in _sinks(workflow) if _written(node) is not None and not _complete(node)]
    for node in lost:
        for hashfile in Path(node.output_dir()).glob("_0x*.json"):
            hashfile.unlink()
    return len(lost)


def execute(
    workflow: pe.Workflow,
    *,
    nprocs: int,
    mem_gb: float,
    crash_dir: Path,
    progress: Callable[[Any, str], None] | None = None,
) -> RunOutcome:
    """Run the workflow; a node that fails does not stop those that do not need it.

    Parameters
    ----------
    nprocs, mem_gb : what all the nodes that run at one time may take together
    crash_dir : directory of the crash files
    progress : called with (node, "start" | "end" | "exception")

    Raises
    ------
    KeyboardInterrupt
        when the run was interrupted; workers are gone by then, and finished nodes stay finished
    """
    from bids_sr.workflows.multiproc import ResilientMultiProc

    before = set(crash_dir.glob("crash*.txt"))
    again = forget_lost_outputs(workflow)
    if again:
        LOGGER.info("outputs of %d steps are no longer there and are written again", again)
    arguments = {"n_procs": nprocs, "memory_gb": mem_gb, "raise_insufficient": False, "status_callback": progress}
    failure: Exception | None = None
    try:
        workflow.run(plugin=ResilientMultiProc(plugin_args=arguments))
    except Exception as error:
        failure = error
        LOGGER.error("the run did not finish: %s", str(error).strip().splitlines()[-1] if str(error) else error)
    crashes = tuple(sorted(set(crash_dir.glob("crash*.txt")) - before))
    if failure is not None and not crashes:
        raise failure
    missing = tuple(node.fullname for node in _sinks(workflow) if not _complete(node))
    return RunOutcome(crash_files=crashes, missing=missing)
