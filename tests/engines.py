"""Container engines that build and run the image in tests and benchmarks.

The environment variable BIDS_SR_TEST_CONTAINER is `docker`, `podman`, `buildah` (builds images,
which podman runs), or a folder with `oci-build` (CONTEXT TAG [arguments]) and `oci-env.sh` (to be
sourced), for machines without a registry of images. These two scripts keep their images in the
folder LAB.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

VARIABLE = "BIDS_SR_TEST_CONTAINER"
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Commands to build and run the image.

    Parameters
    ----------
    building : command up to the name of the image and the context, `{tag}` and `{context}` in
        their places
    program : docker or podman, which runs images
    env : environment of both
    """

    building: tuple[str, ...]
    program: str
    env: dict[str, str] = field(repr=False)

    def build(
        self, tag: str, *extra: str, context: Path = ROOT
    ) -> subprocess.CompletedProcess[str]:
        """Build the image of a checkout; `extra` are arguments such as --build-arg."""
        places = {"tag": tag, "context": str(context)}
        return self._call([part.format(**places) for part in self.building] + list(extra))

    def command(self, *args: str) -> list[str]:
        """Return a command line for the engine that runs images."""
        return [self.program, *args]

    def call(self, *args: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Run the engine and wait."""
        return self._call(self.command(*args), timeout)

    def run(
        self, tag: str, *args: str, flags: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run an image with arguments; `flags` go to the engine."""
        return self.call("run", "--rm", *flags, tag, *args)

    def read_only(self) -> tuple[str, ...]:
        """Return flags for a read-only root.

        Without the second flag, podman mounts writable memory at /tmp and other places.
        """
        return ("--read-only", *(("--read-only-tmpfs=false",) if self.program == "podman" else ()))

    def _call(
        self, command: list[str], timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=self.env, timeout=timeout
        )


def engine() -> Engine | None:
    """Return the engine that BIDS_SR_TEST_CONTAINER names, None if the variable is unset.

    Raises
    ------
    ValueError : neither a known name nor a folder that holds the two scripts
    """
    chosen = os.environ.get(VARIABLE)
    if not chosen:
        return None
    env = dict(os.environ)
    if chosen in ("docker", "podman"):
        return Engine(
            building=(chosen, "build", "--tag", "{tag}", "{context}"), program=chosen, env=env
        )
    if chosen == "buildah":
        return Engine(
            building=("buildah", "bud", "--tag", "{tag}", "{context}"), program="podman", env=env
        )
    script, setting = Path(chosen, "oci-build"), Path(chosen, "oci-env.sh")
    if not (script.is_file() and setting.is_file()):
        raise ValueError(
            f"{VARIABLE} is docker, podman, buildah or a folder with oci-build and oci-env.sh, not"
            f" {chosen}"
        )
    env.setdefault("LAB", str(Path(tempfile.gettempdir(), "bids-sr-containers")))
    text = subprocess.run(
        ["bash", "-c", '. "$1" && env -0', "bash", str(setting)],
        capture_output=True,
        text=True,
        check=True,
        env=env,
    ).stdout
    env = dict(line.split("=", 1) for line in text.split("\0") if "=" in line)
    # vfs copies every layer
    cached = ("--layers",) if env.get("DRIVER", "overlay") == "overlay" else ()
    return Engine(building=(str(script), "{context}", "{tag}", *cached), program="podman", env=env)
