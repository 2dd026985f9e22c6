"""Read code from the pages of the documentation."""

import importlib.util
import re
import textwrap
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def blocks(text: str) -> list[tuple[str, str]]:
    """Return language and code of all blocks of a text, in order."""
    matches = re.findall(r"^( *)```(\w*)\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE)
    return [(language, textwrap.dedent(code)) for _, language, code in matches]


def scripts(page: Path, language: str = "python") -> list[str]:
    """Return the blocks of a page in one language, in order."""
    return [code for name, code in blocks(page.read_text(encoding="utf-8")) if name == language]


def loaded(path: Path) -> ModuleType:
    """Load a script outside of packages as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
