"""Numbers and tables of `docs/papers/index.md`, and the page of items.

Call: ``python docs/papers_page.py``.

A number is between ``<!--=FILE / CELL / COLUMN-->`` and ``<!--/-->``. FILE is a table in
`benchmarks/results`, CELL (one or several) selects rows with this cell (in any column, or in
``COLUMN=CELL``), and COLUMN is the column of the number. If several rows are selected, the text is
their range.
A table is between ``<!-- table NAME -->`` and ``<!-- end of table -->``; NAME is a key of
`TABLES`.
`docs/papers/items.md` is written from `docs/papers/items.tsv`, whose notes may contain numbers.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/papers/index.md"
ITEMS = ROOT / "docs/papers/items.tsv"
ITEMS_PAGE = ITEMS.with_suffix(".md")
RESULTS = ROOT / "benchmarks" / "results"
STATUSES = {
    "works": "The item is implemented as described in the paper",
    "with stand-in": "The item is implemented as described in the paper, but a program or device "
    "that was not available to us was replaced in all tests (see the note)",
    "differs": "The item is implemented, but differs from the paper as described in the note",
    "missing": "The item is not implemented",
    "broken": "The item is implemented, but does not work",
}
NUMBER = re.compile(r"<!--=(.*?)-->.*?<!--/-->", re.DOTALL)
TABLE = re.compile(r"<!-- table (\w+) -->.*?<!-- end of table -->", re.DOTALL)
SUPERVISED = ("li", "mse3d", "li-agnostic")
Row = dict[str, Any]


def rows(name: str) -> list[Row]:
    """Return the rows of a stored table, or of a table that is computed from stored tables."""
    if name in COMPUTED:
        return COMPUTED[name]()
    stored: list[Row] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))["rows"]
    return stored


def plain(value: object) -> str:
    """Return a cell as the page writes it: without IQR or SD, .5 instead of 0.5, and a minus.

    Numbers that were not rounded in the table have three digits.
    """
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    text = re.sub(r" (?:±|\().*", "", text)
    text = re.sub(r"(?<![\w.])-(?=[\d.])", "−", text)
    return re.sub(r"(?<![\d.])0\.(?=\d)", ".", text)


def number(place: str) -> str:
    """Return the number, or the range of numbers, at ``FILE / CELL / COLUMN``."""
    name, *cells, column = place.strip().split(" / ")
    texts = [
        plain(row[column])
        for row in rows(name)
        if {*cells} <= {*map(str, row.values()), *(f"{key}={row[key]}" for key in row)}
    ]
    if len(texts) == 1:
        return texts[0]
    ordered = sorted(texts, key=lambda text: float(text.replace("−", "-")))
    return f"{ordered[0]} to {ordered[-1]}"


def chosen(name: str, titles: dict[str, str]) -> list[Row]:
    """Return a stored table with some of its columns under new titles."""
    return [{title: plain(row[key]) for key, title in titles.items()} for row in rows(name)]


def crossed(stored: list[Row], down: str, across: str, value: str, paper: str = "") -> list[Row]:
    """Return one row per value of `down` and one column per value of `across`.

    The value of the column `paper` follows in parentheses.
    """
    table: dict[str, Row] = {}
    for row in stored:
        cells = table.setdefault(row[down], {down: row[down]})
        published = f" ({plain(row[paper])})" if paper else ""
        cells[row[across]] = f"{plain(row[value])}{published}"
    return [*table.values()]


def tv_gains() -> list[Row]:
    """Return PSNR relative to the cubic spline by network and factor, and of the paper."""
    alone = [
        row | {"method": f"{row['method']}, test volume only"}
        for row in rows("papers_tv_1")
        if row["method"] == "tv"
    ]
    columns = ("method", "factor", "PSNR − cubic spline", "paper: PSNR − cubic spline")
    return crossed(alone + rows("papers_tv_2"), *columns)


def tv_competitive() -> list[Row]:
    """Return how much less `tv` gains than supervised networks, here and in the paper.

    Gains are in dB above the cubic spline. `tv` is compared with the supervised network that has
    the largest gain at a factor, and with `tv` trained on the test volume only.
    """
    here, paper = "PSNR − cubic spline", "paper: PSNR − cubic spline"
    gains = {
        (source, row["factor"], name): float(str(row[column]).split()[0])
        for source, table in (("", "papers_tv_2"), ("one image", "papers_tv_1"))
        for row in rows(table)
        for name, column in ((row["method"], here), (f"{row['method']}, paper", paper))
    }
    table = []
    for factor in ("×1.25", "×1.5", "×1.75", "×2"):
        row: Row = {"factor": factor}
        for suffix in ("", ", paper"):
            tv = gains["", factor, f"tv{suffix}"]
            best = max(gains["", factor, f"{name}{suffix}"] for name in SUPERVISED)
            alone = gains["one image", factor, f"tv{suffix}"]
            row |= {
                f"dB below the best supervised{suffix}": f"{best - tv:.2f}",
                f"% of its gain{suffix}": f"{100 * tv / best:.0f}",
                f"data set − one image (dB){suffix}": f"{tv - alone:.2f}",
            }
        table.append(row)
    return table


COMPUTED: dict[str, Callable[[], list[Row]]] = {"tv_competitive": tv_competitive}
TABLES: dict[str, Callable[[], list[Row]]] = {
    "ota": lambda: chosen(
        "papers_srgan",
        {
            "smoothing": "smoothing",
            "measure": "measure",
            "acquired": "acquired",
            "B-spline": "B-spline",
            "srgan": "`srgan`",
            "truth": "truth",
            "paper: acquired → SRGAN": "paper",
        },
    ),
    "tv": tv_gains,
    "networks": lambda: chosen(
        "papers_tv_3",
        {
            "factor": "factor",
            "network": "network",
            "accuracy, tv": "accuracy, `tv`",
            "FDR, tv (%)": "FDR, `tv` (%)",
            "FDR, cubic spline (%)": "FDR, cubic spline (%)",
        },
    ),
    "cpce": lambda: chosen(
        "papers_cpce",
        {
            "images": "images",
            "SSIM": "SSIM",
            "PSNR − zero filling (dB)": "PSNR − zero filling (dB)",
            "PSNR − zero filling of the folds": "in the four folds",
            "paper: SSIM": "paper: SSIM",
            "paper: PSNR": "paper: PSNR (dB)",
        },
    ),
    "mouse": lambda: chosen(
        "papers_mouse_methods",
        {
            "method": "method",
            "RMSE reduction relative to cubic (%)": "RMSE reduction (%)",
            "SSIM": "SSIM",
        },
    ),
    "resolutions": lambda: crossed(
        rows("papers_mouse_resolutions"),
        "tested at",
        "trained at",
        "RMSE reduction relative to cubic (%)",
    ),
    "attunet": lambda: chosen(
        "papers_attunet_1",
        {
            "method": "method",
            "PSNR (dB)": "PSNR (dB)",
            "SSIM": "SSIM",
            "parameters": "parameters",
            "paper: SSIM": "paper: SSIM",
            "paper: PSNR": "paper: PSNR (dB)",
        },
    ),
    "volumes": lambda: crossed(
        rows("papers_attunet_volumes"), "method", "class", "difference (% of the mean)"
    ),
    "lesions": lambda: crossed(
        [
            row
            for row in rows("papers_attunet_lesions")
            if row["measure"].startswith(("lesions", "tissues"))
        ],
        "images",
        "measure",
        "mean",
        "95 % interval",
    ),
}


def items() -> list[dict[str, str]]:
    """Return the items as rows of the table, in order."""
    with ITEMS.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def markdown(table: list[Row]) -> str:
    """Return rows with one set of keys as a Markdown table."""
    rows = [list(table[0]), *([str(value) for value in row.values()] for row in table)]
    head, *lines = (f"| {' | '.join(cells)} |" for cells in rows)
    return "\n".join([head, "|---" * len(table[0]) + "|", *lines])


def items_page() -> str:
    """Return the page of items, with counts by status."""
    counts = Counter(row["status"] for row in items())
    summary = "\n".join(
        f"- **{name}** ({counts[name]}): {meaning}." for name, meaning in STATUSES.items()
    )
    cells = [
        {
            "": row["number"],
            "paper": row["paper"],
            "item": row["item"],
            "status": f"**{row['status']}**" if row["status"] != "works" else "works",
            "command": f"<code>{escape(row['command'], quote=False)}</code>"
            if row["command"]
            else "",
            "test": f"<code>{row['test']}</code>" if row["test"] else "",
            "note": row["note"],
        }
        for row in items()
    ]
    page = f"""# The papers, item by item

<!-- Written by docs/papers_page.py. Edit docs/papers/items.tsv. -->

The list contains {len(cells)} features described in [the papers](index.md) and in the
specification of bids-sr, with a command and a test. Only the relevant options are shown. In
addition, `bids-sr-models train` and `compare` require an output name and images (`--fine`,
`--coarse`). An item has one of the following statuses:

{summary}

{markdown(cells)}
"""
    return filled(page)


def filled(text: str) -> str:
    """Return the page with its numbers and tables as they are now."""
    text = NUMBER.sub(lambda match: f"<!--={match[1]}-->{number(match[1])}<!--/-->", text)
    return TABLE.sub(
        lambda match: (
            f"<!-- table {match[1]} -->\n{markdown(TABLES[match[1]]())}\n<!-- end of table -->"
        ),
        text,
    )


def main() -> None:
    """Write both pages."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    ITEMS_PAGE.write_text(items_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
