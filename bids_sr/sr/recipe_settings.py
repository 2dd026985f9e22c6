"""Recipe settings in model cards, and comparison of two lists of settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields

from bids_sr.sr.loss_words import loss_name
from bids_sr.sr.recipe import FIRST_ADDED_FIELD, Recipe

# fields of a recipe that are omitted or listed in another form
_NOT_PLAIN = ("build_generator", "build_critic", "losses", "augmentation")


def plain_recipe(recipe: Recipe, *, vgg: bool | None = None) -> dict[str, object]:
    """Return the settings of a recipe for a model card.

    The card lists the losses used with (`vgg` true) or without VGG-19 weights. If `vgg` is None,
    all losses are listed. Settings that were introduced after the
    first models are listed only if they differ from their default, so that settings of early
    models remain equal.
    """
    listed = [f for f in fields(recipe) if f.name not in _NOT_PLAIN]
    younger = [f.name for f in listed].index(FIRST_ADDED_FIELD)
    out: dict[str, object] = {
        f.name: getattr(recipe, f.name)
        for number, f in enumerate(listed)
        if number < younger or getattr(recipe, f.name) != f.default
    }
    terms = recipe.losses if vgg is None else recipe.select_terms(vgg)
    out["losses"] = {loss_name(term): term.weight for term in terms}
    return json.loads(json.dumps(out | {"augmentation": asdict(recipe.augmentation)}))


def differing_settings(
    card: Mapping[str, object], recipe: Mapping[str, object]
) -> dict[str, tuple[object, object]]:
    """Return the settings that differ between a training and its recipe.

    Parameters
    ----------
    card, recipe : Mapping[str, object]
        Settings of the training and of the unchanged recipe, as returned by `plain_recipe`.
        Missing settings have their default.

    Returns
    -------
    dict[str, tuple[object, object]]
        Value in the training and in the recipe, by name. Weights of losses are named
        ``losses.KIND:CLASS``, and are None if only one of the two has the term.
    """
    defaults = {
        f.name: json.loads(json.dumps(f.default))
        for f in fields(Recipe)
        if f.default is not MISSING and f.name not in _NOT_PLAIN
    }
    flat = (_flat(defaults | dict(card)), _flat(defaults | dict(recipe)))
    names = dict.fromkeys((*flat[1], *flat[0]))
    pairs = {name: (flat[0].get(name), flat[1].get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _flat(settings: Mapping[str, object]) -> dict[str, object]:
    """Return settings with one name per entry of a mapping, such as ``losses.tv:…``."""
    out: dict[str, object] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            out |= {f"{name}.{key}": entry for key, entry in value.items()}
        else:
            out[name] = value
    return out
