"""How a model was trained, as typed facts read from its card.

A card may come from anyone: an entry that is missing, or of another kind, counts as unknown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal, get_args

from bids_sr.frozen import frozen
from bids_sr.sr.loss_words import loss_name
from bids_sr.sr.method import Method, UnknownMethod, get_method
from bids_sr.sr.models.card import ModelCard, part_of
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.recipe_settings import differing_settings, plain_recipe

Ending = Literal["iterations", "plateau", "time", ""]
"""Why a phase ended: all steps were done, no more gain, the time limit, or unknown."""
_ENDINGS: Mapping[str, Ending] = {name: name for name in get_args(Ending)}
# settings that --sloppy changes
_CUT_DOWN = (
    "iterations",
    "epochs",
    "patches",
    "decay_from",
    "evaluate_every",
    "batch",
    "adversarial_from",
)
_LONGEST = 300  # characters of a text that is taken from a card
_PHASES = ("search", "refit")  # in this order; a card is sorted by name


@frozen
class PhaseRecord:
    """One phase of a training.

    Parameters
    ----------
    name : str
        "search", or "refit" for the training on all slices after it.
    steps : int
        Steps that were done.
    planned : int | None
        Steps at most; None if the card does not contain it.
    ended_by : Ending
        Why the phase ended.
    """

    name: str
    steps: int
    planned: int | None
    ended_by: Ending

    @property
    def complete(self) -> bool:
        """Whether all planned steps were done."""
        return self.ended_by == "iterations" and self.steps == self.planned


@frozen
class TrainingRecord:
    """Facts about the training of a model.

    Parameters
    ----------
    name : str
        Name of the method.
    method : Method | None
        None if this version does not have the method.
    recipe : str
        Name of the recipe.
    seed : int | None
        Seed of weights, batches and augmentation.
    images : tuple[str, ...]
        Names of the training images; empty in cards of early versions.
    contrast : str
        BIDS suffix of the training images.
    paired : bool
        Whether the low-resolution images were given; otherwise training made them from the
        high-resolution ones.
    unsupervised : bool
        Whether no high-resolution image was used.
    phases : tuple[PhaseRecord, ...]
        In the order of training; empty in cards of early versions.
    held_out : bool
        Whether slices were held out, on which the network was scored.
    patience : int | None
        Validations without a gain after which training ends; None: never.
    kept_step : int
        Step whose weights the model has, counted from 1.
    losses : Mapping[str, float]
        Weights of the terms of the loss by ``KIND:CLASS``, without terms of weight 0.
    inspected_critic : bool
        Whether a critic was trained that has no weight in the loss.
    adversarial_from : int
        Steps of pre-training, before the adversarial term acts.
    pretrained_by : tuple[str, ...]
        Terms, as in `losses`, that are on in these steps.
    features_off : bool
        Whether the recipe has a term on features of VGG-19 that was off for lack of weights.
    stand_ins : tuple[str, ...]
        Terms, as in `losses`, that took the place of that term.
    changed : Mapping[str, tuple[object, object]]
        Value in this training and in the recipe, of the settings that differ; without those that
        `sloppy` stands for.
    other_changes : bool
        Whether the card lists changes of the recipe beyond `changed`, such as of the network.
    recipe_known : bool
        Whether this version has the recipe, so that `changed` is complete.
    sloppy : bool
        Whether the training was cut down to a few steps for a test.
    started_from : Mapping[str, str]
        Of the model whose weights were the start: ``method``, ``recipe``, ``contrast``,
        ``weights_sha256``; empty for random weights.
    layers_trained : int | None
        Layers that were trained, counted from the end; None: all.
    irreproducible : str
        Why the same training would not give the same weights; "" if it would.
    """

    name: str
    method: Method | None
    recipe: str
    seed: int | None
    images: tuple[str, ...]
    contrast: str
    paired: bool
    unsupervised: bool
    phases: tuple[PhaseRecord, ...]
    held_out: bool
    patience: int | None
    kept_step: int
    losses: Mapping[str, float]
    inspected_critic: bool
    adversarial_from: int
    pretrained_by: tuple[str, ...]
    features_off: bool
    stand_ins: tuple[str, ...]
    changed: Mapping[str, tuple[object, object]]
    other_changes: bool
    recipe_known: bool
    sloppy: bool
    started_from: Mapping[str, str]
    layers_trained: int | None
    irreproducible: str

    @property
    def contested(self) -> bool:
        """Whether the loss has an adversarial term, so that the last weights are kept."""
        return any(name.startswith("adversarial:") for name in self.losses)

    @property
    def adversarial_acted(self) -> bool:
        """Whether the adversarial term acted on the weights that the model has."""
        return self.contested and self.kept_step > self.adversarial_from

    @property
    def as_published(self) -> bool:
        """Whether steps, losses and settings were those of the method's publication.

        True only for the unchanged recipe ``paper`` of a method that was written from its paper,
        with all terms of the loss active and all steps done from random weights.
        """
        return (
            self.recipe == "paper"
            and self.recipe_known
            and self.method is not None
            and not self.method.without_paper
            and not (self.changed or self.other_changes or self.sloppy)
            and not (self.started_from or self.irreproducible)
            and not self.features_off
            and bool(self.phases)
            and all(phase.complete for phase in self.phases)
            and self.contested == self.adversarial_acted
        )


def read_training(card: ModelCard) -> TrainingRecord:
    """Return how the model of a card was trained; not for variance maps."""
    settings, started = card.settings, part_of(card.json, "started_from")
    method, recipe = _method_and_recipe(card)
    weights = {
        name: float(value)
        for name, value in part_of(settings, "losses").items()
        if isinstance(value, int | float)
    }
    active = {name: value for name, value in weights.items() if value != 0}
    kept = _count(card.held_out.get("iteration")) or 0
    phases = _phases(card, kept)
    terms = () if recipe is None else recipe.losses
    has_features = any(term.kind == "perceptual" for term in terms)
    stand_ins = tuple(
        name for term in terms if term.stands_in and (name := loss_name(term)) in weights
    )
    images = card.json.get("images")
    return TrainingRecord(
        name=card.method,
        method=method,
        recipe=card.recipe,
        seed=card.seed,
        images=tuple(map(str, images)) if isinstance(images, list) else (),
        contrast=card.contrast,
        paired=card.json.get("coarse_images") == "measured",
        unsupervised=card.json.get("objective", settings.get("objective")) == "self",
        phases=phases,
        held_out=bool(card.held_out.get("parts") or card.held_out.get("slices")),
        patience=_count(settings.get("patience")),
        kept_step=phases[-1].steps if len(phases) > 1 else kept,
        losses=active,
        inspected_critic=any(
            name.startswith("adversarial:") and value == 0 for name, value in weights.items()
        ),
        adversarial_from=_count(settings.get("adversarial_from")) or 0,
        pretrained_by=_pretrained_by(settings, active),
        features_off=has_features and not card.perceptual,
        stand_ins=() if card.perceptual else stand_ins,
        changed={} if recipe is None else _changed(card, recipe),
        other_changes=bool(card.json.get("changed_settings")),
        recipe_known=recipe is not None,
        sloppy=card.json.get("sloppy") is True,
        started_from={
            key: _plain(started.get(key, "unknown"))
            for key in ("method", "recipe", "contrast", "weights_sha256")
            if started
        },
        layers_trained=_count(settings.get("freeze_but_last")),
        irreproducible=_plain(card.json.get("not_reproducible_because", "")),
    )


def steps_of(settings: Mapping[str, object]) -> int | None:
    """Return the steps at most that the settings in a card ask for; None if they do not say."""
    epochs, patches, batch = (_count(settings.get(key)) for key in ("epochs", "patches", "batch"))
    if epochs is not None and patches is not None and batch:
        return epochs * math.ceil(patches / batch)
    return _count(settings.get("iterations"))


def _method_and_recipe(card: ModelCard) -> tuple[Method | None, Recipe | None]:
    """Return method and unchanged recipe of a card, as far as this version has them."""
    try:
        method = get_method(card.method)
    except UnknownMethod:
        return None, None
    return method, method.recipes.get(card.recipe)


def _phases(card: ModelCard, best_step: int) -> tuple[PhaseRecord, ...]:
    """Return the phases in a card; a second one was to take as many steps as did best before."""
    entries = part_of(card.json, "phases")
    planned = {"search": steps_of(card.settings), "refit": max(1, best_step)}
    out = []
    for name in sorted(entries, key=lambda one: (*_PHASES, one).index(one)):
        phase = part_of(entries, name)
        steps = _count(phase.get("iterations")) or 0
        most = _count(phase.get("of")) or planned.get(name)
        ended_by = _ENDINGS.get(str(phase.get("stopped_by")), "")
        out.append(PhaseRecord(name=name, steps=steps, planned=most, ended_by=ended_by))
    return tuple(out)


def _changed(card: ModelCard, recipe: Recipe) -> dict[str, tuple[object, object]]:
    """Return in which settings a training differed from its recipe."""
    changed = differing_settings(card.settings, plain_recipe(recipe, vgg=card.perceptual))
    if card.json.get("sloppy") is True:
        changed = {name: pair for name, pair in changed.items() if name not in _CUT_DOWN}
    if set(changed) <= {f"losses.{loss_name(term)}" for term in recipe.losses}:
        # cards before 0.2 list all losses
        every = differing_settings(card.settings, plain_recipe(recipe))
        changed = every and changed
    return changed


def _pretrained_by(settings: Mapping[str, object], losses: Mapping[str, float]) -> tuple[str, ...]:
    """Return the terms of the loss that are on before the adversarial term acts."""
    kinds = settings.get("pretrained_by")
    chosen = tuple(kinds) if isinstance(kinds, list) else ()
    terms = (name for name in losses if not name.startswith("adversarial:"))
    return tuple(name for name in terms if not chosen or name.partition(":")[0] in chosen)


def _plain(value: object) -> str:
    """Return a text of a card without characters that could be markup."""
    return re.sub(r"[^\w .,;:()'+-]", "", str(value))[:_LONGEST]


def _count(value: object) -> int | None:
    """Return a whole number; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
