"""Methods text on the training of networks and on the estimation of prior SD maps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from bids_sr.io.json_values import as_mapping, as_number
from bids_sr.io.series import series_name
from bids_sr.io.word_lists import enumerate_words
from bids_sr.sr.method import Method, get_method
from bids_sr.sr.models.card import ModelCard, read_card, source_path, was_applied, weights_path
from bids_sr.sr.models.request import ModelSettings, TrainingSettings
from bids_sr.sr.networks.data.images import N_VOLUMES
from bids_sr.sr.networks.training_text import (
    data_text,
    images_text,
    training_sentences,
    write_planned_sentences,
)
from bids_sr.sr.recipe import VarianceRecipe, make_short_recipe
from bids_sr.sr.recipe_changes import apply_changes, base_recipe, changes_text, select_changes

TrainingSource = Literal["pair", "volumes"]
"""Source of training data: the pair of T2*-weighted images, or volumes of the run."""
HOLDOUT_TEXT = (
    "Image quality was tested on a second pair of T2*-weighted images of the same"
    " participant, which was not used for training. The low-resolution image was"
    " super-resolved and compared with the high-resolution image. Confidence intervals were"
    " computed by resampling slices."
)
"""Methods text of the test on a held-out pair."""


def describe_planned(training: TrainingSettings, source: TrainingSource) -> str:
    """Return methods text of a network that will be trained."""
    data = _describe_source(source, f"up to {N_VOLUMES}")
    features = source == "volumes" or training.vgg_weights is not None
    return describe_network(training, (), data=data, features=features)


def describe_finished(
    training: TrainingSettings, source: TrainingSource, folders: Sequence[Path], unfinished: int
) -> str:
    """Return methods text of networks, based on the models of finished steps.

    `source` is the source of the training data, `folders` are folders of the finished steps, and
    `unfinished` is the number of unfinished training steps.
    """
    cards, sources = read_cards(training.method, folders)
    data = _describe_source(source, images_text(cards))
    text = describe_network(training, cards, data=data, sources=sources, unfinished=unfinished)
    return f"{text}{_describe_unapplied(cards)}"


def _describe_source(source: TrainingSource, count: str) -> str:
    """Return training data as a noun phrase; `count` is a text on the number of volumes."""
    if source == "pair":
        return "the participant's own pair of T2*-weighted images"
    return f"{count} randomly drawn volumes of the acquired run, without a high-resolution image"


def describe_network(
    training: TrainingSettings,
    cards: Sequence[ModelCard],
    *,
    data: str,
    features: bool = True,
    sources: Sequence[str] = (),
    unfinished: int = 0,
) -> str:
    """Return the sentences on networks, before or after they are trained or reused.

    `cards` are of existing models; empty before training. `data` is the training data of a network
    that this run trains, as a noun phrase. `features` states whether weights of VGG-19 are
    available for training. `sources` are names of the files of reused models; empty if unknown.
    `unfinished` is the number of unfinished training steps.

    Returns sentences in the future tense if there are no cards, otherwise in the past tense.
    """
    method, recipe = get_method(training.method), training.recipe
    if training.is_given:
        return _describe_reuse(training.pretrained, method, cards, sources, unfinished)
    network_text = method.describe_network(recipe)
    if not cards:
        sentences = [
            f"The network {method.name} will be trained on {data} with the recipe"
            f" {recipe}. This network is {network_text}."
        ]
        plan = write_planned_sentences(
            method, recipe, features=features, minutes=training.max_train_minutes
        )
        if plan:
            sentences.append(plan)
        return " ".join(sentences) + describe_changes(training)
    return (
        f"The network {method.name} was trained on {data}. This network is {network_text}."
        f" {training_sentences(cards)}{_describe_unfinished(unfinished)}"
    )


def _describe_reuse(
    pretrained: Path | None,
    method: Method,
    cards: Sequence[ModelCard],
    sources: Sequence[str],
    unfinished: int,
) -> str:
    """Return the sentences on networks that were trained before."""
    file_names = sorted(set(sources))
    if not file_names and pretrained is not None:
        file_names = [pretrained.name]
    noun = "file" if len(file_names) == 1 else "files"
    file_text = f" ({noun} {enumerate_words(file_names)})" if file_names else ""
    recipes = {card.recipe for card in cards}
    description = method.describe_network(recipes.pop()) if len(recipes) == 1 else method.about
    network_text = f"A previously trained network, {method.name}{file_text},"
    if not cards:
        return f"{network_text} will be used. This network is {description}."
    card_phrase = (
        "According to its model card, the network was"
        if len(cards) == 1
        else "According to their model cards, the networks were"
    )
    return (
        f"{network_text} was used. This network is {description}. {card_phrase} trained on"
        f" {data_text(cards)}. {training_sentences(cards)}{_describe_unfinished(unfinished)}"
    )


def _describe_unapplied(cards: Sequence[ModelCard]) -> str:
    """Return a sentence on networks that were not applied, after a space; "" if all were."""
    n_unapplied = sum(not was_applied(card.json) for card in cards)
    if not n_unapplied:
        return ""
    were_text = "was" if len(cards) == 1 else f"of {n_unapplied} of {len(cards)} networks were"
    return f" The series {were_text} zero filled, because the training was stopped early."


def _describe_unfinished(unfinished: int) -> str:
    """Return a sentence on the number of remaining trainings, after a space; "" if none remain."""
    if not unfinished:
        return ""
    return f" {unfinished} more {'network' if unfinished == 1 else 'networks'} will be trained."


def describe_variance(
    training: ModelSettings,
    folders: Sequence[Path] = (),
    unfinished: int = 0,
    *,
    calibrated: bool,
) -> str:
    """Return methods text of the estimation and test of prior SD maps; "" for a control.

    `folders` are folders of the finished steps, whose model cards contain the results of the test.
    `unfinished` is the number of unfinished steps. `calibrated` states whether a calibration run
    is used.
    """
    method = get_method(training.method)
    if method.is_baseline:
        return ""
    if training.is_given:
        file = "" if training.pretrained is None else f", file {training.pretrained.name}"
        return (
            "Super-resolution was performed with prior SD maps from another run"
            f" ({method.name}{file}), in the space of the boldref.\n"
        )
    cards, _ = read_cards(training.method, folders)
    calibrated = calibrated and method.uses_calibration
    prior_text = method.describe_prior(training.recipe) or f"given by {method.about}"
    sentences = [
        f"With {series_name(method.name)}, the signal change outside the acquired band of k-space"
        f" was estimated in the space of the boldref with a Gaussian prior {prior_text}, and added"
        " to the zero-filled series.",
        *_describe_estimation(training, cards, calibrated=calibrated),
        _describe_applicability(training, cards),
    ]
    if unfinished and cards:
        sentences.append(f"This test will be performed in {unfinished} more runs.")
    if calibrated:
        sentences.append(_describe_calibration(cards))
    return " ".join(sentences) + describe_changes(training) + "\n"


def describe_applied(
    text: str, method: str, folders: Sequence[Path] = (), unfinished: int = 0
) -> str:
    """Return methods text of a method that was applied to a run; "" if it was applied to none.

    `folders` are folders of finished steps, with model cards unless the model was given, and
    `unfinished` is the number of other steps.
    """
    made = [folder for folder in folders if weights_path(folder, method).exists()]
    cards, _ = read_cards(method, made)
    is_applied = unfinished or not cards or any(was_applied(card.json) for card in cards)
    return text if is_applied else ""


def read_cards(
    method: str, folders: Sequence[Path]
) -> tuple[tuple[ModelCard, ...], tuple[str, ...]]:
    """Return the cards of models in folders of steps, and names of the files of reused models.

    Models that a step trained itself have no file name.
    """
    cards = tuple(read_card(weights_path(folder, method)) for folder in folders)
    source_files = (source_path(folder) for folder in folders)
    sources = tuple(
        file.read_text(encoding="utf-8").strip() for file in source_files if file.exists()
    )
    return cards, sources


def _describe_estimation(
    training: ModelSettings, cards: Sequence[ModelCard], *, calibrated: bool
) -> list[str]:
    """Return sentences on prior SD maps and their updates; empty if maps are not updated.

    `calibrated`: whether a calibration run is planned, which replaces most updates if it is used.
    """
    recipe = _get_variance_recipe(training)
    if not recipe.rounds:
        return []
    counts = [int(as_number(card.json.get("components"), recipe.components)) for card in cards]
    if not counts:
        components_text = f"up to {recipe.components}"
    elif min(counts) == max(counts):
        components_text = f"{counts[0]}"
    else:
        components_text = f"{min(counts)} to {max(counts)}"
    used = [bool(_read_test(card).get("calibrated")) for card in cards]
    if calibrated and (all(used) or not used):
        recipe = make_short_recipe(recipe)
    n_maps = len(recipe.fwhm)
    widths = enumerate_words([f"{width:g}" for width in recipe.fwhm])
    sentences = [
        f"The prior consisted of {n_maps} map{'s' if n_maps > 1 else ''} of standard deviations"
        f" (SD) with spatial correlations of {widths} high-resolution voxels (FWHM) and a noise"
        f" variance of {recipe.noise:g} relative to the data.",
        f"In each of {recipe.rounds} updates, the maps were multiplied by the ratio of"
        f" {components_text} temporal components below 0.1 Hz, divided by their size to the power"
        f" of {recipe.equalize:g}, to {recipe.draws} samples from the prior. This ratio was"
        f" smoothed (SD of {recipe.smooth:g} high-resolution voxels in plane, {recipe.across:g}"
        f" slices) and raised to the power of {recipe.step:g}; the logarithm of the maps was"
        f" smoothed with a weight of {recipe.pull:g}.",
    ]
    if calibrated and any(used) and not all(used):
        short = make_short_recipe(recipe)
        sentences.append(
            f"In {sum(used)} of {len(used)} runs with a calibration run, {short.rounds} updates"
            f" with an exponent of {short.step:g} and a weight of {short.pull:g} were sufficient."
        )
    return sentences


def _describe_applicability(training: ModelSettings, cards: Sequence[ModelCard]) -> str:
    """Return sentences on the self-test of prior SD maps, and its result if there are cards."""
    least = _get_variance_recipe(training).least_explained
    name = series_name(training.method)
    text = (
        "In a self-test, the run was downsampled by the super-resolution factor, and one half was"
        " reconstructed with maps from the other half"
    )
    score_text = "the squared error was"
    limit_text = "" if least is None else f" at least {100 * least:g} %"
    if not cards:
        return (
            f"{text}; {name} was applied if {score_text}{limit_text} lower than with zero filling."
        )
    scores = [
        as_number(card.held_out.get("explained_over_zerofill"))
        for card in cards
        if card.json.get("applied")
    ]
    if not scores:
        return (
            f"{text}; because {score_text} not{limit_text} lower than with zero filling, the run"
            " was zero filled."
        )
    lowest, highest = (f"{100 * score:.1f}" for score in (min(scores), max(scores)))
    values = lowest if lowest == highest else f"{lowest} to {highest}"
    threshold_text = "" if least is None else f" (required: {100 * least:g} %)"
    runs_text = "" if len(scores) == len(cards) else f" to {len(scores)} of {len(cards)} runs"
    others_text = "; the other runs were zero filled" if runs_text else ""
    return (
        f"{text}; {name} was applied{runs_text} because {score_text} {values} % lower than with"
        f" zero filling{threshold_text}{others_text}."
    )


def _get_variance_recipe(training: ModelSettings) -> VarianceRecipe:
    """Return the recipe of prior SD maps with the requested changes."""
    recipe = get_method(training.method).variance
    assert recipe is not None
    return apply_changes(recipe, select_changes(training.recipe_changes, training.method))


def _describe_calibration(cards: Sequence[ModelCard]) -> str:
    """Return sentences on the components of a calibration run in the prior."""
    text = (
        "The components of the calibration run were included in the prior as local covariance,"
        " with a weight determined by how accurately the outermost fifth of the acquired k-space"
        " was predicted from the remaining k-space in held-out halves of the run. The same"
        " prediction was used to refine the registration of the calibration run."
    )
    used = [bool(_read_test(card).get("calibrated")) for card in cards]
    if all(used):
        return text
    if not any(used):
        return f"{text} Because the components did not improve the prediction, they were omitted."
    return (
        f"{text} In {used.count(False)} of {len(used)} runs, the components did not improve the"
        " prediction and were omitted."
    )


def _read_test(card: ModelCard) -> Mapping[str, object]:
    """Return the result of the self-test in a model card."""
    return as_mapping(card.held_out.get("tested"))


def describe_changes(training: ModelSettings) -> str:
    """Return a sentence on changed settings of the recipe; "" if no setting was changed."""
    if not training.recipe_changes:
        return ""
    recipe = base_recipe(get_method(training.method), training.recipe)
    return changes_text(recipe, training.recipe_changes)
