"""Train a network on a pair or on a set of images.

Phase `search` fits on all that is not held out and keeps the weights that score best there; the card reports that
score. `refit` (where the recipe wants it) starts anew with the same seed on *all* data for as many iterations as did
best. Where nothing is held out the training loss decides, or, with a critic in the loss, the last weights are kept.
"""

import hashlib
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from bids_sr.sr.data.examples import Examples
from bids_sr.sr.data.image_examples import ImageExamples
from bids_sr.sr.data.images import ImageSet, ImageSetError
from bids_sr.sr.data.patches import PairExamples
from bids_sr.sr.data.training_pair import TrainingPair
from bids_sr.sr.method import Method
from bids_sr.sr.models.card import card_entries, plain_recipe, training_entries
from bids_sr.sr.models.model import LoadedModel, ModelError, TrainedModel
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.resolution.matrices import Factor, check_factor
from bids_sr.sr.training import update_steps
from bids_sr.sr.training.job import Training
from bids_sr.sr.training.phase import Phase, Progress, compare

LOG = logging.getLogger(__name__)


def _signature(training: Training, recipe: Recipe, examples: Examples, mixed: bool) -> str:
    """Tells whether a checkpoint belongs to this training."""
    text = repr((
        training.method.name, plain_recipe(recipe), examples.checksums(), examples.factor, training.seed,
        training.vgg_weights is not None, training.started_with, mixed,
    ))  # fmt: skip
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run with this number of torch's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fit(
    training: Training, data: TrainingPair | ImageSet, work_dir: Path, progress: Progress | None = None
) -> TrainedModel:
    """Train a network.

    Parameters
    ----------
    work_dir : of checkpoints and log; a killed training started again with the same arguments goes on from there
    progress : called with (phase, iteration, iterations)

    Raises
    ------
    TrainingDiverged : the loss is no longer a number
    OutOfDeviceMemory : half of the batch does not fit on the device either
    PairError, ImageSetError, ResolutionError : the data cannot be trained on
    ModelError : it is to begin with another network, or a recipe that is nothing without weights of VGG-19 has none
    """
    method, recipe, device = training.method, training.how, training.device
    factor = data.factor if isinstance(data, TrainingPair) else training.factor
    if factor is None:
        raise ImageSetError("a set of images does not tell the factor of super-resolution: give it")
    factor = check_factor(factor)
    _check(training, recipe, data, factor)
    now = time.monotonic()
    with torch_threads(training.threads):
        examples: Examples = (
            PairExamples(data, recipe, device)
            if isinstance(data, TrainingPair)
            else ImageExamples(data, recipe, factor, method.ndim, device)
        )
        train, held = examples.parts()
        work_dir.mkdir(parents=True, exist_ok=True)
        on_gpu = device.startswith("cuda") and isinstance(data, ImageSet)
        mixed = training.precision == "mixed" or (training.precision == "auto" and on_gpu)
        watched = examples.validation(held)
        refit = recipe.refit and bool(watched)
        signature = _signature(training, recipe, examples, mixed)
        end = None if training.max_train_minutes is None else now + 60 * training.max_train_minutes
        first = last = Phase(
            name="search", training=training, recipe=recipe, iterations=recipe.steps, examples=examples, parts=train,
            watched=watched, signature=f"{signature}-{recipe.steps}", folder=work_dir, progress=progress, mixed=mixed,
            deadline=now + (end - now) * (0.55 if refit else 1.0) if end is not None else None,
        )  # fmt: skip
        first.run()
        first.nets.generator.load_state_dict(first.best)
        shown = watched or (examples.validation(train) if examples.scores_training else ())
        reached = compare(first.nets.generator, examples, shown, recipe) if shown else {}
        if refit:
            steps = max(1, first.at.best_iteration)
            last = replace(
                first, name="refit", parts=train + held, watched=(), iterations=steps, signature=f"{signature}-{steps}",
                deadline=end,
            )  # fmt: skip
            last.run()
    phases = (first, last) if refit else (first,)
    LOG.info("trained %s in %.0f s: %s", method.name, sum(p.at.seconds for p in phases), reached)
    card = card_entries(training, recipe, examples.described())
    card |= training_entries(phases, train, held, reached)
    card |= {"seed": training.seed, "threads": training.threads, "device": device}
    state = {key: value.cpu() for key, value in last.best.items()}
    if recipe.keep_critic and last.nets.critic is not None:
        state |= {f"critic.{key}": value.cpu() for key, value in last.nets.critic.state_dict().items()}
    return TrainedModel(state=state, card=card, log=tuple(row for p in phases for row in p.at.log))


def _check(training: Training, recipe: Recipe, data: TrainingPair | ImageSet, factor: Factor) -> None:
    """Refuse what cannot be trained, before any work is done."""
    method, start = training.method, training.start
    if recipe.needs_vgg and training.vgg_weights is None:
        raise ModelError(
            f"{method.name} ({training.recipe}) is taught by features of VGG-19: give its weights with --vgg-weights, "
            "or take --recipe paper-mse"
        )
    if isinstance(data, ImageSet):
        data.check(factor, method.ndim)
        if method.ndim == 2 and factor[2] != 1:
            raise ImageSetError(f"{method.name} works slice by slice; the factor {factor} asks for thinner slices")
        vary = recipe.augmentation
        if (vary.shift, vary.gamma, vary.noise) != (0.0, 0.0, 0.0):
            raise ValueError("sets of images are varied by flips and gain only: their coarse images are made before")
    if start is not None and isinstance(data, TrainingPair):
        own = (start.card.method, start.card.recipe, start.card.factor)
        wanted = (method.name, training.recipe, factor)
        if own != wanted:
            told = ["{} ({}) by {}".format(*each) for each in (wanted, own)]
            raise ModelError(f"training of {told[0]} cannot begin with a model of {told[1]}")
    elif start is not None and isinstance(data, ImageSet):
        _check_network(method, recipe, start, data.channels, factor)


def _check_network(method: Method, recipe: Recipe, start: LoadedModel, channels: int, factor: Factor) -> None:
    """Refuse a start with weights of other shapes, or too many layers to train."""
    count, layers = recipe.freeze_but_last, len(update_steps.weighted_layers(start.generator))
    if count is not None and not 1 <= count <= layers:
        raise ModelError(f"the model to start from has {layers} layers with weights: {count} of them cannot be trained")
    wanted = recipe.build_generator(channels, factor).state_dict()
    found = start.generator.state_dict()
    wrong = [k for k in {*wanted, *found} if k not in wanted or k not in found or wanted[k].shape != found[k].shape]
    if wrong:
        raise ModelError(
            f"the model to start from ({start.card.method}, {start.card.recipe}) is another network than that of "
            f"{method.name}: {', '.join(sorted(wrong)[:3])} differ"
        )
