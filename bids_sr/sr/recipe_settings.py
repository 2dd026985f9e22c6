"""Recipe settings in model cards, and comparison of two lists of settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields

from bids_sr.sr.loss_words import loss_name
from bids_sr.sr.recipe import FIRST_ADDED_FIELD, Recipe

# fields of a recipe that are omitted, or listed in another form
_SPECIAL_FIELDS = ("build_generator", "build_critic", "losses", "augmentation")


def plain_recipe(recipe: Recipe, *, vgg: bool | None = None) -> dict[str, object]:
    """Return the settings of a recipe for a model card.

    The card lists the losses used with (`vgg` true) or without VGG-19 weights. If `vgg` is None,
    all losses are listed. Settings that were introduced after the first models are listed only if
    they differ from their default, so that settings of early models remain equal.
    """
    plain_fields = [
        recipe_field for recipe_field in fields(recipe) if recipe_field.name not in _SPECIAL_FIELDS
    ]
    n_early = [recipe_field.name for recipe_field in plain_fields].index(FIRST_ADDED_FIELD)
    settings: dict[str, object] = {
        recipe_field.name: getattr(recipe, recipe_field.name)
        for position, recipe_field in enumerate(plain_fields)
        if position < n_early or getattr(recipe, recipe_field.name) != recipe_field.default
    }
    terms = recipe.losses if vgg is None else recipe.select_terms(vgg)
    settings["losses"] = {loss_name(term): term.weight for term in terms}
    settings["augmentation"] = asdict(recipe.augmentation)
    # lists in place of tuples, as in a card that was read from its file
    return json.loads(json.dumps(settings))


def differing_settings(
    card: Mapping[str, object], recipe: Mapping[str, object]
) -> dict[str, tuple[object, object]]:
    """Return the settings that differ between a training and its recipe.

    `card` and `recipe` are settings of the training and of the unchanged recipe, as returned by
    `plain_recipe`. Missing settings have their default.

    Returns the value in the training and in the recipe, by name. Weights of losses are named
    ``losses.KIND:CLASS``, and are None if only one of the two has the term.
    """
    defaults = {
        item.name: json.loads(json.dumps(item.default))
        for item in fields(Recipe)
        if item.default is not MISSING and item.name not in _SPECIAL_FIELDS
    }
    card_values = _flatten(defaults | dict(card))
    recipe_values = _flatten(defaults | dict(recipe))
    pairs = {
        name: (card_values.get(name), recipe_values.get(name))
        for name in (*recipe_values, *card_values)
    }
    return {
        name: (card_value, recipe_value)
        for name, (card_value, recipe_value) in pairs.items()
        if card_value != recipe_value
    }


def _flatten(settings: Mapping[str, object]) -> dict[str, object]:
    """Return settings with one name per entry of a mapping, such as ``losses.tv:…``."""
    flat_settings: dict[str, object] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat_settings |= {f"{name}.{key}": entry for key, entry in value.items()}
        else:
            flat_settings[name] = value
    return flat_settings
