"""Split of participants into training, validation and test sets, which is drawn once and kept.

The table in the working directory and in the output has the set of each participant and a checksum
of the scans, by which a renamed participant is recognized. Rows of participants that are gone
remain.
"""

import hashlib
from collections.abc import Sequence
from itertools import accumulate
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from bids_sr.config import Settings
from bids_sr.config.sections.paths import WORKFLOW
from bids_sr.evaluation.statistics.participant_splits import (
    divide_in_proportion,
    split_at_random,
)
from bids_sr.io.atomic_files import write_text
from bids_sr.io.checksums import checksum
from bids_sr.io.json_values import as_texts
from bids_sr.io.notices import InvalidInput, Notice
from bids_sr.io.tables import TABLE_ERRORS, read_rows
from bids_sr.sr.models.card import ModelError, mapping_entry, read_card, weights_path
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.models.training_record import read_training
from bids_sr.survey.bids.inputs import Subject
from bids_sr.survey.notices import Choice, note, problem, warning

SETS = ("training", "validation", "test")
"""Sets of participants, in the order of the numbers in `anat.split`."""
_MODELS = Path("sourcedata", "models")  # in the output
NETWORKS_SCOPE = "shared_networks_wf"
"""Folder of the shared networks that were trained, in the workflow of the working directory."""


class _Member(NamedTuple):
    """Set of a participant, and checksum of the images of the structural pairs."""

    set_name: str
    scans: str


def list_files(settings: Settings) -> list[Path]:
    """Return the paths of the table, last in the working directory; they may not exist.

    The name depends on `anat.split` and on the random seed, so that each has a split of its own.
    """
    numbers = "-".join(map(str, settings.anat.split))
    name = f"split-{numbers}_seed-{settings.resources.random_seed}.tsv"
    folders = (settings.paths.output_dir / _MODELS, settings.paths.work_dir)
    return [folder / name for folder in folders if folder is not None]


def _read_members(settings: Settings) -> Choice[dict[str, _Member]]:
    """Return the kept split by label; empty if none was drawn.

    A table in the options precedes the working directory, which precedes the output; participants
    whose sets differ are reported, and tables that cannot be read.
    """
    members: dict[str, _Member] = {}
    notices: list[Notice] = []
    table = settings.anat.split_table
    for file in (*filter(Path.exists, list_files(settings)), *([table] if table else [])):
        try:
            rows = {str(row["participant_id"]): row for _, row in read_rows(file)[1]}
            sets = {label: SETS[SETS.index(str(row["split"]))] for label, row in rows.items()}
        except (*TABLE_ERRORS, KeyError, ValueError) as error:
            reason = f"participant_id and split ({', '.join(SETS)}) cannot be read: {error}"
            notices.append(problem(file, reason, "Correct or delete this file."))
            continue
        for name, set_name in sets.items():
            label = name.removeprefix("sub-")
            earlier = members.get(label, _Member(set_name, ""))
            if earlier.set_name != set_name:
                reason = f"sub-{label} is in the {set_name} set, elsewhere {earlier.set_name}."
                notices.append(warning(file, reason))
            members[label] = _Member(set_name, rows[name].get("scans") or earlier.scans)
    return Choice(value=members, notices=tuple(notices))


def assign_sets(subjects: Sequence[Subject], settings: Settings) -> Choice[dict[str, str]]:
    """Return the set of each participant by label, from the kept split if there is one.

    A new participant joins the set of a participant that is gone and had the same scans, otherwise
    a set that follows from a hash of seed and label. Raises `InvalidInput` if there are too few
    participants.
    """
    shares, seed = settings.anat.split, settings.resources.random_seed
    labels = [subject.label for subject in subjects]
    kept = _read_members(settings)
    members = kept.value
    if not members:
        split = split_at_random(labels, divide_in_proportion(len(labels), shares), seed)
        labels_by_set = zip(SETS, (split.train, split.validation, split.test), strict=True)
        drawn = {label: name for name, labels in labels_by_set for label in labels}
        return Choice(value=drawn, notices=kept.notices)
    gone = {scans: name for key, (name, scans) in members.items() if key not in labels}
    sets = {
        subject.label: members[subject.label].set_name
        if subject.label in members
        else (gone and gone.get(_compute_checksum(subject)))
        or _draw_set(subject.label, shares, seed)
        for subject in subjects
    }
    if SETS[0] not in sets.values():
        raise InvalidInput("the training set contains no participants", "Add participants.")
    return Choice(value=sets, notices=kept.notices)


