"""Listing of a graph: inputs and outputs of all nodes, except for storing steps."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from bids_sr.pipeline.graph import Graph
from bids_sr.pipeline.nodes import Node, Scope, Wire


class _ListingLine(NamedTuple):
    """Line of the listing: a step, scopes with equal content, or steps listed before.

    Attributes
    ----------
    outputs : str
        Outputs, with the entities of stored outputs in brackets.
    inputs : str
        Inputs, with the steps that compute them in parentheses.
    module_file : str
        File below ``bids_sr/steps``.
    """

    depth: int
    name: str
    outputs: str = ""
    inputs: str = ""
    settings: str = ""
    module_file: str = ""

    def __str__(self) -> str:
        texts = (
            self.module_file and f" ({self.module_file})",
            self.outputs and f": {self.outputs}",
            self.inputs and f" <- {self.inputs}",
            self.settings and f"; {self.settings}",
        )
        return "".join(("  " * self.depth, self.name, *texts))


_LineGroup = tuple[_ListingLine, ...]
"""Lines of a step, or of scopes with equal content."""


def describe_graph(graph: Graph) -> list[_ListingLine]:
    """Return the scopes and steps of a graph in processing order.

    Content that is the same in several scopes is listed once.
    """
    return [line for block in _make_blocks(graph, graph.scope, 0) for line in block]


def _make_blocks(graph: Graph, scope: Scope, depth: int) -> list[_LineGroup]:
    """Return the blocks of a scope."""
    # content → names of the scopes with this content; empty for a step
    scopes_of_content: dict[tuple[_LineGroup, ...], list[str]] = {}
    for member in _sort_by_dependency(graph, scope):
        if isinstance(member, Node):
            scopes_of_content[((_make_line(graph, member, depth),),)] = []
        elif content := tuple(_make_blocks(graph, member, depth + 1)):
            scopes_of_content.setdefault(content, []).append(member.name)
    first_scope: dict[_LineGroup, str] = {}  # block → scope that listed it first
    return [
        _make_block(content, names, depth, first_scope) if names else content[0]
        for content, names in scopes_of_content.items()
    ]


def _make_block(
    content: tuple[_LineGroup, ...],
    names: list[str],
    depth: int,
    first_scope: dict[_LineGroup, str],
) -> _LineGroup:
    """Return the block of scopes with equal content; blocks listed before are only named."""
    listed_before: dict[str, list[str]] = {}
    for block in content:
        if block in first_scope:
            listed_before.setdefault(first_scope[block], []).append(block[0].name)
    lines = [_ListingLine(depth, ", ".join(names))]
    for block in content:
        scope = first_scope.setdefault(block, names[0])
        if scope == names[0]:
            lines += block
        elif scope in listed_before:
            lines.append(
                _ListingLine(depth + 1, f"as in {scope}: {', '.join(listed_before.pop(scope))}")
            )
    return tuple(lines)


def _sort_by_dependency(graph: Graph, scope: Scope) -> Iterator[Node | Scope]:
    """Yield the steps and inner scopes of a scope in dependency order.

    Members follow the members that they depend on, unless they depend on each other.
    """
    members: list[Node | Scope] = [node for node in scope.nodes if node.step is not scope.store]
    members += scope.inner
    visited: set[Node | Scope] = set()

    def visit(member: Node | Scope) -> Iterator[Node | Scope]:
        if member in visited:
            return
        visited.add(member)
        nodes = (
            [member]
            if isinstance(member, Node)
            else [node for inner_scope in member.inward() for node in inner_scope.nodes]
        )
        sources = (
            handle.source
            for node in nodes
            for wire in graph.wires[node].values()
            for handle in wire.handles
        )
        for source in sources:
            ancestors = {source, *source.scope.outward()} if isinstance(source, Node) else set()
            for ancestor in (candidate for candidate in members if candidate in ancestors):
                yield from visit(ancestor)
        yield member

    for member in members:
        yield from visit(member)


def _make_line(graph: Graph, node: Node, depth: int) -> _ListingLine:
    """Return the line of a step."""
    stored_entities = {
        handle.name: store.settings["own_entities"]
        for store in node.scope.nodes
        if store.step is node.scope.store
        for handle in graph.wires[store]["files"].handles
        if handle.source is node
    }
    outputs = (
        f"{name} [{_format_entities(stored_entities[name], node.scope)}]"
        if name in stored_entities
        else name
        for name in node.step.outputs
    )
    inputs = (
        f"{name} ({_format_sources(node, wire)})" for name, wire in graph.wires[node].items()
    )
    folders = node.step.__module__.split(".")[1:]
    module_path = "/".join(folders).removeprefix("steps/") if "steps" in folders else ""
    return _ListingLine(
        depth,
        node.name,
        ", ".join(outputs),
        ", ".join(inputs),
        ", ".join(graph.settings[node]),
        module_path and f"{module_path}.py",
    )


def _format_entities(value: object, scope: Scope) -> str:
    """Return entities as in a file name; a label that is the name of the scope is left open."""
    if not isinstance(value, Mapping):
        return "kept"
    labels = {
        key: "…" if label == scope.name else label
        for key, label in value.items()
        if key != "extension"
    }
    return "_".join(
        label if key == "suffix" else f"{key}-{label}" for key, label in labels.items()
    )


def _format_sources(node: Node, wire: Wire) -> str:
    """Return the steps that compute an input, as text.

    Scopes of a step are included if they do not enclose the input.
    """
    enclosing = set(node.scope.outward())
    steps: dict[str, list[str]] = {}  # step → names of scopes
    for handle in wire.handles:
        if isinstance(handle.source, Node):
            outward = list(handle.source.scope.outward())
            scope_names = [
                outer_scope.name for outer_scope in outward if outer_scope not in enclosing
            ][::-1]
            steps.setdefault(handle.source.name, []).append(".".join(scope_names))
        else:
            steps["given"] = [""]
    entries = (
        (name, scopes if len(scopes) < 3 else [f"{len(scopes)} scopes"])
        for name, scopes in steps.items()
    )
    return ", ".join(
        name + (f" of {' and '.join(scopes)}" if any(scopes) else "") for name, scopes in entries
    )
