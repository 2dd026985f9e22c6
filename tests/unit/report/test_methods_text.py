"""Test the methods text: citations resolve, HTML is escaped, BibTeX is parsed."""

import re
from html import unescape
from pathlib import Path

import pytest

import bids_sr.boilerplate as boilerplate
from bids_sr.report import methods_text as text
from bids_sr.version import RELEASE

BIB = r"""
@article{power2017, author = {Power, Jonathan D. and M{\"u}ller, J{\'o}zef},
  title = {A {fMRI} <look> at {\&}}, journal = "Neuro{Image}", volume = 154, number = {2},
  pages = {150--158}, year = {2017}, doi = {10.1/x}}
@misc{tool, author = {{Tool contributors}}, title = {Tool}, year = {2024}, url = {https://tool.example}}
@article{many, author = {A, B and C, D and E, F}, title = {T}, year = {2001}, journal = {J}}
"""


def test_entries_are_split_and_read():
    raw = boilerplate.split_bibtex(BIB)
    assert list(raw) == ["power2017", "tool", "many"]
    entry = text._read_entry(raw["power2017"])
    fields = {name: text.plain_text(value) for name, value in entry.fields.items()}
    assert fields["title"] == "A fMRI <look> at &"
    assert (fields["journal"], fields["volume"], fields["pages"]) == (
        "NeuroImage",
        "154",
        "150–158",
    )


@pytest.mark.parametrize(
    ("key", "citation"),
    [
        ("power2017", "Power and Müller, 2017"),
        ("many", "A et al., 2001"),
        ("tool", "Tool contributors, 2024"),
    ],
)
def test_in_text_citations_list_authors_and_year(key, citation):
    assert text._short_reference(text._read_entry(boilerplate.split_bibtex(BIB)[key])) == citation


def test_a_reference_links_only_to_its_doi():
    html = text.methods_html("[@power2017]", BIB)
    assert re.findall(r'href="([^#"]+)"', html) == ["https://doi.org/10.1/x"]
    assert "&lt;look&gt;" in html
    assert (
        "J. D. Power and J. Müller. A fMRI <look> at &. NeuroImage, 154(2):150–158, 2017."
        in _read_text(html)
    )


def _read_text(html: str) -> str:
    """Return the visible text of HTML in one line."""
    return " ".join(unescape(re.sub("<[^>]*>", "", html)).split())


def test_only_cited_works_are_listed_as_references():
    html = text.methods_html("# Heading\n\nWe drew it [@power2017; @tool].\n\n- one\n- two", BIB)
    assert '(<a href="#ref-power2017">Power and Müller, 2017</a>; <a href="#ref-tool">' in html
    assert 'id="ref-power2017"' in html
    assert "ref-many" not in html
    assert "<h3>Heading</h3>" in html
    assert "<ul><li>one</li><li>two</li></ul>" in html.replace("\n", "")


def test_without_a_reference_list_citations_link_to_the_doi():
    html = text.methods_html("We drew it [@power2017; @tool].", BIB, references=False)
    assert '<a href="https://doi.org/10.1/x">Power and Müller, 2017</a>' in html
    assert "References" not in html
    assert "#ref-" not in html


def test_an_unknown_citation_key_stays_visible_and_is_logged(tmp_path, caplog):
    text.write_citations("See [@nothing].", tmp_path, bibtex=BIB)
    assert "nothing?" in (tmp_path / "CITATION.html").read_text()
    assert "nothing" in caplog.text
    assert text._missing_keys("See [@nothing; @tool].", BIB) == ["nothing"]


def test_markup_is_escaped_and_basic_markdown_is_rendered():
    html = text.methods_html(
        "a <b>x</b> **bold** *it* `c<d` 2 * 3 * 4 [doi](https://doi.org/1)", BIB
    )
    assert "&lt;b&gt;" in html
    assert "<strong>bold</strong> <em>it</em> <code>c&lt;d</code> 2 * 3 * 4" in html
    assert '<a href="https://doi.org/1">doi</a>' in html


@pytest.mark.parametrize(
    ("markdown", "expected_html"),
    [
        ("[x](javascript:alert(1))", "[x](javascript:alert(1))"),
        ("![x](https://x.example/y.png)", '!<a href="https://x.example/y.png">x</a>'),
        ("<https://x.example>", "&lt;https://x.example&gt;"),
        ("&lt;b&gt; \\*", "&amp;lt;b&amp;gt; \\*"),
    ],
)
def test_unsafe_links_and_images_are_not_rendered(markdown, expected_html):
    assert text.methods_html(markdown, BIB).strip() == f"<p>{expected_html}</p>"


def test_names_with_particles_and_non_ascii_letters_stay_complete():
    raw = (
        r"@misc{x, author = {van der Walt, St{\'e}fan and {\O}rsted, Hans C. and others}, title ="
        r" {T}, year = 1820}"
    )
    entry = text._read_entry(raw)
    assert text._short_reference(entry) == "van der Walt et al., 1820"
    assert _read_text(text._reference_html("x", entry)).startswith(
        "S. van der Walt, H. C. Ørsted, and others. T."
    )


def test_three_files_are_written_and_not_rewritten_without_changes(tmp_path):
    text.write_citations("Text [@tool].", tmp_path / "logs", tmp_path / "logs" / "run", bibtex=BIB)
    markdown, bibtex, html = (
        tmp_path / "logs" / f"CITATION.{suffix}" for suffix in ("md", "bib", "html")
    )
    assert markdown.read_text() == "Text [@tool].\n"
    assert set(boilerplate.split_bibtex(bibtex.read_text())) == {"tool"}
    assert html.read_text().startswith("<!DOCTYPE html>")
    assert [path.name for path in (tmp_path / "logs" / "run").iterdir()] == ["CITATION.md"]
    before = html.stat().st_mtime_ns
    text.write_citations("Text [@tool].", tmp_path / "logs", bibtex=BIB)
    assert html.stat().st_mtime_ns == before


def test_the_bibliography_is_readable_and_its_keys_are_unique():
    bibtex = boilerplate.bibliography()
    entries = boilerplate.split_bibtex(bibtex)
    keys = re.findall(r"(?m)^@\w+\{\s*([^,\s]+)", bibtex)
    assert len(keys) == len(set(keys)) == len(entries) > 0
    for key, raw in entries.items():
        entry = text._read_entry(raw)
        is_unreleased = key == "bids_sr" and ".dev" in RELEASE
        assert is_unreleased or entry.fields["year"].isdigit()
        reference = _read_text(text._reference_html(key, entry)).casefold()
        assert text.plain_text(entry.fields["title"]).casefold() in reference
        assert entry.persons["author"]


def test_packaged_files_are_found_and_missing_ones_are_named():
    assert boilerplate.path("report.tpl").is_absolute()
    with pytest.raises(FileNotFoundError, match=r"nothing\.tpl"):
        boilerplate.path("nothing.tpl")


def test_every_citation_in_the_workflows_resolves():
    folder = Path(boilerplate.__file__).parents[1] / "workflows"
    source = "\n".join(path.read_text() for path in folder.rglob("*.py"))
    assert (
        text._missing_keys(
            re.sub(r"\[@key[^\]]*\]|\[@KEY[^\]]*\]", "", source), boilerplate.bibliography()
        )
        == []
    )
