"""Settings of training recipes as text for ``list METHOD`` and ``--help-all``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from bids_sr.cli.console import table_text
from bids_sr.sr.method import get_method, list_methods
from bids_sr.sr.recipe import Recipe, VarianceRecipe
from bids_sr.sr.recipe_changes import VariableField, variable_fields

_COLUMNS = ("setting", "default", "range", "unit", "description", "varied in")


def settings_text(method: str) -> str:
    """Return a table of the settings of each recipe of a method."""
    definition = get_method(method)
    paragraphs = [f"{method}: {definition.summary}"]
    change = f"(change a setting with bids-sr ... --set {method}.SETTING=VALUE)"
    recipes: dict[str, Recipe | VarianceRecipe] = {
        f"Settings of --recipe {name}": recipe for name, recipe in definition.recipes.items()
    }
    if definition.variance is not None:
        recipes["Settings of the variance maps"] = definition.variance
    for title, recipe in recipes.items():
        rows = [_COLUMNS, *map(_make_row, variable_fields(recipe))]
        paragraphs += [f"{title} {change}", table_text(rows)]
    return "\n".join(paragraphs)


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


def format_recipe_settings() -> str:
    """Return the settings of all recipes for the end of the help, one paragraph per recipe."""
    lines = [
        "settings of the methods with their ranges and defaults (change a setting"
        " with --set METHOD.FIELD=VALUE):"
    ]
    for method in list_methods():
        for name, recipe in method.recipes.items():
            lines += _make_paragraph(f"{method.name}, {name}:", variable_fields(recipe))
        if method.variance is not None:
            lines += _make_paragraph(f"{method.name}:", variable_fields(method.variance))
    return "\n".join(lines)


def _make_paragraph(title: str, fields: tuple[VariableField, ...]) -> Iterator[str]:
    """Yield the lines of a paragraph about a recipe."""
    text = ", ".join(f"{field.name} {field.range} ({field.default_text})" for field in fields)
    yield f"  {title}"
    yield from textwrap.wrap(text, 90, initial_indent="    ", subsequent_indent="    ")
