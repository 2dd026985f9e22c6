"""Data that the program carries: names of derivatives, report outline and looks, references."""

import json
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def path(name: str) -> Path:
    """Absolute path of a file that comes with the program.

    Parameters
    ----------
    name : relative to this folder, such as ``report.tpl``

    Raises
    ------
    FileNotFoundError
        if the installation lacks it
    """
    found = HERE / name
    if not found.exists():
        raise FileNotFoundError(f"{name} does not come with this installation of bids-sr ({HERE})")
    return found


@cache
def data_of(name: str) -> dict[str, Any]:
    """Content of a JSON file that comes with the program, read once."""
    found: dict[str, Any] = json.loads(path(name).read_text(encoding="utf-8"))
    return found


def split_bibtex(text: str) -> dict[str, str]:
    """Entries of a BibTeX text by key, each as written; the first of two with one key is kept."""
    entries: dict[str, str] = {}
    for entry in ("\n" + text).split("\n@")[1:]:
        entries.setdefault(entry.partition("{")[2].partition(",")[0].strip(), "@" + entry.strip())
    return entries


def bibliography() -> str:
    """All references as one BibTeX text: every ``bib/*.bib`` in the order of their names, an entry
    of each key once.
    """
    texts = [file.read_text(encoding="utf-8") for file in sorted((HERE / "bib").glob("*.bib"))]
    return "\n".join(entry + "\n" for entry in split_bibtex("\n".join(texts)).values())
