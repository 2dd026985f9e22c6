"""``bids-sr-models search``: try settings of a recipe, and rank them by held-out PSNR.

Methods that are trained without high-resolution images are scored with high-resolution images of
the held-out data, which training does not use (tv-self-sr chose alpha in this way).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.cli.console import progress_line
from bids_sr.config import UsageError
from bids_sr.config.section import get_option
from bids_sr.frozen import frozen
from bids_sr.io.atomic_files import read_json, write_json, write_text
from bids_sr.io.grids import Factor
from bids_sr.model_commands.cli import output_files
from bids_sr.model_commands.cli.channels import check_fusing, group_by_head
from bids_sr.model_commands.cli.evaluate import complete_label, find_participant
from bids_sr.model_commands.cli.options import ChannelOptions, SearchOptions, TrainOptions
from bids_sr.model_commands.cli.score_tables import MISSING, format_tsv, read_tsv
from bids_sr.model_commands.cli.train import make_request, with_suitable_augmentation
from bids_sr.model_commands.cli.training_images import read_images_of_files
from bids_sr.model_commands.participant_splits import SplitError, split_at_random
from bids_sr.model_commands.random_search import (
    SearchedSetting,
    draw_trial,
    find_best_trial,
    list_grid_trials,
    make_default_space,
    parse_setting,
)
from bids_sr.networks import (
    SAME_GRID,
    Examples,
    OutOfDeviceMemory,
    TrainingDiverged,
    TrainingImage,
    TrainingImages,
    check_images,
    checksums,
    compare_with_interpolations,
    train_network,
    validation_windows,
)
from bids_sr.sr.method import get_method, get_recipe
from bids_sr.sr.models.card import ModelCard, mapping_entry
from bids_sr.sr.models.model import TrainedModel
from bids_sr.sr.models.request import TrainingRequest
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.recipe_changes import ChangeError, RecipeChange, check_changes, variable_fields

# descriptions of the columns with the results of a trial
_RESULT_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "psnr": {
        "Description": "peak signal-to-noise ratio of the network output on the held-out data",
        "Units": "dB",
    },
    "ssim": {
        "Description": "structural similarity index of the network output on the held-out data",
        "Units": "1",
    },
    "psnr_bspline": {
        "Description": "peak signal-to-noise ratio of cubic spline interpolation on the"
        " held-out data",
        "Units": "dB",
    },
    "step": {
        "Description": "training step with the highest score on the held-out data",
        "Units": "1",
    },
    "outcome": {
        "Description": (
            "outcome of the training run: done (completed), diverged (the loss became NaN)"
            " or memory (not enough memory on the device)"
        ),
        "Units": "n/a",
    },
}
_TrialRow = dict[str, str]  # cells of a trial by column


@frozen
class _SearchTable:
    """Table of the trials of a search.

    Attributes
    ----------
    stem : Path
        Path of both files without extension.
    columns : Mapping[str, Mapping[str, str]]
        Description and unit of each column.
    conditions : Mapping[str, object]
        Settings and images of the search. The table is only continued by a search with the same
        conditions.
    """

    stem: Path
    columns: Mapping[str, Mapping[str, str]]
    conditions: Mapping[str, object]

    @property
    def tsv(self) -> Path:
        """File of the rows."""
        return self.stem.with_name(f"{self.stem.name}.tsv")

    @property
    def sidecar(self) -> Path:
        """File that describes the columns."""
        return self.stem.with_name(f"{self.stem.name}.json")

    def read_rows(self) -> list[_TrialRow]:
        """Return the trials so far; reject the table of another search."""
        if not self.tsv.exists() and not self.sidecar.exists():
            return []
        if read_json(self.sidecar).get("Search") != self.conditions:
            reason = "the file was written by a search with other settings or images"
            raise UsageError(f"{self.sidecar}", reason, "choose another OUT, or remove the file")
        if not self.tsv.exists():
            return []
        return read_tsv(self.tsv)

    def write(self, rows: Sequence[_TrialRow]) -> None:
        """Write the description, then the rows."""
        write_json(self.sidecar, {**self.columns, "Search": self.conditions})
        table_cells = [[row[name] for name in self.columns] for row in rows]
        write_text(self.tsv, format_tsv(list(self.columns), table_cells))


def search(options: SearchOptions) -> None:
    """Train trials with drawn settings, write their scores, and report the best trial."""
    recipe = _get_searchable_recipe(options)
    space = _parse_space(options, recipe)
    trials = _list_trials(options, recipe, space)
    training = make_request(replace(options, recipe_changes=()))
    images, factor = _read_images(options, replace(training, recipe_changes=trials[0]))
    trial_requests = _prepare_trials(replace(training, factor=factor), images, trials)
    training_images, scored_images = _split_images(recipe, images)
    conditions = _describe_conditions(options, trial_requests[0], space, images, factor)
    table = _SearchTable(
        stem=options.out.with_name(options.out.name.removesuffix(".tsv")),
        columns=_describe_columns(recipe, space),
        conditions=conditions | _describe_added_conditions(options, images, scored_images),
    )
    output_files.make_folder(table.tsv)
    rows = table.read_rows()
    if rows:
        print(f"{table.tsv}: {len(rows)} trial(s) were already completed")
    work_dir = options.work_dir or table.stem.with_name(f"{table.stem.name}.work")
    for number, request in enumerate(trial_requests[len(rows) :], len(rows) + 1):
        folder = work_dir / f"trial-{number}"
        rows.append(_run_trial(number, request, training_images, scored_images, folder))
        table.write(rows)
        shutil.rmtree(folder, ignore_errors=True)  # the checkpoints are no longer needed
        print(f"Trial {number} of {len(trial_requests)}: {_format_trial(rows[-1], space)}")
    if options.work_dir is None:
        shutil.rmtree(work_dir, ignore_errors=True)
    _print_best_trial(options, table, rows, space)


def _read_images(
    options: SearchOptions, training: TrainingRequest
) -> tuple[TrainingImages, Factor]:
    """Read all images, mark validation participants, and exclude test participants."""
    if options.channels:
        check_fusing([training.definition])
        participant_images = [
            (head.participant, head.read(options.channels)) for head in group_by_head(options)
        ]
        factor = SAME_GRID
    else:
        file_images, factor = read_images_of_files(options, training)
        participant_images = [(find_participant(path), image) for path, image in file_images]
    images = _mark_participants(options, participant_images)
    check_images(images, training.effective_recipe, factor, training.definition.ndim)
    return images, factor


def _mark_participants(
    options: SearchOptions, images: Sequence[tuple[str, TrainingImage]]
) -> TrainingImages:
    """Return the images of participants, with validation participants marked.

    Test participants of ``--split`` are excluded.
    """
    participants = list(dict.fromkeys(participant for participant, _ in images))
    validation, test = _choose_sets(options, participants)
    return tuple(
        replace(image, validation=participant in validation)
        for participant, image in images
        if participant not in test
    )


def _choose_sets(
    options: SearchOptions, participants: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the validation and the test participants; reject an empty training set."""
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    if options.split:
        try:
            split = split_at_random(participants, options.split, options.seed)
        except SplitError as error:
            raise UsageError("--split", error.why, error.remedy) from None
        validation, test = split.validation, split.test
    for label in options.validate_on:
        participant = complete_label(label, participants)
        if participant not in participants:
            fix = f"choose among the participants {' '.join(participants)}"
            raise UsageError(
                f"--validate-on {label}", "no image from this participant was specified", fix
            )
        validation = (*validation, participant)
    if set(participants) <= {*validation, *test}:
        raise UsageError(
            "--validate-on",
            "no participants are left for training",
            "select fewer validation participants, so that"
            " at least one participant is left for training",
        )
    return validation, test


