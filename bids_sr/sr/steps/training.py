"""Steps that train on the pair or the run, estimate prior SD maps, and test on a second pair."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bids_sr.boilerplate import data_of
from bids_sr.engine.artifacts import Facts, File, Image, Mask, Rows, Series, Table
from bids_sr.engine.flow import as_artifact
from bids_sr.engine.memory import Need
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.engine.step_memory import TRAIN, TRAIN_ON_VOLUMES, VARIANCE
from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.io.series import VALIDATION_BASELINES, series_name
from bids_sr.io.volume import Volume
from bids_sr.preproc.steps.aligned_series import PosedBrain
from bids_sr.preproc.steps.outlier_volumes import reasons_by_volume
from bids_sr.preproc.steps.registration import TrainingPair
from bids_sr.spatial.matrices import ResolutionError
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.device import choose_device
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.sr.method import Method, get_method, get_recipe
from bids_sr.sr.models.card import ModelCard, mapping_entry, read_card
from bids_sr.sr.models.compatibility import check_model
from bids_sr.sr.models.model import LoadedModel, load_model
from bids_sr.sr.models.request import (
    ModelRequest,
    ModelSettings,
    TrainingSettings,
    request_model,
)
from bids_sr.sr.networks.data.images import (
    TrainingImage,
    TrainingImages,
    pair_image,
    volumes_of_run,
)
from bids_sr.sr.pair_scores import holdout_rows, slice_scores
from bids_sr.sr.prior_maps.temporal_components import SeriesError, open_uncompressed
from bids_sr.sr.recipe import MULTISLICE, Recipe
from bids_sr.sr.steps.calibration_run import Calibration, get_patterns

if TYPE_CHECKING:
    from bids_sr.sr.models.model_store import ModelData
    from bids_sr.sr.prior_maps.run_data import RunData

LOG_COLUMNS: Mapping[str, object] = data_of("columns.json")["training"]
"""Metadata of the columns of a training log."""


@frozen
class ModelReport:
    """Model card (JSON) and log of a training or estimation."""

    card_file: Facts
    log_file: Table


@frozen
class ModelFiles(ModelReport):
    """Weights or prior SD maps (safetensors), with model card and log."""

    model_file: File


@frozen
class VarianceModel(ModelFiles):
    """Prior SD maps of a run, with their self-test at reduced resolution.

    `weight` is the standard deviation of the fluctuations on the high-resolution grid (signal
    units). `self_tests` are results of each series, or reasons why they are missing.
    """

    weight: Image
    self_tests: Facts


@step(
    Stage.TRAINING,
    resumes=True,
    monitored=("second_highres", "second_lowres", "second_mask"),
    memory=TRAIN,
)
def train_on_pair(
    pair: TrainingPair | None = None,
    second_highres: Image | None = None,
    second_lowres: Image | None = None,
    second_mask: Mask | None = None,
    *,
    here: Path = HERE,
    training: TrainingSettings,
    factor: Factor,
) -> ModelFiles:
    """Train a network on the participant's T2* pair, or reuse a trained network.

    `pair` is None if a trained network is used. `second_highres`, `second_lowres` and
    `second_mask` are a held-out pair with the same factor, in its own frame, whose PSNR is logged;
    None if there is no such pair.

    Raises `InvalidInput`, or the errors of `provide_model`.
    """
    request = _request_network(training, factor)
    if pair is None:
        return provide_model(request, None, here, None)
    image = _make_training_image(pair, factor)
    second_images: TrainingImages = ()
    if second_highres is not None and second_lowres is not None and second_mask is not None:
        second_pair = TrainingPair(
            train_highres=second_highres, train_lowres=second_lowres, pair_mask=second_mask
        )
        second_images = (_make_training_image(second_pair, factor),)
    return provide_model(
        request, (image,), here, pair.train_lowres.affine, image.contrast, second_images
    )


@step(Stage.TRAINING, resumes=True, memory=TRAIN_ON_VOLUMES)
def train_on_volumes(
    stc: Series,
    bold_mask: Mask,
    *,
    here: Path = HERE,
    n_dummy: int,
    training: TrainingSettings,
    factor: Factor,
) -> ModelFiles:
    """Train a network on volumes of the run that it super-resolves, or reuse a trained network."""
    images = volumes_of_run(stc, bold_mask.data, n_dummy, training.random_seed)
    return provide_model(_request_network(training, factor), images, here, stc.affine)


def _request_network(training: TrainingSettings, factor: Factor) -> ModelRequest:
    """Return the request for a network for functional runs, see `recipe_for_thinner_slices`."""
    recipe = recipe_for_thinner_slices(get_method(training.method), training.recipe, factor)
    return replace(request_model(training, factor), replacement_recipe=recipe)


def recipe_for_thinner_slices(method: Method, recipe: str, factor: Factor) -> Recipe | None:
    """Return a recipe for super-resolution with thinner slices, or None if it is unchanged.

    Recipes of 3D methods that simulate low resolution by cropping k-space are changed to crop only
    in plane, because the scanner averages signal across the slice. Published recipes with another
    simulation are unchanged.
    """
    method_recipe = get_recipe(method, recipe)
    if factor[2] == 1 or method_recipe.degradation != "kspace":
        return None
    return replace(method_recipe, degradation=MULTISLICE)


@step(Stage.PRIOR, resumes=True, memory=VARIANCE)
def estimate_variance(
    preproc: Series,
    run: PosedBrain,
    calibration: Calibration | None = None,
    *,
    here: Path = HERE,
    n_dummy: int,
    training: ModelSettings,
    interpolations: tuple[str, ...] = (),
) -> VarianceModel:
    """Estimate where a run fluctuates on the high-resolution grid, or reuse prior SD maps.

    Fluctuations that follow head motion are regressed out, and outlier volumes are not used.

    `preproc` is motion-corrected on its acquired grid. `calibration` is a short high-resolution
    run whose fluctuations are used; None if there is none. `interpolations` are also tested at
    half the resolution.
    """
    from threadpoolctl import threadpool_limits

    from bids_sr.sr.prior_maps.run_data import run_data

    request = request_model(training, run.factor)
    variance_recipe = request.variance
    assert variance_recipe is not None, f"{training.method} does not use prior SD maps"
    with (
        threadpool_limits(training.omp_nthreads),
        open_uncompressed(preproc.path, here) as reader,
    ):
        estimation_data = run_data(
            reader,
            run.bold_mask.data,
            variance_recipe,
            run.factor,
            n_dummy=n_dummy,
            poses=run.hmc_xfms,
            calibration=get_patterns(calibration),
            outliers=list(reasons_by_volume(run.outliers)),
        )
        files = provide_model(request, estimation_data, here, estimation_data.affine)
        model = load_model(files.model_file)
        self_tests = _collect_self_tests(
            request.definition, model.card, estimation_data, interpolations
        )
    return VarianceModel(
        model_file=files.model_file,
        card_file=files.card_file,
        log_file=files.log_file,
        weight=_compute_prior_sd_map(model, estimation_data),
        self_tests=self_tests,
    )


def provide_model(
    training: ModelRequest,
    data: "ModelData | None",
    here: Path,
    affine: Array | None,
    contrast: str = "bold",
    second_images: TrainingImages = (),
) -> ModelFiles:
    """Make or reuse the requested model, and check that it matches the images.

    `data` is None if an existing model is required. `here` is the folder of the model; checkpoints
    are in a folder next to it. `affine` is the voxel-to-world matrix of the low-resolution images
    (4 x 4, RAS+ mm). If None, the model is not checked. `contrast` is the BIDS suffix of the
    images. `second_images` are images of a held-out pair, whose PSNR is logged.

    Raises `ModelError` if the model does not exist and cannot be made, and `UsageError` if the
    model is for other images.
    """
    from threadpoolctl import threadpool_limits

    from bids_sr.sr.models.model_store import make_or_reuse_model

    with threadpool_limits(training.omp_nthreads):
        model_file, card_file, log_file = make_or_reuse_model(training, data, here, second_images)
    if affine is not None:
        assert training.factor is not None
        check_model(
            read_card(model_file),
            affine,
            contrast,
            training.factor,
            align=training.anat_align,
            scale=training.anat_scale,
            force=training.force,
        )
    return ModelFiles(
        model_file=model_file, card_file=as_artifact(card_file), log_file=as_artifact(log_file)
    )


def _collect_self_tests(
    method: Method, card: ModelCard, data: "RunData", interpolations: tuple[str, ...]
) -> Facts:
    """Return the self-test results of a method and of interpolations, by series."""
    from bids_sr.sr.prior_maps.self_testing import score_interpolation
    from bids_sr.sr.prior_maps.tested_prior import self_test_entry, untested_reason

    method_result: Facts = {
        "reason": "the prior SD maps were estimated from another run, or by an earlier version"
        " of bids-sr"
    }
    if card.data_sha256 == data.checksums() and "tested" in card.held_out:
        method_result = {
            **mapping_entry(card.held_out, "tested"),
            "applied": card.json.get("applied", True),
        }
    results = {series_name(method.name): method_result}
    for name in interpolations:
        try:
            results[name] = self_test_entry(
                score_interpolation(data.make_self_test(), name), data.volumes
            )
        except (SeriesError, ResolutionError) as error:
            results[name] = {"reason": untested_reason(error)}
    return results


def _compute_prior_sd_map(model: LoadedModel, data: "RunData") -> Volume:
    """Return the root of the summed squared maps on the boldref's high-resolution grid."""
    from bids_sr.sr.operators import to_volume
    from bids_sr.sr.prior_maps.add_detail import onto_grid

    shape, affine = hr_grid(data.statistics.mean.shape, data.affine, data.factor)
    # The squares exceed the range of half precision.
    maps = onto_grid(model.generator.get_buffer("weight").float(), shape)
    return Volume(to_volume(maps.square().sum(0).sqrt()), affine)


