"""Each imported distribution is declared in setup.cfg, and each declared one is imported."""

import ast
import configparser
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
PACKAGE_FOLDERS = ("bids_sr", "workflows", "boilerplate")
BY_NAME = {"import_module", "find_spec"}
"""Functions whose first argument is the name of a module."""
TOOLS = {"docs", "tests"}
"""Extras for developers."""
NOT_IMPORTED = {
    "bids-validator-deno": "a program, which bids_sr/preflight/validator.py starts",
    "six": "imported by the bibliography style of tedana, which does not declare it",
    "tensorboard": "imported by torch.utils.tensorboard; torch does not declare it",
}


def iterate_modules(node: ast.AST) -> Iterator[str]:
    """Yield the names of modules that code imports or locates by a literal name.

    Imports for type checkers only are ignored.
    """
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        children: list[ast.AST] = [*node.orelse]
    else:
        children = [*ast.iter_child_nodes(node)]
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from filter(None, [None if node.level else node.module])
    elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in BY_NAME:
        for argument in node.args[:1]:
            if isinstance(argument, ast.Constant):
                yield str(argument.value)
    for child in children:
        yield from iterate_modules(child)


@pytest.mark.parametrize(
    ("code", "modules"),
    [
        ("import a.b, c as d", ["a.b", "c"]),
        ("def f():\n    from a.b import c", ["a.b"]),
        ("from . import a", []),
        ("if TYPE_CHECKING:\n    import a\nelse:\n    import b", ["b"]),
        ("importlib.import_module('a.b'); import_module(c)", ["a.b"]),
        ("importlib.util.find_spec('a')", ["a"]),
    ],
)
def test_imports_of_all_forms_are_found(code: str, modules: list[str]) -> None:
    assert list(iterate_modules(ast.parse(code))) == modules


@cache
def imported() -> dict[str, set[str]]:
    """Return the possible distributions of each imported package outside the standard library."""
    packages = {
        module.partition(".")[0]
        for folder in PACKAGE_FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for module in iterate_modules(ast.parse(path.read_text()))
    }
    distributions = packages_distributions()
    return {
        package: {canonicalize_name(name) for name in distributions.get(package, [package])}
        for package in packages - sys.stdlib_module_names - {"bids_sr"}
    }


def declared() -> set[str]:
    """Return the names of the requirements and of the extras for users."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    lists = [
        setup["options"]["install_requires"],
        *(extras[extra] for extra in extras.keys() - TOOLS),
    ]
    lines = [line for text in lists for line in text.strip().splitlines()]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def test_each_imported_distribution_is_declared() -> None:
    undeclared = {
        name for name, distributions in imported().items() if not distributions & declared()
    }
    assert undeclared == set()


def test_each_declared_distribution_is_imported() -> None:
    used = {name for distributions in imported().values() for name in distributions}
    assert declared() - used == set(NOT_IMPORTED)
