"""What a training writes into the card of its model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields

from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.recipe import FIRST_YOUNGER, Recipe
from bids_sr.sr.training.job import TrainingRequest
from bids_sr.sr.training.phase import Phase

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
    out["losses"] = {f"{t.kind}:{getattr(t.build, '__name__', t.build)}": t.weight for t in terms}
    return json.loads(json.dumps(out | {"augmentation": asdict(recipe.augmentation)}))


def settings_of(training: TrainingRequest) -> dict[str, object]:
    """Return what a card says of how a model was trained, or its variance maps were found.

    `SettingError`: A value cannot hold; it is named by its option.
    """
    if training.variance is not None:
        return json.loads(json.dumps(asdict(training.variance)))
    return plain_recipe(training.effective_recipe, vgg=training.vgg_weights is not None)


def card_entries(training: TrainingRequest, described: Mapping[str, object]) -> dict[str, object]:
    """Return the card entries known before training; `described` describes the data."""
    import numpy as np
    import torch

    from bids_sr.version import __version__

    method = training.method
    trained: dict[str, object] = {}
    if training.variance is None:
        trained = {"objective": training.effective_recipe.objective, "ndim": method.ndim}
    return {
        **described,
        **trained,
        "method": method.name,
        "trained_on": method.trained_on,
        "reference": method.reference,
        "recipe": training.recipe,
        "settings": settings_of(training),
        "versions": {"bids_sr": __version__, "torch": torch.__version__, "numpy": np.__version__},
        "seed": training.seed,
        "threads": training.threads,
        "device": training.device,
    }


def training_entries(phases: Sequence[Phase], reached: Mapping[str, object]) -> dict[str, object]:
    """Return the card entries known after training; `reached` are the network's metrics."""
    first = phases[0]
    training, examples, held = first.training, first.examples, first.examples.held
    timed = [p.name for p in phases if p.at.done == "time"]
    why = [f"{' and '.join(timed)} stopped on the clock"] * bool(timed)
    why += ["the device had no room for the batch, which was halved"] * any(
        p.at.halved for p in phases
    )
    again = (
        "the final model was retrained on all parts"
        if len(phases) > 1
        else "this is the final model"
    )
    kept = (
        "the training loss chose the stopping point"
        if first.by_loss
        else "the last weights are kept"
    )
    told = f"scores of a model trained without these parts, which determined when to stop; {again}"
    held_out = examples.named(held, [(window.image, window.box) for window in first.windows]) | {
        "iteration": first.at.best_iteration if first.scored else first.at.iteration,
        "model": told if held else f"nothing was held out: {kept}",
    }
    parameters = list(first.nets.generator.parameters())
    return {
        "held_out": {**held_out, **(reached if held else {})},
        **(
            {"on_trained_slices": {**examples.named(examples.train), **reached}}
            if reached and not held
            else {}
        ),
        "phases": {
            p.name: {"iterations": p.at.iteration, "stopped_by": p.at.done} for p in phases
        },
        "refit_on_all_slices": len(phases) > 1,
        "perceptual": _perceptual_entry(first),
        "mixed_precision": {"kept": first.at.mixed, "score_change_db": first.at.mixed_loss_db},
        "reproducible": not why,
        **({"not_reproducible_because": "; ".join(why)} if why else {}),
        "parameters": sum(p.numel() for p in parameters),
        "parameters_trained": sum(p.numel() for p in parameters if p.requires_grad),
        **({} if training.start is None else {"started_from": _started_from(training.start.card)}),
    }


def _perceptual_entry(phase: Phase) -> dict[str, object]:
    """Whether the perceptual term was on: weights, or the reason why not."""
    weights = phase.training.vgg_weights
    for kind, module, _ in phase.nets.terms:
        if kind == "perceptual" and weights is not None:
            checksum = str(module.checksum)
            return {"active": True, "weights_sha256": checksum, "file": weights.name}
    if not any(term.kind == "perceptual" for term in phase.recipe.losses):
        return {"active": False, "reason": "the recipe has no such term"}
    return {"active": False, "reason": "no weights of VGG-19 given (--vgg-weights)"}


def _started_from(card: ModelCard) -> dict[str, object]:
    """The card's entry on the model that training began with."""
    keys = ("name", "method", "contrast", "resolution", "weights_sha256", "trained_with")
    own = {key: card.json[key] for key in (*keys, "started_from") if key in card.json}
    return own | {"recipe": card.recipe}
