"""Content of files that was not downloaded (DataLad, Git LFS) or may not be read."""

import contextlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from bids_sr.io.checksums import once_per_state
from bids_sr.io.notices import Notice
from bids_sr.survey.notices import InputError

_DENIED = "permission denied"
_HAS_EFFECTIVE_IDS = os.access in os.supports_effective_ids


def require_content(path: Path) -> None:
    """Raise `InputError` if the content of a file was not downloaded, or may not be read."""
    reason = missing_content_reason(path)
    if reason:
        raise InputError([_describe_missing_content(path, reason)])


def missing_content_reason(path: Path) -> str:
    """Return why the content of a file is missing, or "" if it is not.

    An example is ``the file is a git-annex pointer``. Content is also missing if it may not be
    read.
    """
    try:
        if path.is_symlink() and not path.exists():
            return "the symbolic link is broken"
        if not path.is_file():
            return ""
        start = _read_start(path)
    except PermissionError:
        return _DENIED
    except OSError:
        return ""
    if start.startswith(b"/annex/objects/"):
        return "the file is a git-annex pointer"
    return "the file is a Git LFS pointer" if start.startswith(b"version https://git-lfs") else ""


@once_per_state
def _read_start(path: Path) -> bytes:
    """Read the first bytes of a file."""
    with path.open("rb") as stream:
        return stream.read(64)


def is_denied(folder: Path) -> bool:
    """Return whether a folder exists whose files this user may not list or read."""
    return os.path.isdir(folder) and not os.access(
        folder, os.R_OK | os.X_OK, effective_ids=_HAS_EFFECTIVE_IDS
    )


@contextlib.contextmanager
def refuse_denied() -> Iterator[None]:
    """Raise `InputError` in place of the error about a file that this user may not read."""
    try:
        yield
    except PermissionError as error:
        if error.filename is None:
            raise
        raise InputError([describe_denied(Path(error.filename))]) from error


def _describe_missing_content(path: Path, reason: str) -> Notice:
    """Return the problem of a file without content, with the command that makes it available.

    `reason` is the reason from `missing_content_reason`.
    """
    if reason == _DENIED:
        return describe_denied(path)
    code = "lfs" if "LFS" in reason else "annex"
    command = (
        f"`git lfs pull -I {path.name}`"
        if code == "lfs"
        else f"`datalad get {path}` (or `git annex get`)"
    )
    return Notice(
        what=str(path),
        why=f"the file content has not been downloaded: {reason}",
        remedy=f"Download it: {command}.",
        code=code,
    )


def describe_denied(path: Path) -> Notice:
    """Return the problem of a file or folder that this user may not read.

    The problem names the folder above it that cannot be entered, if there is one.
    """
    closed_folders = (
        folder
        for folder in reversed(path.parents)
        if not os.access(folder, os.X_OK, effective_ids=_HAS_EFFECTIVE_IDS)
    )
    path = next(closed_folders, path)
    is_folder = path.is_dir()
    is_owner = path.stat().st_uid == os.geteuid()
    mode = f"{'u' if is_owner else 'a'}+r{'X' if is_folder else ''}"
    command = f"`chmod {'-R ' if is_folder else ''}{mode} {shlex.quote(str(path))}`"
    return Notice(
        what=str(path),
        why=f"{_DENIED}: this user may not read the {'directory' if is_folder else 'file'}",
        remedy=f"Change the permissions: {command}."
        if is_owner
        else f"Ask the owner of the data for read permission, for example by {command}.",
        code="forbidden",
    )
