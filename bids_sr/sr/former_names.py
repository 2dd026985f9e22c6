"""Current names of methods and recipes that had other names in model cards of earlier versions."""

from collections.abc import Mapping


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


def earlier_names(method: str) -> tuple[str, ...]:
    """Return the method names under which earlier versions stored models of a method."""
    return {"dcnet": ("srgan",)}.get(method, ())


def _part(values: Mapping[str, object], name: str) -> Mapping[str, object]:
    """Return a card entry if it is a mapping, otherwise an empty mapping."""
    entry = values.get(name)
    return entry if isinstance(entry, Mapping) else {}
