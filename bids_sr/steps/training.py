"""Training on the pair or the run, estimation of variance maps, and tests on a second pair."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from bids_sr.boilerplate import data_of
from bids_sr.config.memory import Need
from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.io.volume import Volume
from bids_sr.metrics.word_lists import enumerate_words
from bids_sr.pipeline.artifacts import Facts, File, Image, Mask, Rows, Series, Transforms
from bids_sr.pipeline.step import HERE, step
from bids_sr.quality.pair_scores import holdout_rows, slice_scores
from bids_sr.series import VALIDATION_BASELINES, series_name
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.data.images import (
    N_VOLUMES,
    TrainingImage,
    TrainingImages,
    pair_image,
    volumes_of_run,
)
from bids_sr.sr.device import Device, Precision, TrainPrecision, choose_device
from bids_sr.sr.inference.acquired import UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.sr.matrices import ResolutionError
from bids_sr.sr.method import Cost, Method, get_method, get_recipe, recipe_name
from bids_sr.sr.models.card import ModelCard, mapping_entry, read_card, source_path, weights_path
from bids_sr.sr.models.compatibility import check_model
from bids_sr.sr.models.model import LoadedModel, load_model
from bids_sr.sr.models.request import TrainingRequest
from bids_sr.sr.recipe import MULTISLICE, Recipe, RecipeName
from bids_sr.sr.recipe_changes import RecipeChange, change_recipe, changes_text, work_ratio
from bids_sr.sr.training_text import (
    data_text,
    images_text,
    training_sentences,
    write_planned_sentences,
)
from bids_sr.sr.variance.temporal_components import SeriesError, open_uncompressed
from bids_sr.steps.calibration_run import calibration_exemplars
from bids_sr.steps.memory import TRAIN, TRAIN_ON_VOLUMES, VARIANCE
from bids_sr.steps.outlier_volumes import reasons_by_volume

if TYPE_CHECKING:
    from bids_sr.sr.models.model_store import TrainingData
    from bids_sr.sr.variance.run_data import RunData

Model = tuple[File, File, File]
"""Weights or maps (safetensors), their model card (JSON), and the training log (TSV)."""
Source = Literal["auto", "train", "reuse"]
MODEL = ("model_file", "card_file", "log_file")


LOG_COLUMNS: Mapping[str, object] = data_of("columns.json")["training"]
"""Metadata of the columns of a training log."""


@frozen
class TrainingSettings:
    """Settings of the training of a model, or of the choice of a trained model.

    `model_dir` is the folder of reusable models, which may not exist. `pretrained` is a previously
    trained model; None to train or reuse one. `vgg_weights` is a file of VGG-19 weights; None to
    train without the perceptual loss. `max_train_minutes` is None if there is no limit.
    """

    method: str
    recipe: RecipeName = "fast"
    recipe_changes: tuple[RecipeChange, ...] = ()
    model_source: Source = "auto"
    model_dir: Path | None = None
    pretrained: Path | None = None
    vgg_weights: Path | None = None
    random_seed: int = 0
    omp_nthreads: int = 1
    device: Device = "auto"
    train_precision: TrainPrecision = "auto"
    max_train_minutes: float | None = None
    force: bool = False
    sloppy: bool = False

    @property
    def is_given(self) -> bool:
        """Whether the model was trained before, and is specified or stored for reuse."""
        return is_given(self.pretrained, self.model_source)


def is_given(pretrained: Path | None, model_source: Source) -> bool:
    """Return True if the model was trained before.

    It is False if the model will be trained, or may be found among models of this output.
    """
    return pretrained is not None or model_source == "reuse"


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

    Parameters
    ----------
    training : TrainingSettings
        Settings of the training.
    cards : Sequence[ModelCard]
        Cards of existing models; empty before training.
    data : str
        Training data of a network that this run trains, as a noun phrase.
    features : bool, optional
        Whether weights of VGG-19 are available for training.
    sources : Sequence[str], optional
        Names of the files of reused models; empty if unknown.
    unfinished : int, optional
        Number of unfinished training steps.

    Returns
    -------
    str
        Sentences in the future tense if there are no cards, otherwise in the past tense.
    """
    method, recipe = get_method(training.method), training.recipe
    if training.is_given:
        return _reuse_text(training.pretrained, method, cards, sources, unfinished)
    network_text = method.described(recipe)
    if not cards:
        plan = write_planned_sentences(
            method, recipe, features=features, minutes=training.max_train_minutes
        )
        return (
            f"The network {method.name} will be trained on {data} with the recipe"
            f" {recipe_name(method, recipe)}. This network is {network_text}. {plan}"
        ).strip() + describe_changes(training)
    return (
        f"The network {method.name} was trained on {data}. This network is {network_text}."
        f" {training_sentences(cards)}{_describe_unfinished(unfinished)}"
    )


