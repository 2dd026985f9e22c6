"""Obtain a model: train it, find the same training in a directory, or take the user's file."""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from bids_sr.io.checksums import checksum
from bids_sr.sr.data.images import TrainingImages, checksums
from bids_sr.sr.former_names import renaming
from bids_sr.sr.models.card import (
    ModelCard,
    ModelError,
    card_path,
    part_of,
    read_card,
    source_in,
    weights_in,
)
from bids_sr.sr.models.model import TrainedModel, load_model, save_model
from bids_sr.sr.models.request import TrainingRequest
from bids_sr.sr.recipe_settings import plain_recipe
from bids_sr.sr.training.card_entries import settings_of, steps_at_stop
from bids_sr.sr.training.journal import log_tsv
from bids_sr.sr.training.trainer import fit
from bids_sr.sr.variance.fit_variance import fit_variance
from bids_sr.sr.variance.run_data import RunData

_LOG = logging.getLogger(__name__)
TrainingData = RunData | TrainingImages


def _checksums(data: TrainingData) -> dict[str, str]:
    return data.checksums() if isinstance(data, RunData) else checksums(data)


def _models_in(model_dir: Path | None) -> Iterator[tuple[Path, ModelCard]]:
    """(weights, card) of every readable model below a directory, sorted by name."""
    if model_dir is None or not model_dir.is_dir():
        return
    for weights in sorted(model_dir.rglob("*.safetensors")):
        try:
            yield weights, read_card(weights)
        except ModelError as error:
            _LOG.warning("The following model file was skipped. %s", error)


def _log_of(weights: Path) -> Path:
    """Return the path of a training log.

    It lies beside the weights, in the derivatives under the suffix ``log``.
    """
    return weights.with_name(
        weights.stem.removesuffix("_model") + ("_log" * weights.stem.endswith("_model")) + ".tsv"
    )


def _same_training(card: ModelCard, training: TrainingRequest, data: TrainingData) -> bool:
    """Whether training now would make the model of this card."""
    factor = data.factor if isinstance(data, RunData) else training.factor
    vgg = None if training.vgg_weights is None else checksum(training.vgg_weights)
    known = [settings_of(training)]
    if training.variance is None:  # cards before 0.2 list all losses
        known.append(plain_recipe(training.effective_recipe))
    return (
        card.reproducible
        and card.settings in known
        and (card.method, card.recipe) == (training.method.name, training.recipe)
        and card.changed_settings == training.changed_settings
        and (card.seed, card.factor) == (training.seed, factor)
        and card.data_sha256 == _checksums(data)
        and _perceptual_weights(card) == vgg
        and card.start_sha256 == training.started_with
        and (training.precision == "auto" or _began_mixed(card) == training.mixed)
    )


def _perceptual_weights(card: ModelCard) -> str | None:
    """Return the checksum of the VGG-19 weights in a training, or None for a training without."""
    return str(part_of(card.json, "perceptual").get("weights_sha256")) if card.perceptual else None


def _began_mixed(card: ModelCard) -> bool:
    """Whether a training began in mixed precision; older cards have only whether it ended so."""
    entry = part_of(card.json, "mixed_precision")
    return bool(entry.get("asked", entry.get("kept", False)))


def _find_model(training: TrainingRequest, data: TrainingData | None) -> Path | None:
    """A model that may stand in for training, or None."""
    if training.pretrained is not None:
        return training.pretrained
    models = list(_models_in(training.model_dir)) if training.source != "train" else []
    if data is not None:
        for weights, card in models:
            if _same_training(card, training, data):
                return weights
    if training.source != "reuse":
        return None
    name, recipe = training.method.name, training.recipe
    asked = (name, recipe, training.changed_settings)
    fitting = [
        each
        for each in models
        if (each[1].method, each[1].recipe, each[1].changed_settings) == asked
    ]
    sums = None if data is None else _checksums(data)
    own = [each for each in fitting if sums is not None and each[1].data_sha256 == sums]
    # that of the very pair before that of another, whatever version of the recipe it has
    for weights, _ in (*own, *fitting):
        return weights
    values = " ".join(f"{key}={value!r}" for key, value in training.changed_settings.items())
    former = [
        f" The model file {weights.name} was not used: {text}."
        for weights, card in models
        if card.json["method"] == name and (text := renaming(card.json))
    ]
    raise ModelError(
        f"{training.model_dir}: --model-source reuse was specified, but the directory contains no "
        f"model for {name} ({recipe}{values and f', {values}'}).{former[0] if former else ''} "
        "Train a model with --model-source auto, or specify a model file with --pretrained."
    )


def obtain_model(
    training: TrainingRequest,
    data: TrainingData | None,
    out_dir: Path,
    second: TrainingImages = (),
) -> tuple[Path, Path, Path]:
    """Put the wanted model into a directory; returns (weights, card, training log).

    Checkpoints are beside that directory (see `checkpoints_of`), because nipype empties it when a
    setting has changed: a training that the clock stopped continues with another limit.

    `data`: images or run to train on; None where there are none. `second`: images of another pair,
    whose PSNR the log shows. `ModelError`: nothing to reuse, or the file is damaged.
    `TrainingDiverged, TrainingDataError`: see `trainer.fit`.
    """
    name = training.method.name
    log = out_dir / f"{name}.tsv"
    source = _find_model(training, data)
    if source is None:
        source_in(out_dir).unlink(missing_ok=True)
        made = _trained(training, data, checkpoints_of(out_dir), second)
        card = dict(made.card) | ({"sloppy": True} if training.sloppy else {})
        card |= {} if training.align is None else {"anat_align": training.align}
        card |= {} if training.scale is None else {"anat_scale": training.scale}
        json.dumps(card)
        out_dir.mkdir(parents=True, exist_ok=True)
        log.write_text(log_tsv(made.log), encoding="utf-8")
        return (*save_model(out_dir / name, made.state, card), log)
    card_of_source = load_model(source).card  # refuses damaged files
    if renamed := renaming(card_of_source.json):
        _LOG.warning("%s: %s", source, renamed)
    target = weights_in(out_dir, name)
    shutil.copyfile(source, target)
    shutil.copyfile(card_path(source), card_path(target))
    old_log = _log_of(source)
    old = old_log.read_text(encoding="utf-8") if old_log.exists() else log_tsv(())
    log.write_text(old, encoding="utf-8")
    source_in(out_dir).write_text(f"{source.name}\n", encoding="utf-8")
    _LOG.info("The %s model %s is reused.", name, source)
    return target, card_path(target), log


def checkpoints_of(out_dir: Path) -> Path:
    """Return the folder of the checkpoints of a model that is trained in a directory."""
    return out_dir.with_name(f"{out_dir.name}_checkpoints")


def _trained(
    training: TrainingRequest, data: TrainingData | None, work_dir: Path, second: TrainingImages
) -> TrainedModel:
    if data is None:
        name, trained_on = training.method.name, training.method.trained_on
        raise ModelError(
            f"{name}: no training data are available for this participant (required: "
            f"{trained_on}). Specify a trained model with --pretrained."
        )
    if isinstance(data, RunData):
        return fit_variance(training, data)
    made = fit(training, data, work_dir, second=second)
    if at_stop := steps_at_stop(made.card):
        _LOG.warning(
            "Training of %s was stopped by --max-train-minutes (%s). To continue the "
            "training, rerun the same command with a longer time limit or without a limit.",
            training.method.name,
            at_stop,
        )
    return made