@step(Stage.TRAINING, makes="holdout", memory=Need(always=0.12, high=0.25))
def score_pair(
    pair: TrainingPair,
    model_file: File,
    *,
    training: TrainingSettings,
    factor: Factor,
) -> Rows:
    """Super-resolve the low-resolution image of a held-out pair, and score the result.

    Baselines are scored in the same way.

    The held-out `pair` is in the frame of its low-resolution image. `model_file` has the weights
    of the network, with the model card in the same folder. The seed of the `training` is the seed
    of the resampling of slices.
    """
    from threadpoolctl import threadpool_limits

    lowres = pair.train_lowres
    image = _make_training_image(pair, factor)
    assert image.gain is not None
    reference = image.gain * pair.train_highres.data
    scale = float(np.percentile(lowres.data[pair.pair_mask.data > 0.5], 99))
    inputs = UpsamplerInputs(
        factor=factor,
        affine=lowres.affine,
        scale=scale,
        device=choose_device(training.device),
        threads=training.omp_nthreads,
    )
    model = load_model(model_file)
    method_series = series_name(training.method)
    scores = {}
    with threadpool_limits(training.omp_nthreads):
        for name in (*VALIDATION_BASELINES, method_series):
            upsampler = make_upsampler(name, inputs, model if name == method_series else None)
            upsampled = upsampler(lowres.data, np.eye(4))
            scores[name] = slice_scores(upsampled, reference, image.mask, data_range=scale)
    return holdout_rows(scores, method_series, seed=training.random_seed)


def _make_training_image(pair: TrainingPair, factor: Factor) -> TrainingImage:
    """Return a pair as an image for training; InvalidInput if its images do not match."""
    return pair_image(
        pair.train_lowres.data,
        pair.train_highres.data,
        np.asarray(pair.pair_mask.data > 0.5),
        pair.train_lowres.affine,
        factor,
    )
