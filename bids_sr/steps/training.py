"""Steps for training on the pair or on volumes of the run, variance maps, and tests on a pair.

The variance maps are of the run; the tests score another pair.
"""

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
from bids_sr.pipeline.artifacts import Facts, File, Image, Mask, Rows, Series, Transforms
from bids_sr.pipeline.step import HERE, enumerated, step
from bids_sr.quality.pair_scores import holdout_rows, slice_scores
from bids_sr.series import VALIDATION_BASELINES, series_name
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.data.images import (
    VOLUMES,
    TrainingImage,
    TrainingImages,
    pair_image,
    volumes_of_run,
)
from bids_sr.sr.device import Device, Precision, TrainPrecision, choose_device
from bids_sr.sr.inference.acquired import UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import make_upsampler
from bids_sr.sr.matrices import ResolutionError
from bids_sr.sr.method import Cost, Method, get_method, get_recipe, recipe_name
from bids_sr.sr.models.card import ModelCard, part_of, read_card, source_in, weights_in
from bids_sr.sr.models.compatibility import check_model
from bids_sr.sr.models.model import LoadedModel, load_model
from bids_sr.sr.models.request import TrainingRequest
from bids_sr.sr.recipe import MULTISLICE, Recipe, RecipeName
from bids_sr.sr.recipe_changes import RecipeChange, changed_recipe, changes_text, work_ratio
from bids_sr.sr.training_text import (
    data_text,
    images_text,
    planned_sentences,
    training_sentences,
)
from bids_sr.sr.variance.temporal_components import SeriesError, open_uncompressed
from bids_sr.steps.memory import TRAIN, TRAIN_ON_VOLUMES, VARIANCE

if TYPE_CHECKING:
    from bids_sr.sr.models.model_store import TrainingData
    from bids_sr.sr.variance.run_data import RunData

Model = tuple[File, File, File]
"""Weights or maps (safetensors), their card beside them (JSON), the log of training (TSV)."""
Source = Literal["auto", "train", "reuse"]
MODEL = ("model_file", "card_file", "log_file")


LOG_COLUMNS: Mapping[str, object] = data_of("columns.json")["training"]
"""Metadata of the log of a training: what its columns are."""


@frozen
class TrainingSettings:
    """How a model is trained, or which one is taken in its place.

    `model_dir`: folder of models to reuse; it may be missing. `pretrained`: model that was trained
    before; None if missing. `vgg_weights`: file of VGG-19 weights; None leaves out the perceptual
    loss. `max_train_minutes`: None sets no limit.
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
        """Whether the model was trained before, and is named by the call or stored for reuse."""
        return is_given(self.pretrained, self.model_source)


def is_given(pretrained: Path | None, model_source: Source) -> bool:
    """Return whether a model is one that was trained before.

    False where it is to be trained, or found among those of this output.
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
    """Return the sentences on networks, before or after they are trained or taken.

    Parameters
    ----------
    training : TrainingSettings
        How the networks are trained.
    cards : Sequence[ModelCard]
        Cards of the models that exist; empty before training.
    data : str
        Training data of a network that this run trains, as a noun phrase.
    features : bool, optional
        Whether a network that has still to be trained has weights of VGG-19.
    sources : Sequence[str], optional
        Names of the files from which models were taken; empty if unknown.
    unfinished : int, optional
        Steps that have not ended.

    Returns
    -------
    str
        Sentences in the future tense without cards, else in the past tense.
    """
    method, recipe = get_method(training.method), training.recipe
    if training.is_given:
        return _given_text(training.pretrained, method, cards, sources, unfinished)
    what = method.described(recipe)
    if not cards:
        plan = planned_sentences(
            method, recipe, features=features, minutes=training.max_train_minutes
        )
        return (
            f"The network {method.name} will be trained on {data} with the recipe"
            f" {recipe_name(method, recipe)}. This network is {what}. {plan}"
        ).strip() + describe_changes(training)
    return (
        f"The network {method.name} was trained on {data}. This network is {what}."
        f" {training_sentences(cards)}{_unfinished_text(unfinished)}"
    )


