"""Tested and measured explained variance of detail: each contrast of measured runs, and worlds.

python benchmarks/tested_detail.py OUT [WORLDS SEED ...]

OUT contains the results of `people.py effects DATA OUT` (or `people.py contrasts DATA OUT`) and
`people.py smoothed DATA OUT`, and WORLDS the draws of `drawn_worlds.py`. The rule and the formulas
of this version are applied to stored effects. The table has a row per run, contrast and region,
and a row per run with counts; the figure (docs/figures/tested_detail.svg) shows active voxels of
unsmoothed runs.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from _people_data import SMOOTHED, TESTED, TYPES, Tested
from _people_effects import PLACE, StoredEffects
from _people_runs import Kept
from _table import HERE, keep
from matplotlib.figure import Figure
from tested_worlds import classify_draw

from bids_sr.engine.metric_rows import MISSING, MetricRow
from bids_sr.evaluation.detail_support import MIN_ACTIVE_VOXELS, classify_detail
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.report.figures.svg_files import svg_text

FIGURE = HERE.parent / "docs" / "figures" / "tested_detail.svg"
COLORS = {"A": "#0072b2", "B": "#d55e00", "C": "#009e73"}
REGIONS = {"active": ACQUIRED_ACTIVE, "brain": "brain"}
Row = dict[str, Any]


def text(row: MetricRow | None) -> str:
    """Return a value with its interval."""
    if row is None or math.isnan(row.value):
        return "n/a"
    interval = f" [{row.lower:.2f}, {row.upper:.2f}]" if row.has_interval else ""
    return f"{row.value:.2f}{interval}"


def tabulate(out: Path) -> list[Row]:
    """Return one row per run, contrast and region."""
    rows: list[Row] = []
    for tested in [
        *(TYPES.get(f"{name}-types", run) for name, run in TESTED.items()),
        *SMOOTHED.values(),
    ]:
        folder = out / tested.name
        effects, outputs = (
            StoredEffects(folder / PLACE),
            Kept(folder / "kept" / "blind"),
        )
        if effects.done:  # the rule and the formulas of this version
            rows += compare_with_measured(tested, [*effects.test(), *effects.measure()])
        elif outputs.done:
            rows += compare_with_measured(tested, outputs.rows)
    return rows


def compare_with_measured(tested: Tested, metric_rows: Sequence[MetricRow]) -> Iterator[Row]:
    """Yield one row per contrast and region of a run with the metrics `metric_rows`."""
    cells = {
        (row.reference, row.statistic, row.contrast, row.region): row
        for row in metric_rows
        if (row.series, row.minus, row.fwhm_mm) == ("sbl", MISSING, 0)
        and (row.band == "beyond" or row.statistic == "voxels")
    }
    for contrast, support in classify_detail(metric_rows, "sbl").items():
        for (label, region), result in zip(
            REGIONS.items(), (support.active, support.brain), strict=True
        ):
            measured = cells.get(("measured", "ev", contrast, region))
            voxels = cells.get(("oneLevelDown", "voxels", contrast, region))
            yield {
                "run": tested.title,
                "person": tested.person,
                "contrast": contrast,
                "map_contrast": support.map_contrast,
                "region": label,
                "voxels": int(voxels.value) if voxels else 0,
                "measured": text(measured),
                "tested": text(result.row),
                "result": result.state,
                "measured_row": measured,
                "tested_row": result.row,
                "smoothed": tested.smoothed_mm > 0,
            }


def summarize(rows: list[Row], region: str) -> Row:
    """Return the counts that describe how well the test agrees with the measured accuracy."""
    pairs = [
        (row["tested_row"], row["measured_row"])
        for row in rows
        if row["region"] == region
        and row["result"] == "recovered"
        and row["measured_row"] is not None
        and math.isfinite(row["measured_row"].value)
    ]
    useful = [
        row
        for row in rows
        if row["region"] == region
        and row["voxels"] >= MIN_ACTIVE_VOXELS
        and row["measured_row"] is not None
        and row["measured_row"].lower > 0
    ]
    differences = [tested.value - measured.value for tested, measured in pairs]
    return {
        "region": region,
        "recovered and measured": len(pairs),
        "measured at or below 0": sum(measured.value <= 0 for _, measured in pairs),
        "covered": sum(
            tested.lower <= measured.value <= tested.upper for tested, measured in pairs
        ),
        "within .10": sum(abs(difference) <= 0.1 for difference in differences),
        "largest difference": round(max(map(abs, differences), default=math.nan), 3),
        "mean difference": round(sum(differences) / max(1, len(differences)), 3),
        "measured above 0 and recovered": (
            f"{sum(row['result'] == 'recovered' for row in useful)} of {len(useful)}"
        ),
    }


def draw(rows: list[Row], worlds: list[Row]) -> None:
    """Draw tested against measured values in active voxels."""
    figure = Figure(figsize=(4.5, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([-0.5, 1], [-0.5, 1], color="0.7", linewidth=1, zorder=0)
    for accepted, marker, label in ((False, "x", "rejected"), (True, "+", "recovered")):
        points = [
            (max(world["active, true"], -0.5), world["active, tested"])
            for world in worlds
            if (world["active, state"] == "recovered") is accepted
        ]
        if points:
            x, y = zip(*points, strict=True)
            axes.scatter(
                x,
                y,
                color="0.3" if accepted else "0.75",
                marker=marker,
                s=14,
                linewidth=0.7,
                label=f"worlds, {label}",
            )
    for person, color in COLORS.items():
        points = [
            (row["measured_row"].value, row["tested_row"].value)
            for row in rows
            if row["person"] == person
            and row["region"] == "active"
            and row["result"] == "recovered"
            and row["measured_row"] is not None
            and not row["smoothed"]
        ]
        if points:
            x, y = zip(*points, strict=True)
            axes.scatter(x, y, color=color, s=18, label=f"participant {person}")
    axes.set(
        xlim=(-0.55, 1),
        ylim=(-0.55, 1),
        xlabel="explained variance at the final resolution (values below −.5 at −.5)",
        ylabel="tested at half the resolution",
    )
    axes.legend(fontsize="x-small", loc="upper left")
    FIGURE.write_text(svg_text(figure))


def main() -> int:
    """Write the tables and the figure."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    rows = tabulate(Path(sys.argv[1]))
    worlds: list[Row] = []
    if len(sys.argv) > 2:
        folder, seeds = Path(sys.argv[2]), set(sys.argv[3:])
        worlds = [
            classify_draw(file)
            for file in sorted(folder.glob("*.npz"))
            if file.stem.split("_")[2] in seeds
        ]
    draw(rows, worlds)
    hidden = ("map_contrast", "measured_row", "tested_row", "smoothed")
    keep(
        "tested_detail",
        "Explained variance of the detail of `sbl`, tested at half the resolution and measured",
        [{name: cell for name, cell in row.items() if name not in hidden} for row in rows],
        remarks=[
            "95 % intervals: of measured values over blocks (none with fewer than two blocks per"
            " half), of tested values over parts of the brain and blocks, with 5 percentage points"
            " for the level."
        ],
    )
    keep(
        "tested_detail_counts",
        "Agreement of tested and measured explained variance",
        [
            {"runs": name}
            | summarize([row for row in rows if row["smoothed"] is smoothed], region)
            for name, smoothed in (("unsmoothed", False), ("smoothed before", True))
            for region in REGIONS
        ],
        remarks=[
            "Recovered and measured: recovered contrasts with a measured value. Covered: the"
            " interval of the tested value contains the measured value. Measured above 0: the"
            f" measured interval is above 0, and at least {MIN_ACTIVE_VOXELS} voxels were tested."
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
