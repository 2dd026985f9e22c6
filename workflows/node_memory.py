"""Memory that the nodes of a graph declare to the scheduler."""

from collections.abc import Callable

from nipype.pipeline import engine as pe

_NEXT_TO_NOTHING_GB = 0.01  # nodes that run in the scheduler itself


def declare_memory(workflow: pe.Workflow, need_gb: Callable[[str], float]) -> None:
    """Declare the memory of every node.

    Parameters
    ----------
    workflow : graph, with graphs inside
    need_gb : memory (GB) by name of the class of the interface
    """
    for node in workflow._graph.nodes():
        if isinstance(node, pe.Workflow):
            declare_memory(node, need_gb)
        else:
            kind = type(node.interface).__name__
            node._mem_gb = _NEXT_TO_NOTHING_GB if node.run_without_submitting else need_gb(kind)
