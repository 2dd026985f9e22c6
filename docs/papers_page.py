"""Tables of `docs/papers.md`: ``python docs/papers_page.py``.

Tables are between ``<!-- table NAME -->`` and ``<!-- end of table -->``. The rows of a table are
read from `benchmarks/results/NAME.json`. Figures are between ``<!-- figure NAME -->`` and
``<!-- end of figure -->``; `benchmarks/papers.py` draws them from the same results. The list of
items is between ``<!-- items -->`` and ``<!-- end of items -->``. To change the list, edit
`docs/papers_items.tsv` and run this script.
"""

import csv
import json
import re
from collections import Counter
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "papers.md"
ITEMS = ROOT / "docs" / "papers_items.tsv"
RESULTS = ROOT / "benchmarks" / "results"
STATUSES = {
    "works": "The item is implemented as described in the paper",
    "differs": "The item is implemented, but differs from the paper as described in the note",
    "missing": "The item is not implemented",
    "broken": "The item is implemented, but does not work",
}
TABLE = re.compile(r"<!-- table (\w+) -->.*?<!-- end of table -->", re.DOTALL)
FIGURE = re.compile(r"<!-- figure (\w+) -->.*?<!-- end of figure -->", re.DOTALL)
LIST = re.compile(r"<!-- items -->.*?<!-- end of items -->", re.DOTALL)


def items() -> list[dict[str, str]]:
    """Return the items as rows of the table, in order."""
    with ITEMS.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def markdown(rows: list[dict[str, object]]) -> str:
    """Return rows with one set of keys as a Markdown table."""
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[str(value) for value in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def table(name: str) -> str:
    """Return a stored result as a table with its remarks, or that it is not stored."""
    if not (RESULTS / f"{name}.json").exists():
        paper = name.split("_")[1]
        return f"*This table has not been generated. Run `python benchmarks/papers.py {paper}`.*"
    stored = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    stamp = f"The table is stored in `benchmarks/results/{name}.md`."
    return f"{markdown(stored['rows'])}\n\n{remarks(name)}\n\n{stamp}"


def remarks(name: str) -> str:
    """Return the remarks below a stored table."""
    text = (RESULTS / f"{name}.md").read_text(encoding="utf-8")
    return text.partition("\n\n| ")[2].partition("\n\n")[2].strip()


def figure(name: str) -> str:
    """Return a figure of stored curves, or that the curves are not stored."""
    if not (RESULTS / f"{name}.json").exists():
        paper = name.split("_")[1]
        return f"*This figure has not been drawn. Run `python benchmarks/papers.py {paper}`.*"
    title = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["title"]
    stamp = f"The values of the curves are stored in `benchmarks/results/{name}.md`."
    return f"![{title}](figures/papers_{name}.svg)\n\n{title}. {stamp}"


def list_of_items() -> str:
    """Return counts by status, and a row per item."""
    rows = items()
    counts = Counter(row["status"] for row in rows)
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
        for row in rows
    ]
    introduction = (
        f"The list contains {len(rows)} items. Each item has one of the following statuses:"
    )
    return f"{introduction}\n\n{summary}\n\n{markdown(cells)}"  # type: ignore[arg-type]


def filled(text: str) -> str:
    """Return the page with its tables as they are now."""
    text = TABLE.sub(
        lambda match: f"<!-- table {match[1]} -->\n{table(match[1])}\n<!-- end of table -->", text
    )
    text = FIGURE.sub(
        lambda match: f"<!-- figure {match[1]} -->\n{figure(match[1])}\n<!-- end of figure -->",
        text,
    )
    return LIST.sub(lambda _: f"<!-- items -->\n{list_of_items()}\n<!-- end of items -->", text)


def main() -> None:
    """Write the tables to the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
