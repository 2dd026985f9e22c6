"""A run super-resolved by its variance map: poses, linearity, placebos, and the plain control."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from variance_helpers import patchy, sizes

from bids_sr.spatial.transforms import hr_grid, rigid_matrix
from bids_sr.sr.inference.guided_baselines import PosedImage
from bids_sr.sr.resolution.operators import level_above, to_slices, to_volume
from bids_sr.sr.variance.prior import Prior, Window
from bids_sr.sr.variance.upsampler import VarianceUpsampler, _displaced, onto_grid

SHAPE, FACTOR, FWHM = (22, 20, 6), (2.0, 2.0, 1.0), (3.0,)
AFFINE = np.array([[-3.0, 0, 0, 33], [0, 3.0, 0, -30], [0, 0, 3.5, -9], [0, 0, 0, 1.0]])
STILL = np.eye(4)
LEVEL = level_above(SHAPE, FACTOR)


def head(shape=SHAPE):
    """(mask, mean) of a head inside the field of view."""
    at = [(g - (n - 1) / 2) / n for g, n in zip(np.indices(shape), shape, strict=True)]
    size = np.sqrt(at[0] ** 2 + at[1] ** 2 + 0.3 * at[2] ** 2)
    return size < 0.33, (1000 / (1 + np.exp((size - 0.33) * 60))).astype(np.float32)


MASK, _ = head()
_, FINE_MEAN = head((44, 40, 6))


@pytest.fixture(scope="module")
def truth():
    window = Window.around(LEVEL, np.ones(SHAPE, bool))
    weight = patchy(window, 2) * 12 * to_slices(FINE_MEAN) / 1000
    return Prior(window=window, weight=weight[None] + 0.05, fwhm=FWHM, noise=8.0)


def upsampler(truth, **given):
    mean = to_volume(LEVEL.down(to_slices(FINE_MEAN)))
    settings = {"weight": truth.weight, "noise": truth.noise, "fwhm": FWHM}
    return VarianceUpsampler(
        mean=mean, mask=MASK, affine=AFFINE, factor=FACTOR, **(settings | given)
    )


def fluctuation(truth, seed):
    white = torch.randn(truth.weight[0].shape, generator=torch.Generator().manual_seed(seed))
    return to_volume(truth.weight[0] * truth._colored(0, white))


def acquired(truth, pose, seed):
    """(volume, fine volume) of one moment in a pose."""
    grid, fine_affine = hr_grid(SHAPE, AFFINE, FACTOR)
    fine = PosedImage(data=FINE_MEAN + fluctuation(truth, seed), affine=fine_affine).seen(
        grid, fine_affine, pose
    )
    return to_volume(LEVEL.down(to_slices(fine))), fine


def distance(a, b):
    return float(np.linalg.norm(np.asarray(a) - np.asarray(b)) / np.linalg.norm(np.asarray(b)))


# turns about the middle of the head and shifts of one to two voxels
POSES = [rigid_matrix([4.0, -3.0, 0.5, 0, 0, a], [0, 0, 0]) for a in np.deg2rad((9.0, -11.0))] + [
    rigid_matrix([-5.0, 4.0, -1.0, 0.02, 0, 0.1], [0, 0, 0])
]


def test_maps_and_mean_follow_the_head(truth):
    right, wrong, filled, still = [], [], [], []
    up = upsampler(truth)
    for seed, pose in enumerate(POSES):
        volume, fine = acquired(truth, pose, seed)
        for errors, found in (
            (right, up(volume, pose)),
            (wrong, up(volume, STILL)),
            (filled, to_volume(LEVEL.up(to_slices(volume)))),
        ):
            errors.append(np.linalg.norm(found - fine))
        volume, fine = acquired(truth, STILL, seed)
        still.append(np.linalg.norm(up(volume, STILL) - fine))
    # static detail of the mean, which nothing restores here, is most of what is left
    assert max(np.divide(right, filled)) < 0.96
    assert min(np.divide(wrong, filled)) > 1.0  # a map of the wrong place is worse than none
    assert np.mean(right) < 1.15 * np.mean(still)  # one interpolation of the map costs little
    assert up.poses == 4


def test_a_pose_serves_its_neighborhood_and_the_mean_follows_by_its_gradient(truth):
    up = upsampler(truth)
    step = np.eye(4)
    step[:3, 3] = (0.1, -0.15, 0.05)  # .06 voxel
    up.posed(STILL)
    near = up.change(
        np.asarray(PosedImage(data=up._mean.data, affine=AFFINE).seen(SHAPE, AFFINE, step)), step
    )
    assert up.poses == 1
    without = (
        np.asarray(PosedImage(data=up._mean.data, affine=AFFINE).seen(SHAPE, AFFINE, step))
        - up._mean.data
    )
    assert np.linalg.norm(near) < 0.05 * np.linalg.norm(without)
    far = step.copy()
    far[:3, 3] *= 4
    up.posed(far)
    up.posed(STILL)
    assert up.poses == 2  # what was kept is found again


def detail_of(up, change, pose):
    """What an upsampler adds to the zero-filled change, (Z, X, Y), or to any image that is linear
    in the volumes.
    """
    prior = up.posed(pose).prior
    with torch.inference_mode():
        return (
            torch.zeros(1) if prior is None else up.level.beyond(prior.expect(to_slices(change)))
        )


@pytest.mark.parametrize("pose", [STILL, POSES[0]])
def test_no_change_in_none_out(truth, pose):
    up = upsampler(truth)
    mean = np.asarray(up.posed(pose).mean)
    assert not detail_of(up, np.zeros(SHAPE, np.float32), pose).any()
    # nothing but zero filling of the mean, to rounding of the single-precision mean
    assert np.abs(up(mean, pose) - to_volume(LEVEL.up(to_slices(mean)))).max() < 1e-5 * mean.max()


def test_what_was_acquired_is_given_back(truth):
    volume, _ = acquired(truth, POSES[1], 4)
    for up in (upsampler(truth), upsampler(truth, fwhm=())):
        out = to_slices(up(volume, POSES[1]))
        torch.testing.assert_close(LEVEL.down(out), to_slices(volume), rtol=0, atol=2e-3)
        assert distance(out, LEVEL.up(to_slices(volume))) > 1e-4


@pytest.mark.parametrize("pose", [STILL, POSES[0]])
@pytest.mark.parametrize(("iterations", "bound"), [(None, 0.05), (300, 1e-3)])
def test_the_linear_model_commutes_with_super_resolution(
    truth, pose, iterations, bound, monkeypatch
):
    """A contrast of the super-resolved run is the super-resolved contrast: as far as the solver
    goes.
    """
    if iterations:
        solve = Prior.solve
        monkeypatch.setattr(
            Prior, "solve", lambda prior, data: solve(prior, data, iterations, 1e-5)
        )
    up = upsampler(truth)
    weights = np.random.default_rng(0).standard_normal(12)
    effect, fine_effect = np.zeros(SHAPE), np.zeros((44, 40, 6))
    for seed, weight in enumerate(weights):
        volume, _ = acquired(truth, pose, seed)
        effect += weight * up.change(volume, pose)
        fine_effect += weight * (up(volume, pose) - to_volume(LEVEL.up(to_slices(volume))))
    found = to_volume(detail_of(up, effect.astype(np.float32), pose))
    assert np.linalg.norm(found) > 0.1 * np.linalg.norm(to_volume(LEVEL.up(to_slices(effect))))
    assert distance(fine_effect, found) < bound


def test_maps_of_zero_are_zero_filling_bit_for_bit(truth):
    up = upsampler(truth, weight=torch.zeros_like(truth.weight))
    for pose in (STILL, POSES[0]):
        volume, _ = acquired(truth, pose, 1)
        np.testing.assert_array_equal(up(volume, pose), to_volume(LEVEL.up(to_slices(volume))))
        assert not detail_of(up, volume, pose).any()


def test_the_control_is_one_line(truth):
    up = upsampler(truth, fwhm=())
    assert sizes(up.window) == (6, 44, 40)
    volume, _ = acquired(truth, STILL, 3)
    filled = LEVEL.up(to_slices(up.change(volume, STILL))).numpy()
    sd = truth.weight[0].numpy()
    known = filled * sd / gaussian_filter(sd, (0, 3, 3))
    known -= LEVEL.up(LEVEL.down(torch.from_numpy(known))).numpy()
    assert distance(detail_of(up, up.change(volume, STILL), STILL), known) < 1e-3
    added = up(volume, STILL) - to_volume(LEVEL.up(to_slices(volume)))
    assert distance(added, to_volume(torch.from_numpy(known))) < 2e-3


def test_a_map_mirrored_twice_is_the_map():
    weight = torch.rand(2, 3, 8, 10)
    for affine, axis in ((AFFINE, 2), (AFFINE[[1, 0, 2, 3]], 3), (AFFINE[[2, 1, 0, 3]], 1)):
        once = _displaced(weight, "mirror", affine, FACTOR)
        assert torch.equal(once, weight.flip(axis))
        assert torch.equal(_displaced(once, "mirror", affine, FACTOR), weight)
    assert _displaced(weight, "", AFFINE, FACTOR) is weight


@pytest.mark.parametrize(
    ("factor", "step"), [((2.0, 2.0, 1.0), (6, 6)), ((1.5, 2.0, 1.0), (4, 6))]
)
def test_a_map_shifted_moves_by_three_acquired_voxels(factor, step):
    weight = torch.zeros(1, 2, 24, 20)
    weight[0, 1, 5, 7] = 1
    moved = _displaced(weight, "shift", AFFINE, factor)
    assert float(moved[0, 1, 5 + step[0], 7 + step[1]]) == 1
    assert float(moved.sum()) == 1
    with pytest.raises(ValueError, match="not by 'turn'"):
        _displaced(weight, "turn", AFFINE, factor)


def test_maps_of_another_matrix_keep_their_place_in_the_field_of_view():
    weight = torch.rand(2, 3, 16, 12)
    assert onto_grid(weight, (16, 12, 3)) is weight
    ramp = ((torch.arange(16) + 0.5) / 16)[None, None, :, None].expand(1, 3, 16, 12)
    out = onto_grid(ramp, (24, 18, 3))
    assert out.shape == (1, 3, 24, 18)
    known = (torch.arange(24) + 0.5) / 24
    torch.testing.assert_close(out[0, 1, 2:-2, 5], known[2:-2], atol=1e-5, rtol=0)
    # patterns have signs
    torch.testing.assert_close(onto_grid(-weight, (24, 18, 6)), -onto_grid(weight, (24, 18, 6)))


def test_a_map_on_another_matrix_is_applied(truth):
    up = upsampler(truth, weight=torch.rand(1, 6, 33, 30) + 1)
    volume, _ = acquired(truth, STILL, 1)
    assert up(volume, STILL).shape == (44, 40, 6)
