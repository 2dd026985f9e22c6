"""Image similarity metrics compared with values by hand and scikit-image."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from bids_sr.spatial.image_similarity import mae, nmse, psnr, reference_range, rmse, ssim


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    reference = rng.random((32, 30, 4)) * 100
    return reference, reference + 5 * rng.standard_normal(reference.shape)


def test_errors_and_psnr_by_hand():
    reference, image = np.array([[0.0, 10.0], [20.0, 30.0]]), np.array([[0.0, 12.0], [20.0, 26.0]])
    assert mae(reference, image) == pytest.approx(6 / 4)
    assert rmse(reference, image) == pytest.approx(np.sqrt(20 / 4))
    assert nmse(reference, image) == pytest.approx(20 / 1400)
    assert psnr(reference, image, data_range=30.0) == pytest.approx(10 * np.log10(900 / 5))
    mask = np.array([[True, True], [False, False]])
    assert mae(reference, image, mask=mask) == pytest.approx(1.0)
    assert psnr(reference, image, data_range=30.0, mask=mask) == pytest.approx(
        10 * np.log10(900 / 2)
    )
    assert reference_range(reference) == 30.0
    assert reference_range(reference, mask) == 10.0


def test_ssim_of_constant_images_by_hand():
    reference, image = np.full((12, 13), 4, dtype=np.uint8), np.full((12, 13), 2, dtype=np.uint8)
    expected = (2 * 4 * 2 + 0.1**2) / (4**2 + 2**2 + 0.1**2)
    assert ssim(reference, image, data_range=10.0) == pytest.approx(expected)


def test_ssim_is_computed_by_slice_and_averaged_in_the_mask(pair):
    reference, image = pair
    slices = [
        structural_similarity(
            reference[..., z],
            image[..., z],
            data_range=100.0,
            gaussian_weights=True,
            use_sample_covariance=False,
            full=True,
        )[1]
        for z in range(4)
    ]
    assert ssim(reference, image, data_range=100.0) == pytest.approx(np.mean(slices))
    mask = np.zeros(reference.shape, dtype=bool)
    mask[:2, 27:, 1] = True
    expected = slices[1][:2, 27:].mean()
    assert ssim(reference, image, data_range=100.0, mask=mask) == pytest.approx(expected)
    assert ssim(
        reference[..., 1], image[..., 1], data_range=100.0, mask=mask[..., 1]
    ) == pytest.approx(expected)


def test_mismatched_shapes_and_empty_masks_are_rejected(pair):
    reference, image = pair
    with pytest.raises(ValueError, match="shape"):
        psnr(reference, image[:-1], data_range=1.0)
    with pytest.raises(ValueError, match="empty"):
        mae(reference, image, mask=np.zeros(reference.shape, dtype=bool))
