"""Lists of the graphs of all cases of `tests/contracts/test_graphs.py`, which compares them.

::

python tests/graphlists.py

regenerates them. A list contains the scopes of a graph with their steps in the order of the calls.
Each step is followed by its inputs, with their origins, and by the stored files of its outputs.
The list ends with the methods text.
"""

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bids_sr.pipeline.graph import Graph
from bids_sr.pipeline.nodes import Handle, Node, Scope
from bids_sr.pipeline.provenance import Provenance

HERE = Path(__file__).parent
LISTS = HERE / "contracts" / "graphs"


def list_file(case: str) -> Path:
    """Return the file that lists the graph of a case."""
    return LISTS / (re.sub(r"[^a-z0-9]+", "-", case.lower()).strip("-") + ".txt")


def graph_list(graph: Graph, root: Path) -> str:
    """Return the list of a graph; the path of its data set, `root`, is replaced."""
    provenance = Provenance(graph.wires, graph.scope.store, graph.scope.uri)
    lines = [*_scope_lines(graph, graph.scope, provenance), "", *_text_lines(graph)]
    return "\n".join(lines).replace(str(root), "ROOT").rstrip() + "\n"


def _scope_lines(graph: Graph, scope: Scope, provenance: Provenance) -> Iterator[str]:
    steps = [node for node in scope.nodes if node.step is not scope.store]
    if steps:
        yield f"{scope.path}:"
    for node in steps:
        wires = graph.wires[node].items()
        inputs = [
            f"{name}={'+'.join(_origin(handle, scope) for handle in wire.handles)}"
            for name, wire in wires
        ]
        yield " ".join([f"  {node.name}", *inputs])
        for store in scope.nodes:
            if store.step is scope.store:
                yield from _stored(graph, store, node, provenance)
    for inner in scope.inner:
        yield from _scope_lines(graph, inner, provenance)


def _origin(handle: Handle, scope: Scope) -> str:
    """Return step and output of a handle, preceded by scopes that it does not share."""
    if handle.node is None:
        return "given"
    ancestors = set(scope.outward())
    names = [outer.name for outer in handle.node.scope.outward() if outer not in ancestors]
    return ".".join([*reversed(names), handle.node.name, handle.name])


def _stored(graph: Graph, store: Node, node: Node, provenance: Provenance) -> Iterator[str]:
    """Yield the path of a stored output, and the data sets that contain it."""
    settings = graph.settings[store]
    exported = settings["exported_as"]
    places = ["stored"] if settings["in_output"] else []
    if exported is not None and settings["datasets"]:
        places.append(f"exported as {exported}" if exported else "exported")
    for handle in graph.wires[store]["files"].handles:
        if handle.node is node:
            path = provenance.stored_uris.get(handle, "names of files").removeprefix("bids::")
            yield f"    {handle.name}: {path} ({', '.join(places)})"


def _text_lines(graph: Graph) -> Iterator[str]:
    """Yield the methods text, one sentence per line."""
    for paragraph in graph.methods_text().strip().split("\n\n"):
        yield from re.split(r"(?<=[a-z)\]]\.) (?=[A-Z])", paragraph)
        yield ""


def main() -> None:
    """Write the lists of all cases."""
    sys.path.insert(0, str(HERE / "contracts"))
    from test_graphs import CASES, plan_case

    LISTS.mkdir(exist_ok=True)
    for path in LISTS.iterdir():
        path.unlink()
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder).resolve()
            text = graph_list(plan_case(case, root).graph, root)
        list_file(case).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
