"""Test series with added detail from prior SD maps."""

import numpy as np
import pytest
import torch
from checking import inconsistency
from data.known_priors import acquired, expected, fluctuation, normal_noise, sizes, whole_of
from scipy.ndimage import gaussian_filter

from bids_sr.io.nifti import SeriesReader, load_image, save_image
from bids_sr.io.notices import InvalidInput
from bids_sr.spatial.transforms import hr_grid, rigid_matrix
from bids_sr.sr.inference.apply_to_series import write_series
from bids_sr.sr.inference.posed_image import PosedImage
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.sr.operators import level_above, to_slices, to_volume
from bids_sr.sr.prior_maps import add_detail
from bids_sr.sr.prior_maps.add_detail import Detail, Modulation, onto_grid
from bids_sr.sr.prior_maps.prior import Prior

SHAPE, FACTOR, VOLUMES = (20, 18, 3), (2.0, 2.0, 1.0), 9
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
LEVEL = level_above(SHAPE, FACTOR)


@pytest.fixture
def prior():
    """Return maps of a run and patterns of a calibration run."""
    grid = whole_of(SHAPE, FACTOR)
    maps = torch.cat(
        [normal_noise(1, 2, *sizes(grid)).abs() + 0.2, 0.5 * normal_noise(2, 4, *sizes(grid))]
    )
    return Prior(region=grid, weight=maps, fwhm=(3.0, 1.5, 8.0, 8.0, 8.0, 8.0), noise=0.5)


@pytest.fixture
def series(prior, tmp_path):
    generator = torch.Generator().manual_seed(0)
    images = torch.stack([acquired(prior, generator) for _ in range(VOLUMES)])
    save_image(volumes(500 + images), AFFINE, tmp_path / "run.nii", tr=2.0)
    return 500 + images


def volumes(images):
    """Rearrange (T, Z, X, Y) to (X, Y, Z, T)."""
    return images.numpy().transpose(2, 3, 1, 0).astype(np.float32)


def no_motion():
    return np.tile(np.eye(4), (VOLUMES, 1, 1))


def zerofilled(tmp_path, poses, name="zerofilled.nii"):
    upsampler = make_upsampler("zerofill", UpsamplerInputs(factor=FACTOR))
    with SeriesReader(tmp_path / "run.nii") as reader:
        grid = hr_grid(reader.shape[:3], AFFINE, FACTOR)
        write_series(reader, tmp_path / name, upsampler, poses, *grid, factor=FACTOR)
    return tmp_path / name


def series_with_detail(change, zero_filled, constant=None):
    """Return the series (X, Y, Z, T) with detail added to a zero-filled series."""
    target = zero_filled.with_name("fine.nii")
    with SeriesReader(zero_filled) as reader:
        Detail(source=change, static_image=constant).add(reader, target)
    return load_image(target)[0]


def expected_series(prior, series):
    """Return zero filling of each volume plus the detail that the prior reconstructs from its
    change.
    """
    change = series - series.median(0).values
    return volumes(LEVEL.upsample(series) + LEVEL.select_above_nyquist(expected(prior, change)))


def test_the_series_equals_the_reconstruction_of_each_volume(prior, series, tmp_path, monkeypatch):
    zero_filled, reference = zerofilled(tmp_path, no_motion()), expected_series(prior, series)
    result = series_with_detail(prior, zero_filled)
    assert np.abs(reference - load_image(zero_filled)[0]).std() > 0.05 * reference.std(-1).mean()
    np.testing.assert_allclose(result, reference, atol=2e-3)
    assert max(inconsistency(result[..., t], volumes(series)[..., t]) for t in range(9)) < 1e-5
    monkeypatch.setattr(add_detail, "_VOLUMES_PER_BLOCK", 4)
    np.testing.assert_allclose(series_with_detail(prior, zero_filled), result, atol=2e-3)
    with SeriesReader(tmp_path / "fine.nii") as reader:
        assert reader.tr == 2.0
        np.testing.assert_allclose(reader.affine, hr_grid(SHAPE, AFFINE, FACTOR)[1])


def test_a_moving_head_is_realigned(prior, series, tmp_path):
    """Volumes of a head that moves by integer acquired voxels give the same series, away from the
    edges.
    """
    at_rest = series_with_detail(prior, zerofilled(tmp_path, no_motion()))
    poses, moving_volumes = no_motion(), volumes(series)
    for t in range(1, VOLUMES, 2):
        moving_volumes[..., t] = np.roll(moving_volumes[..., t], 1, axis=0)
        poses[t][0, 3] = 3.0
    save_image(moving_volumes, AFFINE, tmp_path / "run.nii", tr=2.0)
    result = series_with_detail(prior, zerofilled(tmp_path, poses))
    inside = (slice(6, -6), slice(6, -6))
    assert np.abs(result - at_rest)[inside].max() < 0.02 * np.ptp(at_rest[inside])


