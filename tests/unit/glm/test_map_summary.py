"""Rows of the metrics tables: units, region sizes, overlap, undefined values, acquired maps."""

import json

import numpy as np
import pytest
from data.short_names import measure_of

from bids_sr.glm import map_summary
from bids_sr.glm.activation_regions import parse_thresholds
from bids_sr.glm.map_summary import (
    _find_nearest_voxels,
    _upsample_maps,
    activation_rows,
    correlate_in_mask,
    find_regions,
    single_conditions,
    upsampled_rows,
)
from bids_sr.io.volume import Volume
from bids_sr.metrics.registry import statistic
from bids_sr.metrics.rows import (
    COLUMNS,
    cell_number,
    columns_json,
    metric_rows,
    read_table,
    table_text,
)

CONTRASTS = {
    "thumb": {"thumb": 1.0},
    "little": {"little": 1.0},
    "all": {"thumb": 0.5, "little": 0.5},
    "thumbMinusLittle": {"thumb": 1.0, "little": -1.0},
}
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


def make_rows(maps, contrasts, per_acquired=4.0):
    mask = np.ones(SHAPE, dtype=bool)
    regions = find_regions(maps, mask, mask, parse_thresholds(["quarter", "fdr", "3.0"]))
    return activation_rows(
        maps,
        regions,
        contrasts,
        mask=mask,
        roi=mask,
        affine=AFFINE,
        series="srgan",
        fwhm_mm=5.0,
        per_acquired=per_acquired,
    )


def test_single_conditions_are_positive_contrasts_of_a_single_type():
    assert single_conditions(CONTRASTS) == ["thumb", "little"]
    assert single_conditions({"off": {"thumb": -1.0}}) == []


def test_region_sizes_are_in_mm_and_in_acquired_voxels(maps):
    rows = make_rows(maps, {k: CONTRASTS[k] for k in ("thumb", "little")})
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


def test_pairs_of_conditions_have_overlap_and_distance(maps):
    rows = make_rows(maps, {k: CONTRASTS[k] for k in ("thumb", "little")})
    pair = values_of(rows, "thumb+little")
    assert float(pair["quarter_dice"]) == 0.0
    assert float(pair["peak_distance"]) == pytest.approx(np.hypot(6, 6), rel=1e-5)


def test_undefined_values_are_written_as_not_available(maps):
    for stat in ("cc", "t", "z", "effect"):
        maps["little", stat] = np.zeros(SHAPE, dtype=np.float32)
    rows = make_rows(maps, {k: CONTRASTS[k] for k in ("thumb", "little")})
    assert values_of(rows, "thumb+little")["quarter_dice"] == "n/a"
    assert values_of(rows, "thumb+little")["fdr_dice"] == "n/a"
    assert values_of(rows, "little")["fdr_centroid_x"] == "n/a"
    assert values_of(rows, "little")["fdr_threshold"] == "n/a"
    assert values_of(rows, "little")["fdr_voxels"] == "0"


def test_all_statistics_have_a_unit_and_a_description(maps, tmp_path):
    rows = make_rows(maps, {k: CONTRASTS[k] for k in ("thumb", "little")})
    path = tmp_path / "m.tsv"
    path.write_text(table_text(rows))
    assert table_text(read_table(path)) == path.read_text()
    described = json.loads(json.dumps(columns_json(r.statistic for r in rows)))
    assert tuple(described) == tuple(COLUMNS)
    assert set(described["statistic"]["Levels"]) == {r.statistic for r in rows}
    assert statistic("volume").unit == "mm^3"
    assert statistic("psnr").unit == "dB"
    with pytest.raises(KeyError, match="nonsense"):
        table_text(metric_rows("acquired", {"nonsense": 1.0}))
    with pytest.raises(KeyError):
        statistic("zzz_volume")


def test_tables_with_unexpected_columns_are_rejected(tmp_path):
    path = tmp_path / "m.tsv"
    path.write_text("a\tb\n1\t2\n")
    with pytest.raises(ValueError, match=r"m\.tsv"):
        read_table(path)


