"""Notices about recipes whose VGG-19 term is disabled because there are no weights."""

from __future__ import annotations

from bids_sr.io.notices import NoticeLevel
from bids_sr.sr.loss_words import loss_in_words, loss_name
from bids_sr.sr.method import Method
from bids_sr.sr.recipe import Recipe


def missing_features_notice(method: Method, recipe: str) -> tuple[NoticeLevel, str] | None:
    """Return level and text of the notice about missing VGG-19 features, or None.

    The notice is a warning for recipes that follow a paper. For ``fast``, it is a note, because
    the term is optional and has a small weight.
    """
    reason = explain_missing_features(method.recipes.get(recipe))
    if not reason:
        return None
    text = f"the loss will not include VGG-19 features, because {reason}"
    if recipe == "fast":
        return "note", f"{text}. This term is optional with --recipe fast (--vgg-weights FILE)."
    return "warning", (
        f"{text}. The training will therefore differ from the paper. To include the features, "
        "specify the weights with --vgg-weights FILE."
    )


def explain_missing_features(recipe: Recipe | None) -> str:
    """Return a clause about the loss term that a training lacks without VGG-19 weights.

    The clause is, for example, "no VGG-19 weights were given, so squared error replaces the
    features". It is "" without a recipe, and if the recipe has no such term.
    """
    if recipe is None or not recipe.perceptual:
        return ""
    replacements = [loss_in_words(loss_name(term)) for term in recipe.losses if term.stands_in]
    if not replacements:
        return "no VGG-19 weights were given"
    return f"no VGG-19 weights were given, so {' plus '.join(replacements)} replaces the features"
