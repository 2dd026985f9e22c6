"""Compare images with measured volumes: worked values, intervals of correlated volumes, paired
gains, and errors.
"""

import math

import numpy as np
import pytest
from data.short_names import against_of, measure_of
from scipy import signal
from skimage.metrics import structural_similarity

from bids_sr.evaluation.volume_scores import image_rows, volume_scores
from bids_sr.io.nifti import SeriesReader, save_image

SHAPE, N, DUMMY = (16, 14, 3), 12, 2
AFFINE = np.diag([2.0, 2.0, 4.0, 1.0])


def write_series(path, data, affine=AFFINE):
    save_image(data.astype(np.float32), affine, path, tr=2.0)


@pytest.fixture
def series(tmp_path):
    rng = np.random.default_rng(0)
    measured = 500 + 100 * rng.random((*SHAPE, 1)) + rng.normal(0, 2, (*SHAPE, N))
    measured[..., :DUMMY] += 5000
    data = {"measured": measured}
    for name, error in (("bspline", 20), ("inject", 15), ("sbl", 10)):
        data[name] = measured + rng.normal(0, error, measured.shape)
        data[name][..., :DUMMY] = 0
    for name, values in data.items():
        write_series(tmp_path / f"{name}.nii", values)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[3:12, 3:12, :2] = True
    return tmp_path, {name: values.astype(np.float32) for name, values in data.items()}, mask


def score_files(folder, mask, **changes):
    readers = {name: SeriesReader(folder / f"{name}.nii") for name in ("bspline", "inject", "sbl")}
    options = {"n_dummy": DUMMY, "max_volumes": 60} | changes
    return volume_scores(readers, SeriesReader(folder / "measured.nii"), mask, **options)


def test_scores_equal_their_definitions_inside_the_mask_without_dummy_volumes(series):
    folder, data, mask = series
    scores = score_files(folder, mask)["sbl"]
    steady = data["measured"][..., DUMMY:].astype(float)
    data_range = np.percentile(steady.mean(-1)[mask], 99)
    assert data_range < 700  # dummy volumes are ignored
    error = [
        np.mean((data["sbl"][..., t] - data["measured"][..., t])[mask] ** 2)
        for t in range(DUMMY, N)
    ]
    np.testing.assert_allclose(
        scores["psnr"], 10 * np.log10(data_range**2 / np.array(error)), rtol=1e-5
    )
    full = structural_similarity(
        data["measured"][..., 0, DUMMY].astype(float),
        data["sbl"][..., 0, DUMMY].astype(float),
        data_range=data_range,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )[1]
    first = mask.copy()
    first[..., 1:] = False
    first_slice_scores = score_files(folder, first)["sbl"]
    assert first_slice_scores["ssim"].shape == (N - DUMMY,)
    low = np.percentile(steady.mean(-1)[first], 99)
    assert first_slice_scores["ssim"][0] == pytest.approx(
        full[first[..., 0]].mean(), abs=0.01 * abs(low - data_range) + 1e-3
    )


def test_rows_contain_levels_and_gains_over_bspline_and_inject(series):
    folder, _, mask = series
    scores = score_files(folder, mask)
    rows = {
        (r.series, against_of(r), measure_of(r)): r for r in image_rows(scores, seed=1, n_boot=200)
    }
    levels = {s: rows[s, "measured", "truth_psnr"].value for s in scores}
    assert levels["sbl"] > levels["inject"] > levels["bspline"]
    assert levels["sbl"] == pytest.approx(scores["sbl"]["psnr"].mean())
    gains = {(s, reference) for s, reference, measure in rows if measure == "gain_truth_psnr"}
    assert gains == {
        ("sbl", "bspline"),
        ("sbl", "inject"),
        ("bspline", "inject"),
        ("inject", "bspline"),
    }
    for reference in ("bspline", "inject"):
        gain = rows["sbl", reference, "gain_truth_psnr"]
        assert gain.value == pytest.approx(levels["sbl"] - levels[reference])
        assert 0 < gain.lower < gain.value < gain.upper
        assert rows["sbl", reference, "gain_truth_ssim"].lower > 0
    assert {r.region for r in rows.values()} == {"brain"}
    assert image_rows(scores, seed=1, n_boot=200) == list(rows.values())


def test_gains_are_paired_over_volumes():
    rng = np.random.default_rng(0)
    base = 30 + 5 * rng.normal(size=60)
    scores = {
        "bspline": {"psnr": base, "ssim": base / 50},
        "sbl": {"psnr": base + 0.2, "ssim": base / 50},
    }
    rows = {(r.series, against_of(r), measure_of(r)): r for r in image_rows(scores)}
    gain = rows["sbl", "bspline", "gain_truth_psnr"]
    assert (gain.lower, gain.upper) == pytest.approx((0.2, 0.2))
    level = rows["sbl", "measured", "truth_psnr"]
    assert level.upper - level.lower > 1
    equal = rows["sbl", "bspline", "gain_truth_ssim"]
    assert (equal.value, equal.lower, equal.upper) == (0, 0, 0)


def test_intervals_have_nominal_coverage_for_autocorrelated_volumes():
    """Means of 60 values with an autocorrelation of .6; resampling single values would cover only
    65 %.
    """
    rng = np.random.default_rng(1)
    noise = signal.lfilter([1.0], [1.0, -0.6], rng.normal(size=(300, 100)))[:, 40:]
    scores = {f"s{k}": {"psnr": values, "ssim": values} for k, values in enumerate(noise)}
    rows = [row for row in image_rows(scores, n_boot=400) if row.statistic == "psnr"]
    assert {row.n for row in rows} == {8}
    covered = np.mean([row.lower < 0 < row.upper for row in rows if row.minus == "n/a"])
    assert 0.85 <= covered <= 0.98


def test_too_few_volumes_and_equal_images_have_no_interval():
    scores = {"bspline": {"psnr": np.array([30.0, 31, 32]), "ssim": np.array([0.9, 0.9, 0.9])}}
    row = image_rows(scores)[0]
    assert row.value == 31
    assert row.n is None
    assert math.isnan(row.lower)
    equal = scores | {"sbl": {"psnr": np.full(3, np.inf), "ssim": np.ones(3)}}
    rows = {(r.series, measure_of(r)): r.value for r in image_rows(equal)}
    assert math.isnan(rows["sbl", "gain_truth_psnr"])
    assert image_rows({}) == []
