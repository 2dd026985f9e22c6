"""The settings of a recipe as a model card lists them, and settings in which two lists differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields

from bids_sr.sr.loss_words import loss_name
from bids_sr.sr.recipe import FIRST_YOUNGER, Recipe

_NOT_PLAIN = ("build_generator", "build_critic", "losses", "augmentation")  # of a recipe


def plain_recipe(recipe: Recipe, *, vgg: bool | None = None) -> dict[str, object]:
    """Return the recipe's numbers for the card, with the losses in use.

    The losses are those that are on with or without weights of VGG-19.

    Without `vgg` all losses are listed, as in cards before 0.2. Settings younger than the first
    models appear only where they are not the default, so that older models are found again by
    comparing these.
    """
    known = [f for f in fields(recipe) if f.name not in _NOT_PLAIN]
    younger = [f.name for f in known].index(FIRST_YOUNGER)
    out: dict[str, object] = {
        f.name: getattr(recipe, f.name)
        for number, f in enumerate(known)
        if number < younger or getattr(recipe, f.name) != f.default
    }
    terms = recipe.losses if vgg is None else recipe.terms_on(vgg)
    out["losses"] = {loss_name(term): term.weight for term in terms}
    return json.loads(json.dumps(out | {"augmentation": asdict(recipe.augmentation)}))


def differing_settings(
    card: Mapping[str, object], recipe: Mapping[str, object]
) -> dict[str, tuple[object, object]]:
    """Return the settings in which a training differed from its recipe.

    Parameters
    ----------
    card, recipe : Mapping[str, object]
        Settings as `plain_recipe` lists them: of the training, and of the unchanged recipe.
        A setting that is missing has its default.

    Returns
    -------
    dict[str, tuple[object, object]]
        Value in the training and in the recipe, by name; weights of losses by
        ``losses.KIND:CLASS`` (None for a term that one of the two does not have).
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
    """Return the settings with one name per entry of a mapping, such as ``losses.tv:…``."""
    out: dict[str, object] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            out |= {f"{name}.{key}": entry for key, entry in value.items()}
        else:
            out[name] = value
    return out
