"""Names that a Python module defines and imports, from its source file."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from bids_sr.io.code_text import CodeText, ImportStatement, is_docstring, read_code
from bids_sr.io.frozen import frozen

ALL, ON_IMPORT = "*", ""
"""Names of `Definition` for all definitions of a module, and for the statements that run when it
is imported without defining a name.
"""


class Definition(NamedTuple):
    """Function, class or variable of a module; see `ALL` and `ON_IMPORT` for other names."""

    module: str
    name: str


@frozen
class Module:
    """Definitions and imports of a module.

    `name` includes the packages, and `package` is the package that contains the module, or the
    module if it is a package. `definitions` are statements that define a name, by name. `imports`
    are imported definitions and modules, by the name in this module. `other_statements` do not
    define a name, such as loops.
    """

    name: str
    package: str
    definitions: Mapping[str, CodeText]
    imports: Mapping[str, set[Definition]]
    other_statements: CodeText

    def binds(self, name: str) -> bool:
        """Return whether a name is defined or imported."""
        return name in self.definitions or name in self.imports


def read_module(name: str, file: Path) -> Module:
    """Read a module from its source file.

    `name` includes the packages.
    """
    package = name if file.stem == "__init__" else name.rpartition(".")[0]
    statements_by_name: dict[str, list[ast.stmt]] = {}
    imports: dict[str, set[Definition]] = {}
    other_statements: list[ast.stmt] = []
    for statement in _iterate_statements(ast.parse(file.read_bytes()).body):
        names = _list_defined_names(statement)
        for defined_name in names:
            statements_by_name.setdefault(defined_name, []).append(statement)
        if not (names or isinstance(statement, ImportStatement)):
            other_statements.append(statement)
        imported = [*_iterate_imports_on_use(statement, name)]
        if not names:
            imported += [
                item
                for node in ast.walk(statement)
                if isinstance(node, ImportStatement)
                for item in iterate_imports(node, package)
            ]
        for imported_name, definition in imported:
            imports.setdefault(imported_name, set()).add(definition)
    return Module(
        name=name,
        package=package,
        definitions={
            defined_name: read_code(statements)
            for defined_name, statements in statements_by_name.items()
        },
        imports=imports,
        other_statements=read_code(other_statements),
    )


def _iterate_statements(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield statements outside of functions and classes, without those for type checkers."""
    for statement in statements:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            yield from _iterate_statements(statement.orelse)
        elif not is_docstring(statement):
            yield statement


def _list_defined_names(statement: ast.stmt) -> list[str]:
    """Return the names that a statement defines; [] if it has other effects."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.AnnAssign):
        targets: list[ast.expr] = [statement.target]
    elif isinstance(statement, ast.Assign):
        targets = [
            item
            for target in statement.targets
            for item in (target.elts if isinstance(target, ast.Tuple) else [target])
        ]
    else:
        return []
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    return names if len(names) == len(targets) else []


def _iterate_imports_on_use(statement: ast.stmt, package: str) -> Iterator[tuple[str, Definition]]:
    """Yield the names that a call of `bids_sr.io.lazy.import_on_use` in a package imports."""
    call = statement.value if isinstance(statement, ast.Assign) else None
    if (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "import_on_use"
    ):
        for module, names in ast.literal_eval(call.args[1]).items():
            for name in names:
                yield name, Definition(f"{package}.{module}", name)
                yield name, Definition(package, call.func.id)


def iterate_imports(statement: ImportStatement, package: str) -> Iterator[tuple[str, Definition]]:
    """Yield the names of an import statement, with the imported definitions.

    A module is a definition of its package, or all of its own definitions.

    `package`: package that relative imports refer to.
    """
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            module = alias.name if alias.asname else alias.name.partition(".")[0]
            yield alias.asname or module, Definition(module, ALL)
        return
    packages = package.split(".")
    origin = packages[: len(packages) + 1 - statement.level] if statement.level else []
    module = ".".join([*origin, *filter(None, [statement.module])])
    for alias in statement.names:
        yield alias.asname or alias.name, Definition(module, alias.name)
