"""Checksums of files.

Size and modification time do not reveal every change: ``rsync -t``, archives and version control
restore times, and a corrected digit does not change the size. Therefore the content decides
whether earlier results are still valid.
"""

import hashlib
from functools import cache
from pathlib import Path


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file's content as hexadecimal digits.

    A file is read once per process unless its size, times or inode change.
    """
    state = path.stat()
    return _compute_checksum(
        path, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns
    )


@cache
def _compute_checksum(path: Path, *_state: int) -> str:
    """Return the SHA-256 of a file, which is cached by its path and state."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
