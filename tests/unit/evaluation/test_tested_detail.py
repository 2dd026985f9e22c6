"""Explained variance of detail at half the resolution, on block effects with known detail."""

import math
from dataclasses import replace

import numpy as np
import pytest
from data.block_effects import make_blocks, make_effects

from bids_sr.evaluation.tested_detail import FOLLOWING, iterate_tested_detail
from bids_sr.spatial.nyquist import beyond_nyquist

SHAPE, FACTOR = (32, 28, 10), (2.0, 2.0, 1.0)
CONTRASTS = {"hand": {"hand": 1.0}}
AFFINE, BLOCKS = np.diag([3.0, 3.0, 4.0, 1.0]), make_blocks(["hand"] * 8)


def effects_of(series, maps, *, noise=0.0, blocks=BLOCKS):
    betas = np.repeat(maps[..., None], len(blocks), axis=-1)
    betas = betas + noise * np.random.default_rng(0).standard_normal(betas.shape)
    return make_effects(series, betas, blocks, AFFINE)


def true_effect(seed=1):
    return np.random.default_rng(seed).standard_normal(SHAPE)


def rows_of(reconstructed, acquired, t_maps=None, widths=(0.0,)):
    active = {width: t_maps or {} for width in widths}
    return list(iterate_tested_detail(reconstructed, acquired, active, CONTRASTS, FACTOR))


@pytest.mark.parametrize(
    ("factor", "expected"), [(1.0, 1.0), (0.5, 0.75), (0.0, 0.0), (-1.0, -3.0), (2.0, 0.0)]
)
def test_a_known_part_of_the_detail_gives_its_explained_variance(factor, expected):
    """The value does not depend on noise in the acquired effect, nor on the acquired band."""
    truth = true_effect()
    detail = beyond_nyquist(truth, FACTOR)
    rebuilt = truth - detail + factor * detail
    row, _, voxels = rows_of(effects_of("sbl", rebuilt), effects_of("acquired", truth, noise=1.0))
    assert (row.statistic, row.band, row.reference) == ("ev", "beyond", "oneLevelDown")
    assert (row.region, row.contrast, row.n) == ("brain", "hand", SHAPE[2])
    assert row.value == pytest.approx(expected, abs=0.12)
    assert row.lower < expected < row.upper
    assert row.upper - row.value >= 1.96 * 0.05
    assert (voxels.statistic, voxels.value) == ("voxels", math.prod(SHAPE))


@pytest.mark.parametrize(("share", "expected"), [(1.0, 1.0), (0.5, 0.25), (0.0, 0.0)])
def test_fineness_is_the_ratio_of_spectral_densities(share, expected):
    """White noise has the same density in both halves; noise of the measurement does not count."""
    truth = true_effect()
    upper = beyond_nyquist(truth, (4 / 3, 4 / 3, 1.0))
    acquired = effects_of("acquired", truth - (1 - share) * upper, noise=0.5)
    _, fineness, _ = rows_of(effects_of("sbl", truth), acquired)
    assert fineness.statistic == "detail_fineness"
    if math.isnan(fineness.value):  # no energy above the noise
        assert expected == 0
    else:
        assert fineness.value == pytest.approx(expected, abs=0.12)
        assert fineness.lower < expected < fineness.upper
        assert fineness.upper - fineness.lower < 0.5


@pytest.mark.parametrize(("share", "expected"), [(1.0, 1.0), (0.5, 0.75), (0.0, 0.0)])
def test_detail_without_the_task_is_relative_to_the_detail_with_it(share, expected):
    """The outer voxels of the brain do not count, whatever they contain."""
    truth = true_effect()
    detail = beyond_nyquist(truth, FACTOR)
    task_free = truth - (1 - share) * detail
    mask = np.zeros(SHAPE, bool)
    mask[4:28, 4:24] = True
    task_free[:5] = 0
    rows = iterate_tested_detail(
        effects_of("sbl", truth),
        replace(effects_of("acquired", truth, noise=0.5), mask=mask),
        {0.0: {}},
        CONTRASTS,
        FACTOR,
        task_free=np.repeat(task_free[..., None], len(BLOCKS), axis=-1).astype(np.float32),
    )
    (row,) = (row for row in rows if row.statistic == FOLLOWING)
    assert row.value == pytest.approx(expected, abs=0.1)


def test_intervals_are_wider_with_fewer_slices():
    truth, t = true_effect(), np.zeros(SHAPE, np.float32)
    t[:, :, 1:9] = 5.0
    rebuilt = effects_of("sbl", truth + 0.3 * beyond_nyquist(true_effect(seed=2), FACTOR))
    rows = rows_of(rebuilt, effects_of("acquired", truth, noise=0.5), {"hand": t})
    widths = {row.region: row.upper - row.value for row in rows if row.statistic == "ev"}
    assert widths["acquired40"] > 2.36 * 0.05  # Student's t for seven degrees of freedom
    assert 2.26 * 0.05 < widths["brain"] < widths["acquired40"]


