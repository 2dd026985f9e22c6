"""The paper: numbers of stored results, references that agree, claims that the docs make."""

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
MADE_ANEW = "python paper/make_paper.py writes it anew"
NAMES = ("T2", "5 mm", ".001", "900 volumes", "95 %")
"""What has digits in the text and is no result: names, settings, and the kind of interval."""


@pytest.fixture(scope="module")
def making() -> ModuleType:
    return loaded(PAPER / "make_paper.py")


def body(name: str) -> str:
    """The text without its front matter."""
    return (PAPER / name).read_text(encoding="utf-8").split("\n---\n", 1)[1]


def test_text_and_figure_are_of_the_stored_results(making: ModuleType) -> None:
    assert (PAPER / "paper.md").read_text(encoding="utf-8") == making.paper(), MADE_ANEW
    shown = json.loads(Image.open(PAPER / "people.png").text["Description"])
    assert shown == making.drawn(), MADE_ANEW


def test_the_text_has_no_number_of_its_own(making: ModuleType) -> None:
    """And no stored number is left unused."""
    text = body("template.md")
    used = set(re.findall(r"\{\{(\w+)\}\}", text))
    assert used == set(making.numbers())
    prose = re.sub(r"\{\{\w+\}\}|\[?@[\w;@ ]+\]?", "", text)
    for name in NAMES:
        assert name in prose
        prose = prose.replace(name, "")
    assert re.findall(r"\S*\d\S*", prose) == []


def test_numbers_are_what_the_tables_say(making: ModuleType) -> None:
    """Read once more by hand from the files, where the script could take another cell."""
    found = making.numbers()
    results = ROOT / "benchmarks" / "results"
    table = (results / "people_runs_mean.md").read_text(encoding="utf-8")
    row = next(line for line in table.splitlines() if line.startswith("| `sbl`, blind |"))
    active = row.split("|")[3].split(" / ")[1]
    assert active.split() == [
        f"{int(found['sbl']) / 100:.2f}",
        f"({int(found['sbl_low']) / 100:.2f}",
        "to",
        f"{int(found['sbl_high']) / 100:.2f})",
    ]
    whole = (results / "paper_subject.md").read_text(encoding="utf-8")
    (clock,) = re.findall(r"the whole run \| \d+ \| ([\d.]+) on the clock", whole)
    assert float(found["minutes"]) == pytest.approx(float(clock) / 60, abs=0.05)
    verdicts = json.loads((results / "compared.json").read_text(encoding="utf-8"))["rows"]
    otherwise = [row for row in verdicts if "otherwise" in row["so"]]
    assert int(found["verdicts"]) - int(found["verdicts_expected"]) == len(otherwise) > 0
    low, sbl, high = (int(found[f"example_{name}"]) for name in ("low", "sbl", "high"))
    assert low <= sbl <= high


def test_claims_are_those_of_the_docs(making: ModuleType) -> None:
    """The table of README, and the numbers that evaluation and README name."""
    found = making.numbers()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert found["people"] in readme
    claim = f"explains {found['example_sbl']} % of the measured detail"
    assert claim in " ".join(readme.split())
    pages = {
        page: " ".join(re.sub("<!--.*?-->", "", (ROOT / "docs" / page).read_text("utf-8")).split())
        for page in ("evaluation.md", "methods.md")
    }
    said = f"{found['noise_low']} to {found['noise_high']} per thousand voxels without smoothing"
    assert said in pages["evaluation.md"]
    for name in ("region_total", "region_grid", "region_smoothing", "region_method"):
        assert found[name] in pages["evaluation.md"]
    assert found["adversarial"].replace("−", "-") in pages["methods.md"]


def test_references_are_those_cited_and_agree_with_the_reports() -> None:
    """Each has a DOI, an eprint or an address; those that reports cite are the same."""
    cited = set(re.findall(r"@([a-z_0-9]+)", body("paper.md")))
    listed = parse_file(str(PAPER / "paper.bib")).entries
    assert set(listed) == cited
    for key, entry in listed.items():
        assert entry.persons["author"], key
        assert entry.fields["title"], key
        assert entry.fields["year"], key
        where = [entry.fields.get(name, "") for name in ("doi", "eprint", "url")]
        assert any(where), key
        assert not where[0] or re.fullmatch(r"10\.\d{4,}/\S+", where[0]), key
    ours = {}
    for path in sorted((ROOT / "boilerplate" / "bib").glob("*.bib")):
        ours.update(parse_file(str(path)).entries)
    shared = set(ours) & set(listed)
    assert "stss_srfmri" in shared
    for key in shared:
        assert listed[key].fields.get("doi") == ours[key].fields.get("doi"), key


def test_it_has_the_parts_and_the_length_of_a_paper() -> None:
    """Front matter and sections that the journal asks for, some thousand words."""
    text = (PAPER / "paper.md").read_text(encoding="utf-8")
    _, front, rest = text.split("---\n", 2)
    known = yaml.safe_load(front)
    assert {"title", "tags", "authors", "affiliations", "date", "bibliography"} <= set(known)
    assert (PAPER / known["bibliography"]).is_file()
    assert all({"name", "affiliation"} <= set(author) for author in known["authors"])
    assert re.findall(r"^# (.+)$", rest, re.MULTILINE) == [
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
    assert 750 <= len(rest.split()) <= 1150
    for image in re.findall(r"!\[.*?\]\((.+?)\)", rest, re.DOTALL):
        assert (PAPER / image).is_file()
