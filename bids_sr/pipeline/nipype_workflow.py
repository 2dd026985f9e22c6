"""A resolved graph as a workflow of nipype: a node for each step, a workflow for each scope."""

from collections.abc import Callable
from pathlib import Path

from nipype.interfaces.utility import Merge
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.config.machine import Need
from bids_sr.pipeline.graph import Graph, Maker, Placed, Scope, Wire
from bids_sr.pipeline.input_checksums import inputs_checksums
from bids_sr.pipeline.nipype_interface import INPUTS_CHECKSUM

_NEXT_TO_NOTHING_GB = 0.01  # nodes that run in the scheduler itself


def workflow_of(
    graph: Graph,
    *,
    base_dir: Path,
    need_gb: Callable[[Need], float],
    seconds: Callable[[Placed], float] = lambda placed: placed.cost.always,
) -> LiterateWorkflow:
    """The workflow of a graph: that of its outermost scope, with those of inner scopes inside it.

    `need_gb`: memory to declare (GB) for that of a step. `seconds`: processor time of a step,
    which its node has as ``seconds``.
    """
    flows = {
        one: LiterateWorkflow(name=one.name)
        for one in graph.scope.inward()
        if any(s.steps for s in one.inward())
    }
    flows[graph.scope].base_dir = str(base_dir)
    # what an output lists is not among the outputs
    flows[graph.scope].config["execution"]["remove_unnecessary_outputs"] = "false"
    for scope, flow in flows.items():
        if scope is not graph.scope and scope.outer is not None:
            flows[scope.outer].add_nodes([flow])
    nodes = {placed: _node(placed, graph, need_gb) for placed in graph.placed}
    for placed, checksum in inputs_checksums(graph).items():
        setattr(nodes[placed].inputs, INPUTS_CHECKSUM, checksum)
    for placed, node in nodes.items():
        node.seconds = seconds(placed)
        flows[placed.scope].add_nodes([node])
    for placed, wires in graph.wires.items():
        for name, wire in wires.items():
            _connect(wire, placed.scope, nodes[placed], name, flows, nodes)
    for scope, flow in flows.items():
        for each in flow._graph.nodes():
            each.whom = scope.whom
    return flows[graph.scope]


def _node(placed: Placed, graph: Graph, need_gb: Callable[[Need], float]) -> pe.Node:
    given = graph.settings[placed]
    node = pe.Node(
        placed.step.interface(**given), name=placed.name, n_procs=given.get("omp_nthreads", 1)
    )
    node.run_without_submitting = placed.light
    node._mem_gb = _NEXT_TO_NOTHING_GB if placed.light else need_gb(placed.step.memory)
    for name, wire in graph.wires[placed].items():
        if wire.names:
            setattr(node.inputs, f"{name}_names", list(wire.names))
    return node


def _connect(
    wire: Wire,
    scope: Scope,
    node: pe.Node,
    name: str,
    flows: dict[Scope, LiterateWorkflow],
    nodes: dict[Placed, pe.Node],
) -> None:
    """Connect makers to an input of a node, by a node that joins them where there are several."""
    made = [maker for maker in wire.makers if isinstance(maker.source, Placed)]
    if not made:
        files = [maker.source for maker in wire.makers]
        several = [
            str(each)
            for found in files
            for each in (found if isinstance(found, list) else [found])
        ]
        setattr(
            node.inputs,
            name,
            several if len(several) > 1 or isinstance(files[0], list) else several[0],
        )
        return
    if len(wire.makers) == 1:
        _edge(made[0], scope, node, name, flows, nodes)
        return
    merge = pe.Node(
        Merge(len(wire.makers)), name=f"{node.name}_{name}", run_without_submitting=True
    )
    merge._mem_gb = _NEXT_TO_NOTHING_GB
    flows[scope].add_nodes([merge])
    for number, maker in enumerate(wire.makers, 1):
        if isinstance(maker.source, Placed):
            _edge(maker, scope, merge, f"in{number}", flows, nodes)
        else:
            setattr(merge.inputs, f"in{number}", maker.source)
    flows[scope].connect(merge, "out", node, name)


def _edge(
    maker: Maker,
    scope: Scope,
    node: pe.Node,
    name: str,
    flows: dict[Scope, LiterateWorkflow],
    nodes: dict[Placed, pe.Node],
) -> None:
    placed = maker.source
    assert isinstance(placed, Placed)
    around = set(placed.scope.outward())
    common = next(one for one in scope.outward() if one in around)
    source = _seen_from(common, placed.scope, nodes[placed], maker.name, flows)
    flows[common].connect(*source, *_seen_from(common, scope, node, name, flows))


def _seen_from(
    common: Scope, scope: Scope, node: pe.Node, name: str, flows: dict[Scope, LiterateWorkflow]
) -> tuple[pe.Node | LiterateWorkflow, str]:
    """Return (node or inner workflow, dotted field name) for a connection in the common scope."""
    around = set(common.outward())
    between = [one for one in scope.outward() if one not in around][::-1]
    inside = [*(one.name for one in between[1:]), node.name, name]
    return (flows[between[0]], ".".join(inside)) if between else (node, name)
