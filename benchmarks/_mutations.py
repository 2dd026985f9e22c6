"""Faults of one node each, drawn from the syntax trees of the program."""

import ast
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PRODUCT = ("bids_sr",)
_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_KEPT_ARGUMENTS = (
    "isinstance",
    "issubclass",
    "max",
    "min",
    "np.array_equal",
    "np.logical_and",
    "np.logical_or",
    "np.maximum",
    "np.minimum",
)
"""Functions whose arguments are not swapped: equal either way, or an error at once."""
_COMPILERS = ("compile_for", "inlined")
_LOGS = ("debug", "info", "warning", "exception")


@dataclass(frozen=True, kw_only=True, slots=True)
class Mutant:
    """One fault in a copy of a module.

    Attributes
    ----------
    module : path in the repository
    lines : first and last line of the statement with the fault; of a compound statement, its head
    is_traced : whether coverage sees these lines in the tests that need them: neither machine code
        nor run when the module is imported
    importers : modules that import the module, by path
    function : qualified name of the function or class around it; empty at the level of the module
    kind : comparison, constant, and/or, sign, arguments, or dropped line
    before, after : source of the node
    source : source of the module with the fault
    """

    module: str
    lines: tuple[int, int]
    is_traced: bool
    importers: tuple[str, ...]
    function: str
    kind: str
    before: str
    after: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Change:
    """A node, what replaces it, and where it is."""

    node: ast.expr | ast.stmt
    after: str
    kind: str
    statement: ast.stmt
    function: str
    is_traced: bool


def draw_mutants(root: Path, number: int, seed: int, under: Sequence[str]) -> list[Mutant]:
    """Draw faults in the modules of a checkout whose paths begin with `under`.

    A module is drawn by its number of possible changes, then a kind of change that it has, then a
    change. None is drawn twice.
    """
    sources = {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for folder in PRODUCT
        for path in sorted((root / folder).rglob("*.py"))
    }
    changes = {
        module: list(_find_changes(ast.parse(source)))
        for module, source in sources.items()
        if module.startswith(tuple(under))
    }
    by_kind = {module: _sort_by_kind(candidates) for module, candidates in changes.items()}
    draw = random.Random(seed)
    drawn: list[Mutant] = []
    seen = set()
    number = min(number, sum(map(len, changes.values())))
    while len(drawn) < number:
        (module,) = draw.choices(
            list(changes), [len(candidates) for candidates in changes.values()]
        )
        kind = draw.choice(sorted(by_kind[module]))
        change = draw.choice(by_kind[module][kind])
        if (key := (module, change.node.lineno, change.node.col_offset, kind)) in seen:
            continue
        seen.add(key)
        importers = _find_importers(sources, module)
        drawn.append(_apply(module, sources[module], change, importers))
    return drawn


def _find_importers(sources: Mapping[str, str], module: str) -> tuple[str, ...]:
    """Return the modules whose text imports a module."""
    package, _, name = module.removesuffix(".py").replace("/", ".").rpartition(".")
    imported = re.compile(
        rf"from {re.escape(package)}(\.{name} import|"
        rf" import (\([^)]*\b{name}\b|[^(\n]*\b{name}\b))"
    )
    return tuple(path for path, source in sources.items() if imported.search(source))


def _sort_by_kind(changes: Sequence[_Change]) -> dict[str, list[_Change]]:
    """Return changes by their kind."""
    sorted_changes = defaultdict(list)
    for change in changes:
        sorted_changes[change.kind].append(change)
    return sorted_changes


def _find_changes(tree: ast.Module) -> Iterator[_Change]:
    """Yield the changes that a module can have."""
    for function, statement, is_traced in _find_statements(tree.body, "", is_traced=False):
        if after := _drop_statement(statement):
            yield _Change(
                node=statement,
                after=after,
                kind="dropped line",
                statement=statement,
                function=function,
                is_traced=is_traced,
            )
        for node in _find_expressions(statement):
            for kind, after in _change_expression(node):
                yield _Change(
                    node=node,
                    after=after,
                    kind=kind,
                    statement=statement,
                    function=function,
                    is_traced=is_traced,
                )