def _get_searchable_recipe(options: SearchOptions) -> Recipe:
    """Return the recipe; reject recipes whose trials cannot be compared."""
    method = get_method(options.method)
    if method.variance is not None:
        reason = (
            "this method has no recipe to search because it estimates variance maps and does"
            " not train a network"
        )
        raise UsageError(method.name, reason, "choose a method that trains a network")
    recipe = get_recipe(method, options.recipe)
    subject = f"{method.name} --recipe {options.recipe}"
    if recipe.objective == "self" and not options.fine:
        reason = (
            "the trials cannot be compared without high-resolution images: their PSNR is"
            " unknown, and the loss depends on the settings"
        )
        fix = (
            "specify --fine FILE ... The network is then trained on low-resolution copies"
            " of these images, and the trials are scored against the high-resolution images."
        )
        raise UsageError(subject, reason, fix)
    if recipe.objective != "self" and not recipe.hold_out:
        reason = "the recipe does not use held-out data, so no PSNR can be computed for the trials"
        recipes_with_holdout = [
            name for name, other_recipe in method.recipes.items() if other_recipe.hold_out
        ]
        raise UsageError(subject, reason, f"use --recipe {' or '.join(recipes_with_holdout)}")
    return recipe


def _parse_space(options: SearchOptions, recipe: Recipe) -> tuple[SearchedSetting, ...]:
    """Return the searched settings, as requested or by default."""
    try:
        space = tuple(
            parse_setting(text, options.method, recipe) for text in options.recipe_changes
        )
    except ChangeError as error:
        change = error.change or " ".join(options.recipe_changes)
        raise UsageError(f"--set {change}", error.why, error.fix) from None
    return space or make_default_space(recipe)


