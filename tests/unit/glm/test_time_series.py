"""Smoothing in mm, image quality, and activation maps that do not depend on blocks of voxels."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from bids_sr.glm.activation_maps import ActivationSettings, map_activation
from bids_sr.glm.design import build_design
from bids_sr.glm.regressors import Events
from bids_sr.glm.series_quality import QualitySums, smoothness
from bids_sr.glm.time_series import VoxelTimeSeries, extract_time_series
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.spatial.smoothing import smooth
from bids_sr.spatial.streamed_fit import divide_into_batches


def write(path, data, zooms=(2.0, 2.0, 4.0), tr=2.0):
    save_image(data, np.diag([*zooms, 1.0]), path, tr=tr)
    return path


@pytest.fixture
def series(tmp_path):
    rng = np.random.default_rng(0)
    data = 1000 + 10 * rng.standard_normal((9, 8, 5, 60))
    data[4, 4, 2, 20:40] += 60
    data[0, 0, 0] = 300.0
    return write(tmp_path / "series.nii", data.astype(np.float32))


EVENTS = Events(
    pd.DataFrame({"onset": [36.0, 100.0], "duration": [40.0, 8.0], "trial_type": ["a", "b"]})
)
SETTINGS = ActivationSettings(low_pass=0.1)


def make_design(n_dummy=0):
    return build_design(EVENTS, n_volumes=60, tr=2.0, n_dummy=n_dummy, confound_names=())


def test_width_of_smoothing_is_in_mm_on_unequal_voxels():
    zooms, width = (1.5, 2.0, 3.0), 8.0
    point = np.zeros((41, 31, 21))
    point[20, 15, 10] = 1.0
    spread = smooth(point, zooms, width)
    assert spread.sum() == pytest.approx(1.0, abs=1e-3)
    for axis, (zoom, center) in enumerate(zip(zooms, (20, 15, 10), strict=True)):
        profile = spread.sum(axis=tuple(a for a in range(3) if a != axis))
        variance = (profile * ((np.arange(len(profile)) - center) * zoom) ** 2).sum()
        assert np.sqrt(8 * np.log(2) * variance) == pytest.approx(width, rel=0.01)


@pytest.mark.parametrize("width", [0.5, 40.0])
@pytest.mark.parametrize("order", ["C", "F"])
def test_smoothing_equals_the_gaussian_filter_of_scipy(width, order):
    zooms, volume = (
        (2.0, 2.5, 4.0),
        # more samples along the first axes than a single matrix contains
        np.asarray(np.random.default_rng(0).normal(1000, 30, (70, 40, 7)), np.float32, order),
    )
    expected = ndimage.gaussian_filter(
        volume.astype(float), [width / 2.354820045 / z for z in zooms], mode="nearest"
    )
    np.testing.assert_allclose(smooth(volume, zooms, width), expected, rtol=2e-6)


def series_quality(volumes, mask, zooms, *, n_volumes, uncensored=None):
    sums = QualitySums(mask, zooms, n_volumes, uncensored)
    for batch in divide_into_batches(volumes):
        sums.add(batch)
    return sums.quality()


def test_tsnr_by_hand():
    rng = np.random.default_rng(2)
    mask = np.ones((6, 6, 4), dtype=bool)
    mask[0] = False
    trend = np.linspace(-1, 1, 400) ** 2 * 80
    volumes = [500 + trend[t] + 5 * rng.standard_normal(mask.shape) for t in range(400)]
    quality = series_quality(volumes, mask, (2, 2, 2), n_volumes=400)
    assert np.median(quality.noise[mask]) == pytest.approx(5, rel=0.02)
    np.testing.assert_allclose(quality.mean[mask], np.mean(volumes, axis=0)[mask])
    assert np.median(quality.tsnr[mask]) == pytest.approx((500 + trend.mean()) / 5, rel=0.02)
    assert not quality.tsnr[0].any()
    constant = series_quality([np.full(mask.shape, 7.0)] * 9, mask, (2, 2, 2), n_volumes=9)
    assert not constant.tsnr.any()
    assert constant.fwhm_mm == (None, None, None)


def test_censored_volumes_enter_neither_tsnr_nor_smoothness():
    zooms, rng = (2.0, 2.0, 2.0), np.random.default_rng(3)
    mask = np.zeros((30, 30, 20), dtype=bool)
    mask[4:-4, 4:-4, 4:-4] = True
    volumes = [1000 + 60 * smooth(rng.standard_normal(mask.shape), zooms, 6.0) for _ in range(60)]
    uncensored = np.ones(60, dtype=bool)
    uncensored[[0, 17, 18, 40]] = False  # within a batch, across its border, and at the start
    spoiled = [
        v if k else v * rng.uniform(0, 3, v.shape)
        for v, k in zip(volumes, uncensored, strict=True)
    ]
    quality = series_quality(spoiled, mask, zooms, n_volumes=60, uncensored=uncensored)
    assert quality.n_volumes == 56
    clean = series_quality(volumes, mask, zooms, n_volumes=60)
    assert np.median(quality.tsnr[mask]) == pytest.approx(np.median(clean.tsnr[mask]), rel=0.03)
    np.testing.assert_allclose(quality.fwhm_mm, 6.0, rtol=0.06)
    # noise by hand: residual of a quadratic trend at the times of uncensored volumes
    times = np.linspace(-1, 1, 60)[uncensored]
    rows = np.array([v[mask] for v in volumes])[uncensored]
    trend = np.vander(times, 3)
    residuals = rows - trend @ np.linalg.lstsq(trend, rows, rcond=None)[0]
    noise = np.sqrt((residuals**2).sum(0) / (56 - 3))
    np.testing.assert_allclose(quality.noise[mask], noise, rtol=1e-2)
    quality_without_censoring = series_quality(spoiled, mask, zooms, n_volumes=60)
    assert np.median(quality_without_censoring.tsnr[mask]) < 0.5 * np.median(quality.tsnr[mask])


def test_quality_does_not_depend_on_the_number_of_volumes_per_chunk():
    rng = np.random.default_rng(4)
    mask = rng.random((7, 6, 5)) > 0.2
    blurred = ndimage.gaussian_filter(rng.standard_normal((20, 7, 6, 5)), (0, 1, 1, 1))
    volumes = blurred.astype(np.float32) + 100
    for order in "CF":
        qualities = []
        for size in (1, 3, 20):
            sums = QualitySums(mask, (2.0, 2.0, 2.0), 20)
            for start in range(0, 20, size):
                sums.add([np.asarray(v, order=order) for v in volumes[start : start + size]])
            qualities.append(sums.quality())
        for quality in qualities[1:]:
            np.testing.assert_allclose(quality.tsnr, qualities[0].tsnr, rtol=1e-5)
            assert quality.fwhm_mm == pytest.approx(qualities[0].fwhm_mm, rel=1e-5)
    change = np.diff(volumes.astype(np.float64), axis=0)
    squares, products = (change**2).sum(0), (change[:, :-1] * change[:, 1:]).sum(0)
    pairs = mask[:-1] & mask[1:]
    correlation = (products / np.sqrt(squares[:-1] * squares[1:]))[pairs].mean()
    width = 2 * np.sqrt(2 * np.log(2) / -np.log(correlation))
    assert qualities[0].fwhm_mm[0] == pytest.approx(width, rel=1e-4)
    assert smoothness([0.5, 0.0, -0.1], (2.0, 2.0, 2.0))[1:] == (None, None)


def test_time_series_are_returned_in_the_order_of_the_mask(series, tmp_path):
    mask = np.random.default_rng(5).random((9, 8, 5)) > 0.4
    with SeriesReader(series) as reader:
        volumes = np.stack(list(reader.volumes()))
        with extract_time_series(reader, mask, tmp_path, start=4) as time_series:
            blocks = list(time_series[0.0].blocks(budget=60 * 36 * 7))
            (scratch,) = tmp_path.glob("*.raw")
            assert scratch.stat().st_size == 4 * 56 * mask.sum()
    assert len(blocks) > 10
    np.testing.assert_array_equal(np.hstack([block for _, block in blocks]), volumes[4:, mask])
    assert not scratch.exists()


def test_maps_do_not_depend_on_the_block_size(series, tmp_path, monkeypatch):
    mask = np.ones((9, 8, 5), dtype=bool)
    maps = []
    for budget in (60 * 36 * 5, 60 * 36 * 64, 2**30):
        monkeypatch.setattr(VoxelTimeSeries.blocks, "__defaults__", (budget,))
        with SeriesReader(series) as reader:
            contrasts = {"a": {"a": 1.0}, "aMinusB": {"a": 1.0, "b": -1.0}}
            (fit,) = map_activation(
                reader, mask, {3.0: make_design()}, contrasts, SETTINGS, scratch=tmp_path
            ).values()
            maps.append(fit.maps)
    assert set(maps[0]) == {
        (c, s) for c in ("a", "aMinusB") for s in ("cc", "effect", "variance", "t", "z")
    }
    for key, values in maps[0].items():
        for blockwise_maps in maps[1:]:
            np.testing.assert_allclose(values, blockwise_maps[key], rtol=1e-5, atol=1e-5)


def test_simulated_activation_is_recovered_and_constant_voxels_are_0(series, tmp_path):
    mask = np.ones((9, 8, 5), dtype=bool)
    mask[8] = False
    with SeriesReader(series) as reader:
        (activation,) = map_activation(
            reader,
            mask,
            {0.0: make_design(n_dummy=3)},
            {"a": {"a": 1.0}},
            SETTINGS,
            scratch=tmp_path,
        ).values()
    for stat in ("cc", "t", "z", "effect"):
        values = activation.maps["a", stat]
        assert np.unravel_index(values.argmax(), values.shape) == (4, 4, 2)
        assert values[0, 0, 0] == 0
        assert not values[8].any()
        assert np.isfinite(values).all()
    # a boxcar was added, but a convolved block is fit
    assert activation.maps["a", "effect"][4, 4, 2] == pytest.approx(60, rel=0.25)
