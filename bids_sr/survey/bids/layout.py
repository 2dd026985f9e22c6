"""Index of a data set by pybids, built once for all participants.

Only file names are indexed by pybids, and sidecars are read here on demand, because its metadata
index takes most of the time in a large data set. `database_path` of pybids is used with a folder
whose name depends on the existing files, because pybids does not check whether a stored database
is up to date.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.io.checksums import checksum
from bids_sr.survey.bids.content import is_denied
from bids_sr.survey.bids.entities import ENTITIES, file_stem, parse_entities
from bids_sr.survey.bids.ignored_files import is_ignored, read_patterns
from bids_sr.survey.bids.inheritance import (
    find_inherited,
    merge_sidecars,
    parse_suffix,
    read_object,
)
from bids_sr.survey.bids.participant_selection import find_denied_folders
from bids_sr.survey.bids.run_names import MisspelledImage, find_misspelled_images
from bids_sr.survey.notices import InputError, input_error

if TYPE_CHECKING:
    from bids.layout import BIDSLayout

IMAGES = (".nii.gz", ".nii")
_DATABASE_VERSION = "2"  # stored databases of other versions are not read
_LABEL_PATTERN = "[0-9A-Za-z+]+"
_DATATYPES = ("anat", "func")
_TABLE_PATTERN = r"[^/]*(?<![^_/])(?:bold|events)\.(?:json|tsv)"
_TABLE_NAME = re.compile(_TABLE_PATTERN)
KINDS: dict[str, tuple[str, str]] = {
    "bold": ("func", "bold"),
    "t1w": ("anat", "T1w"),
    "t2starw": ("anat", "T2starw"),
    "t2w": ("anat", "T2w"),
    "flair": ("anat", "FLAIR"),
}
"""Kind of image in ``--bids-filter-file`` → folder and suffix."""
_ENTITIES_IN_NAMES = frozenset(
    {*ENTITIES.values(), "suffix", "extension", "datatype", "fmap", "staining", "inversion"}
)


def open_index(
    bids_dir: Path,
    labels: Sequence[str],
    all_labels: Sequence[str],
    database_dir: Path | None,
    filters: Mapping[str, Mapping[str, object]],
) -> Index:
    """Index the anatomical and functional files of the selected participants.

    With a database directory, all participants that may be read are indexed, because later calls
    may select others. The database is rebuilt if a file was added, removed or renamed.

    `bids_dir` is absolute. `labels` are the selected and `all_labels` all participants.
    `database_dir` has one folder per data set; None for an index in memory. `filters` are values
    of entities by their long name, for each kind of image.
    """
    indexes_metadata = any(
        key not in _ENTITIES_IN_NAMES for query in filters.values() for key in query
    )
    if indexes_metadata:  # pybids then reads all sidecars, and opening a pipe would block forever
        _refuse_pipes(bids_dir)
    if database_dir is None:
        selected_labels = None if set(labels) == set(all_labels) else labels
        layout = _build_layout(bids_dir, selected_labels, None, metadata=indexes_metadata)
    else:
        denied = find_denied_folders(bids_dir, all_labels)
        readable_labels = [label for label in all_labels if label not in denied]
        indexed_labels = readable_labels if denied else None
        layout = _open_database(bids_dir, indexed_labels, database_dir, metadata=indexes_metadata)
    return Index(layout, bids_dir, filters)


def _refuse_pipes(bids_dir: Path) -> None:
    """Raise `InputError` if a file to index is not a regular file."""
    for entry in _list_files(bids_dir):
        path = Path(entry.path)
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise input_error(
                path,
                "the file is a pipe, socket or device; a regular file is expected",
                "Replace it by a regular file, or remove it.",
            )


def _open_database(
    bids_dir: Path, labels: Sequence[str] | None, database_dir: Path, *, metadata: bool
) -> BIDSLayout:
    """Open the database for the current files of the data set, built if missing.

    Databases of earlier states of the data set are removed. `labels` restricts the index to
    participants; None includes all.
    """
    folder_prefix = "bids-sr-" + hashlib.sha256(os.fsencode(bids_dir)).hexdigest()[:12]
    folder = database_dir / f"{folder_prefix}-{_digest_files(bids_dir, metadata=metadata)}"
    try:
        if not folder.is_dir():
            partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            try:
                _build_layout(bids_dir, labels, partial, metadata=metadata).session.close()
                os.rename(partial, folder)
            except OSError:  # unless another process was faster
                if not folder.is_dir():
                    raise
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            for old_folder in set(database_dir.glob(f"{folder_prefix}-*")) - {folder}:
                shutil.rmtree(old_folder, ignore_errors=True)
    except OSError as error:
        raise input_error(
            f"--bids-database-dir {database_dir}",
            f"the database index cannot be written to this directory ({error})",
            "Choose a writable directory, or omit the option.",
        ) from error
    return _build_layout(bids_dir, labels, folder, metadata=metadata)


def _digest_files(bids_dir: Path, *, metadata: bool) -> str:
    """Return a digest of all indexed file names and, with `metadata`, of the sidecars' content."""
    digest = hashlib.sha256(f"{_DATABASE_VERSION} {metadata}".encode())
    for entry in _list_files(bids_dir):
        digest.update(os.fsencode(entry.path) + b"\0")
        if metadata and entry.name.endswith(".json"):
            digest.update(checksum(Path(entry.path)).encode())
    return digest.hexdigest()[:16]


