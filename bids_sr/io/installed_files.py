"""Files of installed packages and of TemplateFlow, located without importing these packages."""

import importlib.util
import os
from pathlib import Path

PACKAGED_TEMPLATES = Path(__file__).parents[1] / "boilerplate"
"""Folder with images of the default template, named as in the TemplateFlow cache."""


def package_file(package: str, relative_path: str) -> Path | None:
    """Return a file in an installed package, or None if the package or file does not exist."""
    spec = importlib.util.find_spec(package)
    path = (
        None if spec is None or spec.origin is None else Path(spec.origin).parent / relative_path
    )
    return path if path is not None and path.is_file() else None


def templateflow_home() -> Path:
    """Return the directory of the TemplateFlow cache."""
    return Path(os.environ.get("TEMPLATEFLOW_HOME") or Path.home() / ".cache" / "templateflow")
