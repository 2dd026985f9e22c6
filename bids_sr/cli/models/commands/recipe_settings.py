"""Settings of training recipes as text for ``list METHOD``."""

from __future__ import annotations

import importlib
import inspect

from bids_sr.cli.console import table_text
from bids_sr.sr.method import Method, get_method
from bids_sr.sr.recipe import Recipe, VarianceRecipe
from bids_sr.sr.recipe_changes import VariableField, variable_fields

_COLUMNS = ("setting", "default", "range", "unit", "description", "varied in")


def settings_text(method: str) -> str:
    """Return a table of the settings of each recipe of a method."""
    definition = get_method(method)
    paragraphs = [f"{method}: {definition.summary}", *_describe_sources(definition)]
    change = f"(change a setting with bids-sr ... --set {method}.SETTING=VALUE)"
    recipes: dict[str, Recipe | VarianceRecipe] = {
        f"Settings of --recipe {name}": recipe for name, recipe in definition.recipes.items()
    }
    if definition.variance is not None:
        recipes["Settings of the prior SD maps"] = definition.variance
    for title, recipe in recipes.items():
        rows = [_COLUMNS, *map(_make_row, variable_fields(recipe))]
        paragraphs += [f"{title} {change}", table_text(rows)]
    return "\n".join(paragraphs)


def _describe_sources(method: Method) -> list[str]:
    """Return where the settings of the recipes are from, as the module of the method says it.

    Methods of other packages have no such text.
    """
    try:
        module = importlib.import_module(f"bids_sr.sr.methods.{method.name.replace('-', '_')}")
    except ModuleNotFoundError:
        return []
    text = inspect.getdoc(module) or ""
    return [text.partition("\n")[2].strip().replace("``", "")]


def _make_row(field: VariableField) -> tuple[str, ...]:
    """Return the table cells of a setting."""
    return (
        field.name,
        field.default_text,
        field.range,
        field.limits.unit or "-",
        field.description,
        field.limits.source or "-",
    )
