"""Tables of comparisons: descriptions of their columns, and their text."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bids_sr.boilerplate import data_of
from bids_sr.engine.metric_rows import MISSING, cell_number
from bids_sr.io.atomic_files import write_json, write_text


def write_comparisons(
    file: Path, sidecar: Path, table: str, rows: Iterable[Mapping[str, Any]]
) -> None:
    """Write a table (`format_comparisons`), and a JSON file that describes its columns."""
    write_json(sidecar, describe_columns(table))
    write_text(file, format_comparisons(table, rows))


def format_comparisons(table: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the columns of a table as TSV text; missing and undefined cells are n/a.

    `rows` are cells by column, see `describe_columns`. Other cells are ignored.
    """
    columns = list(describe_columns(table))
    lines = [columns, *([_cell_text(row.get(name)) for name in columns] for row in rows)]
    return "".join("\t".join(cells) + "\n" for cells in lines)


def describe_columns(table: str) -> dict[str, Mapping[str, object]]:
    """Return the columns of a table in order, with their descriptions.

    `table` is an entry of ``columns.json``. A column without a description is described as in the
    entry of all comparisons, or as in the metrics tables of participants.
    """
    tables = data_of("columns.json")
    shared = {**tables["metrics"], **tables["comparisons"]}
    return {name: text or shared[name] for name, text in tables[table].items()}


def _cell_text(value: str | float | None) -> str:
    """Return a cell as text."""
    return value or MISSING if isinstance(value, str) else cell_number(value)