def test_active_voxels_are_those_of_the_downsampled_run():
    truth, t = true_effect(), np.zeros(SHAPE, np.float32)
    t[4:20, 6:18, 2:8] = 5.0
    detail = beyond_nyquist(truth, FACTOR)
    good = np.where(np.abs(t) > 4, truth, truth - 2 * detail)
    rows = rows_of(effects_of("sbl", good), effects_of("acquired", truth), {"hand": t})
    values = {row.region: row.value for row in rows if row.statistic == "ev"}
    assert values["acquired40"] > 0.5
    assert values["brain"] < -1
    counts = {row.region: row.value for row in rows if row.statistic == "voxels"}
    assert counts == {"brain": math.prod(SHAPE), "acquired40": 16 * 12 * 6}


def test_detail_is_also_tested_without_large_effects():
    """An effect of 10 % of the acquired signal in some slices is large. Its detail is wrong there.

    The mean of the reconstructed effects is of their errors.
    """
    truth, t = true_effect(), np.zeros(SHAPE, np.float32)
    t[4:20, 6:18] = 5.0
    detail = beyond_nyquist(truth, FACTOR)
    rebuilt = truth.copy()
    rebuilt[:, :, :3] += 50 - 2 * detail[:, :, :3]
    reconstructed = effects_of("sbl", rebuilt)
    reconstructed.mean[:] = 1e-3
    rows = rows_of(reconstructed, effects_of("acquired", truth), {"hand": t})
    cells = {(row.region, row.statistic): row for row in rows}
    assert cells["otherEffect", "voxels"].value == 16 * 12 * 7
    assert cells["otherEffect", "ev"].value == pytest.approx(1, abs=1e-6)
    assert cells["acquired40", "ev"].value < 0
    assert ("otherEffect", "detail_fineness") not in cells
    rows = rows_of(effects_of("sbl", truth), effects_of("acquired", truth), {"hand": t})
    assert {row.region for row in rows} == {"brain", "acquired40"}


def test_a_contrast_with_a_condition_of_one_block_is_tested_without_it_under_another_name():
    """The t map of the contrast with all conditions selects the active voxels. A contrast that
    cannot be split is skipped.
    """
    truth, t = true_effect(), np.zeros(SHAPE, np.float32)
    t[4:20, 6:18, 2:8] = 5.0
    blocks = make_blocks(["hand", "foot"] * 3 + ["hand", "face"])
    reconstructed, acquired = (
        effects_of(series, truth, noise=noise, blocks=blocks)
        for series, noise in (("sbl", 0.0), ("acquired", 0.5))
    )
    acquired.betas[..., -1] = 1000 * true_effect(seed=5)  # the single block has no influence
    contrasts = {"all": dict.fromkeys(("hand", "foot", "face"), 1 / 3), "face": {"face": 1.0}}
    rows = list(
        iterate_tested_detail(reconstructed, acquired, {0.0: {"all": t}}, contrasts, FACTOR)
    )
    assert {row.contrast for row in rows} == {"allWithoutFace"}
    values = {row.region: row.value for row in rows if row.statistic == "ev"}
    assert values == {
        "brain": pytest.approx(1, abs=0.05),
        "acquired40": pytest.approx(1, abs=0.1),
    }


def test_few_slices_have_no_interval_and_few_voxels_or_noise_no_value():
    truth, flat = true_effect(), np.zeros(SHAPE)
    row, *_ = rows_of(effects_of("sbl", flat), effects_of("acquired", flat, noise=1.0))
    assert np.isnan([row.value, row.lower]).all(), "no reproducible detail"
    thin = np.zeros(SHAPE, np.float32)
    thin[4:20, 6:18, 4:7] = 5.0
    tiny = np.zeros(SHAPE, np.float32)
    tiny[4:6, 6:8, 4:6] = 5.0
    for t, is_finite in ((thin, True), (tiny, False)):
        rows = rows_of(effects_of("sbl", truth), effects_of("acquired", truth), {"hand": t})
        (row,) = (r for r in rows if (r.region, r.statistic) == ("acquired40", "ev"))
        assert math.isfinite(row.value) is is_finite
        assert math.isnan(row.lower)


def test_effects_are_smoothed_before_they_are_compared():
    truth = true_effect()
    acquired, rebuilt = effects_of("acquired", truth), effects_of("sbl", 0.5 * truth)
    rows = [row for row in rows_of(rebuilt, acquired, widths=(0.0, 6.0)) if row.statistic == "ev"]
    assert [row.fwhm_mm for row in rows] == [0.0, 6.0]
    assert [row.value for row in rows] == pytest.approx([0.75, 0.75], abs=0.02)
