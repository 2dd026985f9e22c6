"""``bids-sr-models search``: try settings of a recipe, and rank them by their held-out PSNR.

Methods that learn without high-resolution images are scored with the high-resolution images of
what is held out, which training does not see (tv-self-sr chose alpha in this way).
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
from bids_sr.cli.models import output_files
from bids_sr.cli.models.channels import check_fusing, heads_of
from bids_sr.cli.models.evaluate import participant_of
from bids_sr.cli.models.options import ChannelOptions, SearchOptions, TrainOptions
from bids_sr.cli.models.train import requested_training, suited
from bids_sr.cli.models.training_images import read_images_of_files
from bids_sr.config import UsageError
from bids_sr.config.section import option_of
from bids_sr.frozen import frozen
from bids_sr.io.atomic_files import read_json, read_text, write_json, write_whole
from bids_sr.io.grids import Factor
from bids_sr.sr.data.examples import Examples
from bids_sr.sr.data.images import TrainingImage, TrainingImages, check_images, checksums
from bids_sr.sr.data.participant_splits import SplitError, split_at_random
from bids_sr.sr.data.validation import validation_windows
from bids_sr.sr.method import get_method, get_recipe, recipe_name
from bids_sr.sr.models.card import ModelCard, part_of
from bids_sr.sr.models.model import TrainedModel
from bids_sr.sr.models.request import TrainingRequest
from bids_sr.sr.random_search import (
    SearchedSetting,
    best_trial,
    default_space,
    draw_trial,
    grid_trials,
    read_drawn,
)
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.recipe_changes import ChangeError, RecipeChange, check_changes, variable_fields
from bids_sr.sr.training.fused import SAME_GRID
from bids_sr.sr.training.phase import OutOfDeviceMemory, TrainingDiverged, compare
from bids_sr.sr.training.trainer import fit

_ABSENT = "n/a"
_COLUMNS: Mapping[str, Mapping[str, str]] = {
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
_Row = dict[str, str]


@frozen
class _SearchTable:
    """Table of a search: trials so far, its settings, and its columns.

    `stem`: path of both files up to their extension. `about`: what the search rests on; rows of a
    search that rests on something else are not continued.
    """

    stem: Path
    columns: Mapping[str, Mapping[str, str]]
    about: Mapping[str, object]

    @property
    def tsv(self) -> Path:
        """File of the rows."""
        return self.stem.with_name(f"{self.stem.name}.tsv")

    @property
    def sidecar(self) -> Path:
        """File that describes the columns."""
        return self.stem.with_name(f"{self.stem.name}.json")

    def rows(self) -> list[_Row]:
        """Return the trials so far; refuse the table of another search."""
        if not self.tsv.exists() and not self.sidecar.exists():
            return []
        if read_json(self.sidecar).get("Search") != self.about:
            why = "the file was written by a search with other settings or images"
            raise UsageError(f"{self.sidecar}", why, "choose another OUT, or remove the file")
        if not self.tsv.exists():
            return []
        lines = [line.split("\t") for line in read_text(self.tsv).splitlines()]
        return [dict(zip(lines[0], cells, strict=True)) for cells in lines[1:]]

    def write(self, rows: Sequence[_Row]) -> None:
        """Write the description, then the rows, each file whole."""
        write_json(self.sidecar, {**self.columns, "Search": self.about})
        lines = [list(self.columns), *([row[name] for name in self.columns] for row in rows)]
        write_whole(self.tsv, "".join("\t".join(cells) + "\n" for cells in lines))


def search(options: SearchOptions) -> None:
    """Train trials with drawn settings, keep their scores in a table, and print the best."""
    recipe = _searchable(options)
    space = _space(options, recipe)
    trials = _trials(options, recipe, space)
    training = requested_training(replace(options, recipe_changes=()))
    first = replace(training, changes=trials[0])
    images, factor = _images(options, first)
    prepared = _prepared(replace(training, factor=factor), images, trials)
    table = _SearchTable(
        stem=options.out.with_name(options.out.name.removesuffix(".tsv")),
        columns=_columns(recipe, space),
        about=_about(options, prepared[0], space, images, factor)
        | _about_scores(options, images, _split(recipe, images)[1]),
    )
    output_files.make_folder(table.tsv)
    rows = table.rows()
    if rows:
        print(f"{table.tsv}: {len(rows)} trial(s) were already completed")
    trained_on, scored_on = _split(recipe, images)
    work = options.work_dir or table.stem.with_name(f"{table.stem.name}.work")
    for number, trial in enumerate(prepared, 1):
        if number <= len(rows):
            continue
        folder = work / f"trial-{number}"
        rows.append(_tried(number, trial, trained_on, scored_on, folder))
        table.write(rows)
        shutil.rmtree(folder, ignore_errors=True)  # its checkpoints have served
        print(f"Trial {number} of {len(prepared)}: {_shown(rows[-1], space)}")
    if options.work_dir is None:
        shutil.rmtree(work, ignore_errors=True)
    _report(options, table, rows, space)


def _images(options: SearchOptions, training: TrainingRequest) -> tuple[TrainingImages, Factor]:
    """Read all images; mark those of validation participants, and leave test participants out."""
    if options.channels:
        check_fusing([training.method])
        mask_of = dict(zip(options.fine, options.mask, strict=False))
        of_participants = [
            (head.participant, head.read(options.channels, mask_of.get(head.fine[0])))
            for head in heads_of(options)
        ]
        factor = SAME_GRID
    else:
        of_files, factor = read_images_of_files(options, training)
        of_participants = [(participant_of(path), image) for path, image in of_files]
    images = _marked(options, of_participants)
    check_images(images, training.effective_recipe, factor, training.method.ndim)
    return images, factor


def _marked(options: SearchOptions, images: Sequence[tuple[str, TrainingImage]]) -> TrainingImages:
    """Return images (each with its participant) with those of validation participants marked.

    Test participants of --split are left out.
    """
    participants = list(dict.fromkeys(who for who, _ in images))
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    if options.split:
        try:
            split = split_at_random(participants, options.split, options.seed)
        except SplitError as error:
            raise UsageError("--split", error.why, error.remedy) from None
        validation, test = split.validation, split.test
    for name in options.validate_on:
        who = name if name in participants else f"sub-{name.removeprefix('sub-')}"
        if who not in participants:
            fix = f"choose among the participants {' '.join(participants)}"
            raise UsageError(
                f"--validate-on {name}", "no image from this participant was specified", fix
            )
        validation = (*validation, who)
    if set(participants) <= {*validation, *test}:
        why = "no participants are left for training"
        raise UsageError(
            "--validate-on",
            why,
            "select fewer validation participants, so that"
            " at least one participant is left for training",
        )
    return tuple(
        replace(image, validation=who in validation) for who, image in images if who not in test
    )


def _searchable(options: SearchOptions) -> Recipe:
    """Return the recipe; refuse one whose trials could not be compared."""
    method = get_method(options.method)
    if method.variance is not None:
        why = (
            "this method has no recipe to search because it estimates variance maps and does"
            " not train a network"
        )
        raise UsageError(method.name, why, "choose a method that trains a network")
    recipe = get_recipe(method, recipe_name(method, options.recipe))
    what = f"{method.name} --recipe {options.recipe}"
    if recipe.objective == "self" and not options.fine:
        why = (
            "the trials cannot be compared without high-resolution images: their PSNR is"
            " unknown, and the loss depends on the settings"
        )
        fix = (
            "specify --fine FILE ... The network is then trained on low-resolution copies"
            " of these images, and the trials are scored against the high-resolution images."
        )
        raise UsageError(what, why, fix)
    if recipe.objective != "self" and not recipe.hold_out:
        why = "the recipe does not use held-out data, so no PSNR can be computed for the trials"
        others = [name for name, other in method.recipes.items() if other.hold_out]
        raise UsageError(what, why, f"use --recipe {' or '.join(others)}")
    return recipe


def _space(options: SearchOptions, recipe: Recipe) -> tuple[SearchedSetting, ...]:
    """Return what is drawn from, as requested or by default."""
    try:
        space = tuple(read_drawn(text, options.method, recipe) for text in options.recipe_changes)
    except ChangeError as error:
        what = error.change or " ".join(options.recipe_changes)
        raise UsageError(f"--set {what}", error.why, error.fix) from None
    return space or default_space(recipe)


def _trials(
    options: SearchOptions, recipe: Recipe, space: Sequence[SearchedSetting]
) -> list[tuple[RecipeChange, ...]]:
    """Return the settings of all trials."""
    vgg = options.vgg_weights is not None
    defaults = {item.name: item.default for item in dataclasses.fields(SearchOptions)}
    if options.grid and options.trials != defaults["trials"]:
        why = "the number of grid-search trials is given by the number of combinations of values"
        raise UsageError("--trials with --grid", why, "omit --trials or --grid")
    try:
        trials = (
            grid_trials(space, options.method, recipe)
            if options.grid
            else [
                draw_trial(space, options.method, recipe, seed=options.seed, number=number)
                for number in range(1, options.trials + 1)
            ]
        )
        # what one trial shows: a setting that is given twice, or has no effect
        check_changes(trials[0], (options.method,), options.recipe, vgg=vgg)
        return trials
    except ChangeError as error:
        raise UsageError(f"--set {error.change}", error.why, error.fix) from None


def _split(recipe: Recipe, images: TrainingImages) -> tuple[TrainingImages, TrainingImages]:
    """Return the images to train on, and those whose high-resolution images score the trials.

    The latter are none for supervised methods, which hold out parts of their own, or the images
    of validation participants. Without validation participants, every fifth
    image is held out; one or two images are both trained on and scored, because training does not
    see their high resolution.
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
    held = range(2, len(images), 5)
    trained = (image for number, image in enumerate(images) if number not in held)
    return tuple(trained), tuple(images[number] for number in held)


