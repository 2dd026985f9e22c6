"""A graph as a workflow of nipype: a nipype node for each node, a workflow for each scope."""

from collections.abc import Callable
from pathlib import Path

from nipype.interfaces.utility import Merge
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.config.memory import Need
from bids_sr.pipeline.graph import Graph
from bids_sr.pipeline.input_checksums import inputs_checksums
from bids_sr.pipeline.nipype_interface import INPUTS_CHECKSUM
from bids_sr.pipeline.nodes import Handle, Node, Scope, Wire

_NEXT_TO_NOTHING_GB = 0.01  # nodes that run in the scheduler itself


def workflow_of(
    graph: Graph,
    *,
    base_dir: Path,
    need_gb: Callable[[Need], float],
    seconds: Callable[[Node], float] = lambda node: node.cost.always,
) -> LiterateWorkflow:
    """The workflow of a graph: that of its outermost scope, with those of inner scopes inside it.

    `need_gb`: memory to declare (GB) for that of a step. `seconds`: processor time of a node,
    which its nipype node has as ``seconds``.
    """
    flows = {
        one: LiterateWorkflow(name=one.name)
        for one in graph.scope.inward()
        if any(inner.nodes for inner in one.inward())
    }
    flows[graph.scope].base_dir = str(base_dir)
    # what an output lists is not among the outputs
    flows[graph.scope].config["execution"]["remove_unnecessary_outputs"] = "false"
    for scope, flow in flows.items():
        if scope is not graph.scope and scope.outer is not None:
            flows[scope.outer].add_nodes([flow])
    nipype_nodes = {node: _nipype_node(node, graph, need_gb) for node in graph.nodes}
    for node, checksum in inputs_checksums(graph).items():
        setattr(nipype_nodes[node].inputs, INPUTS_CHECKSUM, checksum)
    for node, nipype_node in nipype_nodes.items():
        nipype_node.seconds = seconds(node)
        flows[node.scope].add_nodes([nipype_node])
    for node, wires in graph.wires.items():
        for name, wire in wires.items():
            _connect(wire, node.scope, nipype_nodes[node], name, flows, nipype_nodes)
    for scope, flow in flows.items():
        for nipype_node in flow._graph.nodes():
            nipype_node.owner = scope.owner
    return flows[graph.scope]


def _nipype_node(node: Node, graph: Graph, need_gb: Callable[[Need], float]) -> pe.Node:
    settings = graph.settings[node]
    nipype_node = pe.Node(
        node.step.interface(**settings),
        name=node.name,
        n_procs=settings.get("omp_nthreads", 1),
    )
    nipype_node.run_without_submitting = node.light
    nipype_node._mem_gb = _NEXT_TO_NOTHING_GB if node.light else need_gb(node.step.memory)
    for name, wire in graph.wires[node].items():
        if wire.names:
            setattr(nipype_node.inputs, f"{name}_names", list(wire.names))
    return nipype_node


def _connect(
    wire: Wire,
    scope: Scope,
    target: pe.Node,
    name: str,
    flows: dict[Scope, LiterateWorkflow],
    nipype_nodes: dict[Node, pe.Node],
) -> None:
    """Connect handles to an input of a node, by a node that joins them if there are several."""
    made = [handle for handle in wire.handles if handle.node is not None]
    if not made:
        files = [handle.source for handle in wire.handles]
        several = [
            str(one) for value in files for one in (value if isinstance(value, list) else [value])
        ]
        setattr(
            target.inputs,
            name,
            several if len(several) > 1 or isinstance(files[0], list) else several[0],
        )
        return
    if len(wire.handles) == 1:
        _add_edge(made[0], scope, target, name, flows, nipype_nodes)
        return
    merge = pe.Node(
        Merge(len(wire.handles)), name=f"{target.name}_{name}", run_without_submitting=True
    )
    merge._mem_gb = _NEXT_TO_NOTHING_GB
    flows[scope].add_nodes([merge])
    for number, handle in enumerate(wire.handles, 1):
        if handle.node is not None:
            _add_edge(handle, scope, merge, f"in{number}", flows, nipype_nodes)
        else:
            setattr(merge.inputs, f"in{number}", handle.source)
    flows[scope].connect(merge, "out", target, name)


def _add_edge(
    handle: Handle,
    scope: Scope,
    target: pe.Node,
    name: str,
    flows: dict[Scope, LiterateWorkflow],
    nipype_nodes: dict[Node, pe.Node],
) -> None:
    node = handle.node
    assert node is not None
    around = set(node.scope.outward())
    common = next(one for one in scope.outward() if one in around)
    source = _seen_from(common, node.scope, nipype_nodes[node], handle.name, flows)
    flows[common].connect(*source, *_seen_from(common, scope, target, name, flows))


def _seen_from(
    common: Scope,
    scope: Scope,
    nipype_node: pe.Node,
    name: str,
    flows: dict[Scope, LiterateWorkflow],
) -> tuple[pe.Node | LiterateWorkflow, str]:
    """Return (node or inner workflow, dotted field name) for a connection in the common scope."""
    around = set(common.outward())
    between = [one for one in scope.outward() if one not in around][::-1]
    inside = [*(one.name for one in between[1:]), nipype_node.name, name]
    return (flows[between[0]], ".".join(inside)) if between else (nipype_node, name)
