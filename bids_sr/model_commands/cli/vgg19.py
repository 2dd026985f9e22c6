"""``bids-sr-models vgg19``: install the VGG-19 weights that ``--recipe paper`` requires.

The source is a file from torchvision: a given file, the copy in the cache of torch, or a download.
A network connection is opened only for ``--download``. The only other download of bids_sr is a
missing template of ``--output-spaces`` (`bids_sr.preflight.output_spaces`).
"""

import http.client
import os
import shutil
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bids_sr.cli.console import progress_line
from bids_sr.cli.exit_codes import DONE, FAILED
from bids_sr.cli.messages import print_error
from bids_sr.config import UsageError
from bids_sr.config.vgg19_weights import (
    VGG19_COMMAND,
    VGG19_DIGITS,
    VGG19_SOURCE,
    VGG19_VARIABLE,
    installed_vgg19,
)
from bids_sr.io.atomic_files import DISK_FULL_ERRNOS, DiskFullError, temporary_name, write_bytes
from bids_sr.model_commands.cli.options import Vgg19Options

BASE = "https://download.pytorch.org/models"
"""Address of torchvision's folder of weights."""
# sizes of torchvision's file and of the stored convolutions
_DOWNLOAD_BYTES, _STORED_BYTES = 575_000_000, 81_000_000
_CHUNK_BYTES = 1 << 20  # bytes per read operation
_TIMEOUT_S = 60.0  # s without receiving data
# s, age of an unfinished download after which no process is still writing it
_ABANDONED_S = 3600.0
_MB = 1_000_000


def install_vgg19(options: Vgg19Options, *, base: str = BASE, digits: str = VGG19_DIGITS) -> int:
    """Convert torchvision's VGG-19 weights and store them for training.

    Parameters
    ----------
    options : Vgg19Options
        File, or whether to download.
    base : str
        Address of the folder on the server, without the file name.
    digits : str
        First hexadecimal digits of the SHA-256 of torchvision's file.

    Returns
    -------
    int
        Exit code: 0 if the weights are stored, 1 if they could not be downloaded.

    Raises
    ------
    UsageError
        If the file is missing, has another checksum or other content, or nothing may be written.
    DiskFullError
        If there is not enough space for the download or the weights.
    """
    target = installed_vgg19()
    if options.file is None and _is_installed(target):
        print(f"{target}: the VGG-19 weights are already stored in this file")
        return DONE
    _check_target(target)
    address = f"{base}/{VGG19_SOURCE}"
    if not options.download:
        source = options.file or _get_torch_cache() / VGG19_SOURCE
        if options.file is None and not source.is_file():
            raise UsageError(
                f"{source}",
                "the weights file was not found in the torch cache directory, and no other"
                " file was specified",
                f"download {address} (575 MB) with {VGG19_COMMAND} --download, or download"
                f" the file on another computer and run {VGG19_COMMAND} FILE",
            )
        _store_weights(source, target, digits)
        return DONE
    try:
        with _download_file(address, target.parent) as source:
            _store_weights(source, target, digits, address)
    except _DownloadFailed as error:
        print_error(
            f"bids-sr-models: {address} could not be downloaded: {error}. Try again, or"
            f" download the file on another computer and run {VGG19_COMMAND} {VGG19_SOURCE}."
        )
        return FAILED
    return DONE


class _DownloadFailed(Exception):
    """Error that the server cannot be reached, rejects the request, or ends the transfer early."""


def _is_installed(target: Path) -> bool:
    """Return whether usable weights are already stored."""
    if not target.is_file():
        return False
    from bids_sr.networks import load_vgg19

    try:
        load_vgg19(target)
    except ValueError:
        return False
    return True


def _check_target(target: Path) -> None:
    """Reject a path that is not writable or has another extension."""
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


def _get_torch_cache() -> Path:
    """Return the download folder of torch."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    torch_home = os.environ.get("TORCH_HOME") or str(Path(cache, "torch"))
    return Path(os.path.expanduser(torch_home), "hub", "checkpoints")


def _store_weights(source: Path, target: Path, digits: str, address: str = "") -> None:
    """Convert and write the weights if the checksum is correct, and print their path.

    `address` is the origin of a downloaded `source`, and "" for a file of the user.
    """
    name = address or str(source)
    if source.suffix == ".safetensors":
        reason = "the weights have already been converted to a .safetensors file"
        raise UsageError(
            name, reason, f"use the file directly: bids-sr ... --vgg-weights {source}"
        )
    content = _convert_weights(source, digits, name, is_download=bool(address))
    write_bytes(target, content)
    print(
        f"{target}: stored the convolutional layers of VGG-19 ({len(content) / _MB:.0f} MB)"
        f" from {name}"
    )
    print(
        "These weights are used by the methods srgan and cpce of bids-sr and bids-sr-models with"
        " --recipe paper, unless another file is specified with --vgg-weights."
    )


def _convert_weights(source: Path, digits: str, name: str, *, is_download: bool) -> bytes:
    """Return the content of the safetensors file; reject other files than torchvision's.

    `name` is the path or address in messages.
    """
    from bids_sr.networks import ChecksumError, convert_vgg19

    try:
        return convert_vgg19(source, digits)
    except ChecksumError as error:
        fix = (
            "the response may come from a proxy server; try again, or use another network"
            if is_download
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


@contextmanager
def _download_file(address: str, folder: Path) -> Iterator[Path]:
    """Download a file for the duration of the context."""
    for old_file in folder.glob(f".{VGG19_SOURCE}.*.part"):
        if time.time() - old_file.stat().st_mtime > _ABANDONED_S:
            old_file.unlink(missing_ok=True)
    temporary_file = temporary_name(folder / VGG19_SOURCE)
    try:
        _download(address, temporary_file)
        yield temporary_file
    finally:
        temporary_file.unlink(missing_ok=True)


def _write_response(response: BinaryIO, target: Path, size: int) -> int:
    """Write a response to a file, show the progress, and return the number of received bytes.

    `size` is the expected number of bytes.
    """
    n_received, show_progress = 0, progress_line()
    with target.open("wb") as stream:
        while chunk := response.read(_CHUNK_BYTES):
            stream.write(chunk)
            n_received += len(chunk)
            show_progress("MB", n_received // _MB, size // _MB)
    return n_received


def _download(address: str, target: Path) -> None:
    """Write the response of an address to a file.

    Raises
    ------
    DiskFullError
        If there is not enough space, before or during the download.
    """
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as response:
            size = int(response.headers.get("Content-Length") or _DOWNLOAD_BYTES)
            required_bytes = size + _STORED_BYTES
            if shutil.disk_usage(target.parent).free < required_bytes:
                raise DiskFullError(target.parent, required_bytes)
            print(f"Downloading {address} ({size / _MB:.0f} MB)", flush=True)
            n_received = _write_response(response, target, size)
    except urllib.error.HTTPError as error:
        raise _DownloadFailed(f"the server responded with {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _DownloadFailed(f"the server could not be reached ({error.reason})") from error
    except http.client.HTTPException as error:
        raise _DownloadFailed(f"the connection was closed early ({error!r})") from error
    except OSError as error:
        if isinstance(error, DiskFullError):
            raise
        if error.errno in DISK_FULL_ERRNOS:
            raise DiskFullError(target.parent, required_bytes) from error
        raise _DownloadFailed(str(error)) from error
    if "Content-Length" in response.headers and n_received < size:
        raise _DownloadFailed(f"the download ended after {n_received} of {size} bytes")