def _build_layout(
    bids_dir: Path, labels: Sequence[str] | None, database: Path | None, *, metadata: bool
) -> BIDSLayout:
    """Index a data set with pybids, in `database` or in memory (None).

    `labels` restricts the index to participants; None includes all.
    """
    from bids.layout import BIDSLayout, BIDSLayoutIndexer

    indexer = BIDSLayoutIndexer(
        validate=False,
        ignore=[_make_ignore_pattern(labels)],
        index_metadata=metadata,
        config_filename=".no-config-of-pybids-is-taken-from-the-data-set",
        suffix=["bold"],  # of the images whose metadata are indexed
        extension=[*IMAGES, ".json"],
    )
    database_path = str(database) if database else None
    try:
        return BIDSLayout(
            str(bids_dir),
            validate=False,
            derivatives=False,
            indexer=indexer,
            database_path=database_path,
        )
    except UnicodeEncodeError as error:
        raise input_error(
            _find_unprintable_path(bids_dir),
            "the file or directory name is not valid UTF-8",
            "Rename the file or directory using only letters, digits, underscores and hyphens.",
        ) from error
    except OSError as error:
        raise input_error(
            bids_dir,
            f"a file in the dataset cannot be read ({error}; {error.__cause__})",
            "Correct this file.",
        ) from error
    except RecursionError:  # while pybids reads the sidecars
        for entry in _list_files(bids_dir):
            if entry.name.endswith(".json"):
                read_object(Path(entry.path))
        raise


def _make_ignore_pattern(labels: Sequence[str] | None) -> re.Pattern[str]:
    """Return a pattern that matches the paths (relative to the root) that are not indexed.

    Only images, and the tables and sidecars of runs, are indexed. Only BIDS folders are entered,
    so that links to a parent folder do not cause an endless search.
    """
    label = _LABEL_PATTERN if labels is None else f"(?:{'|'.join(map(re.escape, labels))})"
    session_folder = f"/sub-{label}(?:/ses-{_LABEL_PATTERN})?"
    image_folder = f"{session_folder}/(?:{'|'.join(_DATATYPES)})"
    patterns = [
        f"/{_TABLE_PATTERN}",
        session_folder,
        f"{session_folder}/{_TABLE_PATTERN}",
        image_folder,
        f"{image_folder}/{_TABLE_PATTERN}",
        rf"{image_folder}/[^/]+\.nii(?:\.gz)?",
    ]
    return re.compile(f"^(?!(?:{'|'.join(patterns)})$)")


def _find_unprintable_path(bids_dir: Path) -> str:
    """Return the first path that is not valid UTF-8, with its invalid bytes escaped."""
    paths = (entry.path for entry in _list_files(bids_dir))
    invalid_path = next((path for path in paths if not path.isprintable()), bids_dir)
    return os.fsencode(invalid_path).decode(errors="backslashreplace")


