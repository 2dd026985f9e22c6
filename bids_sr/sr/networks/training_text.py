"""Sentences about trainings for the methods text.

`training_sentences` describes completed trainings, based on model cards. `write_planned_sentences`
describes trainings that have not ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bids_sr.sr.loss_words import loss_in_words
from bids_sr.sr.method import Method
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.training_record import PhaseRecord, TrainingRecord, read_training
from bids_sr.sr.networks.missing_features import explain_missing_features

_MAX_LISTED_CHANGES = 8  # largest number of settings that are listed individually


def training_sentences(cards: Sequence[ModelCard]) -> str:
    """Return sentences about recipe, loss, steps and end of the trainings of models.

    Models with equal trainings share their sentences. If their numbers of steps differ, a range is
    reported.

    The cards, at least one, are from models of one method. Prior SD maps are not supported.
    Sentences are in the past tense, for the methods text.
    """
    records_by_facts: dict[tuple[object, ...], list[TrainingRecord]] = {}
    for record in map(read_training, cards):
        records_by_facts.setdefault(_select_common_facts(record), []).append(record)
    if len(records_by_facts) == 1:
        return " ".join(_write_sentences(next(iter(records_by_facts.values()))))
    return " ".join(
        f"The following applies to {len(records)} of {len(cards)} models."
        f" {' '.join(_write_sentences(records))}"
        for records in records_by_facts.values()
    )


def _select_common_facts(record: TrainingRecord) -> tuple[object, ...]:
    """Return the facts that models must share to be described by the same sentences."""
    phase = record.phase
    return (
        record.recipe,
        record.seed,
        phase and (phase.planned, phase.ended_by, phase.complete),
        record.held_out,
        record.patience,
        phase is not None and record.kept_step < phase.steps,
        tuple(record.losses.items()),
        record.used_adversarial_loss,
        record.features_off,
        record.stand_ins,
        str(record.changed),
        record.other_changes,
        str(record.started_from),
        record.sloppy,
        record.mixed,
        record.ended_mixed,
        record.irreproducible,
        record.is_as_published,
    )


def _write_sentences(records: Sequence[TrainingRecord]) -> list[str]:
    """Return the sentences that models share."""
    first = records[0]
    return [
        *_describe_recipe(first),
        *_describe_start(first),
        *_describe_precision(first),
        *_describe_losses(first),
        *_describe_end(records),
    ]


def _describe_recipe(record: TrainingRecord) -> list[str]:
    """Return sentences about the recipe and about settings that differ from the recipe."""
    seed = "" if record.seed is None else f" (random seed {record.seed})"
    sentences = [
        f"Training of {record.name} followed the recipe {record.recipe}{seed}"
        f"{_describe_recipe_origin(record)}.{_compare_step_count(record)}"
    ]
    if record.sloppy:
        sentences.append(
            "The training was limited to a few steps to test the program (run.sloppy=true)."
        )
    if record.changed or record.other_changes:
        sentences.append(
            f"The following settings differed from this recipe: {_list_changes(record)}."
        )
    return sentences


def _describe_recipe_origin(record: TrainingRecord) -> str:
    """Return a clause about the origin of a recipe's settings, to follow its name."""
    method = record.method
    if record.is_as_published:
        return (
            ", with the published settings, losses and number of steps, as far as these are"
            " reported in the publication"
        )
    if method is None:
        return ""
    if record.recipe == "paper":
        return ", with the settings of the original paper, as far as these are reported"
    if record.recipe_known and "paper" in method.recipes:
        return ", which was defined by the bids-sr developers and differs from the original paper"
    return ", which was defined by the bids-sr developers"


def _compare_step_count(record: TrainingRecord) -> str:
    """Return a sentence that compares the number of steps with the paper, or ""."""
    method = record.method
    if (
        method is None
        or record.is_as_published
        or record.recipe == "paper"
        or not record.recipe_known
        or "paper" not in method.recipes
    ):
        return ""
    recipe, paper = method.recipes[record.recipe], method.recipes["paper"]
    if recipe.steps == paper.steps:
        return ""
    return (
        f" This recipe has at most {recipe.steps:,} training steps, compared with {paper.steps:,}"
        " in the paper."
    )


