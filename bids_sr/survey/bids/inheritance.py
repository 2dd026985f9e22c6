"""Sidecars and tables of an image, by the inheritance principle of BIDS."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from bids_sr.io.atomic_files import read_text
from bids_sr.io.checksums import once_per_state
from bids_sr.io.json_values import parse_json
from bids_sr.survey.bids.content import require_content
from bids_sr.survey.bids.entities import applies_to, parse_entities
from bids_sr.survey.notices import input_error


def merge_sidecars(files: Iterable[Path]) -> dict[str, object]:
    """Merge the content of sidecars in ascending precedence, and drop null values."""
    metadata: dict[str, object] = {}
    for file in files:
        metadata.update(read_object(file))
    return {key: value for key, value in metadata.items() if value is not None}


def read_metadata(image: Path, root: Path) -> dict[str, object]:
    """Return the metadata of an image or table after inheritance, or raise `InputError`."""
    return merge_sidecars(find_sidecars(image, root))


def read_object(path: Path) -> dict[str, object]:
    """Read a JSON file that contains an object.

    Raises `InputError` if the file was not downloaded, cannot be read, is not valid JSON, or
    contains another type.
    """
    try:
        value = parse_json(_read_text(path))
    except (OSError, ValueError) as error:
        require_content(path)
        raise input_error(
            path, f"the file cannot be read as JSON ({error})", "Correct the file."
        ) from error
    if not isinstance(value, dict):
        raise input_error(
            path,
            "the file does not contain a JSON object",
            "Correct the file; BIDS metadata must be a single JSON object, {…}.",
        )
    return value


_read_text = once_per_state(read_text)


def find_sidecars(image: Path, root: Path) -> list[Path]:
    """Return the JSON files that apply to an image in ascending precedence, from the root down."""
    suffix = parse_suffix(image)

    def list_sidecars(folder: Path) -> list[Path]:
        paths = sorted(folder.glob(f"*{suffix}.json"))
        return [path for path in paths if parse_suffix(path) == suffix]

    return find_inherited(image, root, list_sidecars)


def parse_suffix(path: Path) -> str:
    """Return the BIDS suffix of a file name, such as ``bold``, ``events`` or ``T1w``."""
    return path.name.split(".")[0].rpartition("_")[2]


def find_inherited(
    image: Path, root: Path, files_in: Callable[[Path], Iterable[Path]]
) -> list[Path]:
    """Return the files that apply to an image by the inheritance principle.

    These are files in the folder of the image or above it whose entities all occur in the name of
    the image, from the root of the data set down, and within a folder by ascending number of
    entities.

    `files_in` returns the candidates in a folder.
    """
    return [
        file
        for folder in reversed(image.parents)
        if folder.is_relative_to(root)
        for file in sorted(files_in(folder), key=lambda file: len(parse_entities(file)))
        if applies_to(file, image)
    ]
