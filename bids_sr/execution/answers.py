"""What came of a node, as the process that ran it reports."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

from bids_sr.notices import Notice

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node


class Answer(TypedDict, total=False):
    """What came of a node, or of the nodes of a job, as the process that ran it says."""

    result: object
    # lines, where it failed; of the driver itself nipype gives one text
    traceback: Sequence[str] | None
    failed: str | None  # full name of the node of a job that failed
    taskid: int
    host: str  # where it ran
    peak_gb: float | None  # most memory that the process held, where it failed and it is known
    # where the caller knows why it failed, or the error tells a remedy
    notice: Notice | None
    error: BaseException  # of the process itself


def kind_of(node: "Node") -> str:
    """Function that a node runs, with its module; the class of an interface of nipype's own."""
    interface = node.interface
    made_of = getattr(interface, "step", type(interface))
    return f"{made_of.__module__}.{made_of.__qualname__}"
