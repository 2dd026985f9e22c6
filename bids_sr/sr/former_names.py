"""Current names of methods and recipes that model cards of earlier versions call otherwise."""

from collections.abc import Mapping


def current_names(card: Mapping[str, object]) -> tuple[str, str]:
    """Return the method and the recipe of a card as this version names them.

    Recipe `fast` of srgan was the data-consistent network that is now the method dcnet: a network
    on the acquired grid, so that its settings name no interpolation before it. Recipe `paper` of
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


def renaming(card: Mapping[str, object]) -> str:
    """Return what a model is whose method has another name now, as a clause, or ""."""
    named, (method, _) = card.get("method"), current_names(card)
    if named == method:
        return ""
    return (
        f"the model was trained with {named} --recipe fast by an earlier version of bids-sr. "
        f"This data-consistent network is now available as the method {method}"
    )


def earlier_names(method: str) -> tuple[str, ...]:
    """Return names under which earlier versions stored models of a method."""
    return {"dcnet": ("srgan",)}.get(method, ())


def _part(values: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}
