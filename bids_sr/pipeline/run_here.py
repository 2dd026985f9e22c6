"""Run the steps of a graph in sequence in this process, without nipype.

This is for use from Python, on files below a folder.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from bids_sr.pipeline.graph import Graph, Maker, Placed, Scope
from bids_sr.pipeline.port import REQUIRED


class RunHere:
    """What a scope makes, as it is asked for.

    Only steps that an artifact needs are run, each once. They exchange files, as in a workflow, so
    that values are those of the program. Steps may be placed between two requests.
    """

    def __init__(self, scope: Scope, folder: Path, say: Callable[[str], object] = str) -> None:
        self._scope, self._folder, self._say = scope, folder, say
        self._made: dict[Placed, Mapping[str, object]] = {}

    def load(self, *makers: Maker) -> list[object]:
        """Make artifacts.

        `*makers`: who makes them, see `bids_sr.pipeline.graph.Scope`. `GraphError`: a step is
        asked for what no other makes, or for a setting that is not there. Their values, in memory;
        series are files, and open.
        """
        graph = Graph(self._scope)
        for placed in _needed(graph, makers, {*self._made}):
            inner = "" if placed.scope is self._scope else f"{placed.scope.name}: "
            self._say(inner + placed.name.replace("_", " "))
            here = self._folder / str(placed)
            here.mkdir()
            self._made[placed] = placed.step.on_files(self._given(graph, placed), here)
        return [self._loaded(maker) for maker in makers]

    def _given(self, graph: Graph, placed: Placed) -> dict[str, object]:
        """Settings of a step, and the files, or given values, of its artifacts."""
        lists = (
            name
            for name, port in placed.step.inputs.items()
            if port.many and port.default is REQUIRED
        )
        given: dict[str, object] = {**{name: [] for name in lists}, **graph.settings[placed]}
        for name, wire in graph.wires[placed].items():
            found = [self._value(each) for each in wire.makers]
            if wire.names:
                given[name], given[f"{name}_names"] = found, list(wire.names)
            else:
                given[name] = (
                    found[0]
                    if len(found) == 1
                    else [one for each in found for one in _listed(each)]
                )
        return given

    def _value(self, maker: Maker) -> object:
        return maker.source if maker.placed is None else self._made[maker.placed].get(maker.name)

    def _loaded(self, maker: Maker) -> object:
        value = self._value(maker)
        return value if maker.port is None else maker.port.load(value, ExitStack())


def _needed(graph: Graph, makers: Sequence[Maker], there: set[Placed]) -> Iterator[Placed]:
    """Yield the missing steps that artifacts need, in dependency order.

    Steps in `there` are not repeated.
    """
    for placed in (maker.placed for maker in makers):
        if placed is not None and placed not in there:
            there.add(placed)
            yield from _needed(
                graph,
                [each for wire in graph.wires[placed].values() for each in wire.makers],
                there,
            )
            yield placed


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
