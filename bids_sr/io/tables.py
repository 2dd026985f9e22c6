"""Reader of tab-separated BIDS tables for the whole program.

A row is a line of the file. A cell that begins and ends with a quotation mark, as R writes all
text, is read without the marks. Any other quotation mark is an ordinary character.
"""

import codecs
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.io.atomic_files import read_text
from bids_sr.io.checksums import once_per_state

if TYPE_CHECKING:
    import pandas as pd

# quoted cell up to the next delimiter or the end of the line, or all text up to the delimiter
_CELL_PATTERNS = {
    delimiter: re.compile(rf'"((?:[^"]|"")*)"(?={delimiter}|$)|([^{delimiter}]*)')
    for delimiter in ("\t", ",")
}

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
MISSING_MARKS = frozenset({"NA", "N/A", "<NA>", "NULL", "None", "."})
"""Missing values as R, SPSS, SAS, databases and Python write them, beside ``n/a`` of BIDS."""
TableRow = tuple[int, dict[str, str | None]]
"""Line number, and cells by column; None if the line has fewer cells than columns.

Cells beyond the last column are joined by the delimiter under the key "".
"""


class MalformedTable(ValueError):
    """Error for an unreadable table; the message names the row or column."""


TABLE_ERRORS = (OSError, MalformedTable)
"""Errors of `read_rows` and `read_frame`."""


def is_missing(cell: str | None) -> bool:
    """Return whether a cell has no value: empty, n/a or NaN, or one of `MISSING_MARKS`.

    >>> [is_missing(cell) for cell in (None, " N/a", "NA", "None", "na", "none")]
    [True, True, True, True, False, False]
    """
    text = "" if cell is None else cell.strip()
    return text.lower() in ("", "n/a", "nan") or text in MISSING_MARKS


def read_column(table: Path, name: str) -> list[str]:
    """Return the values of a column as text, from top to bottom.

    The list is empty if the table has no such column or cannot be read (preflight reports errors).
    """
    try:
        return [row.get(name) or "" for _, row in read_rows(table)[1]]
    except TABLE_ERRORS:
        return []


def read_rows(
    path: Path, limit: int | None = None, *, delimiter: str = "\t"
) -> tuple[list[str], list[TableRow]]:
    """Return the columns of a table, and its rows with their line numbers.

    The table is text in UTF-8 with a line of column names. `limit` is the largest number of rows
    to return; None returns all rows. `delimiter` is a tab or a comma. Raises the errors of
    `split_table`.
    """
    columns, rows = split_table(path, delimiter)
    records = list[TableRow]()
    for number, cells in islice(rows, limit):
        record: dict[str, str | None] = dict.fromkeys(columns)
        record.update(zip(columns, cells, strict=False))
        if len(cells) > len(columns):
            record[""] = delimiter.join(cells[len(columns) :])
        records.append((number, record))
    return columns, records


def read_frame(path: Path) -> "pd.DataFrame":
    """Return a tab-separated table as a data frame, with NaN for missing values.

    Raises the errors of `split_table`, and `MalformedTable` if a row has more or fewer cells than
    columns.
    """
    import csv
    import io

    import pandas as pd

    columns, rows = split_table(path)
    for number, cells in rows:
        if len(cells) != len(columns):
            raise MalformedTable(
                f"line {number} has {len(cells)} cells, but the table has {len(columns)} columns"
            )
    stream = io.StringIO()
    csv.writer(stream, delimiter="\t", lineterminator="\n").writerows(
        [columns, *(cells for _, cells in rows)]
    )
    stream.seek(0)
    missing = ["n/a", *MISSING_MARKS]
    return pd.read_csv(stream, sep="\t", na_values=missing, skip_blank_lines=False)


