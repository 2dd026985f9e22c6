"""VGG-19 weights of ``--vgg-weights``: download, and conversion of torchvision's file.

A network connection is opened only for ``--vgg-weights download``. The only other download of
bids_sr is a missing template of ``--output-spaces`` (`bids_sr.survey.preflight.output_spaces`).
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
from bids_sr.config import Settings
from bids_sr.config.vgg19_weights import (
    VGG19_DIGITS,
    VGG19_DOWNLOAD,
    VGG19_SOURCE,
    VGG19_VARIABLE,
    installed_vgg19,
)
from bids_sr.io.atomic_files import DISK_FULL_ERRNOS, DiskFullError, temporary_name, write_bytes
from bids_sr.io.notices import InvalidInput, UsageError

BASE = "https://download.pytorch.org/models"
"""Address of torchvision's folder of weights."""
# sizes of torchvision's file and of the stored convolutions
_DOWNLOAD_BYTES, _STORED_BYTES = 575_000_000, 81_000_000
_CHUNK_BYTES = 1 << 20  # bytes per read operation
_TIMEOUT_S = 60.0  # s without receiving data
# s, age of an unfinished download after which no process is still writing it
_ABANDONED_S = 3600.0
_MB = 1_000_000


def install_requested_weights(settings: Settings) -> Settings:
    """Return settings with the safetensors file of ``--vgg-weights``.

    The group level and ``--reports-only`` train nothing, so that nothing is installed for them.
    """
    source = settings.superres.vgg_weights
    is_used = settings.selection.analysis_level == "participant" and not settings.run.reports_only
    if source is None or not is_used:
        return settings
    return settings.with_values(superres={"vgg_weights": install_vgg19(source)})


class _DownloadFailed(Exception):
    """Error that the server cannot be reached, rejects the request, or ends the transfer early."""


def install_vgg19(source: Path, *, base: str = BASE, digits: str = VGG19_DIGITS) -> Path:
    """Return the VGG-19 weights as a safetensors file, which is installed if necessary.

    `source` is the value of ``--vgg-weights``. A safetensors file is returned as it is,
    torchvision's file is converted, and ``download`` downloads torchvision's file unless weights
    are installed. `base` is the address of the folder on the server, without the file name, and
    `digits` are the first hexadecimal digits of the SHA-256 of torchvision's file.

    Raises `UsageError` if the download fails, if the file is missing, has another checksum or
    other content, or if nothing may be written, and `DiskFullError` if there is not enough space
    for the download or the weights.
    """
    if source.suffix == ".safetensors":
        return source
    target = installed_vgg19()
    if source != VGG19_DOWNLOAD:
        _check_target(target)
        _store_weights(source.expanduser(), target, digits)
        return target
    if _is_installed(target):
        return target
    _check_target(target)
    address = f"{base}/{VGG19_SOURCE}"
    try:
        with _download_file(address, target.parent) as file:
            _store_weights(file, target, digits, address)
    except _DownloadFailed as error:
        raise UsageError(
            f"{address} could not be downloaded",
            str(error),
            "try again, or download the file on another computer and specify it with"
            f" --vgg-weights {VGG19_SOURCE}",
        ) from error
    return target


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


def _store_weights(source: Path, target: Path, digits: str, address: str = "") -> None:
    """Convert and write the weights if the checksum is correct, and print their path.

    `address` is the origin of a downloaded `source`, and "" for a file of the user.
    """
    name = address or str(source)
    content = _convert_weights(source, digits, name, is_download=bool(address))
    write_bytes(target, content)
    print(
        f"{target}: stored the convolutional layers of VGG-19 ({len(content) / _MB:.0f} MB)"
        f" from {name}"
    )


def _convert_weights(source: Path, digits: str, name: str, *, is_download: bool) -> bytes:
    """Return the content of the safetensors file; reject other files than torchvision's.

    `name` is the path or address in messages.
    """
    from bids_sr.sr.networks.vgg19 import ChecksumError, convert_vgg19

    try:
        return convert_vgg19(source, digits)
    except ChecksumError as error:
        fix = (
            "the response may come from a proxy server; try again, or use another network"
            if is_download
            else f"download the file again with --vgg-weights {VGG19_DOWNLOAD}, or from"
            f" {BASE}/{VGG19_SOURCE}"
        )
        raise UsageError(
            name,
            f"the file is incomplete or is not {VGG19_SOURCE}: {error.reason}",
            fix,
        ) from error
    except FileNotFoundError as error:
        raise UsageError(name, "the file does not exist", "check the path") from error
    except OSError as error:
        raise UsageError(
            name, f"the file could not be read ({error.strerror})", "specify a readable file"
        ) from error
    except InvalidInput as error:
        fix = f"specify the torchvision file {VGG19_SOURCE}, or a .safetensors file"
        raise UsageError(name, error.reason, fix) from error


def _is_installed(target: Path) -> bool:
    """Return whether usable weights are already stored."""
    if not target.is_file():
        return False
    from bids_sr.sr.networks.vgg19 import load_vgg19

    try:
        load_vgg19(target)
    except ValueError:
        return False
    return True


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


def _download(address: str, target: Path) -> None:
    """Write the response of an address to a file.

    Raises `DiskFullError` if there is not enough space, before or during the download.
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
