"""Sidecars of maps: the reconstruction error, and measured numbers in their texts."""

import json
import re
from pathlib import Path

import pytest

from bids_sr.glm.map_sidecars import NO_ERROR, common_sidecar
from bids_sr.report.figure_steps.overview import FINER_EFFECTS

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"


def rows_of(name):
    return json.loads((RESULTS / f"{name}.json").read_text())["rows"]


@pytest.mark.parametrize(
    ("series", "description"),
    [
        ("sbl", "Statistics without Total in their names"),
        ("bspline", f"Maps of bspline {NO_ERROR}"),
        ("srgan", f"Maps of srgan {NO_ERROR}"),
        ("acquired", None),
        ("measured", None),
    ],
)
def test_the_sidecar_states_whether_the_map_includes_the_reconstruction_error(series, description):
    entry = common_sidecar(series=series, fwhm_mm=0, zooms=(3, 3, 3)).get("ErrorOfReconstruction")
    assert entry is None if description is None else str(entry).startswith(description)


def test_numbers_in_texts_equal_benchmark_results():
    percentages = [
        100 * row["bspline"]
        for row in rows_of("posterior_regions")
        if (row["sbl"], row["contrast"], row["region"]) == ("blind", "all", "fdr")
    ]
    low, high = map(int, re.search(r"(\d+) to (\d+) %", NO_ERROR).groups())
    assert (low, high) == (round(min(percentages)), round(max(percentages)))
    assert f"{len(percentages)} runs" in NO_ERROR
    ratios = [
        row["rms error / SD"]
        for row in rows_of("posterior_foreign")
        if row["effect"].startswith("texture of 3 mm")
    ]
    ratio_range = re.search(r"([\d.]+) to ([\d.]+) times", FINER_EFFECTS).groups()
    assert ratio_range == (f"{min(ratios):.1f}", f"{max(ratios):.1f}")