def _given_text(
    pretrained: Path | None,
    method: Method,
    cards: Sequence[ModelCard],
    sources: Sequence[str],
    unfinished: int,
) -> str:
    """Return the sentences on networks that were trained before."""
    taken = {*sources} or ({pretrained.name} if pretrained is not None else set())
    names = sorted(taken)
    files = f"file {enumerated(names)}" if len(names) == 1 else f"files {enumerated(names)}"
    of_file = f" ({files})" if names else ""
    recipes = {card.recipe for card in cards}
    what = method.described(recipes.pop()) if len(recipes) == 1 else method.about
    network = f"A previously trained network, {method.name}{of_file},"
    if not cards:
        return f"{network} will be used. This network is {what}."
    says = (
        "According to its model card, the network was"
        if len(cards) == 1
        else "According to their model cards, the networks were"
    )
    return (
        f"{network} was used. This network is {what}. {says} trained on {data_text(cards)}."
        f" {training_sentences(cards)}{_unfinished_text(unfinished)}"
    )


def _unfinished_text(unfinished: int) -> str:
    """Return how many more trainings there will be, with a space before; "" for none."""
    if not unfinished:
        return ""
    return f" {unfinished} more {'network' if unfinished == 1 else 'networks'} will be trained."


def cards_in(
    method: str, folders: Sequence[Path]
) -> tuple[tuple[ModelCard, ...], tuple[str, ...]]:
    """Return the cards of the models in folders of steps, and names of files they were taken from.

    A model that a step trained itself has no such name.
    """
    cards = tuple(read_card(weights_in(folder, method)) for folder in folders)
    notes = (source_in(folder) for folder in folders)
    return cards, tuple(
        note.read_text(encoding="utf-8").strip() for note in notes if note.exists()
    )


_PAIR = "the participant's own pair of T2*-weighted images"


def describe_changes(training: TrainingSettings) -> str:
    """Return a sentence on settings of the recipe that the call changed; "" without any."""
    if not training.recipe_changes:
        return ""
    method = get_method(training.method)
    recipe = get_recipe(method, recipe_name(method, training.recipe))
    return changes_text(recipe, training.recipe_changes)


def describe_pair_network(training: TrainingSettings) -> str:
    """Say how a network will be trained on a pair."""
    features = training.vgg_weights is not None
    return describe_network(training, (), data=_PAIR, features=features)


def describe_networks_of_pairs(
    training: TrainingSettings, folders: Sequence[Path], unfinished: int
) -> str:
    """Say how networks were trained on pairs, from the folders of the steps that have ended."""
    cards, sources = cards_in(training.method, folders)
    return describe_network(training, cards, data=_PAIR, sources=sources, unfinished=unfinished)


def _volumes_data(count: str) -> str:
    return f"{count} randomly drawn volumes of the acquired run, without a high-resolution image"


def describe_volume_network(training: TrainingSettings) -> str:
    """Say how a network will be trained on volumes of the run."""
    return describe_network(training, (), data=_volumes_data(f"up to {VOLUMES}"))


def describe_networks_of_volumes(
    training: TrainingSettings, folders: Sequence[Path], unfinished: int
) -> str:
    """Say how networks were trained on volumes, from the folders of the steps that have ended."""
    cards, sources = cards_in(training.method, folders)
    data = _volumes_data(images_text(cards))
    return describe_network(training, cards, data=data, sources=sources, unfinished=unfinished)