def _list_trials(
    options: SearchOptions, recipe: Recipe, space: Sequence[SearchedSetting]
) -> list[tuple[RecipeChange, ...]]:
    """Return the settings of all trials."""
    defaults = {field.name: field.default for field in dataclasses.fields(SearchOptions)}
    if options.grid and options.trials != defaults["trials"]:
        raise UsageError(
            "--trials with --grid",
            "the number of grid-search trials is given by the number of combinations of values",
            "omit --trials or --grid",
        )
    try:
        trials = (
            list_grid_trials(space, options.method, recipe)
            if options.grid
            else [
                draw_trial(space, options.method, recipe, seed=options.seed, number=number)
                for number in range(1, options.trials + 1)
            ]
        )
        # a single trial shows whether a setting is repeated or has no effect
        has_vgg_weights = options.vgg_weights is not None
        check_changes(trials[0], (options.method,), options.recipe, vgg=has_vgg_weights)
        return trials
    except ChangeError as error:
        raise UsageError(f"--set {error.change}", error.why, error.fix) from None


def _split_images(recipe: Recipe, images: TrainingImages) -> tuple[TrainingImages, TrainingImages]:
    """Return the training images, and the images whose high resolution is used for scoring.

    The latter are empty for supervised methods, which have held-out data of their own. Otherwise,
    they are the images of validation participants, or every fifth image. One or two images are
    used for both, because training does not use their high resolution.
    """
    if recipe.objective != "self":
        return images, ()
    if any(image.validation for image in images):
        return (
            tuple(image for image in images if not image.validation),
            tuple(replace(image, validation=False) for image in images if image.validation),
        )
    if len(images) < 3:
        return images, images
    scored_indices = range(2, len(images), 5)
    training_images = (image for k, image in enumerate(images) if k not in scored_indices)
    return tuple(training_images), tuple(images[k] for k in scored_indices)


def _describe_added_conditions(
    options: SearchOptions, images: TrainingImages, scored_images: TrainingImages
) -> dict[str, object]:
    """Return the conditions that earlier versions of the table lack, without empty entries."""
    entries: dict[str, object] = {
        "Grid": options.grid,
        "Channels": list(options.channels),
        "Validation": [image.name for image in images if image.validation],
        "ScoredOn": [image.name for image in scored_images],
    }
    return {name: entry for name, entry in entries.items() if entry}


def _prepare_trials(
    training: TrainingRequest,
    images: TrainingImages,
    trials: Sequence[tuple[RecipeChange, ...]],
) -> list[TrainingRequest]:
    """Return the training requests of all trials; reject unsuitable images."""
    return [
        with_suitable_augmentation(
            replace(training, recipe_changes=changes), images, quiet=number > 0
        )
        for number, changes in enumerate(trials)
    ]


