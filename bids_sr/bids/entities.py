"""Entities in the names of BIDS files: which scan a file is of, and which files belong to it."""

import re
from collections.abc import Iterable, Mapping
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
"""Entities that tell runs apart: echoes are one run, magnitude goes without saying."""


def stem_of(path: Path) -> str:
    """File name of an image without extension and BIDS suffix."""
    name = (
        path.name.removesuffix(".gz")
        .removesuffix(".nii")
        .removesuffix(".tsv")
        .removesuffix(".json")
    )
    return name.rpartition("_")[0]


def stem_of_echoes(path: Path) -> str:
    """Name of the run that the file of an echo belongs to: `stem_of` without the echo.

    >>> stem_of_echoes(Path("sub-01_task-tap_echo-1_run-2_bold.nii.gz"))
    'sub-01_task-tap_run-2'
    """
    return re.sub(r"_echo-[0-9]+", "", stem_of(path))


def entities_of(path: Path) -> dict[str, str]:
    """Return the entities of a file name, with pybids' long names, in the order of the name.

    Labels remain text; unknown entities keep their short name.
    """
    pairs = (part.partition("-") for part in path.name.split("_")[:-1] if "-" in part)
    return {ENTITIES.get(key, key): value for key, _, value in pairs}


def same_run(first: Mapping[str, str], second: Mapping[str, str], keys: Iterable[str]) -> bool:
    """Return whether two sets of entities name one scan, as far as these keys tell.

    Session and run are compared as numbers.

    >>> first, second = {"task": "tap", "run": "01"}, {"task": "tap", "run": "1", "desc": "hmc"}
    >>> same_run(first, second, ("task", "run"))
    True

    True if all these labels agree; missing ones agree with missing ones.
    """
    numbered = ("session", "run")
    return all(label_of(first, key, numbered) == label_of(second, key, numbered) for key in keys)


def label_of(entities: Mapping[str, str], key: str, numbered: tuple[str, ...] = ("run",)) -> str:
    """Return the label of an entity ("" without one), without leading zeros if numbered."""
    label = entities.get(key, "")
    return str(int(label)) if key in numbered and label.isdigit() else label


def applies_to(file: Path, image: Path) -> bool:
    """Return whether a sidecar or table applies to an image (inheritance principle).

    It does if all entities in its name are those of the image.
    """
    own = entities_of(image)
    return all(own.get(key) == value for key, value in entities_of(file).items())


def is_magnitude(path: Path) -> bool:
    """False for phase, real and imaginary parts."""
    return entities_of(path).get("part", "mag") == "mag"
