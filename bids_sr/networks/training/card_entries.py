"""Model card entries about a training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from bids_sr.networks.data.examples import Examples
from bids_sr.networks.training.phase import Phase
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.models.request import TrainingRequest
from bids_sr.sr.recipe_settings import plain_recipe


def make_settings_entry(training: TrainingRequest) -> dict[str, object]:
    """Return the settings of a training, or of an estimation of prior SD maps, for the card.

    ChangeError is raised if the recipe does not allow a requested change.
    """
    if training.variance is not None:
        return json.loads(json.dumps(asdict(training.variance)))
    return plain_recipe(training.effective_recipe, vgg=training.vgg_weights is not None)


def card_entries(
    training: TrainingRequest, data_entries: Mapping[str, object]
) -> dict[str, object]:
    """Return the card entries that are known before training.

    `data_entries` contains the entries about the data.
    """
    import numpy as np
    import torch

    from bids_sr.version import __version__

    method = training.definition
    objective_entries: dict[str, object] = {}
    if training.variance is None:
        objective_entries = {"objective": training.effective_recipe.objective, "ndim": method.ndim}
    return {
        **data_entries,
        **objective_entries,
        "method": method.name,
        "trained_on": method.trained_on,
        "reference": method.reference,
        "recipe": training.recipe,
        "settings": make_settings_entry(training),
        **(
            {"changed_settings": changed_values}
            if (changed_values := training.changed_settings)
            else {}
        ),
        "versions": {"bids_sr": __version__, "torch": torch.__version__, "numpy": np.__version__},
        "seed": training.random_seed,
        "threads": training.omp_nthreads,
        "device": training.device,
    }


def training_entries(phases: Sequence[Phase], scores: Mapping[str, object]) -> dict[str, object]:
    """Return the card entries that are known after training.

    `scores` contains the network's scores.
    """
    first = phases[0]
    training, examples, held_regions = first.training, first.examples, first.examples.held
    stopped_phases = [p.name for p in phases if p.counters.done == "time"]
    reasons = [f"the time limit stopped {' and '.join(stopped_phases)}"] * bool(stopped_phases)
    reasons += [
        "the batch size was halved, because the batch did not fit into device memory"
    ] * any(p.counters.halved for p in phases)
    reasons += [
        "the training continued on another device, with a different number of threads, or "
        "with a different version of PyTorch"
    ] * any(p.counters.moved for p in phases)
    no_score_text = (
        "No data were held out. The training loss determined when training stopped."
        if first.is_scored_by_loss
        else "No data were held out. The weights of the last step are kept."
    )
    role = (
        "These data determined when training stopped."
        if first.keeps_best
        else "These data did not determine when training stopped, and the weights of the last "
        "step are kept."
    )
    final = (
        "The final model was then retrained on all data."
        if len(phases) > 1
        else "The scored model is also the final model."
    )
    score_text = (
        f"The scores are from a model that was trained without the held-out data. {role} {final}"
    )
    held_out = examples.describe_regions(
        held_regions, [(window.image, window.box) for window in first.windows]
    ) | {
        "iteration": first.kept_iteration,
        "model": score_text if held_regions else no_score_text,
    }
    parameters = list(first.nets.generator.parameters())
    return {
        "held_out": {**held_out, **(scores if held_regions else {})},
        **(
            {"on_trained_slices": {**examples.describe_regions(examples.train), **scores}}
            if scores and not held_regions
            else {}
        ),
        "phases": {
            p.name: {
                "iterations": p.counters.iteration,
                "of": p.iterations,
                "stopped_by": p.counters.done,
            }
            for p in phases
        },
        **_epoch_entry(examples),
        **_pretraining_entry(phases[-1]),
        "refit_on_all_slices": len(phases) > 1,
        "perceptual": _perceptual_entry(first),
        "mixed_precision": {
            "asked": first.mixed,
            "kept": first.counters.mixed,
            "score_change_db": first.counters.mixed_loss_db,
        },
        "reproducible": not reasons,
        **({"not_reproducible_because": "; ".join(reasons)} if reasons else {}),
        "parameters": sum(p.numel() for p in parameters),
        "parameters_trained": sum(p.numel() for p in parameters if p.requires_grad),
        **(
            {}
            if training.start_model is None
            else {"started_from": _make_start_entry(training.start_model)}
        ),
    }


def steps_at_stop(card: Mapping[str, object]) -> str:
    """Return completed and planned steps of each phase that the time limit stopped, as text.

    "" is returned if there is no such phase.

    >>> steps_at_stop({"phases": {"search": {"iterations": 3, "of": 9, "stopped_by": "time"}}})
    'search: 3 of 9 steps'
    """
    phases = card.get("phases")
    return ", ".join(
        f"{name}: {phase['iterations']:,} of {phase['of']:,} steps"
        for name, phase in (phases.items() if isinstance(phases, Mapping) else ())
        if phase["stopped_by"] == "time"
    )


def _epoch_entry(examples: Examples) -> dict[str, object]:
    """Return the entry ``epoch`` with slices and steps; empty unless epochs use whole slices."""
    if not examples.recipe.epochs_of_slices:
        return {}
    return {
        "epoch": {"slices": examples.slice_count, "iterations": examples.recipe.steps_per_epoch}
    }


def _pretraining_entry(phase: Phase) -> dict[str, object]:
    """Return the entry ``pretraining``, or no entry if there is no pre-training.

    It contains the steps before and with the adversarial term, and the loss terms of pre-training.
    """
    recipe = phase.recipe
    if not (recipe.has_adversarial_loss and recipe.adversarial_from):
        return {}
    n_pretraining = min(recipe.adversarial_from, phase.counters.iteration)
    terms = recipe.select_terms(phase.training.vgg_weights is not None)
    kinds = [term.kind for term in terms if phase.nets.pretrains(term.kind)]
    return {
        "pretraining": {
            "iterations": n_pretraining,
            "losses": kinds,
            "adversarial_iterations": phase.counters.iteration - n_pretraining,
        }
    }


def _perceptual_entry(phase: Phase) -> dict[str, object]:
    """Return the entry about the perceptual term: its weights, or why it was omitted."""
    weights = phase.training.vgg_weights
    for kind, module, _ in phase.nets.terms:
        if kind == "perceptual" and weights is not None:
            checksum = str(module.checksum)
            return {"active": True, "weights_sha256": checksum, "file": weights.name}
    if not any(term.kind == "perceptual" for term in phase.recipe.losses):
        return {"active": False, "reason": "the loss of this recipe has no perceptual term"}
    return {"active": False, "reason": "no VGG-19 weights were specified with --vgg-weights"}


def _make_start_entry(start: LoadedModel) -> dict[str, object]:
    """Return the entry about the model that initialized the training."""
    card = start.card
    keys = ("name", "method", "contrast", "resolution", "weights_sha256", "trained_with")
    entries = {key: card.json[key] for key in (*keys, "started_from") if key in card.json}
    entries |= {"with": sorted(start.companions)} if start.companions else {}
    return entries | {"recipe": card.recipe}
