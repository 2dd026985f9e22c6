"""Metrics as implemented in attention-unet: examples computed by hand."""

import math

import numpy as np
import pytest

from bids_sr.evaluation import attention_unet_metrics
from bids_sr.structural import image_quality


def test_nmse_is_the_mean_ratio_over_nonzero_voxels() -> None:
    reference, image = np.array([1.0, 2.0, 4.0, 0.0]), np.array([2.0, 2.0, 2.0, 9.0])
    assert attention_unet_metrics.nmse_voxel(reference, image) == pytest.approx((1 + 0 + 0.25) / 3)
    inside = np.array([False, True, True, True])
    assert attention_unet_metrics.nmse_voxel(reference, image, mask=inside) == pytest.approx(0.125)
    assert math.isnan(attention_unet_metrics.nmse_voxel(np.zeros(3), np.ones(3)))


def test_efc_is_the_negative_of_mriqcs_efc_times_its_maximum() -> None:
    image = np.random.default_rng(0).uniform(0, 5, (4, 5, 6))
    root = math.sqrt(image.size)
    assert attention_unet_metrics.efc_sum(image) == pytest.approx(
        -image_quality.efc(image) * root * math.log(root)
    )
    assert attention_unet_metrics.efc_sum(np.array([0.0, 3.0])) == 0
    assert attention_unet_metrics.efc_sum(np.array([3.0, 4.0])) == pytest.approx(
        0.6 * math.log(0.6) + 0.8 * math.log(0.8)
    )
    with pytest.raises(ValueError, match="nonzero"):
        attention_unet_metrics.efc_sum(np.zeros(3))


def test_cjv_has_the_sign_of_the_contrast() -> None:
    image = np.array([1.0, 3.0, 5.0, 9.0])
    gm, wm = np.array([True, True, False, False]), np.array([False, False, True, True])
    assert attention_unet_metrics.cjv_signed(image, gm, wm) == pytest.approx((2 + 1) / (7 - 2))
    assert attention_unet_metrics.cjv_signed(image, wm, gm) == pytest.approx(-3 / 5)
    assert attention_unet_metrics.cjv_signed(np.ones(4), gm, wm) == math.inf


def test_half_maximum_is_an_intensity() -> None:
    image = np.array([1.0, 7.0, 9.0])
    assert attention_unet_metrics.half_maximum(image) == 4.5
    assert attention_unet_metrics.half_maximum(image, np.array([True, True, False])) == 3.5


def test_white_matter_is_divided_by_the_95th_percentile() -> None:
    image = np.arange(1000.0).reshape(10, 10, 10)
    wm = image > 900
    assert attention_unet_metrics.wm2max_p95(image, wm) == pytest.approx(
        np.median(image[wm]) / np.percentile(image, 95)
    )
    with pytest.raises(ValueError, match="intensity"):
        attention_unet_metrics.wm2max_p95(np.zeros((3, 3, 3)), np.ones((3, 3, 3), bool))