def _about_scores(
    options: SearchOptions, images: TrainingImages, scored_on: TrainingImages
) -> dict[str, object]:
    """Return the entries of searches that older programs did not have."""
    entries: dict[str, object] = {
        "Grid": options.grid,
        "Channels": list(options.channels),
        "Validation": [image.name for image in images if image.validation],
        "ScoredOn": [image.name for image in scored_on],
    }
    return {name: entry for name, entry in entries.items() if entry}


def _prepared(
    training: TrainingRequest,
    images: TrainingImages,
    trials: Sequence[tuple[RecipeChange, ...]],
) -> list[TrainingRequest]:
    """Return the training of each trial; refuse images that a trial could not be trained on."""
    return [
        suited(replace(training, changes=changes), images, quiet=number > 0)
        for number, changes in enumerate(trials)
    ]


def _columns(recipe: Recipe, space: Sequence[SearchedSetting]) -> dict[str, Mapping[str, str]]:
    """Return the columns of the table with their descriptions."""
    fields = {field.name: field for field in variable_fields(recipe)}
    return {
        "trial": {"Description": "number of the trial", "Units": "1"},
        **{
            one.field: {
                "Description": f"{fields[one.field].sets}; values are drawn from {one}",
                "Units": fields[one.field].unit or "1",
            }
            for one in space
        },
        **_COLUMNS,
    }


