"""What pages of the documentation hold, for tests that try it."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "docs" / "recipes"
Run = Callable[..., subprocess.CompletedProcess[str]]
"""The fixture of tests/others that calls a program."""


def scripts(page: Path, language: str = "python") -> list[str]:
    """The blocks of a page, in order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]
