"""Rows of the metrics tables: units, region sizes, overlap, undefined values, acquired maps."""

import numpy as np
import pytest
from data.short_names import measure_of

from bids_sr.engine.metric_rows import cell_number
from bids_sr.glm.activation_regions import parse_thresholds
from bids_sr.glm.map_summary import (
    activation_rows,
    correlate_in_mask,
    find_regions,
    upsampled_rows,
)
from bids_sr.io.volume import Volume

CONTRASTS = {"thumb": {"thumb": 1.0}, "little": {"little": 1.0}}
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
SHAPE = (8, 8, 4)


def blob(*centers):
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    return sum(np.exp(-((grid - np.array(c)) ** 2).sum(axis=-1) / 2) for c in centers).astype(
        np.float32
    )


@pytest.fixture
def maps():
    thumb, little = blob((2, 2, 1)), blob((5, 5, 1))
    out = {}
    for name, values in {"thumb": thumb, "little": little}.items():
        out |= {
            (name, "cc"): values,
            (name, "effect"): 40 * values,
            (name, "t"): 12 * values,
            (name, "z"): 9 * values,
        }
    return out


def values_of(rows, contrast):
    return {measure_of(r): cell_number(r.value) for r in rows if r.contrast == contrast}


def make_rows(maps):
    mask = np.ones(SHAPE, dtype=bool)
    regions = find_regions(maps, mask, mask, parse_thresholds(["quarter", "fdr", "3.0"]))
    return activation_rows(
        maps,
        regions,
        CONTRASTS,
        mask=mask,
        roi=mask,
        affine=AFFINE,
        series="srgan",
        fwhm_mm=5.0,
        per_acquired=4.0,
    )


def test_region_sizes_are_in_mm_and_in_acquired_voxels(maps):
    rows = make_rows(maps)
    values = values_of(rows, "thumb")
    voxels = int(
        (
            maps["thumb", "cc"]
            >= maps["thumb", "cc"].max() * 0.75 + maps["thumb", "cc"].min() * 0.25
        ).sum()
    )
    assert int(values["quarter_voxels"]) == voxels
    assert float(values["quarter_volume"]) == voxels * 12
    assert float(values["quarter_paper"]) == voxels / 4
    assert [values[f"peak_at_{axis}"] for axis in "xyz"] == ["4", "4", "3"]
    assert [float(values[f"peak_{stat}"]) for stat in ("t", "z", "effect")] == [12, 9, 40]
    assert int(values["z30_voxels"]) == int((maps["thumb", "z"] >= 3).sum())


def test_correlation_needs_variation():
    mask = np.ones(SHAPE, dtype=bool)
    assert correlate_in_mask(blob((1, 1, 1)), 3 * blob((1, 1, 1)) + 2, mask) == pytest.approx(1.0)
    assert np.isnan(correlate_in_mask(blob((1, 1, 1)), np.zeros(SHAPE, dtype=np.float32), mask))


def upsampled_values(maps, mask):
    """Return the values of acquired maps on a grid with half the voxel size in plane."""
    fine_affine = np.array([[1.0, 0, 0, -0.5], [0, 1.0, 0, -0.5], [0, 0, 3.0, 0], [0, 0, 0, 1]])
    fine = np.kron(mask, np.ones((2, 2, 1))).astype(bool)
    rows = upsampled_rows(
        maps,
        {"thumb": {"thumb": 1.0}},
        parse_thresholds(["quarter"]),
        acquired=Volume(data=mask, affine=AFFINE),
        highres=Volume(data=fine, affine=fine_affine),
        roi=fine,
        fwhm_mm=0.0,
        per_acquired=4.0,
    )
    assert {row.series for row in rows} == {"acquiredSpline"}
    return values_of(rows, "thumb")


def test_upsampled_maps_are_not_affected_by_values_outside_the_mask():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[1:5, 1:5, 1:3] = True
    inside = blob((2, 4, 1))
    first, second = (
        upsampled_values({("thumb", "cc"): np.where(mask, inside, outside)}, mask)
        for outside in (np.float32(0), np.float32(-9))
    )
    assert first == second
    assert int(first["quarter_voxels"]) > 4


def test_an_upsampled_map_stays_within_the_range_of_the_acquired_map():
    """Unbounded, a spline overshoots next to an edge: a correlation of .92 became 1.19."""
    step = np.full(SHAPE, -0.8, dtype=np.float32)
    step[3:5] = 0.92
    maps = {("thumb", stat): step for stat in ("cc", "effect")}
    values = upsampled_values(maps, np.ones(SHAPE, dtype=bool))
    assert float(values["peak_effect"]) == pytest.approx(0.92, abs=1e-6)
