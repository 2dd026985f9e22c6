"""Models for a run: newly made, reused from an equal request, or given by the user."""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bids_sr.io.checksums import checksum
from bids_sr.sr.models.card import (
    ModelCard,
    ModelError,
    card_path,
    mapping_entry,
    read_card,
    source_path,
    steps_at_stop,
    weights_path,
)
from bids_sr.sr.models.model import NewModel, load_model, save_model
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.models.training_log import log_tsv
from bids_sr.sr.networks.data.images import TrainingImages, checksums
from bids_sr.sr.networks.training.card_entries import make_settings_entry
from bids_sr.sr.networks.training.trainer import train_network
from bids_sr.sr.prior_maps.run_data import RunData
from bids_sr.sr.prior_maps.tested_prior import estimate_tested_prior

_LOGGER = logging.getLogger(__name__)
ModelData = RunData | TrainingImages


class _ModelFiles(NamedTuple):
    """Files of a model: weights, card and training log."""

    weights: Path
    card: Path
    log: Path


def make_or_reuse_model(
    request: ModelRequest,
    data: ModelData | None,
    out_dir: Path,
    second_images: TrainingImages = (),
) -> _ModelFiles:
    """Make the requested model in a directory, or copy a suitable model.

    Checkpoints are stored next to the directory, because nipype empties the
    directory when a setting changes. Thus, a training stopped by its time limit can continue with
    a different limit.

    `data` are images or a run for training; None if there are none. `out_dir` is the directory for
    weights, card and training log, whose paths are returned. `second_images` are images of a
    second pair, whose PSNR is reported in the log.

    Raises `ModelError` if there is no model to reuse, or the model file is damaged, and
    `TrainingDiverged` or `InvalidInput` if training fails (see
    `bids_sr.sr.networks.training.trainer.train_network`).
    """
    name = request.method
    log = out_dir / f"{name}.tsv"
    source = _find_model(request, data)
    if source is None:
        source_path(out_dir).unlink(missing_ok=True)
        checkpoint_dir = out_dir.with_name(f"{out_dir.name}_checkpoints")
        model = _make_model(request, data, checkpoint_dir, second_images)
        card = _complete_card(model.card, request)
        json.dumps(card)  # raises an error before files are written
        out_dir.mkdir(parents=True, exist_ok=True)
        log.write_text(log_tsv(model.log), encoding="utf-8")
        weights, card_file = save_model(out_dir / name, model.state, card)
        return _ModelFiles(weights, card_file, log)
    load_model(source)  # raises an error for damaged files
    target = weights_path(out_dir, name)
    shutil.copyfile(source, target)
    shutil.copyfile(card_path(source), card_path(target))
    source_log = _get_log_path(source)
    log_text = source_log.read_text(encoding="utf-8") if source_log.exists() else log_tsv(())
    log.write_text(log_text, encoding="utf-8")
    source_path(out_dir).write_text(f"{source.name}\n", encoding="utf-8")
    _LOGGER.info("The %s model %s is reused.", name, source)
    return _ModelFiles(target, card_path(target), log)


def _find_model(request: ModelRequest, data: ModelData | None) -> Path | None:
    """Return the weights of a model that need not be made again, or None.

    Raises `ModelError` if only reuse is allowed, and there is no suitable model.
    """
    if request.pretrained is not None:
        return request.pretrained
    if request.model_source == "train":
        return None
    models = list(_iterate_models(request.model_dir))
    if data is not None:
        for weights, card in models:
            if _matches_request(card, request, data):
                return weights
    if request.model_source == "reuse":
        return _find_reusable_model(request, data, models)
    return None


def _iterate_models(model_dir: Path | None) -> Iterator[tuple[Path, ModelCard]]:
    """Yield weights path and card of every readable model below a directory, sorted by name."""
    if model_dir is None or not model_dir.is_dir():
        return
    for weights in sorted(model_dir.rglob("*.safetensors")):
        try:
            yield weights, read_card(weights)
        except ModelError as error:
            _LOGGER.warning("The following model file was skipped. %s", error)


