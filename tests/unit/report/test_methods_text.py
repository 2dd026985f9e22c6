"""The methods text: citations resolve, text is escaped, and files are written once."""

import re
from pathlib import Path

import pytest
from data.page import Page

import bids_sr
from bids_sr import boilerplate
from bids_sr.report.methods_text import methods_html, write_citations

BIB = r"""
@article{power2017, author = {Power, Jonathan D. and M{\"u}ller, J{\'o}zef},
  title = {A {fMRI} <look> at {\&}}, journal = "Neuro{Image}", volume = 154, number = {2},
  pages = {150--158}, year = {2017}, doi = {10.1/x}}
@misc{tool, author = {{Tool contributors}}, title = {Tool}, year = {2024}, url = {https://tool.example}}
@article{many, author = {A, B and C, D and E, F}, title = {T}, year = {2001}, journal = {J}}
@misc{walt, author = {van der Walt, St{\'e}fan and {\O}rsted, Hans C. and others}, title = {W},
  year = 1820}
"""


def render(markdown: str, **options: bool) -> Page:
    return Page(methods_html(markdown, BIB, **options))


@pytest.mark.parametrize(
    ("key", "citation", "reference"),
    [
        (
            "power2017",
            "Power and Müller, 2017",
            "J. D. Power and J. Müller. A fMRI <look> at &. NeuroImage, 154(2):150–158, 2017.",
        ),
        ("many", "A et al., 2001", "B. A, D. C, and F. E. T."),
        ("tool", "Tool contributors, 2024", "Tool contributors. Tool."),
        ("walt", "van der Walt et al., 1820", "S. van der Walt, H. C. Ørsted, and others. W."),
    ],
)
def test_a_citation_has_authors_and_year_and_leads_to_its_reference(key, citation, reference):
    page = render(f"We drew it [@{key}].")
    assert page.links[citation] == f"#ref-{key}"
    assert reference in page.section(f"ref-{key}").text


def test_only_cited_works_are_listed_and_link_only_to_their_doi():
    page = render("# Heading\n\nWe drew it [@power2017; @tool].\n\n- one\n- two")
    assert page.headings[0] == "Heading"
    assert [item.text for item in page.all("li")][:2] == ["one", "two"]
    assert "(Power and Müller, 2017; Tool contributors, 2024)" in page.text
    addresses = [link for link in page.links.values() if not link.startswith("#")]
    assert addresses[0] == "https://doi.org/10.1/x"
    assert "ref-many" not in [found.attributes.get("id") for found in page.all()]
    page = render("We drew it [@power2017; @tool].", references=False)
    assert page.links["Power and Müller, 2017"] == "https://doi.org/10.1/x"
    assert not any(link.startswith("#") for link in page.links.values())


@pytest.mark.parametrize(
    ("markdown", "links"),
    [
        ("[x](javascript:alert(1))", {}),
        ("![x](https://x.example/y.png)", {"x": "https://x.example/y.png"}),
        ("<https://x.example>", {}),
        ("&lt;b&gt; \\*", {}),
    ],
)
def test_unsafe_links_and_images_are_not_rendered(markdown, links):
    page = render(markdown)
    assert page.links == links
    assert not page.all("img")
    assert links or page.text == markdown


def test_three_files_are_written_and_not_rewritten_without_changes(tmp_path, caplog):
    logs = tmp_path / "logs"
    write_citations("Text [@tool].", logs, logs / "run", bibtex=BIB)
    markdown, bibtex, html = (logs / f"CITATION.{suffix}" for suffix in ("md", "bib", "html"))
    assert markdown.read_text() == "Text [@tool].\n"
    assert set(boilerplate.split_bibtex(bibtex.read_text())) == {"tool"}
    assert html.read_text().startswith("<!DOCTYPE html>")
    assert [path.name for path in (logs / "run").iterdir()] == ["CITATION.md"]
    before = html.stat().st_mtime_ns
    write_citations("Text [@tool].", logs, bibtex=BIB)
    assert html.stat().st_mtime_ns == before
    # A key that is not in the bibliography stays visible and is logged.
    write_citations("See [@nothing].", logs, bibtex=BIB)
    assert "nothing?" in html.read_text()
    assert "nothing" in caplog.text


def test_every_citation_of_the_program_is_in_the_bibliography():
    package = Path(bids_sr.__file__).parent
    sources = [path for suffix in ("py", "md", "json") for path in package.rglob(f"*.{suffix}")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    citations = re.findall(r"\[@[^\[\]{}]*\]", text)
    keys = {key for citation in citations for key in re.findall(r"@(?!key)([a-z]\w+)", citation)}
    assert len(keys) > 30
    assert keys <= set(boilerplate.split_bibtex(boilerplate.bibliography()))
