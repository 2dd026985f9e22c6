"""Tables and sidecars that apply to no image because of a small difference in their names."""

import difflib
import os
import re
from pathlib import Path

from bids_sr.bids.entities import ENTITIES, file_stem, parse_entities
from bids_sr.bids.inheritance import parse_suffix

_ALIKE = 0.8  # smallest share of common letters in two spellings of a label
_SHORT = {name: short for short, name in ENTITIES.items()}


def describe_similar(image: Path, suffix: str, extension: str, word: str) -> str:
    """Return a sentence about a file that probably belongs to an image, but does not apply to it.

    Parameters
    ----------
    image : Path
        BOLD series without a table or sidecar in its directory.
    suffix, extension : str
        Suffix and extension of the missing file, such as ``events`` and ``.tsv``.
    word : str
        Text that the names of candidates contain in any spelling, such as ``event``.

    Returns
    -------
    str
        The file and the difference of its name; "" if the directory contains no such file.
    """
    described = []
    for name in sorted(entry.name for entry in os.scandir(image.parent)):
        path = image.with_name(name)
        is_json = name.lower().endswith(".json")
        if word not in name.lower() or is_json != (extension == ".json") or ".nii" in name.lower():
            continue
        if (difference := _difference(path, image, suffix, extension)) is not None:
            described.append((difference[0], f"{name} is not read because {difference[1]}."))
    return min(described, default=(0, ""))[1]


def _difference(path: Path, image: Path, suffix: str, extension: str) -> tuple[int, str] | None:
    """Return the number of differences and their text; None if the file is not similar."""
    if parse_suffix(path) != suffix or path.suffix != extension or path.name.count(".") > 1:
        if not path.name.lower().startswith(f"{file_stem(image)}_".lower()):
            return None
        return 1, f"its name does not end in _{suffix}{extension}"
    labels, image_labels = parse_entities(path), parse_entities(image)
    texts = [
        f"{_SHORT.get(key, key)}-{label}"
        + (
            f" instead of {_SHORT.get(key, key)}-{image_labels[key]}"
            if key in image_labels
            else ""
        )
        for key, label in labels.items()
        if image_labels.get(key) != label
    ]
    # files of other images differ in several labels, or are next to their image
    owner = path.with_name(f"{file_stem(path)}_bold")
    if len(texts) != 1 or any(owner.with_suffix(end).exists() for end in (".nii", ".nii.gz")):
        return None
    (key,) = (key for key, label in labels.items() if image_labels.get(key) != label)
    if key in image_labels and key != "subject" and not _are_alike(labels[key], image_labels[key]):
        return None
    return 2 + (key not in image_labels), f"its name contains {texts[0]}"


def _are_alike(first: str, second: str) -> bool:
    """Return whether two labels are probably spellings of one label.

    >>> _are_alike("1", "01"), _are_alike("o-dd", "odd"), _are_alike("1", "2")
    (True, True, False)
    """
    first, second = (
        re.sub(r"[^0-9a-z]", "", label.lower()).lstrip("0") for label in (first, second)
    )
    return first == second or difflib.SequenceMatcher(a=first, b=second).ratio() > _ALIKE
