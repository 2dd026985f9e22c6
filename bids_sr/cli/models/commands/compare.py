"""``bids-sr-models compare``: train methods or settings on some participants, test on others.

A candidate is a method with one value of each setting. Participants are split once or in k-fold
cross-validation. Models and scores are saved after each step, so that the same command resumes a
stopped comparison with identical tables.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
from nibabel.affines import voxel_sizes

from bids_sr.cli.console import progress_line
from bids_sr.cli.models.candidate_settings import list_trials
from bids_sr.cli.models.commands import image_files as files, output_files
from bids_sr.cli.models.commands.channels import (
    ScannedHead,
    check_fusing,
    group_by_head,
    score_heads,
)
from bids_sr.cli.models.commands.evaluate import find_participant, measure_task, prepare_tasks
from bids_sr.cli.models.commands.options import CompareOptions, ModelEvaluationOptions
from bids_sr.cli.models.commands.score_tables import (
    compare_rows,
    explain_missing_tests,
    write_table,
)
from bids_sr.cli.models.commands.train import find_recipe, make_request, with_suitable_augmentation
from bids_sr.cli.models.commands.training_images import read_images
from bids_sr.cli.models.method_scores import ScoreRow
from bids_sr.config import suggest_name
from bids_sr.evaluation.statistics.participant_splits import (
    ParticipantSplit,
    make_folds,
    split_at_random,
    split_by_names,
)
from bids_sr.io.arrays import Array
from bids_sr.io.atomic_files import read_json, read_text
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor, size_text
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.notices import InvalidInput, UsageError
from bids_sr.sr.method import get_method, method_names_without_controls
from bids_sr.sr.models.card import ModelError
from bids_sr.sr.models.compatibility import MAX_SIZE_DIFFERENCE
from bids_sr.sr.models.model import load_model, save_model
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.networks.data.images import TrainingImage, TrainingImages, check_images, checksums
from bids_sr.sr.networks.inference.apply_to_contrasts import SAME_GRID
from bids_sr.sr.networks.training.phase import OutOfDeviceMemory, TrainingDiverged
from bids_sr.sr.networks.training.trainer import train_network


def compare(options: CompareOptions) -> None:
    """Train all methods in all folds, score them on the test sets, and compare them."""
    study = _prepare_study(options)
    out = options.out.with_name(f"{options.out.name.removesuffix('.tsv')}.tsv")
    models_dir = _get_models_dir(out)
    conditions = _describe_conditions(study, options)
    rows = _read_completed_rows(out, conditions)
    _print_plan(study, options)
    if options.dry_run:
        return
    output_files.make_folder(out)
    if not rows:
        write_table(out, "models_compare", [], {"Comparison": conditions})
    for number, fold in enumerate(study.folds, 1):
        if any(row["fold"] == str(number) for row in rows):
            print(f"Fold {number} of {len(study.folds)} was already completed")
            continue
        rows += _run_fold(number, fold, study, options, models_dir)
        write_table(out, "models_compare", rows, {"Comparison": conditions})
        # read back, so that numbers are rounded as in a resumed comparison
        rows = _read_completed_rows(out, conditions)
        print(f"Fold {number} of {len(study.folds)}: models were tested on {' '.join(fold.test)}")
    _compare_candidates(study, rows, out)
    print(f"Trained models: {models_dir}")


@frozen
class _Candidate:
    """Method with settings to train, at the resolution of the images or a lower resolution.

    `name` is the name in the table: the method, the training resolution if it is lower, and
    `settings`. These are the settings that differ between the candidates of a method, such as
    ``filters=8 batch=2``. `zoom_ratio` is the voxel size of the training images relative to the
    images of the call.
    """

    name: str
    settings: str
    training: ModelRequest
    zoom_ratio: float

    @property
    def file_name(self) -> str:
        """Name of the model file, without fold and extension."""
        return self.name.replace(" ", "_")


@frozen
class _Study:
    """Images of all participants, and the methods to train on them.

    `participants` and `images` are in the order of files or, with several contrasts as channels,
    of heads. `factor` is the ratio of low-resolution to high-resolution voxel size. `degradation`
    is the degradation of test images; None for measured low-resolution images. `folds` are the
    sets of participants in each fold. `heads` are the files of each head; () for images of a
    single contrast.
    """

    candidates: tuple[_Candidate, ...]
    participants: tuple[str, ...]
    images: tuple[TrainingImages, ...]
    factor: Factor
    degradation: str | None
    folds: tuple[ParticipantSplit, ...]
    heads: tuple[ScannedHead, ...] = ()


def _prepare_study(options: CompareOptions) -> _Study:
    """Read the images and check all training requests; reject invalid comparisons."""
    candidates = _list_candidates(options)
    if not options.fine:
        raise UsageError(
            "compare requires --fine",
            "methods are tested by comparison with high-resolution images",
            "specify the high-resolution images with --fine FILE ...",
        )
    study = (
        _read_heads(options, candidates)
        if options.channels
        else _read_single_contrast(options, candidates)
    )
    for candidate in study.candidates:
        training = candidate.training
        images = _select_training_images(candidate, study, study.folds[0])
        check_images(images, training.effective_recipe, study.factor, training.definition.ndim)
        with_suitable_augmentation(training, images, quiet=True)
    if not _allows_other_resolution(study, options):
        _check_voxel_sizes(study, options)
    return study


def _check_voxel_sizes(study: _Study, options: CompareOptions) -> None:
    """Reject test images whose voxel size differs too much from the training images."""
    paths = [head.fine[0] for head in study.heads] or options.fine
    sizes = [voxel_sizes(images[0].affine) for images in study.images]
    for fold in study.folds:
        trained = study.participants.index(fold.train[0])
        for index, participant in enumerate(study.participants):
            if participant in fold.train:
                continue
            difference = np.abs(sizes[index] - sizes[trained])
            if (difference > MAX_SIZE_DIFFERENCE * sizes[trained]).any():
                raise UsageError(
                    str(paths[index]),
                    f"the image has a resolution of {size_text(sizes[index].tolist(), ' x ')}, but"
                    f" {paths[trained]}, which is used for training, has a resolution of"
                    f" {size_text(sizes[trained].tolist(), ' x ')} (allowed difference:"
                    f" {100 * MAX_SIZE_DIFFERENCE:.0f} %)",
                    "compare only images of similar resolution, or resample them first",
                )


def _list_candidates(options: CompareOptions) -> list[_Candidate]:
    """Return the candidates: each method with each of its settings at each resolution."""
    names = [name for name in options.method.split(",") if name]
    _check_method_names(options, names)
    candidates = list[_Candidate]()
    for method in dict.fromkeys(names):
        for settings, training in _list_trainings(options, method):
            for zoom_ratio in dict.fromkeys(options.train_coarser):
                name = method if zoom_ratio == 1 else f"{method}-at-{zoom_ratio:g}x"
                candidates.append(
                    _Candidate(
                        name=f"{name} {settings}".strip(),
                        settings=settings,
                        training=training,
                        zoom_ratio=zoom_ratio,
                    )
                )
    return candidates


def _check_method_names(options: CompareOptions, names: Sequence[str]) -> None:
    """Reject unknown methods, and settings of methods that are not compared."""
    known_names = method_names_without_controls()
    for name in names:
        if name not in known_names:
            fix = suggest_name(name, known_names) or (
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


def _list_trainings(options: CompareOptions, method: str) -> Iterator[tuple[str, ModelRequest]]:
    """Yield the varied settings and the training of each trial of a method."""
    texts = [
        text
        for text in options.recipe_changes
        if "." not in text.partition("=")[0] or text.startswith(f"{method}.")
    ]
    recipe = find_recipe(get_method(method), options.recipe)
    try:
        trials = list_trials(texts, method, recipe, n_trials=options.trials, seed=options.seed)
    except InvalidInput as error:
        raise UsageError(
            f"--set {error.argument or ' '.join(texts)}", error.reason, error.remedy
        ) from None
    trial_options = replace(options, method=method)
    for number, (settings, changes) in enumerate(trials.items()):
        trial_options = replace(trial_options, recipe_changes=tuple(map(str, changes)))
        training = make_request(trial_options, quiet=number > 0)
        yield settings, training


def _read_heads(options: CompareOptions, candidates: Sequence[_Candidate]) -> _Study:
    """Read the scans of all heads, with contrasts as channels on the high-resolution grid."""
    check_fusing([candidate.training.definition for candidate in candidates])
    heads = group_by_head(options)
    participants = tuple(head.participant for head in heads)
    folds = _make_folds(options, list(dict.fromkeys(participants)))
    return _Study(
        candidates=_set_factor(candidates, SAME_GRID),
        participants=participants,
        images=tuple((head.read(options.channels),) for head in heads),
        factor=SAME_GRID,
        degradation=None,
        folds=tuple(folds),
        heads=tuple(heads),
    )


def _read_single_contrast(options: CompareOptions, candidates: Sequence[_Candidate]) -> _Study:
    """Read the images of a single contrast, and determine their factor."""
    participants = tuple(find_participant(path) for path in options.fine)
    folds = _make_folds(options, list(dict.fromkeys(participants)))
    file_names = [path.name for path in options.fine]
    images = list[TrainingImages]()
    factors = set[Factor]()
    for index, path in enumerate(options.fine):
        one = slice(index, index + 1)  # there may be no low-resolution files and masks
        files_of_image = replace(
            options, fine=(path,), coarse=options.coarse[one], mask=options.mask[one]
        )
        file_images, factor = read_images(files_of_image, candidates[0].training)
        if file_names.count(path.name) > 1:
            file_images = tuple(
                replace(image, name=f"{index + 1}-{image.name}") for image in file_images
            )
        images.append(file_images)
        factors.add(factor)
    if len(factors) > 1:
        reason = f"the image pairs have different super-resolution factors: {sorted(factors)}"
        raise UsageError(
            "--fine and --coarse", reason, "compare only image pairs with the same factor"
        )
    factor = factors.pop()
    return _Study(
        candidates=_set_factor(candidates, factor),
        participants=participants,
        images=tuple(images),
        factor=factor,
        degradation=None if options.coarse else _get_common_degradation(candidates),
        folds=tuple(folds),
    )


def _make_folds(options: CompareOptions, participants: list[str]) -> list[ParticipantSplit]:
    """Return the split or folds that the options request."""
    option = "--test-on"
    try:
        if options.folds is not None:
            option = "--folds"
            return make_folds(participants, options.folds, options.validation, options.seed)
        if options.split:
            option = "--split"
            return [split_at_random(participants, options.split, options.seed)]
        validation, test = (
            tuple(_complete_label(label, participants) for label in labels)
            for labels in (options.validate_on, options.test_on)
        )
        return [split_by_names(participants, validation, test)]
    except InvalidInput as error:
        raise UsageError(option, error.reason, error.remedy) from None


def _complete_label(label: str, participants: Collection[str]) -> str:
    """Return a label with the prefix ``sub-``, unless the label itself is a participant.

    >>> _complete_label("01", ["sub-01"]), _complete_label("a_T1w", ["a_T1w"])
    ('sub-01', 'a_T1w')
    """
    return label if label in participants else f"sub-{label.removeprefix('sub-')}"


def _set_factor(candidates: Sequence[_Candidate], factor: Factor) -> tuple[_Candidate, ...]:
    """Return candidates that are trained for a factor."""
    return tuple(
        replace(candidate, training=replace(candidate.training, factor=factor))
        for candidate in candidates
    )


def _get_common_degradation(candidates: Sequence[_Candidate]) -> str:
    """Return the degradation for the test images, which must be the same for all methods."""
    degradations = {
        candidate.name: candidate.training.effective_recipe.degradation for candidate in candidates
    }
    unique_degradations = set(degradations.values())
    if len(unique_degradations) > 1:
        degradations_text = ", ".join(
            f"{name} {degradation}" for name, degradation in degradations.items()
        )
        reason = f"the recipes of the methods use different degradations ({degradations_text})"
        raise UsageError("--degradation", reason, "choose one degradation for all methods")
    return unique_degradations.pop()


def _describe_conditions(study: _Study, options: CompareOptions) -> dict[str, object]:
    """Return the properties that determine models and scores."""
    checksums_text = json.dumps([checksums(images) for images in study.images], sort_keys=True)
    return {
        "Methods": {
            candidate.name: {
                "Recipe": candidate.training.recipe,
                "Settings": candidate.training.changed_settings,
                "TrainedAt": candidate.zoom_ratio,
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
        "ImagesSHA256": hashlib.sha256(checksums_text.encode()).hexdigest(),
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


def _read_completed_rows(out: Path, conditions: Mapping[str, object]) -> list[ScoreRow]:
    """Return the rows of completed folds; reject the table of another comparison."""
    sidecar = out.with_suffix(".json")
    models_dir = _get_models_dir(out)
    if not sidecar.exists():
        if out.exists() or any(models_dir.glob("*.safetensors")):
            _reject_other_table(out, models_dir)
        return []
    if read_json(sidecar).get("Comparison") != json.loads(json.dumps(conditions)):
        _reject_other_table(sidecar, models_dir)
    if not out.exists():
        return []
    return [{**row} for row in csv.DictReader(read_text(out).splitlines(), delimiter="\t")]


def _get_models_dir(out: Path) -> Path:
    """Return the directory of the trained models, next to the table."""
    return out.with_name(f"{out.stem}_models")


def _reject_other_table(file: Path, models_dir: Path) -> NoReturn:
    """Raise `UsageError` for the table of another comparison."""
    reason = "the file contains the results of a comparison with other images, methods or settings"
    fix = f"choose another OUT, or remove the file and {models_dir}"
    raise UsageError(f"{file}", reason, fix)


def _print_plan(study: _Study, options: CompareOptions) -> None:
    """Print the sets of each fold and the trained methods."""
    for number, fold in enumerate(study.folds, 1):
        validation = f", validate on {' '.join(fold.validation)}" if fold.validation else ""
        print(
            f"Fold {number} of {len(study.folds)}: train on"
            f" {' '.join(fold.train)}{validation}, test on {' '.join(fold.test)}"
        )
    has_validation = any(fold.validation for fold in study.folds)
    names_without_validation = [
        candidate.name
        for candidate in study.candidates
        if has_validation and not candidate.training.effective_recipe.hold_out
    ]
    if names_without_validation:
        print(
            f"Note: the recipe of {' '.join(names_without_validation)} does not use held-out data,"
            " so the validation set has no influence on training"
        )
    factor_text = " x ".join(f"{ratio:.4g}" for ratio in study.factor)
    method_names = [candidate.name for candidate in study.candidates]
    lowres_origin = (
        f"computed with the {study.degradation} degradation" if study.degradation else "measured"
    )
    print(
        f"{len(study.folds) * len(method_names)} training run(s): {' '.join(method_names)};"
        f" super-resolution factor {factor_text}; low-resolution images {lowres_origin}"
    )
    if options.test_coarser != 1:
        print(
            f"The test images are downsampled to {options.test_coarser:g} times the voxel"
            " size of the original images"
        )


def _run_fold(
    number: int,
    fold: ParticipantSplit,
    study: _Study,
    options: CompareOptions,
    models_dir: Path,
) -> list[ScoreRow]:
    """Train all methods in a fold, and return their scores on the validation and test sets."""
    weights_by_name = dict[str, Path]()
    for candidate in study.candidates:
        stem = models_dir / f"fold-{number}_{candidate.file_name}"
        try:
            weights_by_name[candidate.name] = _train_model(candidate, study, fold, stem, options)
        except (TrainingDiverged, OutOfDeviceMemory) as error:
            if not candidate.settings:
                raise
            print(f"{candidate.name}: {error or 'the training diverged'}")
    return [
        {"set": set_name, "fold": str(number), **row}
        for set_name, participants in (("validation", fold.validation), ("test", fold.test))
        for row in _score_models(weights_by_name, study, participants, options, models_dir)
    ]


def _train_model(
    candidate: _Candidate,
    study: _Study,
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
    work_dir = (options.work_dir or stem.parent) / f"{stem.name}.work"
    images = _select_training_images(candidate, study, fold)
    training = with_suitable_augmentation(candidate.training, images, quiet=True)
    try:
        model = train_network(training, images, work_dir, progress_line())
    except (TrainingDiverged, OutOfDeviceMemory):
        shutil.rmtree(work_dir, ignore_errors=True)
        raise
    save_model(stem, model.state, model.card)
    shutil.rmtree(work_dir, ignore_errors=True)  # the checkpoints are no longer needed
    print(f"{weights}: {candidate.name} trained on {len(images)} image(s)")
    return weights


def _select_training_images(
    candidate: _Candidate, study: _Study, fold: ParticipantSplit
) -> TrainingImages:
    """Return the training images of a candidate, with marked validation images.

    Recipes without held-out data do not use the validation participants.
    """
    uses_validation = bool(candidate.training.effective_recipe.hold_out)
    selected_images = list[TrainingImage]()
    for participant, images in zip(study.participants, study.images, strict=True):
        is_validation = participant in fold.validation
        if participant in fold.train or (uses_validation and is_validation):
            selected_images += [
                _reduce_resolution(replace(image, validation=is_validation), candidate, study)
                for image in images
            ]
    return tuple(selected_images)


def _reduce_resolution(
    image: TrainingImage, candidate: _Candidate, study: _Study
) -> TrainingImage:
    """Return an image at the training resolution of a candidate."""
    if candidate.zoom_ratio == 1 or image.fine is None or study.degradation is None:
        return image
    (fine, mask_fractions), affine = _downsample_images(
        (image.fine, image.mask > 0), image.affine, candidate.zoom_ratio, study
    )
    return replace(image, fine=fine.astype(np.float32), mask=mask_fractions > 0.5, affine=affine)


def _score_models(
    weights_by_name: Mapping[str, Path],
    study: _Study,
    participants: Sequence[str],
    options: CompareOptions,
    models_dir: Path,
) -> list[ScoreRow]:
    """Return the scores of all models and interpolations for the images of some participants.

    Downsampled references are stored in `models_dir`.
    """
    indices = [
        index
        for index, participant in enumerate(study.participants)
        if participant in participants
    ]
    if not indices:
        return []
    if study.heads:
        heads = [(study.heads[index], study.images[index][0]) for index in indices]
        return list(score_heads(weights_by_name, heads, options))
    evaluation = ModelEvaluationOptions(
        reference=tuple(
            _get_reference_file(index, study, options, models_dir) for index in indices
        ),
        image=tuple(options.coarse[index] for index in indices) if options.coarse else (),
        degradation=study.degradation,  # type: ignore[arg-type]  # checked as an option
        model=tuple(map(str, weights_by_name.values())),
        factor=() if options.coarse else study.factor,
        threads=options.threads,
        device=options.device,
        contrast=options.contrast,
        volumes=options.volumes,
        allow=("resolution",) if _allows_other_resolution(study, options) else (),
    )
    labels = {str(path): name for name, path in weights_by_name.items()}
    rows = list[ScoreRow]()
    with ExitStack() as stack:
        for task in prepare_tasks(evaluation, stack, labels=labels):
            rows += measure_task(task, draw=False)[0]
    return rows


def _allows_other_resolution(study: _Study, options: CompareOptions) -> bool:
    """Return whether models are tested at another resolution than in training."""
    return any(candidate.zoom_ratio != options.test_coarser for candidate in study.candidates)


def _get_reference_file(
    index: int, study: _Study, options: CompareOptions, models_dir: Path
) -> Path:
    """Return the reference file of a test, downsampled if requested.

    `index` is the position of the file in the options, `models_dir` the directory of the models.
    """
    path = options.fine[index]
    if options.test_coarser == 1:
        return path
    # the folder identifies the participant if the file name does not
    folder = models_dir / f"tests-at-{options.test_coarser:g}x" / study.participants[index]
    lowres_file = folder / str(index) / f"{output_files.get_image_stem(path)}.nii.gz"
    if lowres_file.exists():
        return lowres_file
    with SeriesReader(path) as reader:
        volumes, affine = _downsample_images(
            list(reader.volumes()), reader.affine, options.test_coarser, study
        )
        is_single_volume = reader.ndim == 3
        image = volumes[0] if is_single_volume else np.stack(volumes, axis=-1)
        tr = None if is_single_volume else reader.tr
        output_files.make_folder(lowres_file)
        save_image(image.astype(np.float32), affine, lowres_file, header_like=reader.header, tr=tr)
    return lowres_file


def _downsample_images(
    images: Sequence[Array], affine: Array, zoom_ratio: float, study: _Study
) -> tuple[list[Array], Array]:
    """Return images (X, Y, Z) of the same grid at a lower resolution, and their affine.

    `zoom_ratio` is the voxel size relative to the images, along axes with a factor other than 1.
    """
    assert study.degradation is not None
    x, y, z = (zoom_ratio if ratio != 1 else 1.0 for ratio in study.factor)
    shape = tuple(images[0].shape)
    return files.downsample(images, shape, affine, study.degradation, (x, y, z))[:2]


def _compare_candidates(study: _Study, rows: Sequence[ScoreRow], out: Path) -> None:
    """Compare the candidates that were scored in all folds, and print the best settings."""
    complete = [
        candidate
        for candidate in study.candidates
        if len({row["fold"] for row in rows if row["name"] == candidate.name}) == len(study.folds)
    ]
    complete_names = [candidate.name for candidate in complete]
    failed_names = {candidate.name for candidate in study.candidates} - {*complete_names}
    scored_rows = [row for row in rows if row["name"] not in failed_names]
    test_rows = [row for row in scored_rows if row["set"] == "test"]
    print(f"{out}: scores on the test sets")
    compare_rows(test_rows, complete_names, {}, out)
    if reason := explain_missing_tests({str(row["participant"]) for row in test_rows}):
        print(f"Note: {reason}")
    if failed_names:
        print(
            f"Note: {'; '.join(sorted(failed_names))} without scores, because training diverged or"
            " ran out of device memory"
        )
    _print_selection(complete, scored_rows, n_folds=len(study.folds))


def _print_selection(
    candidates: Sequence[_Candidate], rows: Sequence[ScoreRow], *, n_folds: int
) -> None:
    """Print the settings of each method with the highest PSNR on the validation sets.

    Without validation sets, print that no settings can be selected.
    """
    psnr_by_name: dict[str, list[float]] = {}
    for row in rows:
        if row["set"] == "validation":
            psnr_by_name.setdefault(str(row["name"]), []).append(float(row["psnr"]))
    means = {name: float(np.mean(scores)) for name, scores in psnr_by_name.items()}
    tried = [candidate for candidate in candidates if candidate.settings]
    if tried and not means:
        print(
            "Note: no settings were selected, because there is no validation set. The best of many"
            " scores on a test set is an optimistic estimate. To select settings, add validation"
            " participants (three numbers for --split, --validation or --validate-on)."
        )
        return
    candidate_names = {candidate.name for candidate in candidates}
    for method in dict.fromkeys(candidate.training.method for candidate in tried):
        best = max(
            (candidate for candidate in tried if candidate.training.method == method),
            key=lambda candidate: means[candidate.name],
        )
        interpolation = max(means.keys() - candidate_names, key=means.__getitem__)
        print(
            f"Highest PSNR of {method} on the validation set: {best.name}, {means[best.name]:.2f}"
            f" dB ({interpolation}: {means[interpolation]:.2f} dB). To train with these settings,"
            f" use --set {best.settings}"
        )
        if n_folds > 1:
            print(
                "Note: in cross-validation, validation participants are tested in other folds."
                " Test these settings in other participants."
            )