def _draw_set(label: str, shares: Sequence[int], seed: int) -> str:
    """Return the set of a participant from a hash.

    >>> [_draw_set(label, (2, 1, 1), 0) for label in ("01", "02", "03", "04")]
    ['test', 'training', 'training', 'validation']
    """
    digest = hashlib.sha256(f"{seed} {label}".encode()).hexdigest()
    number = int(digest, 16) / 16 ** len(digest) * sum(shares)
    return next(name for name, end in zip(SETS, accumulate(shares), strict=True) if number < end)


def _compute_checksum(subject: Subject) -> str:
    """Return a checksum of the content of the structural pairs of a participant."""
    images = [image for pair in subject.structural for image in pair.images]
    return hashlib.sha256(" ".join(map(checksum, images)).encode()).hexdigest()


def keep_split(settings: Settings, subjects: Sequence[Subject]) -> None:
    """Write the split of participants to the working directory and the output, if there is one.

    Only scans of new participants are read for their checksums.
    """
    members = _read_members(settings).value
    for subject in subjects:
        known = members.get(subject.label, _Member("", ""))
        scans = known.scans or _compute_checksum(subject)
        members[subject.label] = _Member(subject.split_set, scans)
    rows = [(f"sub-{label}", *member) for label, member in members.items()]
    for file in list_files(settings) if subjects else ():
        lines = map("\t".join, [("participant_id", "split", "scans"), *rows, ()])
        write_text(file, "\n".join(lines))


def find_kept_network(
    method: str, settings: Settings, subjects: Sequence[Subject]
) -> Choice[Path | None]:
    """Return the finished network of a method if it was not trained on the sets of `subjects`.

    Such a network is not trained again because a participant is gone, was renamed or has joined;
    this is reported. None if there is no finished network, if its participants are those of the
    training and validation sets, or if one of them is now a test participant.
    """
    files = sorted((settings.paths.output_dir / _MODELS).glob("*.safetensors"))
    if settings.paths.work_dir is not None:
        folder = settings.paths.work_dir / WORKFLOW / NETWORKS_SCOPE / method / "train_on_scans"
        files.insert(0, weights_path(folder, method))
    contrast = "+".join(subjects[0].contrasts) if subjects else ""
    by_file = {file: _list_trained(file, method, contrast, settings) for file in files}
    trained = {file: labels for file, labels in by_file.items() if labels}
    present = {item.label: item for item in subjects if item.split_set != SETS[-1]}
    labels = next(iter(trained.values()), set(present))
    is_tested = any(item.label in labels for item in subjects if item.split_set == SETS[-1])
    if labels == present.keys() or is_tested or settings.superres.model_source == "train":
        return Choice(value=None)
    members = _read_members(settings).value
    gone = {key: members[key].scans if key in members else "" for key in labels - present.keys()}
    new = {label: _compute_checksum(present[label]) for label in present.keys() - labels}
    changes = [f"sub-{label} is missing" for label in gone if gone[label] not in new.values()]
    changes += [f"sub-{label} is new" for label in new if new[label] not in gone.values()]
    network = next(iter(trained))
    notice = (warning if changes else note)(
        network,
        "this network is not trained again, although its training and validation participants have"
        f" changed ({', '.join(sorted(changes)) or 'only labels'}). To train it again, delete"
        f" {' and '.join(map(str, trained))}.",
    )
    return Choice(value=network, notices=(notice,))


def _list_trained(file: Path, method: str, contrast: str, settings: Settings) -> set[str]:
    """Return the training and validation participants of a shared network by label.

    Empty unless the file is a network of these contrasts, with these settings, whose training has
    ended.
    """
    superres, seed = settings.superres, settings.resources.random_seed
    request = ModelRequest(
        method=method, recipe=superres.recipe, recipe_changes=superres.recipe_changes
    )
    preparation = (settings.anat.align, settings.scaling_of_scans)
    expected = (method, superres.recipe, request.changed_settings, seed, contrast, *preparation)
    try:
        card = read_card(file)
    except ModelError:
        return set()
    names = ("method", "recipe", "changed_settings", "seed", "contrast", "align", "scale")
    phase = read_training(card).phase
    if attrgetter(*names)(card) != expected or (phase and phase.ended_by == "time"):
        return set()
    split = mapping_entry(card.json, "split")
    return {label for name in SETS[:2] for label in as_texts(split.get(name))}
