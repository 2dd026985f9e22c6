"""Training of a network on an image pair or on a set of images.

All data that are not held out are used for training, and the weights with the best held-out score
are kept; the card reports this score. If nothing is held out, the training loss replaces the
score, or, with an adversarial loss, the last weights are kept.

A training that was stopped by its time limit returns a model, and can be resumed.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from bids_sr.io.notices import InvalidInput
from bids_sr.spatial.matrices import check_factor
from bids_sr.sr.models.card import ModelError
from bids_sr.sr.models.model import COMPANIONS, NewModel
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.networks.data.examples import Examples
from bids_sr.sr.networks.data.images import TrainingImages, checksums
from bids_sr.sr.networks.data.validation import ScoredWindow, validation_windows
from bids_sr.sr.networks.training.card_entries import card_entries, make_training_entries
from bids_sr.sr.networks.training.phase import (
    Clock,
    Phase,
    TrainingProgress,
    compare_with_interpolations,
)
from bids_sr.sr.networks.training.update_steps import list_layers
from bids_sr.sr.recipe_settings import plain_recipe
from bids_sr.sr.threads import torch_threads

_LOGGER = logging.getLogger(__name__)
_FEW_POSITIONS = 100  # positions of a patch in a slice; 4,225 in Ota et al. 2022


def train_network(
    training: ModelRequest,
    images: TrainingImages,
    work_dir: Path,
    progress: TrainingProgress | None = None,
    *,
    second_images: TrainingImages = (),
    clock: Clock = time.monotonic,
) -> NewModel:
    """Train a network, and return weights, card and log.

    `work_dir` is the folder of checkpoints and log. An interrupted training is resumed if it is
    started again with the same arguments; `max_train_minutes` may differ. `progress` is called
    with phase, iteration and number of iterations. `second_images` are images of a second pair,
    whose PSNR is reported in the log. `clock` returns a monotonic time (s).

    Raises `TrainingDiverged` if the loss is NaN or infinite, `OutOfDeviceMemory` if device memory
    is insufficient even for half of the batch, `InvalidInput` or `ResolutionError` if the
    images cannot be used for training, and `ModelError` if the initial model has a different
    network, or if required VGG-19 weights are missing.
    """
    _check_request(training)
    assert training.factor is not None
    minutes = training.max_train_minutes
    deadline = None if minutes is None else clock() + 60 * minutes
    with torch_threads(training.omp_nthreads):
        examples = Examples(
            images,
            training.effective_recipe,
            check_factor(training.factor),
            training.definition.ndim,
            training.device,
        )
        recipe = examples.recipe
        _check_initial_model(training, examples)
        _warn_of_few_positions(examples)
        second_windows: tuple[ScoredWindow, ...] = ()
        if second_images and recipe.objective != "self":
            second_examples = Examples(
                second_images, recipe, examples.factor, examples.ndim, examples.device
            )
            second_windows = validation_windows(
                second_examples,
                (*second_examples.training_slabs, *second_examples.held_out_slabs),
            )
        work_dir.mkdir(parents=True, exist_ok=True)
        search = Phase(
            training=training,
            examples=examples,
            windows=validation_windows(examples, examples.held_out_slabs),
            second_windows=second_windows,
            signature=f"{_compute_signature(training, examples)}-{recipe.steps}-{training.mixed}",
            folder=work_dir,
            deadline=deadline,
            progress=progress,
            clock=clock,
        )
        search.run()
        generator = search.nets.generator
        generator.load_state_dict(search.best_weights)
        scores = _compute_scores(search)
    _LOGGER.info(
        "Training of %s took %.0f s (final scores: %s).",
        training.definition.name,
        search.counters.seconds,
        scores,
    )
    return _pack_model(search, make_training_entries(search, scores))


def _check_request(training: ModelRequest) -> None:
    """Raise an error if the factor or required VGG-19 weights are missing."""
    if training.factor is None:
        raise InvalidInput(
            "the super-resolution factor was not specified and cannot be determined from the "
            "images. Specify the factor."
        )
    if training.effective_recipe.needs_vgg and training.vgg_weights is None:
        raise ModelError(
            f"with these settings, the loss of {training.definition.name} ({training.recipe}) "
            "requires VGG-19 weights. Specify the weights with --vgg-weights, or give another "
            "loss that compares images a weight above 0."
        )


def _check_initial_model(training: ModelRequest, examples: Examples) -> None:
    """Raise ModelError if the initial model has a different network or too few layers."""
    start, recipe = training.start_model, examples.recipe
    if start is None:
        return
    n_trained = recipe.freeze_but_last
    n_layers = len(list_layers(start.generator))
    if n_trained is not None and not 1 <= n_trained <= n_layers:
        raise ModelError(
            f"the initial model has {n_layers} layers with weights, so the number of layers to "
            f"train must be from 1 to {n_layers} (got {n_trained})"
        )
    generator = recipe.build_generator(examples.channels, examples.factor)
    mismatches = _list_mismatches(generator.state_dict(), start.generator.state_dict())
    if mismatches:
        raise ModelError(
            f"the network of the initial model ({start.card.method}, {start.card.recipe}) "
            f"differs from the network of {training.method} in {', '.join(mismatches[:3])}"
        )
    if "critic" in start.companions and recipe.build_critic is not None:
        critic = recipe.build_critic(examples.channels)
        if _list_mismatches(critic.state_dict(), start.companions["critic"]):
            raise ModelError(
                f"the critic of the initial model ({start.card.method}, {start.card.recipe}) "
                f"differs from the critic of {training.method}"
            )


def _warn_of_few_positions(examples: Examples) -> None:
    """Log a warning if the training patches are nearly as large as the images."""
    positions = examples.count_positions()
    if positions is not None and positions < _FEW_POSITIONS:
        _LOGGER.warning(
            "%s: the number of positions of a training patch in a slice is only %d, because the"
            " images are small. The network sees the same patches many times, and can memorize"
            " them.",
            ", ".join(dict.fromkeys(image.name for image in examples.images)),
            positions,
        )


def _list_mismatches(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors that have different shapes or exist in one network only."""
    return sorted(
        name
        for name in {*first, *second}
        if name not in first or name not in second or first[name].shape != second[name].shape
    )


