"""Listing of a graph: which node makes what of what.

The steps that store results are left out.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from bids_sr.pipeline.graph import Graph
from bids_sr.pipeline.nodes import Node, Scope, Wire


class _Line(NamedTuple):
    """A step; or scopes in which the same is done, or steps that stood before, by their names.

    `makes`: artifacts that it makes, with entities of stored ones in brackets. `of`: artifacts
    that it takes, with the steps that make them in
    parentheses. `where`: file below ``bids_sr/steps``.
    """

    depth: int
    name: str
    makes: str = ""
    of: str = ""
    settings: str = ""
    where: str = ""

    def __str__(self) -> str:
        parts = (
            self.where and f" ({self.where})",
            self.makes and f": {self.makes}",
            self.of and f" <- {self.of}",
            self.settings and f"; {self.settings}",
        )
        return "".join(("  " * self.depth, self.name, *parts))


_Block = tuple[_Line, ...]
"""A step, or scopes that are alike with all that is in them."""


def who_makes_what(graph: Graph) -> list[_Line]:
    """Return the scopes and steps of a graph in processing order.

    What is the same in several scopes is listed once.
    """
    return [line for block in _blocks(graph, graph.scope, 0) for line in block]


def _blocks(graph: Graph, scope: Scope, depth: int) -> list[_Block]:
    """What a scope holds."""
    # and names of the scopes that hold it, none for a step
    held: dict[tuple[_Block, ...], list[str]] = {}
    for member in _in_order(graph, scope):
        if isinstance(member, Node):
            held[((_line(graph, member, depth),),)] = []
        elif inside := tuple(_blocks(graph, member, depth + 1)):
            held.setdefault(inside, []).append(member.name)
    before: dict[_Block, str] = {}  # where it stood first
    return [
        _alike(inside, names, depth, before) if names else inside[0]
        for inside, names in held.items()
    ]


def _alike(
    inside: tuple[_Block, ...], names: list[str], depth: int, before: dict[_Block, str]
) -> _Block:
    """Scopes of one content, of which what stood in another is only named."""
    again: dict[str, list[str]] = {}
    for block in inside:
        if block in before:
            again.setdefault(before[block], []).append(block[0].name)
    lines = [_Line(depth, ", ".join(names))]
    for block in inside:
        where = before.setdefault(block, names[0])
        if where == names[0]:
            lines += block
        elif where in again:
            lines.append(_Line(depth + 1, f"as in {where}: {', '.join(again.pop(where))}"))
    return tuple(lines)


def _in_order(graph: Graph, scope: Scope) -> Iterator[Node | Scope]:
    """Yield steps and inner scopes of a scope in dependency order.

    Each comes after those that it is made of, unless they need one another.
    """
    members: list[Node | Scope] = [one for one in scope.nodes if one.step is not scope.store]
    members += scope.inner
    seen: set[Node | Scope] = set()

    def reached(member: Node | Scope) -> Iterator[Node | Scope]:
        if member in seen:
            return
        seen.add(member)
        inside = (
            [member]
            if isinstance(member, Node)
            else [each for one in member.inward() for each in one.nodes]
        )
        sources = (
            handle.source
            for each in inside
            for wire in graph.wires[each].values()
            for handle in wire.handles
        )
        for source in sources:
            around = {source, *source.scope.outward()} if isinstance(source, Node) else set()
            for needed in (each for each in members if each in around):
                yield from reached(needed)
        yield member

    for member in members:
        yield from reached(member)


def _line(graph: Graph, node: Node, depth: int) -> _Line:
    kept = {
        handle.name: store.settings["own_entities"]
        for store in node.scope.nodes
        if store.step is node.scope.store
        for handle in graph.wires[store]["files"].handles
        if handle.source is node
    }
    makes = (
        f"{name} [{_entities(kept[name], node.scope)}]" if name in kept else name
        for name in node.step.outputs
    )
    inputs = (f"{name} ({_who(node, wire)})" for name, wire in graph.wires[node].items())
    where = node.step.__module__.partition(".steps.")[2].replace(".", "/")
    return _Line(
        depth,
        node.name,
        ", ".join(makes),
        ", ".join(inputs),
        ", ".join(graph.settings[node]),
        where and f"{where}.py",
    )


def _entities(value: object, scope: Scope) -> str:
    """Entities as they stand in a file name; what is the name of the scope is left open."""
    if not isinstance(value, Mapping):
        return "kept"
    shown = {
        key: "…" if label == scope.name else label
        for key, label in value.items()
        if key != "extension"
    }
    return "_".join(label if key == "suffix" else f"{key}-{label}" for key, label in shown.items())


def _who(node: Node, wire: Wire) -> str:
    """Return the handles of an input as step names.

    Their scopes are added where these do not enclose the input.
    """
    around = set(node.scope.outward())
    steps: dict[str, list[str]] = {}  # by step: the scopes
    for handle in wire.handles:
        if isinstance(handle.source, Node):
            outward = list(handle.source.scope.outward())
            inside = [one.name for one in outward if one not in around][::-1]
            steps.setdefault(handle.source.name, []).append(".".join(inside))
        else:
            steps["given"] = [""]
    shown = (
        (name, scopes if len(scopes) < 3 else [f"{len(scopes)} scopes"])
        for name, scopes in steps.items()
    )
    return ", ".join(
        name + (f" of {' and '.join(scopes)}" if any(scopes) else "") for name, scopes in shown
    )
