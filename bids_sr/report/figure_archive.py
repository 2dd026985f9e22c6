"""Figures of a participant and their manifest, archived below the full level.

At these levels they are kept in one file, as nobody looks for them singly.

Steps leave each figure with a note of what it shows (JSON, beside it) in a folder of the work.
Whoever writes the report packs the figures, in whole, into the archive, and the notes into its
manifest: from it the page is made, also without the work.
"""

import contextlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from bids_sr.frozen import frozen
from bids_sr.io import atomic_files
from bids_sr.io.earlier_files import scope_of

_MANIFEST = "manifest.json"
_NO_TIME = (1980, 1, 1, 0, 0, 0)  # equal figures give an equal archive


@frozen
class ArchivedFigure:
    """A figure of a participant, and what was noted where it was drawn.

    `figure`: name of its declaration. `contrast`, `smoothing`: in words; n/a where it is of all.
    `label`: name of the method where each has a figure; else empty. `heading`: text above it;
    empty for none. `caption`: text below it; empty for none. `alt`: alternative text; empty takes
    the text above it.
    """

    path: Path | zipfile.Path
    figure: str
    section: str
    entities: Mapping[str, str]
    contrast: str
    smoothing: str
    label: str
    heading: str
    caption: str
    alt: str

    @property
    def html(self) -> bool:
        """Whether it is a fragment of HTML."""
        return self.path.suffix == ".html"


_NOTED = tuple(each.name for each in fields(ArchivedFigure) if each.name != "path")


def _archive_of(root: Path, label: str) -> Path:
    """Where the archive of a participant (label without ``sub-``) lies."""
    return root / f"sub-{label}" / "figures" / f"sub-{label}_figures.zip"


def _pack_figures(source: Path, root: Path, label: str) -> None:
    """Move a participant's figures into the archive below the derivatives `root`.

    Figures that are already in it stay, but for those of the same runs that were not drawn now.

    `source`: folder in which steps left the figures, laid out as `root`; nothing is packed where
    it is the same.
    """
    folder = source / f"sub-{label}" / "figures"
    if source == root or not folder.is_dir():
        return
    target = _archive_of(root, label)
    before = _members(target)
    files = dict(before)
    notes = {note["file"]: note for note in json.loads(files.pop(_MANIFEST, b"[]"))}
    loose = list(_loose(folder))
    drawn = {scope_of(path.name) for path, _ in loose}
    for name in [name for name in files if scope_of(name) in drawn]:
        del files[name]
        notes.pop(name, None)
    for path, note in loose:
        files[path.name] = path.read_bytes()
        notes[path.name] = note
    files[_MANIFEST] = json.dumps([notes[name] for name in sorted(notes)], indent=1).encode(
        "utf-8"
    )
    if files == before:
        return
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _NO_TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, files[name])
    atomic_files.write_bytes(target, packed.getvalue())


@contextlib.contextmanager
def packed_figures(source: Path, root: Path, labels: Sequence[str]) -> Iterator[None]:
    """Pack participants' figures when the block ends, however it ends.

    The report then shows what was drawn.

    `source`: folder in which steps leave figures, laid out as the derivatives.
    """
    try:
        yield
    finally:
        for label in labels:
            _pack_figures(source, root, label)


def _loose(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Figures in a folder that are not empty, with their notes."""
    for note in folder.glob("*.json"):
        path = note.with_suffix("")
        if path.is_file() and path.stat().st_size:
            yield path, json.loads(note.read_text(encoding="utf-8"))


def _members(archive: Path) -> dict[str, bytes]:
    """Return an archive's files by name, none if missing or damaged: figures can be remade."""
    try:
        with zipfile.ZipFile(archive) as there:
            return {name: there.read(name) for name in there.namelist()}
    except (OSError, zipfile.BadZipFile):
        return {}


def figures_of(root: Path, label: str) -> list[ArchivedFigure]:
    """Return a participant's figures by contrast, figure and smoothing.

    Of a figure in both folder and archive, the newer is returned.

    Those of an earlier version, which wrote no manifest, are left out: nobody noted what they
    show.

    Figures with what was noted of them; empty for none.
    """
    archive = _archive_of(root, label)
    figures: dict[str, ArchivedFigure] = {}
    packed = 0
    if archive.is_file() and zipfile.is_zipfile(archive):
        packed = archive.stat().st_mtime_ns
        inside = zipfile.Path(archive)  # opened once for all figures
        manifest = inside / _MANIFEST
        for note in json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else ():
            figures[note["file"]] = _archived(inside / note["file"], note)
    for path, note in _loose(archive.parent):
        if path.name not in figures or path.stat().st_mtime_ns > packed:
            figures[path.name] = _archived(path, note)
    every = (figures[name] for name in sorted(figures))
    return sorted(every, key=lambda each: (each.contrast, each.figure, each.smoothing, each.label))


def _archived(path: Path | zipfile.Path, note: Mapping[str, Any]) -> ArchivedFigure:
    return ArchivedFigure(path=path, **{name: note[name] for name in _NOTED})
