"""Workflows, steps and the Python interface look up nothing by name: they pass values."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("workflows", "steps", "api", "combination", "compared_series", "structural")
LOOKED_UP = {"find", "gather", "give", "setting", "lookup"}
"""Methods that would take the name of an artifact or a setting."""


def lookups(code: str) -> Iterator[str]:
    """Yield expressions that look up a setting or an artifact by its name."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call):
            function = node.func
            name = (
                function.attr
                if isinstance(function, ast.Attribute)
                else getattr(function, "id", "")
            )
            words = [argument for argument in node.args if _is_text(argument)]
            # strings also have a method `find`
            on_text = isinstance(function, ast.Attribute) and _is_text(function.value)
            if name in LOOKED_UP and words and not on_text:
                yield ast.unparse(node)
            if name == "within" or (name == "give" and node.keywords):
                yield ast.unparse(node)
        elif isinstance(node, ast.Subscript) and _is_text(node.slice):
            names = [child.id for child in ast.walk(node.value) if isinstance(child, ast.Name)]
            attributes = [
                child.attr for child in ast.walk(node.value) if isinstance(child, ast.Attribute)
            ]
            if any(
                name.lower().endswith(("scope", "handles", "makers"))
                for name in [*names[:1], *attributes[:1]]
            ):
                yield ast.unparse(node)
        elif isinstance(node, (ast.FunctionDef, ast.Lambda)):
            arguments = node.args
            parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            if any(argument.arg in ("setting", "lookup") for argument in parameters):
                yield ast.unparse(node).splitlines()[0]


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_is_looked_up_by_name(folder: str) -> None:
    lookup_places = {
        f"{path.relative_to(ROOT)}: {expression}"
        for path in sorted((ROOT / "bids_sr" / folder).rglob("*.py"))
        for expression in lookups(path.read_text(encoding="utf-8"))
    }
    assert any((ROOT / "bids_sr" / folder).rglob("*.py"))
    assert lookup_places == set(), "pass the value that the caller has"


@pytest.mark.parametrize(
    "code",
    [
        'width = scope.setting("smoothing")',
        'names = setting("series_names")',
        'maps = run.gather("maps")',
        "run.give(bold_file=path)",
        'boldref = scope["boldref"]',
        'series = run_scope["series"]',
        'maker = scope.handles["boldref"]',
        "def _cost(setting): return 1",
        "step(cost=lambda setting: 1)",
        'own = run.within(name, series_name="sbl")',
    ],
)
def test_a_lookup_is_reported(code: str) -> None:
    assert list(lookups(code)), code


@pytest.mark.parametrize(
    "code", ['place = "a b".find("b")', 'label = entities["task"]', "def _cost(level): return 1"]
)
def test_code_without_a_lookup_is_not_reported(code: str) -> None:
    assert not list(lookups(code))
