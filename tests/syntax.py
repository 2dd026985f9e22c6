"""The code of modules as syntax trees."""

import ast
from collections.abc import Iterator

BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Statements of a module, a class or a function at whatever depth, itself first; of all nodes,
    which `ast.walk` gives, they are one of ten.
    """
    rest = [tree]
    while rest:
        node = rest.pop()
        yield node
        rest += [
            each
            for name in BLOCKS
            if isinstance(inner := getattr(node, name, None), list)
            for each in inner
        ]