def _find_statements(
    body: Sequence[ast.stmt], function: str, *, is_traced: bool
) -> Iterator[tuple[str, ast.stmt, bool]]:
    """Yield the name around a statement at any depth, the statement, and whether it is traced.

    Imports and what only type checkers read are left out.
    """
    for statement in body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            continue
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            name = f"{function}.{statement.name}".lstrip(".")
            traced = isinstance(statement, ast.FunctionDef) and not _is_compiled(statement)
            yield from _find_statements(statement.body, name, is_traced=traced)
            continue
        if not isinstance(statement, ast.Import | ast.ImportFrom):
            yield function, statement, is_traced
        parts = [getattr(statement, name, ()) for name in ("body", "orelse", "finalbody")]
        parts += [handler.body for handler in getattr(statement, "handlers", ())]
        parts += [case.body for case in getattr(statement, "cases", ())]
        for part in parts:
            yield from _find_statements(part, function, is_traced=is_traced)


def _is_compiled(function: ast.FunctionDef) -> bool:
    """Return whether numba compiles a function."""
    decorators = map(ast.unparse, function.decorator_list)
    return any(name.startswith(_COMPILERS) for name in decorators)


def _find_expressions(statement: ast.stmt) -> Iterator[ast.expr]:
    """Yield the expressions of a statement, without those of the statements in it.

    Annotations, f-strings (whose parts have no exact place) and logged texts are left out.
    """
    rest: list[ast.AST] = [statement]
    while rest:
        node = rest.pop()
        if isinstance(node, ast.expr):
            if isinstance(node, ast.JoinedStr) or _is_log(node):
                continue
            yield node
        skipped = {"annotation", "body", "orelse", "finalbody", "handlers", "cases"}
        if isinstance(node, ast.IfExp | ast.Lambda):
            skipped = {"annotation"}
        for name, value in ast.iter_fields(node):
            if name not in skipped:
                children = value if isinstance(value, list) else [value]
                rest += [child for child in children if isinstance(child, ast.AST)]


def _is_log(node: ast.AST) -> bool:
    """Return whether a node writes a line of the log."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _LOGS
        and "log" in ast.unparse(node.func.value).lower()
    )


def _drop_statement(statement: ast.stmt) -> str:
    """Return what a statement becomes when its effect is dropped; empty if it has to stay."""
    match statement:
        case ast.Expr(value=ast.Call() as call) if not _is_log(call):
            return "pass"
        case ast.AugAssign() | ast.Raise() | ast.Delete():
            return "pass"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            return "pass"
    return ""


def _change_expression(node: ast.expr) -> Iterator[tuple[str, str]]:
    """Yield kind and new source of the changes that an expression can have."""
    match node:
        case ast.Compare(left=left, ops=[op, *ops], comparators=comparators):
            changed = ast.Compare(left, [_COMPARISONS[type(op)](), *ops], comparators)
            yield "comparison", ast.unparse(changed)
        case ast.Constant(value=bool(value)):
            yield "constant", repr(not value)
        case ast.Constant(value=int(value)):
            yield "constant", repr(value + 1)
        case ast.Constant(value=float(value)):
            yield "constant", repr(2 * value if value else 1.0)
        case ast.BoolOp(op=op, values=values):
            other = ast.And() if isinstance(op, ast.Or) else ast.Or()
            yield "and/or", ast.unparse(ast.BoolOp(other, values))
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield "sign", f"({ast.unparse(operand)})"
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            if not any(
                isinstance(part, ast.JoinedStr) or _is_text(part) for part in (left, right)
            ):
                yield "sign", ast.unparse(ast.BinOp(left, _OPERATORS[type(op)](), right))
        case ast.Call(func=func, args=[first, second, *rest], keywords=keywords):
            starred = isinstance(first, ast.Starred) or isinstance(second, ast.Starred)
            if not starred and ast.unparse(func) not in _KEPT_ARGUMENTS:
                swapped = ast.Call(func, [second, first, *rest], keywords)
                if ast.unparse(swapped) != ast.unparse(node):
                    yield "arguments", ast.unparse(swapped)


def _is_text(node: ast.expr) -> bool:
    """Return whether a node is a literal text."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _apply(module: str, source: str, change: _Change, importers: tuple[str, ...]) -> Mutant:
    """Return a change with the source of its module."""
    node, statement = change.node, change.statement
    lines = source.encode().splitlines(keepends=True)
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    start = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    end = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset
    encoded = source.encode()
    after = change.after if change.kind == "dropped line" else f"({change.after})"
    body = getattr(statement, "body", None)
    last = body[0].lineno - 1 if body else statement.end_lineno
    return Mutant(
        module=module,
        lines=(statement.lineno, max(last or statement.lineno, statement.lineno)),
        is_traced=change.is_traced,
        importers=importers,
        function=change.function,
        kind=change.kind,
        before=" ".join(encoded[start:end].decode().split()),
        after=" ".join(change.after.split()),
        source=(encoded[:start] + after.encode() + encoded[end:]).decode(),
    )
