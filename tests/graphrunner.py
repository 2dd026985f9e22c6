"""Nodes of a graph of the program run in this process, as a workflow would run them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bids_sr.pipeline.artifacts import REQUIRED
from bids_sr.pipeline.graph import Graph, Maker, Placed


class GraphRunner:
    """What nodes make, as it is asked for: only what an artifact needs is run, each node once.

    `folder`: of the folders of nodes, which exchange files.
    """

    def __init__(self, graph: Graph, folder: Path) -> None:
        self.graph, self._folder = graph, folder
        self._made: dict[Placed, Mapping[str, object]] = {}

    def node(self, step: str, scope: str = "") -> Placed:
        """The only node of a step, or the one in a scope of this name."""
        (node,) = (
            one
            for one in self.graph.placed
            if one.step.__name__ == step and scope in ("", one.scope.name)
        )
        return node

    def load(self, node: Placed, *names: str) -> list[Any]:
        """Values of outputs of a node, in memory; series are files, and open."""
        for one in self._needed(node, {*self._made}):
            here = self._folder / str(one)
            here.mkdir()
            self._made[one] = one.step.on_files(self._given(one), here)
        return [self._loaded(Maker(node, name)) for name in names]

    def _needed(self, node: Placed, there: set[Placed]) -> Iterator[Placed]:
        """Missing nodes that a node needs, itself included, in the order of dependency."""
        if node in there:
            return
        there.add(node)
        for wire in self.graph.wires[node].values():
            for maker in wire.makers:
                if maker.placed is not None:
                    yield from self._needed(maker.placed, there)
        yield node

    def _given(self, node: Placed) -> dict[str, object]:
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
            found = [self._value(each) for each in wire.makers]
            if wire.names:
                values[name], values[f"{name}_names"] = found, list(wire.names)
            elif len(found) == 1:
                values[name] = found[0]
            else:
                values[name] = [one for each in found for one in _listed(each)]
        return values

    def _value(self, maker: Maker) -> object:
        return maker.source if maker.placed is None else self._made[maker.placed].get(maker.name)

    def _loaded(self, maker: Maker) -> object:
        value = self._value(maker)
        return value if maker.port is None else maker.port.load(value, ExitStack())


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else [value]
