"""Docstrings of public names are numpydoc: a summary, and sections that tell all or, off the
documented API, none.
"""

import ast
import importlib
import inspect
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path

import pytest
from numpydoc.validate import Validator, validate

ROOT = Path(__file__).parents[3]
CODES = {
    "GL07",  # order of sections
    "GL08",  # no docstring
    "SS01",
    "SS02",
    "SS03",
    "SS04",
    "SS05",
    "SS06",  # summary: one line, a sentence, in the imperative
    "PR01",
    "PR02",
    "PR03",
    "PR04",
    "PR07",  # parameters: all, no others, in their order, with types, with descriptions
    "RT01",
    "RT03",  # what is returned, with a description
    "YD01",
}


@pytest.fixture(autouse=True, scope="module")
def without_lines() -> Iterator[None]:
    """No comment excuses a docstring, and nobody asks for its line: for these numpydoc takes every
    module apart.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("numpydoc.validate.extract_ignore_validation_comments", lambda _: {})
        patched.setattr(Validator, "source_file_def_line", 1)
        yield


def _modules() -> list[str]:
    """Names of all modules."""
    found = []
    for top, prefix in (("bids_sr", "bids_sr"), ("workflows", "bids_sr.workflows")):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT / top).with_suffix("").parts
            if not any(part.startswith("_") for part in parts):
                found.append(".".join((prefix, *parts)))
    return found


def _public(module: str) -> Iterator[tuple[str, object]]:
    """Public functions, classes and methods that a module defines, each with its object."""
    loaded = importlib.import_module(module)
    assert loaded.__file__ is not None
    for node in ast.parse(Path(loaded.__file__).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            own = getattr(loaded, node.name)
            yield f"{module}.{node.name}", own
            for each in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(each, ast.FunctionDef) and not each.name.startswith("_"):
                    yield f"{module}.{node.name}.{each.name}", getattr(own, each.name)


def _inherits_its_parameters(found: object) -> bool:
    """Whether the constructor of a class is that of its base, which documents it."""
    return inspect.isclass(found) and (
        "__init__" not in vars(found)
        or getattr(found, "_is_protocol", False)
        or any(is_dataclass(base) for base in found.__bases__)
    )


def faults(name: str, found: object) -> list[str]:
    """What numpydoc finds in the docstring of an object."""
    told = validate(name)["errors"]
    left = {"PR01"} if _inherits_its_parameters(found) else set()
    if not name.startswith("bids_sr.api.") and "\n---" not in inspect.getdoc(found):
        left = {"PR01", "RT01", "YD01"}  # off the documented API a sentence will do
    return [f"{name}: {code} {what}" for code, what in told if code in CODES - left]


@pytest.mark.parametrize("module", _modules())
def test_docstrings_of_public_names_are_complete(module):
    assert [fault for name, found in _public(module) for fault in faults(name, found)] == []


def _told(image: object, order: int) -> object:
    """Images in this order.

    Parameters
    ----------
    image : object
        One of them.
    """
    return image, order


def test_what_a_docstring_lacks_is_seen():
    codes = {fault.split()[1] for fault in faults(f"{__name__}._told", _told)}
    assert codes == {"SS05", "PR01", "RT01"}