def _list_changes(record: TrainingRecord) -> str:
    """Return the settings that differ from the recipe, with both values."""
    changes = [
        f"{name} ({_format_value(value)} instead of {_format_value(recipe_value)})"
        for name, (value, recipe_value) in record.changed.items()
    ]
    if not changes and record.other_changes:
        return "settings of the network or the loss listed in the model card"
    n_omitted = len(changes) - _MAX_LISTED_CHANGES
    if n_omitted > 0:
        changes = [*changes[:_MAX_LISTED_CHANGES], f"{n_omitted} more settings"]
    return ", ".join(changes)


def _format_value(value: object) -> str:
    """Return the value of a setting in words."""
    if value is None:
        return "none"
    return f"{value:,g}" if isinstance(value, float) else str(value)


def _describe_start(record: TrainingRecord) -> list[str]:
    """Return a sentence about the initial weights; empty if they were random."""
    start = record.started_from
    if not start:
        return []
    layers = (
        ""
        if record.layers_trained is None
        else f". Only the last {record.layers_trained} layers with weights were trained"
    )
    return [
        f"Training was initialized with the weights of another {start['method']} model (recipe"
        f" {start['recipe']}, {start['contrast']}, SHA-256"
        f" {start['weights_sha256'][:12]}…){layers}."
    ]


def _describe_precision(record: TrainingRecord) -> list[str]:
    """Return a sentence about steps in mixed precision; empty if there were none."""
    if not record.mixed:
        return []
    in_half = record.method is not None and record.method.paper_precision == "mixed"
    paper = "; float16 in the original paper" if in_half and record.recipe == "paper" else ""
    end = "" if record.ended_mixed else " in its first steps and in single precision afterwards"
    return [f"{record.name} was trained in mixed precision (bfloat16{paper}){end}."]


def _describe_losses(record: TrainingRecord) -> list[str]:
    """Return sentences about active and inactive terms of the loss."""
    sentences = []
    active_losses = {
        name: weight
        for name, weight in record.losses.items()
        if record.used_adversarial_loss or not name.startswith("adversarial:")
    }
    if active_losses:
        sentences.append(
            f"The loss function of {record.name} was {_format_loss_sum(active_losses, record)}."
        )
    if record.used_adversarial_loss and record.adversarial_from:
        pretraining_losses = {
            name: weight
            for name, weight in active_losses.items()
            if not name.startswith("adversarial:")
        }
        sentences.append(
            f"During the first {record.adversarial_from:,} steps (pre-training), the loss"
            f" function of {record.name} was {_format_loss_sum(pretraining_losses, record)}."
        )
    if record.has_adversarial_loss and not record.used_adversarial_loss:
        sentences.append(
            f"The adversarial loss of {record.name} starts after the first"
            f" {record.adversarial_from:,} steps and therefore did not contribute to the final"
            " weights."
        )
    if record.inspected_critic:
        sentences.append(
            f"A critic was trained together with {record.name} for inspection only and did not"
            " contribute to the loss function."
        )
    if record.features_off:
        replacement = " plus ".join(map(loss_in_words, record.stand_ins))
        replacement_text = f"; {replacement} replaced these features" if replacement else ""
        sentences.append(
            f"The VGG-19 feature loss of this recipe was not used for {record.name}, because no"
            f" VGG-19 weights were provided{replacement_text}."
        )
    return sentences


def _format_loss_sum(losses: Mapping[str, float], record: TrainingRecord) -> str:
    """Return the loss as a sum of weighted terms, in decreasing order of weight."""
    terms = []
    for name, weight in sorted(losses.items(), key=lambda item: -item[1]):
        weight_text = "" if weight == 1 else f"{weight:g} × "
        images_text = (
            " between the downsampled output and the acquired volume"
            if record.unsupervised and name.startswith("content:")
            else ""
        )
        terms.append(f"{weight_text}{loss_in_words(name)}{images_text}")
    return " plus ".join(terms)


