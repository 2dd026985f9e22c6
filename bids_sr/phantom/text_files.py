"""Text files of the data set, written so that equal content gives equal bytes."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def write_tsv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a tab-separated table with a heading; floats with six significant digits after rounding noise is gone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(columns)]
    for row in rows:
        lines.append("\t".join(f"{cell:.6g}" if isinstance(cell, float) else str(cell) for cell in row))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
