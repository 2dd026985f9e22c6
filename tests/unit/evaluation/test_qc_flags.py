"""Every quality flag is raised by the problem in its name and not by other problems."""

import math

import numpy as np
import pytest
from data.short_names import measure_of

from bids_sr.evaluation.qc_flags import (
    _compute_ghost_share,
    _compute_slice_residuals,
    _find_outlying_slices,
    _flag_broad_activation,
    _flag_misplaced_region,
    _flag_undone_task,
    activation_flags,
    artifact_flag,
    distortion_flag,
)
from bids_sr.evaluation.run_evidence import gather_evidence
from bids_sr.metrics.rows import MetricRow

SHAPE = (20, 20, 8)
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
MASK = np.ones(SHAPE, dtype=bool)


@pytest.fixture
def roi():
    out = np.zeros(SHAPE, dtype=bool)
    out[3:7, 3:7, 3:5] = True
    return out


def cc_with(*peaks):
    out = np.full(SHAPE, 0.1)
    for index, value in peaks:
        out[index] = value
    return out


IN, NEAR, FAR = (4, 4, 3), (8, 4, 3), (17, 17, 6)


@pytest.mark.parametrize(
    ("peaks", "raised"),
    [
        ([(IN, 0.4), (FAR, 0.6)], True),
        ([(IN, 0.6), (FAR, 0.9)], False),
        # no region is active, which this flag does not report
        ([(IN, 0.3), (FAR, 0.4)], False),
        ([(IN, 0.5), (FAR, 0.6)], False),  # the paper requires "less than .5"
    ],
)
def test_task_not_done_is_raised_if_only_other_regions_are_active(roi, peaks, raised):
    flag = _flag_undone_task(cc_with(*peaks), roi, MASK, "thumb")
    assert flag.raised is raised
    row = flag.row()
    assert (row.series, row.contrast, measure_of(row), row.value) == (
        "acquired",
        "thumb",
        "flag_task_not_done",
        float(raised),
    )
    assert f"{cc_with(*peaks)[IN]:.2f}" in flag.text


def test_flags_of_other_regions_are_undefined_for_the_whole_brain():
    flag = _flag_undone_task(cc_with((FAR, 0.9)), MASK, MASK, "thumb")
    assert flag.raised is None
    assert math.isnan(flag.row().value)
    assert _flag_misplaced_region(cc_with((FAR, 0.9)), MASK, MASK, AFFINE, "thumb").raised is None


def test_broad_activation_is_raised_above_a_fraction_of_the_brain():
    cc = np.zeros(SHAPE)
    cc[:2] = 0.6  # a tenth of the brain
    assert _flag_broad_activation("thumb", MASK, cc=cc).raised is False
    cc[2, 0, 0] = 0.6
    assert _flag_broad_activation("thumb", MASK, cc=cc).raised is True
    assert _flag_broad_activation("thumb", MASK, fdr=cc > 0.5).raised is False
    assert _flag_broad_activation("thumb", MASK, fdr=np.ones(SHAPE, dtype=bool)).raised is True
    with pytest.raises(ValueError, match="neither"):
        _flag_broad_activation("thumb", MASK)


@pytest.mark.parametrize(
    ("peaks", "raised"),
    [
        ([(IN, 0.5), (NEAR, 0.8)], True),
        ([(IN, 0.75), (NEAR, 0.8)], False),  # only slightly higher
        ([(IN, 0.1), (NEAR, 0.45)], False),  # not active
        ([(IN, 0.5), (FAR, 0.9)], False),  # too far away to be the same area
    ],
)
def test_misplaced_is_raised_if_activity_next_to_the_region_is_higher(roi, peaks, raised):
    assert _flag_misplaced_region(cc_with(*peaks), roi, MASK, AFFINE, "thumb").raised is raised


def head():
    x, y, _ = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in (32, 32, 8)), indexing="ij")
    return (x / 12) ** 2 + (y / 7) ** 2 < 1


def pair(rng):
    inside = head()
    image = np.where(inside, 100 + 20 * rng.random(inside.shape), 0)
    noise = (0.5 * rng.standard_normal((2, *inside.shape))).astype(float)
    return 3 * image + 3 * noise[0], image + noise[1], inside


def test_residuals_of_a_pair_equal_its_noise():
    low, second, inside = pair(np.random.default_rng(0))
    residuals = _compute_slice_residuals(low, second, inside)
    # SD of the difference of two noises with SD .5, relative to a mean of 110
    np.testing.assert_allclose(residuals, np.sqrt(2) * 0.5 / 110, rtol=0.15)
    assert _find_outlying_slices(residuals) == []
    assert artifact_flag(low, second, inside, inside).raised is False


