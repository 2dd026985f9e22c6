"""Regions of activation, compared with examples by hand and with scipy."""

import numpy as np
import pytest
from scipy import stats

from bids_sr.glm.activation_regions import (
    Threshold,
    centroid,
    fdr_region,
    find_peak,
    nonempty_dice,
    parse_thresholds,
    quarter_region,
    sign_reliable_region,
)


def box(shape, *index):
    out = np.zeros(shape, dtype=bool)
    out[index] = True
    return out


def test_quarter_region_by_hand():
    cc = np.array([[[0.9, 0.1, 0.69, 0.7, 0.71, 0.8]]])
    roi = np.ones(cc.shape, dtype=bool)
    region, threshold = quarter_region(cc, roi)
    assert threshold == pytest.approx(0.9 - 0.8 / 4)  # .7
    assert region.ravel().tolist() == [True, False, False, True, True, True]
    roi[..., 0] = False  # the maximum outside the ROI no longer counts: .8 - .7 / 4 = .625
    region, threshold = quarter_region(cc, roi)
    assert threshold == pytest.approx(0.625)
    assert region.ravel().tolist() == [False, False, True, True, True, True]


def test_sign_reliable_region_adds_voxels_by_probability_until_the_expected_share_of_wrong_signs():
    t = np.array([[[2.0, 9.0, 5.0, 7.0, 3.0, 8.0]]])
    wrong_sign = np.array([[[0.3, 0.12, 0.02, 0.01, 0.1, 0.02]]])
    active = np.ones(t.shape, dtype=bool)
    # means in ascending order: .01, .015, .0167, .0375, .054, .095
    region = sign_reliable_region(t, wrong_sign, active)
    assert region.ravel().tolist() == [False, False, True, True, True, True]
    # voxels outside the active region are ignored
    active[..., 3] = False
    region = sign_reliable_region(t, wrong_sign, active)
    assert region.ravel().tolist() == [False, False, True, False, True, True]


def test_increases_and_decreases_are_ranked_separately():
    """The increases would use up the share of wrong signs of the decreases, and conversely."""
    t = np.array([[[9.0, 8.0, -7.0, -6.0, -5.0]]])
    wrong_sign = np.array([[[0.3, 0.2, 0.02, 0.06, 0.2]]])
    region = sign_reliable_region(t, wrong_sign, np.ones(t.shape, dtype=bool))
    assert region.ravel().tolist() == [False, False, True, True, False]


@pytest.mark.parametrize("shift", [-4.0, 0.0, 0.8, 4.0])
@pytest.mark.parametrize("order", "CF")
def test_fdr_region_equals_false_discovery_control_of_scipy(shift, order):
    rng = np.random.default_rng(1)
    z = np.asarray(rng.standard_normal((12, 9, 7)) * 2 + shift, np.float32, order=order)
    z[3] = z[2]  # ties
    mask = rng.random(z.shape) > 0.3
    region, lowest = fdr_region(z, mask)
    tails = [
        stats.false_discovery_control(stats.norm.sf(tail[mask].astype(np.float64))) <= 0.025
        for tail in (z, -z)
    ]
    np.testing.assert_array_equal(region[mask], tails[0] | tails[1])
    assert not region[~mask].any()
    assert tails[0].any() == (shift > -4)
    assert tails[1].any() == (shift < 4)
    assert lowest == np.abs(z[region]).min()


@pytest.mark.parametrize("n_active", [0, 100])
def test_the_false_discovery_rate_is_at_most_05_with_effects_of_one_sign(n_active):
    """The false discovery proportion is averaged over 300 maps, and is 1 for any region of noise.

    Its standard error is about .012 without effects.
    """
    rng = np.random.default_rng(0)
    z = rng.standard_normal((300, 10, 10, 20))
    z.reshape(300, -1)[:, :n_active] -= 4
    mask = np.ones(z.shape[1:], dtype=bool)
    proportions = []
    for values in z:
        region = fdr_region(values, mask)[0].ravel()
        proportions.append(region[n_active:].sum() / max(region.sum(), 1))
    assert np.mean(proportions) < 0.075


def test_fixed_threshold_selects_the_voxels_of_the_mask_at_or_above_it():
    region, threshold = Threshold(label="Z31", stat="z", z=3.1).region(
        np.array([[[3.0, 3.1, -5.0, 5.0]]]),
        np.array([[[True, True, True, False]]]),
        np.ones((1, 1, 4), bool),
    )
    assert region.ravel().tolist() == [False, True, True, False]
    assert threshold == 3.1


def test_dice_by_hand():
    a, b = box((4, 1, 1), slice(0, 3)), box((4, 1, 1), slice(2, 4))
    assert nonempty_dice(a, b) == pytest.approx(2 / 5)
    assert nonempty_dice(a, a) == 1.0
    assert nonempty_dice(a, box((4, 1, 1), 3)) == 0.0
    empty = np.zeros((4, 1, 1), dtype=bool)
    assert nonempty_dice(a, empty) is None
    assert nonempty_dice(empty, empty) is None


def test_centroid_and_peak_are_in_mm():
    affine = np.array([[0, 0, 4.0, -8], [-2.0, 0, 0, 6], [0, 3.0, 0, 1], [0, 0, 0, 1]])
    region = box((5, 5, 5), slice(1, 3), 2, 4)
    np.testing.assert_allclose(centroid(region, affine), [4 * 4 - 8, -2 * 1.5 + 6, 3 * 2 + 1])
    values = np.zeros((5, 5, 5))
    values[1, 2, 4], values[0, 0, 0] = 2.0, 9.0
    maximum = find_peak(values, region, affine)
    assert maximum.index == (1, 2, 4)
    assert maximum.value == 2.0
    np.testing.assert_allclose(maximum.position, [8, 4, 7])
    assert centroid(np.zeros((2, 2, 2), dtype=bool), affine) is None
    assert find_peak(values, np.zeros((5, 5, 5), dtype=bool), affine) is None


def test_thresholds_are_parsed_from_the_command_line():
    thresholds = parse_thresholds(["quarter", "fdr", "3.1"])
    assert [(t.label, t.stat, t.z) for t in thresholds] == [
        ("Quarter", "cc", None),
        ("Fdr", "z", None),
        ("Z31", "z", 3.1),
    ]
    with pytest.raises(ValueError, match="'half'"):
        parse_thresholds(["half"])
