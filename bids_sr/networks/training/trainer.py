"""Training of a network on an image pair or on a set of images.

Phase `search` trains on all data that are not held out, and keeps the weights with the best
held-out score, which is reported in the card. Phase `refit` (if the recipe requests it) starts
again with the same seed on *all* data, for the number of iterations with the best score. If
nothing is held out, the training loss replaces the score, or, with an adversarial loss, the last
weights are kept.

A training that was stopped by its time limit returns a model, and can be resumed. `search` is then
resumed first; if it results in another number of iterations, an earlier refit is discarded.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import replace
from pathlib import Path

from bids_sr.networks.data.examples import Examples
from bids_sr.networks.data.images import TrainingDataError, TrainingImages, checksums
from bids_sr.networks.data.validation import ScoredWindow, validation_windows
from bids_sr.networks.training.card_entries import card_entries, training_entries
from bids_sr.networks.training.phase import (
    Clock,
    Phase,
    TrainingProgress,
    compare_with_interpolations,
)
from bids_sr.networks.training.update_steps import list_layers
from bids_sr.sr.matrices import check_factor
from bids_sr.sr.models.card import ModelError
from bids_sr.sr.models.model import COMPANIONS, TrainedModel
from bids_sr.sr.models.request import TrainingRequest
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.recipe_settings import plain_recipe
from bids_sr.sr.threads import torch_threads

# version of the checkpoint format; checkpoints of other versions are not resumed
_CHECKPOINT_VERSION = 2


_LOG = logging.getLogger(__name__)


def train_network(
    training: TrainingRequest,
    images: TrainingImages,
    work_dir: Path,
    progress: TrainingProgress | None = None,
    *,
    second_images: TrainingImages = (),
    resumable: bool = False,
    clock: Clock = time.monotonic,
) -> TrainedModel:
    """Train a network.

    Parameters
    ----------
    training : TrainingRequest
        Method, recipe and settings of the training.
    images : TrainingImages
        Images for training and validation.
    work_dir : Path
        Folder of checkpoints and log. An interrupted training is resumed if it is started again
        with the same arguments; `max_train_minutes` may differ.
    progress : TrainingProgress | None, optional
        Function called with phase, iteration and number of iterations.
    second_images : TrainingImages, optional
        Images of a second pair, whose PSNR is reported in the log.
    resumable : bool, optional
        Whether a search that was stopped by the time limit ends the call without a refit, which
        would be discarded later.
    clock : Clock, optional
        Function that returns a monotonic time (s).

    Returns
    -------
    TrainedModel
        Weights, card and log.

    Raises
    ------
    TrainingDiverged
        If the loss is NaN or infinite.
    OutOfDeviceMemory
        If device memory is insufficient even for half of the batch.
    TrainingDataError, ResolutionError
        If the images cannot be used for training.
    ModelError
        If the initial model has a different network, or required VGG-19 weights are missing.
    """
    method, recipe, device = training.definition, training.effective_recipe, training.device
    if training.factor is None:
        raise TrainingDataError(
            "the super-resolution factor was not specified and cannot be determined from the "
            "images. Specify the factor."
        )
    if recipe.needs_vgg and training.vgg_weights is None:
        raise ModelError(
            f"the loss of {method.name} ({training.recipe}) requires VGG-19 weights. Run "
            "bids-sr-models vgg19 once, specify the weights with --vgg-weights, or use "
            "--recipe paper-mse."
        )
    start_time = clock()
    with torch_threads(training.omp_nthreads):
        examples = Examples(images, recipe, check_factor(training.factor), method.ndim, device)
        recipe = examples.recipe
        check_start(training, recipe, examples)
        work_dir.mkdir(parents=True, exist_ok=True)
        windows = validation_windows(examples, examples.held)
        # images marked for validation are never used for training
        validation_names = [image.name for image in images if image.validation]
        refit = recipe.refit and bool(windows) and not validation_names
        signature = _signature(training, examples)
        has_refit_time = refit and not resumable
        end = (
            None
            if training.max_train_minutes is None
            else start_time + 60 * training.max_train_minutes
        )
        first = last = Phase(
            name="search",
            training=training,
            iterations=recipe.steps,
            examples=examples,
            parts=examples.train,
            windows=windows,
            second=_make_windows(second_images, examples),
            signature=f"{signature}-{recipe.steps}-{training.mixed}",
            folder=work_dir,
            progress=progress,
            mixed=training.mixed,
            clock=clock,
            deadline=None
            if end is None
            else start_time + (end - start_time) * (0.55 if has_refit_time else 1.0),
        )
        first.run()
        refit = refit and not (resumable and first.at.done == "time")
        first.nets.generator.load_state_dict(first.best)
        # the training loss is the only score if there are no high-resolution images
        scored_windows = windows or (
            validation_windows(examples, examples.train) if recipe.objective != "self" else ()
        )
        scores = (
            compare_with_interpolations(first.nets.generator, examples, scored_windows)
            if scored_windows
            else {}
        )
        if refit:
            steps = max(1, first.kept_iteration)
            last = replace(
                first,
                name="refit",
                parts=examples.train + examples.held,
                windows=(),
                iterations=steps,
                signature=f"{signature}-{steps}-{first.at.mixed}",
                mixed=first.at.mixed,
                deadline=end,
            )
            last.run()
    phases = (first, last) if refit else (first,)
    _LOG.info(
        "Training of %s took %.0f s (final scores: %s).",
        method.name,
        sum(p.at.seconds for p in phases),
        scores,
    )
    card = card_entries(training, examples.describe()) | training_entries(phases, scores)
    state = {key: value.cpu() for key, value in last.best.items()}
    for name in COMPANIONS if recipe.keep_critic else ():
        if name in last.nets.nets:
            tensors = last.nets.nets[name].state_dict()
            state |= {f"{name}.{key}": value.cpu() for key, value in tensors.items()}
    return TrainedModel(state=state, card=card, log=tuple(row for p in phases for row in p.at.log))


def _make_windows(images: TrainingImages, examples: Examples) -> tuple[ScoredWindow, ...]:
    """Return windows of images that are not used for training, prepared like `examples`."""
    if not images or examples.recipe.objective == "self":
        return ()
    extra_examples = Examples(
        images, examples.recipe, examples.factor, examples.ndim, examples.device
    )
    return validation_windows(extra_examples, (*extra_examples.train, *extra_examples.held))


def _signature(training: TrainingRequest, examples: Examples) -> str:
    """Return a checksum that a checkpoint must share with the training that resumes it."""
    text = repr(
        (
            _CHECKPOINT_VERSION,
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


def check_start(training: TrainingRequest, recipe: Recipe, examples: Examples) -> None:
    """Raise ModelError if the initial model has a different network or too few layers."""
    start = training.start
    if start is None:
        return
    count = recipe.freeze_but_last
    layers = len(list_layers(start.generator))
    if count is not None and not 1 <= count <= layers:
        raise ModelError(
            f"the initial model has {layers} layers with weights, so the number of layers to "
            f"train must be from 1 to {layers} (got {count})"
        )
    expected = recipe.build_generator(examples.channels, examples.factor).state_dict()
    state = start.generator.state_dict()
    mismatches = [
        k
        for k in {*expected, *state}
        if k not in expected or k not in state or expected[k].shape != state[k].shape
    ]
    if mismatches:
        raise ModelError(
            f"the network of the initial model ({start.card.method}, {start.card.recipe}) "
            f"differs from the network of {training.method} in "
            f"{', '.join(sorted(mismatches)[:3])}"
        )
    if "critic" in start.companions and recipe.build_critic is not None:
        critic = recipe.build_critic(examples.channels).state_dict()
        stored = start.companions["critic"]
        if {k: v.shape for k, v in critic.items()} != {k: v.shape for k, v in stored.items()}:
            raise ModelError(
                f"the critic of the initial model ({start.card.method}, {start.card.recipe}) "
                f"differs from the critic of {training.method}"
            )