def test_correlation_needs_variation():
    mask = np.ones(SHAPE, dtype=bool)
    assert correlate_in_mask(blob((1, 1, 1)), 3 * blob((1, 1, 1)) + 2, mask) == pytest.approx(1.0)
    assert np.isnan(correlate_in_mask(blob((1, 1, 1)), np.zeros(SHAPE, dtype=np.float32), mask))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_the_nearest_voxel_is_in_the_mask_and_no_other_is_nearer(share):
    mask = np.random.default_rng(0).random((9, 7, 5)) < share
    nearest = _find_nearest_voxels(mask)
    places = np.argwhere(np.ones(mask.shape, bool))
    distances = np.linalg.norm(places[nearest.ravel()] - places, axis=1)
    if not mask.any():
        assert not distances.any()
        return
    assert mask.ravel()[nearest].all()
    gaps = np.linalg.norm(places[:, None] - np.argwhere(mask), axis=2)
    np.testing.assert_allclose(distances, gaps.min(axis=1))


def test_nearest_voxels_are_found_once_for_all_maps(monkeypatch):
    masks = []

    def counted(mask):
        masks.append(mask)
        return _find_nearest_voxels(mask)

    monkeypatch.setattr(map_summary, "_find_nearest_voxels", counted)
    source = Volume(data=blob((3, 3, 1)) > 0, affine=AFFINE)
    maps = {(name, "t"): blob((3, 3, 1)) for name in "abc"}
    assert set(_upsample_maps(maps, source, source)) == set(maps)
    assert len(masks) == 1


def test_upsampled_maps_are_not_affected_by_values_outside_the_mask():
    mask = np.zeros((6, 6, 4), dtype=bool)
    mask[1:5, 1:5, 1:3] = True
    values = np.where(mask, 7.0, 0.0).astype(np.float32)
    np.testing.assert_array_equal(np.take(values, _find_nearest_voxels(mask)), 7.0)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    fine_affine = np.array([[2.0, 0, 0, -1], [0, 2.0, 0, -1], [0, 0, 4.0, 0], [0, 0, 0, 1]])
    fine = np.kron(mask, np.ones((2, 2, 1))).astype(bool)
    source, target = Volume(data=mask, affine=affine), Volume(data=fine, affine=fine_affine)
    upsampled = _upsample_maps({("a", "t"): values}, source, target)["a", "t"]
    np.testing.assert_allclose(upsampled[fine], 7.0, rtol=1e-5)
    assert not upsampled[~fine].any()


def test_an_upsampled_map_stays_within_the_range_of_the_acquired_map():
    """Unbounded, a spline overshoots next to an edge: a correlation of .92 became 1.19."""
    step = np.full((8, 8, 4), -0.8, dtype=np.float32)
    step[3:5] = 0.92
    fine_affine = np.array([[1.0, 0, 0, -0.5], [0, 1.0, 0, -0.5], [0, 0, 3.0, 0], [0, 0, 0, 1]])
    source = Volume(data=np.ones(step.shape, dtype=bool), affine=np.diag([2.0, 2.0, 3.0, 1.0]))
    target = Volume(data=np.ones((16, 16, 4), dtype=bool), affine=fine_affine)
    upsampled = _upsample_maps({("a", "cc"): step}, source, target)["a", "cc"]
    assert (upsampled.min(), upsampled.max()) == (step.min(), step.max())


def test_acquired_maps_are_upsampled_to_the_high_resolution_grid(maps):
    mask = np.ones(SHAPE, dtype=bool)
    acquired = Volume(data=mask, affine=AFFINE)
    fine_affine = np.array([[1.0, 0, 0, -0.5], [0, 1.0, 0, -0.5], [0, 0, 3.0, 0], [0, 0, 0, 1]])
    fine = Volume(data=np.ones((16, 16, 4), dtype=bool), affine=fine_affine)
    rows = upsampled_rows(
        maps,
        {k: CONTRASTS[k] for k in ("thumb", "little")},
        parse_thresholds(["quarter"]),
        acquired=acquired,
        highres=fine,
        roi=fine.data,
        fwhm_mm=0.0,
        per_acquired=4.0,
    )
    values = {(r.series, r.contrast, measure_of(r)): cell_number(r.value) for r in rows}
    assert (
        float(values["acquiredSpline", "thumb", "quarter_paper"])
        == float(values["acquiredSpline", "thumb", "quarter_voxels"]) / 4
    )
    assert {series for series, *_ in values} == {"acquiredSpline"}
