"""Smoothness of the noise of a series, on noise that was smoothed by a known kernel."""

import nibabel as nib
import numpy as np
import pytest

from bids_sr.glm.smoothing import smooth
from bids_sr.io.nifti import SeriesReader
from bids_sr.quality.neighbor_correlation import correlate_neighbors, measure_smoothness


def test_smoothness_is_the_correlation_at_a_distance_of_one_acquired_voxel():
    rng = np.random.default_rng(2)
    change = np.repeat(np.repeat(rng.standard_normal((200, 200, 1)), 2, 0), 2, 1)
    mask = np.ones(change.shape, dtype=bool)
    assert correlate_neighbors([change], mask, (1, 1)) == pytest.approx(0.5, abs=0.02)
    assert correlate_neighbors([change], mask, (2, 2)) == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize("fwhm_voxels", [1.4, 2.0, 3.0])
def test_the_width_of_a_kernel_is_recovered(tmp_path, fwhm_voxels):
    """A trend and the anatomy do not count."""
    rng, zooms = np.random.default_rng(0), (2.5, 2.5, 4.0)
    anatomy = 500 + 200 * rng.standard_normal((48, 48, 12))
    mask = np.zeros(anatomy.shape, dtype=bool)
    mask[6:42, 6:42, 2:10] = True
    volumes = [
        anatomy
        + 3 * volume
        + smooth(rng.standard_normal(anatomy.shape), (2.5, 2.5, 1e3), 2.5 * fwhm_voxels)
        for volume in range(24)
    ]
    series = nib.Nifti1Image(np.stack(volumes, -1).astype(np.float32), np.diag([*zooms, 1.0]))
    series.header.set_zooms((*zooms, 2.0))
    nib.save(series, tmp_path / "bold.nii")
    with SeriesReader(tmp_path / "bold.nii") as reader:
        # a discrete Gaussian is slightly narrower than the model of a continuous one
        assert measure_smoothness(reader, mask, 0) == pytest.approx(fwhm_voxels, rel=0.1)
