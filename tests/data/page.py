"""What a reader finds on a page of the program: headings, tables, links and warnings."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

_EMPTY_TAGS = ("br", "img", "meta", "link", "input", "source", "col", "hr")
_INLINE_TAGS = ("span", "em", "code", "a", "b", "i", "sup", "sub")

MARKUP = "<script>alert('x')</script> & $\\frac"
"""Text from outside that must appear on a page as it is written here."""


@dataclass
class Element:
    """Element of a page with its attributes and children."""

    tag: str
    attributes: dict[str, str]
    children: list["Element | str"] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Text of the element and its descendants with single plain spaces."""
        text = " ".join(self._read().split())
        return re.sub(r" ([,.;:])(?!\d)", r"\1", text)

    def _read(self) -> str:
        """Return the text with spaces around elements that are not within a line."""
        if self.tag in ("script", "style"):
            return ""
        text = "".join(
            child if isinstance(child, str) else child._read() for child in self.children
        )
        return text if self.tag in _INLINE_TAGS else f" {text} "

    @property
    def classes(self) -> list[str]:
        """Classes of the element in the style sheet."""
        return self.attributes.get("class", "").split()

    @property
    def elements(self) -> list["Element"]:
        """Children that are elements."""
        return [child for child in self.children if isinstance(child, Element)]

    def all(self, tag: str = "", css: str = "") -> list["Element"]:
        """Return the descendants with a tag and a class, in the order of the page."""
        found = []
        for child in self.elements:
            if tag in ("", child.tag) and css in ("", *child.classes):
                found.append(child)
            found += child.all(tag, css)
        return found


class Page(HTMLParser):
    """Page or part of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.root = Element("", {})
        self._open = [self.root]
        self.feed(str(html))
        assert self._open == [self.root], f"not closed: {self._open[-1].tag}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Add an element; HTMLParser calls this method."""
        element = Element(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(element)
        if tag not in _EMPTY_TAGS:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Add an element of SVG that closes itself."""
        self.handle_starttag(tag, attrs)
        if tag not in _EMPTY_TAGS:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        """Close the last element, which must have this tag."""
        assert self._open[-1].tag == tag, f"{tag} ends inside {self._open[-1].tag}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        """Add text to the last open element."""
        self._open[-1].children.append(data)

    def all(self, tag: str = "", css: str = "") -> list[Element]:
        """Return the elements with a tag and a class, in the order of the page."""
        return self.root.all(tag, css)

    def section(self, name: str) -> Element:
        """Return the only element with this id."""
        (found,) = (element for element in self.all() if element.attributes.get("id") == name)
        return found

    @property
    def text(self) -> str:
        """Text of the whole page."""
        return self.root.text

    @property
    def headings(self) -> list[str]:
        """Text of headings of all levels."""
        return [found.text for found in self.all() if re.fullmatch(r"h\d", found.tag)]

    @property
    def links(self) -> dict[str, str]:
        """Target of each link by its text."""
        return {found.text: found.attributes.get("href", "") for found in self.all("a")}

    @property
    def warnings(self) -> list[str]:
        """Text of each warning."""
        return [found.text for found in self.all(css="warning")]

    @property
    def tables(self) -> dict[str, list[list[str]]]:
        """Cells of each table by its caption; the first line contains the heads.

        Captions that occur again get a number.
        """
        tables: dict[str, list[list[str]]] = {}
        for table in self.all("table"):
            caption = " ".join(found.text for found in table.all("caption"))
            while caption in tables:
                caption += " (again)"
            lines = table.all("tr")
            tables[caption] = [[cell.text for cell in line.elements] for line in lines]
        return tables

    def table(self, start: str = "") -> list[list[str]]:
        """Return the only table whose caption starts with `start`."""
        (found,) = (lines for caption, lines in self.tables.items() if caption.startswith(start))
        return found


def read_numbers(text: str) -> list[float]:
    """Return the numbers in a text, with minus signs as they are typeset."""
    return [float(found) for found in re.findall(r"-?\d*\.?\d+", text.replace("−", "-"))]
