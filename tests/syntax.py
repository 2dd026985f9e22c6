"""Traverse the syntax trees of modules."""

import ast
from collections.abc import Iterator

BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and all statements in it, at any depth.

    Statements are about a tenth of the nodes that `ast.walk` yields.
    """
    rest = [tree]
    while rest:
        node = rest.pop()
        yield node
        rest += [
            child
            for name in BLOCKS
            if isinstance(inner := getattr(node, name, None), list)
            for child in inner
        ]