def _reuse_text(
    pretrained: Path | None,
    method: Method,
    cards: Sequence[ModelCard],
    sources: Sequence[str],
    unfinished: int,
) -> str:
    """Return the sentences on networks that were trained before."""
    file_names = {*sources} or ({pretrained.name} if pretrained is not None else set())
    names = sorted(file_names)
    files = (
        f"file {enumerate_words(names)}" if len(names) == 1 else f"files {enumerate_words(names)}"
    )
    file_text = f" ({files})" if names else ""
    recipes = {card.recipe for card in cards}
    what = method.described(recipes.pop()) if len(recipes) == 1 else method.about
    network = f"A previously trained network, {method.name}{file_text},"
    if not cards:
        return f"{network} will be used. This network is {what}."
    card_phrase = (
        "According to its model card, the network was"
        if len(cards) == 1
        else "According to their model cards, the networks were"
    )
    return (
        f"{network} was used. This network is {what}. {card_phrase} trained on {data_text(cards)}."
        f" {training_sentences(cards)}{_describe_unfinished(unfinished)}"
    )


def _describe_unfinished(unfinished: int) -> str:
    """Return a sentence on the number of remaining trainings, after a space; "" if none remain."""
    if not unfinished:
        return ""
    return f" {unfinished} more {'network' if unfinished == 1 else 'networks'} will be trained."


def read_cards(
    method: str, folders: Sequence[Path]
) -> tuple[tuple[ModelCard, ...], tuple[str, ...]]:
    """Return the cards of models in folders of steps, and names of the files of reused models.

    Models that a step trained itself have no file name.
    """
    cards = tuple(read_card(weights_path(folder, method)) for folder in folders)
    notes = (source_path(folder) for folder in folders)
    return cards, tuple(
        note.read_text(encoding="utf-8").strip() for note in notes if note.exists()
    )


_PAIR = "the participant's own pair of T2*-weighted images"


def describe_changes(training: TrainingSettings) -> str:
    """Return a sentence on changed settings of the recipe; "" if no setting was changed."""
    if not training.recipe_changes:
        return ""
    method = get_method(training.method)
    recipe = get_recipe(method, recipe_name(method, training.recipe))
    return changes_text(recipe, training.recipe_changes)


def describe_pair_network(training: TrainingSettings) -> str:
    """Return methods text of a network that will be trained on a pair."""
    features = training.vgg_weights is not None
    return describe_network(training, (), data=_PAIR, features=features)


def describe_networks_of_pairs(
    training: TrainingSettings, folders: Sequence[Path], unfinished: int
) -> str:
    """Return methods text of networks trained on pairs, based on models of finished steps."""
    cards, sources = read_cards(training.method, folders)
    return describe_network(training, cards, data=_PAIR, sources=sources, unfinished=unfinished)


def _volumes_data(count: str) -> str:
    return f"{count} randomly drawn volumes of the acquired run, without a high-resolution image"


def describe_volume_network(training: TrainingSettings) -> str:
    """Return methods text of a network that will be trained on volumes of the run."""
    return describe_network(training, (), data=_volumes_data(f"up to {N_VOLUMES}"))


