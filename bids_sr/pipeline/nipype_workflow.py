"""Conversion of a graph to nipype: a nipype node per node, and a workflow per scope."""

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

_NEXT_TO_NOTHING_GB = 0.01  # memory of nodes that run in the scheduler itself


def make_workflow(
    graph: Graph,
    *,
    base_dir: Path,
    need_gb: Callable[[Need], float],
    seconds: Callable[[Node], float] = lambda node: node.cost.always,
) -> LiterateWorkflow:
    """Return the nipype workflow of a graph, with a nested workflow per inner scope.

    `need_gb` returns the memory (GB) to declare for the need of a step. `seconds` returns the
    processor time of a node, which becomes the attribute ``seconds`` of the nipype node.
    """
    flows = {
        scope_with_nodes: LiterateWorkflow(name=scope_with_nodes.name)
        for scope_with_nodes in graph.scope.inward()
        if any(inner.nodes for inner in scope_with_nodes.inward())
    }
    flows[graph.scope].base_dir = str(base_dir)
    # files that an output only lists would otherwise be removed
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
    """Return the nipype node of a node, with its settings and resources."""
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
    """Connect handles to an input of a node, through a merging node if there are several."""
    node_handles = [handle for handle in wire.handles if handle.node is not None]
    if not node_handles:
        files = [handle.source for handle in wire.handles]
        paths = [
            str(path)
            for value in files
            for path in (value if isinstance(value, list) else [value])
        ]
        setattr(
            target.inputs,
            name,
            paths if len(paths) > 1 or isinstance(files[0], list) else paths[0],
        )
        return
    if len(wire.handles) == 1:
        _add_edge(node_handles[0], scope, target, name, flows, nipype_nodes)
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
    """Connect an output to an input in the innermost common scope."""
    node = handle.node
    assert node is not None
    enclosing = set(node.scope.outward())
    common = next(outer_scope for outer_scope in scope.outward() if outer_scope in enclosing)
    source = _endpoint(common, node.scope, nipype_nodes[node], handle.name, flows)
    flows[common].connect(*source, *_endpoint(common, scope, target, name, flows))


def _endpoint(
    common: Scope,
    scope: Scope,
    nipype_node: pe.Node,
    name: str,
    flows: dict[Scope, LiterateWorkflow],
) -> tuple[pe.Node | LiterateWorkflow, str]:
    """Return (node or inner workflow, dotted field name) for a connection in the common scope."""
    enclosing = set(common.outward())
    inner_scopes = [
        outer_scope for outer_scope in scope.outward() if outer_scope not in enclosing
    ][::-1]
    field_path = [*(inner_scope.name for inner_scope in inner_scopes[1:]), nipype_node.name, name]
    return (flows[inner_scopes[0]], ".".join(field_path)) if inner_scopes else (nipype_node, name)
