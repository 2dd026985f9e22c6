"""Test statistics of a run: equal to statistics of the series in memory, within the memory of one
slice; and resolution levels.
"""

import numpy as np
import pytest
import torch

from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.sr.operators import level_above, level_below
from bids_sr.sr.prior_maps import temporal_components

AFFINE = np.diag([3.0, 3, 4, 1])


def write_series(folder, series, name="run.nii", tr=0.0):
    """Write a series to a file; without a TR, no frequency is filtered."""
    save_image(series.astype(np.float32), AFFINE, folder / name, tr=tr)
    return folder / name


def statistics(path, mask, **options):
    with SeriesReader(path) as reader:
        return temporal_components.temporal_statistics(reader, mask, **options)


def test_components_equal_a_singular_value_decomposition(tmp_path):
    rng = np.random.default_rng(0)
    series = 100 + rng.normal(size=(7, 6, 4, 30)) * rng.uniform(1, 5, (7, 6, 4, 1))
    series[..., 4:] += 8 * rng.normal(size=(7, 6, 4, 1)) * np.sin(np.arange(26))
    series[..., :4] *= 3  # Dummies must not count.
    mask = rng.random((7, 6, 4)) > 0.3
    result = statistics(write_series(tmp_path, series), mask, n_dummy=4, components=5)
    steady = series[..., 4:].astype(np.float32).astype(float)
    change = steady - steady.mean(-1, keepdims=True)
    np.testing.assert_allclose(result.mean, steady.mean(-1), rtol=1e-5)
    u, s, _ = np.linalg.svd(change[mask], full_matrices=False)
    expected = u[:, :5] * s[:5] / np.sqrt(26)
    components = result.components[:, mask].T
    np.testing.assert_allclose(
        components * np.sign((components * expected).sum(0)), expected, atol=2e-3
    )


def test_the_task_is_removed_completely_beside_many_nuisance_regressors(tmp_path, monkeypatch):
    """Of 24 nuisance regressors and 40 volumes, only the six strongest ones are removed."""
    rng = np.random.default_rng(6)
    task = rng.normal(size=(40, 5))
    pattern = 9 * rng.normal(size=(9, 8, 3, 5))
    series = 100 + rng.normal(size=(9, 8, 3, 40)) + pattern @ task.T
    path, mask = write_series(tmp_path, series), np.ones((9, 8, 3))
    monkeypatch.setattr(temporal_components, "_NOISE_RATIO", 0.0)
    options = {"components": 40, "nuisance": rng.normal(size=(40, 24))}
    with_task, without_task = (
        float(np.square(statistics(path, mask, **options, task=regressors).components).sum())
        for regressors in (None, task)
    )
    assert with_task > 100 * series[0, 0, 0].size
    assert without_task / mask.sum() == pytest.approx((40 - 1 - 5 - 6) / 40, rel=0.1)


def test_nuisance_regressors_are_removed_from_components(tmp_path, monkeypatch):
    rng = np.random.default_rng(5)
    regressors = rng.normal(size=(40, 2))
    # The second regressor is linearly dependent on the first.
    regressors[:, 1] = 3 * regressors[:, 0] - 1
    series = (
        100 + rng.normal(size=(9, 8, 3, 40)) + 9 * rng.normal(size=(9, 8, 3, 1)) * regressors[:, 0]
    )
    path, mask = write_series(tmp_path, series), np.ones((9, 8, 3))
    monkeypatch.setattr(temporal_components, "_NOISE_RATIO", 0.0)
    options = {"n_dummy": 4, "components": 40}
    cleaned, uncleaned = (
        np.sqrt(
            np.square(statistics(path, mask, **options, **regressor_options).components).sum(0)
        )
        for regressor_options in ({"nuisance": regressors}, {})
    )
    assert uncleaned.mean() > 4
    change = (series[..., 4:] - series[..., 4:].mean(-1, keepdims=True)).reshape(-1, 36).T
    design = regressors[4:, :1] - regressors[4:, :1].mean(0)
    residuals = change - design @ np.linalg.lstsq(design, change, rcond=None)[0]
    np.testing.assert_allclose(cleaned.ravel(), residuals.std(0), rtol=1e-3)