def describe_networks_of_volumes(
    training: TrainingSettings, folders: Sequence[Path], unfinished: int
) -> str:
    """Return methods text of networks trained on volumes, based on models of finished steps."""
    cards, sources = read_cards(training.method, folders)
    data = _volumes_data(images_text(cards))
    return describe_network(training, cards, data=data, sources=sources, unfinished=unfinished)


def describe_variance(training: TrainingSettings, *, calibrated: bool) -> str:
    """Return methods text of the estimation and test of variance maps; "" for a control.

    `calibrated` is True if a calibration run is used.
    """
    method = get_method(training.method)
    if method.control:
        return ""
    if training.is_given:
        file = "" if training.pretrained is None else f", file {training.pretrained.name}"
        return (
            "Super-resolution was performed with variance maps from another run"
            f" ({method.name}{file})."
        )
    method_text = method.own_text(training.recipe) or f"given by {method.about}"
    exemplars = (
        " The components of the calibration run were included in the prior as local covariance."
        " Their weight was determined by how accurately the outermost fifth of the acquired"
        " k-space was predicted from the remaining k-space in held-out halves of the run. The"
        " same prediction was used to refine the registration of the calibration run. If the"
        " components did not improve the prediction, they were omitted."
    )
    return (
        f"With {series_name(method.name)}, the signal change outside the acquired band of k-space"
        f" was estimated with a Gaussian prior {method_text}. To test whether this method was"
        " applicable, the run was downsampled by the super-resolution factor and reconstructed"
        " with variance maps from one half of the run. The method was applied only if the error"
        " in the other half of the run was lower than with zero filling. Otherwise, the run was"
        f" zero filled.{exemplars if method.calibrated and calibrated else ''}"
    )


def recipe_of_slices(method: Method, recipe: str, factor: Factor) -> Recipe | None:
    """Return a recipe for super-resolution with thinner slices, or None if it is unchanged.

    Recipes of 3D methods that simulate low resolution by cropping k-space are changed to crop only
    in plane, because the scanner averages signal across the slice. Published recipes with another
    simulation are unchanged.
    """
    settings = get_recipe(method, recipe_name(method, recipe))
    if factor[2] == 1 or settings.degradation != "kspace":
        return None
    return replace(settings, degradation=MULTISLICE)


def train_or_reuse(
    training: TrainingRequest,
    data: "TrainingData | None",
    here: Path,
    affine: Array | None,
    contrast: str = "bold",
    *,
    force: bool,
    second: TrainingImages = (),
) -> Model:
    """Train or reuse the requested model, and check that it matches the images.

    Parameters
    ----------
    training : TrainingRequest
        Request for a model.
    data : TrainingData | None
        Training data; None if a trained model is required.
    here : Path
        Folder of the model; checkpoints are in a folder next to it.
    affine, contrast : ndarray | None, str
        Grid (voxel to RAS mm) and BIDS suffix of the images; the model is not checked if the
        affine is None.
    force : bool
        Whether mismatches are only logged.
    second : TrainingImages
        Images of a held-out pair, whose PSNR is logged.

    Raises
    ------
    ModelError
        If the model does not exist and cannot be trained.
    UsageError
        If the model is for other images.
    """
    from threadpoolctl import threadpool_limits

    from bids_sr.sr.models.model_store import obtain_model

    with threadpool_limits(training.threads):
        model, card, log = obtain_model(training, data, here, second)
    if affine is not None:
        assert training.factor is not None
        check_model(
            read_card(model),
            affine,
            contrast,
            training.factor,
            align=training.align,
            scale=training.scale,
            force=force,
        )
    return model, card, log


def _network_cost(
    method: str,
    recipe: RecipeName,
    recipe_changes: tuple[RecipeChange, ...],
    model_source: Source,
    pretrained: Path | None,
    max_train_minutes: float | None,
) -> Cost:
    if is_given(pretrained, model_source):
        return Cost(always=0.5)
    cost = get_method(method).cost(recipe)
    ratio = training_work(method, recipe, recipe_changes)
    return replace(
        cost,
        always=cost.always * ratio,
        low=cost.low * ratio,
        high=cost.high * ratio,
        limit=60 * (max_train_minutes or math.inf),
    )


