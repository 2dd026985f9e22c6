"""Directories of the host in a container.

A container has its own file system. Directories of the host exist in it only below mount points,
and files outside of mount points are lost when the container is removed.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

_ROOT = Path("/")
_IMAGE_VARIABLE = "BIDS_SR_CONTAINER_TAG"  # set by our Dockerfile
_APPTAINER_VARIABLES = ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER")
_MARKER_FILES = (".dockerenv", "run/.containerenv")  # of Docker and Podman


def is_container(root: Path = _ROOT, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether the program runs in a container of any image."""
    return is_own_image(environ) or any((root / name).exists() for name in _MARKER_FILES)


def is_own_image(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether the program runs in its container image, or in Apptainer.

    The file system of these containers is removed after each call, or is read-only.
    """
    return _IMAGE_VARIABLE in environ or _is_apptainer(environ)


def is_mounted(path: Path, root: Path = _ROOT) -> bool:
    """Return whether a path, which may not exist yet, is below a mount point other than the root.

    Returns True if the mount points are unknown. `root` contains ``proc``.
    """
    mount_points = _read_mount_points(root)
    resolved_path = path.resolve()
    return not mount_points or any(
        resolved_path.is_relative_to(mount_point)
        for mount_point in mount_points
        if mount_point != _ROOT
    )


def advise_mount(
    path: Path,
    host_path: str,
    *,
    read_only: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> str:
    """Return the advice to mount a directory of the host at a path of the container.

    `host_path` represents the directory of the host.
    """
    option = "-B" if _is_apptainer(environ) else "-v"
    target = f"{path.resolve()}{':ro' if read_only else ''}"
    return (
        f"Mount a directory of the host: add `{option} {host_path}:{target}` before the name of"
        " the image."
    )


def advise_user(environ: Mapping[str, str] = os.environ) -> str:
    """Return how to get write permission for a mounted directory."""
    if _is_apptainer(environ):
        return "Mount it without `:ro`, choose another directory, or change its permissions."
    return (
        'Mount it without `:ro`, and run the container as its owner: add `-u "$(id -u):$(id -g)"`'
        " before the name of the image. If Docker created the directory, it belongs to root."
    )


def _is_apptainer(environ: Mapping[str, str]) -> bool:
    """Return whether the container is run by Apptainer or Singularity."""
    return any(name in environ for name in _APPTAINER_VARIABLES)


def _read_mount_points(root: Path) -> list[Path]:
    """Return the mount points of this process; none if they cannot be read."""
    try:
        lines = (root / "proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    # spaces and other special characters of a path are octal numbers
    return [
        Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), line.split()[4]))
        for line in lines
    ]
