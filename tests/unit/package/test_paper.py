"""The paper: its numbers are stored results, and its references agree with the reports."""

import re
from types import ModuleType

import pytest
from pages import ROOT, loaded
from pybtex.database import parse_file

PAPER = ROOT / "paper"
RESULTS = ROOT / "benchmarks" / "results"
NAMES = ("T2", "5 mm", ".001", "900 volumes", "95 %")
"""Texts with digits that are not results: names, settings, and the level of intervals."""


@pytest.fixture(scope="module")
def make_paper() -> ModuleType:
    return loaded(PAPER / "make_paper.py")


def body(name: str) -> str:
    """Return the text without its front matter."""
    return (PAPER / name).read_text(encoding="utf-8").split("\n---\n", 1)[1]


def test_all_numbers_in_the_text_are_stored_results(make_paper: ModuleType) -> None:
    """Also check that no stored number is unused."""
    text = body("template.md")
    assert set(re.findall(r"\{\{(\w+)\}\}", text)) == set(make_paper.numbers())
    prose = re.sub(r"\{\{\w+\}\}|\[?@[\w;@ ]+\]?", "", text)
    for name in NAMES:
        assert name in prose
        prose = prose.replace(name, "")
    assert re.findall(r"\S*\d\S*", prose) == []


def test_numbers_equal_the_tables_of_results(make_paper: ModuleType) -> None:
    """Read the numbers from the tables again, as the script could use another cell."""
    numbers = make_paper.numbers()
    table = (RESULTS / "people_runs_mean.md").read_text(encoding="utf-8")
    row = next(line for line in table.splitlines() if line.startswith("| `sbl`, blind |"))
    sbl, low, high = (int(numbers[name]) / 100 for name in ("sbl", "sbl_low", "sbl_high"))
    assert row.split("|")[3].split(" / ")[1].strip() == f"{sbl:.2f} ({low:.2f} to {high:.2f})"
    run_table = (RESULTS / "paper_subject.md").read_text(encoding="utf-8")
    (clock,) = re.findall(r"the whole run \| \d+ \| ([\d.]+) on the clock", run_table)
    assert float(numbers["minutes"]) == pytest.approx(float(clock) / 60, abs=0.05)
    low, sbl, high = (int(numbers[f"example_{name}"]) for name in ("low", "sbl", "high"))
    assert low <= sbl <= high


def test_all_references_are_cited_and_agree_with_the_reports() -> None:
    references = parse_file(str(PAPER / "paper.bib")).entries
    assert set(references) == set(re.findall(r"@([a-z_0-9]+)", body("paper.md")))
    reports = {}
    for path in sorted((ROOT / "boilerplate" / "bib").glob("*.bib")):
        reports.update(parse_file(str(path)).entries)
    shared = reports.keys() & references.keys()
    assert "stss_srfmri" in shared
    for key in shared:
        assert references[key].fields.get("doi") == reports[key].fields.get("doi"), key
