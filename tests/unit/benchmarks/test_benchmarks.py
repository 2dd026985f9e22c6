"""What holds of all benchmarks: they are imported, what they keep names its commit and is cited,
and the faults of the list fit the program.
"""

import ast
import json
import re
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from bids_sr.evaluation.self_test import EARLIER, UNCALIBRATED

ROOT = Path(__file__).parents[3]
BENCHMARKS = ROOT / "benchmarks"
RESULTS = sorted(path.stem for path in (BENCHMARKS / "results").glob("*.md"))
sys.path.append(str(BENCHMARKS))

# in the environment of XCP-D
ELSEWHERE = {"_clients_xcpd"}
SCRIPTS = sorted({path.stem for path in BENCHMARKS.glob("*.py")} - ELSEWHERE)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_benchmark_is_imported(name: str) -> None:
    import_module(name)


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_import_inside_a_function_is_broken(name: str) -> None:
    """Of the program or of another benchmark, which importing the module does not see."""
    tree = ast.parse((BENCHMARKS / f"{name}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("bids_sr"):
            module = import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    import_module(f"{node.module}.{alias.name}")


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_names_command_commit_and_date(name: str) -> None:
    stamp = (BENCHMARKS / "results" / f"{name}.md").read_text().splitlines()[2]
    found = re.fullmatch(r"`([^`]+)` at ([0-9a-f]{7,}\+?), (\d{4}-\d\d-\d\d)", stamp)
    assert found, stamp
    table = BENCHMARKS / "results" / f"{name}.json"
    if table.exists():
        told = json.loads(table.read_text())
        assert (told["command"], told["commit"], told["date"]) == found.groups()


def test_a_new_result_is_stamped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    """By a page, a docstring, or the list of benchmarks and what rests on them."""
    patterns = ("*.md", "docs/*.md", "docs/*.py", "benchmarks/*.md", "bids_sr/**/*.py")
    files = [path for pattern in patterns for path in ROOT.glob(pattern)]
    text = "\n".join(path.read_text() for path in files)
    cited = set(re.findall(r"results/([\w-]+)\.md", text))
    assert {path.stem for path in (BENCHMARKS / "results").iterdir()} - cited == set()


def test_the_lists_name_every_script_once() -> None:
    readme = (BENCHMARKS / "README.md").read_text()
    archive = (BENCHMARKS / "archive.md").read_text()
    listed = re.findall(r"^\| `(\w+)\.py` \|", readme, re.MULTILINE)
    assert sorted(listed) == [name for name in SCRIPTS if not name.startswith("_")]
    gone = re.findall(r"^\| `(\w+)\.py` \|", archive, re.MULTILINE)
    assert not {name for name in gone if (BENCHMARKS / f"{name}.py").exists()}


def kept(name: str) -> list[dict[str, str]]:
    return list(json.loads((BENCHMARKS / "results" / f"{name}.json").read_text())["rows"])


@pytest.mark.parametrize("calibrated", [False, True])
def test_the_first_screen_gives_the_range_of_the_tables(calibrated: bool) -> None:
    from _people_data import TESTED

    series = f"`sbl`, {'calibrated' if calibrated else 'blind'}"
    rows = [row for row in kept("people_runs") if row["series"] == series]
    contrasts = [] if calibrated else kept("people_contrasts")

    def ends(values: list[str]) -> str:
        known = [float(str(v).split()[0]) for v in values if v not in (None, "n/a")]
        return f"{100 * min(known):.0f} to {100 * max(known):.0f} %".replace("-", "−")

    told = EARLIER[calibrated]
    for where, said in (("active", told.active), ("brain", told.brain)):
        found = [row[f"explained variance, {where}"] for row in rows]
        assert ends([*found, *(row[where] for row in contrasts)]) == said
    people = {tested.person for tested in TESTED.values()}
    assert told.where.startswith(f"{len(rows)} runs of {len(people)} participants")
    if not calibrated:
        assert ends([row["explained variance, active"] for row in rows]) == UNCALIBRATED


MUTANTS = tomllib.loads((BENCHMARKS / "mutants.toml").read_text())


@pytest.fixture(scope="module")
def sources() -> dict[Path, str]:
    import mutants

    return mutants.sources_of(ROOT)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_fault_of_the_list_fits_the_program(name: str, sources: dict[Path, str]) -> None:
    """Code that moved or reads otherwise takes its fault along."""
    import mutants

    (mutant,) = (m for m in mutants.read_mutants(BENCHMARKS / "mutants.toml") if m.name == name)
    found = mutants.place(sources, mutant)
    assert found, "the snippet is not there exactly once"
    ast.parse(found[1])
    assert len(mutants.test_files(ROOT, mutant)) == len(mutant.tests)
