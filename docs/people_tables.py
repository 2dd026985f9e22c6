"""Table and figure of the people that were measured: ``python docs/people_tables.py``.

The table is on the first page between ``<!-- people, by docs/people_tables.py -->`` and ``<!-- end
of people -->``. The values are those of `benchmarks/people.py runs`, `baselines`, `noisy` and
`contrasts`, and the stored table `double_dipping` (`benchmarks/results/*.json`);
`docs/figures/people.svg` has a dot for each run.
"""

import json
import math
import re
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FIGURE = ROOT / "docs" / "figures" / "people.svg"
PAGE = ROOT / "docs" / "index.md"
START, END = "<!-- people, by docs/people_tables.py -->", "<!-- end of people -->"
SERIES = {
    "zero filling": "zero filling",
    "`sbl`, blind": "`sbl`",
    "`sbl`, calibrated": "`sbl` with 20 high-resolution volumes for calibration",
    "measured": "measured (other half of the run)",
}
"""Series of the benchmark and their names on the pages."""
HEAD = "detail explained in voxels active in the acquired run"
COLORS = {"studyforrest": "#0072b2", "pydecnef": "#d55e00", "opennft": "#009e73"}
LEFT, WIDE, HIGH = 330, 380, 34
"""Of the figure: where the axis begins, its length, and the height of a row (pixels)."""


def _rows(name: str) -> list[dict[str, Any]]:
    """Rows of a table of results."""
    rows: list[dict[str, Any]] = json.loads(
        (RESULTS / f"{name}.json").read_text(encoding="utf-8")
    )["rows"]
    return rows


def means() -> dict[str, tuple[int, int, int]]:
    """Series to percent of the detail explained in voxels active in the acquired run: mean over
    people, lowest and highest person.
    """
    found = {}
    for row in _rows("people_runs_mean"):
        active = row["explained variance"].split(" / ")[1]
        average, low, high = (
            round(100 * float(number)) for number in re.findall(r"-?\d+\.\d+", active)
        )
        found[SERIES[row["series"]]] = (average, low, high)
    return found


def runs() -> list[tuple[str, str, float]]:
    """(data set, series, percent of the detail explained in the same voxels) of every run."""
    return [
        (
            row["run"].split(",")[0],
            SERIES[row["series"]],
            100 * float(row["explained variance, active"].split()[0]),
        )
        for row in _rows("people_runs")
    ]


def _percent(row: dict[str, Any], column: str) -> float:
    """Percent of a figure with its interval; NaN where there is none."""
    text = str(row[column]).split()[0]
    return math.nan if text == "n/a" else 100 * float(text)


def _of_people(found: list[tuple[str, float]]) -> tuple[int, int, int]:
    """Mean over data sets, lowest and highest, of (run, percent)."""
    sets = dict.fromkeys(run.split(",")[0] for run, _ in found)
    each = [mean(value for run, value in found if run.startswith(name)) for name in sets]
    return round(mean(each)), round(min(each)), round(max(each))


def strongest_baseline() -> tuple[str, tuple[int, int, int]]:
    """Name of the baseline that explains most in active voxels, and its percent as in `means`."""
    found: dict[str, list[tuple[str, float]]] = {}
    for row in _rows("people_baselines"):
        if row["series"] != "`sbl`":
            found.setdefault(row["series"], []).append((row["run"], _percent(row, "active")))
    scores = {series: _of_people(values) for series, values in found.items()}
    return max(scores.items(), key=lambda item: item[1])


def beside() -> dict[str, tuple[int, int, int]]:
    """As `means`: `sbl` with thermal noise restored, and for contrasts of conditions."""
    noisy = [
        (row["run"], _percent(row, "explained variance, active, noise restored"))
        for row in _rows("people_noisy")
    ]
    contrasts = [
        (row["run"], _percent(row, "active"))
        for row in _rows("people_contrasts")
        if row["of conditions"] == "yes"
    ]
    return {
        "`sbl`, with thermal noise restored to the cropped data": _of_people(noisy),
        f"`sbl`, {len(contrasts)} contrasts between conditions (2 participants)": _of_people(
            contrasts
        ),
    }


def table() -> str:
    """The table of the pages."""
    rows = list(means().items())
    baseline, percent = strongest_baseline()
    rows.insert(1, (f"{baseline}, the strongest baseline", percent))
    lines = [
        f"| {series} | {average} % ({low}–{high}) |"
        for series, (average, low, high) in [*rows[:3], *beside().items(), *rows[3:]]
    ]
    return "\n".join(
        [f"| series | {HEAD}, mean (range across participants) |", "|---|---|", *lines]
    )


def whole_brain() -> tuple[list[float], list[float]]:
    """Percent of the detail explained in the whole brain, if the measured data reproduce it: of
    the runs, and of their contrasts between conditions.
    """
    runs_of_sbl = [
        _percent(row, "explained variance, brain")
        for row in _rows("people_runs")
        if row["series"] == "`sbl`, blind"
    ]
    contrasts = [
        _percent(row, "brain")
        for row in _rows("people_contrasts")
        if row["of conditions"] == "yes"
    ]
    known, weak = (
        [value for value in each if value == value] for each in (runs_of_sbl, contrasts)
    )
    return known, weak


def with_table(text: str) -> str:
    """Return the text of the page with its table as it is now."""
    shown = f"{START}\n{table()}\n{END}"
    return re.sub(f"{START}\n.*?{END}", lambda _: shown, text, flags=re.DOTALL)


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
    title = f"{HEAD.capitalize()}. Dots are runs, and bars are means across participants."
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
    """Write the figure and the table."""
    FIGURE.write_text(figure(), encoding="utf-8")
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
