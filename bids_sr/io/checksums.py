"""Checksums of files, and readers that open a file once.

Size and modification time do not reveal every change: ``rsync -t``, archives and version control
restore times, and a corrected digit does not change the size. Therefore the content decides
whether earlier results are still valid.
"""

import hashlib
from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def once_per_state(read: Callable[[Path], T]) -> Callable[[Path], T]:
    """Return a reader that reads a file once per process unless its size, times or inode change.

    The reader raises the errors of `read`, which are not stored, and `OSError` if the file does
    not exist.
    """

    @lru_cache(maxsize=4096)
    def read_state(path: Path, *_state: int) -> T:
        return read(path)

    @wraps(read)
    def read_file(path: Path) -> T:
        state = path.stat()
        times = state.st_mtime_ns, state.st_ctime_ns
        return read_state(path, state.st_dev, state.st_ino, state.st_size, *times)

    return read_file


@once_per_state
def checksum(path: Path) -> str:
    """Return the SHA-256 of a file's content as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
