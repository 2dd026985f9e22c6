"""Folders with templates and atlases."""

import os
from pathlib import Path

PACKAGED_DATA = Path(__file__).parents[1] / "boilerplate"
"""Folder with the default template, whose files are named as in the cache, and the atlas AAL2."""


def templateflow_home() -> Path:
    """Return the directory of the TemplateFlow cache."""
    return Path(os.environ.get("TEMPLATEFLOW_HOME") or Path.home() / ".cache" / "templateflow")
