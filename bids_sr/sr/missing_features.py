"""Recipes whose term on features of VGG-19 is off without the weights of that network."""

from __future__ import annotations

from bids_sr.notices import Level
from bids_sr.sr.loss_words import loss_in_words, loss_name
from bids_sr.sr.method import Method, recipe_name


def missing_features(method: Method, recipe: str) -> str:
    """Return what a training without weights of VGG-19 lacks, as a clause.

    Parameters
    ----------
    method : Method
        What is to be trained.
    recipe : str
        Name of the settings of the training, such as ``fast`` or ``paper``.

    Returns
    -------
    str
        A clause such as "no VGG-19 weights were given, so squared error replaces the features";
        "" if the recipe has no such term, or cannot be trained without it.
    """
    chosen = method.recipes.get(recipe_name(method, recipe))
    if chosen is None or chosen.needs_vgg:
        return ""
    if not any(term.kind == "perceptual" for term in chosen.losses):
        return ""
    stand_ins = [loss_in_words(loss_name(term)) for term in chosen.losses if term.stands_in]
    if not stand_ins:
        return "no VGG-19 weights were given"
    return f"no VGG-19 weights were given, so {' plus '.join(stand_ins)} replaces the features"


def features_notice(method: Method, recipe: str) -> tuple[Level, str] | None:
    """Return level and text of the notice that features of VGG-19 will be missing.

    It is a warning for the recipes that follow a paper, and a note for ``fast``, in which the term
    is optional and has a small weight. None if nothing is missing.
    """
    lacking = missing_features(method, recipe)
    if not lacking:
        return None
    text = f"the loss will not include VGG-19 features, because {lacking}"
    if recipe == "fast":
        return "note", f"{text}. This term is optional with --recipe fast (--vgg-weights FILE)."
    return "warning", (
        f"{text}. The training will therefore differ from the paper. To include the features, "
        "specify the weights with --vgg-weights FILE."
    )
