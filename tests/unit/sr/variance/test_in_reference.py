"""What variance maps add to a zero-filled series, and placebos."""

import numpy as np
import pytest
import torch
from checking import inconsistency
from scipy.ndimage import gaussian_filter
from variance_helpers import acquired, drawn, expected, fluctuation, sizes, whole_of

from bids_sr.io.nifti import SeriesReader, load_image, save_image
from bids_sr.spatial.transforms import hr_grid, rigid_matrix
from bids_sr.sr.inference.acquired import InferenceError, UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import write_series
from bids_sr.sr.inference.guided_baselines import PosedImage
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.sr.operators import level_above, to_slices, to_volume
from bids_sr.sr.variance import in_reference
from bids_sr.sr.variance.in_reference import Detail, Modulation, _displaced, onto_grid
from bids_sr.sr.variance.prior import Prior

SHAPE, FACTOR, VOLUMES = (20, 18, 3), (2.0, 2.0, 1.0), 9
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
LEVEL = level_above(SHAPE, FACTOR)


@pytest.fixture
def prior():
    """A run's own maps, and patterns of a calibration."""
    whole = whole_of(SHAPE, FACTOR)
    maps = torch.cat([drawn(1, 2, *sizes(whole)).abs() + 0.2, 0.5 * drawn(2, 4, *sizes(whole))])
    return Prior(whole=whole, weight=maps, fwhm=(3.0, 1.5, 8.0, 8.0, 8.0, 8.0), noise=0.5)


@pytest.fixture
def series(prior, tmp_path):
    generator = torch.Generator().manual_seed(0)
    images = torch.stack([acquired(prior, generator) for _ in range(VOLUMES)])
    save_image(volumes(500 + images), AFFINE, tmp_path / "run.nii", tr=2.0)
    return 500 + images


def volumes(images):
    """(T, Z, X, Y) as (X, Y, Z, T)."""
    return images.numpy().transpose(2, 3, 1, 0).astype(np.float32)


def still():
    return np.tile(np.eye(4), (VOLUMES, 1, 1))


def zerofilled(tmp_path, poses, name="zerofilled.nii"):
    up = make_upsampler("zerofill", UpsamplerInputs(factor=FACTOR))
    with SeriesReader(tmp_path / "run.nii") as reader:
        write_series(reader, tmp_path / name, up, poses, AFFINE, factor=FACTOR, tr=2.0)
    return tmp_path / name


def added(change, filled, constant=None):
    """Series (X, Y, Z, T) with what is added to a zero-filled one."""
    target = filled.with_name("fine.nii")
    with SeriesReader(filled) as reader:
        Detail(change=change, constant=constant).add(reader, target)
    return load_image(target)[0]


def by_hand(prior, series):
    """Zero filling of each volume and what the prior reconstructs of its change."""
    change = series - series.median(0).values
    return volumes(LEVEL.up(series) + LEVEL.beyond(expected(prior, change)))


def test_it_is_what_each_volume_gives_by_itself(prior, series, tmp_path, monkeypatch):
    filled, known = zerofilled(tmp_path, still()), by_hand(prior, series)
    found = added(prior, filled)
    assert np.abs(known - load_image(filled)[0]).std() > 0.05 * known.std(-1).mean()
    np.testing.assert_allclose(found, known, atol=2e-3)
    assert max(inconsistency(found[..., t], volumes(series)[..., t]) for t in range(9)) < 1e-5
    monkeypatch.setattr(in_reference, "_AT_ONCE", 4)
    np.testing.assert_allclose(added(prior, filled), found, atol=2e-3)
    with SeriesReader(tmp_path / "fine.nii") as reader:
        assert reader.tr == 2.0
        np.testing.assert_allclose(reader.affine, hr_grid(SHAPE, AFFINE, FACTOR)[1])


