"""How known connectivity is recovered from a simulated run at rest, by every series.

python benchmarks/rest.py NAME OUT [--data DATA] [--fwhm 0]

With --data the program is run first, on a data set of `bids-sr-phantom DATA --task rest` and its
truth, with `sbl` and `wmn`; else OUT holds a finished run. Each figure is of the brain. Explained
variance and r beyond Nyquist are of effects of unsmoothed series; average precision, Dice, and
what a seed correlation of .5 or more sorts as the truth does are of the maps at the smoothing
asked for. The data of `tiny-rest150` are those of `bids-sr-phantom DATA --preset tiny --task rest
--seed 1 --volumes 150`.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from _labels import label
from _table import keep

from bids_sr.metrics.long_tables import MetricRow, read_table

COLUMNS = {
    "truth_ev_beyond": "explained variance beyond Nyquist",
    "truth_r_beyond": "r beyond Nyquist",
    "truth_r_effect": "r of effect",
    "truth_ap": "average precision",
    "truth_dice": "Dice",
    "truth_connected_acc": "Acc",
    "truth_connected_fdr": "FDR",
    "truth_connected_jaccard": "Jaccard",
}
UNSMOOTHED = ("truth_ev_beyond", "truth_r_beyond")


def figure(row: MetricRow | None) -> str:
    """A figure with its interval, where it has one."""
    if row is None or row.value != row.value:
        return "n/a"
    ends = "" if row.lower != row.lower else f" [{row.lower:.3f}, {row.upper:.3f}]"
    return f"{row.value:.3f}{ends}"


def lines(rows: list[MetricRow], fwhm_mm: float) -> list[dict[str, Any]]:
    """A line a seed and series."""
    own = [
        r for r in rows if r.reference == "truth" and r.region == "brain" and label(r) in COLUMNS
    ]
    found = {(r.contrast, r.series, label(r), r.fwhm_mm): r for r in own}
    return [
        {"seed": contrast, "series": series}
        | {
            text: figure(
                found.get((contrast, series, measure, 0.0 if measure in UNSMOOTHED else fwhm_mm))
            )
            for measure, text in COLUMNS.items()
        }
        for contrast, series in dict.fromkeys(key[:2] for key in found)
    ]


def run(data: Path, out: Path) -> None:
    """The program on the phantom, with its truth."""
    command = [
        "bids-sr",
        str(data),
        str(out),
        "participant",
        "--truth",
        str(data / "derivatives" / "ground-truth"),
        "--sr-method",
        "sbl",
        "--nprocs",
        "1",
        "-w",
        str(out.with_name(f"{out.name}-work")),
    ]
    subprocess.run(command, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name")
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--fwhm", type=float, default=0.0)
    given = parser.parse_args()
    if given.data:
        run(given.data, given.out)
    table = next(given.out.glob("sub-*/**/func/*_desc-evaluation_metrics.tsv"))
    rows = read_table(table)
    found = lines(rows, given.fwhm)
    if not found:
        sys.exit(f"{table} has no row against a known truth; was the program run with --truth?")
    idle = [row.series for row in rows if row.statistic == "verdict_applied" and row.value == 0]
    remarks = [f"Not applied, and zero filled: {', '.join(idle)}."] if idle else []
    smoothing = f"smoothing {given.fwhm:g} mm" if given.fwhm else "no smoothing"
    name = f"rest_{given.name}" + (f"_fwhm{given.fwhm:g}" if given.fwhm else "")
    title = f"Known connectivity of {given.name}, recovered by each series ({smoothing})"
    keep(name, title, found, remarks=remarks)
    return 0


if __name__ == "__main__":
    sys.exit(main())
