"""Digests of source files. Earlier results are only valid if the code that computed them is equal.

The version does not decide this, because it stays the same in an edited checkout.
"""

import hashlib
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bids_sr.io.checksums import checksum

PACKAGE = Path(__file__).parents[1]
"""Folder of bids-sr."""
_START = time.time()


@cache
def digest_program() -> str:
    """Return the digest of all files of bids-sr, including its data."""
    return digest_files(PACKAGE)


@cache
def digest_files(*paths: Path) -> str:
    """Return the digest of files, and of all files in folders.

    The digest of a file that was changed during this process differs from its digest in later
    processes, because the code that runs may be older than the file.
    """
    parts = []
    for path in paths:
        for file in sorted(_iterate_files(path)):
            name, changed = file.relative_to(path.parent).as_posix(), file.stat().st_mtime
            parts.append(f"{name} {checksum(file)} {changed if changed > _START else ''}\n")
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _iterate_files(path: Path) -> Iterator[Path]:
    """Yield a file, or all files in a folder that were not compiled from others."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file() and "__pycache__" not in file.parts:
            yield file


def find_outside_file(value: object) -> Path | None:
    """Return the source file of a function or class that is not a part of bids-sr.

    None is returned for parts of bids-sr, and if there is no source file.
    """
    module = getattr(value, "__module__", "")
    name = getattr(sys.modules.get(module), "__file__", None)
    return None if name is None or Path(name).is_relative_to(PACKAGE) else Path(name)
