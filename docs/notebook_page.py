"""Run the notebook and write its page: python docs/notebook_page.py [--page-only].

The notebook is kept with its outputs; the page is made of it, figures beside it as PNG. Needs the
extra ``tests``.
"""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path
from typing import Any

import nbformat

NOTEBOOK = Path(__file__).parent / "notebooks" / "python_api.ipynb"
_SECONDS = 300
_CELL = re.compile(r"\S*ipykernel_\d+/\d+\.py")


def run(notebook: Any, folder: Path) -> Any:
    """Run all cells in a folder; nbclient.exceptions.CellExecutionError names one that fails."""
    from nbclient import NotebookClient

    client = NotebookClient(
        notebook, timeout=_SECONDS, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # the times of the day
        for out in cell.get("outputs", ()):
            if out.output_type == "stream":  # where the kernel of this run kept the cell
                out.text = _CELL.sub("<cell>", out.text)
    notebook.metadata.pop("language_info", None)  # the version of Python that happened to run it
    return notebook


def page_of(notebook: Any, stem: str) -> tuple[str, dict[str, bytes]]:
    """(Markdown, figures by file name) of a notebook with its outputs."""
    parts, figures = [], {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for out in cell.outputs:
            data = out.get("data", {})
            if out.output_type == "stream" and out.name == "stdout":
                parts.append(f"```text\n{out.text.rstrip()}\n```")
            elif "image/png" in data:
                name = f"{stem}_{len(figures) + 1}.png"
                figures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![The same slice of all series]({name})")
            elif "text/plain" in data:
                parts.append(f"```text\n{data['text/plain']}\n```")
    return "\n\n".join(parts) + "\n", figures


def main() -> None:
    """Run, keep, write the page."""
    import tempfile

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    if "--page-only" not in sys.argv:
        with tempfile.TemporaryDirectory() as folder:
            notebook = run(notebook, Path(folder))
        nbformat.write(notebook, NOTEBOOK)
    text, figures = page_of(notebook, NOTEBOOK.stem)
    NOTEBOOK.with_suffix(".md").write_text(text, encoding="utf-8")
    for name, data in figures.items():
        (NOTEBOOK.parent / name).write_bytes(data)


if __name__ == "__main__":
    main()
