"""Smoothness of the noise of a series, on noise that was smoothed with a known kernel."""

import nibabel as nib
import numpy as np
import pytest
from scipy import fft

from bids_sr.glm.noise_smoothness import measure_smoothness
from bids_sr.io.nifti import SeriesReader

SHAPE = (48, 48, 10)


def smooth_in_plane(volume, fwhm_voxels):
    """Smooth with the transfer function of a continuous Gaussian."""
    x, y = np.meshgrid(fft.fftfreq(SHAPE[0]), fft.fftfreq(SHAPE[1]), indexing="ij")
    gain = np.exp(-2 * np.pi**2 * (fwhm_voxels / 2.35482) ** 2 * (x**2 + y**2))
    return fft.ifft2(fft.fft2(volume, axes=(0, 1)) * gain[..., None], axes=(0, 1)).real


def measure(tmp_path, volumes):
    image = nib.Nifti1Image(np.stack(volumes, -1).astype(np.float32), np.diag([2.5, 2.5, 4, 1]))
    image.header.set_zooms((2.5, 2.5, 4.0, 2.0))
    nib.save(image, tmp_path / "bold.nii")
    mask = np.zeros(SHAPE, dtype=bool)
    mask[6:42, 6:42, 2:8] = True
    with SeriesReader(tmp_path / "bold.nii") as reader:
        return measure_smoothness(reader, mask, 2)


@pytest.mark.parametrize("fwhm_voxels", [0.0, 0.8, 2.0])
def test_the_width_of_a_kernel_is_recovered(tmp_path, fwhm_voxels):
    """Anatomy and a trend do not count."""
    rng = np.random.default_rng(0)
    anatomy = 500 + 200 * rng.standard_normal(SHAPE)
    volumes = [
        anatomy + 3 * number + smooth_in_plane(rng.standard_normal(SHAPE), fwhm_voxels)
        for number in range(24)
    ]
    # without smoothing, chance can make the density fall slightly
    assert measure(tmp_path, volumes) == pytest.approx(
        fwhm_voxels, abs=0.05 if fwhm_voxels else 0.2
    )


def test_a_series_without_noise_has_no_smoothness(tmp_path):
    assert np.isnan(measure(tmp_path, [np.ones(SHAPE)] * 12))