def test_maps_improve_the_series_of_a_rotating_head(tmp_path):
    """Fluctuations in many poses are closer to the truth than after zero filling, and maps at the
    wrong position increase the error.
    """
    shape, (high_shape, high_affine) = (24, 22, 5), hr_grid((24, 22, 5), AFFINE, FACTOR)
    grid, level = whole_of(shape, FACTOR), level_above(shape, FACTOR)
    weight = gaussian_filter(normal_noise(3, *sizes(grid)).numpy(), (0, 1, 1))
    weight = torch.from_numpy(np.exp(4 * weight).astype(np.float32))
    true_prior = Prior(region=grid, weight=weight[None], fwhm=(3.0,), noise=0.01)
    generator, truth, low_res, poses = torch.Generator().manual_seed(0), [], [], []
    for t in range(24):
        truth.append(100 + to_volume(fluctuation(true_prior, generator)))
        poses.append(rigid_matrix([t / 6, -t / 9, 0, 0, 0, t / 150], [36, 33, 8]))
        posed = PosedImage(data=truth[-1], affine=high_affine).resample(
            high_shape, high_affine, poses[-1]
        )
        low_res.append(to_volume(level.downsample(to_slices(posed))))
    save_image(np.stack(low_res, -1), AFFINE, tmp_path / "run.nii", tr=2.0)
    zero_filled = zerofilled(tmp_path, np.stack(poses))
    inside, truth = (slice(10, -10), slice(10, -10)), np.stack(truth, -1)

    def error(series):
        return np.linalg.norm((series - truth)[inside])

    baseline_error = error(load_image(zero_filled)[0])
    assert error(series_with_detail(true_prior, zero_filled)) < 0.95 * baseline_error
    flipped_prior = Prior(region=grid, weight=true_prior.weight.flip(2), fwhm=(3.0,), noise=0.01)
    assert error(series_with_detail(flipped_prior, zero_filled)) > baseline_error


def test_without_detail_the_series_is_zero_filled_and_a_constant_is_added_to_each_volume(
    prior, series, tmp_path
):
    zero_filled, shape = zerofilled(tmp_path, no_motion()), LEVEL.highres_shape
    baseline, constant = load_image(zero_filled)[0], np.random.default_rng(0).normal(size=shape)
    np.testing.assert_array_equal(series_with_detail(None, zero_filled), baseline)
    constant = constant.astype(np.float32)
    np.testing.assert_allclose(
        series_with_detail(None, zero_filled, constant), baseline + constant[..., None]
    )
    detailed = series_with_detail(prior, zero_filled)
    with_constant = series_with_detail(prior, zero_filled, constant)
    np.testing.assert_allclose(with_constant, detailed + constant[..., None], atol=1e-4)
    with pytest.raises(InvalidInput, match=r"slice 0 produced NaN or infinite"):
        series_with_detail(None, zero_filled, constant * np.nan)
    assert not list(tmp_path.glob("*.tmp*"))


def test_the_control_equals_its_formula(series, tmp_path):
    sd = normal_noise(4, *sizes(whole_of(SHAPE, FACTOR))).abs() + 0.1
    control = Modulation(region=whole_of(SHAPE, FACTOR), weight=sd)
    change = LEVEL.upsample(series - series.median(0).values).numpy()
    reference = torch.from_numpy(change * sd.numpy() / gaussian_filter(sd.numpy(), (0, 3, 3)))
    reference = volumes(LEVEL.upsample(series) + LEVEL.select_above_nyquist(reference))
    np.testing.assert_allclose(
        series_with_detail(control, zerofilled(tmp_path, no_motion())), reference, atol=2e-3
    )


def test_maps_are_resampled_within_the_same_field_of_view():
    weight = torch.rand(2, 3, 16, 12)
    assert onto_grid(weight, (16, 12, 3)) is weight
    ramp = ((torch.arange(16) + 0.5) / 16)[None, None, :, None].expand(1, 3, 16, 12)
    resampled = onto_grid(ramp, (24, 18, 3))
    assert resampled.shape == (1, 3, 24, 18)
    expected_ramp = (torch.arange(24) + 0.5) / 24
    torch.testing.assert_close(resampled[0, 1, 2:-2, 5], expected_ramp[2:-2], atol=1e-5, rtol=0)
    # Patterns have signs.
    torch.testing.assert_close(onto_grid(-weight, (24, 18, 6)), -onto_grid(weight, (24, 18, 6)))
