"""Facts about the training of a model, read from its card.

Cards may come from any source. Missing or invalid entries are treated as unknown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal, get_args

from bids_sr.io.frozen import frozen
from bids_sr.sr.loss_words import loss_name
from bids_sr.sr.method import Method, UnknownMethod, get_method
from bids_sr.sr.models.card import ModelCard, mapping_entry
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.recipe_settings import differing_settings, plain_recipe

Ending = Literal["iterations", "plateau", "time", ""]
"""Reason for the end of a training phase.

"iterations": all steps were completed; "plateau": no further improvement; "time": time limit;
"": unknown.
"""
_ENDINGS: Mapping[str, Ending] = {name: name for name in get_args(Ending)}
# settings that run.sloppy changes
_SLOPPY_SETTINGS = (
    "iterations",
    "epochs",
    "patches",
    "decay_from",
    "evaluate_every",
    "batch",
    "adversarial_from",
)
_MAX_TEXT_LENGTH = 300  # characters, largest length of a text from a card


@frozen
class PhaseRecord:
    """Steps of a training.

    `steps` is the number of completed steps, and `planned` their maximum number; None if the card
    does not contain it. `ended_by` is the reason for the end of the training.
    """

    steps: int
    planned: int | None
    ended_by: Ending

    @property
    def complete(self) -> bool:
        """Whether all planned steps were completed."""
        return self.ended_by == "iterations" and self.steps == self.planned


@frozen
class TrainingRecord:
    """Facts about the training of a model.

    `method` is None if this version does not have it. `images` are names of the training images;
    empty for cards of early versions. `contrast` is the BIDS suffix of the training images.
    `paired` states whether the low-resolution images were measured rather than simulated from the
    high-resolution images, and `unsupervised` whether training used no high-resolution image.
    `seed` is the seed of weights, batches and augmentation.

    `phase` has the steps of the training; None if the card does not contain them. `held_out`
    states whether slices were held out to score the network. `patience` is the number of
    validation steps without improvement that ends the training; None disables early stopping.
    `kept_step` is the step of the stored weights, counted from 1.

    `losses` are weights of the loss terms by ``KIND:CLASS``, without terms of weight 0.
    `inspected_critic` states whether a critic without weight in the loss was trained.
    `adversarial_from` is the number of pre-training steps before the adversarial term is used.
    `features_off` states whether a VGG-19 term of the recipe was disabled because there were no
    weights, and `stand_ins` are the loss terms that replaced it, named as in `losses`.

    `changed` are settings that differ from the recipe, with the value in this training and in the
    recipe, without the changes implied by `sloppy`. `other_changes` states whether the card lists
    further changes of the recipe, for example of the network, and `recipe_known` whether this
    version has the recipe, so that `changed` is complete. `sloppy` states whether the training was
    shortened to a few steps for a test.

    `mixed` states whether steps were computed in mixed precision (bf16), and `ended_mixed` whether
    the last step was.

    `started_from` has the entries ``method``, ``recipe``, ``contrast`` and ``weights_sha256`` of
    the model that initialized the training; empty for random weights. `layers_trained` is the
    number of trained layers, counted from the end; None means all layers. `irreproducible` is the
    reason why the same training would not give the same weights; "" if it would.
    """

    name: str
    method: Method | None
    recipe: str
    seed: int | None
    images: tuple[str, ...]
    contrast: str
    paired: bool
    unsupervised: bool
    phase: PhaseRecord | None
    held_out: bool
    patience: int | None
    kept_step: int
    losses: Mapping[str, float]
    inspected_critic: bool
    adversarial_from: int
    features_off: bool
    stand_ins: tuple[str, ...]
    changed: Mapping[str, tuple[object, object]]
    other_changes: bool
    recipe_known: bool
    sloppy: bool
    mixed: bool
    ended_mixed: bool
    started_from: Mapping[str, str]
    layers_trained: int | None
    irreproducible: str

    @property
    def has_adversarial_loss(self) -> bool:
        """Whether the loss has an adversarial term."""
        return any(name.startswith("adversarial:") for name in self.losses)

    @property
    def used_adversarial_loss(self) -> bool:
        """Whether the adversarial term was used before the stored weights were reached."""
        return self.has_adversarial_loss and self.kept_step > self.adversarial_from

    @property
    def is_as_published(self) -> bool:
        """Whether steps, losses and settings correspond to the publication of the method.

        This requires the current and unchanged recipe ``paper``, with all loss terms active and
        all steps completed from random weights, in single or in the published precision.
        """
        return (
            self.recipe == "paper"
            and self.recipe_known
            and self.method is not None
            and not (self.changed or self.other_changes or self.sloppy)
            and not (self.started_from or self.irreproducible)
            and not self.features_off
            and (not self.mixed or self.method.paper_precision == "mixed")
            and self.phase is not None
            and self.phase.complete
            and self.has_adversarial_loss == self.used_adversarial_loss
        )


def read_training(card: ModelCard) -> TrainingRecord:
    """Read the training of a network from its model card; cards of prior SD maps have none."""
    settings = card.settings
    method, recipe = _find_method_and_recipe(card)
    weights = {
        name: float(weight)
        for name, weight in mapping_entry(settings, "losses").items()
        if isinstance(weight, int | float)
    }
    losses = {name: weight for name, weight in weights.items() if weight != 0}
    stored_step = _read_whole_number(card.held_out.get("iteration")) or 0
    recipe_terms = () if recipe is None else recipe.losses
    has_features = any(term.kind == "perceptual" for term in recipe_terms)
    stand_ins = tuple(
        name for term in recipe_terms if term.stands_in and (name := loss_name(term)) in weights
    )
    images = card.json.get("images")
    precision = mapping_entry(card.json, "mixed_precision")
    ended_mixed = precision.get("kept") is True
    return TrainingRecord(
        name=card.method,
        method=method,
        recipe=card.recipe,
        seed=card.seed,
        images=tuple(map(str, images)) if isinstance(images, list) else (),
        contrast=card.contrast,
        paired=card.json.get("coarse_images") == "measured",
        unsupervised=card.json.get("objective", settings.get("objective")) == "self",
        phase=_read_phase(card),
        held_out=bool(card.held_out.get("parts") or card.held_out.get("slices")),
        patience=_read_whole_number(settings.get("patience")),
        kept_step=stored_step,
        losses=losses,
        inspected_critic=any(
            name.startswith("adversarial:") and weight == 0 for name, weight in weights.items()
        ),
        adversarial_from=_read_whole_number(settings.get("adversarial_from")) or 0,
        features_off=has_features and not card.perceptual,
        stand_ins=() if card.perceptual else stand_ins,
        changed={} if recipe is None else _find_changes(card, recipe),
        other_changes=bool(card.changed_settings),
        recipe_known=recipe is not None,
        sloppy=card.json.get("sloppy") is True,
        # the change of the score is known if steps were computed before mixed precision ended
        mixed=ended_mixed or precision.get("score_change_db") is not None,
        ended_mixed=ended_mixed,
        started_from=_read_initial_model(card),
        layers_trained=_read_whole_number(settings.get("freeze_but_last")),
        irreproducible=_remove_markup(card.json.get("not_reproducible_because", "")),
    )


def _find_method_and_recipe(card: ModelCard) -> tuple[Method | None, Recipe | None]:
    """Return method and unchanged recipe of a card, each None if this version does not have it."""
    try:
        method = get_method(card.method)
    except UnknownMethod:
        return None, None
    recipe = method.recipes.get(card.recipe)
    return method, recipe if recipe is not None and recipe.edition == card.edition else None


def _read_phase(card: ModelCard) -> PhaseRecord | None:
    """Return the steps in a card; None if it does not contain them.

    If the card does not contain the planned number of steps, it is derived from the settings.
    """
    phase = mapping_entry(mapping_entry(card.json, "phases"), "search")
    if not phase:
        return None
    return PhaseRecord(
        steps=_read_whole_number(phase.get("iterations")) or 0,
        planned=_read_whole_number(phase.get("of")) or read_max_steps(card.settings),
        ended_by=_ENDINGS.get(str(phase.get("stopped_by")), ""),
    )


def read_max_steps(settings: Mapping[str, object]) -> int | None:
    """Return the maximum number of steps in the settings of a card, or None if unknown."""
    epochs, patches, batch = (
        _read_whole_number(settings.get(key)) for key in ("epochs", "patches", "batch")
    )
    if epochs is not None and patches is not None and batch:
        return epochs * math.ceil(patches / batch)
    return _read_whole_number(settings.get("iterations"))


def _read_whole_number(value: object) -> int | None:
    """Return a value that is a whole number, otherwise None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _find_changes(card: ModelCard, recipe: Recipe) -> dict[str, tuple[object, object]]:
    """Return the settings that differ between a training and its recipe."""
    differences = differing_settings(card.settings, plain_recipe(recipe, vgg=card.perceptual))
    if card.json.get("sloppy") is True:
        differences = {
            name: pair for name, pair in differences.items() if name not in _SLOPPY_SETTINGS
        }
    return differences


def _read_initial_model(card: ModelCard) -> dict[str, str]:
    """Return the entries on the model that initialized the training; {} for random weights."""
    entries = mapping_entry(card.json, "started_from")
    if not entries:
        return {}
    return {
        key: _remove_markup(entries.get(key, "unknown"))
        for key in ("method", "recipe", "contrast", "weights_sha256")
    }


def _remove_markup(value: object) -> str:
    """Return a text from a card without characters that could be markup."""
    return re.sub(r"[^\w .,;:()'+-]", "", str(value))[:_MAX_TEXT_LENGTH]
