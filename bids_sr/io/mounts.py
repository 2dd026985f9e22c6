"""Directories of the host in a container.

A container has its own file system. Directories of the host exist in it only below mount points,
and files outside of mount points are lost when the container is removed.
"""

import os
import re
from pathlib import Path

MOUNT_TABLE = Path("/proc/self/mountinfo")
"""Mount points of this process."""
MARKER_FILES = (Path("/.dockerenv"), Path("/run/.containerenv"))
"""Files in containers of Docker and Podman."""
_ROOT = Path("/")
_IMAGE_VARIABLE = "BIDS_SR_CONTAINER_TAG"  # set by our Dockerfile
_APPTAINER_VARIABLES = ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER")


def is_container() -> bool:
    """Return whether the program runs in a container of any image."""
    return is_own_image() or any(file.exists() for file in MARKER_FILES)


def is_own_image() -> bool:
    """Return whether the program runs in its container image, or in Apptainer.

    The file system of these containers is removed after each call, or is read-only.
    """
    return _IMAGE_VARIABLE in os.environ or _is_apptainer()


def is_mounted(path: Path) -> bool:
    """Return whether a path, which may not exist yet, is below a mount point other than the root.

    Returns True if the mount points are unknown.
    """
    mount_points = _read_mount_points()
    resolved_path = path.resolve()
    return not mount_points or any(
        resolved_path.is_relative_to(mount_point)
        for mount_point in mount_points
        if mount_point != _ROOT
    )


def advise_mount(path: Path, host_path: str, *, read_only: bool = False) -> str:
    """Return the advice to mount a directory of the host at a path of the container.

    `host_path` represents the directory of the host.
    """
    option = "-B" if _is_apptainer() else "-v"
    target = f"{path.resolve()}{':ro' if read_only else ''}"
    return (
        f"Mount a directory of the host: add `{option} {host_path}:{target}` before the name of"
        " the image."
    )


def advise_user() -> str:
    """Return how to get write permission for a mounted directory."""
    if _is_apptainer():
        return "Mount it without `:ro`, choose another directory, or change its permissions."
    return (
        'Mount it without `:ro`, and run the container as its owner: add `-u "$(id -u):$(id -g)"`'
        " before the name of the image. If Docker created the directory, it belongs to root."
    )


def _is_apptainer() -> bool:
    """Return whether the container is run by Apptainer or Singularity."""
    return any(name in os.environ for name in _APPTAINER_VARIABLES)


def _read_mount_points() -> list[Path]:
    """Return the mount points of this process; none if they cannot be read."""
    try:
        lines = MOUNT_TABLE.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    # spaces and other special characters of a path are octal numbers
    return [
        Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), line.split()[4]))
        for line in lines
    ]
