"""Atomic writing of files: to a temporary name in the same directory, then renamed.

A reader of the final name finds either the old or the new content, however the writer ended. Files
of a killed writer have hidden names, which `remove_leftovers` recognizes.
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

from bids_sr.io.json_values import parse_json
from bids_sr.io.notices import Notice

_MAX_TEXT_BYTES = 200_000_000  # bytes, largest file that is read as text
DISK_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers of a full disk and an exceeded quota."""
_TEMPORARY_SUFFIX = ".part"


class DiskFullError(OSError):
    """Error for a full file system, with a notice that contains the required size if known.

    The previous content of the file is unchanged.
    """

    def __init__(self, path: Path, required_bytes: int | None = None) -> None:
        required = (
            "" if required_bytes is None else f". {_format_bytes(required_bytes)} are required"
        )
        reason = (
            f"no space is left on the disk, or the disk quota is exceeded{required}. Currently,"
            f" {free_text(path)}. Incomplete files were removed"
        )
        self.notice = Notice(what=str(path), why=reason, code="full")
        super().__init__(errno.ENOSPC, f"{path}: {reason}")

    def __reduce__(self) -> tuple[type[OSError], tuple[object, ...]]:
        return OSError, self.args  # unpickled in the parent process with its text

    def __str__(self) -> str:
        return str(self.args[1])


def free_text(path: Path) -> str:
    """Return a text on the free space of a path's file system."""
    mount = find_file_system(path)
    return f"{_format_bytes(shutil.disk_usage(mount).free)} are free on the file system {mount}"


def find_file_system(path: Path) -> Path:
    """Return the mount point of a path, which need not exist."""
    existing_path = path.absolute()
    while not os.path.lexists(existing_path) and existing_path != existing_path.parent:
        existing_path = existing_path.parent
    mount = existing_path.resolve()
    while not os.path.ismount(mount) and mount != mount.parent:
        mount = mount.parent
    return mount


def _format_bytes(size: float) -> str:
    """Format a number of bytes in the unit that gives a short number."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a finished file to a second name, or copy it if the file system has no links.

    A target that is the same file is not changed, nor is a copy with the same content. Directories
    are created as needed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(source):
        return
    link = temporary_name(target)
    try:
        os.link(source, link)
    except OSError:  # another file system, a file system without links, or too many links
        with atomic_file(target) as copy:
            shutil.copyfile(source, copy)
        return
    try:
        os.replace(link, target)
    finally:
        # renaming does nothing if another process has created the same link
        link.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, object]) -> Path:
    """Write a JSON file atomically, as `write_bytes` does; equal content gives equal bytes."""
    return write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> Path:
    """Write a text file (UTF-8) atomically, as `write_bytes` does."""
    return write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file atomically, unless it already has this content.

    Directories are created as needed. Raises `DiskFullError` if the file system is full; the
    previous file is then unchanged.
    """
    if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_file(path) as temporary:
            temporary.write_bytes(data)
    except DiskFullError as error:
        raise DiskFullError(path, len(data)) from error
    return path


@contextlib.contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Write a file atomically under a temporary name.

    The context manager yields the temporary name. The file replaces `path` if the block ends
    without an error and is removed otherwise.

    `durable` waits until the content is on the disk, so that it survives a power failure. This is
    not needed for files that are checked before they are used again. Raises `DiskFullError` if the
    file system is full; a previous file at `path` is then unchanged.
    """
    temporary = temporary_name(path)
    try:
        yield temporary
        put_in_place(temporary, path, durable=durable)
    except OSError as error:
        if error.errno in DISK_FULL_ERRNOS and not isinstance(error, DiskFullError):
            raise DiskFullError(
                path, temporary.stat().st_size if temporary.exists() else 0
            ) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """Return a unique hidden name in the same directory, which no other writer uses."""
    return path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}{_TEMPORARY_SUFFIX}")


def put_in_place(temporary: Path, target: Path, *, durable: bool = True) -> None:
    """Rename a finished file to its final name.

    If `durable`, the content is flushed to the disk first, and a target with the same content is
    not changed.
    """
    if durable:
        if target.is_file() and filecmp.cmp(temporary, target, shallow=False):
            temporary.unlink()
            return
        _flush_to_disk(temporary)
    os.replace(temporary, target)


def _flush_to_disk(path: Path) -> None:
    """Wait until the content of a file is on the disk, if the file system supports this."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some file systems do not support synchronization to a disk
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> int:
    """Remove temporary files of killed writers and return their number.

    No other process may write to the directory at the same time.
    """
    leftovers = [path for path in folder.rglob(f".*{_TEMPORARY_SUFFIX}") if path.is_file()]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, or {} if the file cannot be read or contains no object."""
    try:
        content = parse_json(read_text(path))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_text(path: Path) -> str:
    """Read a UTF-8 text file without its byte order mark and without conversion of line ends.

    Pipes and large files are rejected, so reading neither blocks nor fills the memory. Raises
    `OSError` as `require_regular_file`, and if the file is larger than `_MAX_TEXT_BYTES`, and
    `UnicodeDecodeError` if the file has another encoding.
    """
    size = require_regular_file(path).st_size
    if size > _MAX_TEXT_BYTES:
        raise OSError(
            errno.EFBIG,
            (
                f"the file size is {size / 1e6:.0f} MB, but at most {_MAX_TEXT_BYTES / 1e6:.0f} MB"
                " are supported"
            ),
        )
    return path.read_bytes().decode("utf-8-sig")


def require_regular_file(path: Path) -> os.stat_result:
    """Return the state of a regular file, following links.

    Raises `OSError` if the path does not exist, or is a directory, pipe, socket or device.
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