def _compute_signature(training: ModelRequest, examples: Examples) -> str:
    """Return a checksum that a checkpoint must share with the training that resumes it."""
    text = repr(
        (
            training.code_sha256,
            training.method,
            plain_recipe(examples.recipe),
            *([training.changed_settings] if training.changed_settings else []),
            checksums(examples.images),
            examples.factor,
            training.random_seed,
            training.vgg_weights is not None,
            training.start_checksum,
            *[image.name for image in examples.images if image.validation],
        )
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _compute_scores(search: Phase) -> dict[str, dict[str, float]]:
    """Return metrics of the network and of interpolations, on held-out data if there are any.

    If nothing is held out, training data are used. {} is returned if neither held-out data nor
    high-resolution images exist, because the training loss is then the only score.
    """
    windows = search.windows or search.training_windows
    if not windows:
        return {}
    return compare_with_interpolations(search.nets.generator, search.examples, windows)


def _pack_model(search: Phase, results: Mapping[str, object]) -> NewModel:
    """Return weights, companions, card and log of a training; `results` are for the card."""
    card = card_entries(search.training, search.examples.describe())
    card |= {"code_sha256": search.training.code_sha256, **results}
    state = {key: value.cpu() for key, value in search.best_weights.items()}
    companion_names = COMPANIONS if search.recipe.keep_critic else ()
    for name in companion_names:
        if name in search.nets.modules:
            weights = search.nets.modules[name].state_dict()
            state |= {f"{name}.{key}": value.cpu() for key, value in weights.items()}
    return NewModel(state=state, card=card, log=tuple(search.counters.log))
