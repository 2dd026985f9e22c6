"""The notebook of the documentation runs, and its page is made of it."""

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[3]
SPEC = importlib.util.spec_from_file_location("notebook_page", ROOT / "docs" / "notebook_page.py")
notebook_page = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(notebook_page)


def said(notebook):
    """What its cells print, without numbers."""
    texts = [
        out.text
        for cell in notebook.cells
        if cell.cell_type == "code"
        for out in cell.outputs
        if out.output_type == "stream" and out.name == "stdout"
    ]
    return [re.sub(r"-?\d+(\.\d+)?", "0", text) for text in texts]


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(notebook_page.NOTEBOOK, as_version=4)
    stored = said(notebook)
    done = notebook_page.run(notebook, tmp_path)
    outputs = [out for cell in done.cells if cell.cell_type == "code" for out in cell.outputs]
    assert not [out for out in outputs if out.output_type == "error"]
    assert any("image/png" in out.get("data", {}) for out in outputs)
    assert any("Evidence" in out.get("text", "") for out in outputs)
    assert said(done) == stored, "python docs/notebook_page.py runs it anew"


def test_the_page_is_that_of_the_notebook():
    notebook = nbformat.read(notebook_page.NOTEBOOK, as_version=4)
    text, figures = notebook_page.page_of(notebook, notebook_page.NOTEBOOK.stem)
    again = "python docs/notebook_page.py --page-only writes it anew"
    assert notebook_page.NOTEBOOK.with_suffix(".md").read_text() == text, again
    for name, data in figures.items():
        assert (notebook_page.NOTEBOOK.parent / name).read_bytes() == data, again
    assert "/tmp/" not in text
