"""Numbers and tables of `docs/papers/index.md`, and the page of items.

Call: ``python docs/papers_page.py``.

A number is between ``<!--=FILE / CELL / COLUMN-->`` and ``<!--/-->``. FILE is a table in
`benchmarks/results`, CELL (one or several) selects rows with this cell (in any column, or in
``COLUMN=CELL``), and COLUMN is the column of the number. If several rows are selected, the text is
their range.
A verdict on a claim is between ``<!--?NAME-->`` and ``<!--/-->``; NAME is a key of `VERDICTS`.
A table is between ``<!-- table NAME -->`` and ``<!-- end of table -->``; NAME is a key of
`TABLES`.
`docs/papers/items.md` is written from `docs/papers/items.tsv`, whose notes may contain numbers.
"""

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

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
VERDICT = re.compile(r"<!--\?(\w+)-->.*?<!--/-->")
PARAMETERS = {"attunet": 16.0, "unet": 31.0, "vit": 32.8}
"""Parameters (millions) of the networks of Li et al. in recipe `paper`."""
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


class Part(NamedTuple):
    """Part of a claim: a difference that is positive if it has the stated direction.

    `spread` is the SD across the test data, NaN if unknown, and `p` the p value of a test, None
    without a test.
    """

    difference: float
    spread: float = math.nan
    p: float | None = None

    @property
    def is_seen(self) -> bool:
        """Whether the difference is significant or, without a test, larger than the SD."""
        is_clear = self.difference > self.spread if self.p is None else self.p < 0.05
        return self.difference > 0 and is_clear


def judge(parts: Iterable[Part]) -> str:
    """Return the verdict on a claim from the parts that the data can show."""
    parts = list(parts)
    if not parts:
        return "not tested"
    if all(part.is_seen for part in parts):
        return "yes, short training"
    is_any = any(part.difference > 0 for part in parts)
    return "in part, short training" if is_any else "no, short training"


def measured(row: Row, column: str) -> Part:
    """Return the number of a cell with its SD and p value."""
    text = str(row[column])
    mean, _, spread = text.partition(" ± ")
    p = re.search(r"p [=<] (\S+)", text)
    number_text = mean.partition(",")[0]
    return Part(float(number_text), float(spread or "nan"), float(p[1]) if p else None)


def reductions(measure: str, smoothing: str) -> Iterator[Part]:
    """Yield the reductions by `srgan` of measures that the true detail reduces significantly."""
    for row in rows("papers_srgan"):
        if row["measure"].startswith(measure) and row["smoothing"].startswith(smoothing):
            acquired, truth, reduced = (
                measured(row, column) for column in ("acquired", "truth", "srgan")
            )
            if Part(acquired.difference - truth.difference, p=truth.p).is_seen:
                yield Part(acquired.difference - reduced.difference, p=reduced.p)


def differences(name: str, better: str, worse: str, *columns: str) -> Iterator[Part]:
    """Yield the differences in some columns between the rows of a table with two cells.

    A minus before a column states that lower values are better. A cell is in any column, and `/`
    separates several cells of a row.
    """
    high, low = (
        next(row for row in rows(name) if {*cells.split("/")} <= {*map(str, row.values())})
        for cells in (better, worse)
    )
    for column in columns:
        sign = -1 if column.startswith("-") else 1
        ends = [measured(row, column.removeprefix("-")) for row in (high, low)]
        spread = max((end.spread for end in ends if end.spread >= 0), default=math.nan)
        yield Part(sign * (ends[0].difference - ends[1].difference), spread)


def of_relative_size(better: str, worse: str) -> Iterator[Part]:
    """Yield the difference in PSNR of two networks if their relative size is as published.

    The ratio of their parameters may differ by a factor of up to 2.
    """
    sizes = {row["method"]: row["parameters"] for row in rows("papers_attunet_1")}
    millions = [float(str(sizes[name]).replace(",", "")) / 1e6 for name in (better, worse)]
    published = PARAMETERS[better] / PARAMETERS[worse]
    if 0.5 < millions[0] / millions[1] / published < 2:
        yield from differences("papers_attunet_1", better, worse, "PSNR (dB)")


def of_factors(table: str, better: str, worse: str) -> Iterator[Part]:
    """Yield the difference in PSNR of two methods at each factor."""
    for factor in ("×1.25", "×1.5", "×1.75", "×2"):
        yield from differences(table, f"{factor}/{better}", f"{factor}/{worse}", "PSNR")


MOUSE = "RMSE reduction relative to cubic (%)"
FUSED = "three contrasts, whole slices, 16 filters"
VERDICTS: dict[str, Callable[[], Iterable[Part]]] = {
    "ota_sizes": lambda: reductions("size", "before"),
    "ota_overlap": lambda: reductions("Dice", "none"),
    "ota_smoothed_overlap": lambda: reductions("Dice", "before"),
    "tv_interpolation": lambda: [
        measured(row, "PSNR − cubic spline")
        for row in rows("papers_tv_1")
        if row["method"] == "tv"
    ],
    "tv_dip": lambda: of_factors("papers_tv_2", "tv", "dip"),
    "cpce": lambda: differences(
        "papers_cpce", "cpce", "zero filling", "SSIM", "PSNR − zero filling (dB)"
    ),
    "resnet": lambda: differences("papers_mouse_methods", "resnet3d", "ccnn3d", MOUSE, "SSIM"),
    "resolution": lambda: differences(
        "papers_mouse_transfer", "FLAIR/T1w network", "FLAIR/cubic", "-effective resolution (mm)"
    ),
    "attunet_vit": lambda: of_relative_size("attunet", "vit"),
    "attunet_unet": lambda: of_relative_size("attunet", "unet"),
    "fused": lambda: differences(
        "papers_attunet_settings",
        FUSED,
        "one network per contrast",
        "PSNR − B-spline (dB)",
        "SSIM",
        "-MAE",
    ),
    "affine": lambda: [
        part
        for better, worse in (("affine", "rigid"), ("affine", "nonlinear"), ("rigid", "nonlinear"))
        for part in differences(
            "papers_attunet_alignment", f"{better}/attunet", f"{worse}/attunet", "PSNR (dB)"
        )
    ],
}
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
    "training": lambda: [
        row
        for row in chosen(
            "srgan_training",
            {
                "steps": "steps",
                "PSNR, held-out slices (dB)": "PSNR, held-out slices (dB)",
                "detail explained, active voxels": "detail explained, active voxels",
                "detail explained, brain": "in the brain",
            },
        )
        if row["in the brain"] != "–"
    ],
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
    text = VERDICT.sub(
        lambda match: f"<!--?{match[1]}-->{judge(VERDICTS[match[1]]())}<!--/-->", text
    )
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
