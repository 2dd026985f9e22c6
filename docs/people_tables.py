"""Table and figure of the people that were measured: ``python docs/people_tables.py``.

A page has room for the table between ``<!-- people, by docs/people_tables.py -->`` and ``<!-- end
of people -->``. The values are those of `benchmarks/people.py runs`
(`benchmarks/results/people_runs*.json`); `docs/figures/people.svg` has a dot for each run.
"""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FIGURE = ROOT / "docs" / "figures" / "people.svg"
PAGES = ("README.md", "docs/index.md")
START, END = "<!-- people, by docs/people_tables.py -->", "<!-- end of people -->"
SERIES = {
    "zero filling": "zero filling",
    "`sbl`, blind": "`sbl`",
    "`sbl`, calibrated": "`sbl` with 20 high-resolution volumes",
    "measured": "measured (other half of the run)",
}
"""Series of the benchmark, and what the pages call them."""
COLORS = {"studyforrest": "#0072b2", "pydecnef": "#d55e00", "opennft": "#009e73"}
LEFT, WIDE, HIGH = 258, 380, 34
"""Of the figure: where the axis begins, its length, and the height of a row (pixels)."""


def _rows(name: str) -> list[dict[str, Any]]:
    """Rows of a table of results."""
    rows: list[dict[str, Any]] = json.loads(
        (RESULTS / f"{name}.json").read_text(encoding="utf-8")
    )["rows"]
    return rows


def means() -> dict[str, tuple[int, int, int]]:
    """Series to percent of the detail explained on active voxels: mean over people, lowest and
    highest person.
    """
    found = {}
    for row in _rows("people_runs_mean"):
        active = row["explained variance"].split(" / ")[1]
        mean, low, high = (
            round(100 * float(number)) for number in re.findall(r"-?\d+\.\d+", active)
        )
        found[SERIES[row["series"]]] = (mean, low, high)
    return found


def runs() -> list[tuple[str, str, float]]:
    """(data set, series, percent of the detail explained on active voxels) of every run."""
    return [
        (
            row["run"].split(",")[0],
            SERIES[row["series"]],
            100 * float(row["explained variance, active"].split()[0]),
        )
        for row in _rows("people_runs")
    ]


def table() -> str:
    """The table of the pages."""
    lines = [
        f"| {series} | {mean} % ({low}–{high}) |" for series, (mean, low, high) in means().items()
    ]
    return "\n".join(
        [
            "| series | detail explained on active voxels, mean (range of people) |",
            "| --- | --- |",
            *lines,
        ]
    )


def with_tables(text: str) -> str:
    """The text of a page with its table as it is now."""
    return re.sub(
        f"{START}\n.*?{END}", lambda _: f"{START}\n{table()}\n{END}", text, flags=re.DOTALL
    )


def figure() -> str:
    """SVG with a dot for every run and a bar for the mean over people; readable on light and on
    dark pages.
    """
    names, summary = list(SERIES.values()), means()
    bottom = HIGH * len(names) + 12

    def place(percent: float) -> float:
        return round(LEFT + WIDE * percent / 100, 1)

    parts = [
        f'<text x="{place(tick)}" y="{bottom + 18}" text-anchor="middle">{tick}</text>'
        f'<line x1="{place(tick)}" x2="{place(tick)}" y1="6" y2="{bottom}" class="grid"/>'
        for tick in range(0, 101, 20)
    ]
    for number, name in enumerate(names):
        y = HIGH * number + 26
        parts.append(
            f'<text x="{LEFT - 14}" y="{y + 4}" text-anchor="end">{name.replace("`", "")}</text>'
        )
        middle = place(summary[name][0])
        parts.append(
            f'<line x1="{middle}" x2="{middle}" y1="{y - 11}" y2="{y + 11}" class="mean"/>'
        )
        parts.extend(
            f'<circle cx="{place(percent)}" cy="{y}" r="5" fill="{COLORS[data]}"><title>{data}:'
            f" {percent:.0f} %</title></circle>"
            for data, series, percent in runs()
            if series == name
        )
    parts.append(
        f'<text x="{place(50)}" y="{bottom + 38}" text-anchor="middle">detail explained (%)</text>'
    )
    for number, (data, color) in enumerate(COLORS.items()):
        x = LEFT + 130 * number
        parts.append(f'<circle cx="{x + 6}" cy="{bottom + 56}" r="5" fill="{color}"/>')
        parts.append(f'<text x="{x + 18}" y="{bottom + 60}">{data}</text>')
    style = (
        "text{font:13px sans-serif;fill:#24292f}.grid{stroke:#8c959f;stroke-opacity:.35}"
        ".mean{stroke:#24292f;stroke-width:2}circle{fill-opacity:.9}"
        "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.mean{stroke:#e6edf3}}"
    )
    title = "Detail explained on active voxels, one dot per run, a bar for the mean over people"
    size = (
        f'viewBox="0 0 {LEFT + WIDE + 24} {bottom + 70}" width="{LEFT + WIDE + 24}"'
        f' height="{bottom + 70}"'
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" role="img"'
        f" {size}>\n<title>{title}</title>\n<style>{style}</style>\n"
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def main() -> None:
    """Write the figure and all pages."""
    FIGURE.write_text(figure(), encoding="utf-8")
    for page in PAGES:
        path = ROOT / page
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