def split_table(
    path: Path, delimiter: str = "\t"
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the column names of a table, and the line number and cells of each row.

    Empty lines, and lines of delimiters at the end of the table, are skipped. Blanks around column
    names are removed. Columns without a name are omitted, such as the index that pandas writes,
    and empty cells at the end of lines, which spreadsheets and MATLAB write. Raises `OSError` if
    the file cannot be read, and `MalformedTable` if the file is not UTF-8 text, or if two columns
    have the same name, which BIDS does not allow.
    """
    # other Unicode line separators may occur within a cell
    lines = re.split(r"\r\n|\n|\r", _read_utf8(path))
    numbered_lines = [
        (number, line) for number, line in enumerate(lines, 1) if line.strip("\r\n ")
    ]
    while numbered_lines and not numbered_lines[-1][1].strip(f"\r\n {delimiter}"):
        numbered_lines.pop()
    if not numbered_lines:
        return [], []
    header = [name.strip() for name in split_line(numbered_lines[0][1], delimiter)]
    columns = [name for name in header if name]
    repeated_names = sorted({name for name in columns if columns.count(name) > 1})
    if repeated_names:
        raise MalformedTable(f"several columns have the name {repeated_names[0]!r}")
    rows = [(number, split_line(line, delimiter)) for number, line in numbered_lines[1:]]
    is_rectangular = len(columns) == len(header)
    return columns, [
        (number, cells)
        if is_rectangular and len(cells) <= len(columns)
        else (number, _select_cells(cells, header))
        for number, cells in rows
    ]


def _select_cells(cells: Sequence[str], header: Sequence[str]) -> list[str]:
    """Return the cells of the columns with a name, and cells beyond the last of these columns.

    Empty cells at the end of the line are omitted beyond the last column. `header` contains the
    names of all columns, "" for a column without a name.
    """
    n_columns = max((index for index, name in enumerate(header, 1) if name), default=0)
    n_cells = max((index for index, cell in enumerate(cells, 1) if cell.strip()), default=0)
    selected = [cell for cell, name in zip(cells, header, strict=False) if name]
    return selected + list(cells[n_columns:n_cells])


_read_text = once_per_state(read_text)


def _read_utf8(path: Path) -> str:
    """Return the text of a table without a byte order mark.

    The errors are as in `split_table`.
    """
    try:
        text = _read_text(path)
    except UnicodeDecodeError as error:
        if error.object.startswith(_UTF16_MARKS):
            raise MalformedTable("the text is encoded in UTF-16 instead of UTF-8") from error
        line = error.object[: error.start].count(b"\n") + 1
        raise MalformedTable(
            f"the text is not encoded in UTF-8: line {line} has the byte"
            f" 0x{error.object[error.start]:02x}"
        ) from error
    if "\0" in text:  # for example UTF-16 without a mark; some programs end a name at such a byte
        raise MalformedTable("the file contains NUL bytes, which are not UTF-8 text")
    return text


def split_line(line: str, delimiter: str = "\t") -> list[str]:
    """Split a line into its cells.

    >>> split_line('1.5\\t"a ""quoted"" cell"\\t"open')
    ['1.5', 'a "quoted" cell', '"open']
    """
    if '"' not in line:
        return line.split(delimiter)
    cells, position = list[str](), 0
    while position <= len(line):
        match = _CELL_PATTERNS[delimiter].match(line, position)
        assert match is not None
        quoted_text = match.group(1)
        cells.append(match.group(2) if quoted_text is None else quoted_text.replace('""', '"'))
        position = match.end() + 1
    return cells


def join_line(cells: Iterable[str]) -> str:
    """Join cells to a line that `split_line` splits into the same cells.

    >>> join_line(["1.5", 'a "quoted" cell', "a\\ttab"])
    '1.5\\ta "quoted" cell\\t"a\\ttab"'
    """
    return "\t".join(_quote_cell(cell) for cell in cells)


def _quote_cell(cell: str) -> str:
    """Quote a cell that would otherwise be read as another text.

    A quotation mark at the beginning could pair with the mark of a later cell.
    """
    if "\t" in cell or cell.startswith('"'):
        return '"' + cell.replace('"', '""') + '"'
    return cell
