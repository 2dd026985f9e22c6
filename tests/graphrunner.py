"""Run the steps that some outputs need, in this process and without nipype."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from bids_sr.engine.graph import Graph
from bids_sr.engine.nodes import Handle, Node
from bids_sr.engine.port import REQUIRED


def handle_of(graph: Graph, step: str, output: str, scope: str = "") -> Handle:
    """Return the handle of an output of a step, which must be unique (within a scope, if
    given).
    """
    nodes = [node for node in graph.nodes if node.step.__name__ == step]
    (node,) = [node for node in nodes if scope in ("", node.scope.name)]
    return Handle(node, output)


def output_of(graph: Graph, output: str, scope: str) -> Handle:
    """Return the handle of an output that only one step in a scope has."""
    nodes = [node for node in graph.nodes if node.scope.name == scope]
    (node,) = [node for node in nodes if output in node.step.outputs]
    return Handle(node, output)


def files_of(graph: Graph, output: str, scope: str = "") -> Handle:
    """Return the handle of the files of a stored output, which must be unique (within a scope, if
    given).
    """
    nodes = [node for node in graph.nodes if node.name == f"store_{output}"]
    (node,) = [node for node in nodes if scope in ("", node.scope.name)]
    return Handle(node, "stored")


class GraphRunner:
    """Outputs of a graph, computed when they are requested.

    Each step runs once, in its own folder below `folder`. Steps exchange files, as in a workflow,
    so that values equal the values of the program.
    """

    def __init__(self, graph: Graph, folder: Path) -> None:
        self.graph, self._folder = graph, folder
        self._outputs: dict[Node, Mapping[str, object]] = {}

    def load(self, *handles: Handle) -> list[object]:
        """Return values of outputs, in memory; series are open files."""
        for node in self._needed(handles, {*self._outputs}):
            folder = self._folder / str(node)
            folder.mkdir()
            self._outputs[node] = node.step.run_on_files(self._inputs(node), folder)
        return [self._load(handle) for handle in handles]

    def _needed(self, handles: Sequence[Handle], done: set[Node]) -> Iterator[Node]:
        """Yield nodes that outputs need and that are not in `done`, sources first."""
        for node in (handle.node for handle in handles):
            if node is not None and node not in done:
                done.add(node)
                wires = self.graph.wires[node].values()
                yield from self._needed(
                    [wire_handle for wire in wires for wire_handle in wire.handles], done
                )
                yield node

    def _inputs(self, node: Node) -> dict[str, object]:
        ports = node.step.inputs.items()
        lists = (name for name, port in ports if port.container and port.default is REQUIRED)
        inputs: dict[str, object] = {**{name: [] for name in lists}, **self.graph.settings[node]}
        for name, wire in self.graph.wires[node].items():
            values = [self._value(handle) for handle in wire.handles]
            if wire.names:
                inputs[name], inputs[f"{name}_names"] = values, list(wire.names)
            elif len(values) == 1:
                inputs[name] = values[0]
            else:
                parts = (items if isinstance(items, list) else [items] for items in values)
                inputs[name] = [value for items in parts for value in items]
        return inputs

    def _value(self, handle: Handle) -> object:
        return (
            handle.source if handle.node is None else self._outputs[handle.node].get(handle.name)
        )

    def _load(self, handle: Handle) -> object:
        value = self._value(handle)
        return value if handle.port is None else handle.port.load(value, ExitStack())
