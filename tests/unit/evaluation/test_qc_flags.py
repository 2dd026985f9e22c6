"""Every quality flag is raised by the problem in its name and not by other problems."""

import math

import numpy as np
import pytest
from data.rows import make_detail_row, make_tested_rows

from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.qc_flags import (
    artifact_flag,
    broad_flags,
    clipped_flag,
    distortion_flag,
    placement_flags,
)
from bids_sr.evaluation.run_evidence import gather_evidence

SHAPE = (20, 20, 8)
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
MASK, ROI = np.ones(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=bool)
ROI[3:7, 3:7, 3:5] = True
IN, NEAR, FAR = (4, 4, 3), (8, 4, 3), (17, 17, 6)


def cc_with(*peaks):
    out = np.full(SHAPE, 0.1)
    for index, value in peaks:
        out[index] = value
    return out


def flags_of(cc, roi=ROI):
    flags = [
        *placement_flags({"thumb": cc}, roi, MASK, AFFINE),
        *broad_flags({"thumb": cc}, MASK, {}),
    ]
    return {flag.name: flag for flag in flags}


@pytest.mark.parametrize(
    ("peaks", "undone", "misplaced"),
    [
        ([(IN, 0.4), (FAR, 0.6)], True, False),
        ([(IN, 0.6), (FAR, 0.9)], False, False),
        # no region is active, which these flags do not report
        ([(IN, 0.3), (FAR, 0.4)], False, False),
        ([(IN, 0.5), (FAR, 0.6)], False, False),  # the paper requires "less than .5"
        ([(IN, 0.5), (NEAR, 0.8)], False, True),
        ([(IN, 0.75), (NEAR, 0.8)], False, False),  # only slightly higher
        ([(IN, 0.1), (NEAR, 0.45)], False, False),  # not active
        ([(IN, 0.5), (FAR, 0.9)], False, False),  # too far away to be the same area
    ],
)
def test_tasks_and_regions_are_flagged_by_the_place_of_activation(peaks, undone, misplaced):
    flags = flags_of(cc_with(*peaks))
    assert flags["task_not_done"].raised is undone
    assert flags["roi_misplaced"].raised is misplaced
    row = flags["task_not_done"].row()
    assert (row.series, row.contrast, row.statistic, row.value) == (
        "acquired",
        "thumb",
        "flag_task_not_done",
        float(undone),
    )
    assert f"{cc_with(*peaks)[IN]:.2f}" in flags["task_not_done"].text


def test_broad_activation_is_raised_above_a_fraction_of_the_brain():
    cc = np.zeros(SHAPE)
    cc[:2] = 0.6  # a tenth of the brain
    assert flags_of(cc)["broad"].raised is False
    cc[2, 0, 0] = 0.6
    assert flags_of(cc)["broad"].raised is True
    # without correlation maps, 30 % of the brain are significant
    significant = np.zeros(SHAPE, dtype=bool)
    significant[:6] = True
    for region, raised in ((significant, False), (significant | (cc > 0), False), (MASK, True)):
        (flag,) = broad_flags({}, MASK, {"thumb": region})
        assert (flag.name, flag.raised) == ("broad", raised)
    significant[6, 0, 0] = True
    assert broad_flags({}, MASK, {"thumb": significant})[0].raised is True
    maps = {"thumb": cc_with((IN, 0.8)), "little": cc_with((IN, 0.8))}
    flags = broad_flags(maps, MASK, {"thumb": MASK})
    assert [flag.raised for flag in flags] == [False] * 2, "correlation maps are preferred"


X, Y, _ = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in (32, 32, 8)), indexing="ij")
HEAD = (X / 12) ** 2 + (Y / 7) ** 2 < 1


def pair(seed):
    """Return the images of a pair with a mean of 110 in the head, and independent noise."""
    rng = np.random.default_rng(seed)
    image = np.where(HEAD, 100 + 20 * rng.random(HEAD.shape), 0)
    noise = 0.5 * rng.standard_normal((2, *HEAD.shape))
    return 3 * image + 3 * noise[0], image + noise[1]