def _about(
    options: SearchOptions,
    training: TrainingRequest,
    space: Sequence[SearchedSetting],
    images: TrainingImages,
    factor: Factor,
) -> dict[str, object]:
    """Return what the scores rest on; the number of trials is not among it."""
    text = json.dumps(checksums(images), sort_keys=True)
    return {
        "Method": training.method.name,
        "Recipe": training.recipe,
        "Space": [str(one) for one in space],
        "RandomSeed": options.seed,
        "Factor": list(factor),
        "Degradation": options.degradation or "the method's",
        "Images": [image.name for image in images],
        "ImagesSHA256": hashlib.sha256(text.encode()).hexdigest(),
        "PerceptualWeights": options.vgg_weights is not None,
        "Device": training.device,
        "Precision": training.precision,
        "TrainedLast": options.train_last or 0,
        "StartedFromSHA256": training.started_with or "",
    }


def _tried(
    number: int,
    training: TrainingRequest,
    images: TrainingImages,
    scored_on: TrainingImages,
    folder: Path,
) -> _Row:
    """Train one trial and return its row; a killed trial goes on from its checkpoint.

    `scored_on`: images with which a method is scored that learns without high-resolution ones.
    """
    values = {change.field: f"{change.value:.9g}" for change in training.changes}
    row = {"trial": str(number), **values, **dict.fromkeys(_COLUMNS, _ABSENT)}
    try:
        made = fit(training, images, folder, progress_line())
    except TrainingDiverged:
        return row | {"outcome": "diverged"}
    except OutOfDeviceMemory:
        return row | {"outcome": "memory"}
    return row | _scores(made, _reference_scores(made, training, scored_on))


def _reference_scores(
    made: TrainedModel, training: TrainingRequest, images: TrainingImages
) -> Mapping[str, Mapping[str, float]]:
    """Return scores against high-resolution images as `compare` does; none without images."""
    if not images:
        return {}
    recipe = replace(training.effective_recipe, objective="supervised", hold_out=0)
    assert training.factor is not None
    method = training.method
    examples = Examples(images, recipe, training.factor, method.ndim, training.device)
    generator = recipe.build_generator(examples.channels, training.factor)
    generator.load_state_dict(dict(made.state))
    windows = validation_windows(examples, examples.train)
    return compare(generator.to(training.device), examples, windows)


