"""Time and memory that the posterior adds to the program."""

from __future__ import annotations

import gzip
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from _monitored import Meter, NodeUsage, monitored
from _posterior_maps import OPTIONS, Stored, rounded
from _table import keep

from bids_sr.io.nifti import SeriesReader
from bids_sr.sr.prior_maps.add_detail import Detail

NEW_STEPS = ("measure_error", "check_intervals")
PAIRS = 3


def cost(arguments: Sequence[str]) -> None:
    """Tabulate the fraction of the program's time for draws, maps and the self-test at half the
    resolution.
    """
    out, rows = Path(arguments[0]), []
    for low in map(Path, arguments[1:]):
        place, table = out / low.name, out / f"{low.name}.tsv"
        if not table.exists():
            options = [str(low), str(place), "participant", *OPTIONS, "--truth", "none"]
            work = ["-w", str(out / f"work-{low.name}")]
            subprocess.run(monitored(table, [*options, *work]), check=True)
        steps = pd.read_csv(table, sep="\t")
        added = steps[steps["kind"].isin(NEW_STEPS)]
        without, drawn = _adding(Stored(place, low, ("all",)))
        total_s = float(steps["cpu_seconds"].sum())
        more = drawn.cpu_seconds - without.cpu_seconds
        by_step = added.groupby("kind")["cpu_seconds"].sum()
        rows.append(
            {"data": low.name, "steps, processor s": total_s, "draws": more}
            | {name: float(by_step.get(name, 0.0)) for name in NEW_STEPS}
            | {
                "share": (more + float(by_step.sum())) / (total_s - more - float(by_step.sum())),
                "largest step, GB": float(steps["grown_gb"].max()),
                "draws, GB more": drawn.grown_gb - without.grown_gb,
            }
            | {
                f"{name}, GB": float(added[added["kind"] == name]["grown_gb"].max())
                for name in NEW_STEPS
            }
        )
    keep(
        "posterior_cost",
        "Processor time and memory of what the posterior adds",
        [rounded(row) for row in rows],
        remarks=[
            f"Draws: adding detail to the series with draws less without, the least of {PAIRS}"
            " turns; share: of all else that the program does."
        ],
    )


def _adding(stored: Stored) -> tuple[NodeUsage, NodeUsage]:
    """Run the series without and with draws, alternately."""
    packed = stored.file("space-boldref_res-hr_desc-zerofill_bold.nii.gz")
    usages: list[list[NodeUsage]] = [[], []]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        zerofilled = scratch / "zerofill.nii"
        zerofilled.write_bytes(gzip.decompress(packed.read_bytes()))
        draws = scratch / "errors.nii", scratch / "acquired.nii"
        for _ in range(PAIRS):
            for usage_list, files in zip(usages, (None, draws), strict=True):
                meter = Meter()
                Detail(source=stored.prior).add(SeriesReader(zerofilled), scratch / "a.nii", files)
                usage_list.append(meter.read())
    shortest = [min(usage_list, key=lambda usage: usage.cpu_seconds) for usage_list in usages]
    return shortest[0], shortest[1]
