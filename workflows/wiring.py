"""Ends of workflows, fields that connect them, joins of what several nodes give, memory that nodes declare."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

Pairs = list[tuple[str, str]]
Edges = list[tuple[Any, Any, list[Any]]]
Source = tuple[pe.Node | LiterateWorkflow, str]
"""A node or workflow, and its output."""


class Part(IntEnum):
    """Parts of the methods text, in the order of the processing."""

    OPENING = 0
    ANATOMY = 1
    PAIR = 2
    PREPROCESSING = 3
    SERIES = 4
    MAPS = 5
    EVALUATION = 6


class Stage(LiterateWorkflow):
    """A workflow whose methods text stands in one part of the whole; None is the part of the workflow around it."""

    part: Part | None = None


def new_stage(
    name: str, text: str, *, inputs: Iterable[str], outputs: Iterable[str], part: Part | None = None
) -> tuple[LiterateWorkflow, pe.Node, pe.Node]:
    """A workflow with its methods text and the part that this stands in, its inputnode and its outputnode."""
    workflow = Stage(name=name)
    workflow.__desc__, workflow.part = text, part
    inputnode = pe.Node(niu.IdentityInterface(fields=list(inputs)), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=list(outputs)), name="outputnode")
    workflow.add_nodes([inputnode, outputnode])
    return workflow, inputnode, outputnode


def one_step(
    name: str, text: str, step: pe.Node, *, inputs: Pairs, outputs: Pairs, part: Part | None = None
) -> LiterateWorkflow:
    """A workflow of one node; `inputs` and `outputs` connect it to the fields of the ends (see `same`)."""
    workflow, inputnode, outputnode = new_stage(
        name, text, inputs=[field for field, _ in inputs], outputs=[field for _, field in outputs], part=part
    )
    workflow.connect([(inputnode, step, inputs), (step, outputnode, outputs)])
    return workflow


def joined(workflow: LiterateWorkflow, name: str, sources: Sequence[Source]) -> pe.Node:
    """A node whose ``out`` is one list of several outputs, in their order."""
    node = pe.Node(niu.Merge(len(sources)), name=name, run_without_submitting=True)
    workflow.connect([(source, node, [(out, f"in{number}")]) for number, (source, out) in enumerate(sources, 1)])
    return node


def fields_of(workflow: LiterateWorkflow, end: str = "inputnode") -> list[str]:
    """Inputs of a workflow, or its outputs, with ``outputnode``."""
    return list(workflow.get_node(end).inputs.copyable_trait_names())


def set_given(node: pe.Node, values: Mapping[str, Any]) -> None:
    """Set inputs of a node, but for those that are None."""
    node.inputs.trait_set(**{name: value for name, value in values.items() if value is not None})


def same(*fields: str, **renamed: str) -> Pairs:
    """Fields that connect two nodes: of the same name, then ``output="input"``."""
    return [*((field, field) for field in fields), *renamed.items()]


def into(*fields: str, **renamed: str) -> Pairs:
    """Fields that connect a node to the inputs of a workflow; see `same`."""
    return [(out, f"inputnode.{field}") for out, field in same(*fields, **renamed)]


def out_of(*fields: str, **renamed: str) -> Pairs:
    """Fields that connect the outputs of a workflow to a node; see `same`."""
    return [(f"outputnode.{out}", field) for out, field in same(*fields, **renamed)]


def passed(*fields: str, **renamed: str) -> Pairs:
    """Fields that connect the outputs of a workflow to the inputs of the next; see `same`."""
    return [(f"outputnode.{out}", f"inputnode.{field}") for out, field in same(*fields, **renamed)]


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
