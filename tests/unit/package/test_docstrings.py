"""Docstrings: complete numpydoc on pages of the reference, and one for every public name."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path

import pytest
from numpydoc.validate import Validator, validate

ROOT = Path(__file__).parents[3]
CODES = {
    "GL07",
    "GL08",
    "SS01",
    "SS02",
    "SS03",
    "SS04",
    "SS05",
    "SS06",
    "PR01",
    "PR02",
    "PR03",
    "PR04",
    "PR07",
    "RT01",
    "RT03",
    "YD01",
}
ARRAYS = re.compile(r"\b(Array|Float|Float32|Real|Mask|NDArray)\b")
SHAPE = re.compile(r"\([^)]*([XxNT]|\dD|any shape|3,|4 x 4)[^)]*\)|\bshape\b|\bgrid\b|\bcolumns\b")


@pytest.fixture(autouse=True, scope="module")
def without_lines() -> Iterator[None]:
    """Disable ignore comments and line numbers of numpydoc.

    Ignore comments must not excuse a docstring. Line numbers are not reported, and numpydoc parses
    the whole module to find them.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("numpydoc.validate.extract_ignore_validation_comments", lambda _: {})
        patched.setattr(Validator, "source_file_def_line", 1)
        yield


def rendered() -> list[str]:
    """Return the documented API: names on pages of the reference."""
    pages = sorted((ROOT / "docs/reference").glob("*.md"))
    return [
        name
        for page in pages
        for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE)
    ]


def members(name: str) -> Iterator[tuple[str, object]]:
    """Yield a name with its object and, for a class, its public methods."""
    module, _, attribute = name.rpartition(".")
    documented = getattr(importlib.import_module(module), attribute)
    yield name, documented
    for attribute_name in vars(documented) if inspect.isclass(documented) else ():
        if not attribute_name.startswith("_") and inspect.isfunction(
            getattr(documented, attribute_name)
        ):
            yield f"{name}.{attribute_name}", getattr(documented, attribute_name)


def faults(name: str, documented: object) -> list[str]:
    """Return the errors that numpydoc reports for the docstring of an object."""
    inherits = inspect.isclass(documented) and (
        "__init__" not in vars(documented)
        or any(is_dataclass(base) for base in documented.__bases__)
    )
    codes = CODES - ({"PR01"} if inherits else set())
    return [f"{name}: {code} {text}" for code, text in validate(name)["errors"] if code in codes]


@pytest.mark.parametrize("name", rendered())
def test_docstrings_of_the_reference_are_complete(name: str) -> None:
    assert [
        fault for full_name, documented in members(name) for fault in faults(full_name, documented)
    ] == []


def unstated(documented: object) -> Iterator[str]:
    """Yield arrays whose entry lacks a shape, and affines whose entry lacks a frame."""
    text = inspect.getdoc(documented) or ""
    entries = dict(re.findall(r"^(\w+) : .*\n((?:    .*\n?)+)", text, re.MULTILINE))
    for name, annotation in getattr(documented, "__annotations__", {}).items():
        if name in entries and ARRAYS.search(str(annotation)) and not SHAPE.search(entries[name]):
            yield name
        if name == "affine" and "RAS" not in entries.get(name, "RAS"):
            yield name


@pytest.mark.parametrize("name", rendered())
def test_docstrings_of_the_reference_state_shapes_of_arrays_and_frames_of_affines(
    name: str,
) -> None:
    assert [
        (full_name, parameter)
        for full_name, documented in members(name)
        for parameter in unstated(documented)
    ] == []


def missing_docstrings(tree: ast.Module, module: str) -> Iterator[str]:
    """Yield the public classes and functions of a module that have no docstring."""
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None:
            yield f"{module}.{node.name} has no docstring"


def test_public_names_have_docstrings() -> None:
    missing = list[str]()
    for top, prefix in (("bids_sr", "bids_sr"), ("workflows", "bids_sr.workflows")):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT / top).with_suffix("").parts
            module = ".".join((prefix, *(part for part in parts if part != "__init__")))
            missing += missing_docstrings(ast.parse(path.read_text("utf-8")), module)
    assert missing == []


TYPE_LINE = re.compile(r"^(?:[\w*, ]+ : (.+)|([A-Z]\w+))$", re.MULTILINE)
CLASS_NAME = re.compile(r"(?<![.\w])[A-Z]\w*[a-z]\w*")
HEADINGS = {"Parameters", "Returns", "Yields", "Raises", "Attributes", "Notes", "See", "Examples"}


def types_named(tree: ast.Module) -> set[str]:
    """Return the names of classes in the types of parameters, results and errors."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    texts = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, documented)]
    lines = [line for text in texts if text for line in TYPE_LINE.finditer(text)]
    names = {name for line in lines for name in CLASS_NAME.findall(line[1] or line[2])}
    return names - HEADINGS - {"None", "False", "True", "References"}


def names_used(tree: ast.Module) -> set[str]:
    """Return the names that a module defines, imports or uses."""
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return names | {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_types_in_docstrings_exist() -> None:
    paths = [*(ROOT / "bids_sr").rglob("*.py"), *(ROOT / "workflows").rglob("*.py")]
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    known = set().union(*map(names_used, trees.values()))
    missing = {
        path.relative_to(ROOT).as_posix(): names - known
        for path, tree in trees.items()
        if (names := types_named(tree)) - known
    }
    assert missing == {}
    assert types_named(ast.parse("def f(x):\n    '''Do.\n\n    x : Gone | None\n    '''")) == {
        "Gone"
    }


def _reorder(image: object, order: int) -> object:
    """Images in this order.

    Parameters
    ----------
    image : object
        One of them.
    """
    return image, order


def test_incomplete_docstrings_are_detected() -> None:
    codes = {fault.split()[1] for fault in faults(f"{__name__}._reorder", _reorder)}
    assert codes == {"SS05", "PR01", "RT01"}
    assert list(missing_docstrings(ast.parse("def f(): ...\nclass _C: ..."), "m")) == [
        "m.f has no docstring"
    ]