def describe_variance(training: TrainingSettings, *, calibrated: bool) -> str:
    """Say how variance maps are estimated and tested; "" for a control.

    `calibrated`: whether a calibration run enters.
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
    """Return the recipe for slices that were acquired one by one and get thinner, or None.

    Recipes of 3D methods that assume a crop of k-space assume it in plane only: across slices, the
    scanner averages over the slice. Published recipes with another assumption keep theirs.
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
    """Train or find the model that is wanted, and refuse one that does not fit.

    `here`: folder of the model; the folder of its checkpoints is beside it. `affine, contrast`:
    grid (voxel -> RAS mm) and BIDS suffix of what the model has to serve; it is not asked where
    there is no grid. `second`: images of a pair that is not trained on, whose PSNR the log shows.
    `ModelError`: there is no such model, and none can be trained. `UsageError`: it is for other
    images.
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
    """Return the work of training relative to that of the unchanged recipe."""
    if not recipe_changes:
        return 1.0
    trained = get_method(method)
    changed = changed_recipe(trained, recipe, recipe_changes)
    return work_ratio(changed_recipe(trained, recipe, ()), changed, trained.ndim)


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
    """Train a network on the subject's pair, or take one that was.

    `train_highres`: high-resolution image on the fine grid of `train_lowres`, in its pose.
    `train_lowres, pair_mask`: low-resolution image, and head or brain on its grid.
    `second_highres, second_lowres, second_mask`: another pair of the same factor, in its own
    frame, whose PSNR the log of training shows; None without --pair-holdout. `model_dir`:
    where models to reuse lie; it may be missing. `vgg_weights`: file of VGG-19 weights; None
    leaves out the perceptual loss. `TrainingDataError, ModelError, UsageError`: see
    `train_or_reuse`.
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

    Raise TrainingDataError where that is impossible.

    `highres`: high-resolution image on the fine grid of lowres, in its pose (3D).
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
    """Train a network on volumes of the run it is for, or take a model that was given for it."""
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
    """Find where a run fluctuates on the high-resolution grid, or use maps found before.

    `preproc`: series on its acquired grid, head motion undone. `hmc_xfms`: (T, 4, 4) boldref point
    to its point in each volume (RAS mm); what follows head motion is taken out.
    `boldref2calibration_xfm`: (1, 4, 4) takes a boldref point to its point in the calibration.
    `interpolations`: plain ones that are tried one level down beside it. `model_source`: whether
    to estimate (``train``), to ``reuse`` maps, or either (``auto``). `model_file`, `card_file`,
    `log_file`: maps, their card, rounds of the estimation. `weight`: standard deviation of the
    fluctuations on the high-resolution grid, signal units. `tested`: what each series explains one
    level of resolution down, or why that is not known.
    """
    from threadpoolctl import threadpool_limits

    from bids_sr.sr.variance.exemplars import Exemplars
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
    mask, exemplars = bold_mask.data, None
    if (
        calibration_patterns is not None
        and calibration_facts is not None
        and calibration_facts["usable"]
    ):
        assert boldref2calibration_xfm is not None
        exemplars = Exemplars(
            patterns=np.moveaxis(calibration_patterns.data, -1, 0),
            affine=calibration_patterns.affine,
            from_boldref=boldref2calibration_xfm[0],
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
        )
        model_file, card_file, log_file = train_or_reuse(
            training, data, here, data.affine, force=force
        )
        model = load_model(model_file)
        tested = _tested(training.method, model.card, data, interpolations)
    return model_file, card_file, log_file, _weight(model, data), tested


def _tested(
    method: Method, card: ModelCard, data: "RunData", interpolations: tuple[str, ...]
) -> Facts:
    """Return what the map and plain interpolations explain one level down, by series."""
    from bids_sr.sr.variance.fit_variance import tested_entry, why_untried
    from bids_sr.sr.variance.one_level_down import try_interpolation

    own_share: Facts = {
        "reason": "the variance maps were estimated from another run, or by an earlier version"
        " of bids-sr"
    }
    if card.data_sha256 == data.checksums() and "tested" in card.held_out:
        own_share = {**part_of(card.held_out, "tested"), "applied": card.json.get("applied", True)}
    shares = {series_name(method.name): own_share}
    for name in interpolations:
        try:
            shares[name] = tested_entry(try_interpolation(data.trial(), name), data.volumes)
        except (SeriesError, ResolutionError) as error:
            shares[name] = {"reason": why_untried(error)}
    return shares


def _weight(model: LoadedModel, data: "RunData") -> Volume:
    """Root of the summed squared maps on the boldref's high-resolution grid."""
    from bids_sr.sr.operators import to_volume
    from bids_sr.sr.variance.in_reference import onto_grid

    shape, affine = hr_grid(data.statistics.mean.shape, data.affine, data.factor)
    # half precision does not hold the squares
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
    """Super-resolve a held-out pair's coarse image and compare it with the fine one.

    The baselines are compared beside it.

    `precision`: arithmetic of the network: ``fp32``, ``bf16``, or ``auto`` to choose.
    """
    from threadpoolctl import threadpool_limits

    pair = _training_pair(train_highres, train_lowres, pair_mask, factor)
    model = load_model(model_file)
    label = series_name(method)
    assert pair.gain is not None
    truth = pair.gain * train_highres.data
    scores = {}
    scale = float(np.percentile(train_lowres.data[pair_mask.data > 0.5], 99))
    coarse = UpsamplerInputs(
        factor=factor,
        affine=train_lowres.affine,
        scale=scale,
        precision=precision,
        device=choose_device(device),
        threads=omp_nthreads,
    )
    with threadpool_limits(omp_nthreads):
        for name in (*VALIDATION_BASELINES, label):
            upsampler = make_upsampler(name, coarse, model if name == label else None)
            image = upsampler(train_lowres.data, np.eye(4))
            scores[name] = slice_scores(image, truth, pair.mask, data_range=scale)
    return holdout_rows(scores, label, seed=random_seed)
