"""No text that a user reads contains a placeholder that was not filled.

A placeholder is a Python name or expression in braces, as in an f-string without its prefix.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import loaded

from bids_sr.boilerplate import data_of
from bids_sr.notices import CODES

ROOT = Path(__file__).parents[3]
MODULES = sorted(path for name in ("bids_sr", "workflows") for path in (ROOT / name).rglob("*.py"))
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("README*")]
)
PLACEHOLDER = re.compile(
    r"\{(?:[A-Za-z_]\w*|'[^'{}]*'|\"[^\"{}]*\")"  # a name or a string
    r"(?:\.\w+|\([^{}]*\)|\[[^{}]*\])*"  # attributes, calls and items
    r"(?:![rsa])?(?::[^{}'\" ;]*)?\}"  # conversion and format
)
CODE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


def placeholders(text: str) -> list[str]:
    """Return all placeholders in a text."""
    return PLACEHOLDER.findall(text)


@pytest.mark.parametrize(
    "text",
    [
        "one of {', '.join(offered_methods())} (sbl)",
        "{name}",
        "{volume.shape[3]}",
        "{width:.1f} mm",
        "{error!r}",
    ],
)
def test_placeholders_are_detected(text: str) -> None:
    assert len(placeholders(text)) == 1


def test_choices_and_entities_are_not_placeholders() -> None:
    assert placeholders("{auto,brain,NAMES} hemi-{L,R} desc-{attunet,…} {} {1: 2}") == []


def test_help_of_all_programs_is_filled() -> None:
    commands = list(loaded(ROOT / "docs/options_page.py").commands())
    assert {heading.split()[0] for heading, _ in commands} == {
        "bids-sr",
        "bids-sr-models",
        "bids-sr-phantom",
        "bids-sr-slurm",
    }
    assert {
        heading: found
        for heading, parser in commands
        if (found := placeholders(parser.format_help().replace("\n", " ")))
    } == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_are_filled(page: Path) -> None:
    assert placeholders(CODE.sub("", page.read_text(encoding="utf-8"))) == []


def test_notices_and_descriptions_of_metrics_are_filled() -> None:
    texts = [text for pair in CODES.values() for text in pair]
    for name in ("columns", "facts", "statistics"):
        texts += _texts(data_of(f"{name}.json"))
    assert len(texts) > 200
    assert [text for text in texts if placeholders(text)] == []


def _texts(value: object) -> Iterator[str]:
    """Yield all texts in the content of a JSON file."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def test_strings_in_functions_are_filled() -> None:
    """Templates are constants of their module, or the subject of `format` in the same function."""
    unfilled = {path.relative_to(ROOT).as_posix(): _unfilled(path) for path in MODULES}
    assert {name: texts for name, texts in unfilled.items() if texts} == {}


def _unfilled(module: Path) -> list[str]:
    """Return strings with placeholders in the functions of a module."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    allowed = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    allowed |= {
        id(part)
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr == "format")
        or (isinstance(node, ast.keyword) and node.arg == "bar_format")  # template that tqdm fills
        for part in ast.walk(node.value)
    }
    statements = [statement for function in functions for statement in function.body]
    strings = {
        id(node): node.value
        for statement in statements
        for node in ast.walk(statement)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return [text for key, text in strings.items() if key not in allowed and placeholders(text)]