def test_the_number_of_components_is_limited_by_the_nuisance_regressors(tmp_path):
    rng = np.random.default_rng(6)
    path, mask = write_series(tmp_path, 100 + rng.normal(size=(9, 8, 3, 8))), np.ones((9, 8, 3))
    result = statistics(path, mask, nuisance=rng.normal(size=(8, 12)))
    assert len(result.components) == 6, (
        "of eight volumes the mean and one course of the nuisance are taken out"
    )
    assert np.square(result.components).sum((1, 2, 3)).min() > 1e-3


def test_slow_components_are_preferred_if_there_are_enough(tmp_path):
    rng, mask = np.random.default_rng(7), np.ones((9, 8, 3))
    white = rng.normal(size=(9, 8, 3, 60))
    fast, slow = (
        np.sin(2 * np.pi * hz * 2 * np.arange(60)) * rng.normal(size=(9, 8, 3, 1))
        for hz in (0.2, 0.04)
    )
    series = 100 + white + 20 * fast + 5 * slow
    components = {
        tr: statistics(write_series(tmp_path, series, tr=tr), mask).components[0].ravel()
        for tr in (2.0, 0.0, 7.0)
    }
    pattern = {"fast": fast.std(-1).ravel(), "slow": slow.std(-1).ravel()}
    for tr, expected_pattern in (2.0, "slow"), (0.0, "fast"), (7.0, "fast"):
        assert np.corrcoef(np.abs(components[tr]), pattern[expected_pattern])[0, 1] > 0.9, (
            f"TR {tr}: where it is unknown or has nothing above .1 Hz, all frequencies count"
        )
    short = statistics(write_series(tmp_path, series[..., :15], tr=2.0), mask)
    assert len(short.components) == 12, "the cut-off rises until there are twelve"


def test_motion_is_described_by_twelve_regressors():
    poses = np.repeat(np.eye(4)[None], 3, 0)
    poses[:, 1, 3] = [0, 1, 3]
    regressors = temporal_components.motion_regressors(poses, np.ones((1, 1, 1)), np.eye(4))
    assert regressors.shape == (3, 12)
    np.testing.assert_allclose(regressors[:, 1], [0, 1, 3])
    np.testing.assert_allclose(regressors[:, 7], [0, 1, 2])


def test_noise_does_not_add_components(tmp_path):
    rng = np.random.default_rng(4)
    series = rng.normal(100, 1, (40, 40, 8, 60))
    mask = np.ones((40, 40, 8))
    assert len(statistics(write_series(tmp_path, series), mask).components) == 12, (
        "the least there is"
    )
    series += (rng.normal(size=(40, 40, 8, 15)) * np.linspace(1, 2, 15)) @ rng.normal(
        size=(15, 60)
    )
    assert len(statistics(write_series(tmp_path, series, "more.nii"), mask).components) == 15


def test_runs_without_fluctuations_are_rejected(tmp_path):
    constant = write_series(tmp_path, np.full((6, 5, 3, 12), 7.0))
    with pytest.raises(temporal_components.SeriesError, match="constant"):
        statistics(constant, np.ones((6, 5, 3)))
    with pytest.raises(temporal_components.SeriesError, match=r"\b2 "):
        statistics(constant, np.ones((6, 5, 3)), n_dummy=10)
    with pytest.raises(temporal_components.SeriesError, match=r"\b0 "):
        statistics(constant, np.zeros((6, 5, 3)))


