"""The methods text of a run with its references: Markdown, BibTeX and HTML.

A converter for the little Markdown that our workflows write (headings, paragraphs, lists, emphasis, code, links and
citations such as ``[@key1; @key2]``), so that no further program is needed. Everything else is escaped, never
interpreted.
"""

import logging
import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from markupsafe import Markup

from bids_sr.boilerplate import bibliography
from bids_sr.boilerplate import path as carried
from bids_sr.io import atomic_files

LOG = logging.getLogger(__name__)
Entry = Mapping[str, str]
_CITATION = re.compile(r"\[((?:\s*@[\w:.+-]+\s*;?)+)\]")
_KEY = re.compile(r"@([\w:.+-]*\w)")
_ACCENTS = {'"': "\u0308", "'": "\u0301", "`": "\u0300", "^": "\u0302", "~": "\u0303", "c": "\u0327", "v": "\u030c",
            "=": "\u0304", ".": "\u0307", "u": "\u0306", "H": "\u030b", "k": "\u0328"}  # fmt: skip
_LETTERS = {
    r"\o": "ø",
    r"\O": "Ø",
    r"\ss": "ß",
    r"\ae": "æ",
    r"\aa": "å",
    r"\l": "ł",
    r"\i": "i",
    r"\&": "&",
    r"\%": "%",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class CitationFiles:
    """Where the three forms of the methods text were written."""

    markdown: Path
    bibtex: Path
    html: Path


def split_bibtex(text: str) -> dict[str, str]:
    """Entries of a BibTeX text by key, each as written; the first of two with one key is kept."""
    entries: dict[str, str] = {}
    for start in (found.start() for found in re.finditer(r"(?m)^@(?!comment\b|string\b)\w+\s*\{", text)):
        depth = 0
        for end in range(text.index("{", start), len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                raw = text[start : end + 1]
                entries.setdefault(raw.partition("{")[2].partition(",")[0].strip(), raw)
                break
    return entries


def parse_entry(raw: str) -> dict[str, str]:
    """Fields of a BibTeX entry, LaTeX accents resolved and braces removed; names in lower case."""
    body = raw.partition("{")[2].partition(",")[2].rstrip()[:-1]
    fields: dict[str, str] = {}
    position = 0
    while found := re.compile(r"\s*,?\s*(\w+)\s*=\s*").match(body, position):
        start, position = found.end(), _value_end(body, found.end())
        fields[found[1].lower()] = plain(body[start:position])
    return fields


def _value_end(body: str, start: int) -> int:
    """Index behind a BibTeX value: braces or quotes that balance, or a bare word."""
    depth, quoted = 0, body[start : start + 1] == '"'
    for index in range(start, len(body)):
        depth += {"{": 1, "}": -1}.get(body[index], 0)
        closes = body[index] == '"' and index > start if quoted else body[index] == "}"
        if depth == 0 and closes:
            return index + 1
        if depth == 0 and not quoted and body[index] == ",":
            return index
    return len(body)


def plain(value: str) -> str:
    """A BibTeX value as plain text."""
    text = value.strip().strip('"')
    text = re.sub(
        r"\\([\"'`^~=.]|[cvuHk](?=[\s{]))\s*\{?\\?([A-Za-z])\}?",
        lambda m: unicodedata.normalize("NFC", m[2] + _ACCENTS[m[1]]),
        text,
    )
    for latex, letter in _LETTERS.items():
        text = re.sub(
            re.escape(latex) + r"(?![A-Za-z])\s?(\{\})?" if latex[1:].isalpha() else re.escape(latex), letter, text
        )
    text = text.replace("---", "—").replace("--", "–").replace("~", " ")
    return re.sub(r"\s+", " ", text.replace("{", "").replace("}", "")).strip()


def authors(entry: Entry) -> list[tuple[str, str]]:
    """Last name and first names of each author; an organization has no first name."""
    found = []
    for name in re.split(r"\s+and\s+", entry.get("author", entry.get("editor", ""))):
        last, comma, first = name.partition(",")
        if not comma and " " in name and name.lower() not in ("others",) and not name.endswith("contributors"):
            first, _, last = name.rpartition(" ")
        if last.strip():
            found.append((last.strip(), first.strip()))
    return found


def short_reference(entry: Entry) -> str:
    """Authors and year as cited in running text."""
    names = [last for last, _ in authors(entry)] or [entry.get("title", "anonymous")]
    if len(names) > 2 or names[-1] == "others":
        who = f"{names[0]} et al."
    else:
        who = " and ".join(names)
    return f"{who}, {entry.get('year', 'n.d.')}"


def reference_html(entry: Entry) -> str:
    """A full reference; its DOI or address is a link, the only kind of outside reference in a report."""
    people = authors(entry)
    names = [
        "et al."
        if last == "others"
        else " ".join([last, "".join(part[0] for part in re.split(r"[\s.-]+", first) if part)])
        for last, first in people[:6]
    ]
    who = ", ".join(name.strip() for name in names) + (" et al." if len(people) > 6 else "")
    where = entry.get("journal") or entry.get("booktitle") or entry.get("publisher") or entry.get("howpublished") or ""
    volume = entry.get("volume", "") + (f"({entry['number']})" if entry.get("number") and entry.get("volume") else "")
    pages = f":{entry['pages']}" if entry.get("pages") and volume else entry.get("pages", "")
    parts = [f"{escape(who)} ({escape(entry.get('year', 'n.d.'))}).", f"{escape(entry.get('title', ''))}."]
    if where:
        parts.append(f"<em>{escape(where)}</em>{' ' if volume else ''}{escape(volume + pages)}.")
    target = f"https://doi.org/{entry['doi']}" if entry.get("doi") else entry.get("url", "")
    if target.startswith(("https://", "http://")):
        label = f"doi:{entry['doi']}" if entry.get("doi") else target
        parts.append(f'<a href="{escape(target)}">{escape(label)}</a>')
    return " ".join(parts)


def cited_keys(markdown: str) -> list[str]:
    """Keys of all citations in the order of their first appearance."""
    keys = [key for group in _CITATION.finditer(markdown) for key in _KEY.findall(group[1])]
    return list(dict.fromkeys(keys))


def missing_keys(markdown: str, bibtex: str) -> list[str]:
    """Keys that are cited and that the bibliography lacks."""
    known = split_bibtex(bibtex)
    return [key for key in cited_keys(markdown) if key not in known]


def methods_html(markdown: str, bibtex: str) -> Markup:
    """The methods text as a fragment of HTML, references at the end.

    Parameters
    ----------
    markdown : with citations ``[@key]``; a key that the bibliography lacks stays visible with a question mark
    bibtex : bibliography, may hold more than is cited
    """
    raw = split_bibtex(bibtex)
    entries = {key: parse_entry(raw[key]) for key in cited_keys(markdown) if key in raw}
    body = "\n".join(_block(block, entries) for block in re.split(r"\n\s*\n", markdown.strip()) if block.strip())
    if not entries:
        return Markup(body)
    order = sorted(entries, key=lambda key: (short_reference(entries[key]).casefold(), key))
    items = "".join(f'<li id="ref-{escape(key)}">{reference_html(entries[key])}</li>' for key in order)
    return Markup(f'{body}\n<h4>References</h4>\n<ol class="references">{items}</ol>')


def _block(block: str, entries: Mapping[str, Entry]) -> str:
    """One paragraph, heading or list."""
    lines = block.strip().splitlines()
    out: list[str] = []
    text: list[str] = []
    items: list[str] = []

    def flush() -> None:
        if items:
            out.append("<ul>" + "".join(f"<li>{_inline(item, entries)}</li>" for item in items) + "</ul>")
            items.clear()
        if text:
            out.append(f"<p>{_inline(' '.join(text), entries)}</p>")
            text.clear()

    for line in lines:
        heading = re.match(r"(#{1,5})\s+(.*)", line)
        bullet = re.match(r"\s*[-*]\s+(.*)", line)
        if heading:
            flush()
            level = min(6, len(heading[1]) + 2)
            out.append(f"<h{level}>{_inline(heading[2], entries)}</h{level}>")
        elif bullet:
            if text:
                flush()
            items.append(bullet[1])
        elif items:
            items[-1] += " " + line.strip()
        else:
            text.append(line.strip())
    flush()
    return "\n".join(out)


def _inline(text: str, entries: Mapping[str, Entry]) -> str:
    """Emphasis, code, links and citations of a line that is escaped first."""
    code: list[str] = []

    def keep(found: re.Match[str]) -> str:
        code.append(found[1])
        return f"\0{len(code) - 1}\0"

    def cite(found: re.Match[str]) -> str:
        texts = []
        for key in _KEY.findall(found[1]):
            known = entries.get(key)
            texts.append(f'<a href="#ref-{key}">{escape(short_reference(known))}</a>' if known else f"{key}?")
        return f"({'; '.join(texts)})"

    out = re.sub(r"`([^`]+)`", keep, escape(text, quote=False))
    out = _CITATION.sub(cite, out)
    out = re.sub(r"\[([^\]]+)\]\((https?://[^\s)\"]+)\)", r'<a href="\2">\1</a>', out)
    out = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", out)
    out = re.sub(r"(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])", r"<em>\1</em>", out)
    return re.sub("\0(\\d+)\0", lambda found: f"<code>{code[int(found[1])]}</code>", out)


def page_html(fragment: str, title: str) -> str:
    """A fragment as a page of its own, with the report's style."""
    css = carried("report.css").read_text(encoding="utf-8")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f"<style>{css} main {{ margin: 0 auto; max-width: 50rem; }}</style></head>\n"
        f"<body><main>\n{fragment}\n</main></body></html>\n"
    )


def write_citations(markdown: str, out_dir: str | os.PathLike[str], bibtex: str | None = None) -> CitationFiles:
    """Write ``CITATION.md``, ``CITATION.bib`` (what is cited) and ``CITATION.html``.

    Parameters
    ----------
    markdown : the methods text
    out_dir : folder, made where it is missing
    bibtex : bibliography; default: everything that comes with the program
    """
    folder = Path(out_dir)
    source = bibliography() if bibtex is None else bibtex
    raw = split_bibtex(source)
    if lacking := missing_keys(markdown, source):
        LOG.warning("the methods text cites what the bibliography lacks: %s", ", ".join(lacking))
    cited = "\n\n".join(raw[key] for key in cited_keys(markdown) if key in raw)
    return CitationFiles(
        markdown=atomic_files.write_whole(folder / "CITATION.md", markdown.strip() + "\n"),
        bibtex=atomic_files.write_whole(folder / "CITATION.bib", cited + "\n"),
        html=atomic_files.write_whole(folder / "CITATION.html", page_html(methods_html(markdown, source), "Methods")),
    )