def _describe_columns(
    recipe: Recipe, space: Sequence[SearchedSetting]
) -> dict[str, Mapping[str, str]]:
    """Return the columns of the table with their descriptions."""
    fields = {field.name: field for field in variable_fields(recipe)}
    return {
        "trial": {"Description": "number of the trial", "Units": "1"},
        **{
            setting.field: {
                "Description": (
                    f"{fields[setting.field].description}; values are drawn from {setting}"
                ),
                "Units": fields[setting.field].unit or "1",
            }
            for setting in space
        },
        **_RESULT_COLUMNS,
    }


def _describe_conditions(
    options: SearchOptions,
    training: TrainingRequest,
    space: Sequence[SearchedSetting],
    images: TrainingImages,
    factor: Factor,
) -> dict[str, object]:
    """Return the conditions that determine the scores, which exclude the number of trials."""
    checksums_text = json.dumps(checksums(images), sort_keys=True)
    return {
        "Method": training.method,
        "Recipe": training.recipe,
        "Space": [str(setting) for setting in space],
        "RandomSeed": options.seed,
        "Factor": list(factor),
        "Degradation": options.degradation or "the method's",
        "Images": [image.name for image in images],
        "ImagesSHA256": hashlib.sha256(checksums_text.encode()).hexdigest(),
        "PerceptualWeights": options.vgg_weights is not None,
        "Device": training.device,
        "Precision": training.train_precision,
        "TrainedLast": options.train_last or 0,
        "StartedFromSHA256": training.start_checksum or "",
    }


def _run_trial(
    number: int,
    training: TrainingRequest,
    images: TrainingImages,
    scored_images: TrainingImages,
    folder: Path,
) -> _TrialRow:
    """Train a trial and return its row; a stopped trial resumes from its checkpoint.

    Parameters
    ----------
    number : int
        Number of the trial, counted from 1.
    training : TrainingRequest
        Training with the settings of the trial.
    images : TrainingImages
        Images for training.
    scored_images : TrainingImages
        Images for scoring methods that are trained without high-resolution images.
    folder : Path
        Folder of the checkpoints.
    """
    settings = {change.field: f"{change.value:.9g}" for change in training.recipe_changes}
    row = {"trial": str(number), **settings, **dict.fromkeys(_RESULT_COLUMNS, MISSING)}
    try:
        model = train_network(training, images, folder, progress_line())
    except TrainingDiverged:
        return row | {"outcome": "diverged"}
    except OutOfDeviceMemory:
        return row | {"outcome": "memory"}
    return row | _format_scores(model, _score_with_references(model, training, scored_images))


def _score_with_references(
    model: TrainedModel, training: TrainingRequest, images: TrainingImages
) -> Mapping[str, Mapping[str, float]]:
    """Return scores against high-resolution images, empty if there are no images."""
    if not images:
        return {}
    recipe = replace(training.effective_recipe, objective="supervised", hold_out=0)
    assert training.factor is not None
    method = training.definition
    examples = Examples(images, recipe, training.factor, method.ndim, training.device)
    generator = recipe.build_generator(examples.channels, training.factor)
    generator.load_state_dict(dict(model.state))
    windows = validation_windows(examples, examples.training_regions)
    return compare_with_interpolations(generator.to(training.device), examples, windows)


def _format_scores(
    model: TrainedModel, reference_scores: Mapping[str, Mapping[str, float]]
) -> _TrialRow:
    """Return the cells with the scores of a trained model on held-out data.

    `reference_scores` is the result of `_score_with_references`; if it is empty, scores are taken
    from the card.
    """
    held_out = ModelCard.from_json(model.card).held_out
    scores: Mapping[str, Mapping[str, object]] = reference_scores or {
        name: mapping_entry(held_out, name) for name in held_out
    }
    network = mapping_entry(scores, "network")
    interpolation = mapping_entry(scores, "input" if "input" in scores else "bspline")
    values = {
        "psnr": network.get("psnr"),
        "ssim": network.get("ssim"),
        "psnr_bspline": interpolation.get("psnr"),
    }
    cells = {name: MISSING if value is None else f"{value:.9g}" for name, value in values.items()}
    return {**cells, "step": str(held_out.get("iteration", MISSING)), "outcome": "done"}


