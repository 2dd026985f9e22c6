"""The count of wordings that `.ci/run` compares with its limits."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / ".ci" / "words.py"
WORDS = runpy.run_path(str(SCRIPT))


@pytest.mark.parametrize("rule", WORDS["RULES"], ids=lambda rule: rule.name)
def test_a_rule_matches_its_bad_example_and_not_its_good_example(rule) -> None:
    assert rule.hits(rule.bad)
    assert not rule.hits(rule.good)


def test_texts_of_python_are_separated_by_kind() -> None:
    source = (
        'def add(first):\n    """What adds.\n\n    `first`: of the sum\n    """\n'
        '    # told by the caller\n    raise ValueError(f"it has {first} wrong values")\n'
    )
    texts = {(text.kind, text.line): text.words for text in WORDS["python_texts"](source)}
    assert texts == {
        ("docstring", 2): "What adds.\n\n`first`: of the sum",
        ("summary", 2): "What adds.",
        ("comment", 6): "told by the caller",
        ("message", 7): "it has X wrong values",
    }


def test_code_blocks_headings_and_literals_of_a_page_are_skipped() -> None:
    page = "# What is told\n```\nit is told\n```\nUse `told` here.\n"
    assert [text.words for text in WORDS["page_texts"](page)] == ["Use X here."]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository with one page, one hit, and limits that allow it."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(SCRIPT, tmp_path / ".ci")
    for name in ("bids_sr", "workflows", "boilerplate", "docs"):
        (tmp_path / name).mkdir()
    (tmp_path / "README.md").write_text("The reader is told.\n")
    assert count(tmp_path, "--update") == 0
    return tmp_path


def count(root: Path, *arguments: str) -> int:
    command = [sys.executable, str(root / ".ci" / "words.py"), *arguments]
    return subprocess.run(command, capture_output=True, check=False).returncode


def limit(root: Path) -> int:
    return json.loads((root / ".ci" / "words.json").read_text())["tell"]


def test_a_new_hit_fails_and_cannot_become_the_limit(repository: Path) -> None:
    assert (count(repository), limit(repository)) == (0, 1)
    (repository / "docs" / "page.md").write_text("And told again.\n")
    assert count(repository) == 1
    assert count(repository, "--update") == 1
    assert limit(repository) == 1


def test_limits_decrease_with_the_number_of_hits(repository: Path) -> None:
    (repository / "README.md").write_text("The reader sees it.\n")
    assert (count(repository, "--update"), limit(repository)) == (0, 0)
    (repository / "README.md").write_text("The reader is told.\n")
    assert count(repository) == 1
