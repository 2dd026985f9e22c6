"""Train a network on a pair or on a set of images.

Phase `search` fits on all that is not held out and keeps the weights that score best there; the
card reports that score. `refit` (where the recipe wants it) starts anew with the same seed on
*all* data for as many iterations as did best. Where nothing is held out the training loss decides,
or, with a critic in the loss, the last weights are kept.
"""

import hashlib
import logging
import time
from dataclasses import replace
from pathlib import Path

from bids_sr.sr.data.examples import Examples
from bids_sr.sr.data.images import TrainingDataError, TrainingImages, checksums
from bids_sr.sr.data.validation import validation_windows
from bids_sr.sr.models.card import ModelError
from bids_sr.sr.models.model import TrainedModel
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.resolution.matrices import check_factor
from bids_sr.sr.threads import torch_threads
from bids_sr.sr.training.card_entries import card_entries, plain_recipe, training_entries
from bids_sr.sr.training.job import TrainingRequest
from bids_sr.sr.training.phase import Phase, Progress, compare
from bids_sr.sr.training.update_steps import weighted_layers

_LOG = logging.getLogger(__name__)


def fit(
    training: TrainingRequest,
    images: TrainingImages,
    work_dir: Path,
    progress: Progress | None = None,
) -> TrainedModel:
    """Train a network.

    `work_dir`: of checkpoints and log; a killed training started again with the same arguments
    goes on from there. `progress`: called with (phase, iteration, iterations). `TrainingDiverged`:
    the loss is no longer a number. `OutOfDeviceMemory`: half of the batch does not fit on the
    device either. `TrainingDataError, ResolutionError`: the images cannot be trained on. Tensors
    of the networks on the CPU, card, and log of all phases.
    """
    method, recipe, device = training.method, training.effective_recipe, training.device
    if training.factor is None:
        raise TrainingDataError("images do not tell the factor of super-resolution: give it")
    if recipe.needs_vgg and training.vgg_weights is None:
        raise ModelError(
            f"{method.name} ({training.recipe}) is taught by features of VGG-19: give its weights"
            " with --vgg-weights, or take --recipe paper-mse"
        )
    now = time.monotonic()
    with torch_threads(training.threads):
        examples = Examples(images, recipe, check_factor(training.factor), method.ndim, device)
        _check_start(training, recipe, examples)
        work_dir.mkdir(parents=True, exist_ok=True)
        on_gpu = device.startswith("cuda") and method.trained_on != "pair"
        mixed = training.precision == "mixed" or (training.precision == "auto" and on_gpu)
        windows = validation_windows(examples, examples.held)
        refit = recipe.refit and bool(windows)
        signature = _signature(training, examples, mixed)
        end = None if training.max_train_minutes is None else now + 60 * training.max_train_minutes
        first = last = Phase(
            name="search",
            training=training,
            iterations=recipe.steps,
            examples=examples,
            parts=examples.train,
            windows=windows,
            signature=f"{signature}-{recipe.steps}",
            folder=work_dir,
            progress=progress,
            mixed=mixed,
            deadline=now + (end - now) * (0.55 if refit else 1.0) if end is not None else None,
        )
        first.run()
        first.nets.generator.load_state_dict(first.best)
        # without high-resolution images the training loss says it all
        shown = windows or (
            validation_windows(examples, examples.train) if recipe.objective != "self" else ()
        )
        reached = compare(first.nets.generator, examples, shown) if shown else {}
        if refit:
            steps = max(1, first.at.best_iteration)
            last = replace(
                first,
                name="refit",
                parts=examples.train + examples.held,
                windows=(),
                iterations=steps,
                signature=f"{signature}-{steps}",
                deadline=end,
            )
            last.run()
    phases = (first, last) if refit else (first,)
    _LOG.info("trained %s in %.0f s: %s", method.name, sum(p.at.seconds for p in phases), reached)
    card = card_entries(training, examples.described()) | training_entries(phases, reached)
    state = {key: value.cpu() for key, value in last.best.items()}
    if recipe.keep_critic and "critic" in last.nets.nets:
        state |= {
            f"critic.{key}": value.cpu()
            for key, value in last.nets.nets["critic"].state_dict().items()
        }
    return TrainedModel(state=state, card=card, log=tuple(row for p in phases for row in p.at.log))


def _signature(training: TrainingRequest, examples: Examples, mixed: bool) -> str:
    """Tells whether a checkpoint belongs to this training."""
    text = repr(
        (
            training.method.name,
            plain_recipe(examples.recipe),
            checksums(examples.images),
            examples.factor,
            training.seed,
            training.vgg_weights is not None,
            training.started_with,
            mixed,
        )
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _check_start(training: TrainingRequest, recipe: Recipe, examples: Examples) -> None:
    """Refuse a start with weights of another network, or too many layers to train."""
    start = training.start
    if start is None:
        return
    count, layers = recipe.freeze_but_last, len(weighted_layers(start.generator))
    if count is not None and not 1 <= count <= layers:
        raise ModelError(
            f"the model to start from has {layers} layers with weights: {count} of them cannot be"
            " trained"
        )
    wanted = recipe.build_generator(examples.channels, examples.factor).state_dict()
    found = start.generator.state_dict()
    wrong = [
        k
        for k in {*wanted, *found}
        if k not in wanted or k not in found or wanted[k].shape != found[k].shape
    ]
    if wrong:
        raise ModelError(
            f"the model to start from ({start.card.method}, {start.card.recipe}) is another"
            f" network than that of {training.method.name}: {', '.join(sorted(wrong)[:3])} differ"
        )
