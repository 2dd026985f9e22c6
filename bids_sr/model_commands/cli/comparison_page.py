"""HTML page of ``bids-sr-models evaluate``, with tables and figures."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from bids_sr.io.atomic_files import write_text
from bids_sr.version import __version__

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;color:#1f2933;background:#fff;
max-width:75rem;margin:1.5rem auto;padding:0 1rem}
img{max-width:100%}table{border-collapse:collapse;display:block;overflow-x:auto}
td,th{padding:.15rem .6rem;text-align:left;border-bottom:1px solid #d5dade}
footer{color:#5b6770;font-size:.85em}"""
_MIME = {".png": "image/png", ".svg": "image/svg+xml"}


def write_comparison_page(
    target: Path,
    title: str,
    tables: Mapping[str, Markup],
    figures: Sequence[Path],
) -> Path:
    """Write a page of tables and figures, atomically.

    Parameters
    ----------
    target : Path
        File of the page.
    title : str
        Title of the page.
    tables : Mapping[str, Markup]
        Tables by heading.
    figures : Sequence[Path]
        PNG or SVG files, which are embedded.
    """
    sections = [
        Markup("<h2>{}</h2>{}").format(heading, content) for heading, content in tables.items()
    ]
    sections += [_format_figure(file) for file in figures]
    page = Markup(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        "<style>{style}</style></head><body><h1>{title}</h1>{body}"
        "<footer>bids-sr {version}; for research, not for clinical use</footer></body></html>\n"
    ).format(
        title=title, style=Markup(_STYLE), body=Markup("\n").join(sections), version=__version__
    )
    return write_text(target, str(page))


def format_table(rows: Sequence[Sequence[str]]) -> Markup:
    """Return a table; the first row has the names of the columns."""
    column_names, *body_rows = rows
    head = _wrap_cells("<th>{}</th>", column_names)
    body = _wrap_cells("<tr>{}</tr>", [_wrap_cells("<td>{}</td>", row) for row in body_rows])
    return Markup("<table><tr>{}</tr>{}</table>").format(head, body)


def _wrap_cells(template: str, cells: Sequence[str]) -> Markup:
    """Return cells in the tags of a template, joined."""
    return Markup("").join(Markup(template).format(cell) for cell in cells)


def _format_figure(file: Path) -> Markup:
    """Return an embedded figure with its file name as caption."""
    encoded_image = b64encode(file.read_bytes()).decode("ascii")
    return Markup(
        '<figure><img alt="{name}" src="data:{mime};base64,{data}">'
        "<figcaption>{name}</figcaption></figure>"
    ).format(name=file.name, mime=_MIME[file.suffix], data=encoded_image)
