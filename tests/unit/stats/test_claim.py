"""The paper's claim taken apart: a worked example whose parts are known, undefined overlap, widths, pairs."""

import math

import pytest

from bids_sr.metrics.long_tables import metric_rows, read_table, table_text
from bids_sr.stats.regions.attribution import (
    THRESHOLDS,
    attribution_pair,
    attribution_rows,
    attribution_widths,
    collect_regions,
    take_apart,
    widths_to_map,
)

PAIR = ("thumb", "little")
VOXEL, FACTOR = (3.75, 3.75, 4.0), (2.0, 2.0, 1.0)
FINE, COARSE = 6.6, 13.2  # 1.5 · 2.3548 · 1.875 and · 3.75 mm

# Series, width, prefix: sizes of the two conditions (mm³), overlap
WORKED = {
    ("raw", COARSE, "quarter"): (8000, 4000, 0.6),
    ("bspline", COARSE, "quarter"): (7200, 3600, 0.58),
    ("bspline", FINE, "quarter"): (4500, 2700, 0.50),
    ("sbl", FINE, "quarter"): (4000, 2480, 0.49),
    ("raw", COARSE, "z31"): (9000, 7000, 0.7),
    ("bspline", COARSE, "z31"): (9000, 7000, 0.7),
    ("bspline", FINE, "z31"): (8000, 6400, 0.69),
    ("sbl", FINE, "z31"): (8000, 6400, 0.69),
    ("raw", COARSE, "fdr"): (0, 0, None),
    ("bspline", COARSE, "fdr"): (100, 0, None),
    ("bspline", FINE, "fdr"): (100, 100, 0.0),
    ("sbl", FINE, "fdr"): (100, 300, 0.5),
}


def worked_rows():
    rows = []
    for (series, width, prefix), (first, second, overlap) in WORKED.items():
        rows += [
            *metric_rows(series, {f"{prefix}_roi_volume": first}, fwhm_mm=width, contrast="thumb"),
            *metric_rows(series, {f"{prefix}_roi_volume": second}, fwhm_mm=width, contrast="little"),
            *metric_rows(series, {f"{prefix}_dice": overlap}, fwhm_mm=width, contrast="thumb+little"),
        ]
    return rows


def figure(rows, series, measure, region, width=FINE):
    found = [r for r in rows if (r.series, r.measure, r.region, r.fwhm_mm) == (series, measure, region, width)]
    assert len(found) == 1
    return found[0].value


@pytest.fixture(scope="module")
def rows():
    return attribution_rows(worked_rows(), PAIR, voxel_mm=VOXEL, factor=FACTOR)


def test_widths_are_one_and_a_half_voxels_of_each_grid():
    assert attribution_widths(VOXEL, FACTOR) == (0.0, FINE, COARSE)
    assert attribution_widths((3.0, 3.0, 3.3), (1.5, 1.5, 1.0)) == (0.0, 7.1, 10.6)
    assert attribution_widths((2.0, 4.5, 9.0), (1.0, 1.0, 3.0)) == (0.0, 10.6, 10.6)


def test_pair_is_the_first_two_conditions_against_rest():
    contrasts = {
        "aMinusB": {"a": 1.0, "b": -1.0}, "a": {"a": 1.0}, "all": {"a": 0.5, "b": 0.5}, "b": {"b": 1.0}, "c": {"c": 1.0}
    }  # fmt: skip
    assert attribution_pair(contrasts) == ("a", "b")
    assert attribution_pair({"a": {"a": 1.0}, "all": {"a": 1.0, "b": 1.0}}) is None


def test_only_what_the_run_lacks_is_mapped():
    given = {"kinds": ("cc", "glm"), "thresholds": ("quarter", "fdr", "3.1")}
    assert widths_to_map((0.0, FINE, COARSE), smoothing=(0.0, 5.0, 13.2), **given) == (FINE,)
    # the run's maps have no fixed threshold, or no correlation: nothing of them serves
    lacking = {**given, "thresholds": ("quarter", "fdr")}
    assert widths_to_map((0.0, FINE, COARSE), smoothing=(0.0,), **lacking) == (0.0, FINE, COARSE)
    assert widths_to_map((0.0, FINE), smoothing=(0.0,), **{**given, "kinds": ("glm",)}) == (0.0, FINE)
    assert widths_to_map((0.0, FINE, FINE), smoothing=(), **given) == (0.0, FINE)
    assert THRESHOLDS == ("quarter", "fdr", "3.1")


