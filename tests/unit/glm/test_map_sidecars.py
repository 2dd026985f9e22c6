"""Sidecars of maps on the reconstruction error, and the measured numbers in its texts."""

import json
import re
from pathlib import Path

import pytest

from bids_sr.glm.map_sidecars import NO_ERROR, common_sidecar
from bids_sr.steps.figures.overview import FINER_EFFECTS

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"


def rows_of(name):
    return json.loads((RESULTS / f"{name}.json").read_text())["rows"]


@pytest.mark.parametrize(
    ("series", "said"),
    [
        ("sbl", "The stat-sd map contains the standard deviation"),
        ("bspline", f"Maps of bspline {NO_ERROR}"),
        ("srgan", f"Maps of srgan {NO_ERROR}"),
        ("raw", None),
        ("measured", None),
    ],
)
def test_a_map_says_whether_it_carries_the_error_of_its_reconstruction(series, said):
    about = common_sidecar(series=series, fwhm_mm=0, zooms=(3, 3, 3)).get("ErrorOfReconstruction")
    assert about is None if said is None else str(about).startswith(said)


def test_numbers_in_texts_are_the_measured_ones():
    wrong = [
        100 * row["bspline"]
        for row in rows_of("posterior_regions")
        if (row["sbl"], row["contrast"], row["region"]) == ("blind", "all", "fdr")
    ]
    low, high = map(int, re.search(r"(\d+) to (\d+) %", NO_ERROR).groups())
    assert (low, high) == (round(min(wrong)), round(max(wrong)))
    assert f"{len(wrong)} runs" in NO_ERROR
    ratios = [
        row["rms error / SD"]
        for row in rows_of("posterior_foreign")
        if row["effect"].startswith("texture of 3 mm")
    ]
    found = re.search(r"([\d.]+) to ([\d.]+) times", FINER_EFFECTS).groups()
    assert found == (f"{min(ratios):.1f}", f"{max(ratios):.1f}")
