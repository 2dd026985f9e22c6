"""Methods text as Markdown, HTML and BibTeX.

Citations ``[@key1; @key2]`` become links to the references. Raw HTML in the text is escaped, and
links can only lead to websites.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markupsafe import Markup
from pybtex.database import Entry, Person
from pybtex.database.input.bibtex import Parser
from pybtex.richtext import Text
from pybtex.style.formatting.unsrt import Style

from bids_sr.boilerplate import bibliography, path as boilerplate_path, split_bibtex
from bids_sr.io import atomic_files
from bids_sr.report.markup import join, render

_LOGGER = logging.getLogger(__name__)
_CITATION = re.compile(r"\[((?:\s*@[\w:.+-]+\s*;?)+)\]")
_CITATION_KEY = re.compile(r"@([\w:.+-]*\w)")
_WEB_SCHEMES = ("https://", "http://")
_DOI_ADDRESS = "https://doi.org/"


def write_citations(
    markdown: str, folder: Path, *logs: Path, bibtex: str | None = None, html: bool = True
) -> None:
    """Write ``CITATION.md``, ``CITATION.bib`` and, if requested, ``CITATION.html``.

    `markdown` is the methods text. `logs` are log folders that only receive the Markdown text, for
    reports of this run after another run has replaced the files. `bibtex` is a bibliography of the
    cited works; None to use all references of the program. If `html` is False, an existing HTML
    file is removed.
    """
    source = bibliography() if bibtex is None else bibtex
    entries = split_bibtex(source)
    cited_keys = _list_cited_keys(markdown)
    if missing_keys := [key for key in cited_keys if key not in entries]:
        _LOGGER.warning(
            "methods text: citations missing in the bibliography: %s", ", ".join(missing_keys)
        )
    cited_entries = "\n\n".join(entries[key] for key in cited_keys if key in entries)
    texts = {"md": markdown.strip(), "bib": cited_entries}
    if html:
        style = Markup(boilerplate_path("report.css").read_text(encoding="utf-8"))
        texts["html"] = render("page", "Methods", style, methods_html(markdown, source))
    else:
        (folder / "CITATION.html").unlink(missing_ok=True)
    for suffix, text in texts.items():
        for target_dir in (folder, *(logs if suffix == "md" else ())):
            atomic_files.write_text(target_dir / f"CITATION.{suffix}", text + "\n")


def methods_html(markdown: str, bibtex: str, *, references: bool = True) -> Markup:
    """Return the methods text as HTML; unknown citation keys are followed by a question mark.

    With `references`, a list of references is appended and citations link to it. Otherwise,
    citations link to the works on the web.
    """
    bibtex_by_key = split_bibtex(bibtex)
    entries = {
        key: _read_entry(bibtex_by_key[key])
        for key in _list_cited_keys(markdown)
        if key in bibtex_by_key
    }
    citations = {
        key: (_short_reference(entry), f"#ref-{key}" if references else _get_web_address(entry))
        for key, entry in entries.items()
    }
    tokens = _make_parser().parse(markdown, citations)
    for token in tokens:
        # Headings are placed below the headings of the report.
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1:]) + 2)}"
    body = Markup(_make_parser().renderer.render(tokens, _make_parser().options, citations))
    if not references:
        return body
    sorted_keys = sorted(entries, key=lambda key: (_short_reference(entries[key]).casefold(), key))
    # the addresses in references are the only external links in a report
    formatted = [_make_style().format_entry(key, entries[key]) for key in sorted_keys]
    reference_list = [(item.key, Markup(item.text.render_as("html"))) for item in formatted]
    return join([body, render("references", reference_list)]) if reference_list else body


@cache
def _read_entry(raw: str) -> Entry:
    """Return a BibTeX entry as read by pybtex; do not modify it, because it is cached."""
    return next(iter(Parser().parse_string(raw).entries.values()))


def _list_cited_keys(markdown: str) -> list[str]:
    """Return the keys of all citations in order of first appearance."""
    keys = [
        key for group in _CITATION.finditer(markdown) for key in _CITATION_KEY.findall(group[1])
    ]
    return list(dict.fromkeys(keys))


def _short_reference(entry: Entry) -> str:
    """Return authors, or editors if there are no authors, and year for a citation in the text."""
    people: Sequence[Person] = entry.persons.get("author") or entry.persons.get("editor") or []
    last_names = [
        plain_text(" ".join(person.prelast_names + person.last_names)) for person in people
    ] or [_get_field(entry, "title") or "anonymous"]
    author_text = (
        f"{last_names[0]} et al."
        if len(last_names) > 2 or last_names[-1] == "others"
        else " and ".join(last_names)
    )
    return f"{author_text}, {_get_field(entry, 'year') or 'n.d.'}"


def _get_field(entry: Entry, *names: str) -> str:
    """Return the first available field of an entry as plain text, or ""."""
    return next((plain_text(entry.fields[name]) for name in names if name in entry.fields), "")


def plain_text(value: str) -> str:
    """Return a BibTeX value as plain text, with LaTeX resolved."""
    return " ".join(str(Text.from_latex(value)).split())


def _get_web_address(entry: Entry) -> str:
    """Return the web address of a work; "" if it is unknown."""
    doi = entry.fields.get("doi", "")
    address = f"{_DOI_ADDRESS}{doi}" if doi else entry.fields.get("url", "")
    return address if address.startswith(_WEB_SCHEMES) else ""


@cache
def _make_parser() -> MarkdownIt:
    """Return a Markdown parser with citations, without raw HTML, images and entities."""
    parser = MarkdownIt("commonmark", {"html": False}).disable(
        ["image", "autolink", "entity", "escape", "code"]
    )
    parser.inline.ruler.before("link", "citation", _parse_citation)
    parser.add_render_rule("citation", _render_citation)
    parser.validateLink = lambda url: url.startswith(_WEB_SCHEMES)  # type: ignore[method-assign]
    return parser


def _parse_citation(state: StateInline, silent: bool) -> bool:
    """Parse a citation as a token of its own; this is a rule for the Markdown parser."""
    match = _CITATION.match(state.src, state.pos)
    if match is None:
        return False
    if not silent:
        state.push("citation", "", 0).meta = {"keys": _CITATION_KEY.findall(match[1])}
    state.pos = match.end()
    return True


def _render_citation(
    _self: Any,
    tokens: Sequence[Any],
    index: int,
    _options: Any,
    env: Mapping[str, tuple[str, str]],
) -> str:
    """Render a citation from `env`, the short reference and address of each work by its key."""
    links = [
        f"{key}?"
        if key not in env
        else Markup('<a href="{1}">{0}</a>' if env[key][1] else "{}").format(*env[key])
        for key in tokens[index].meta["keys"]
    ]
    return Markup("({})").format(Markup("; ").join(links))


@cache
def _make_style() -> Style:
    """Return the style of references, with initials in place of first names."""
    return Style(abbreviate_names=True)
