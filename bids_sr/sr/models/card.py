"""Model cards as written: training data, recipe and held-out metrics, as plain values for JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch

from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.recipe import Recipe, VarianceRecipe
from bids_sr.sr.training.job import Training
from bids_sr.sr.training.phase import Phase

# of `Recipe`, added after models had been made
_YOUNGER = (
    "epochs",
    "patches",
    "look_epochs",
    "decay_from",
    "final_learning_rate",
    "plateau_patience",
    "plateau_factor",
    "critic_game",
    "weight_clip",
    "penalty_weight",
    "objective",
    "degradation",
    "factors",
    "freeze_but_last",
    "keep_critic",
    "intensity",
    "patch_at_most",
)


def plain_recipe(recipe: Recipe, *, vgg: bool | None = None) -> dict[str, object]:
    """Return the recipe's numbers for the card, with the losses in use.

    The losses are those that are on with or without weights of VGG-19.

    Without `vgg` all losses are listed, as in cards before 0.2. Settings younger than the first
    models appear only where they are not the default, so that older models are found again by
    comparing these.
    """
    if isinstance(recipe, VarianceRecipe):
        estimator = {"components": recipe.components, "least_explained": recipe.least_explained}
        return json.loads(json.dumps(asdict(recipe.estimator) | estimator))
    skip = ("build_generator", "build_critic", "losses", "augmentation")
    out: dict[str, object] = {
        f.name: getattr(recipe, f.name)
        for f in fields(recipe)
        if f.name not in skip and not (f.name in _YOUNGER and getattr(recipe, f.name) == f.default)
    }
    terms = recipe.losses if vgg is None else recipe.terms_on(vgg)
    out["losses"] = {f"{t.kind}:{getattr(t.build, '__name__', t.build)}": t.weight for t in terms}
    return json.loads(json.dumps(out | {"augmentation": asdict(recipe.augmentation)}))


def _perceptual_entry(
    recipe: Recipe, checksum: str | None, weights: Path | None
) -> dict[str, object]:
    """Whether the perceptual term was on: weights, or the reason why not."""
    if checksum is not None and weights is not None:
        return {"active": True, "weights_sha256": checksum, "file": weights.name}
    if not any(term.kind == "perceptual" for term in recipe.losses):
        return {"active": False, "reason": "the recipe has no such term"}
    return {"active": False, "reason": "no weights of VGG-19 given (--vgg-weights)"}


def started_from(model: LoadedModel) -> dict[str, object]:
    """The card's entry on the model that training began with."""
    keys = (
        "name",
        "method",
        "recipe",
        "contrast",
        "resolution",
        "weights_sha256",
        "trained_with",
        "started_from",
    )
    return {key: model.card.json[key] for key in keys if key in model.card.json} | {
        "recipe": model.card.recipe
    }


def card_entries(
    training: Training, recipe: Recipe, described: Mapping[str, object]
) -> dict[str, object]:
    """Return the card entries known before training; `described` describes the data."""
    from bids_sr.version import __version__

    method, vgg = training.method, None
    trained: dict[str, object] = {}
    if not isinstance(recipe, VarianceRecipe):
        vgg = training.vgg_weights is not None
        trained = {"objective": recipe.objective, "ndim": method.ndim}
    return {
        **described,
        **trained,
        "method": method.name,
        "trained_on": method.trained_on,
        "reference": method.reference,
        "recipe": training.recipe,
        "settings": plain_recipe(recipe, vgg=vgg),
        "versions": {"bids_sr": __version__, "torch": torch.__version__, "numpy": np.__version__},
    }


def training_entries(phases: Sequence[Phase], reached: Mapping[str, object]) -> dict[str, object]:
    """Return the card entries known after training; `reached` are the network's metrics."""
    first = phases[0]
    training, examples = first.training, first.examples
    held = examples.held
    checksum = next(
        (str(module.checksum) for kind, module, _ in first.nets.terms if kind == "perceptual"),
        None,
    )
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
    held_out = examples.named(held, first.windows) | {
        "iteration": first.at.best_iteration if first.scored else first.at.iteration,
        "model": told if held else f"nothing was held out: {kept}",
    }
    generator = first.nets.generator
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
        "perceptual": _perceptual_entry(first.recipe, checksum, training.vgg_weights),
        "mixed_precision": {"kept": first.at.mixed, "score_change_db": first.at.mixed_loss_db},
        "reproducible": not why,
        **({"not_reproducible_because": "; ".join(why)} if why else {}),
        "parameters": sum(p.numel() for p in generator.parameters()),
        "parameters_trained": sum(p.numel() for p in generator.parameters() if p.requires_grad),
        **({} if training.start is None else {"started_from": started_from(training.start)}),
    }
