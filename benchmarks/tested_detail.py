"""Tested and measured explained variance of detail: each contrast of measured runs, and worlds.

python benchmarks/tested_detail.py OUT [WORLDS]

OUT contains the results of `people.py contrasts DATA OUT`, and WORLDS those of
`tested_worlds.py DATA WORLDS`. The table has a row per run, contrast and region, and the figure
(docs/figures/tested_detail.svg) shows active voxels.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from _people_data import TESTED, TYPES
from _people_runs import Kept
from _table import HERE, keep
from matplotlib.figure import Figure

from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.figures.svg_files import svg_text
from bids_sr.metrics.rows import MISSING, MetricRow

FIGURE = HERE.parent / "docs" / "figures" / "tested_detail.svg"
COLORS = {"A": "#0072b2", "B": "#d55e00", "C": "#009e73"}
REGIONS = {"active": ACQUIRED_ACTIVE, "brain": "brain"}


def text(row: MetricRow) -> str:
    """Return a value with its interval."""
    interval = f" [{row.lower:.2f}, {row.upper:.2f}]" if row.has_interval else ""
    return f"{row.value:.2f}{interval}"


def tabulate(out: Path) -> list[dict[str, Any]]:
    """Return one row per run, contrast and region that have both values."""
    rows = []
    for tested in (TYPES.get(f"{name}-types", run) for name, run in TESTED.items()):
        outputs = Kept(out / tested.name / "kept" / "blind")
        if not outputs.done:
            continue
        cells = {
            (row.reference, row.statistic, row.contrast, row.region): row
            for row in outputs.rows
            if (row.series, row.minus, row.fwhm_mm) == ("sbl", MISSING, 0)
            and (row.band == "beyond" or row.statistic == "voxels")
        }
        for contrast in dict.fromkeys(row.contrast for row in cells.values()):
            for label, region in REGIONS.items():
                measured = cells.get(("measured", "ev", contrast, region))
                estimate = cells.get(("oneLevelDown", "ev", contrast, region))
                voxels = cells.get(("oneLevelDown", "voxels", contrast, region))
                if measured is None or estimate is None or voxels is None:
                    continue
                rows.append(
                    {
                        "run": tested.title,
                        "person": tested.person,
                        "contrast": contrast,
                        "region": label,
                        "voxels": int(voxels.value),
                        "measured": text(measured),
                        "tested": text(estimate),
                        "measured_value": round(measured.value, 3),
                        "tested_value": round(estimate.value, 3),
                    }
                )
    return rows


def draw(rows: list[dict[str, Any]], worlds: list[dict[str, Any]]) -> None:
    """Draw tested against measured values in active voxels."""
    figure = Figure(figsize=(4.5, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([-0.5, 1], [-0.5, 1], color="0.7", linewidth=1, zorder=0)
    for person, color in COLORS.items():
        points = [
            (r["measured_value"], r["tested_value"])
            for r in rows
            if r["person"] == person and r["region"] == "active" and r["voxels"] >= 50
        ]
        if points:
            axes.scatter(
                *zip(*points, strict=True), color=color, s=18, label=f"participant {person}"
            )
    for state, marker in (("tested", "+"), ("rejected", "x")):
        points = [
            (max(w["true, active"], -0.5), float(w["tested, active"].split()[0]))
            for w in worlds
            if (w["rule, active"] == "tested") is (state == "tested")
        ]
        if points:
            axes.scatter(
                *zip(*points, strict=True),
                color="0.3",
                marker=marker,
                s=28,
                label=f"worlds, {state}",
            )
    axes.set(
        xlim=(-0.55, 1),
        ylim=(-0.55, 1),
        xlabel="explained variance at the final resolution (values below −.5 at −.5)",
        ylabel="tested at half the resolution",
    )
    axes.legend(fontsize="x-small", loc="upper left")
    FIGURE.write_text(svg_text(figure))


def main() -> int:
    """Write the table and the figure."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    rows = tabulate(Path(sys.argv[1]))
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    worlds = (
        []
        if folder is None
        else [json.loads(f.read_text()) for f in sorted(folder.glob("*.json"))]
    )
    draw(rows, worlds)
    keep(
        "tested_detail",
        "Explained variance of the detail of `sbl`, tested at half the resolution and measured",
        [{k: v for k, v in row.items() if not k.endswith("_value")} for row in rows],
        remarks=[
            "95 % intervals: of measured values over blocks (none with fewer than two blocks per"
            " half), of tested values over slices with 5 percentage points for the level."
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
