"""``bids-sr-models compare``: train methods on some participants, test on others.

Participants are split once or in k-fold cross-validation. Models and scores are saved after each
step, so that the same command resumes a stopped comparison with identical tables.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np

from bids_sr.cli.console import progress_line
from bids_sr.config import UsageError, suggest_name
from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.io.atomic_files import read_json, read_text
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.model_commands.cli import output_files
from bids_sr.model_commands.cli.channels import (
    ScannedHead,
    check_fusing,
    group_by_head,
    score_heads,
)
from bids_sr.model_commands.cli.evaluate import find_participant, measure_task, prepare_tasks
from bids_sr.model_commands.cli.options import CompareOptions, ModelEvaluationOptions
from bids_sr.model_commands.cli.score_tables import (
    SCORES,
    cell_text,
    compare_rows,
    explain_missing_tests,
    write_table,
)
from bids_sr.model_commands.cli.train import make_request, with_suitable_augmentation
from bids_sr.model_commands.cli.training_images import read_images
from bids_sr.model_commands.method_scores import ScoreRow
from bids_sr.model_commands.participant_splits import (
    ParticipantSplit,
    SplitError,
    make_folds,
    split_at_random,
    split_by_names,
)
from bids_sr.networks import (
    SAME_GRID,
    TrainingImage,
    TrainingImages,
    check_images,
    checksums,
    train_network,
)
from bids_sr.sr.method import method_names_without_controls
from bids_sr.sr.models.card import ModelError
from bids_sr.sr.models.model import load_model, save_model
from bids_sr.sr.models.request import TrainingRequest


@frozen
class _Candidate:
    """Method to train, at the resolution of the images or a lower resolution.

    `coarser` is the voxel size of the training images relative to the images of the call.
    """

    name: str
    training: TrainingRequest
    coarser: float


@frozen
class _ComparedModels:
    """Images of all participants, and the methods trained on them.

    `images` and `people` (participants) are in the order of the files. With several contrasts as
    channels, both are in the order of `heads`, which contain the files.
    """

    candidates: tuple[_Candidate, ...]
    people: tuple[str, ...]
    images: tuple[TrainingImages, ...]
    factor: Factor
    degradation: str | None  # degradation of test images; None for measured low-resolution images
    folds: tuple[ParticipantSplit, ...]
    heads: tuple[ScannedHead, ...] = ()


def compare(options: CompareOptions) -> None:
    """Train all methods in all folds, score them on the test sets, and compare them."""
    study = _prepare(options)
    out = options.out.with_name(f"{options.out.name.removesuffix('.tsv')}.tsv")
    conditions = _describe_conditions(study, options)
    rows = _rows_so_far(out, conditions)
    _print_plan(study, options)
    if options.dry_run:
        return
    output_files.make_folder(out)
    if not rows:
        write_table(out, "models_compare", [], {"Comparison": conditions})
    models = out.with_name(f"{out.stem}_models")
    for number, fold in enumerate(study.folds, 1):
        if any(row["fold"] == str(number) for row in rows):
            print(f"Fold {number} of {len(study.folds)} was already completed")
            continue
        trained = {
            candidate.name: _train(
                candidate, study, fold, models / f"fold-{number}_{candidate.name}", options
            )
            for candidate in study.candidates
        }
        rows += [
            {"set": set_name, "fold": str(number), **row}
            for set_name, people in (("validation", fold.validation), ("test", fold.test))
            for row in _score(trained, study, people, options, models)
        ]
        write_table(out, "models_compare", rows, {"Comparison": conditions})
        # read back, so that numbers are rounded as in a resumed comparison
        rows = _rows_so_far(out, conditions)
        print(f"Fold {number} of {len(study.folds)}: models were tested on {' '.join(fold.test)}")
    names = [candidate.name for candidate in study.candidates]
    test_rows = [row for row in rows if row["set"] == "test"]
    print(f"{out}: scores on the test sets")
    compare_rows(test_rows, names, {}, out)
    if reason := explain_missing_tests({str(row["participant"]) for row in test_rows}):
        print(f"Note: {reason}")
    print(f"Trained models: {models}")


def _prepare(options: CompareOptions) -> _ComparedModels:
    """Read the images and check all training requests; reject invalid comparisons."""
    candidates = _candidates(options)
    references = options.fine
    if not references:
        reason = "methods are tested by comparison with high-resolution images"
        raise UsageError(
            "compare requires --fine",
            reason,
            "specify the high-resolution images with --fine FILE ...",
        )
    if options.channels:
        return _check_study(_prepare_channels(options, candidates))
    people = tuple(find_participant(path) for path in references)
    folds = _folds(options, list(dict.fromkeys(people)))
    first_training = candidates[0].training
    images = list[TrainingImages]()
    factors = set[Factor]()
    for number, path in enumerate(references):
        file_options = replace(
            options,
            fine=(path,),
            coarse=options.coarse[number : number + 1],
            mask=options.mask[number : number + 1],
        )
        file_images, factor = read_images(file_options, first_training)
        has_duplicates = [other_path.name for other_path in references].count(path.name) > 1
        images.append(
            tuple(
                replace(image, name=f"{number + 1}-{image.name}") if has_duplicates else image
                for image in file_images
            )
        )
        factors.add(factor)
    if len(factors) > 1:
        reason = f"the image pairs have different super-resolution factors: {sorted(factors)}"
        raise UsageError(
            "--fine and --coarse", reason, "compare only image pairs with the same factor"
        )
    factor = factors.pop()
    study = _ComparedModels(
        candidates=tuple(
            replace(candidate, training=replace(candidate.training, factor=factor))
            for candidate in candidates
        ),
        people=people,
        images=tuple(images),
        factor=factor,
        degradation=None if options.coarse else _degradation(options, candidates),
        folds=tuple(folds),
    )
    return _check_study(study)


def _prepare_channels(
    options: CompareOptions, candidates: Sequence[_Candidate]
) -> _ComparedModels:
    """Read the scans of all heads, with contrasts as channels on the high-resolution grid."""
    check_fusing([candidate.training.definition for candidate in candidates])
    heads = group_by_head(options)
    people = tuple(head.participant for head in heads)
    folds = _folds(options, list(dict.fromkeys(people)))
    mask_of = dict(zip(options.fine, options.mask, strict=False))
    return _ComparedModels(
        candidates=tuple(
            replace(candidate, training=replace(candidate.training, factor=SAME_GRID))
            for candidate in candidates
        ),
        people=people,
        images=tuple((head.read(options.channels, mask_of.get(head.fine[0])),) for head in heads),
        factor=SAME_GRID,
        degradation=None,
        folds=tuple(folds),
        heads=tuple(heads),
    )


def _check_study(study: _ComparedModels) -> _ComparedModels:
    """Check that all training requests fit the images of a study, and return the study."""
    for candidate in study.candidates:
        images = _training_images(candidate, study, study.folds[0])
        recipe, ndim = candidate.training.effective_recipe, candidate.training.definition.ndim
        check_images(images, recipe, study.factor, ndim)
        with_suitable_augmentation(candidate.training, images, quiet=True)
    return study


def _candidates(options: CompareOptions) -> list[_Candidate]:
    """Return the candidates: each method at each training resolution."""
    names = [name for name in options.method.split(",") if name]
    for name in names:
        if name not in method_names_without_controls():
            fix = suggest_name(name, method_names_without_controls()) or (
                "run bids-sr-models list for the available methods"
            )
            raise UsageError(name, "unknown method", fix)
    for change in options.recipe_changes:
        method, dot, _ = change.partition("=")[0].partition(".")
        if dot and method not in names:
            fix = (
                f"use one of {' '.join(names)}, or omit the method name to apply the setting"
                " to all methods"
            )
            raise UsageError(
                f"--set {change}", f"{method} is not one of the compared methods", fix
            )
    candidates = list[_Candidate]()
    for name in dict.fromkeys(names):
        changes = tuple(
            change
            for change in options.recipe_changes
            if "." not in change.partition("=")[0] or change.startswith(f"{name}.")
        )
        training = make_request(replace(options, method=name, recipe_changes=changes))
        candidates += [
            _Candidate(
                name=name if coarser == 1 else f"{name}-at-{coarser:g}x",
                training=training,
                coarser=coarser,
            )
            for coarser in dict.fromkeys(options.train_coarser)
        ]
    return candidates


def _folds(options: CompareOptions, participants: list[str]) -> list[ParticipantSplit]:
    """Return the split or folds that the options request."""
    labels = [
        tuple(
            name if name in participants else f"sub-{name.removeprefix('sub-')}"
            for name in requested
        )
        for requested in (options.validate_on, options.test_on)
    ]
    try:
        if options.folds is not None:
            return make_folds(participants, options.folds, options.validation, options.seed)
        if options.split:
            return [split_at_random(participants, options.split, options.seed)]
        return [split_by_names(participants, *labels)]
    except SplitError as error:
        flag = "--folds" if options.folds is not None else "--split"
        flag = flag if options.folds is not None or options.split else "--test-on"
        raise UsageError(flag, error.why, error.remedy) from None


def _degradation(options: CompareOptions, candidates: Sequence[_Candidate]) -> str:
    """Return the degradation for the test images, which must be the same for all methods."""
    names = {candidate.training.effective_recipe.degradation for candidate in candidates}
    if len(names) > 1:
        by_method = ", ".join(
            f"{candidate.name} {candidate.training.effective_recipe.degradation}"
            for candidate in candidates
        )
        reason = f"the recipes of the methods use different degradations ({by_method})"
        raise UsageError("--degradation", reason, "choose one degradation for all methods")
    return names.pop()


def _training_images(
    candidate: _Candidate, study: _ComparedModels, fold: ParticipantSplit
) -> TrainingImages:
    """Return the training images of a candidate, with marked validation images.

    Recipes without held-out data do not use the validation participants.
    """
    validates = bool(candidate.training.effective_recipe.hold_out)
    return tuple(
        _reduce_resolution(
            replace(image, validation=participant in fold.validation), candidate, study
        )
        for participant, images in zip(study.people, study.images, strict=True)
        for image in images
        if participant in fold.train or (validates and participant in fold.validation)
    )


def _reduce_resolution(
    image: TrainingImage, candidate: _Candidate, study: _ComparedModels
) -> TrainingImage:
    """Return an image at the training resolution of a candidate."""
    if candidate.coarser == 1 or image.fine is None or study.degradation is None:
        return image
    (fine, inside), affine = _downsample(
        (image.fine, image.mask > 0), image.affine, candidate.coarser, study
    )
    return replace(image, fine=fine.astype(np.float32), mask=inside > 0.5, affine=affine)


def _downsample(
    images: Sequence[Array], affine: Array, coarser: float, study: _ComparedModels
) -> tuple[list[Array], Array]:
    """Return images (X, Y, Z) of the same grid at a lower resolution, and their affine.

    `coarser` is the voxel size relative to the images, along the axes with a factor other than 1.
    """
    import torch

    from bids_sr.sr.operators import get_operator

    x, y, z = (coarser if axis_factor != 1 else 1.0 for axis_factor in study.factor)
    assert study.degradation is not None
    operator = get_operator(study.degradation, tuple(images[0].shape), (x, y, z))
    low = [
        operator.forward(torch.from_numpy(np.asarray(image, np.float64))).numpy()
        for image in images
    ]
    return low, operator.lowres_affine(affine)


def _reference(number: int, study: _ComparedModels, options: CompareOptions, folder: Path) -> Path:
    """Return the reference file of a test, downsampled if requested.

    `number` is the position of the file in the call, `folder` the directory of the models.
    """
    path = options.fine[number]
    if options.test_coarser == 1:
        return path
    # the folder identifies the participant if the file name does not
    name = f"{output_files.image_stem(path)}.nii.gz"
    out = (
        folder / f"tests-at-{options.test_coarser:g}x" / study.people[number] / str(number) / name
    )
    if not out.exists():
        with SeriesReader(path) as reader:
            low, affine = _downsample(
                list(reader.volumes()), reader.affine, options.test_coarser, study
            )
            image = low[0] if reader.ndim == 3 else np.stack(low, axis=-1)
            output_files.make_folder(out)
            tr = None if reader.ndim == 3 else reader.tr
            save_image(image.astype(np.float32), affine, out, header_like=reader.header, tr=tr)
    return out


def _train(
    candidate: _Candidate,
    study: _ComparedModels,
    fold: ParticipantSplit,
    stem: Path,
    options: CompareOptions,
) -> Path:
    """Train a method in a fold, or return its model if it already exists."""
    weights = stem.with_name(f"{stem.name}.safetensors")
    if weights.exists():
        try:
            load_model(weights)
        except ModelError:  # the run was stopped before its card was written
            weights.unlink()
        else:
            print(f"{weights}: already trained")
            return weights
    output_files.make_folder(stem)
    work = (options.work_dir or stem.parent) / f"{stem.name}.work"
    images = _training_images(candidate, study, fold)
    result = train_network(
        with_suitable_augmentation(candidate.training, images, quiet=True),
        images,
        work,
        progress_line(),
    )
    save_model(stem, result.state, result.card)
    shutil.rmtree(work, ignore_errors=True)  # the checkpoints are no longer needed
    print(f"{weights}: {candidate.name} trained on {len(images)} image(s)")
    return weights


def _score(
    trained: Mapping[str, Path],
    study: _ComparedModels,
    people: Sequence[str],
    options: CompareOptions,
    folder: Path,
) -> list[ScoreRow]:
    """Return the scores of all models and interpolations for some participants.

    Downsampled references are stored in `folder`, the directory of the models.
    """
    indices = [index for index, participant in enumerate(study.people) if participant in people]
    if not indices:
        return []
    if study.heads:
        heads = [(study.heads[index], study.images[index][0]) for index in indices]
        return list(score_heads(trained, heads, options))
    mismatched = any(candidate.coarser != options.test_coarser for candidate in study.candidates)
    evaluation = ModelEvaluationOptions(
        reference=tuple(_reference(index, study, options, folder) for index in indices),
        image=tuple(options.coarse[index] for index in indices) if options.coarse else (),
        degradation=study.degradation,  # type: ignore[arg-type]  # checked as an option
        model=tuple(map(str, trained.values())),
        factor=() if options.coarse else study.factor,
        threads=options.threads,
        device=options.device,
        contrast=options.contrast,
        volumes=options.volumes,
        allow=("resolution",) if mismatched else (),
    )
    rows = list[ScoreRow]()
    with ExitStack() as stack:
        for task in prepare_tasks(
            evaluation, stack, labels={str(path): name for name, path in trained.items()}
        ):
            rows += measure_task(task, draw=False)[0].rows
    return [{**row, **{name: cell_text(row[name]) for name in SCORES}} for row in rows]


def _rows_so_far(out: Path, conditions: Mapping[str, object]) -> list[ScoreRow]:
    """Return the rows of completed folds; reject the table of another comparison."""
    sidecar = out.with_suffix(".json")
    models = out.with_name(f"{out.stem}_models")
    if not sidecar.exists():
        if out.exists() or any(models.glob("*.safetensors")):
            _refuse_other(out, models)
        return []
    if read_json(sidecar).get("Comparison") != json.loads(json.dumps(conditions)):
        _refuse_other(sidecar, models)
    if not out.exists():
        return []
    head, *lines = (line.split("\t") for line in read_text(out).splitlines())
    return [dict(zip(head, cells, strict=True)) for cells in lines]


def _refuse_other(file: Path, models: Path) -> NoReturn:
    """Raise `UsageError` for the table of another comparison."""
    reason = "the file contains the results of a comparison with other images, methods or settings"
    fix = f"choose another OUT, or remove the file and {models}"
    raise UsageError(f"{file}", reason, fix)


def _describe_conditions(study: _ComparedModels, options: CompareOptions) -> dict[str, object]:
    """Return the properties that determine models and scores."""
    text = json.dumps([checksums(images) for images in study.images], sort_keys=True)
    return {
        "Methods": {
            candidate.name: {
                "Recipe": candidate.training.recipe,
                "Settings": candidate.training.changed_settings,
                "TrainedAt": candidate.coarser,
            }
            for candidate in study.candidates
        },
        "Folds": [
            {"Train": fold.train, "Validation": fold.validation, "Test": fold.test}
            for fold in study.folds
        ],
        "RandomSeed": options.seed,
        "Factor": list(study.factor),
        "Degradation": study.degradation or "measured",
        "Images": [str(path) for path in options.fine],
        **({"Channels": list(options.channels)} if options.channels else {}),
        "ImagesSHA256": hashlib.sha256(text.encode()).hexdigest(),
        "Volumes": options.volumes,
        **({"TestedAt": options.test_coarser} if options.test_coarser != 1 else {}),
        "PerceptualWeights": [
            candidate.training.vgg_weights is not None for candidate in study.candidates
        ],
        "Precision": options.train_precision,
        "TrainedLast": options.train_last or 0,
        "StartedFromSHA256": [
            candidate.training.start_checksum or "" for candidate in study.candidates
        ],
    }


def _print_plan(study: _ComparedModels, options: CompareOptions) -> None:
    """Print the sets of each fold and the trained methods."""
    for number, fold in enumerate(study.folds, 1):
        validation = f", validate on {' '.join(fold.validation)}" if fold.validation else ""
        print(
            f"Fold {number} of {len(study.folds)}: train on"
            f" {' '.join(fold.train)}{validation}, test on {' '.join(fold.test)}"
        )
    unused = [
        candidate.name
        for candidate in study.candidates
        if not candidate.training.effective_recipe.hold_out
        and any(other_fold.validation for other_fold in study.folds)
    ]
    if unused:
        print(
            f"Note: the recipe of {' '.join(unused)} does not use held-out data, so the"
            " validation set has no influence on training"
        )
    factor = " x ".join(f"{axis_factor:.4g}" for axis_factor in study.factor)
    count = len(study.folds) * len(study.candidates)
    origin = f"computed with the {study.degradation} degradation"
    print(
        f"{count} training run(s): {' '.join(candidate.name for candidate in study.candidates)};"
        f" super-resolution factor {factor}; low-resolution images"
        f" {origin if study.degradation else 'measured'}"
    )
    if options.test_coarser != 1:
        print(
            f"The test images are downsampled to {options.test_coarser:g} times the voxel"
            " size of the original images"
        )
