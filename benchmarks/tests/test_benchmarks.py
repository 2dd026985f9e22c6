"""All benchmarks can be imported, and their results name a commit and are cited."""

import ast
import json
import re
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
RESULTS = sorted(path.stem for path in (BENCHMARKS / "results").glob("*.md"))
# requires the environment of XCP-D
OTHER_ENVIRONMENTS = {"_clients_xcpd"}
SCRIPTS = sorted({path.stem for path in BENCHMARKS.glob("*.py")} - OTHER_ENVIRONMENTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_and_imports_inside_its_functions_can_be_imported(name: str) -> None:
    assert import_module(name).__doc__
    for node in ast.walk(ast.parse((BENCHMARKS / f"{name}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bids_sr"):
            for alias in node.names:
                full_name = f"{node.module}.{alias.name}"
                assert hasattr(import_module(node.module), alias.name) or find_spec(full_name)


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_names_command_commit_and_date(name: str) -> None:
    stamp = (BENCHMARKS / "results" / f"{name}.md").read_text().splitlines()[2]
    match = re.fullmatch(r"`([^`]+)` at ([0-9a-f]{7,}\+?), (\d{4}-\d\d-\d\d)", stamp)
    assert match, stamp
    table = BENCHMARKS / "results" / f"{name}.json"
    if table.exists():
        content = json.loads(table.read_text())
        assert (content["command"], content["commit"], content["date"]) == match.groups()


def test_a_new_result_records_command_and_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import _table

    monkeypatch.setattr(_table, "RESULTS", tmp_path)
    monkeypatch.setattr(_table, "commit", lambda: "85ca1a4b+")
    monkeypatch.setattr(sys, "argv", ["some/people.py", "share"])
    _table.keep("new", "Title", [{"a": 1.0}])
    assert (
        (tmp_path / "new.md")
        .read_text()
        .splitlines()[2]
        .startswith("`python people.py share` at 85ca1a4b+, 20")
    )
    assert json.loads((tmp_path / "new.json").read_text())["rows"] == [{"a": 1.0}]


def test_every_result_is_cited() -> None:
    """Check that a page, a docstring or the list of benchmarks cites every result."""
    patterns = ("*.md", "docs/**/*.md", "docs/*.py", "benchmarks/*.md", "bids_sr/**/*.py")
    files = [path for pattern in patterns for path in ROOT.glob(pattern)]
    text = "\n".join(path.read_text() for path in files)
    cited = set(re.findall(r"results/([\w-]+)\.(?:md|tsv)", text))
    cited |= set(re.findall(r"rows\(\"([\w-]+)\"\)", text))  # tables that scripts of pages read
    assert {path.stem for path in (BENCHMARKS / "results").iterdir()} - cited == set()


def test_readme_lists_every_script_once_and_archive_only_removed_scripts() -> None:
    readme = (BENCHMARKS / "README.md").read_text()
    archive = (BENCHMARKS / "archive.md").read_text()
    listed = re.findall(r"^\| `(\w+)\.py` \|", readme, re.MULTILINE)
    assert sorted(listed) == [name for name in SCRIPTS if not name.startswith("_")]
    archived = re.findall(r"^\| `(\w+)\.py` \|", archive, re.MULTILINE)
    assert not {name for name in archived if (BENCHMARKS / f"{name}.py").exists()}
