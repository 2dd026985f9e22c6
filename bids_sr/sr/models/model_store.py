"""Obtain a model: train it, find one of the same training in a directory, or take the user's file."""

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bids_sr.sr.data.images import ImageSet
from bids_sr.sr.data.training_pair import TrainingPair
from bids_sr.sr.method import Method, get_method, get_recipe
from bids_sr.sr.models.card import plain_recipe
from bids_sr.sr.models.card_checks import ModelCard
from bids_sr.sr.models.model import ModelError, card_path, load_model, read_card, save_model
from bids_sr.sr.recipe import Recipe, VarianceRecipe
from bids_sr.sr.resolution.matrices import Factor
from bids_sr.sr.training.checkpoint import log_tsv
from bids_sr.sr.training.trainer import fit
from bids_sr.sr.variance.run_data import RunData

LOG = logging.getLogger(__name__)
Source = Literal["auto", "train", "reuse"]
TrainingData = TrainingPair | RunData | ImageSet


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Which model is wanted and how it may be had."""

    # names
    method: str
    recipe: str = "fast"
    # "train" always trains; "reuse" never does; "auto" takes a model of the same data, settings and seed, and trains
    # otherwise
    source: Source = "auto"
    model_dir: Path | None = None  # searched for models with its subfolders, if any
    pretrained: Path | None = None  # a weights file that is used whatever `source` says
    # see `trainer.fit`
    seed: int = 0
    threads: int = 1
    device: str = "cpu"
    max_minutes: float | None = None
    vgg_weights: Path | None = None
    # low- over high-resolution voxel size, for a set of images; pairs and runs know their own
    factor: Factor | None = None
    # weights to begin training with, and layers that are then trained; on a pair, by `Method.warm`
    start: Path | None = None
    train_last: int | None = None
    align: str | None = None  # structural scans: what registered those of a head, for the card
    sloppy: bool = False  # a handful of iterations, for tests; marked in the card


def sloppy_recipe(recipe: Recipe) -> Recipe:
    """A recipe cut down to seconds."""
    if isinstance(recipe, VarianceRecipe):
        quick = replace(recipe.estimator, rounds=min(recipe.estimator.rounds, 2), draws=8)
        return replace(recipe, estimator=quick)
    return replace(
        recipe, iterations=12, epochs=None, patches=None, decay_from=0, evaluate_every=6, batch=2,
        adversarial_from=min(recipe.adversarial_from, 6),
    )  # fmt: skip


def wanted_recipe(request: Request) -> Recipe:
    """The recipe of a request, with what the request changes in it; ModelError where none begins with weights."""
    method = get_method(request.method)
    recipe = get_recipe(method, request.recipe)
    if request.start is not None and method.trained_on == "pair":
        warm = {str(name): each for name, each in method.warm.items()}
        if request.recipe not in warm:
            raise ModelError(f"{method.name} ({request.recipe}) has no recipe that begins with a model")
        recipe = warm[request.recipe]
    if request.train_last is not None:
        recipe = replace(recipe, freeze_but_last=request.train_last)
    return sloppy_recipe(recipe) if request.sloppy else recipe


def training_data(request: Request, data: TrainingData) -> tuple[TrainingData, Factor]:
    """The data in the form from which the method is trained, and the factor; ModelError where that is missing."""
    trained_on = get_method(request.method).trained_on
    factor = request.factor if not hasattr(data, "factor") else data.factor
    if factor is None:
        raise ModelError("a set of images does not tell the factor of super-resolution: give it")
    if isinstance(data, TrainingPair) and trained_on in ("images", "self"):
        return ImageSet.from_pair(data), factor
    return data, factor


def models_in(model_dir: Path | None) -> Iterator[tuple[Path, ModelCard]]:
    """(weights, card) of every readable model below a directory, sorted by name."""
    if model_dir is None or not model_dir.is_dir():
        return
    for weights in sorted(model_dir.rglob("*.safetensors")):
        try:
            yield weights, read_card(weights)
        except ModelError as error:
            LOG.warning("left out: %s", error)


def log_of(weights: Path) -> Path:
    """Where the log of a training lies: beside the weights, in the derivatives under the suffix ``log``."""
    return weights.with_name(weights.stem.removesuffix("_model") + ("_log" * weights.stem.endswith("_model")) + ".tsv")


def _same_training(card: ModelCard, request: Request, recipe: Recipe, data: TrainingData) -> bool:
    """Whether training now would make the model of this card."""
    data, factor = training_data(request, data)
    begun = None if request.start is None else read_card(request.start).weights_sha256
    vgg = request.vgg_weights is not None
    own = (card.method, card.recipe, card.seed, card.factor, card.data_sha256, card.perceptual, card.start_sha256)
    wanted = (request.method, request.recipe, request.seed, tuple(factor), data.checksums(), vgg, begun)
    same_settings = card.settings in (plain_recipe(recipe, vgg=vgg), plain_recipe(recipe))
    return card.reproducible and same_settings and own == wanted


def find_model(request: Request, recipe: Recipe, data: TrainingData | None) -> Path | None:
    """A model that may stand in for training, or None.

    Raises
    ------
    ModelError : `source` is "reuse" and there is none
    """
    if request.pretrained is not None:
        return request.pretrained
    found = list(models_in(request.model_dir)) if request.source != "train" else []
    if data is not None:
        for weights, card in found:
            if _same_training(card, request, recipe, data):
                return weights
    if request.source != "reuse":
        return None
    fitting = [each for each in found if (each[1].method, each[1].recipe) == (request.method, request.recipe)]
    sums = None if data is None else training_data(request, data)[0].checksums()
    own = [each for each in fitting if sums is not None and each[1].data_sha256 == sums]
    for weights, _ in (*own, *fitting):  # that of the very pair before that of another, whatever its settings
        return weights
    raise ModelError(
        f"{request.model_dir}: no model of {request.method} ({request.recipe}) to reuse; "
        "train one with --model-source auto, or name a file with --pretrained"
    )


def obtain_model(request: Request, data: TrainingData | None, out_dir: Path) -> tuple[Path, Path, Path]:
    """Put the wanted model into a directory; returns (weights, card, training log).

    Raises
    ------
    ModelError : nothing to reuse, or the file is damaged
    TrainingDiverged, PairError : see `trainer.fit`
    """
    method, recipe = get_method(request.method), wanted_recipe(request)
    log = out_dir / f"{request.method}.tsv"
    source = find_model(request, recipe, data)
    if source is None:
        return _train(request, method, recipe, data, out_dir, log)
    load_model(source)  # refuses damaged files
    target = out_dir / f"{request.method}.safetensors"
    card = card_path(target)
    shutil.copyfile(source, target)
    shutil.copyfile(card_path(source), card)
    old_log = log_of(source)
    log.write_text(old_log.read_text() if old_log.exists() else log_tsv(()))
    LOG.info("model %s reused from %s", request.method, source)
    return target, card, log


def _train(
    request: Request, method: Method, recipe: Recipe, data: TrainingData | None, out_dir: Path, log: Path
) -> tuple[Path, Path, Path]:
    if data is None:
        raise ModelError(
            f"{request.method} is trained on the subject's {method.trained_on}, and there is none; give --pretrained"
        )
    data, factor = training_data(request, data)
    model = fit(
        method, recipe, data, recipe_name=request.recipe, seed=request.seed, work_dir=out_dir / "checkpoints",
        factor=factor, threads=request.threads, device=request.device, max_minutes=request.max_minutes,
        vgg_weights=request.vgg_weights, start=None if request.start is None else load_model(request.start),
    )  # fmt: skip
    card = dict(model.card) | ({"sloppy": True} if request.sloppy else {})
    card |= {} if request.align is None else {"anat_align": request.align}
    json.dumps(card)
    log.write_text(log_tsv(model.log))
    return (*save_model(out_dir / request.method, model.state, card), log)
