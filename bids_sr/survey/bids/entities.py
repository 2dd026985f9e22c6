"""Entities in BIDS file names, which determine the scan of a file and the files of a scan."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

ENTITIES: dict[str, str] = {
    "sub": "subject",
    "ses": "session",
    "sample": "sample",
    "task": "task",
    "tracksys": "tracksys",
    "acq": "acquisition",
    "ce": "ceagent",
    "trc": "tracer",
    "stain": "staining",
    "rec": "reconstruction",
    "dir": "direction",
    "run": "run",
    "mod": "modality",
    "echo": "echo",
    "flip": "flip",
    "inv": "inv",
    "mt": "mt",
    "part": "part",
    "proc": "proc",
    "space": "space",
    "split": "split",
    "recording": "recording",
    "chunk": "chunk",
    "res": "res",
    "den": "den",
    "label": "label",
    "desc": "desc",
}
"""Short entity name in a file name → long name of pybids."""
SHORT_NAMES: dict[str, str] = {name: short for short, name in ENTITIES.items()}
"""Long name of pybids → short entity name in a file name."""
EntityKey = tuple[tuple[str, str], ...]
"""Long names and labels of entities."""
RUN_KEYS = (
    "subject",
    "session",
    "task",
    "acquisition",
    "ceagent",
    "reconstruction",
    "direction",
    "run",
)
"""Entities that distinguish runs; echoes belong to one run, and only magnitude images are runs."""


def stem_of_echoes(path: Path) -> str:
    """Return the name of the run that an echo belongs to: `file_stem` without the echo entity.

    >>> stem_of_echoes(Path("sub-01_task-tap_echo-1_run-2_bold.nii.gz"))
    'sub-01_task-tap_run-2'
    """
    return without_echo(file_stem(path))


def parse_owner(series: Path) -> tuple[str, str]:
    """Return the participant and the name of the run of a series, which notices are about."""
    return parse_entities(series).get("subject", ""), stem_of_echoes(series)


def without_echo(stem: str) -> str:
    """Return a file name without the echo entity."""
    return re.sub(r"_echo-[0-9]+", "", stem)


def file_stem(path: Path) -> str:
    """Return the file name of an image without extension and BIDS suffix."""
    name = path.name.removesuffix(".gz")
    for extension in (".nii", ".tsv", ".json"):
        name = name.removesuffix(extension)
    return name.rpartition("_")[0]


def applies_to(file: Path, image: Path) -> bool:
    """Return whether a sidecar or table applies to an image (inheritance principle).

    The file applies if the image has all entities of its name, with the same labels.
    """
    image_entities = parse_entities(image)
    return all(image_entities.get(key) == value for key, value in parse_entities(file).items())


def is_in_own_space(path: Path) -> bool:
    """Return whether an image is a volume in its own space, and not in another ``space-``."""
    return not re.search("_hemi-|_space-(?!(run|orig)_)", path.name)


def is_magnitude(path: Path) -> bool:
    """Return whether an image is neither phase, real nor imaginary part."""
    return parse_entities(path).get("part", "mag") == "mag"


def parse_entities(path: Path) -> dict[str, str]:
    """Return the entities of a file name under their pybids names, in the order of the file name.

    Labels remain text. Unknown entities keep their short name.
    """
    pairs = (part.partition("-") for part in path.name.split("_")[:-1] if "-" in part)
    return {ENTITIES.get(key, key): value for key, _, value in pairs}


def same_run(first: Mapping[str, str], second: Mapping[str, str], keys: Iterable[str]) -> bool:
    """Return whether two sets of entities name the same scan, according to the given keys.

    Session and run labels are compared as numbers. A label that is missing in one set must be
    missing in the other set as well.

    >>> first, second = {"task": "tap", "run": "01"}, {"task": "tap", "run": "1", "desc": "hmc"}
    >>> same_run(first, second, ("task", "run"))
    True
    """
    numeric = ("session", "run")
    return all(
        parse_label(first, key, numeric) == parse_label(second, key, numeric) for key in keys
    )


def has_entities(bold: Path, text: str) -> bool:
    """Return whether a run has entities such as ``ses-pre_run-1``; each run has "".

    >>> has_entities(Path("sub-1_ses-pre_run-01_bold.nii"), "ses-pre_run-1")
    True
    """
    selected = parse_entities(Path(f"{text}_bold"))
    return same_run(selected, parse_entities(bold), selected)


def parse_label(entities: Mapping[str, str], key: str, numeric: tuple[str, ...] = ("run",)) -> str:
    """Return the label of an entity, "" if missing; labels of numeric entities lose leading zeros.

    `numeric` lists the entities whose labels are numbers.
    """
    label = entities.get(key, "")
    return str(int(label)) if key in numeric and label.isdigit() else label


def lack_run_number(runs: Sequence[Mapping[str, str]]) -> list[bool]:
    """Return for each run whether it has no number next to a numbered run of the same name.

    `runs` are entities of the runs of one participant, long names to labels.

    >>> lack_run_number([{"task": "a"}, {"task": "a", "run": "2"}, {"task": "b"}])
    [True, False, False]
    """
    ignored_keys = ("suffix", "extension", "datatype", "run")
    names = [{key: label for key, label in run.items() if key not in ignored_keys} for run in runs]
    numbered_names = [name for name, run in zip(names, runs, strict=True) if "run" in run]
    return [
        "run" not in run and name in numbered_names for name, run in zip(names, runs, strict=True)
    ]


def short_run_name(entities: Mapping[str, str], *, over_sessions: bool) -> str:
    """Return the name of a run among the runs of its task.

    `entities` are long names to labels. If `over_sessions`, the name contains the session.

    >>> short_run_name({"session": "A", "run": "1"}, over_sessions=True)
    'ses-A_run-1'
    >>> short_run_name({}, over_sessions=True), short_run_name({}, over_sessions=False)
    ('no ses-', 'no run-')
    """
    keys = (("session", "ses"), ("run", "run")) if over_sessions else (("run", "run"),)
    parts = [f"{short}-{entities[key]}" for key, short in keys if key in entities]
    return "_".join(parts) or ("no ses-" if over_sessions else "no run-")


def without_entities(entities: Mapping[str, str], excluded: Collection[str]) -> EntityKey:
    """Return the entities of a file except for some of them, as a value that can be a key."""
    return tuple((key, label) for key, label in entities.items() if key not in excluded)


def run_order(entities: Mapping[str, str]) -> tuple[str, int, str]:
    """Return a sort key of the runs of a participant: session, then run number."""
    return entities.get("session", ""), *run_number_order(entities)


def run_number_order(entities: Mapping[str, str]) -> tuple[int, str]:
    """Return a sort key of run labels, ``run-10`` after ``run-2``."""
    label = entities.get("run", "")
    return int(label) if label.isdigit() else 0, label