def _variance_cost(
    method: str, recipe: RecipeName, model_source: Source, pretrained: Path | None
) -> Cost:
    if is_given(pretrained, model_source):
        return Cost(always=0.5)
    return replace(get_method(method).cost(recipe), limit=math.inf)


def training_work(
    method: str, recipe: RecipeName, recipe_changes: tuple[RecipeChange, ...]
) -> float:
    """Return the amount of computation in training relative to the unchanged recipe."""
    if not recipe_changes:
        return 1.0
    trained = get_method(method)
    changed = change_recipe(trained, recipe, recipe_changes)
    return work_ratio(change_recipe(trained, recipe, ()), changed, trained.ndim)


@step(
    makes=MODEL,
    resumes=True,
    monitored=("second_highres", "second_lowres", "second_mask"),
    memory=TRAIN,
    cost=_network_cost,
)
def train_on_pair(
    train_highres: Image | None = None,
    train_lowres: Image | None = None,
    pair_mask: Mask | None = None,
    second_highres: Image | None = None,
    second_lowres: Image | None = None,
    second_mask: Mask | None = None,
    *,
    here: Path = HERE,
    method: str,
    factor: Factor,
    recipe: RecipeName = "fast",
    recipe_changes: tuple[RecipeChange, ...] = (),
    model_source: Source = "auto",
    model_dir: Path | None = None,
    pretrained: Path | None = None,
    random_seed: int = 0,
    omp_nthreads: int = 1,
    device: Device = "auto",
    train_precision: TrainPrecision = "auto",
    max_train_minutes: float | None = None,
    vgg_weights: Path | None = None,
    force: bool = False,
    sloppy: bool = False,
) -> Model:
    """Train a network on the participant's T2* pair, or reuse a trained network.

    Parameters
    ----------
    train_highres : Image | None
        High-resolution image on the fine grid of `train_lowres`, in its position.
    train_lowres, pair_mask : Image | None
        Low-resolution image, and head or brain on its grid.
    second_highres, second_lowres, second_mask : Image | None
        Held-out pair with the same factor, in its own frame, whose PSNR is logged; None if there
        is no such pair.
    model_dir : Path | None
        Folder of reusable models, which may not exist.
    vgg_weights : Path | None
        File of VGG-19 weights; None to train without the perceptual loss.

    Raises
    ------
    TrainingDataError, ModelError, UsageError
        See `train_or_reuse`.
    """
    training = TrainingRequest(
        method=get_method(method),
        recipe=recipe,
        changes=recipe_changes,
        changed=recipe_of_slices(get_method(method), recipe, factor),
        factor=factor,
        source=model_source,
        model_dir=model_dir,
        pretrained=pretrained,
        seed=random_seed,
        threads=omp_nthreads,
        device=choose_device(device),
        precision=train_precision,
        max_train_minutes=max_train_minutes,
        vgg_weights=vgg_weights,
        sloppy=sloppy,
    )
    if train_highres is None or train_lowres is None or pair_mask is None:
        return train_or_reuse(training, None, here, None, force=force)
    pair = _training_pair(train_highres, train_lowres, pair_mask, factor)
    second: TrainingImages = ()
    if second_highres is not None and second_lowres is not None and second_mask is not None:
        second = (_training_pair(second_highres, second_lowres, second_mask, factor),)
    return train_or_reuse(
        training,
        (pair,),
        here,
        train_lowres.affine,
        pair.contrast,
        force=force,
        second=second,
    )


def _training_pair(highres: Volume, lowres: Volume, mask: Volume, factor: Factor) -> TrainingImage:
    """Return the images of a pair in one frame, as used for training.

    `highres` is the high-resolution image on the fine grid of the low-resolution image, in its
    position (3D). TrainingDataError is raised if the images do not match.
    """
    return pair_image(
        lowres.data, highres.data, np.asarray(mask.data > 0.5), lowres.affine, factor
    )


