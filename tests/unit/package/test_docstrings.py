"""Check docstrings: names on a page of the reference have complete numpydoc, every public name has
a docstring.
"""

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
    """No comment excuses a docstring, and nobody asks for its line: for these numpydoc takes every
    module apart.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("numpydoc.validate.extract_ignore_validation_comments", lambda _: {})
        patched.setattr(Validator, "source_file_def_line", 1)
        yield


def rendered() -> list[str]:
    """The documented API: names that pages of the reference show."""
    pages = sorted((ROOT / "docs/reference").glob("*.md"))
    return [
        name
        for page in pages
        for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE)
    ]


def members(name: str) -> Iterator[tuple[str, object]]:
    """The object of a name and, of a class, its public methods."""
    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(module), attribute)
    yield name, found
    for each in vars(found) if inspect.isclass(found) else ():
        if not each.startswith("_") and inspect.isfunction(getattr(found, each)):
            yield f"{name}.{each}", getattr(found, each)


def faults(name: str, found: object) -> list[str]:
    """What numpydoc finds in the docstring of an object."""
    inherits = inspect.isclass(found) and (
        "__init__" not in vars(found) or any(is_dataclass(base) for base in found.__bases__)
    )
    codes = CODES - ({"PR01"} if inherits else set())
    return [f"{name}: {code} {what}" for code, what in validate(name)["errors"] if code in codes]


@pytest.mark.parametrize("name", rendered())
def test_the_reference_is_complete(name: str) -> None:
    assert [fault for each, found in members(name) for fault in faults(each, found)] == []


def unstated(found: object) -> Iterator[str]:
    """Arrays of a function whose entry tells no shape, and affines whose entry tells no frame."""
    text = inspect.getdoc(found) or ""
    entries = dict(re.findall(r"^(\w+) : .*\n((?:    .*\n?)+)", text, re.MULTILINE))
    for name, kind in getattr(found, "__annotations__", {}).items():
        if name in entries and ARRAYS.search(str(kind)) and not SHAPE.search(entries[name]):
            yield name
        if name == "affine" and "RAS" not in entries.get(name, "RAS"):
            yield name


@pytest.mark.parametrize("name", rendered())
def test_arrays_of_the_reference_tell_their_shape_and_affines_their_frame(name: str) -> None:
    assert [(each, lack) for each, found in members(name) for lack in unstated(found)] == []


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


def _told(image: object, order: int) -> object:
    """Images in this order.

    Parameters
    ----------
    image : object
        One of them.
    """
    return image, order


def test_what_a_docstring_lacks_is_seen() -> None:
    codes = {fault.split()[1] for fault in faults(f"{__name__}._told", _told)}
    assert codes == {"SS05", "PR01", "PR07", "RT01"} - {"PR07"}
    assert list(missing_docstrings(ast.parse("def f(): ...\nclass _C: ..."), "m")) == [
        "m.f has no docstring"
    ]
