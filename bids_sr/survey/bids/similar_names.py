"""Tables and sidecars that apply to no image because of a small difference in their names."""

import difflib
import os
import re
from pathlib import Path

from bids_sr.survey.bids.entities import SHORT_NAMES, file_stem, parse_entities
from bids_sr.survey.bids.inheritance import parse_suffix

_MIN_SIMILARITY = 0.8  # smallest similarity of spellings of one label, as defined by difflib


def describe_similar(image: Path, suffix: str, extension: str, keyword: str) -> str:
    """Return a sentence about a file that probably belongs to an image, but does not apply to it.

    `image` is a BOLD series without a table or sidecar in its directory. `suffix` and `extension`
    are of the missing file, such as ``events`` and ``.tsv``. `keyword` is a text that the names of
    candidates contain in any spelling, such as ``event``. The sentence states the file and the
    difference of its name; "" if the directory contains no such file.
    """
    candidates = []  # rank (lower for a more similar name), and text
    for name in sorted(entry.name for entry in os.scandir(image.parent)):
        path = image.with_name(name)
        if (
            keyword not in name.lower()
            or name.lower().endswith(".json") != (extension == ".json")
            or ".nii" in name.lower()
        ):
            continue
        if parse_suffix(path) != suffix or path.suffix != extension or name.count(".") > 1:
            starts_alike = name.lower().startswith(f"{file_stem(image)}_".lower())
            text = f"its name does not end in _{suffix}{extension}"
            difference = (1, text) if starts_alike else None
        else:
            difference = _describe_label(path, image)
        if difference is not None:
            rank, text = difference
            candidates.append((rank, f"{name} is not read because {text}."))
    return min(candidates, default=(0, ""))[1]


def _describe_label(path: Path, image: Path) -> tuple[int, str] | None:
    """Return the rank and the description of a label that the image does not have.

    A lower rank means a more similar name. None is returned if several labels differ, or if the
    file probably belongs to another image.
    """
    labels, image_labels = parse_entities(path), parse_entities(image)
    differing = [key for key, label in labels.items() if image_labels.get(key) != label]
    own_image = path.with_name(f"{file_stem(path)}_bold")
    if len(differing) != 1 or any(
        own_image.with_suffix(extension).exists() for extension in (".nii", ".nii.gz")
    ):
        return None
    (key,) = differing
    name = SHORT_NAMES.get(key, key)
    text = f"its name contains {name}-{labels[key]}"
    if key not in image_labels:
        return 3, text
    # a file in the folder of this participant cannot belong to another participant
    if key != "subject" and not _are_alike(labels[key], image_labels[key]):
        return None
    return 2, f"{text} instead of {name}-{image_labels[key]}"


def _are_alike(first: str, second: str) -> bool:
    """Return whether two labels are probably spellings of one label.

    >>> _are_alike("1", "01"), _are_alike("o-dd", "odd"), _are_alike("1", "2")
    (True, True, False)
    """
    plain_first, plain_second = (
        re.sub(r"[^0-9a-z]", "", label.lower()).lstrip("0") for label in (first, second)
    )
    similarity = difflib.SequenceMatcher(a=plain_first, b=plain_second).ratio()
    return plain_first == plain_second or similarity > _MIN_SIMILARITY