def test_a_compressed_run_is_decompressed_temporarily(tmp_path):
    path = write_series(
        tmp_path, np.random.default_rng(3).normal(9, 1, (6, 5, 3, 12)), "run.nii.gz"
    )
    with temporal_components.open_uncompressed(path, tmp_path) as reader:
        assert reader.slab(0).shape == (6, 5, 1, 12)
    assert [p.name for p in tmp_path.iterdir()] == ["run.nii.gz"]


@pytest.mark.parametrize(
    "factor", [(2.0, 2.0, 1.0), (1.5, 1.5, 1.0), (3.0, 2.0, 1.0), (2.0, 2.0, 2.0), (2.0, 1.0, 1.5)]
)
def test_downsampling_inverts_zero_filling(factor):
    level = level_above((9, 12, 7), factor)
    low_res = torch.from_numpy(
        np.random.default_rng(0).normal(size=(2, 7, 9, 12)).astype(np.float32)
    )
    torch.testing.assert_close(
        level.downsample(level.upsample(low_res)), low_res, atol=1e-5, rtol=0
    )
    high_res = torch.randn(
        1,
        level.highres_shape[2],
        *level.highres_shape[:2],
        generator=torch.Generator().manual_seed(0),
    )
    assert level.downsample(level.select_above_nyquist(high_res)).abs().max() < 1e-5
    flat = torch.ones(7, 9, 12)
    torch.testing.assert_close(
        level.upsample(flat),
        torch.ones(level.highres_shape[2], *level.highres_shape[:2]),
        atol=1e-5,
        rtol=0,
    )


@pytest.mark.parametrize(("shape", "factor", "window"), [
    ((40, 41, 5), (2.0, 2.0, 1.0), (40, 40, 5)), ((35, 32, 7), (1.5, 1.5, 1.0), (33, 30, 7)),
    ((35, 32, 7), (3.0, 3.0, 2.0), (33, 30, 6)),
])  # fmt: skip
def test_the_level_below_crops_to_a_multiple_of_the_factor(shape, factor, window):
    level, slices = level_below(shape, factor)
    assert np.zeros(shape)[slices].shape == window == level.highres_shape
    assert level.acquired_shape == tuple(round(n / f) for n, f in zip(window, factor, strict=True))


@pytest.mark.parametrize("noise", [0.005, 0.02])
def test_thermal_noise_is_estimated_in_spite_of_fluctuations(tmp_path, noise):
    rng = np.random.default_rng(0)
    slow = np.sin(np.linspace(0, 12, 120)) * rng.standard_normal((12, 12, 3, 1))
    series = 1000 * (1 + 0.03 * slow + noise * rng.standard_normal((12, 12, 3, 120)))
    mask = np.ones((12, 12, 3), bool)
    mask[:3] = False
    series[:3] *= 2
    result = statistics(write_series(tmp_path, series), mask)
    assert result.thermal == pytest.approx(noise, rel=0.15)


def test_excluded_volumes_are_not_used(tmp_path):
    """Statistics without some volumes are statistics of the series without these volumes."""
    series = 100 + np.random.default_rng(2).normal(size=(8, 7, 4, 60))
    mask = np.ones(series.shape[:3], bool)
    nuisance = np.random.default_rng(3).normal(size=(60, 3))
    shorter = np.delete(series, [10, 59], axis=-1)
    expected = statistics(
        write_series(tmp_path, shorter), mask, nuisance=np.delete(nuisance, [10, 59], axis=0)
    )
    series[..., [10, 59]] = 1e4
    path = write_series(tmp_path, series)
    result = statistics(path, mask, nuisance=nuisance, outliers=[10, 59])
    np.testing.assert_array_equal(result.mean, expected.mean)
    np.testing.assert_array_equal(result.components, expected.components)
    with SeriesReader(path) as reader:
        whole_run, halves = temporal_components.statistics_of_run_and_halves(
            reader, mask, 0, 40, nuisance, 15, [10, 59]
        )
    np.testing.assert_array_equal(whole_run.components, expected.components)
    assert max(half.mean.max() for half in halves) < 110
