"""Draw the rooms of the package: python docs/draw_layers.py writes docs/figures/layers.svg.

docs/changing.md shows the figure. Rows are the layers that `lint-imports` checks (setup.cfg), and
lines are imports by the higher room. Lines to the two lowest rows are omitted because they are
imported nearly everywhere, and lines that other lines imply are omitted.
"""

from __future__ import annotations

import ast
import configparser
from collections.abc import Collection, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT, GAP, ROW = 118, 40, 16, 70
TEXT = {
    "boilerplate": "package data",
    "io": "files, names, numbers",
    "engine": "steps, graph, execution",
    "spatial": "grids, transforms, masks",
    "preproc": "motion, registration",
    "glm": "design, noise, maps",
    "sr": "methods, networks, models",
    "config": "options, settings",
    "survey": "data set, checks",
    "evaluation": "tested detail, verdict",
    "report": "figures, pages",
    "group": "all runs, participants",
    "structural": "T1w, T2w, FLAIR",
    "phantom": "simulated data sets",
    "workflows": "order of steps",
    "api": "Python interface",
    "cli": "programs",
}
HIDDEN_ROWS = 2
"""Rows at the bottom, boilerplate and io, that nearly all rooms import: lines are omitted."""


def part_of(path: Path) -> str:
    """Return the part that a file belongs to: a folder or module of bids_sr."""
    return path.relative_to(ROOT / "bids_sr").with_suffix("").parts[0]


def imports(path: Path) -> Iterator[str]:
    """Yield the parts that a file imports, at any place."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names]
                if node.module == "bids_sr"
                else [node.module]
            )
        yield from (
            name.split(".")[1]
            for name in names
            if name.startswith("bids_sr.")
            and not name.startswith(("bids_sr.__", "bids_sr.version"))
        )


def read_rows() -> dict[str, int]:
    """Return the row of each part, 0 at the bottom."""
    rules = configparser.ConfigParser(interpolation=None)
    rules.read(ROOT / "setup.cfg", encoding="utf-8")
    layers = rules["importlinter:contract:rooms"]["layers"].split("\n")[:0:-1]
    return {
        part.strip(): row
        for row, layer in enumerate(layers)
        for part in layer.split("|")
        if part.strip() in TEXT
    }


def graph(parts: Collection[str]) -> dict[str, set[str]]:
    """Return the other parts that each part imports."""
    found: dict[str, set[str]] = {part: set() for part in sorted(parts)}
    for path in (ROOT / "bids_sr").rglob("*.py"):
        if (part := part_of(path)) in found:
            found[part] |= set(imports(path)) & found.keys() - {part}
    return found


def _reached(part: str, used: dict[str, set[str]]) -> set[str]:
    return (
        set().union(*({below} | _reached(below, used) for below in used[part]))
        if used[part]
        else set()
    )


def shown(used: dict[str, set[str]], rows: dict[str, int]) -> list[tuple[str, str]]:
    """Return the imports that are drawn as lines."""
    return [
        (part, below)
        for part in used
        for below in sorted(used[part])
        if rows[below] >= HIDDEN_ROWS
        and not any(below in _reached(other, used) for other in used[part] - {below})
    ]


def drawn() -> str:
    """Return the figure as SVG."""
    rows = read_rows()
    used = graph(rows)
    top = max(rows.values())
    by_row = [[part for part in used if rows[part] == row] for row in range(top + 1)]
    widest = max(map(len, by_row)) * (WIDTH + GAP) + GAP
    at = {
        part: (
            (widest - len(row) * (WIDTH + GAP) + GAP) / 2 + k * (WIDTH + GAP),
            (top - n) * ROW + GAP,
        )
        for n, row in enumerate(by_row)
        for k, part in enumerate(row)
    }
    out = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {widest}'
            f' {top * ROW + HEIGHT + 2 * GAP}" font-family="sans-serif" font-size="12">'
        ),
        "<title>Rooms of bids-sr: every line is an import</title>",
    ]
    for part, below in shown(used, rows):
        (x, y), (u, v) = at[part], at[below]
        ends = f'x1="{x + WIDTH / 2:g}" y1="{y + HEIGHT}" x2="{u + WIDTH / 2:g}" y2="{v}"'
        out.append(f'<line {ends} stroke="#9aa5ad" stroke-width="1"/>')
    for part, (x, y) in at.items():
        out.append(
            f'<rect x="{x:g}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="#eef3f7"'
            ' stroke="#00568c"/>'
        )
        out.append(
            f'<text x="{x + WIDTH / 2:g}" y="{y + 17}" text-anchor="middle"'
            f' font-weight="bold">{part}</text>'
        )
        small = (
            f'x="{x + WIDTH / 2:g}" y="{y + 31}" text-anchor="middle" font-size="9" fill="#5b6770"'
        )
        out.append(f"<text {small}>{TEXT.get(part, '')}</text>")
    return "\n".join([*out, "</svg>", ""])


if __name__ == "__main__":
    (ROOT / "docs/figures/layers.svg").write_text(drawn(), encoding="utf-8")
