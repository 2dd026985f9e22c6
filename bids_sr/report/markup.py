"""HTML of the report by Jinja templates, everything that is not markup already escaped."""

from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from bids_sr.boilerplate import path

Head = str | tuple[str, str]
"""Head of a column, with or without a unit."""


@cache
def environment() -> jinja2.Environment:
    """Return templates that come with the program."""
    loader = jinja2.FileSystemLoader(str(path("report.tpl").parent))
    return jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, autoescape=True)


def render(macro: str, *args: Any, **kwargs: Any) -> Markup:
    """Render HTML by a macro of ``macros.tpl``; text is escaped, markup is kept as it is."""
    module: Any = environment().get_template("macros.tpl").module
    return Markup(str(getattr(module, macro)(*args, **kwargs)).strip())


def joined(parts: Iterable[str]) -> Markup:
    """Return pieces one after another; those that are plain text are escaped.

    Markup of all parts; empty for none.
    """
    return Markup("").join(parts)


def table(
    caption: str,
    heads: Sequence[Head],
    rows: Iterable[Sequence[Any]],
    *,
    names: int = 1,
    texts: Collection[int] = (),
) -> Markup:
    """A table of cells as text or markup; nothing where it has no row.

    The first `names` cells of each row are headings; `texts` are columns, counted from the first,
    that hold words.

    `heads`: heads of the columns, with or without a unit.
    """
    lines = list(rows)
    columns = [
        (head, None) if isinstance(head, str) else (head[0], head[1] or None) for head in heads
    ]
    return (
        render("table", caption, columns, lines, names, frozenset(texts)) if lines else Markup("")
    )


def picked(entries: Iterable[tuple[str, str]]) -> Markup:
    """Return tables by their titles, of which the reader picks one.

    Print and pages without scripts show all of them.

    `entries`: title and markup of each table; those without markup are left out. Of one table
    alone there is no selector.
    """
    kept = [(title, content) for title, content in entries if content]
    return render("picked", kept) if len(kept) > 1 else joined(content for _, content in kept)


def folded(title: str, content: str) -> Markup:
    """Content behind a line to click; nothing where there is none."""
    return render("folded", title, content) if content else Markup("")