@step(
    makes=MODEL,
    resumes=True,
    memory=TRAIN_ON_VOLUMES,
    cost=_network_cost,
)
def train_on_volumes(
    stc: Series,
    bold_mask: Mask,
    *,
    here: Path = HERE,
    n_dummy: int,
    method: str,
    factor: Factor,
    recipe: RecipeName = "fast",
    recipe_changes: tuple[RecipeChange, ...] = (),
    model_source: Source = "auto",
    model_dir: Path | None = None,
    pretrained: Path | None = None,
    random_seed: int = 0,
    omp_nthreads: int = 1,
    device: Device = "auto",
    train_precision: TrainPrecision = "auto",
    max_train_minutes: float | None = None,
    force: bool = False,
    sloppy: bool = False,
) -> Model:
    """Train a network on volumes of the run that it super-resolves, or reuse a trained network."""
    training = TrainingRequest(
        method=get_method(method),
        recipe=recipe,
        changes=recipe_changes,
        changed=recipe_of_slices(get_method(method), recipe, factor),
        factor=factor,
        source=model_source,
        model_dir=model_dir,
        pretrained=pretrained,
        seed=random_seed,
        threads=omp_nthreads,
        device=choose_device(device),
        precision=train_precision,
        max_train_minutes=max_train_minutes,
        sloppy=sloppy,
    )
    images = volumes_of_run(stc, bold_mask.data, n_dummy, random_seed)
    return train_or_reuse(training, images, here, stc.affine, force=force)


@step(
    makes=(*MODEL, "weight", "tested"),
    resumes=True,
    memory=VARIANCE,
    cost=_variance_cost,
)
def estimate_variance(
    preproc: Series,
    bold_mask: Mask,
    hmc_xfms: Transforms | None = None,
    calibration_patterns: Image | None = None,
    boldref2calibration_xfm: Transforms | None = None,
    calibration_facts: Facts | None = None,
    outliers: Facts | None = None,
    *,
    here: Path = HERE,
    n_dummy: int,
    method: str,
    factor: Factor,
    interpolations: tuple[str, ...] = (),
    recipe: RecipeName = "fast",
    model_source: Source = "auto",
    model_dir: Path | None = None,
    pretrained: Path | None = None,
    random_seed: int = 0,
    omp_nthreads: int = 1,
    force: bool = False,
    sloppy: bool = False,
) -> tuple[File, File, File, Image, Facts]:
    """Estimate where a run fluctuates on the high-resolution grid, or reuse variance maps.

    Parameters
    ----------
    preproc : Series
        Motion-corrected series on its acquired grid.
    hmc_xfms : Transforms | None
        Transforms of boldref points to points of each volume (T, 4, 4; RAS mm); fluctuations that
        follow head motion are regressed out.
    boldref2calibration_xfm : Transforms | None
        Transform of boldref points to calibration points (1, 4, 4; RAS mm).
    outliers : Facts | None
        Outlier volumes of the run, which are not used.
    interpolations : tuple[str, ...]
        Interpolations that are also tested at half the resolution.
    model_source : Source
        Whether maps are estimated (``train``), reused (``reuse``), or either (``auto``).

    Returns
    -------
    tuple[File, File, File, Image, Facts]
        Maps; model card; log of the estimation; standard deviation of the fluctuations on the
        high-resolution grid (signal units); and self-test results of each series, or reasons why
        they are missing.
    """
    from threadpoolctl import threadpool_limits

    from bids_sr.sr.variance.run_data import run_data

    training = TrainingRequest(
        method=get_method(method),
        recipe=recipe,
        factor=factor,
        source=model_source,
        model_dir=model_dir,
        pretrained=pretrained,
        seed=random_seed,
        threads=omp_nthreads,
        sloppy=sloppy,
    )
    if (recipe_of_maps := training.variance) is None:
        raise ValueError(f"the method {method} does not use variance maps")
    mask = bold_mask.data
    exemplars = calibration_exemplars(
        calibration_patterns, boldref2calibration_xfm, calibration_facts
    )
    with threadpool_limits(omp_nthreads), open_uncompressed(preproc.path, here) as reader:
        data = run_data(
            reader,
            mask,
            recipe_of_maps,
            factor,
            n_dummy=n_dummy,
            poses=hmc_xfms,
            exemplars=exemplars,
            excluded=list(reasons_by_volume(outliers)),
        )
        model_file, card_file, log_file = train_or_reuse(
            training, data, here, data.affine, force=force
        )
        model = load_model(model_file)
        tested = _self_test_results(training.method, model.card, data, interpolations)
    return model_file, card_file, log_file, _prior_sd_map(model, data), tested