def test_an_outlying_slice_is_named():
    low, second, inside = pair(np.random.default_rng(1))
    low[::2, :, 5] *= 0.9
    flag = artifact_flag(low, second, inside, inside)
    assert flag.raised is True
    assert "slices 5 " in flag.text


def test_tiny_differences_are_not_artifacts():
    residuals = np.full(10, 0.001)
    residuals[4] = 0.02
    assert _find_outlying_slices(residuals) == []
    residuals[4] = 0.04
    assert _find_outlying_slices(residuals) == [4]


def test_few_or_empty_slices_are_not_assessed():
    assert _find_outlying_slices(np.array([0.1, 0.1, 9.0, np.nan])) == []
    low, second, inside = pair(np.random.default_rng(2))
    inside = inside.copy()
    inside[:, :, 0] = False
    residuals = _compute_slice_residuals(low, second, inside)
    assert np.isnan(residuals[0])
    assert _find_outlying_slices(np.where(np.arange(8) == 3, 1.0, residuals)) == [3]


def test_a_ghost_at_half_the_field_of_view_is_detected():
    image, inside = pair(np.random.default_rng(3))[1:]
    assert abs(_compute_ghost_share(image, inside)) < 0.01
    ghost = image + 0.2 * np.roll(image, 16, axis=1)
    # the mean of the head is 110 and the ghost is outside the head: about 20 %
    assert _compute_ghost_share(ghost, inside) == pytest.approx(0.2, abs=0.03)
    flag = artifact_flag(3 * ghost, ghost, inside, inside)
    assert flag.raised is True
    assert "ghost" in flag.text
    assert math.isnan(_compute_ghost_share(image, np.ones_like(inside)))


def test_distortion_is_raised_above_half_a_voxel():
    rows = [MetricRow(series="run", statistic="edge_mismatch", value=1.6)]
    assert distortion_flag(rows, 3.0).raised is True
    assert distortion_flag(rows, 3.4).raised is False
    assert distortion_flag([], 3.0) is None
    flagged = [*rows, MetricRow(series="run", statistic="flag_distortion", value=1.0)]
    assert distortion_flag(flagged, 3.4).raised is True
    unmeasured = [MetricRow(series="run", statistic="edge_mismatch", value=float("nan"))]
    assert distortion_flag(unmeasured, 3.0) is None


def test_conditions_have_three_flags_or_one_without_correlation_maps(roi):
    cc = cc_with((IN, 0.8))
    flags = activation_flags({"thumb": cc, "little": cc}, roi, MASK, AFFINE, {"thumb": MASK})
    assert len(flags) == 6
    assert not any(flag.raised for flag in flags)
    without_correlation = activation_flags({}, roi, MASK, AFFINE, {"thumb": MASK})
    assert [(flag.name, flag.raised) for flag in without_correlation] == [("broad", True)]


def level(
    series, value, half_width, region="brain", statistic="ev", band="beyond", reference="measured"
):
    place = {"contrast": "all", "region": region, "band": band, "reference": reference}
    return MetricRow(
        series=series,
        statistic=statistic,
        value=value,
        lower=value - half_width,
        upper=value + half_width,
        **place,
    )


def flag_harm(rows, methods):
    return gather_evidence(rows, methods=methods, baselines=()).flags


def test_added_detail_worse_than_none_is_flagged():
    rows = [
        level("srgan", -1.64, 0.3, "acquired40"),
        level("srgan", -0.1, 0.2),
        level("sbl", 0.5, 0.02, "acquired40"),
    ]
    rows += [level("ratio", -0.5, 0.1), level("focuss", -0.05, 0.1)]
    flags = {flag.series: flag for flag in flag_harm(rows, ["srgan", "sbl", "focuss", "tv"])}
    assert {name: flag.raised for name, flag in flags.items()} == {
        "srgan": True,
        "sbl": False,
        "focuss": False,
    }
    assert flags["srgan"].text.startswith("The detail added by srgan is wrong")
    assert "explained variance below −100 %" in flags["srgan"].text
    assert "contrast all" in flags["srgan"].text
    assert flags["srgan"].row().statistic == "flag_harm"
    assert "srgan maps" in flags["srgan"].remedy
    # without a reference, the self-test determines the flag
    self_test = [
        level("srgan", -0.2, 0.1, statistic="tested_share", band="n/a", reference="oneLevelDown")
    ]
    assert [(flag.series, flag.raised) for flag in flag_harm(self_test, ["srgan", "sbl"])] == [
        ("srgan", True)
    ]
