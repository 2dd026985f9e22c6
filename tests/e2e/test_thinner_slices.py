"""Run with thinner slices, compared with the measured thin slices."""

import nibabel as nib
import numpy as np
import pytest

from bids_sr.engine.metric_rows import read_frame

from .conftest import run_participants

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
FUNC = "sub-01/func/sub-01_task-tap"


@pytest.fixture(scope="module")
def thinner(tiny, tmp_path_factory):
    """Run the documented command; training the fast recipes takes some minutes."""
    options = "--sr-factor 2 2 2 --sr-method tv mse3d all --retrospective --smoothing 0"
    options += " --set activation.kinds=glm --skip-bids-validation"
    return run_participants(tiny, tmp_path_factory.mktemp("thinner"), *options.split()).out


def test_slices_are_half_as_thick_within_the_same_edges(thinner):
    acquired = nib.load(thinner / f"{FUNC}_space-boldref_desc-acquired_bold.nii.gz")
    measured = nib.load(next((thinner / "sourcedata/retrospective-truth").rglob("*_bold.nii.gz")))
    for name in ("tv", "mse3d"):
        series = nib.load(thinner / f"{FUNC}_space-boldref_res-hr_desc-{name}_bold.nii.gz")
        assert series.shape == measured.shape
        np.testing.assert_allclose(series.affine, measured.affine, atol=1e-3)
        zooms = [np.array(image.header.get_zooms()[:3]) for image in (series, acquired)]
        np.testing.assert_allclose(zooms[0], zooms[1] / 2, rtol=1e-5)
        edges = [
            image.affine @ [*(np.array(image.shape[:3]) - 0.5), 1] for image in (acquired, series)
        ]
        np.testing.assert_allclose(*edges, atol=1e-3)


def test_networks_come_closer_to_the_measured_volumes_than_trilinear_interpolation(thinner):
    table = read_frame(thinner / f"{FUNC}_desc-evaluation_metrics.tsv")
    scores = table.query("statistic == 'psnr' and region == 'brain' and minus == 'n/a'")
    psnr = scores.groupby("series").value.mean()
    assert psnr["tv"] > psnr["linear"] + 1, psnr
    assert psnr["mse3d"] > psnr["linear"] + 1, psnr
    assert "sdmod" not in psnr  # works in-plane only
