"""The paper: stored results, references, and claims that agree with the docs."""

import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from pages import loaded
from PIL import Image
from pybtex.database import parse_file

ROOT = Path(__file__).parents[3]
PAPER = ROOT / "paper"
HINT = "python paper/make_paper.py writes it anew"
NAMES = ("T2", "5 mm", ".001", "900 volumes", "95 %")
"""Texts with digits that are not results: names, settings, and the level of intervals."""


@pytest.fixture(scope="module")
def make_paper() -> ModuleType:
    return loaded(PAPER / "make_paper.py")


def body(name: str) -> str:
    """Return the text without its front matter."""
    return (PAPER / name).read_text(encoding="utf-8").split("\n---\n", 1)[1]


def test_text_and_figure_are_generated_from_stored_results(make_paper: ModuleType) -> None:
    assert (PAPER / "paper.md").read_text(encoding="utf-8") == make_paper.paper(), HINT
    description = json.loads(Image.open(PAPER / "people.png").text["Description"])
    assert description == make_paper.drawn(), HINT


def test_all_numbers_in_the_text_are_stored_results(make_paper: ModuleType) -> None:
    """Also check that no stored number is unused."""
    text = body("template.md")
    names = set(re.findall(r"\{\{(\w+)\}\}", text))
    assert names == set(make_paper.numbers())
    prose = re.sub(r"\{\{\w+\}\}|\[?@[\w;@ ]+\]?", "", text)
    for name in NAMES:
        assert name in prose
        prose = prose.replace(name, "")
    assert re.findall(r"\S*\d\S*", prose) == []


def test_numbers_equal_the_tables_of_results(make_paper: ModuleType) -> None:
    """Read the numbers from the tables again, as the script could use another cell."""
    numbers = make_paper.numbers()
    results = ROOT / "benchmarks" / "results"
    table = (results / "people_runs_mean.md").read_text(encoding="utf-8")
    row = next(line for line in table.splitlines() if line.startswith("| `sbl`, blind |"))
    active = row.split("|")[3].split(" / ")[1]
    assert active.split() == [
        f"{int(numbers['sbl']) / 100:.2f}",
        f"({int(numbers['sbl_low']) / 100:.2f}",
        "to",
        f"{int(numbers['sbl_high']) / 100:.2f})",
    ]
    run_table = (results / "paper_subject.md").read_text(encoding="utf-8")
    (clock,) = re.findall(r"the whole run \| \d+ \| ([\d.]+) on the clock", run_table)
    assert float(numbers["minutes"]) == pytest.approx(float(clock) / 60, abs=0.05)
    verdicts = json.loads((results / "compared.json").read_text(encoding="utf-8"))["rows"]
    unexpected_rows = [row for row in verdicts if "otherwise" in row["so"]]
    assert int(numbers["verdicts"]) - int(numbers["verdicts_expected"]) == len(unexpected_rows) > 0
    low, sbl, high = (int(numbers[f"example_{name}"]) for name in ("low", "sbl", "high"))
    assert low <= sbl <= high


def test_claims_of_the_paper_agree_with_readme_and_docs(make_paper: ModuleType) -> None:
    numbers = make_paper.numbers()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert numbers["people"] in readme
    claim = f"explains {numbers['example_sbl']} % of the measured detail"
    assert claim in " ".join(readme.split())
    pages = {
        page: " ".join(re.sub("<!--.*?-->", "", (ROOT / "docs" / page).read_text("utf-8")).split())
        for page in ("evaluation.md", "methods.md")
    }
    noise_text = (
        f"{numbers['noise_low']} to {numbers['noise_high']} per thousand voxels without smoothing"
    )
    assert noise_text in pages["evaluation.md"]
    for name in ("region_total", "region_grid", "region_smoothing", "region_method"):
        assert numbers[name] in pages["evaluation.md"]
    assert numbers["adversarial"].replace("−", "-") in pages["methods.md"]


def test_all_references_are_cited_and_agree_with_the_reports() -> None:
    """References have a DOI, an eprint or an address; shared keys have the same DOI in reports."""
    cited = set(re.findall(r"@([a-z_0-9]+)", body("paper.md")))
    references = parse_file(str(PAPER / "paper.bib")).entries
    assert set(references) == cited
    for key, entry in references.items():
        assert entry.persons["author"], key
        assert entry.fields["title"], key
        assert entry.fields["year"], key
        identifiers = [entry.fields.get(name, "") for name in ("doi", "eprint", "url")]
        assert any(identifiers), key
        assert not identifiers[0] or re.fullmatch(r"10\.\d{4,}/\S+", identifiers[0]), key
    report_references = {}
    for path in sorted((ROOT / "boilerplate" / "bib").glob("*.bib")):
        report_references.update(parse_file(str(path)).entries)
    shared = set(report_references) & set(references)
    assert "stss_srfmri" in shared
    for key in shared:
        assert references[key].fields.get("doi") == report_references[key].fields.get("doi"), key


def test_the_paper_has_the_sections_and_the_length_required_by_the_journal() -> None:
    text = (PAPER / "paper.md").read_text(encoding="utf-8")
    _, front, text_body = text.split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert {"title", "tags", "authors", "affiliations", "date", "bibliography"} <= set(metadata)
    assert (PAPER / metadata["bibliography"]).is_file()
    assert all({"name", "affiliation"} <= set(author) for author in metadata["authors"])
    assert re.findall(r"^# (.+)$", text_body, re.MULTILINE) == [
        "Summary",
        "Statement of need",
        "State of the field",
        "Software design",
        "Evidence",
        "Research impact statement",
        "AI usage disclosure",
        "Acknowledgements",
        "References",
    ]
    assert 750 <= len(text_body.split()) <= 1150
    for image in re.findall(r"!\[.*?\]\((.+?)\)", text_body, re.DOTALL):
        assert (PAPER / image).is_file()
