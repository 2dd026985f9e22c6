"""Tab-separated tables as they are in BIDS: text, row by row, with the numbers of the lines."""

import csv
import io
from itertools import islice
from pathlib import Path

from bids_sr.io.atomic_files import read_text

TABLE_ERRORS = (OSError, UnicodeDecodeError, csv.Error)
"""What `read_rows` raises."""
TableRow = tuple[int, dict[str, str | None]]
"""Number of the line, and the cells by column; None where there are fewer cells than columns."""


def read_rows(path: Path, most: int | None = None) -> tuple[list[str], list[TableRow]]:
    """Return columns of a tab-separated table, and its rows with their line numbers."""
    stream = io.StringIO(read_text(path, encoding="utf-8-sig"), newline="")
    reader = csv.DictReader(stream, delimiter="\t")
    columns = list(reader.fieldnames or [])
    return columns, [(reader.line_num, record) for record in islice(reader, most)]


def column(table: Path, name: str) -> list[str]:
    """Return the values of a column as text.

    They are empty where the table has no such column or cannot be read (preflight reports that).

    `table`: tab-separated table with a header line (UTF-8). Cells from top to bottom; no items if
    the table cannot be read.
    """
    try:
        return [row.get(name) or "" for _, row in read_rows(table)[1]]
    except TABLE_ERRORS:
        return []
