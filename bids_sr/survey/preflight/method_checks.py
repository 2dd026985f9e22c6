"""Rules on methods and model cards from headers: slices, patches and factors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bids_sr.config import Settings, SuperRes
from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor, highres_size
from bids_sr.io.notices import Notice, UsageError
from bids_sr.sr.method import get_method, get_recipe
from bids_sr.sr.models.card import ModelError, read_card
from bids_sr.sr.models.compatibility import check_model
from bids_sr.sr.recipe_changes import change_recipe, select_changes
from bids_sr.survey.bids.inputs import BoldRun, Subject
from bids_sr.survey.bids.method_options import unavailable_reason
from bids_sr.survey.bids.pretrained_models import find_pretrained, method_of_model
from bids_sr.survey.notices import attribute, problem


def judge_methods(settings: Settings, subjects: Sequence[Subject]) -> Iterator[Notice]:
    """Reject methods that cannot process the runs, and models trained on other images."""
    superres = settings.superres
    if not superres.learned:
        return
    runs = [run for subject in subjects for run in subject.runs]
    problems = [
        problem for run in runs for problem in attribute(_judge_slices(superres, run), *run.owner)
    ]
    yield from problems
    if problems:
        return
    files = [
        file
        for file in superres.pretrained
        if file.is_file() and method_of_model(file) in superres.learned
    ]
    for run in runs:
        for file in files:
            source = f"{run.bold} with --pretrained {file}"
            card = judge_card(file, run.affine, "bold", run.factor, source, settings)
            yield from attribute(card, *run.owner)
        if superres.model_source != "reuse":
            yield from attribute(_judge_patches(settings, run), *run.owner)


def _judge_slices(superres: SuperRes, run: BoldRun) -> Iterator[Notice]:
    """Reject runs with a single slice that methods cannot process.

    3D methods require several slices, and so does the training of networks (for held-out slices).
    Slice-wise methods that are trained on the run, or have a given model, process single slices.
    """
    if run.shape[2] > 1:
        return
    for name in superres.learned:
        if unavailable_reason(name, run, superres):
            continue
        ndim = get_method(name).ndim
        needs_training = (
            name not in superres.run_trained and find_pretrained(superres, name) is None
        )
        if ndim == 2 and not needs_training:
            continue
        requirement = "is a 3D method" if ndim == 3 else "requires held-out slices for training"
        yield problem(
            run.bold,
            f"super-resolution by {name} is not possible because the run has a single slice,"
            f" but {name} {requirement}",
            "Use only baselines (--sr-method bspline zerofill), or a slice-wise method with"
            " --pretrained MODEL.",
        )


def judge_card(
    file: Path, affine: Array, contrast: str, factor: Factor, model_text: str, settings: Settings
) -> Iterator[Notice]:
    """Reject a model whose card states that it was trained on different images."""
    try:
        check_model(
            read_card(file),
            affine,
            contrast,
            factor,
            align=None if contrast == "bold" else settings.anat.align,
            scale=None if contrast == "bold" else settings.scaling_of_scans,
            force=settings.superres.force,
        )
    except ModelError:
        return  # reported by `judge_pretrained`
    except UsageError as error:
        notice = error.notice
        yield problem(model_text, f"{notice.what}: {notice.why}", notice.remedy)


def _judge_patches(settings: Settings, run: BoldRun) -> Iterator[Notice]:
    """Reject training patches that are larger in-plane than the images.

    Along the slice axis, patches are reduced to thin slabs automatically.
    """
    superres = settings.superres
    nx, ny, _ = map(highres_size, run.shape, run.factor)
    for name in (*superres.pair_trained, *superres.volume_trained):
        method = get_method(name)
        if superres.recipe not in method.recipes:
            yield problem(
                f"--sr-method {name} --recipe {superres.recipe}",
                f"this training recipe is not available for {name}",
                f"Use --recipe {' or '.join(method.recipes)}.",
            )
            continue
        if unavailable_reason(name, run, superres) or find_pretrained(superres, name) is not None:
            continue  # not trained
        recipe = change_recipe(method, superres.recipe, superres.recipe_changes)
        if recipe.flat_patch is None or recipe.fits(nx, ny):
            continue
        sides = " × ".join(map(str, recipe.flat_patch))
        whole_slice_method = "dcnet" if run.factor[2] == 1 else "tv --recipe fast"
        fix = f"Choose a method that is trained on whole slices ({whole_slice_method})."
        if alternative := _propose_smaller_patch(superres, name, nx, ny):
            fix = f"{fix} Alternatively, use {alternative}."
        yield problem(
            f"{run.bold} with --sr-method {name} --recipe {superres.recipe}",
            f"the training patches of {sides} voxels are larger than the slices of {nx} × {ny}"
            " voxels at the high resolution",
            fix,
        )


def _propose_smaller_patch(superres: SuperRes, name: str, nx: int, ny: int) -> str:
    """Return an option with which patches may fit slices of nx × ny voxels, or ""."""
    changes = select_changes(superres.recipe_changes, name)
    if any(change.field == "patch" for change in changes):
        return f"a smaller patch size for --set {name}.patch"
    method = get_method(name)
    other_recipe = "paper" if superres.recipe == "fast" else "fast"
    if other_recipe in method.recipes and get_recipe(method, other_recipe).fits(nx, ny):
        return f"--recipe {other_recipe}"
    return ""
