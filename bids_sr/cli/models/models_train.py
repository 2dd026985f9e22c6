"""``bids-sr-models train``: one method on one or many images, or a trained model adapted to a few."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bids_sr.cli.models import models_files as files
from bids_sr.cli.models.models_apply import IN_PLANE, factor_between
from bids_sr.config import UsageError, nearest_name
from bids_sr.io.atomic_files import write_whole
from bids_sr.io.nifti import SeriesReader
from bids_sr.sr.method import Method, get_method, get_recipe, offered_methods, recipe_name
from bids_sr.sr.models.model import save_model
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.training.checkpoint import log_tsv
from bids_sr.sr.training.job import Training

if TYPE_CHECKING:
    from bids_sr.sr.data.images import ImageSet, TrainingImage
    from bids_sr.sr.data.training_pair import TrainingPair
    from bids_sr.sr.models.model import LoadedModel, TrainedModel
    from bids_sr.sr.resolution.matrices import Factor

Array = NDArray[Any]


def train(options: argparse.Namespace) -> None:
    """Train a model and write it."""
    method = _method(options.method)
    options.recipe = recipe_name(method, options.recipe)
    start = None if options.start is None else files.open_model(options.start)
    _check(options, method, start)
    stem = options.out.with_name(options.out.name.removesuffix(".safetensors"))
    recipe = _recipe(options, method, start)
    factor = _factor(options, method, start)
    device = files.threads_and_device(options.threads, options.device)
    images = _images(options, factor)
    images.check(factor, method.ndim)
    _check_patch(recipe, images, factor, method)
    files.make_folder(stem)
    began = time.monotonic()
    training = Training(
        method=method, recipe=options.recipe, changed=recipe, factor=factor, seed=options.seed, threads=options.threads,
        device=device, max_train_minutes=options.max_minutes, vgg_weights=options.vgg_weights, start=start,
    )  # fmt: skip
    model = _fitted(training, images, factor, options.work_dir or stem.with_name(f"{stem.name}.work"))
    card = json.loads(json.dumps(dict(model.card)))
    write_whole(stem.with_name(f"{stem.name}.tsv"), log_tsv(model.log))
    weights, _ = save_model(stem, model.state, card)
    if options.work_dir is None:
        shutil.rmtree(stem.with_name(f"{stem.name}.work"), ignore_errors=True)  # its checkpoints have served
    print(f"{weights}: {method.name} ({options.recipe}) on {len(images.images)} image(s), "
          f"{(time.monotonic() - began) / 60:.1f} min{_reached(card)}")  # fmt: skip
    print(f"use it: bids-sr-models apply {weights} IMAGE OUT")
    print(f"        bids-sr ... --sr-method {method.name} --pretrained {weights}")


def _fitted(training: Training, images: ImageSet, factor: Factor, work_dir: Path) -> TrainedModel:
    """Train on the images, or on the one there is as a pair where the method learns from a pair."""
    from bids_sr.sr.training.trainer import fit

    method, recipe = training.method, training.how
    if method.trained_on == "pair" and training.start is None and len(images.images) == 1:
        return fit(training, _pair(images.images[0], factor), work_dir, _Bar())
    vary = recipe.augmentation
    if method.trained_on == "pair" and (vary.shift, vary.gamma, vary.noise) != (0.0, 0.0, 0.0):
        print(f"note: with several images, or from a model, {method.name} varies them by flips and gain alone")
        recipe = replace(recipe, augmentation=replace(vary, shift=0.0, gamma=0.0, noise=0.0))
    return fit(replace(training, changed=recipe), images, work_dir, _Bar())


def _pair(image: TrainingImage, factor: Factor) -> TrainingPair:
    """One image as a pair; its low-resolution member is made by cropping k-space where none was measured."""
    from bids_sr.sr.data.training_pair import TrainingPair
    from bids_sr.sr.resolution.matrices import block_mean, highres_size, kspace_crop

    assert image.fine is not None
    made, affine = kspace_crop(image.fine, image.affine, factor=factor)
    seen, _ = block_mean(image.mask.astype(np.float32), image.affine, factor=factor)
    lowres = made if image.coarse is None else image.coarse
    sizes = [(n, highres_size(m, f)) for n, m, f in zip(image.fine.shape, lowres.shape, factor, strict=True)]
    x, y, z = (slice((n - m) // 2, (n - m) // 2 + m) for n, m in sizes)
    return TrainingPair(
        lowres=lowres.astype(np.float32), highres=image.fine[x, y, z], mask=seen > 0.5, lowres_affine=affine,
        factor=factor, contrast=image.contrast,
    )  # fmt: skip


def _method(name: str) -> Method:
    """The method of that name, or what is nearest to it."""
    known = offered_methods()
    if name not in known:
        fix = nearest_name(name, known) or "choose one of these"
        raise UsageError(f"no method is called {name!r}", f"there are {', '.join(known)}", fix)
    method = get_method(name)
    if method.trained_on == "series":
        why = "nothing is trained: its variance maps are those of one run, and need its brain and head motion"
        fix = f"use bids-sr ... --sr-method {name}, which finds them and keeps them in sourcedata/models"
        raise UsageError(name, why, fix)
    return method


def _check(options: argparse.Namespace, method: Method, start: LoadedModel | None) -> None:
    """Refuse missing images, and options that contradict one another or the method."""
    for name, low in (("volumes", 1), ("train_last", 1), ("seed", 0)):
        value = getattr(options, name)
        if value is not None and value < low:
            raise UsageError(f"--{name.replace('_', '-')} {value}", f"it is at least {low}", "change that number")
    if options.max_minutes is not None and not options.max_minutes > 0:
        raise UsageError(f"--max-minutes {options.max_minutes}", "it is a positive number", "change that number")
    if options.train_last is not None and start is None:
        raise UsageError("--train-last", "the other layers would keep random weights", "give a model with --from")
    if start is not None and start.card.method != method.name:
        why, fix = f"it is a model of {start.card.method}, not of {method.name}", f"train {start.card.method}"
        raise UsageError(f"--from {options.start}", why, f"{fix}, or leave --from out")
    if not options.fine and not options.coarse:
        raise UsageError("no image", "training needs at least one", "give --fine FILE ..., or --coarse FILE ...")
    if not options.fine and method.needs_pair:
        why = "it is supervised: it needs images at the high resolution"
        fix = "give --fine FILE ..., or train a method that learns from coarse images alone: tv or dip"
        raise UsageError(f"{method.name} without --fine", why, fix)
    lead, kind = (options.fine, "fine images") if options.fine else (options.coarse, "images")
    contrasts = sorted({files.contrast_of(file, options.contrast) for file in lead})
    if len(contrasts) > 1:
        fix = "train one model for each; several contrasts at once: bids-sr ... --sr-target anat --sr-method attunet"
        raise UsageError(f"images of {' and '.join(contrasts)}", "a model trained here takes one contrast", fix)
    for name in ("coarse", "mask"):
        given = getattr(options, name)
        if given and len(given) != len(lead):
            fix = f"give one for each, in their order, or leave --{name} out"
            raise UsageError(f"--{name}: {len(given)} file(s)", f"there are {len(lead)} {kind}", fix)
    if options.degradation not in (None, "kspace") and method.trained_on == "pair":
        what, why = f"--degradation {options.degradation}", f"{method.name} is trained on images with k-space cropped"
        raise UsageError(what, why, "leave it out, or give measured images with --coarse")
    if options.coarse and options.degradation and options.fine:
        raise UsageError("--degradation", "coarse images are given, so none are made", "leave one of the two out")
    if options.vgg_weights is not None and options.vgg_weights.suffix != ".safetensors":
        why = "a file of torch.save may hold a program and is not opened"
        raise UsageError(f"{options.vgg_weights}", why, "convert it to .safetensors (docs/usage.md)")


def _recipe(options: argparse.Namespace, method: Method, start: LoadedModel | None) -> Recipe:
    """The recipe with what the command line changes."""
    if start is not None and start.card.recipe != options.recipe:
        own = start.card.recipe
        why = f"the model to begin with has the network of {own}"
        raise UsageError(f"--recipe {options.recipe}", why, f"give --recipe {own}")
    recipe = get_recipe(method, options.recipe)
    if recipe.needs_vgg and options.vgg_weights is None:
        why = "as published it is taught by features of VGG-19, and there are no weights of that network"
        fix = "give them with --vgg-weights, or take --recipe paper-mse, which has squared error in their place"
        raise UsageError(f"{method.name} --recipe {options.recipe}", why, fix)
    if options.train_last is not None:
        recipe = replace(recipe, freeze_but_last=options.train_last)
    return recipe if options.degradation is None else replace(recipe, degradation=options.degradation)


def _factor(options: argparse.Namespace, method: Method, start: LoadedModel | None) -> Factor:
    """The factor: of measured pairs where there are some, else as asked, else the model's, else 2 (in plane, in 2D)."""
    default: Factor = IN_PLANE if method.ndim == 2 else (2.0, 2.0, 2.0)
    default = default if start is None else start.card.factor
    if options.fine and options.coarse:
        found = set()
        for fine, coarse in zip(options.fine, options.coarse, strict=True):
            with SeriesReader(coarse) as low, SeriesReader(fine) as high:
                found.add(factor_between(low, high, options))
        if len(found) > 1:
            why = f"the pairs stand in different ratios: {sorted(found)}"
            raise UsageError("--fine and --coarse", why, "train one model for each ratio")
        factor = found.pop()
    else:
        factor = files.factor_from(options.factor, default)
    if method.ndim == 2 and factor[2] != 1:
        why = f"{method.name} works slice by slice and cannot make slices thinner"
        raise UsageError(f"factor {factor}", why, "give images with slices of one thickness, or a 3D method")
    other = any(abs(a - b) > 1e-6 for a, b in zip(factor, default, strict=True))
    if start is not None and not start.recipe.factors and other:
        why = f"the model to begin with was trained for {default}"
        raise UsageError(f"factor {factor}", why, "leave --from out, or bring the images to its factor")
    return factor