def test_size_in_mm_and_in_the_papers_unit(rows):
    assert figure(rows, "raw", "claim_size", "quarter", COARSE) == 6000
    assert figure(rows, "raw", "claim_size_paper", "quarter", COARSE) == pytest.approx(6000 / 56.25)
    assert figure(rows, "sbl", "claim_size", "quarter") == 3240
    assert figure(rows, "sbl", "claim_dice", "quarter") == 0.49


def test_parts_multiply_and_add_up_to_the_whole(rows):
    # 6000 → 5400 → 3600 → 3240
    assert figure(rows, "sbl", "claim_part_grid_size", "quarter") == pytest.approx(0.9)
    assert figure(rows, "sbl", "claim_part_smoothing_size", "quarter") == pytest.approx(2 / 3)
    assert figure(rows, "sbl", "claim_part_method_size", "quarter") == pytest.approx(0.9)
    assert figure(rows, "sbl", "claim_total_size", "quarter") == pytest.approx(0.54)
    assert figure(rows, "sbl", "claim_part_grid_dice", "quarter") == pytest.approx(-0.02)
    assert figure(rows, "sbl", "claim_part_smoothing_dice", "quarter") == pytest.approx(-0.08)
    assert figure(rows, "sbl", "claim_part_method_dice", "quarter") == pytest.approx(-0.01)
    assert figure(rows, "sbl", "claim_total_dice", "quarter") == pytest.approx(-0.11)


def test_threshold_is_the_change_beside_a_fixed_one(rows):
    # under z 3.1 regions shrink to 7200 of 8000: .9 where the moving threshold gives .54
    assert figure(rows, "sbl", "claim_total_size", "fixed") == pytest.approx(0.9)
    assert figure(rows, "sbl", "claim_part_threshold_size", "quarter") == pytest.approx(0.6)
    assert figure(rows, "sbl", "claim_part_threshold_dice", "quarter") == pytest.approx(-0.10)
    assert not [r for r in rows if r.measure.startswith("claim_part_threshold") and r.region == "fixed"]


def test_bspline_owes_nothing_to_a_method(rows):
    assert figure(rows, "bspline", "claim_part_method_size", "quarter") == 1.0
    assert figure(rows, "bspline", "claim_total_size", "quarter") == pytest.approx(0.6)


def test_undefined_overlap_is_neither_0_nor_1_and_is_counted(rows):
    assert math.isnan(figure(rows, "raw", "claim_dice", "fdr", COARSE))
    assert figure(rows, "bspline", "claim_dice", "fdr") == 0.0
    count = next(r for r in rows if r.measure == "claim_undefined" and r.region == "fdr")
    assert (count.series, count.value, count.n) == ("run", 2, 4)
    assert math.isnan(figure(rows, "sbl", "claim_total_dice", "fdr"))
    assert math.isnan(figure(rows, "sbl", "claim_total_size", "fdr"))
    assert figure(rows, "sbl", "claim_part_method_size", "fdr") == 2.0
    assert figure(rows, "sbl", "claim_part_method_dice", "fdr") == 0.5


def test_a_missing_step_is_not_made_up():
    regions = collect_regions([r for r in worked_rows() if r.series != "raw"], PAIR, (0.0, FINE, COARSE))
    parts = take_apart(regions, "sbl", "quarter", own_mm=FINE, raw_mm=COARSE, metric="size")
    assert math.isnan(parts["total"])
    assert math.isnan(parts["part_grid"])
    assert parts["part_smoothing"] == pytest.approx(2 / 3)


def test_other_widths_and_repeats_do_not_enter():
    stray = [r for c in PAIR for r in metric_rows("raw", {"quarter_roi_volume": 1.0}, fwhm_mm=5.0, contrast=c)]
    again = [r for c in PAIR for r in metric_rows("raw", {"quarter_roi_volume": 1.0}, fwhm_mm=COARSE, contrast=c)]
    regions = collect_regions([*worked_rows(), *stray, *again], PAIR, (0.0, FINE, COARSE))
    assert regions["raw", "quarter", COARSE].size == 6000
    assert {key[2] for key in regions} == {FINE, COARSE}


def test_rows_survive_the_table(rows, tmp_path):
    path = tmp_path / "claim.tsv"
    path.write_text(table_text(rows))
    again = read_table(path)
    assert [(r.series, r.measure, r.region) for r in again] == [(r.series, r.measure, r.region) for r in rows]
    assert {r.unit for r in again if r.measure == "claim_size"} == {"mm^3"}
