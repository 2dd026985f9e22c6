"""Model card entries about a training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.networks.data.examples import Examples
from bids_sr.sr.networks.missing_features import explain_missing_features
from bids_sr.sr.networks.training.phase import Phase
from bids_sr.sr.recipe_settings import plain_recipe


def card_entries(training: ModelRequest, data_entries: Mapping[str, object]) -> dict[str, object]:
    """Return the card entries that are known before training.

    `data_entries` contains the entries about the data.
    """
    import numpy as np
    import torch

    from bids_sr.version import __version__

    method = training.definition
    network_entries: dict[str, object] = {}
    if training.variance is None:
        network_entries = {"objective": training.effective_recipe.objective, "ndim": method.ndim}
    changed_settings = training.changed_settings
    return {
        **data_entries,
        **network_entries,
        "method": method.name,
        "trained_on": method.trained_on,
        "reference": method.reference,
        "recipe": training.recipe,
        "settings": make_settings_entry(training),
        **({"changed_settings": changed_settings} if changed_settings else {}),
        "versions": {"bids_sr": __version__, "torch": torch.__version__, "numpy": np.__version__},
        "seed": training.random_seed,
        "threads": training.omp_nthreads,
        "device": training.device,
    }


def make_settings_entry(training: ModelRequest) -> dict[str, object]:
    """Return the settings of a training, or of an estimation of prior SD maps, for the card.

    InvalidInput is raised if the recipe does not allow a requested change.
    """
    if training.variance is not None:
        return json.loads(json.dumps(asdict(training.variance)))
    return plain_recipe(training.effective_recipe, vgg=training.vgg_weights is not None)


def make_training_entries(search: Phase, scores: Mapping[str, object]) -> dict[str, object]:
    """Return the card entries that are known after training.

    `scores` contains the network's scores.
    """
    examples, start = search.examples, search.training.start_model
    reasons = _list_irreproducible_events(search)
    parameters = list(search.nets.generator.parameters())
    return {
        **_make_score_entries(search, scores),
        "phases": {
            search.name: {
                "iterations": search.counters.iteration,
                "of": search.recipe.steps,
                "stopped_by": search.counters.done,
            }
        },
        **_make_epoch_entry(examples),
        **_make_pretraining_entry(search),
        "perceptual": _make_perceptual_entry(search),
        "mixed_precision": {
            "asked": search.training.mixed,
            "kept": search.counters.mixed,
            "score_change_db": search.counters.mixed_loss_db,
        },
        "reproducible": not reasons,
        **({"not_reproducible_because": "; ".join(reasons)} if reasons else {}),
        "parameters": sum(parameter.numel() for parameter in parameters),
        "parameters_trained": sum(
            parameter.numel() for parameter in parameters if parameter.requires_grad
        ),
        **({} if start is None else {"started_from": _make_start_entry(start)}),
    }


def _list_irreproducible_events(search: Phase) -> list[str]:
    """Return the events that prevent the exact reproduction of a training, as clauses."""
    events = []
    if search.counters.done == "time":
        events.append("the time limit stopped the training")
    if search.counters.halved:
        events.append(
            "the batch size was halved, because the batch did not fit into device memory"
        )
    if search.counters.moved:
        events.append(
            "the training continued on another device, with a different number of threads, or "
            "with a different version of PyTorch"
        )
    return events


def _make_score_entries(search: Phase, scores: Mapping[str, object]) -> dict[str, object]:
    """Return the entries about held-out data and scores.

    If nothing is held out, scores on training data are a separate entry.
    """
    examples = search.examples
    held_out_slabs = examples.held_out_slabs
    held_out = examples.describe_slabs(
        held_out_slabs, [(window.image, window.box) for window in search.windows]
    ) | {
        "iteration": search.kept_iteration,
        "model": _describe_scored_model(search),
    }
    if held_out_slabs:
        return {"held_out": {**held_out, **scores}}
    entries: dict[str, object] = {"held_out": held_out}
    if scores:
        training_data = examples.describe_slabs(examples.training_slabs)
        entries["on_trained_slices"] = {**training_data, **scores}
    return entries


def _describe_scored_model(search: Phase) -> str:
    """Return sentences about the role of held-out data and the model that was scored."""
    if not search.examples.held_out_slabs:
        return (
            "No data were held out. The training loss determined when training stopped."
            if search.is_scored_by_loss
            else "No data were held out. The weights of the last step are kept."
        )
    role = (
        "These data determined when training stopped."
        if search.keeps_best
        else "These data did not determine when training stopped, and the weights of the last "
        "step are kept."
    )
    return (
        "The scores are from a model that was trained without the held-out data. "
        f"{role} The scored model is also the final model."
    )


def _make_epoch_entry(examples: Examples) -> dict[str, object]:
    """Return the entry ``epoch`` with slices and steps; empty unless epochs use whole slices."""
    if not examples.recipe.epochs_of_slices:
        return {}
    return {
        "epoch": {"slices": examples.slice_count, "iterations": examples.recipe.steps_per_epoch}
    }


def _make_pretraining_entry(phase: Phase) -> dict[str, object]:
    """Return the entry ``pretraining``, or no entry if there is no pre-training.

    It contains the steps before and with the adversarial term, and the loss terms of pre-training.
    """
    recipe = phase.recipe
    if not (recipe.has_adversarial_loss and recipe.adversarial_from):
        return {}
    n_pretraining = min(recipe.adversarial_from, phase.counters.iteration)
    terms = recipe.select_terms(phase.training.vgg_weights is not None)
    kinds = [term.kind for term in terms if term.kind != "adversarial"]
    return {
        "pretraining": {
            "iterations": n_pretraining,
            "losses": kinds,
            "adversarial_iterations": phase.counters.iteration - n_pretraining,
        }
    }


def _make_perceptual_entry(phase: Phase) -> dict[str, object]:
    """Return the entry about the perceptual term: its weights, or why it was omitted."""
    weights = phase.training.vgg_weights
    for term in phase.nets.terms:
        if term.kind == "perceptual" and weights is not None:
            checksum = str(term.module.checksum)
            return {"active": True, "weights_sha256": checksum, "file": weights.name}
    reason = explain_missing_features(phase.recipe)
    return {"active": False, "reason": reason or "the loss of this recipe has no perceptual term"}


def _make_start_entry(start: LoadedModel) -> dict[str, object]:
    """Return the entry about the model that initialized the training."""
    card = start.card
    keys = ("name", "method", "contrast", "resolution", "weights_sha256", "trained_with")
    entries = {key: card.json[key] for key in (*keys, "started_from") if key in card.json}
    if start.companions:
        entries["with"] = sorted(start.companions)
    return entries | {"recipe": card.recipe}
