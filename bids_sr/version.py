"""Version of the package.

Tests in ``tests/unit/package`` check that CHANGES.md, CITATION.cff and the Dockerfile contain the
same version.
"""

from pathlib import Path

RELEASE = "0.3.0.dev0"


def _version() -> str:
    """Return the release, or a development version with its commit.

    ``setup.py`` stamped the commit when the package was built.
    """
    stamp = Path(__file__).with_name("commit.txt")
    commit = (
        stamp.read_text(encoding="utf-8").strip() if ".dev" in RELEASE and stamp.is_file() else ""
    )
    return f"{RELEASE}+{commit}" if commit else RELEASE


__version__ = _version()


def is_compatible(version: str) -> bool:
    """Return whether files of a version may stand beside those of this version.

    Versions that differ in one of their first two numbers write other files.
    """
    return version.split(".")[:2] == RELEASE.split(".")[:2]
