"""``bids-sr-models vgg19``: keep the weights of VGG-19 that ``--recipe paper`` needs.

The file is torchvision's: one that you name, one in the cache of torch, or a download. This is the
only module that opens a connection, and it does so only for ``--download``.
"""

import http.client
import os
import shutil
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bids_sr.cli.console import progress_line
from bids_sr.cli.exit_codes import DONE, FAILED
from bids_sr.cli.messages import complain
from bids_sr.cli.models.options import Vgg19Options
from bids_sr.config import UsageError
from bids_sr.config.vgg19_weights import (
    VGG19_COMMAND,
    VGG19_DIGITS,
    VGG19_SOURCE,
    VGG19_VARIABLE,
    kept_vgg19,
)
from bids_sr.io.atomic_files import FULL, DiskFullError, beside, write_bytes

BASE = "https://download.pytorch.org/models"
"""Address of the folder from which torchvision itself takes its weights."""
_DOWNLOAD_BYTES, _KEPT_BYTES = 575_000_000, 81_000_000
_CHUNK = 1 << 20  # bytes per read
_TIMEOUT_S = 60.0  # without any data
_ABANDONED_S = 3600.0  # age of an unfinished download that no process is still writing
_MB = 1_000_000


def keep_vgg19(options: Vgg19Options, *, base: str = BASE, digits: str = VGG19_DIGITS) -> int:
    """Convert torchvision's VGG-19 and keep it where trainings find it; return an exit code.

    Parameters
    ----------
    options : Vgg19Options
        File, or whether to download.
    base : str
        Address of the folder on the server, without the file's name.
    digits : str
        First hexadecimal digits of the SHA-256 of torchvision's file.

    Returns
    -------
    int
        0 if the weights are kept, 1 if they could not be downloaded.

    Raises
    ------
    UsageError
        The file is missing, has another checksum or other content, or nothing may be written.
    DiskFullError
        Too little space for the download or the weights.
    """
    target = kept_vgg19()
    if options.file is None and _is_kept(target):
        print(f"{target}: the VGG-19 weights are already stored in this file")
        return DONE
    _check_target(target)
    address = f"{base}/{VGG19_SOURCE}"
    if not options.download:
        source = options.file or _torch_cache() / VGG19_SOURCE
        if options.file is None and not source.is_file():
            raise UsageError(
                f"{source}",
                "the weights file was not found in the torch cache directory, and no other"
                " file was specified",
                f"download {address} (575 MB) with {VGG19_COMMAND} --download, or download"
                f" the file on another computer and run {VGG19_COMMAND} FILE",
            )
        _keep(source, target, digits)
        return DONE
    try:
        with _downloaded(address, target.parent) as source:
            _keep(source, target, digits, address)
    except _DownloadFailed as error:
        complain(
            f"bids-sr-models: {address} could not be downloaded: {error}. Try again, or"
            f" download the file on another computer and run {VGG19_COMMAND} {VGG19_SOURCE}."
        )
        return FAILED
    return DONE


class _DownloadFailed(Exception):
    """The server cannot be reached, refuses, or ends too early."""


def _is_kept(target: Path) -> bool:
    """Return whether usable weights are kept already."""
    if not target.is_file():
        return False
    from bids_sr.sr.vgg19 import load_vgg19

    try:
        load_vgg19(target)
    except ValueError:
        return False
    return True


def _check_target(target: Path) -> None:
    """Refuse a place where the weights cannot be written, before any heavy work."""
    fix = (
        f"set the environment variable {VGG19_VARIABLE} to a .safetensors file in a writable"
        " directory"
    )
    if target.suffix != ".safetensors":
        raise UsageError(
            f"{VGG19_VARIABLE}={target}", "the file name must end in .safetensors", fix
        )
    if target.is_dir():
        raise UsageError(f"{target}", "expected a file, but the path is a directory", fix)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{target}", f"the directory could not be created ({error.strerror})", fix
        ) from error
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{target}", "the directory is not writable", fix)


