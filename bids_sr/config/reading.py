"""Text files of others, read without waiting for a pipe, reading a device for ever or filling the memory."""

import errno
import os
import stat
from pathlib import Path

LARGEST_BYTES = 200_000_000


def regular(path: str | os.PathLike[str]) -> os.stat_result:
    """State of a file of bytes, links followed; raises `OSError` for none, or a directory, pipe, socket or device."""
    state = os.stat(path)
    if stat.S_ISDIR(state.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a directory", str(path))
    if not stat.S_ISREG(state.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device and no file", str(path))
    return state


def read_text(path: str | os.PathLike[str], *, encoding: str = "utf-8", largest: int = LARGEST_BYTES) -> str:
    """Text of a file with its line ends as they are.

    Raises `OSError` as `regular` does, and for a file larger than `largest` (bytes); `UnicodeDecodeError` for another
    encoding.
    """
    size = regular(path).st_size
    if size > largest:
        raise OSError(errno.EFBIG, f"it has {size / 1e6:.0f} MB, more than the {largest / 1e6:.0f} MB that are read")
    return Path(path).read_bytes().decode(encoding)
