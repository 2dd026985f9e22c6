"""Quality metrics of structural images compared with values computed by hand."""

import numpy as np
import pytest
from scipy import ndimage

from bids_sr.structural import image_quality, lesions

ZOOMS = (1.0, 2.0, 1.5)


@pytest.fixture
def head():
    """Return an image and tissue masks: CSF 2 and 4; GM 10, 12 and 14; WM 20 and 24."""
    image = np.array([2.0, 4, 10, 12, 14, 20, 24, 24]).reshape(2, 2, 2)
    values = image.copy()
    return image, {"csf": values < 5, "gm": (values > 5) & (values < 15), "wm": values > 15}


def test_ratios_of_tissues_by_hand(head):
    image, masks = head
    rows = image_quality.quality_rows("T1w", {"a": image}, image > 0, masks, ZOOMS)
    ratios = {(row.region, row.statistic): row.value for row in rows if "ratio" in row.statistic}
    assert ratios["gm/wm", "ratio_mean"] == pytest.approx(12 / (68 / 3))
    assert ratios["csf/gm", "ratio_sd"] == pytest.approx(1 / np.sqrt(8 / 3))
    assert ratios["csf/wm", "ratio_p05"] == pytest.approx(2.1 / 20.4)
    assert ratios["gm/wm", "ratio_p95"] == pytest.approx(13.8 / 24)
    assert len(ratios) == 12


def test_coefficient_of_joint_variation_by_hand(head):
    image, masks = head
    sd_gm, sd_wm = np.sqrt(8 / 3), np.std([20, 24, 24])
    assert image_quality.cjv(image, masks["gm"], masks["wm"]) == pytest.approx(
        (sd_gm + sd_wm) / (68 / 3 - 12)
    )
    assert image_quality.cjv(-image, masks["gm"], masks["wm"]) == pytest.approx(
        (sd_gm + sd_wm) / (68 / 3 - 12)
    )
    assert image_quality.cjv(np.ones((2, 2, 2)), masks["gm"], masks["wm"]) == np.inf


def test_entropy_focus_criterion_by_hand():
    assert image_quality.efc(np.full((4, 5, 6), 3.0)) == pytest.approx(1)
    point = np.zeros((4, 5, 6))
    point[1, 2, 3] = 9
    assert image_quality.efc(point) == 0
    # two equal voxels of four: 2 * sqrt(1/2) * ln sqrt(2) over 2 ln 2
    half = np.array([1.0, 1, 0, 0])
    assert image_quality.efc(half) == pytest.approx(
        2 * np.sqrt(0.5) * np.log(np.sqrt(2)) / (2 * np.log(2))
    )
    assert image_quality.efc(-half) == image_quality.efc(half)
    assert image_quality.efc(half, np.array([True, True, False, False])) == pytest.approx(1)
    with pytest.raises(ValueError, match="at least one nonzero voxel"):
        image_quality.efc(np.zeros(9))


def test_fwhm_of_smoothed_white_noise_is_recovered():
    noise = np.random.default_rng(0).normal(size=(60, 60, 60))
    expected = {"x": 3.0, "y": 5.0, "z": 4.0}
    sigma = [w / np.sqrt(8 * np.log(2)) / z for w, z in zip(expected.values(), ZOOMS, strict=True)]
    image = ndimage.gaussian_filter(noise, sigma, mode="wrap")
    assert image_quality.fwhm(image, ZOOMS) == pytest.approx(tuple(expected.values()), rel=0.06)
    mask = np.zeros(image.shape, bool)
    mask[10:50, 10:50, 10:50] = True
    image[~mask] = 1e6
    assert image_quality.fwhm(image, ZOOMS, mask)[1] == pytest.approx(5, rel=0.1)
    with pytest.raises(ValueError, match="constant"):
        image_quality.fwhm(np.ones((4, 4, 4)), ZOOMS)


def test_white_matter_to_maximum_by_hand():
    image = np.arange(1.0, 2001).reshape(10, 10, 20)
    wm = (image > 1000) & (image <= 1003)
    assert image_quality.wm2max(image, wm) == pytest.approx(1002 / np.percentile(image, 99.95))


def test_hyperintensities_exceed_the_mean_by_a_multiple_of_the_sd():
    brain = np.ones((10, 10, 10), bool)
    brain[0] = False
    flair = np.full(brain.shape, 100.0)
    flair[1::2] = 102  # half and half: mean near 101, standard deviation near 1
    flair[0] = 1e6
    flair[4, 4:6, 4] = 110
    flair[7, 7, 7] = 110
    inside = flair[brain]
    hyperintensities = lesions.segment_hyperintensities(flair, brain, (4, 4, 4))
    assert np.array_equal(hyperintensities, brain & (flair > inside.mean() + 1.3 * inside.std()))
    assert hyperintensities.sum() == 3
