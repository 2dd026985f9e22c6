"""Outcome of a node, as reported by the process that ran it, and notice on a killed process."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from bids_sr.io.notices import Notice

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node


class NodeOutcome(TypedDict, total=False):
    """Outcome of a node or a job, as reported by the process that ran it.

    `traceback` has the lines of a failed node; it is a single text from nipype if the driver
    failed. `failed` is the full name of the failed node of a job, and `host` the host of the
    process. `peak_gb` is the peak memory (GB) of a failed process, if known. `notice` is the
    reason, if the caller knows it or the error contains a remedy; `error` is the error of the
    process itself.
    """

    result: object
    traceback: Sequence[str] | None
    failed: str | None
    taskid: int
    host: str
    peak_gb: float | None
    notice: Notice | None
    error: BaseException


def get_step_function(node: "Node") -> str:
    """Return the function of a node's step or the class of its nipype interface.

    The name includes the module.
    """
    interface = node.interface
    target = getattr(interface, "step", type(interface))
    return f"{target.__module__}.{target.__qualname__}"


def make_killed_notice(event: str) -> Notice:
    """Return the notice on a step that did not end because a process was killed.

    `event` is the beginning of the reason.
    """
    reason = f"{event}, most likely because of insufficient memory"
    return Notice(what="", why=reason, remedy="", code="killed")
