"""``bids-sr-models train``: train a method on one or more images, or fine-tune a trained model."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

from bids_sr.cli.console import progress_line
from bids_sr.cli.models.commands import model_files, output_files
from bids_sr.cli.models.commands.options import TrainOptions
from bids_sr.cli.models.commands.training_images import read_images
from bids_sr.config.vgg19_weights import find_vgg19
from bids_sr.io.atomic_files import write_text
from bids_sr.io.grids import Factor
from bids_sr.io.notices import InvalidInput, UsageError
from bids_sr.sr.method import Method, get_method, get_recipe
from bids_sr.sr.models.card import read_card, steps_at_stop
from bids_sr.sr.models.model import LoadedModel, save_model
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.models.training_log import TENSORBOARD, log_tsv
from bids_sr.sr.networks.data.images import TrainingImages
from bids_sr.sr.networks.missing_features import missing_features_notice
from bids_sr.sr.networks.training.trainer import train_network
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.recipe_changes import (
    RecipeChange,
    apply_changes,
    change_of_method,
    check_changes,
    variable_field,
    width_ratio,
)


def train(options: TrainOptions) -> None:
    """Train a model and write it."""
    training = make_request(options)
    images, factor = read_images(options, training)
    training = with_suitable_augmentation(replace(training, factor=factor), images)
    stem = options.out.with_name(options.out.name.removesuffix(".safetensors"))
    output_files.make_folder(stem)
    start_time = time.monotonic()
    work_dir = options.work_dir or stem.with_name(f"{stem.name}.work")
    result = train_network(training, images, work_dir, progress_line())
    write_text(stem.with_name(f"{stem.name}.tsv"), log_tsv(result.log))
    weights, _ = save_model(stem, result.state, result.card)
    stop_text = steps_at_stop(result.card)
    if options.work_dir is None and not stop_text:
        _remove_checkpoints(work_dir)
    minutes = (time.monotonic() - start_time) / 60
    print(
        f"{weights}: trained {training.method} ({training.recipe} recipe) on {len(images)}"
        f" image(s) in {minutes:.1f} min{_format_psnr(weights)}"
    )
    if stop_text:
        print(
            f"Training was stopped by --max-minutes ({stop_text}). Rerun the same command to"
            f" continue training from the checkpoints in {work_dir}."
        )
    print(f"To apply the model: bids-sr-models apply {weights} IMAGE OUT")
    print(f"                or: {_format_run_command(training.definition, weights, factor)}")


def make_request(options: TrainOptions, *, quiet: bool = False) -> ModelRequest:
    """Return the requested training; reject options that contradict each other or the method.

    `quiet` suppresses the notes about weights.
    """
    method = get_method(options.method)
    recipe = find_recipe(method, options.recipe)
    start = None if options.start is None else model_files.open_model(options.start)
    device = model_files.resolve_device_option(options)
    vgg_weights = find_vgg19(method, options.recipe, options.vgg_weights)
    changes = _parse_changes(options, method, has_vgg_weights=vgg_weights is not None)
    _check_options(options, method, apply_changes(recipe, changes), start)
    if not quiet:
        _print_notes(options, method, recipe, start, vgg_weights)
    return ModelRequest(
        method=method.name,
        recipe=options.recipe,
        replacement_recipe=_adapt_recipe(recipe, options),
        recipe_changes=changes,
        random_seed=options.seed,
        omp_nthreads=options.threads,
        device=device,
        max_train_minutes=options.max_minutes,
        train_precision=options.train_precision,
        vgg_weights=vgg_weights,
        start_model=start,
    )


def find_recipe(method: Method, name: str) -> Recipe:
    """Return a recipe of a method; reject methods that estimate prior SD maps instead."""
    if method.variance is not None:
        reason = (
            "this method is not trained; it estimates prior SD maps of one run, which"
            " requires a brain mask and head-motion estimates"
        )
        fix = (
            f"use bids-sr ... --sr-method {method.name}, which estimates the prior SD maps"
            " and stores them in sourcedata/models"
        )
        raise UsageError(method.name, reason, fix)
    return get_recipe(method, name)


def _parse_changes(
    options: TrainOptions, method: Method, *, has_vgg_weights: bool
) -> tuple[RecipeChange, ...]:
    """Return the requested changes of the recipe; reject changes that it does not allow."""
    try:
        changes = tuple(change_of_method(text, method.name) for text in options.recipe_changes)
        check_changes(changes, (method.name,), options.recipe, vgg=has_vgg_weights)
    except InvalidInput as error:
        change = error.argument or " ".join(options.recipe_changes)
        raise UsageError(f"--set {change}", error.reason, error.remedy) from None
    return changes


def _check_options(
    options: TrainOptions, method: Method, recipe: Recipe, start: LoadedModel | None
) -> None:
    """Reject missing images, and options that contradict each other or the method."""
    if options.keep_critic and recipe.build_critic is None:
        reason = f"{method.name} with --recipe {options.recipe} is trained without a critic"
        raise UsageError("--keep-critic", reason, "omit this option")
    if options.train_last is not None and start is None:
        raise UsageError(
            "--train-last",
            "the other layers would keep their random initial weights",
            "specify the initial model with --from",
        )
    _check_images(options, method)
    _check_degradation(options, method)
    if start is not None:
        _check_start(options, method, start)
        _check_filters(options, recipe, start)


def _check_images(options: TrainOptions, method: Method) -> None:
    """Reject missing images, and lists of different lengths."""
    if not options.fine and not options.coarse:
        raise UsageError(
            "no images were specified",
            "training requires at least one image",
            "specify --fine FILE ... or --coarse FILE ...",
        )
    if not options.fine and method.needs_pair:
        reason = "this is a supervised method, which requires high-resolution images"
        fix = (
            "specify --fine FILE ..., or choose a method that learns from low-resolution"
            " images only (tv or dip)"
        )
        raise UsageError(f"{method.name} requires --fine", reason, fix)
    n_images = len(options.fine or options.coarse)
    image_type = "high-resolution images" if options.fine else "images"
    for name, files in (("coarse", options.coarse), ("mask", options.mask)):
        if files and len(files) != n_images:
            raise UsageError(
                f"--{name}: {len(files)} file(s)",
                f"{n_images} {image_type} were specified",
                f"specify one file per image in the same order, or omit --{name}",
            )


def _check_degradation(options: TrainOptions, method: Method) -> None:
    """Reject a degradation that does not suit the method, or is not used."""
    if options.degradation not in (None, "kspace") and method.trained_on == "pair":
        option = f"--degradation {options.degradation}"
        reason = f"{method.name} is trained on images with truncated k-space"
        raise UsageError(
            option, reason, "omit this option, or specify measured images with --coarse"
        )
    if options.coarse and options.degradation and options.fine:
        raise UsageError(
            "--degradation",
            "no low-resolution images are simulated because measured images were specified"
            " with --coarse",
            "omit one of the two options",
        )


def _check_start(options: TrainOptions, method: Method, start: LoadedModel) -> None:
    """Reject an initial model of another method or recipe."""
    if start.card.method != method.name:
        reason = f"the model was trained with {start.card.method}, not with {method.name}"
        fix = f"train {start.card.method}, or omit --from"
        raise UsageError(f"--from {options.start}", reason, fix)
    if start.card.recipe != options.recipe:
        reason = f"the model specified with --from has the network of --recipe {start.card.recipe}"
        raise UsageError(f"--recipe {options.recipe}", reason, f"use --recipe {start.card.recipe}")


def _check_filters(options: TrainOptions, recipe: Recipe, start: LoadedModel) -> None:
    """Reject an initial model with another number of filters."""
    if not isinstance(start.recipe, Recipe) or width_ratio(start.recipe, recipe) == 1:
        return
    filters = variable_field(start.recipe, "filters", "").default_text
    reason = (
        f"the model has {filters} filters, but the network to be trained has a different"
        " number of filters"
    )
    raise UsageError(f"--from {options.start}", reason, f"use --set filters={filters}")


def _print_notes(
    options: TrainOptions,
    method: Method,
    recipe: Recipe,
    start: LoadedModel | None,
    vgg_weights: Path | None,
) -> None:
    """Print which initial weights are missing, and which VGG-19 weights are used or missing."""
    if start is not None and (missing_networks := _list_missing_networks(recipe, start)):
        print(
            f"Note: {options.start} does not contain weights of {missing_networks}, which are"
            " initialized at random. To store these weights in a model, train the model with"
            " --keep-critic."
        )
    if vgg_weights is not None:
        print(f"VGG-19 features are computed with the weights in {vgg_weights}")
    elif notice := missing_features_notice(method, options.recipe):
        level, notice_text = notice
        print(f"{level.capitalize()}: {method.name} --recipe {options.recipe}: {notice_text}")


def _list_missing_networks(recipe: Recipe, start: LoadedModel) -> str:
    """Return the networks, other than the generator, that an initial model lacks, "" if none."""
    if recipe.build_critic is None or "critic" in start.companions:
        return ""
    return "the backward network and both critics" if recipe.objective == "cycle" else "the critic"


def _adapt_recipe(recipe: Recipe, options: TrainOptions) -> Recipe:
    """Return a recipe with the trained layers, stored critic and degradation of the options."""
    adapted_recipe = recipe
    if options.train_last is not None:
        adapted_recipe = replace(adapted_recipe, freeze_but_last=options.train_last)
    if options.keep_critic:
        adapted_recipe = replace(adapted_recipe, keep_critic=True)
    if options.degradation is not None:
        adapted_recipe = replace(adapted_recipe, degradation=options.degradation)
    return adapted_recipe


def with_suitable_augmentation(
    training: ModelRequest, images: TrainingImages, *, quiet: bool = False
) -> ModelRequest:
    """Return the training with suitable data augmentation; reject images smaller than a patch.

    `quiet` suppresses the note about augmentation.
    """
    _check_image_sizes(training, images)
    recipe = training.effective_recipe
    has_variation = len(images) > 1 or training.start_model is not None
    if not (recipe.augmentation.of_whole_slices and has_variation):
        return training
    # several images provide variation themselves; exponents and noise made the network less
    # accurate in this case
    if not quiet:
        print(
            f"Note: {training.method} uses only flips and intensity scaling for data"
            " augmentation if it is trained on several images or from an initial model"
        )
    augmentation = replace(recipe.augmentation, shift=0.0, gamma=0.0, noise=0.0)
    return replace(training, replacement_recipe=replace(recipe, augmentation=augmentation))


def _check_image_sizes(training: ModelRequest, images: TrainingImages) -> None:
    """Reject images whose slices are smaller than a training patch."""
    assert training.factor is not None
    recipe = training.effective_recipe
    for image in images:
        in_plane_factor = (1.0, 1.0) if image.fine is not None else training.factor[:2]
        x, y = (
            int(size * ratio + 0.5)
            for size, ratio in zip(image.shape[:2], in_plane_factor, strict=True)
        )
        if recipe.fits(x, y):
            continue
        suitable_recipes = [
            name
            for name, other_recipe in training.definition.recipes.items()
            if other_recipe.fits(x, y)
        ]
        fix = (
            f"use larger images, or --recipe {suitable_recipes[0]}"
            if suitable_recipes
            else "use larger images, or the fast recipes of srgan or unet, which are trained"
            " on whole slices"
        )
        patch_text = " x ".join(map(str, recipe.flat_patch or ()))
        raise UsageError(
            f"{image.name}",
            f"the training patches of {patch_text} voxels are larger than the slices of"
            f" {x} x {y} voxels",
            fix,
        )


def _remove_checkpoints(work_dir: Path) -> None:
    """Remove the working files of a completed training, except for TensorBoard files."""
    if not (work_dir / TENSORBOARD).is_dir():
        shutil.rmtree(work_dir, ignore_errors=True)
        return
    for path in work_dir.iterdir():
        if path.is_dir() and path.name != TENSORBOARD:
            shutil.rmtree(path, ignore_errors=True)
        elif path.is_file():
            path.unlink()


def _format_psnr(weights: Path) -> str:
    """Return the held-out PSNR of model and interpolation from the card, as text."""
    scores = [f"{name} {psnr:.2f} dB" for name, psnr in read_card(weights).psnr.items()]
    return f"; held-out PSNR: {', '.join(scores)}" if scores else ""


def _format_run_command(method: Method, weights: Path, factor: Factor) -> str:
    """Return the command that applies a model to a BIDS data set.

    The factor is the factor of the model; a single number applies in-plane.
    """
    x, y, z = factor
    factor_text = f"{x:g}" if x == y and z == 1 else f"{x:g} {y:g} {z:g}"
    return (
        f"bids-sr ... --sr-method {method.name} --pretrained {weights} --sr-factor {factor_text}"
    )
