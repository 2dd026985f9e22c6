"""Index of a data set by pybids, made once for all participants.

pybids indexes names only. Its own reading of sidecars asks the database once for every events
table, which grows with the square of the number of participants; sidecars are read here, when they
are needed. Its `database_path` is used, in a folder named by the files that are there, as pybids
reads a database without asking whether it still holds.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.bids.entities import ENTITIES, entities_of, stem_of
from bids_sr.bids.findings import refusal
from bids_sr.bids.inheritance import inherited, merged, suffix_of
from bids_sr.io.checksums import checksum

if TYPE_CHECKING:
    from bids.layout import BIDSLayout

IMAGES = (".nii.gz", ".nii")
_FORM = "2"  # of our databases; another one is not read
_LABEL = "[0-9A-Za-z+]+"
_FOLDERS = ("anat", "func")
_TABLE = r"[^/]*(?<![^_/])(?:bold|events)\.(?:json|tsv)"
_TABLE_NAME = re.compile(_TABLE)
KINDS: dict[str, tuple[str, str]] = {
    "bold": ("func", "bold"),
    "t1w": ("anat", "T1w"),
    "t2starw": ("anat", "T2starw"),
    "t2w": ("anat", "T2w"),
    "flair": ("anat", "FLAIR"),
}
"""Kind of image, as ``--bids-filter-file`` names it → folder and suffix."""
_NAME_KEYS = frozenset(
    {*ENTITIES.values(), "suffix", "extension", "datatype", "fmap", "staining", "inversion"}
)


class Index:
    """Index of the data set by pybids, queried once per kind of image.

    `bids_dir`: root of the data set, absolute. `filters`: values of entities by their long name,
    for each kind of image.
    """

    def __init__(
        self, layout: BIDSLayout, bids_dir: Path, filters: Mapping[str, Mapping[str, object]]
    ) -> None:
        self._layout, self._root, self._filters = layout, bids_dir, filters
        self._images: dict[str, dict[str, list[Path]]] = {}
        self._beside: dict[tuple[Path, str, str], list[Path]] = {}
        for name in layout.get(
            extension=[".json", ".tsv"], suffix=["bold", "events"], return_type="filename"
        ):
            path = Path(name)
            self._beside.setdefault((path.parent, suffix_of(path), path.suffix), []).append(path)

    def find(self, kind: str, label: str) -> list[Path]:
        """Return images of a kind (bold, t1w, t2starw, ...) of a participant, sorted by name.

        `InputError`: the filter has an entity or a value that the data set has not. Returns images
        that pass the filters; empty for none.
        """
        if kind in self._images:
            return self._images[kind].get(label, [])
        folder, suffix = KINDS[kind]
        query = {
            "extension": list(IMAGES),
            "datatype": folder,
            "suffix": suffix,
            **self._filters.get(kind, {}),
        }
        query.pop("subject", None)
        # pybids takes it from the whole path, also from above the data set
        folders = query.pop("datatype")
        folders = folders if isinstance(folders, list) else [folders]
        try:
            paths = self._layout.get(return_type="filename", **query)
        except (ValueError, TypeError) as error:
            raise refusal(
                f"--bids-filter-file ({kind})",
                "the filter uses an entity or value that does not occur in the dataset"
                f" ({str(error).split('. ')[0][:200]})",
                "Use the long entity names of pybids: session, acquisition, run, echo, part,"
                " reconstruction, direction.",
            ) from error
        images = self._images[kind] = {}
        for path in sorted(map(Path, paths)):
            if path.parent.name in folders:
                images.setdefault(
                    path.relative_to(self._root).parts[0].removeprefix("sub-"), []
                ).append(path)
        return images.get(label, [])

    def _inherited(self, image: Path, suffix: str, extension: str) -> list[Path]:
        if self._root not in image.parents:  # a file of another data set has what lies beside it
            beside = image.with_name(f"{stem_of(image)}_{suffix}{extension}")
            return [beside] * beside.is_file()
        known = self._beside
        return inherited(image, self._root, lambda at: known.get((at, suffix, extension), ()))

    def events(self, image: Path) -> Path | None:
        """Table of events that applies to an image: the nearest, then with the most entities."""
        found = self._inherited(image, "events", ".tsv")
        return max(found, key=lambda file: (len(file.parts), len(entities_of(file))), default=None)

    def sidecar(self, path: Path) -> dict[str, object]:
        """Metadata of an image or table after inheritance; values of null are left out.

        Nearer and more specific files take precedence. `InputError`: a JSON file that applies
        cannot be read or holds no object.
        """
        return merged(self._inherited(path, suffix_of(path), ".json"))


def open_index(
    bids_dir: Path,
    labels: Sequence[str],
    every: Sequence[str],
    database_dir: Path | None,
    filters: Mapping[str, Mapping[str, object]],
) -> Index:
    """Index what is needed: anatomical and functional files of the chosen participants.

    With a database directory everything is indexed, as the database serves later calls with other
    participants. It is made again once a file was added, removed or renamed.

    `bids_dir`: absolute. `database_dir`: holds one folder for each data set, or None.
    """
    metadata = any(key not in _NAME_KEYS for query in filters.values() for key in query)
    if metadata:  # the content of all sidecars will be read; opening a pipe would wait forever
        _refuse_special_files(bids_dir)
    if database_dir is None:
        chosen = None if set(labels) == set(every) else labels
        layout = _layout(bids_dir, chosen, None, metadata=metadata)
    else:
        layout = _stored(bids_dir, database_dir, metadata=metadata)
    return Index(layout, bids_dir, filters)


def _refuse_special_files(bids_dir: Path) -> None:
    """Raise InputError if a file that would be indexed is a pipe, socket or device."""
    for entry in _listing(bids_dir):
        path = Path(entry.path)
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise refusal(
                path,
                "the file is a pipe, socket or device; a regular file is expected",
                "Replace it by a regular file, or remove it.",
            )


def _layout(
    bids_dir: Path, labels: Sequence[str] | None, database: Path | None, *, metadata: bool
) -> BIDSLayout:
    from bids.layout import BIDSLayout, BIDSLayoutIndexer

    indexer = BIDSLayoutIndexer(
        validate=False,
        ignore=[_ignored(labels)],
        index_metadata=metadata,
        config_filename=".no-config-of-pybids-is-taken-from-the-data-set",
        suffix=["bold"],
        extension=[*IMAGES, ".json"],
    )
    place = str(database) if database else None
    try:
        return BIDSLayout(
            str(bids_dir), validate=False, derivatives=False, indexer=indexer, database_path=place
        )
    except UnicodeEncodeError as error:
        odd = next(
            (entry.path for entry in _listing(bids_dir) if not entry.path.isprintable()), bids_dir
        )
        shown = os.fsencode(odd).decode(errors="backslashreplace")
        raise refusal(
            shown,
            "the file or directory name is not valid UTF-8",
            "Rename the file or directory using only letters, digits, underscores and hyphens.",
        ) from error
    except OSError as error:
        raise refusal(
            bids_dir,
            f"a file in the dataset cannot be read ({error}; {error.__cause__})",
            "Correct this file.",
        ) from error


def _ignored(labels: Sequence[str] | None = None) -> re.Pattern[str]:
    """Return the pattern of paths that are not indexed, relative to the root.

    Only images, and the tables and sidecars of runs, are indexed.

    Only folders of BIDS are entered, so that links which lead back up cannot be followed for ever.
    """
    label = _LABEL if labels is None else "(?:" + "|".join(map(re.escape, labels)) + ")"
    place = f"/sub-{label}(?:/ses-{_LABEL})?"
    folder = f"{place}/(?:{'|'.join(_FOLDERS)})"
    patterns = [
        f"/{_TABLE}",
        place,
        f"{place}/{_TABLE}",
        folder,
        f"{folder}/{_TABLE}",
        rf"{folder}/[^/]+\.nii(?:\.gz)?",
    ]
    return re.compile(f"^(?!(?:{'|'.join(patterns)})$)")


def _stored(bids_dir: Path, database_dir: Path, *, metadata: bool) -> BIDSLayout:
    """Return the database of this state of the data set, made if missing, replacing older ones."""
    file_name = "bids-sr-" + hashlib.sha256(os.fsencode(bids_dir)).hexdigest()[:12]
    folder = database_dir / f"{file_name}-{_fingerprint(bids_dir, metadata=metadata)}"
    try:
        if not folder.is_dir():
            _make(bids_dir, folder, metadata=metadata)
            for old in database_dir.glob(f"{file_name}-*"):
                if old != folder:
                    shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise refusal(
            f"--bids-database-dir {database_dir}",
            f"the database index cannot be written to this directory ({error})",
            "Choose a writable directory, or omit the option.",
        ) from error
    return _layout(bids_dir, None, folder, metadata=metadata)


def _make(bids_dir: Path, folder: Path, *, metadata: bool) -> None:
    """Make a database in a temporary place and move it into its own as a whole.

    Another process may have been quicker.
    """
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        made = _layout(bids_dir, None, beside, metadata=metadata)
        made.session.close()
        os.rename(beside, folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _fingerprint(bids_dir: Path, *, metadata: bool = False) -> str:
    """Return a digest of all indexed file names and, with `metadata`, of the sidecars' content."""
    seen = hashlib.sha256(f"{_FORM} {metadata}".encode())
    for entry in _listing(bids_dir):
        seen.update(os.fsencode(entry.path) + b"\0")
        if metadata and entry.name.endswith(".json"):
            seen.update(checksum(Path(entry.path)).encode())
    return seen.hexdigest()[:16]


def _listing(bids_dir: Path) -> Iterator[os.DirEntry[str]]:
    """Files that are indexed, in the order of their names; nothing else is looked into."""
    yield from _indexed_in(bids_dir)
    for participant in _folders(bids_dir, "sub-"):
        for place in [participant, *_folders(participant, "ses-")]:
            yield from _indexed_in(place)
            for folder in (place / name for name in _FOLDERS):
                if folder.is_dir():
                    yield from _indexed_in(folder, images=IMAGES)


def _indexed_in(folder: Path, images: tuple[str, ...] = ()) -> list[os.DirEntry[str]]:
    found = (
        e for e in os.scandir(folder) if e.name.endswith(images) or _TABLE_NAME.fullmatch(e.name)
    )
    return sorted(found, key=lambda entry: entry.name)


def _folders(folder: Path, prefix: str) -> list[Path]:
    return sorted(
        Path(entry)
        for entry in os.scandir(folder)
        if entry.name.startswith(prefix) and entry.is_dir()
    )
