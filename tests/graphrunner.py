"""Run the steps of a graph that some outputs need, in this process and without nipype."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from bids_sr.pipeline.graph import Graph
from bids_sr.pipeline.nodes import Handle, Node
from bids_sr.pipeline.port import REQUIRED


def handle_of(graph: Graph, step: str, output: str, scope: str = "") -> Handle:
    """Return the handle of an output of the only call of a step, in scopes of a name if given."""
    nodes = [node for node in graph.nodes if node.step.__name__ == step]
    (node,) = [node for node in nodes if scope in ("", node.scope.name)]
    return Handle(node, output)


def output_of(graph: Graph, output: str, scope: str) -> Handle:
    """Return the handle of the only output of a name in a scope, whichever step makes it."""
    nodes = [node for node in graph.nodes if node.scope.name == scope]
    (node,) = [node for node in nodes if output in node.step.outputs]
    return Handle(node, output)


class GraphRunner:
    """Outputs of a graph, made as they are asked for.

    Each step is run once, in a folder of its own below `folder`. Steps exchange files, as in a
    workflow, so that values are those of the program.
    """

    def __init__(self, graph: Graph, folder: Path) -> None:
        self.graph, self._folder = graph, folder
        self._made: dict[Node, Mapping[str, object]] = {}

    def load(self, *handles: Handle) -> list[object]:
        """Return values of outputs, in memory; series are files, and open."""
        for node in self._needed(handles, {*self._made}):
            here = self._folder / str(node)
            here.mkdir()
            self._made[node] = node.step.on_files(self._given(node), here)
        return [self._loaded(handle) for handle in handles]

    def _needed(self, handles: Sequence[Handle], done: set[Node]) -> Iterator[Node]:
        """Yield nodes that outputs need and that are not in `done`, sources first."""
        for node in (handle.node for handle in handles):
            if node is not None and node not in done:
                done.add(node)
                wires = self.graph.wires[node].values()
                yield from self._needed([one for wire in wires for one in wire.handles], done)
                yield node

    def _given(self, node: Node) -> dict[str, object]:
        ports = node.step.inputs.items()
        lists = (name for name, port in ports if port.many and port.default is REQUIRED)
        given: dict[str, object] = {**{name: [] for name in lists}, **self.graph.settings[node]}
        for name, wire in self.graph.wires[node].items():
            values = [self._value(handle) for handle in wire.handles]
            if wire.names:
                given[name], given[f"{name}_names"] = values, list(wire.names)
            elif len(values) == 1:
                given[name] = values[0]
            else:
                inside = (one if isinstance(one, list) else [one] for one in values)
                given[name] = [value for one in inside for value in one]
        return given

    def _value(self, handle: Handle) -> object:
        return handle.source if handle.node is None else self._made[handle.node].get(handle.name)

    def _loaded(self, handle: Handle) -> object:
        value = self._value(handle)
        return value if handle.port is None else handle.port.load(value, ExitStack())
