"""Check that two versions of the program write the same outputs: python benchmarks/same_outputs.py
NAME BEFORE AFTER

BEFORE and AFTER are output folders of the same call with two versions. Logs are left out. Images
are compared by voxels, tables by cells, and all other files byte by byte; figures and pages may
differ in bytes and look the same.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

from _outputs import same_image
from _table import markdown

SHOWN = {".svg", ".html"}


def files(root: Path) -> dict[str, Path]:
    """Return all files except logs, by path."""
    paths = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {place: path for place, path in paths.items() if not place.startswith("logs/")}


def table_difference(before: Path, after: Path) -> str:
    """Describe the cells that differ: number, and largest difference."""
    old, new = (
        list(csv.reader(path.read_text().splitlines(), delimiter="\t")) for path in (before, after)
    )
    if [len(old_row) for old_row in old] != [len(old_row) for old_row in new] or old[:1] != new[
        :1
    ]:
        return "other rows or columns"
    pairs = [
        (x, y)
        for old_row, new_row in zip(old, new, strict=True)
        for x, y in zip(old_row, new_row, strict=True)
        if x != y
    ]
    try:
        worst = max((abs(float(x) - float(y)) / abs(float(x)) for x, y in pairs), default=0.0)
    except (ValueError, ZeroDivisionError):
        return f"{len(pairs)} cells"
    return f"{len(pairs)} cells, by {worst:.2g} of their value at most" if pairs else ""


def difference(before: Path, after: Path) -> str:
    """Describe the difference in a file; "" if there is none."""
    if before.read_bytes() == after.read_bytes():
        return ""
    if before.name.endswith((".nii", ".nii.gz")):
        return "" if same_image(before, after) else "voxels"
    return table_difference(before, after) if before.suffix == ".tsv" else "bytes"


def main() -> int:
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    old, new = (files(Path(folder)) for folder in sys.argv[2:])
    rows: list[dict[str, Any]] = [
        {"file": place, "difference": "before only" if place in old else "after only"}
        for place in sorted(old.keys() ^ new.keys())
    ]
    differences = {place: difference(old[place], new[place]) for place in sorted(old.keys() & new)}
    changed = {place: text for place, text in differences.items() if text}
    shown = [place for place in changed if Path(place).suffix in SHOWN]
    rows += [
        {"file": place, "difference": text}
        for place, text in changed.items()
        if place not in shown
    ]
    remarks = [
        f"{len(differences) - len(changed)} files are equal; {len(shown)} figures and pages"
        " differ in bytes."
    ]
    print(f"What differs in the outputs of two versions: {sys.argv[1]}\n", *remarks, sep="\n")
    print(markdown(rows) if rows else "Nothing else differs.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