def _images(options: argparse.Namespace, factor: Factor) -> ImageSet:
    """All images with their brains; random volumes of series, drawn with the seed."""
    from bids_sr.sr.data.images import ImageSet

    rng = np.random.default_rng(options.seed)
    lead = options.fine or options.coarse
    found: list[TrainingImage] = []
    for number, file in enumerate(lead):
        mask = options.mask[number] if options.mask else None
        other = options.coarse[number] if options.fine and options.coarse else None
        with SeriesReader(file) as reader:
            scene = files.scene_of(reader, mask)
            if scene.note:
                print(f"note: {scene.note}")
            name = files.stem_of(file)
            name = name if [each.name for each in lead].count(file.name) == 1 else f"{number + 1}-{name}"
            found += _volumes(reader, scene, name, options, other, rng)
    return ImageSet(images=tuple(found))


def _volumes(
    reader: SeriesReader, scene: files.Scene, name: str, options: argparse.Namespace, other: Path | None,
    rng: np.random.Generator,
) -> Iterator[TrainingImage]:  # fmt: skip
    """An image, or some of the volumes of a series, as training images."""
    from bids_sr.sr.data.images import TrainingImage

    count = reader.shape[3]
    picked = sorted(int(t) for t in rng.choice(count, min(count, options.volumes), replace=False))
    coarse: dict[int, Array] = {}
    if other is not None:
        with SeriesReader(other) as low:
            if low.shape[3] != count:
                raise UsageError(f"{other}", f"{low.shape[3]} volumes, its fine image has {count}", "give the same run")
            coarse = {t: low.volume(t) for t in picked}
    for t in picked:
        volume = reader.volume(t)
        yield TrainingImage(
            fine=volume if options.fine else None, coarse=coarse.get(t) if options.fine else volume, mask=scene.mask,
            affine=reader.affine, contrast=files.contrast_of(reader.path, options.contrast),
            name=name if count == 1 else f"{name}-{t}",
        )  # fmt: skip


