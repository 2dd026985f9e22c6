"""Scores over slices: closed forms, agreement with whole-image scores, and intervals."""

import numpy as np
import pytest
from data.short_names import against_of, measure_of

from bids_sr.spatial.image_similarity import psnr, ssim
from bids_sr.sr.pair_scores import holdout_rows, slice_scores

RNG = np.random.default_rng(0)
TRUTH = 100 * RNG.random((24, 20, 8))
MASK = np.zeros(TRUTH.shape, bool)
MASK[4:20, 4:16, 1:7] = True


def add_error(error: float) -> np.ndarray:
    return TRUTH + error * np.where(RNG.random(TRUTH.shape) < 0.5, -1, 1)


def test_scores_of_all_slices_equal_whole_image_scores() -> None:
    image = TRUTH + RNG.standard_normal(TRUTH.shape)
    scores = slice_scores(image, TRUTH, MASK, data_range=50.0)
    all_slices = np.arange(6)
    assert len(scores.n_voxels) == 6
    assert scores.psnr(all_slices) == pytest.approx(psnr(TRUTH, image, data_range=50.0, mask=MASK))
    assert scores.ssim(all_slices) == pytest.approx(ssim(TRUTH, image, data_range=50.0, mask=MASK))


def test_a_gain_is_the_ratio_of_errors_in_db() -> None:
    scores = {
        name: slice_scores(add_error(error), TRUTH, MASK, data_range=100.0)
        for name, error in (("bspline", 2.0), ("zerofill", 4.0), ("srgan", 1.0))
    }
    rows = {
        (r.series, measure_of(r), against_of(r)): r for r in holdout_rows(scores, "srgan", seed=0)
    }
    assert rows["bspline", "pair_psnr", "n/a"].value == pytest.approx(20 * np.log10(100 / 2))
    for name, ratio in (("bspline", 2.0), ("zerofill", 4.0)):
        gain = rows["srgan", "pair_gain_psnr", name]
        assert gain.value == pytest.approx(20 * np.log10(ratio))
        # equal errors in all slices
        assert (gain.lower, gain.upper) == pytest.approx((gain.value, gain.value))
        assert gain.n == 6
    assert len(rows) == 8


def test_the_interval_of_a_gain_uses_paired_slices() -> None:
    """Errors of slices vary a hundredfold, and the method halves each of them.

    The gain is constant over slices, while PSNR varies.
    """
    worse = TRUTH + np.geomspace(0.1, 10, 8) * np.where(RNG.random(TRUTH.shape) < 0.5, -1, 1)
    scores = {
        "bspline": slice_scores(worse, TRUTH, MASK, data_range=100.0),
        "srgan": slice_scores(TRUTH + (worse - TRUTH) / 2, TRUTH, MASK, data_range=100.0),
    }
    rows = {(r.series, measure_of(r)): r for r in holdout_rows(scores, "srgan", seed=1)}
    gain, method_psnr = rows["srgan", "pair_gain_psnr"], rows["srgan", "pair_psnr"]
    assert gain.upper - gain.lower < 1e-9
    assert method_psnr.upper - method_psnr.lower > 3
    assert method_psnr.lower < method_psnr.value < method_psnr.upper