def _scores(made: TrainedModel, reference: Mapping[str, Mapping[str, float]]) -> _Row:
    """Return what a trained model reached on what was held out.

    `reference`: scores of `_reference_scores`; those of the card if there are none.
    """
    card = ModelCard.from_json(made.card)
    parts: dict[str, Mapping[str, object]] = {
        name: part_of(card.held_out, name) for name in card.held_out
    }
    found: Mapping[str, Mapping[str, object]] = reference or parts
    network, plain = (
        part_of(found, name) for name in ("network", "input" if "input" in found else "bspline")
    )
    values = {
        "psnr": network.get("psnr"),
        "ssim": network.get("ssim"),
        "psnr_bspline": plain.get("psnr"),
    }
    shown = {name: _ABSENT if value is None else f"{value:.9g}" for name, value in values.items()}
    return {**shown, "step": str(card.held_out.get("iteration", _ABSENT)), "outcome": "done"}


def _shown(row: _Row, space: Sequence[SearchedSetting]) -> str:
    values = " ".join(f"{one.field}={row[one.field]}" for one in space)
    score = f"PSNR {row['psnr']} dB" if row["outcome"] == "done" else row["outcome"]
    return f"{values}: {score}"


def _report(
    options: SearchOptions,
    table: _SearchTable,
    rows: Sequence[_Row],
    space: Sequence[SearchedSetting],
) -> None:
    """Print the best trial and the command that trains a model with its settings."""
    scores = [None if row["psnr"] == _ABSENT else float(row["psnr"]) for row in rows]
    best = best_trial(scores)
    print(f"{table.tsv}: {len(rows)} trial(s)")
    if best is None:
        print(
            "No trial has a score because all training runs diverged or ran out of device memory."
        )
        return
    row = rows[best]
    print(
        f"Best trial: trial {row['trial']}, held-out PSNR {row['psnr']} dB (B-spline"
        f" interpolation: {row['psnr_bspline']} dB). This trial was selected on these"
        " images; evaluate the model on independent images."
    )
    chosen = [f"{one.field}={row[one.field]}" for one in space]
    out = table.stem.with_name(f"{table.stem.name}-best")
    if options.split:
        print(
            "To train and test the model with these settings:"
            f" {compare_command(options, out, chosen)}"
        )
    elif options.channels:
        changes = " ".join(f"{options.method}.{one}" for one in chosen)
        recipe = f" --recipe {options.recipe}" if options.recipe != "fast" else ""
        print(
            "To train the model with these settings: bids-sr BIDS_DIR OUTPUT_DIR"
            f" participant --sr-target anat --sr-method {options.method}{recipe} --set"
            f" {changes}"
        )
    else:
        print(f"To train the model with these settings: {train_command(options, out, chosen)}")


def train_command(options: SearchOptions, out: Path, changes: Sequence[str]) -> str:
    """Return the command that trains a model with settings of a trial on the same images.

    `out`: model to write. `changes`: ``FIELD=VALUE`` each.
    """
    return shlex.join(
        [
            *("bids-sr-models", "train", options.method, str(out)),
            *_same_options(options, TrainOptions),
            *("--set", *changes),
        ]
    )


def compare_command(options: SearchOptions, out: Path, changes: Sequence[str]) -> str:
    """Return the command that trains with settings of a trial and tests on the test participants.

    `out`: table to write. `changes`: ``FIELD=VALUE`` each.
    """
    return shlex.join(
        [
            *("bids-sr-models", "compare", options.method, str(out)),
            *_same_options(options, ChannelOptions),
            *("--split", *map(str, options.split)),
            *("--set", *changes),
        ]
    )


def _same_options(options: SearchOptions, kind: type[TrainOptions]) -> list[str]:
    """Return the options of a search that another command also has, as words.

    `kind`: options of the other command; settings and working directory are left out.
    """
    words = list[str]()
    for item in dataclasses.fields(kind):
        value = getattr(options, item.name)
        flags = [word for word in option_of(item).flags.split() if word.startswith("--")]
        if not flags or item.name in ("recipe_changes", "work_dir") or value == item.default:
            continue
        values = value if isinstance(value, tuple) else (value,)
        words += [flags[0], *map(str, values)]
    return words
