"""What the evaluation of a finished run says: scores, gains with intervals, placebos, verdict.

python benchmarks/judged.py NAME OUT [--contrast all]

Everything is read from the tables that the run left; nothing is computed here.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from _labels import label
from _table import keep

from bids_sr.metrics.long_tables import MetricRow, read_table

BANDS = ("signal", "beyond")
REGIONS = ("brain", "active40", "active")
SCORES = ("split_ev", "split_r", "split_amplitude", "split_right", "truth_ev", "truth_r")


def interval(row: MetricRow | None) -> str:
    """A figure with its interval."""
    if row is None:
        return ""
    ends = "" if row.lower != row.lower else f" [{row.lower:.3f}, {row.upper:.3f}]"
    return f"{row.value:.3f}{ends}"


def scores(rows: list[MetricRow], contrast: str, prefix: str) -> list[dict[str, Any]]:
    """A line a series: one figure in each band and region."""
    bands = ("effect", "beyond") if prefix.startswith("truth_") else BANDS
    own = [
        r
        for r in rows
        if r.contrast == contrast and r.fwhm_mm == 0 and label(r).startswith(f"{prefix}_")
    ]
    if prefix.startswith("truth_"):
        own = [r for r in own if r.reference == "truth"]
    found = {(r.series, r.region, label(r).removeprefix(f"{prefix}_")): r for r in own}
    regions = [region for region in REGIONS if any(key[1] == region for key in found)]
    return [
        {
            "series": series,
            **{
                f"{band}, {region}": interval(found.get((series, region, band)))
                for band in bands
                for region in regions
            },
        }
        for series in dict.fromkeys(key[0] for key in found)
    ]


def gains(rows: list[MetricRow], contrast: str, prefix: str) -> list[dict[str, Any]]:
    """A line a method and what it is held against: difference beyond Nyquist."""
    own = [
        r
        for r in rows
        if r.contrast == contrast and label(r) == f"gain_{prefix}_beyond" and r.region in REGIONS
    ]
    found = {(r.series, r.minus, r.region): r for r in own}
    regions = [region for region in REGIONS if any(key[2] == region for key in found)]
    return [
        {
            "method": series,
            "less": other,
            **{region: interval(found.get((series, other, region))) for region in regions},
        }
        for series, other in dict.fromkeys(key[:2] for key in found)
    ]


def others(rows: list[MetricRow]) -> list[dict[str, Any]]:
    """Images, guards and flags."""
    wanted = ("truth_psnr", "truth_ssim", "gain_truth_psnr", "pair_gain_psnr", "edge_mismatch")
    return [
        {
            "measure": label(r),
            "series": r.series,
            "minus": r.minus,
            "contrast": r.contrast,
            "value": f"{r.value:.5g}",
            "lower": f"{r.lower:.5g}",
            "upper": f"{r.upper:.5g}",
            "n": r.n,
        }
        for r in rows
        if label(r) in wanted or (r.statistic.startswith("flag_") and r.value == 1)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name")
    parser.add_argument("out", type=Path)
    parser.add_argument("--contrast", default="all")
    given = parser.parse_args()
    table = next(given.out.glob("sub-*/**/func/*_desc-evaluation_metrics.tsv"))
    rows = read_table(table)
    verdict = json.loads(
        Path(str(table).replace("-evaluation_metrics.tsv", "-verdict_metrics.json")).read_text()
    )
    for prefix in SCORES:
        found = scores(rows, given.contrast, prefix)
        if found:
            keep(
                f"judged_{given.name}_{prefix}",
                f"{given.name}, contrast {given.contrast}: {prefix}",
                found,
                remarks=[verdict["headline"], *verdict["limits"]],
            )
        if gained := gains(rows, given.contrast, prefix):
            keep(
                f"judged_{given.name}_{prefix}_gains",
                f"{given.name}: differences beyond Nyquist",
                gained,
            )
    if rest := others(rows):
        keep(f"judged_{given.name}_others", f"{given.name}: images, guards, flags", rest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
