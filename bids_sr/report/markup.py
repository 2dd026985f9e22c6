"""HTML of the report from Jinja templates; all texts that are not markup are escaped."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from bids_sr.boilerplate import path

ColumnHead = str | tuple[str, str]
"""Head of a column, with or without a unit."""


def table(
    caption: str,
    heads: Sequence[ColumnHead],
    rows: Iterable[Sequence[Any]],
    *,
    names: int = 1,
    texts: Collection[int] = (),
) -> Markup:
    """Render a table of texts or markup; "" if there are no rows.

    `heads` of the columns are with or without a unit. `names` is the number of cells at the start
    of each row that are headings. `texts` are columns of words instead of numbers, counted from 0.
    """
    row_list = list(rows)
    columns = [
        (head, None) if isinstance(head, str) else (head[0], head[1] or None) for head in heads
    ]
    return (
        render("table", caption, columns, row_list, names, frozenset(texts))
        if row_list
        else Markup("")
    )


def render_selector(entries: Iterable[tuple[str, str]]) -> Markup:
    """Render tables with a selector of one table by its title.

    Prints, and pages without scripts, contain all tables. Tables without markup are skipped, and a
    single table has no selector. `entries` are the titles and markup of the tables.
    """
    nonempty_entries = [(title, content) for title, content in entries if content]
    return (
        render("picked", nonempty_entries)
        if len(nonempty_entries) > 1
        else join(content for _, content in nonempty_entries)
    )


def render_by_contrast(entries: Mapping[str, str]) -> Markup:
    """Render the markup of each contrast; the choice at the top of the page selects one of them.

    Prints, and pages without scripts, contain all contrasts. Contrasts without markup are skipped.
    """
    return render("by_contrast", [entry for entry in entries.items() if entry[1]])


def join(fragments: Iterable[str]) -> Markup:
    """Join pieces of markup; plain texts are escaped."""
    return Markup("").join(fragments)


def render_folded(title: str, content: str) -> Markup:
    """Render content that is folded below a title; "" if there is no content."""
    return render("folded", title, content) if content else Markup("")


def render(macro: str, *args: Any, **kwargs: Any) -> Markup:
    """Render a macro of ``macros.tpl``; texts are escaped, and markup is unchanged."""
    module: Any = environment().get_template("macros.tpl").module
    return Markup(str(getattr(module, macro)(*args, **kwargs)).strip())


@cache
def environment() -> jinja2.Environment:
    """Return the Jinja environment with the templates of the program."""
    loader = jinja2.FileSystemLoader(str(path("report.tpl").parent))
    return jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, autoescape=True)
