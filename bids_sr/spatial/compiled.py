"""Loops over voxels as machine code: compiled by numba once a machine, and kept in a folder from then on.

The folder's name says which processor, numba and code its files are of. So machines that share a disk and jobs that
begin at the same moment write only what each of them would write there. Where no folder can be written, every process
compiles for itself, for some seconds.

Only what computes imports this module: it brings numba, for some .3 s and 70 MB.
"""

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

import llvmlite.binding as llvm
import numba
from numba.core import config

from bids_sr.io.atomic_files import whole_file

F = TypeVar("F", bound=Callable[..., object])
# Products and sums may be joined as processors do, and the sign of zero may go; NaN and infinity keep their meaning.
_FAST = {"contract", "nsz"}


def compiled(signature: str) -> Callable[[F], F]:
    """Compile a function of numbers and arrays for arguments of these types, as soon as its module is imported."""

    def decorate(function: F) -> F:
        before = vars(config)["CACHE_DIR"]
        try:
            folder = cache_folder(Path(function.__code__.co_filename))
            vars(config)["CACHE_DIR"] = str(folder or "")
            kept = folder is not None
            return cast(F, numba.njit(signature, cache=kept, error_model="numpy", fastmath=_FAST)(function))
        except Exception:  # a full disk, a damaged file: both are no reason not to compute
            return cast(F, numba.njit(signature, error_model="numpy", fastmath=_FAST)(function))
        finally:
            vars(config)["CACHE_DIR"] = before

    return decorate


def inlined(function: F) -> F:
    """A function that is compiled as a part of those that call it."""
    return cast(F, numba.njit(inline="always", error_model="numpy", fastmath=_FAST)(function))


@cache
def cache_folder(source: Path) -> Path | None:
    """Folder for what is compiled from a file: it exists and can be written. None where there is no such place."""
    name = f"compiled-{_kind(source)}"
    installed = source.parent / "__pycache__"
    for place in _places(installed):
        folder = place / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
            if place != installed:
                _take(installed / name, folder)
        except OSError:
            continue
        return folder
    return None


def _kind(source: Path) -> str:
    """What machine code depends on: numba, the processor, the code."""
    features = llvm.get_host_cpu_features().flatten()
    chosen = [os.environ.get(f"NUMBA_{name}") for name in ("CPU_NAME", "CPU_FEATURES", "OPT", "DISABLE_JIT")]
    parts = numba.__version__, llvm.get_host_cpu_name(), features, *chosen
    return hashlib.sha256("\n".join(map(str, parts)).encode() + source.read_bytes()).hexdigest()[:16]


def _places(installed: Path) -> Iterator[Path]:
    """Where to look, in this order, for a place that can be written."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(chosen)
    yield installed
    if cached := os.environ.get("XDG_CACHE_HOME"):
        yield Path(cached) / "bids-sr"
    elif (home := Path(os.path.expanduser("~"))).is_absolute():  # Path.home() fails without one
        yield home / ".cache" / "bids-sr"
    shared = Path(tempfile.gettempdir()) / f"bids-sr-{os.getuid()}"
    with suppress(OSError):
        shared.mkdir(mode=0o700, exist_ok=True)
        found = shared.lstat()
        # code is run from there: a folder that others made, or write to, is left alone
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
            yield shared


def _take(installed: Path, folder: Path) -> None:
    """Copy what an image that cannot be written brings along, each file in whole."""
    for source in installed.rglob("*.nb[ci]"):
        target = folder / source.relative_to(installed)
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            with whole_file(target, durable=False) as part:
                part.write_bytes(source.read_bytes())
