"""Files in whole or not at all: written beside their place, brought to the disk, then renamed.

Whoever reads a file under its final name finds the old content or the new one, whatever ended the
writer. What a killed writer leaves has a hidden name that `remove_leftovers` knows.
"""

import contextlib
import errno
import filecmp
import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bids_sr.notices import Notice

_LARGEST_BYTES = 200_000_000  # that are read as text
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_PART = ".part"


class DiskFullError(OSError):
    """A file system is too full for a file of `needed` bytes (if known), as `notice` tells.

    What was there before is unchanged.
    """

    def __init__(self, path: Path, needed: int | None = None) -> None:
        wanted = "" if needed is None else f". {_amount(needed)} are required"
        why = (
            f"no space is left on the disk, or the disk quota is exceeded{wanted}. Currently,"
            f" {free_text(path)}. Incomplete files were removed"
        )
        self.notice = Notice(what=str(path), why=why, code="full")
        super().__init__(errno.ENOSPC, f"{path}: {why}")

    def __reduce__(self) -> tuple[type[OSError], tuple[object, ...]]:
        return OSError, self.args  # comes back from a worker with its text

    def __str__(self) -> str:
        return str(self.args[1])


def file_system_of(path: Path) -> Path:
    """The mount point that holds a path; the path itself need not exist."""
    place = path.absolute()
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    place = place.resolve()
    while not os.path.ismount(place) and place != place.parent:
        place = place.parent
    return place


def free_text(path: Path) -> str:
    """How much room the file system of a path has, as text."""
    place = file_system_of(path)
    return f"{_amount(shutil.disk_usage(place).free)} are free on the file system {place}"


def _amount(size: float) -> str:
    """Bytes in the unit that gives a short number."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def beside(path: Path) -> Path:
    """Return a unique hidden name in the same directory.

    No other writer has it, on whatever machine it runs.
    """
    return path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}{_PART}")


@contextlib.contextmanager
def whole_file(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary name beside `path` to write to.

    It replaces `path` when the block ends without error, and is removed otherwise.

    `durable` waits until the content is on the disk, so that not even a loss of power leaves less
    of it; not needed for files that are checked before they are used again. DiskFullError where
    the file system had no room; a file that was at `path` before is as it was.
    """
    part = beside(path)
    try:
        yield part
        put_in_place(part, path, durable=durable)
    except OSError as error:
        if error.errno in FULL and not isinstance(error, DiskFullError):
            raise DiskFullError(path, part.stat().st_size if part.exists() else 0) from error
        raise
    finally:
        part.unlink(missing_ok=True)


def put_in_place(part: Path, target: Path, *, durable: bool = True) -> None:
    """Rename a finished file to its final name.

    Where it is to be durable, its content is on the disk first, and a target of the same content
    is left as it is.
    """
    if durable:
        if target.is_file() and filecmp.cmp(part, target, shallow=False):
            part.unlink()
            return
        _to_disk(part)
    os.replace(part, target)


def link_whole(source: Path, target: Path) -> None:
    """Give a finished file a second name: a hard link, or a copy where the file system has none.

    A target that is this file already is left alone, and so is a copy of the same content.
    Directories are made as needed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(source):
        return
    part = beside(target)
    try:
        os.link(source, part)
    except OSError:  # another file system, one without links, or too many of them
        with whole_file(target) as copy:
            shutil.copyfile(source, copy)
        return
    try:
        os.replace(part, target)
    finally:
        # where another has made the same link: renaming then does nothing
        part.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # file systems that keep nothing to bring to a disk
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file atomically.

    A file of the same content is left as it is. Directories are made as needed.

    DiskFullError where there is no room for it; the old file is as it was.
    """
    if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with whole_file(path) as part:
            part.write_bytes(data)
    except DiskFullError as error:
        raise DiskFullError(path, len(data)) from error
    return path


def write_whole(path: Path, text: str) -> Path:
    """Write a text file (UTF-8) as `write_bytes` does."""
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, content: Mapping[str, object]) -> Path:
    """Write a JSON file as `write_bytes` does; equal content gives equal bytes."""
    return write_whole(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def remove_leftovers(folder: Path) -> int:
    """Remove the leftovers of killed writers and return their number.

    Nobody may be writing below the directory at the time.
    """
    left = [path for path in folder.rglob(f".*{_PART}") if path.is_file()]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def regular(path: Path) -> os.stat_result:
    """Return the state of a regular file, following links.

    Raises `OSError` where there is none, or for a directory, pipe, socket or device.
    """
    state = os.stat(path)
    if stat.S_ISDIR(state.st_mode):
        raise IsADirectoryError(
            errno.EISDIR, "the path is a directory, but a file is expected", str(path)
        )
    if not stat.S_ISREG(state.st_mode):
        raise OSError(
            errno.EINVAL,
            "the path is a pipe, socket or device, but a regular file is expected",
            str(path),
        )
    return state


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; empty where there is none that can be read."""
    try:
        found = json.loads(read_text(path))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_text(path: Path, *, encoding: str = "utf-8") -> str:
    """Read a text file with its line ends as they are.

    This neither waits for a pipe nor fills the memory.

    Raises `OSError` as `regular` does, and for a file larger than `_LARGEST_BYTES`;
    `UnicodeDecodeError` for another encoding.

    `encoding`: codec with which the bytes are decoded.
    """
    size = regular(path).st_size
    if size > _LARGEST_BYTES:
        raise OSError(
            errno.EFBIG,
            (
                f"the file size is {size / 1e6:.0f} MB, but at most {_LARGEST_BYTES / 1e6:.0f} MB"
                " are supported"
            ),
        )
    return path.read_bytes().decode(encoding)