def _list_files(bids_dir: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the files to index, sorted by name within a folder; other folders are not entered."""
    yield from _list_indexed_files(bids_dir)
    for participant in list_subfolders(bids_dir, "sub-"):
        for session_dir in [participant, *list_subfolders(participant, "ses-")]:
            yield from _list_indexed_files(session_dir)
            for folder in (session_dir / name for name in _DATATYPES):
                if folder.is_dir() and not is_denied(folder):
                    yield from _list_indexed_files(folder, images=IMAGES)


def _list_indexed_files(folder: Path, images: tuple[str, ...] = ()) -> list[os.DirEntry[str]]:
    """Return the images and tables in a folder that are indexed, sorted by name."""
    entries = (
        entry
        for entry in os.scandir(folder)
        if entry.name.endswith(images) or _TABLE_NAME.fullmatch(entry.name)
    )
    return sorted(entries, key=lambda entry: entry.name)


def list_subfolders(folder: Path, prefix: str) -> list[Path]:
    """Return the subfolders that may be read and whose names start with a prefix, sorted."""
    folders = (
        Path(entry)
        for entry in os.scandir(folder)
        if entry.name.startswith(prefix) and entry.is_dir()
    )
    return sorted(path for path in folders if not is_denied(path))


class Index:
    """Index of a data set by pybids, queried once per kind of image.

    `bids_dir` is absolute. `filters` are values of entities by their long name, for each kind of
    image.
    """

    def __init__(
        self, layout: BIDSLayout, bids_dir: Path, filters: Mapping[str, Mapping[str, object]]
    ) -> None:
        self._layout, self._root, self._filters = layout, bids_dir, filters
        self._ignore_patterns = read_patterns(bids_dir)
        self.sidecars: set[Path] = set()  # JSON files that were read
        # kind of image → label of the participant → images
        self._images: dict[str, dict[str, list[Path]]] = {}
        # folder, suffix and extension → tables and sidecars
        self._tables: dict[tuple[Path, str, str], list[Path]] = {}
        for file_name in layout.get(
            extension=[".json", ".tsv"], suffix=["bold", "events"], return_type="filename"
        ):
            path = Path(file_name)
            key = path.parent, parse_suffix(path), path.suffix
            self._tables.setdefault(key, []).append(path)

    def find(self, kind: str, label: str) -> list[Path]:
        """Return the images of a participant that pass the filters, sorted by name.

        `kind` is a key of `KINDS`. Raises `InputError` if the filter contains an entity or value
        that does not occur in the data set.
        """
        if kind not in self._images:
            self._images[kind] = self._query(kind)
        return self._images[kind].get(label, [])

    def _query(self, kind: str) -> dict[str, list[Path]]:
        """Return the images of a kind that pass the filters, by participant label."""
        default_folder, suffix = KINDS[kind]
        query = {
            "extension": list(IMAGES),
            "datatype": default_folder,
            "suffix": suffix,
            **self._filters.get(kind, {}),
        }
        query.pop("subject", None)
        # pybids derives the datatype from the whole path, including folders above the data set
        datatype = query.pop("datatype")
        folders = datatype if isinstance(datatype, list) else [datatype]
        try:
            paths = self._layout.get(return_type="filename", **query)
        except (ValueError, TypeError) as error:
            raise input_error(
                f"--bids-filter-file ({kind})",
                "the filter uses an entity or value that does not occur in the dataset"
                f" ({str(error).split('. ')[0][:200]})",
                "Use the long entity names of pybids: session, acquisition, run, echo, part,"
                " reconstruction, direction.",
            ) from error
        images: dict[str, list[Path]] = {}
        for path in sorted(map(Path, paths)):
            if path.parent.name in folders:
                label = path.relative_to(self._root).parts[0].removeprefix("sub-")
                images.setdefault(label, []).append(path)
        return images

    def is_ignored(self, path: Path) -> bool:
        """Return whether a file is listed in ``.bidsignore``."""
        return is_ignored(path, self._root, self._ignore_patterns)

    def find_misspelled_images(self, kind: str, label: str) -> list[MisspelledImage]:
        """Return the images of a participant that `find` misses because of misspelled names.

        The result is empty if a filter restricts the images of the kind.
        """
        if self._filters.get(kind):
            return []
        folder, suffix = KINDS[kind]
        participant = self._root / f"sub-{label}"
        return [
            image
            for session_dir in [participant, *list_subfolders(participant, "ses-")]
            for image in find_misspelled_images(session_dir / folder, suffix)
        ]

    def events(self, image: Path) -> Path | None:
        """Return the events table of an image, or None if there is none.

        The nearest table takes precedence, then the table with the most entities.
        """
        tables = self._find_inherited(image, "events", ".tsv")
        return max(
            tables, key=lambda table: (len(table.parts), len(parse_entities(table))), default=None
        )

    def read_events_sidecar(self, events: Path) -> dict[str, object]:
        """Return the metadata of an events table after inheritance.

        Sidecars that cannot be read are skipped; `type_levels` reports them.
        """
        readable_files = []
        for file in self.find_sidecars(events):
            with suppress(InputError):
                self.read_sidecar(file)
                readable_files.append(file)
        return merge_sidecars(readable_files)

    def list_shared_sidecars(self) -> list[Path]:
        """Return the sidecars of events in the root directory that all participants share."""
        return [
            sidecar
            for sidecar in sorted(self._tables.get((self._root, "events", ".json"), ()))
            if not parse_entities(sidecar).keys() & {"subject", "session"}
        ]

    def find_sidecars(self, path: Path) -> list[Path]:
        """Return the JSON files that apply to an image or table, in ascending precedence."""
        return self._find_inherited(path, parse_suffix(path), ".json")

    def _find_inherited(self, image: Path, suffix: str, extension: str) -> list[Path]:
        """Return the metadata or events files that apply to an image."""
        # no inheritance for images of another dataset: only the file next to the image applies
        if self._root not in image.parents:
            neighbor = image.with_name(f"{file_stem(image)}_{suffix}{extension}")
            return [neighbor] if neighbor.is_file() else []
        tables = self._tables
        return find_inherited(
            image, self._root, lambda folder: tables.get((folder, suffix, extension), ())
        )

    def has_own_sidecar(self, path: Path) -> bool:
        """Return whether a sidecar in the directory of an image applies to the image."""
        return any(file.parent == path.parent for file in self.find_sidecars(path))

    def read_metadata(self, path: Path) -> dict[str, object]:
        """Return the metadata of an image or table after inheritance, without null values.

        Nearer and more specific files take precedence. Raises `InputError` if a JSON file that
        applies cannot be read or does not contain an object.
        """
        files = self.find_sidecars(path)
        self.sidecars.update(files)
        return merge_sidecars(files)

    def read_sidecar(self, file: Path) -> dict[str, object]:
        """Return the content of one JSON file, without files that it inherits from.

        Raises `InputError` if the file cannot be read or does not contain an object.
        """
        self.sidecars.add(file)
        return read_object(file)
