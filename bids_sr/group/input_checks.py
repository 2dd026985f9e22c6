"""Checks of the files that the group level reads: unreadable files, tables of other programs, and
maps in unknown units.

Headers of images and the text of tables are read, so that a dry run finds files that cannot be
opened. Damaged image data are only found while the maps are computed.
"""

import gzip
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bids_sr.engine.metric_rows import COLUMNS, MISSING, complete_table
from bids_sr.glm.map_sidecars import PERCENT
from bids_sr.group.input_maps import read_map_entry
from bids_sr.io.atomic_files import read_text
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.content import require_content
from bids_sr.survey.notices import InputError, judge, problem

_HEAD = "\t".join(COLUMNS)
_N_LABELS = list(COLUMNS).index("fwhm_mm")  # cells before the numbers
_NUMBER = rf"(?:{MISSING}|nan|[-+]?(?:inf|[0-9.]+(?:e[-+]?[0-9]+)?))"
# rows of a table: labels, then FWHM, value and interval, then number of values and unit
_ROWS = re.compile(
    rf"(?:(?:[^\t\n]*\t){{{_N_LABELS}}}(?:{_NUMBER}\t){{4}}[^\t\n]*\t[^\t\n]*(?:\n|$))*"
)
# position of the magic string by the size of the header, which the first four bytes contain
_NIFTI_HEADERS = {348: slice(344, 348), 540: slice(4, 8)}
# first bytes of composite transforms (HDF5) and of ITK text files
_TRANSFORM_STARTS = {".h5": b"\x89HDF\r\n\x1a\n", ".txt": b"#Insight Transform File"}


def require_readable(
    *,
    tables: Iterable[Path] = (),
    images: Iterable[Path] = (),
    transforms: Iterable[Path] = (),
) -> None:
    """Check that files can be opened.

    Tables must have the columns and numbers of this version, images a NIfTI header, and transforms
    the first bytes of their format. Raises `InputError` with the reason and a remedy for each file
    that cannot be opened.
    """
    problems: list[Notice] = []
    for paths, find_reason in (
        (tables, _find_table_problem),
        (images, _find_image_problem),
        (transforms, _find_transform_problem),
    ):
        for path in dict.fromkeys(paths):
            problems += judge([_check_file], path, find_reason)
    if problems:
        raise InputError(problems)


def _check_file(path: Path, find_reason: Callable[[Path], str]) -> Iterator[Notice]:
    """Reject a file that cannot be opened, or whose content was not downloaded."""
    try:
        reason = find_reason(path)
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        text = error.strerror if isinstance(error, OSError) else ""
        reason = f"the file cannot be read ({text or error})"
    if reason:
        require_content(path)
        yield problem(path, reason, remedy_text(path))


def require_units(maps: Iterable[Path]) -> None:
    """Check that effect maps are in percent.

    Raises `InputError` with a remedy for each map in another or an unknown unit.
    """
    problems = []
    for path in dict.fromkeys(maps):
        unit = str(read_map_entry(path, "Units") or "")
        if unit != PERCENT:
            unit_text = f"is {unit!r}" if unit else "is not in its sidecar (Units)"
            reason = f"the unit of the map {unit_text}; expected {PERCENT}"
            problems.append(problem(path, reason, remedy_text(path)))
    if problems:
        raise InputError(problems)


def _find_table_problem(path: Path) -> str:
    """Return why a table cannot be used, "" if it can."""
    text = complete_table(read_text(path))
    if not text.strip():
        return "the table is empty"
    head, _, rows = text.partition("\n")
    if head != _HEAD:
        return (
            f"the columns are {head!r}, but {' '.join(COLUMNS)} are expected. The table was"
            " written by another program or by another version of bids-sr"
        )
    match = _ROWS.match(rows)
    if match is not None and match.end() < len(rows):
        number = rows.count("\n", 0, match.end()) + 2
        return (
            f"line {number} is damaged; expected {len(COLUMNS)} cells, with a number or {MISSING}"
            " in the columns fwhm_mm, value, lower and upper"
        )
    return ""


def _find_image_problem(path: Path) -> str:
    """Return why an image cannot be opened, "" if it can."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as stream:
        header = stream.read(max(_NIFTI_HEADERS))
    if not header:
        return "the file is empty"
    for order in ("little", "big"):
        size = int.from_bytes(header[:4], order)
        if size in _NIFTI_HEADERS and header[_NIFTI_HEADERS[size]].startswith(b"n+"):
            return ""
    return "the file is not a readable NIfTI image"


def _find_transform_problem(path: Path) -> str:
    """Return why a transform cannot be opened, "" if it can."""
    expected = _TRANSFORM_STARTS.get(path.suffix, b"")
    with path.open("rb") as stream:
        start = stream.read(max(len(expected), 1))
    if not start:
        return "the file is empty"
    return "" if start.startswith(expected) else "the file is not an ITK transform"


def remedy_text(path: Path) -> str:
    """Return the remedy for a damaged file of a participant."""
    participant = path.name.partition("_")[0]
    return (
        f"Restore the file, or delete it and rerun the participant level with --participant-label"
        f" {participant.removeprefix('sub-')}."
    )
