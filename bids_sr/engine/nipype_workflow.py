"""Conversion of a graph to nipype: a nipype node per node, and a workflow per scope."""

from collections.abc import Callable, Mapping
from pathlib import Path

from nipype.pipeline import engine as pe

from bids_sr.engine.graph import Graph
from bids_sr.engine.memory import Need
from bids_sr.engine.nipype_interface import CHECKSUM, MergeFiles
from bids_sr.engine.nodes import Handle, Node, Scope, Wire
from bids_sr.engine.step_checksums import compute_checksums
from bids_sr.io.frozen import frozen

_SCHEDULER_NODE_GB = 0.01  # memory of nodes that run in the scheduler itself


@frozen
class _Connections:
    """Connections between the nipype nodes of each node, in the workflow of each scope."""

    workflows: Mapping[Scope, pe.Workflow]
    nipype_nodes: Mapping[Node, pe.Node]

    def connect(self, wire: Wire, node: Node, name: str) -> None:
        """Connect handles to an input of a node, through a merging node if there are several."""
        target = self.nipype_nodes[node]
        node_handles = [handle for handle in wire.handles if handle.node is not None]
        if not node_handles:
            setattr(target.inputs, name, _list_given_files(wire))
            return
        if len(wire.handles) == 1:
            self._add_edge(node_handles[0], node.scope, target, name)
            return
        merge = pe.Node(
            MergeFiles(len(wire.handles)),
            name=f"{target.name}_{name}",
            run_without_submitting=True,
        )
        merge._mem_gb = _SCHEDULER_NODE_GB
        self.workflows[node.scope].add_nodes([merge])
        for number, handle in enumerate(wire.handles, 1):
            if handle.node is not None:
                self._add_edge(handle, node.scope, merge, f"in{number}")
            else:
                setattr(merge.inputs, f"in{number}", handle.source)
        self.workflows[node.scope].connect(merge, "out", target, name)

    def _add_edge(self, handle: Handle, scope: Scope, target: pe.Node, name: str) -> None:
        """Connect an output to an input of a node in `scope`, in the innermost common scope."""
        node = handle.node
        assert node is not None
        enclosing_scopes = set(node.scope.outward())
        common_scope = next(outer for outer in scope.outward() if outer in enclosing_scopes)
        source = self._find_endpoint(
            common_scope, node.scope, self.nipype_nodes[node], handle.name
        )
        target_endpoint = self._find_endpoint(common_scope, scope, target, name)
        self.workflows[common_scope].connect(*source, *target_endpoint)

    def _find_endpoint(
        self, common_scope: Scope, scope: Scope, nipype_node: pe.Node, name: str
    ) -> tuple[pe.Node | pe.Workflow, str]:
        """Return (node or inner workflow, dotted field name) for an edge in the common scope."""
        enclosing_scopes = set(common_scope.outward())
        inner_scopes = [outer for outer in scope.outward() if outer not in enclosing_scopes][::-1]
        if not inner_scopes:
            return nipype_node, name
        scope_names = [inner_scope.name for inner_scope in inner_scopes[1:]]
        return self.workflows[inner_scopes[0]], ".".join([*scope_names, nipype_node.name, name])


def make_workflow(
    graph: Graph,
    *,
    base_dir: Path,
    need_gb: Callable[[Need], float],
    seconds: Callable[[Node], float] = lambda _: 1.0,
) -> pe.Workflow:
    """Return the nipype workflow of a graph, with a nested workflow per inner scope.

    `need_gb` returns the memory (GB) to declare for the need of a step. `seconds` returns the
    expected time of a node, which becomes the attribute ``seconds`` of the nipype node.
    """
    workflows = {
        scope: pe.Workflow(name=scope.name)
        for scope in graph.scope.inward()
        if any(inner_scope.nodes for inner_scope in scope.inward())
    }
    workflows[graph.scope].base_dir = str(base_dir)
    # files that an output only lists would otherwise be removed
    workflows[graph.scope].config["execution"]["remove_unnecessary_outputs"] = "false"
    for scope, workflow in workflows.items():
        if scope is not graph.scope and scope.outer is not None:
            workflows[scope.outer].add_nodes([workflow])
    nipype_nodes = {node: _make_nipype_node(node, graph, need_gb) for node in graph.nodes}
    for node, checksum in compute_checksums(graph).items():
        setattr(nipype_nodes[node].inputs, CHECKSUM, checksum)
    for node, nipype_node in nipype_nodes.items():
        nipype_node.seconds = seconds(node)
        workflows[node.scope].add_nodes([nipype_node])
    connections = _Connections(workflows=workflows, nipype_nodes=nipype_nodes)
    for node, wires in graph.wires.items():
        for name, wire in wires.items():
            connections.connect(wire, node, name)
    for scope, workflow in workflows.items():
        for nipype_node in workflow._graph.nodes():
            nipype_node.owner = scope.owner
    return workflows[graph.scope]


def _make_nipype_node(node: Node, graph: Graph, need_gb: Callable[[Need], float]) -> pe.Node:
    """Return the nipype node of a node, with its settings and resources."""
    settings = graph.settings[node]
    nipype_node = pe.Node(
        node.step.interface(**settings),
        name=node.name,
        n_procs=settings.get("omp_nthreads", 1),
    )
    nipype_node.run_without_submitting = node.is_light
    nipype_node._mem_gb = _SCHEDULER_NODE_GB if node.is_light else need_gb(node.step.memory)
    for name, wire in graph.wires[node].items():
        if wire.names:
            setattr(nipype_node.inputs, f"{name}_names", list(wire.names))
    return nipype_node


def _list_given_files(wire: Wire) -> str | list[str]:
    """Return the path of a given file, or the list of paths of several files."""
    values = [handle.source for handle in wire.handles]
    paths = [
        str(path) for value in values for path in (value if isinstance(value, list) else [value])
    ]
    return paths if len(paths) > 1 or isinstance(values[0], list) else paths[0]
