"""Files that other packages bring or fetch, found without importing these packages."""

import importlib.util
import os
from pathlib import Path


def package_file(package: str, inside: str) -> Path | None:
    """Return a file in an installed package, or None if one of the two does not exist."""
    spec = importlib.util.find_spec(package)
    path = None if spec is None or spec.origin is None else Path(spec.origin).parent / inside
    return path if path is not None and path.is_file() else None


def templateflow_home() -> Path:
    """Return the folder in which TemplateFlow keeps what was downloaded."""
    return Path(os.environ.get("TEMPLATEFLOW_HOME") or Path.home() / ".cache" / "templateflow")
