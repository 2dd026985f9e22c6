"""Text of Python statements without comments, docstrings and layout, and the names in it."""

import ast
import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

DottedName = tuple[str, ...]
"""Parts of a name, such as ``("np", "linalg", "norm")``."""
ImportStatement = ast.Import | ast.ImportFrom
ALL_NAMES = ("*",)
"""Name that stands for all names of a module."""

# arguments of decorators that determine when and where a step runs, but not its results
_PLANNING_ARGUMENTS: Mapping[str, frozenset[str]] = {
    "step": frozenset({"memory", "cost", "small", "awaited"}),
    "figure": frozenset({"memory", "cost"}),
}
_NAMESPACES = frozenset({("globals",), ("locals",), ("vars",)})
_IGNORED_FIELDS = frozenset({"ctx", "kind", "type_comment"})


class CodeText(NamedTuple):
    """Digest of statements, and the names that they contain.

    `digest` is the digest of the normalized text. `names` are variables with their attributes;
    `ALL_NAMES` is included if the statements list the variables of their module. `texts` are
    literal texts, or literal parts of formatted texts.
    """

    digest: str
    names: frozenset[DottedName]
    texts: frozenset[str]
    imports: tuple[ImportStatement, ...]


def read_code(statements: Iterable[ast.stmt]) -> CodeText:
    """Return digest and names of statements."""
    reader = _Reader()
    for statement in statements:
        reader.read(statement)
    text = "\0".join(reader.parts).encode("utf-8", "surrogatepass")
    return CodeText(
        digest=hashlib.sha256(text).hexdigest(),
        names=frozenset(reader.names),
        texts=frozenset(reader.texts),
        imports=tuple(reader.imports),
    )


class _Reader:
    """Collects the parts of the text of statements, and the names in them."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.names: set[DottedName] = set()
        self.texts: set[str] = set()
        self.imports: list[ImportStatement] = []

    def read(self, node: ast.AST) -> None:
        """Add a node of a syntax tree, and all nodes in it."""
        _READ_BY_TYPE.get(type(node), _Reader._read_fields)(self, node)

    def _read_name(self, node: ast.expr) -> None:
        """Add a variable with its attributes, or an attribute of another expression."""
        name = _get_dotted_name(node)
        if name:
            self.names.add(name)
            self.parts.append(f"${'.'.join(name)}")
        else:
            self._read_fields(node)

    def _read_literal(self, node: ast.Constant) -> None:
        """Add a literal value."""
        self.parts.append(repr(node.value))
        if isinstance(node.value, str):
            self.texts.add(node.value)

    def _read_call(self, node: ast.Call) -> None:
        """Add a call."""
        if not (node.args or node.keywords) and _get_dotted_name(node.func) in _NAMESPACES:
            self.names.add(ALL_NAMES)
        self._read_fields(node)

    def _read_function(self, node: ast.FunctionDef) -> None:
        """Add a function, without arguments of its decorators that do not affect results."""
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call):
                ignored = _PLANNING_ARGUMENTS.get("".join(_get_dotted_name(decorator.func)), ())
                decorator.keywords = [
                    keyword for keyword in decorator.keywords if keyword.arg not in ignored
                ]
        self._read_fields(node)

    def _read_import(self, node: ImportStatement) -> None:
        """Add an import statement."""
        self.imports.append(node)
        self._read_fields(node)

    def _read_fields(self, node: ast.AST) -> None:
        """Add the type of a node and its fields."""
        self.parts.append(type(node).__name__)
        for field in node._fields:
            if field not in _IGNORED_FIELDS:
                self._read_value(getattr(node, field, None))

    def _read_value(self, value: object) -> None:
        """Add a field of a node."""
        if isinstance(value, ast.AST):
            self.read(value)
        elif isinstance(value, list):
            self.parts.append("[")
            for item in value:
                if not is_docstring(item):
                    self._read_value(item)
            self.parts.append("]")
        else:
            self.parts.append(repr(value))


_READ_BY_TYPE: Mapping[type[ast.AST], Callable[[_Reader, Any], None]] = {
    ast.Name: _Reader._read_name,
    ast.Attribute: _Reader._read_name,
    ast.Constant: _Reader._read_literal,
    ast.Call: _Reader._read_call,
    ast.FunctionDef: _Reader._read_function,
    ast.Import: _Reader._read_import,
    ast.ImportFrom: _Reader._read_import,
}


def _get_dotted_name(node: ast.AST) -> DottedName:
    """Return the parts of a variable with its attributes; () for other expressions."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return (node.id, *reversed(attributes)) if isinstance(node, ast.Name) else ()


def is_docstring(node: object) -> bool:
    """Return whether a node of a syntax tree is a statement that consists of a text."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


NO_CODE = read_code([])