def _self_test_results(
    method: Method, card: ModelCard, data: "RunData", interpolations: tuple[str, ...]
) -> Facts:
    """Return the self-test results of the map and of interpolations, by series."""
    from bids_sr.sr.variance.fit_variance import self_test_entry, untested_reason
    from bids_sr.sr.variance.self_test import score_interpolation

    map_result: Facts = {
        "reason": "the variance maps were estimated from another run, or by an earlier version"
        " of bids-sr"
    }
    if card.data_sha256 == data.checksums() and "tested" in card.held_out:
        map_result = {
            **mapping_entry(card.held_out, "tested"),
            "applied": card.json.get("applied", True),
        }
    results = {series_name(method.name): map_result}
    for name in interpolations:
        try:
            results[name] = self_test_entry(score_interpolation(data.trial(), name), data.volumes)
        except (SeriesError, ResolutionError) as error:
            results[name] = {"reason": untested_reason(error)}
    return results


def _prior_sd_map(model: LoadedModel, data: "RunData") -> Volume:
    """Return the root of the summed squared maps on the boldref's high-resolution grid."""
    from bids_sr.sr.operators import to_volume
    from bids_sr.sr.variance.add_detail import onto_grid

    shape, affine = hr_grid(data.statistics.mean.shape, data.affine, data.factor)
    # The squares exceed the range of half precision.
    stored = model.generator.get_buffer("weight").float()
    maps = onto_grid(stored, shape)
    return Volume(to_volume(maps.square().sum(0).sqrt()), affine)


HOLDOUT_TEXT = (
    "Image quality was tested on a second pair of T2*-weighted images of the same"
    " participant, which was not used for training. The low-resolution image was"
    " super-resolved and compared with the high-resolution image. Confidence intervals were"
    " computed by resampling slices."
)
"""Methods text of the test on a held-out pair."""


@step(makes="holdout", memory=Need(always=0.12, high=0.25), cost=Cost(always=2.0))
def score_pair(
    train_highres: Image,
    train_lowres: Image,
    pair_mask: Mask,
    model_file: File,
    *,
    method: str,
    factor: Factor,
    precision: Precision,
    random_seed: int,
    omp_nthreads: int,
    device: Device,
) -> Rows:
    """Super-resolve the low-resolution image of a held-out pair, and score the result.

    Baselines are scored in the same way. `precision` is the arithmetic of the network: ``fp32``,
    ``bf16``, or ``auto`` to choose.
    """
    from threadpoolctl import threadpool_limits

    pair = _training_pair(train_highres, train_lowres, pair_mask, factor)
    model = load_model(model_file)
    label = series_name(method)
    assert pair.gain is not None
    truth = pair.gain * train_highres.data
    scores = {}
    scale = float(np.percentile(train_lowres.data[pair_mask.data > 0.5], 99))
    inputs = UpsamplerInputs(
        factor=factor,
        affine=train_lowres.affine,
        scale=scale,
        precision=precision,
        device=choose_device(device),
        threads=omp_nthreads,
    )
    with threadpool_limits(omp_nthreads):
        for name in (*VALIDATION_BASELINES, label):
            upsampler = make_upsampler(name, inputs, model if name == label else None)
            image = upsampler(train_lowres.data, np.eye(4))
            scores[name] = slice_scores(image, truth, pair.mask, data_range=scale)
    return holdout_rows(scores, label, seed=random_seed)
