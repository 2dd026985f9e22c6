"""Count files and bytes of an output by kind, at each level, and extrapolate to many participants.

python benchmarks/files_count.py NAME=OUT [NAME=OUT …] [--today OUT]

Every file below OUT counts, including the data set for other programs, figures, sidecars and logs.
Bytes of hard links count once. `--today` is the output of the same call by a version without
levels, for ratios. Include options in the name of an output, such as `example-standard`.
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from _table import keep

KINDS = {
    "series": ("_bold.nii.gz",),
    "maps": ("_statmap.nii.gz",),
    "masks": ("_mask.nii.gz",),
    "sidecars": (".json",),
    "figures": (".svg",),
}
PEOPLE = (1000, 10_000)


def kind_of(path: Path) -> str:
    """Return the kind of a file in the table."""
    if path.parent.name == "figures":
        return "figures"
    return next((kind for kind, ends in KINDS.items() if path.name.endswith(ends)), "others")


def counted(out: Path) -> tuple[Counter[str], int, Counter[str], int]:
    """Count all files by kind and their bytes; and the files of only one participant."""
    files, own_files = Counter[str](), Counter[str]()
    inodes: set[int] = set()
    total = own_bytes = 0
    for path in sorted(file for file in out.rglob("*") if file.is_file()):
        state = path.stat()
        size = 0 if state.st_ino in inodes else state.st_size
        inodes.add(state.st_ino)
        files[kind_of(path)] += 1
        total += size
        if any("sub-" in part for part in path.relative_to(out).parts):
            own_files[kind_of(path)] += 1
            own_bytes += size
    return files, total, own_files, own_bytes


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("outputs", nargs="+", metavar="NAME=OUT")
    parser.add_argument(
        "--today", type=Path, metavar="OUT", help="output of a version without levels"
    )
    parser.add_argument("--name", default="files_count", help="of the table, below results")
    arguments = parser.parse_args()
    before = counted(arguments.today)[:2] if arguments.today else None
    rows: list[dict[str, Any]] = []
    if before:
        rows.append(row("without levels", *counted(arguments.today), before=None))
    for text in arguments.outputs:
        name, _, folder = text.partition("=")
        rows.append(row(name, *counted(Path(folder)), before=before))
    keep(arguments.name, "Files of one participant, and of many", rows)


def row(
    name: str,
    files: Counter[str],
    size: int,
    own_files: Counter[str],
    own_size: int,
    *,
    before: tuple[Counter[str], int] | None,
) -> dict[str, Any]:
    """Return one output as a row of the table."""
    cells: dict[str, Any] = {"output": name, "files": sum(files.values())}
    cells |= {kind: files[kind] for kind in (*KINDS, "others")}
    cells |= {
        "MB": round(size / 1e6, 1),
        "share of bytes": round(size / before[1], 3) if before else "–",
    }
    for people in PEOPLE:
        cells[f"files, {people:,}"] = f"{sum(own_files.values()) * people:,}"
        cells[f"GB, {people:,}"] = round(own_size * people / 1e9)
    return cells


if __name__ == "__main__":
    main()