def test_a_moved_head_is_put_back(prior, series, tmp_path):
    """Volumes of a head that moves by whole acquired voxels give the same series, away from the
    edges.
    """
    at_rest = added(prior, zerofilled(tmp_path, still()))
    poses, moved = still(), volumes(series)
    for t in range(1, VOLUMES, 2):
        moved[..., t] = np.roll(moved[..., t], 1, axis=0)
        poses[t][0, 3] = 3.0
    save_image(moved, AFFINE, tmp_path / "run.nii", tr=2.0)
    found = added(prior, zerofilled(tmp_path, poses))
    inside = (slice(6, -6), slice(6, -6))
    assert np.abs(found - at_rest)[inside].max() < 0.02 * np.ptp(at_rest[inside])


def test_maps_serve_a_head_that_turns(tmp_path):
    """Fluctuations of a head in many poses are nearer to the truth than zero filling leaves them,
    and maps of the wrong place make them worse.
    """
    shape, (grid, fine) = (24, 22, 5), hr_grid((24, 22, 5), AFFINE, FACTOR)
    whole, level = whole_of(shape, FACTOR), level_above(shape, FACTOR)
    weight = gaussian_filter(drawn(3, *sizes(whole)).numpy(), (0, 1, 1))
    weight = torch.from_numpy(np.exp(4 * weight).astype(np.float32))
    own = Prior(whole=whole, weight=weight[None], fwhm=(3.0,), noise=0.01)
    generator, truth, low, poses = torch.Generator().manual_seed(0), [], [], []
    for t in range(24):
        truth.append(100 + to_volume(fluctuation(own, generator)))
        poses.append(rigid_matrix([t / 6, -t / 9, 0, 0, 0, t / 150], [36, 33, 8]))
        seen = PosedImage(data=truth[-1], affine=fine).seen(grid, fine, poses[-1])
        low.append(to_volume(level.down(to_slices(seen))))
    save_image(np.stack(low, -1), AFFINE, tmp_path / "run.nii", tr=2.0)
    filled = zerofilled(tmp_path, np.stack(poses))
    inside, truth = (slice(10, -10), slice(10, -10)), np.stack(truth, -1)

    def error(series):
        return np.linalg.norm((series - truth)[inside])

    plain = error(load_image(filled)[0])
    assert error(added(own, filled)) < 0.95 * plain
    wrong = Prior(whole=whole, weight=own.weight.flip(2), fwhm=(3.0,), noise=0.01)
    assert error(added(wrong, filled)) > plain


def test_nothing_is_zero_filling_and_a_constant_is_one_image(prior, series, tmp_path):
    filled, shape = zerofilled(tmp_path, still()), LEVEL.fine
    plain, constant = load_image(filled)[0], np.random.default_rng(0).normal(size=shape)
    np.testing.assert_array_equal(added(None, filled), plain)
    constant = constant.astype(np.float32)
    np.testing.assert_allclose(added(None, filled, constant), plain + constant[..., None])
    detailed = added(prior, filled)
    more = added(prior, filled, constant)
    np.testing.assert_allclose(more, detailed + constant[..., None], atol=1e-4)
    with pytest.raises(InferenceError, match=r"slice 0 produced NaN or infinite"):
        added(None, filled, constant * np.nan)
    assert not list(tmp_path.glob("*.tmp*"))


def test_the_control_is_one_line(series, tmp_path):
    sd = drawn(4, *sizes(whole_of(SHAPE, FACTOR))).abs() + 0.1
    control = Modulation(whole=whole_of(SHAPE, FACTOR), weight=sd)
    change = LEVEL.up(series - series.median(0).values).numpy()
    known = torch.from_numpy(change * sd.numpy() / gaussian_filter(sd.numpy(), (0, 3, 3)))
    known = volumes(LEVEL.up(series) + LEVEL.beyond(known))
    np.testing.assert_allclose(added(control, zerofilled(tmp_path, still())), known, atol=2e-3)


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
    with pytest.raises(ValueError, match=r"displacement .*'turn'.*mirror or shift"):
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