@pytest.mark.parametrize(
    ("error", "raised"),
    [(0.0, False), (0.02, False), (0.05, True)],  # relative to the signal
)
def test_an_outlying_slice_is_named_unless_its_difference_is_tiny(error, raised):
    low, second = pair(1)
    low[::2, :, 5] *= 1 - error * np.sqrt(2)
    flag = artifact_flag(low, second, HEAD, HEAD)
    assert flag.raised is raised
    assert ("slices 5 " in flag.text) is raised


def test_a_ghost_at_half_the_field_of_view_is_detected():
    _, image = pair(3)
    ghost = image + 0.2 * np.roll(image, 16, axis=1)
    flag = artifact_flag(3 * ghost, ghost, HEAD, HEAD)
    assert flag.raised is True
    # the ghost has a fifth of the signal of the head
    assert "20 %" in flag.text
    assert artifact_flag(3 * ghost, ghost, HEAD, np.ones_like(HEAD)).raised is False


def test_distortion_is_raised_above_half_a_voxel():
    rows = [MetricRow(series="run", statistic="edge_mismatch", value=1.6)]
    assert distortion_flag(rows, 3.0).raised is True
    assert distortion_flag(rows, 3.4).raised is False
    assert distortion_flag([], 3.0) is None
    flagged = [*rows, MetricRow(series="run", statistic="flag_distortion", value=1.0)]
    assert distortion_flag(flagged, 3.4).raised is True, "a stored flag is kept"
    unmeasured = [MetricRow(series="run", statistic="edge_mismatch", value=math.nan)]
    assert distortion_flag(unmeasured, 3.0) is None


def flag_harm(rows, methods):
    return gather_evidence(rows, methods=methods, baselines=()).flags


def test_added_detail_worse_than_none_is_flagged():
    rows = [
        make_detail_row("srgan", -1.64, "acquired40", half_width=0.3),
        make_detail_row("srgan", -0.1, half_width=0.2),
        make_detail_row("sbl", 0.5, "acquired40", half_width=0.02),
        make_detail_row("ratio", -0.5, half_width=0.1),
        make_detail_row("focuss", -0.05, half_width=0.1),
    ]
    flags = {flag.series: flag for flag in flag_harm(rows, ["srgan", "sbl", "focuss", "tv"])}
    assert {name: flag.raised for name, flag in flags.items()} == {
        "srgan": True,
        "sbl": False,
        "focuss": False,
    }
    assert flags["srgan"].row().statistic == "flag_harm"
    # a contrast other than that of the evidence, whose detail was contradicted in the test
    tested = make_tested_rows({"scene": ((0.5, 0.1), (-0.8, 0.3))})
    (flag,) = flag_harm([make_detail_row("sbl", 0.5, half_width=0.02), *tested], ["sbl"])
    assert (flag.series, flag.raised) == ("sbl", True)
    assert "scene" in flag.text
    # without a reference, the self-test determines the flag
    cells = {"band": "n/a", "reference": "oneLevelDown", "half_width": 0.1}
    self_test = [make_detail_row("srgan", -0.2, statistic="tested_share", **cells)]
    flags = flag_harm(self_test, ["srgan", "sbl"])
    assert [(flag.series, flag.raised) for flag in flags] == [("srgan", True)]


@pytest.mark.parametrize(("n_clipped", "value"), [(0, 0.0), (25, 1.0)])
def test_clipped_voxels_are_flagged_with_their_share_of_the_brain(n_clipped, value):
    flag = clipped_flag(n_clipped, 475)
    assert flag.row().value == value
    assert flag.row().statistic == "flag_clipped"
    assert ("(5 %)" in flag.text and "25 " in flag.text) is (n_clipped > 0)
    assert flag.remedy
