"""Nodes of a graph of the program run in this process, as a workflow would run them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bids_sr.pipeline.artifacts import REQUIRED
from bids_sr.pipeline.graph import Graph
from bids_sr.pipeline.nodes import Handle, Node


class GraphRunner:
    """What nodes make, as it is asked for: only what an artifact needs is run, each node once.

    `folder`: of the folders of nodes, which exchange files.
    """

    def __init__(self, graph: Graph, folder: Path) -> None:
        self.graph, self._folder = graph, folder
        self._made: dict[Node, Mapping[str, object]] = {}

    def node(self, step: str, scope: str = "") -> Node:
        """The only node of a step, or the one in a scope of this name."""
        (node,) = (
            one
            for one in self.graph.nodes
            if one.step.__name__ == step and scope in ("", one.scope.name)
        )
        return node

    def load(self, node: Node, *names: str) -> list[Any]:
        """Values of outputs of a node, in memory; series are files, and open."""
        for one in self._needed(node, {*self._made}):
            here = self._folder / str(one)
            here.mkdir()
            self._made[one] = one.step.on_files(self._given(one), here)
        return [self._loaded(Handle(node, name)) for name in names]

    def _needed(self, node: Node, there: set[Node]) -> Iterator[Node]:
        """Missing nodes that a node needs, itself included, in the order of dependency."""
        if node in there:
            return
        there.add(node)
        for wire in self.graph.wires[node].values():
            for handle in wire.handles:
                if handle.node is not None:
                    yield from self._needed(handle.node, there)
        yield node

    def _given(self, node: Node) -> dict[str, object]:
        """Settings of a step, and the files, or given values, of its artifacts."""
        lists = (
            name
            for name, port in node.step.inputs.items()
            if port.many and port.default is REQUIRED
        )
        values: dict[str, object] = {
            **{name: [] for name in lists},
            **self.graph.settings[node],
        }
        for name, wire in self.graph.wires[node].items():
            found = [self._value(each) for each in wire.handles]
            if wire.names:
                values[name], values[f"{name}_names"] = found, list(wire.names)
            elif len(found) == 1:
                values[name] = found[0]
            else:
                values[name] = [one for each in found for one in _listed(each)]
        return values

    def _value(self, handle: Handle) -> object:
        return handle.source if handle.node is None else self._made[handle.node].get(handle.name)

    def _loaded(self, handle: Handle) -> object:
        value = self._value(handle)
        return value if handle.port is None else handle.port.load(value, ExitStack())


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else [value]
