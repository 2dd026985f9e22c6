"""Models of earlier versions: former names of methods and recipes, and earlier editions."""

from collections.abc import Mapping

from bids_sr.sr.method import get_method, method_names


def current_names(card: Mapping[str, object]) -> tuple[str, str]:
    """Return the current names of method and recipe in a model card.

    Recipe `fast` of srgan was a data-consistent network, which is now the method dcnet. It
    operates on the acquired grid, so its settings specify no interpolation. Recipe `paper` of
    srgan with squared error in its loss is now `paper-mse`.
    """
    method, recipe = str(card.get("method", "")), str(card.get("recipe", ""))
    if method != "srgan":
        return method, recipe
    settings = _part(card, "settings")
    if recipe == "fast" and settings.get("upsampled_by", "unknown") is None:
        return "dcnet", recipe
    if recipe == "paper" and "content:MSE" in _part(settings, "losses"):
        return method, "paper-mse"
    return method, recipe


def renaming_text(card: Mapping[str, object]) -> str:
    """Return a clause about the current name of a model's method, or "" if it was not renamed."""
    old_name, (method, _) = card.get("method"), current_names(card)
    if old_name == method:
        return ""
    return (
        f"the model was trained with {old_name} --recipe fast by an earlier version of bids-sr. "
        f"This data-consistent network is now available as the method {method}"
    )


def edition_of(card: Mapping[str, object]) -> int:
    """Return the edition of the recipe in a model card; 1 for cards without this entry."""
    edition = _part(card, "settings").get("edition", 1)
    return edition if isinstance(edition, int) else 1


def former_text(card: Mapping[str, object]) -> str:
    """Return a clause about a model of an earlier version, or "" if its recipe is current.

    The method of the model was renamed, or its recipe has another network now.
    """
    if renamed := renaming_text(card):
        return renamed
    method, recipe = current_names(card)
    if method not in method_names():
        return ""
    definition, edition = get_method(method), edition_of(card)
    if recipe not in definition.former or edition == definition.recipes[recipe].edition:
        return ""
    return (
        f"the model was trained with {method} --recipe {recipe} by an earlier version of bids-sr, "
        "whose network and training settings differ from the current recipe. The model is applied "
        "with the network of its training"
    )


def earlier_names(method: str) -> tuple[str, ...]:
    """Return the method names under which earlier versions stored models of a method."""
    return {"dcnet": ("srgan",)}.get(method, ())


def _part(values: Mapping[str, object], name: str) -> Mapping[str, object]:
    """Return a card entry if it is a mapping, otherwise an empty mapping."""
    entry = values.get(name)
    return entry if isinstance(entry, Mapping) else {}