def _check_patch(recipe: Recipe, images: ImageSet, factor: Factor, method: Method) -> None:
    """Refuse a patch that is larger in plane than an image; thin slabs cut it down."""
    sides = _sides(recipe, method)
    for image in images.images:
        fine = image.shape if image.fine is not None else [n * f for n, f in zip(image.shape, factor, strict=True)]
        shape = [int(n + 0.5) for n in fine[:2]]
        if not _fit(sides, shape):
            want, have = (" x ".join(map(str, each)) for each in (sides[:2], shape))
            serve = [name for name, other in method.recipes.items() if _fit(_sides(other, method), shape)]
            instead = f"--recipe {serve[0]}" if serve else "srgan or unet, whose fast recipes are trained on"
            fix = f"take larger images, or {instead if serve else f'{instead} whole slices'}"
            raise UsageError(f"{image.name}", f"patches of {want} voxels do not fit into its slices of {have}", fix)


def _sides(recipe: Recipe, method: Method) -> tuple[int, ...]:
    """Sides of the training patches (fine voxels); none where images of any size serve."""
    patch = () if recipe.patch_at_most else recipe.patch or ()
    return (patch,) * method.ndim if isinstance(patch, int) else patch


def _fit(sides: tuple[int, ...], shape: list[int]) -> bool:
    return all(side <= n for side, n in zip(sides, shape, strict=False))


def _reached(card: dict[str, Any]) -> str:
    """Held-out PSNR of the model and of plain interpolation."""
    scores = card.get("held_out", {})
    found = [
        f"{name} {scores[name]['psnr']:.2f} dB"
        for name in ("network", "input", "bspline", "zerofill")
        if isinstance(scores.get(name), dict) and "psnr" in scores[name]
    ]
    return f"; held-out PSNR: {', '.join(found)}" if found else ""


class _Bar:
    """A line of progress on a terminal, one line a minute elsewhere."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, phase: str, iteration: int, iterations: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{phase} {iteration}/{iterations}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._last > 60:
            self._last = time.monotonic()
            print(f"{phase} {iteration}/{iterations}", file=sys.stderr, flush=True)