def _matches_request(card: ModelCard, request: ModelRequest, data: ModelData) -> bool:
    """Return whether the request would result in the model of this card."""
    factor = data.factor if isinstance(data, RunData) else request.factor
    vgg = None if request.vgg_weights is None else checksum(request.vgg_weights)
    card_vgg = mapping_entry(card.json, "perceptual").get("weights_sha256")
    began_mixed = bool(mapping_entry(card.json, "mixed_precision").get("asked", False))
    return (
        card.reproducible
        and card.settings == make_settings_entry(request)
        and (card.method, card.recipe) == (request.method, request.recipe)
        and card.changed_settings == request.changed_settings
        and (card.seed, card.factor) == (request.random_seed, factor)
        and card.data_sha256 == _compute_checksums(data)
        and mapping_entry(card.json, "split") == request.split
        and (str(card_vgg) if card.perceptual else None) == vgg
        and card.start_sha256 == request.start_checksum
        and (request.train_precision == "auto" or began_mixed == request.mixed)
        and card.json.get("code_sha256") == request.code_sha256
    )


def _find_reusable_model(
    request: ModelRequest,
    data: ModelData | None,
    models: Sequence[tuple[Path, ModelCard]],
) -> Path:
    """Return the weights of a model with the requested recipe, preferably for the same data.

    With VGG-19 weights, only models that were trained with VGG-19 features are suitable. Without
    these weights, which applying a model does not require, models trained without the features
    are preferred.

    ModelError is raised if there is none.
    """
    requested = (request.method, request.recipe, request.changed_settings)
    has_features = request.vgg_weights is not None
    suitable_models = [
        (weights, card)
        for weights, card in models
        if (card.method, card.recipe, card.changed_settings) == requested
        and (card.perceptual or not has_features)
    ]
    if suitable_models:
        checksums_of_data = None if data is None else _compute_checksums(data)
        weights, _ = min(
            suitable_models,
            key=lambda model: (model[1].data_sha256 != checksums_of_data, model[1].perceptual),
        )
        return weights
    changes = " ".join(f"{key}={value!r}" for key, value in request.changed_settings.items())
    features_text = " with VGG-19 features" if has_features else ""
    raise ModelError(
        f"superres.model_source=reuse was specified, but the directory {request.model_dir} "
        f"contains no model for {request.method} ({request.recipe}{changes and f', {changes}'})"
        f"{features_text}",
        "Train a model with --set superres.model_source=auto, or specify a model file with "
        "--pretrained.",
    )


def _compute_checksums(data: ModelData) -> dict[str, str]:
    """Return the checksum of each data array, by name."""
    return data.checksums() if isinstance(data, RunData) else checksums(data)


def _make_model(
    request: ModelRequest,
    data: ModelData | None,
    work_dir: Path,
    second_images: TrainingImages,
) -> NewModel:
    """Make a model from data, and warn if the time limit stopped the training."""
    if data is None:
        name, trained_on = request.method, request.definition.trained_on
        raise ModelError(
            f"{name}: no training data are available for this participant (required: "
            f"{trained_on})",
            "Specify a trained model with --pretrained.",
        )
    if isinstance(data, RunData):
        return estimate_tested_prior(request, data)
    model = train_network(request, data, work_dir, second_images=second_images)
    if steps_text := steps_at_stop(model.card):
        _LOGGER.warning(
            "Training of %s was stopped by --max-train-minutes (%s). To continue the "
            "training, rerun the same command with a longer time limit or without a limit.",
            request.method,
            steps_text,
        )
    return model


def _complete_card(card: Mapping[str, object], request: ModelRequest) -> dict[str, object]:
    """Return a card with the entries that depend on the caller, if they apply."""
    entries = {
        "sloppy": request.sloppy or None,
        "anat_align": request.anat_align,
        "anat_scale": request.anat_scale,
        "split": request.split or None,
    }
    return {**card, **{name: entry for name, entry in entries.items() if entry is not None}}


def _get_log_path(weights: Path) -> Path:
    """Return the path of a model's training log.

    The log is in the same directory as the weights. In derivatives, its suffix is ``log``.
    """
    if weights.stem.endswith("_model"):
        return weights.with_name(f"{weights.stem.removesuffix('_model')}_log.tsv")
    return weights.with_name(f"{weights.stem}.tsv")