def _format_trial(row: _TrialRow, space: Sequence[SearchedSetting]) -> str:
    """Return settings and score of a trial as text."""
    settings_text = " ".join(f"{setting.field}={row[setting.field]}" for setting in space)
    score_text = f"PSNR {row['psnr']} dB" if row["outcome"] == "done" else row["outcome"]
    return f"{settings_text}: {score_text}"


def _print_best_trial(
    options: SearchOptions,
    table: _SearchTable,
    rows: Sequence[_TrialRow],
    space: Sequence[SearchedSetting],
) -> None:
    """Print the best trial and the command that trains a model with its settings."""
    scores = [None if row["psnr"] == MISSING else float(row["psnr"]) for row in rows]
    best_index = find_best_trial(scores)
    print(f"{table.tsv}: {len(rows)} trial(s)")
    if best_index is None:
        print(
            "No trial has a score because all training runs diverged or ran out of device memory."
        )
        return
    row = rows[best_index]
    print(
        f"Best trial: trial {row['trial']}, held-out PSNR {row['psnr']} dB (B-spline"
        f" interpolation: {row['psnr_bspline']} dB). This trial was selected on these"
        " images; evaluate the model on independent images."
    )
    changes = [f"{setting.field}={row[setting.field]}" for setting in space]
    out = table.stem.with_name(f"{table.stem.name}-best")
    if options.split:
        purpose = "train and test"
        command = _format_compare_command(options, out, changes)
    elif options.channels:
        purpose = "train"
        command = _format_run_command(options, changes)
    else:
        purpose = "train"
        command = _format_train_command(options, out, changes)
    print(f"To {purpose} the model with these settings: {command}")


def _format_run_command(options: SearchOptions, changes: Sequence[str]) -> str:
    """Return the command that trains a model of several contrasts on a BIDS dataset.

    `changes` have the form ``FIELD=VALUE``.
    """
    recipe = f" --recipe {options.recipe}" if options.recipe != "fast" else ""
    method_changes = " ".join(f"{options.method}.{change}" for change in changes)
    return (
        "bids-sr BIDS_DIR OUTPUT_DIR"
        f" participant --sr-target anat --sr-method {options.method}{recipe} --set"
        f" {method_changes}"
    )


def _format_train_command(options: SearchOptions, out: Path, changes: Sequence[str]) -> str:
    """Return the command that trains a model with the settings of a trial on the same images.

    `out` is the model to write; `changes` have the form ``FIELD=VALUE``.
    """
    return shlex.join(
        [
            *("bids-sr-models", "train", options.method, str(out)),
            *_list_shared_options(options, TrainOptions),
            *("--set", *changes),
        ]
    )


def _format_compare_command(options: SearchOptions, out: Path, changes: Sequence[str]) -> str:
    """Return the command that trains and tests a method with the settings of a trial.

    `out` is the table to write; `changes` have the form ``FIELD=VALUE``.
    """
    return shlex.join(
        [
            *("bids-sr-models", "compare", options.method, str(out)),
            *_list_shared_options(options, ChannelOptions),
            *("--split", *map(str, options.split)),
            *("--set", *changes),
        ]
    )


def _list_shared_options(options: SearchOptions, other_options: type[TrainOptions]) -> list[str]:
    """Return the options of a search that another command shares, as words.

    `other_options` is the class of the other command's options. Settings and working directory are
    omitted.
    """
    words = list[str]()
    for field in dataclasses.fields(other_options):
        value = getattr(options, field.name)
        flags = [flag for flag in get_option(field).flags.split() if flag.startswith("--")]
        if not flags or field.name in ("recipe_changes", "work_dir") or value == field.default:
            continue
        option_values = value if isinstance(value, tuple) else (value,)
        words += [flags[0], *map(str, option_values)]
    return words
