"""Figures of a participant as one file, below the full level: a page holds them all, so nobody looks for them singly.

Steps leave figures in a folder of the work. Whoever writes the report packs them, in whole, into the archive from which
the page is made, also without the work.
"""

import contextlib
import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bids_sr.io import atomic_files

_NO_TIME = (1980, 1, 1, 0, 0, 0)  # equal figures give an equal archive

Figure = Path | zipfile.Path
"""A file, or a member of an archive: both have a name and can be read."""


def archive_of(root: Path, label: str) -> Path:
    """Where the archive of a participant (label without ``sub-``) lies."""
    return root / f"sub-{label}" / "figures" / f"sub-{label}_figures.zip"


def pack_figures(source: Path, root: Path, label: str) -> None:
    """Bring the figures of a participant into the archive below the derivatives `root`; those in it already stay.

    Parameters
    ----------
    source : folder in which steps left the figures, laid out as `root`; nothing is packed where it is the same
    """
    folder = source / f"sub-{label}" / "figures"
    if source == root or not folder.is_dir():
        return
    target = archive_of(root, label)
    found = _members(target) | {
        path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in sorted(found):
            info = zipfile.ZipInfo(name, _NO_TIME)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, found[name])
    atomic_files.write_bytes(target, packed.getvalue())


@contextlib.contextmanager
def packed_figures(source: Path, root: Path, labels: Sequence[str]) -> Iterator[None]:
    """Pack the figures of participants when the block ends, however it ends: the report shows what was drawn."""
    try:
        yield
    finally:
        for label in labels:
            pack_figures(source, root, label)


def _members(archive: Path) -> dict[str, bytes]:
    """Files of an archive by name; none where it is not there or was damaged, as all figures can be made again."""
    try:
        with zipfile.ZipFile(archive) as there:
            return {name: there.read(name) for name in there.namelist()}
    except (OSError, zipfile.BadZipFile):
        return {}


def figures_of(root: Path, label: str) -> list[Figure]:
    """Figures of a participant that are not empty, by name; of one in the folder and in the archive the newer."""
    folder, archive = root / f"sub-{label}" / "figures", archive_of(root, label)
    found: dict[str, Figure] = {}
    packed = archive.stat().st_mtime_ns if archive.is_file() else 0
    if archive.is_file() and zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as there:
            names = [each.filename for each in there.infolist() if each.file_size]
        found = {name: zipfile.Path(archive, name) for name in names}
    for path in folder.glob("sub-*_desc-*"):
        state = path.stat()
        if state.st_size and (path.name not in found or state.st_mtime_ns > packed):
            found[path.name] = path
    return [found[name] for name in sorted(found)]
