"""Archive of a participant's figures with a manifest, for storage levels below full.

At these levels, figures are kept in a single file, because they are only needed for the report.
Steps write each figure and a note on its content (JSON) to a folder of the working directory. The
program packs the figures into the archive and the notes into its manifest. The report can then be
regenerated without the working directory.
"""

import contextlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any

from bids_sr.frozen import frozen
from bids_sr.io import atomic_files
from bids_sr.io.earlier_files import run_prefix

_MANIFEST = "manifest.json"
_NO_TIME = (1980, 1, 1, 0, 0, 0)  # constant time, so that equal figures give equal archives


@frozen
class ArchivedFigure:
    """Figure of a participant, with the note from the step that drew it.

    `figure` is the name of its declaration. `contrast` and `smoothing` are in words; n/a if the
    figure covers all of them. `label` is the method, if each method has a figure; otherwise "".
    `heading` is the text above and `caption` the text below the figure. If `alt` is "", the
    heading is the alternative text.
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
        """Whether the figure is an HTML fragment."""
        return self.path.suffix == ".html"


_NOTE_FIELDS = tuple(
    archived_field.name
    for archived_field in fields(ArchivedFigure)
    if archived_field.name != "path"
)


def _archive_path(root: Path, label: str) -> Path:
    """Return the path of a participant's archive; the label is without ``sub-``."""
    return root / f"sub-{label}" / "figures" / f"sub-{label}_figures.zip"


def _pack_figures(source: Path, root: Path, label: str) -> None:
    """Move a participant's figures into the archive below the derivatives `root`.

    New figures of a run replace all archived figures of this run; figures of other runs are kept.
    `source` is the folder of new figures, with the layout of `root`; figures are not packed if
    both are the same.
    """
    folder = source / f"sub-{label}" / "figures"
    if source == root or not folder.is_dir():
        return
    target = _archive_path(root, label)
    previous_files = _read_archive(target)
    files = dict(previous_files)
    notes = {note["file"]: note for note in json.loads(files.pop(_MANIFEST, b"[]"))}
    new_figures = list(_iterate_new_figures(folder))
    drawn_scopes = {run_prefix(path.name) for path, _ in new_figures}
    for name in [name for name in files if run_prefix(name) in drawn_scopes]:
        del files[name]
        notes.pop(name, None)
    for path, note in new_figures:
        files[path.name] = path.read_bytes()
        notes[path.name] = note
    files[_MANIFEST] = json.dumps([notes[name] for name in sorted(notes)], indent=1).encode(
        "utf-8"
    )
    if files == previous_files:
        return
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _NO_TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, files[name])
    atomic_files.write_bytes(target, buffer.getvalue())


@contextlib.contextmanager
def pack_figures(source: Path, root: Path, labels: Sequence[str]) -> Iterator[None]:
    """Pack the participants' figures when the ``with`` block ends, even after an error.

    `source` is the folder of new figures, with the layout of the derivatives.
    """
    try:
        yield
    finally:
        for label in labels:
            _pack_figures(source, root, label)


def _iterate_new_figures(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the figures in a folder that are not empty, with their notes."""
    for note in folder.glob("*.json"):
        path = note.with_suffix("")
        if path.is_file() and path.stat().st_size:
            yield path, json.loads(note.read_text(encoding="utf-8"))


def _read_archive(archive: Path) -> dict[str, bytes]:
    """Return the files of an archive by name; {} if it is missing or damaged.

    Figures of a damaged archive can be regenerated.
    """
    try:
        with zipfile.ZipFile(archive) as opened_archive:
            return {name: opened_archive.read(name) for name in opened_archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return {}


def read_figures(root: Path, label: str) -> list[ArchivedFigure]:
    """Return a participant's figures, sorted by contrast, figure and smoothing.

    If a figure is in both the folder and the archive, the newer file is returned. Figures of
    earlier versions without a manifest are skipped, because their content is unknown.
    """
    archive = _archive_path(root, label)
    figures: dict[str, ArchivedFigure] = {}
    archive_time_ns = 0
    if archive.is_file() and zipfile.is_zipfile(archive):
        archive_time_ns = archive.stat().st_mtime_ns
        archive_root = zipfile.Path(archive)  # the archive is opened only once for all figures
        manifest = archive_root / _MANIFEST
        for note in json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else ():
            figures[note["file"]] = _make_figure(archive_root / note["file"], note)
    for path, note in _iterate_new_figures(archive.parent):
        if path.name not in figures or path.stat().st_mtime_ns > archive_time_ns:
            figures[path.name] = _make_figure(path, note)
    archived_figures = (figures[name] for name in sorted(figures))
    return sorted(
        archived_figures,
        key=attrgetter("contrast", "figure", "smoothing", "label"),
    )


def _make_figure(path: Path | zipfile.Path, note: Mapping[str, Any]) -> ArchivedFigure:
    """Return a figure from its file and its note."""
    return ArchivedFigure(path=path, **{name: note[name] for name in _NOTE_FIELDS})