def _describe_end(records: Sequence[TrainingRecord]) -> list[str]:
    """Return sentences about number of steps, reason for the end, and kept weights."""
    first = records[0]
    if first.phase is None:
        return []
    trainings_text = f" in each of {len(records)} trainings" if len(records) > 1 else ""
    end = _describe_phase_end([record.phase for record in records if record.phase], first)
    sentences = [f"{end}{trainings_text}; {_describe_stored_weights(records)}."]
    if first.irreproducible:
        reason = first.irreproducible
        sentences.append(f"The weights of {first.name} cannot be reproduced exactly ({reason}).")
    return sentences


def _describe_phase_end(phases: Sequence[PhaseRecord], record: TrainingRecord) -> str:
    """Return a clause about the steps of trainings that ended for the same reason."""
    first = phases[0]
    training = f"Training of {record.name}"
    steps = _format_range(phase.steps for phase in phases)
    planned_text = "" if first.planned is None else f" of {first.planned:,}"
    if all(phase.complete for phase in phases):
        return f"{training} was completed after all {steps} steps"
    if first.ended_by == "time":
        return f"{training} was stopped by the time limit after {steps}{planned_text} steps"
    if first.ended_by == "plateau":
        score = "score on the held-out slices" if record.held_out else "training loss"
        patience_text = "" if record.patience is None else f" for {record.patience} validations"
        limit_text = "" if first.planned is None else f" of at most {first.planned:,}"
        return (
            f"{training} ended early, after {steps}{limit_text} steps, because the {score} had"
            f" not improved{patience_text}"
        )
    return f"{training} took {steps}{planned_text} steps"


def _describe_stored_weights(records: Sequence[TrainingRecord]) -> str:
    """Return a clause about the step of the stored weights."""
    first = records[0]
    if first.phase is None or first.kept_step >= first.phase.steps:
        return "the weights of the last step were used"
    step = _format_range(record.kept_step for record in records)
    reason = (
        "had the best score on the held-out slices"
        if first.held_out
        else "had the smallest training loss"
    )
    return f"the weights of step {step}, which {reason}, were used"


def write_planned_sentences(
    method: Method, recipe: str, *, features: bool, minutes: float | None
) -> str:
    """Return sentences about a training that has not ended, in the future tense.

    `recipe` is a name such as ``fast`` or ``paper``. `features` states whether VGG-19 weights are
    available. `minutes` is the time limit of the training; None if there is no limit. Returns ""
    if no facts are known in advance.
    """
    reason = "" if features else explain_missing_features(method.recipes.get(recipe))
    sentences = []
    if reason:
        sentences.append(
            f"The loss function of {method.name} will not include VGG-19 features: {reason}."
        )
    if minutes is not None:
        sentences.append(
            f"Training of {method.name} will be stopped after {minutes:g} minutes if it has not "
            "ended before."
        )
    return " ".join(sentences)


def data_text(cards: Sequence[ModelCard]) -> str:
    """Return a noun phrase for the training data, based on model cards.

    An example is "1 pair of high- and low-resolution images (T2starw)".
    """
    first = read_training(cards[0])
    contrast = f"({first.contrast})"
    if not first.images:
        return f"images {contrast} that are not listed in the model card"
    count = images_text(cards)
    is_plural = count != "1"
    if first.unsupervised:
        noun = "volumes" if is_plural else "volume"
        return f"{count} acquired {noun} {contrast}, without a high-resolution image"
    if first.paired:
        noun = "pairs" if is_plural else "pair"
        return f"{count} {noun} of high- and low-resolution images {contrast}"
    if is_plural:
        return f"{count} images {contrast} and low-resolution images computed from them"
    return f"{count} image {contrast} and a low-resolution image computed from it"


def images_text(cards: Sequence[ModelCard]) -> str:
    """Return the number of training images of models, as a number or a range."""
    return _format_range(len(read_training(card).images) or 1 for card in cards)


def _format_range(values: Iterable[int]) -> str:
    """Return the smallest and the largest number as text, or a single number if all are equal.

    >>> _format_range([400, 350]), _format_range([1200])
    ('350 to 400', '1,200')
    """
    numbers = list(values)
    smallest, largest = min(numbers), max(numbers)
    return f"{smallest:,}" if smallest == largest else f"{smallest:,} to {largest:,}"
