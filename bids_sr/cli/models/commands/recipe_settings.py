"""Settings of training recipes as text for ``list METHOD``."""

from __future__ import annotations

from bids_sr.cli.console import table_text
from bids_sr.sr.method import get_method
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
        recipes["Settings of the prior SD maps"] = definition.variance
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
