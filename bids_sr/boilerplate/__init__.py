"""Package data: names of derivatives, report templates and styles, references, models, and images.

The images are the default template (`bids_sr.io.template_files`) and the atlas AAL2
(`bids_sr.io.region_names`).

Python code reads the files by `path` and `data_of`. ``--boilerplate-only`` is unrelated: it writes
the methods text, which is in `bids_sr.report.methods_text`.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


@cache
def data_of(name: str) -> dict[str, Any]:
    """Read a JSON file of the package data; the content is cached."""
    content: dict[str, Any] = json.loads(path(name).read_text(encoding="utf-8"))
    return content


def path(name: str) -> Path:
    """Return the absolute path of a package data file.

    `name` is relative to this folder, such as ``report.tpl``. Raises `FileNotFoundError` if the
    file is missing in this installation.
    """
    file = HERE / name
    if not file.exists():
        raise FileNotFoundError(f"{name} does not come with this installation of bids-sr ({HERE})")
    return file


def bibliography() -> str:
    """Return all references as one BibTeX text with one entry per key.

    Files ``bib/*.bib`` are read in alphabetical order.
    """
    texts = [file.read_text(encoding="utf-8") for file in sorted((HERE / "bib").glob("*.bib"))]
    return "\n".join(entry + "\n" for entry in split_bibtex("\n".join(texts)).values())


def split_bibtex(text: str) -> dict[str, str]:
    """Split a BibTeX text into verbatim entries by key; the first entry of a key is kept."""
    entries: dict[str, str] = {}
    for entry in ("\n" + text).split("\n@")[1:]:
        entries.setdefault(entry.partition("{")[2].partition(",")[0].strip(), "@" + entry.strip())
    return entries
