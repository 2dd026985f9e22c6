"""Each folder has a docstring in ``__init__.py`` on what it holds and does not hold."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(
    {
        path.parent.relative_to(ROOT).as_posix()
        for top in ("bids_sr", "workflows", "boilerplate")
        for path in (ROOT / top).rglob("*.py")
        if not path.is_relative_to(ROOT / "bids_sr" / "workflows")
        and not path.is_relative_to(ROOT / "bids_sr" / "boilerplate")
    }
)
SIMILAR = [
    ("bids_sr/bids", "bids_sr.preflight"),
    ("bids_sr/combination/steps", "bids_sr.combination"),
    ("bids_sr/execution", "bids_sr.slurm"),
    ("bids_sr/figures", "bids_sr.steps.figures"),
    ("bids_sr/metrics", "bids_sr.quality"),
    ("bids_sr/networks", "bids_sr.sr.methods"),
    ("bids_sr/pipeline", "bids_sr.workflows"),
    ("bids_sr/preflight", "bids_sr.bids"),
    ("bids_sr/quality", "bids_sr.steps.quality"),
    ("bids_sr/report", "bids_sr.figures"),
    ("bids_sr/model_commands/cli", "bids_sr.model_commands"),
    ("bids_sr/slurm/cli", "bids_sr.slurm"),
    ("bids_sr/spatial", "bids_sr.registration"),
    ("bids_sr/sr", "bids_sr.networks"),
    ("bids_sr/statistics", "bids_sr.glm"),
    ("bids_sr/steps/figures", "bids_sr.figures"),
    ("bids_sr/steps/quality", "bids_sr.quality"),
    ("bids_sr/structural/group", "bids_sr.group"),
    ("bids_sr/structural/steps", "bids_sr.structural"),
    ("boilerplate", "bids_sr.report.methods_text"),
]
"""Folder → folder or module with which its name or subject could be confused."""


def docstring_of(folder: str) -> str:
    """Return the docstring of a folder, "" if there is none."""
    path = ROOT / folder / "__init__.py"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return ast.get_docstring(ast.parse(text)) or ""


def sentence_count(text: str) -> int:
    """Count the sentences of a text.

    >>> sentence_count("Files of a run.\\n\\nTables, e.g. `a.b`, are elsewhere; see docs/api.md.")
    2
    """
    return len(re.findall(r"[.?!](?=\s+[A-Z`]|$)", " ".join(text.split())))


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_says_in_one_to_four_sentences_what_it_holds(folder: str) -> None:
    text = docstring_of(folder)
    assert len(text) > 80, "describe what the folder holds, and what it does not hold"
    assert 1 <= sentence_count(text) <= 4, text


@pytest.mark.parametrize(("folder", "other"), SIMILAR, ids=lambda name: name)
def test_a_folder_names_the_folder_with_which_it_could_be_confused(
    folder: str, other: str
) -> None:
    assert re.search(rf"`{re.escape(other)}(\.\w+)*`", docstring_of(folder))


def test_a_folder_without_a_docstring_has_no_sentence(tmp_path: Path) -> None:
    assert sentence_count(docstring_of(str(tmp_path))) == 0
    (tmp_path / "__init__.py").write_text("VALUE = 1\n")
    assert docstring_of(str(tmp_path)) == ""
