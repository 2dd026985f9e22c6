"""Each imported distribution is declared in setup.cfg, and each declared one is imported."""

import ast
import configparser
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
BY_NAME = {"import_module", "find_spec"}
"""Functions whose first argument is the name of a module."""
TOOLS = {"benchmarks", "docs", "tests"}
"""Extras for developers."""
NOT_IMPORTED = {
    "bids-validator-deno": "a program, which bids_sr/survey/preflight/validator.py starts",
    "six": "imported by the bibliography style of tedana, which does not declare it",
    "tensorboard": "imported by torch.utils.tensorboard; torch does not declare it",
}
SETUP = configparser.ConfigParser(interpolation=None)
SETUP.read(ROOT / "setup.cfg")


def requirements(text: str) -> list[Requirement]:
    lines = text.strip().splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


def iterate_modules(node: ast.AST) -> Iterator[str]:
    """Yield the names of modules that code imports or locates by a literal name.

    Imports for type checkers only are ignored.
    """
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        children = [*node.orelse]
    else:
        children = [*ast.iter_child_nodes(node)]
    match node:
        case ast.Import():
            yield from (alias.name for alias in node.names)
        case ast.ImportFrom(module=str(name), level=0):
            yield name
        case ast.Call(
            func=ast.Attribute(attr=called) | ast.Name(id=called),
            args=[ast.Constant(value=str(name)), *_],
        ) if called in BY_NAME:
            yield name
    for child in children:
        yield from iterate_modules(child)


def test_imported_distributions_are_the_declared_ones() -> None:
    packages = {
        module.partition(".")[0]
        for path in (ROOT / "bids_sr").rglob("*.py")
        for module in iterate_modules(ast.parse(path.read_text()))
    } - {*sys.stdlib_module_names, "bids_sr"}
    extras = SETUP["options.extras_require"]
    lists = [
        SETUP["options"]["install_requires"],
        *(extras[extra] for extra in extras.keys() - TOOLS),
    ]
    declared = {canonicalize_name(item.name) for text in lists for item in requirements(text)}
    distributions = packages_distributions()
    imported = {
        package: {canonicalize_name(name) for name in distributions.get(package, [package])}
        for package in packages
    }
    undeclared = {package for package, names in imported.items() if not names & declared}
    assert undeclared == set()
    assert declared - set().union(*imported.values()) == set(NOT_IMPORTED)


@pytest.mark.slow
def test_tedana_can_be_imported_with_the_declared_extra() -> None:
    command = [sys.executable, "-c", "import tedana.workflows"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