def _torch_cache() -> Path:
    """Return the folder in which torch keeps what it downloads."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or str(Path(cache, "torch"))
    return Path(os.path.expanduser(home), "hub", "checkpoints")


def _keep(source: Path, target: Path, digits: str, address: str = "") -> None:
    """Convert and write the weights if the checksum is right, and print where they are.

    `address`: where `source` was downloaded from; "" for a file of the user's.
    """
    from bids_sr.sr.vgg19 import WrongChecksum, convert_vgg19

    name = address or str(source)
    if source.suffix == ".safetensors":
        why = "the weights have already been converted to a .safetensors file"
        raise UsageError(name, why, f"use the file directly: bids-sr ... --vgg-weights {source}")
    try:
        content = convert_vgg19(source, digits)
    except WrongChecksum as error:
        fix = (
            "the response may come from a proxy server; try again, or use another network"
            if address
            else f"download the file again with {VGG19_COMMAND} --download, or from"
            f" {BASE}/{VGG19_SOURCE}"
        )
        raise UsageError(
            name,
            f"the file is incomplete or is not {VGG19_SOURCE}: its SHA-256 checksum is"
            f" {error.digest}; expected a checksum that starts with {digits}",
            fix,
        ) from error
    except FileNotFoundError as error:
        raise UsageError(name, "the file does not exist", "check the path") from error
    except OSError as error:
        raise UsageError(
            name, f"the file could not be read ({error.strerror})", "specify a readable file"
        ) from error
    except ValueError as error:
        raise UsageError(
            str(error).replace(str(source), name),
            remedy=f"specify the torchvision file {VGG19_SOURCE}",
        ) from error
    write_bytes(target, content)
    print(
        f"{target}: stored the convolutional layers of VGG-19 ({len(content) / _MB:.0f} MB)"
        f" from {name}"
    )
    print(
        "These weights are used by the methods srgan and cpce of bids-sr and bids-sr-models with"
        " --recipe paper, unless another file is specified with --vgg-weights."
    )


@contextmanager
def _downloaded(address: str, folder: Path) -> Iterator[Path]:
    """Yield the downloaded file, which is removed afterwards, whatever happens."""
    for old in folder.glob(f".{VGG19_SOURCE}.*.part"):
        if time.time() - old.stat().st_mtime > _ABANDONED_S:
            old.unlink(missing_ok=True)
    part = beside(folder / VGG19_SOURCE)
    try:
        _download(address, part)
        yield part
    finally:
        part.unlink(missing_ok=True)


def _download(address: str, part: Path) -> None:
    """Write what an address serves to a file.

    `DiskFullError`: there is too little space, before or while it is written.
    """
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as answer:
            size = int(answer.headers.get("Content-Length") or _DOWNLOAD_BYTES)
            needed = size + _KEPT_BYTES
            if shutil.disk_usage(part.parent).free < needed:
                raise DiskFullError(part.parent, needed)
            print(f"Downloading {address} ({size / _MB:.0f} MB)", flush=True)
            done, tell = 0, progress_line()
            with part.open("wb") as stream:
                while chunk := answer.read(_CHUNK):
                    stream.write(chunk)
                    done += len(chunk)
                    tell("MB", done // _MB, size // _MB)
    except urllib.error.HTTPError as error:
        raise _DownloadFailed(f"the server responded with {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _DownloadFailed(f"the server could not be reached ({error.reason})") from error
    except http.client.HTTPException as error:
        raise _DownloadFailed(f"the connection was closed early ({error!r})") from error
    except OSError as error:
        if isinstance(error, DiskFullError):
            raise
        if error.errno in FULL:
            raise DiskFullError(part.parent, needed) from error
        raise _DownloadFailed(str(error)) from error
    if "Content-Length" in answer.headers and done < size:
        raise _DownloadFailed(f"the download ended after {done} of {size} bytes")
