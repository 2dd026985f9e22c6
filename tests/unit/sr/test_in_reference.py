"""A prior with patterns, applied in the reference: as volume by volume, with a moved head, in
other spaces.
"""

import numpy as np
import pytest
import torch
from checking import inconsistency
from variance_helpers import drawn, sizes, window_of

from bids_sr.io.nifti import SeriesReader, load_image, save_image
from bids_sr.spatial.output_grids import PlacedGrid
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.inference.apply_to_series import write_series
from bids_sr.sr.variance.in_reference import ReferenceUpsampler
from bids_sr.sr.variance.prior import Prior
from bids_sr.sr.variance.upsampler import VarianceUpsampler, _widths_of

SHAPE, FACTOR, VOLUMES = (20, 18, 3), (2.0, 2.0, 1.0), 9
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])


@pytest.fixture
def prior():
    window = window_of(SHAPE, FACTOR)
    maps = torch.cat([drawn(1, 2, *sizes(window)).abs() + 0.2, 0.5 * drawn(2, 4, *sizes(window))])
    return Prior(window=window, weight=maps, fwhm=_widths_of(maps, (3.0, 1.5)), noise=0.5)


@pytest.fixture
def series(prior, tmp_path):
    generator = torch.Generator().manual_seed(0)
    data = np.stack(
        [500 + np.moveaxis(prior.draw(generator).numpy(), 0, 2) for _ in range(VOLUMES)], -1
    )
    save_image(data.astype(np.float32), AFFINE, tmp_path / "run.nii", tr=2.0)
    return data


def written(prior, tmp_path, poses, name="fine.nii", upsampler=None, **given):
    upsampler = upsampler or ReferenceUpsampler(prior, AFFINE, FACTOR, **given.pop("made", {}))
    with SeriesReader(tmp_path / "run.nii") as reader:
        write_series(
            reader, tmp_path / name, upsampler, poses, AFFINE, factor=FACTOR, tr=2.0, **given
        )
    return load_image(tmp_path / name)[0]


def still():
    return np.tile(np.eye(4), (VOLUMES, 1, 1))


def test_it_is_what_each_volume_gives_by_itself(prior, series, tmp_path):
    at_once = written(prior, tmp_path, still())
    assert {path.name for path in tmp_path.iterdir()} == {"run.nii", "fine.nii"}, (
        "what is added has no name"
    )
    slow = VarianceUpsampler(
        weight=prior.weight,
        noise=prior.noise,
        fwhm=prior.fwhm,
        mean=np.median(series, -1),
        mask=np.ones(SHAPE),
        affine=AFFINE,
        factor=FACTOR,
    )
    one_by_one = written(prior, tmp_path, still(), "slow.nii", upsampler=slow)
    change = np.abs(one_by_one - one_by_one.mean(-1, keepdims=True)).max()
    assert np.abs(at_once - one_by_one).max() < 0.1 * change
    assert np.corrcoef(at_once.ravel(), one_by_one.ravel())[0, 1] > 0.999
    assert max(inconsistency(at_once[..., t], series[..., t]) for t in range(VOLUMES)) < 1e-4


def test_a_moved_head_is_put_back(prior, series, tmp_path):
    """Volumes of a head that moves by whole acquired voxels give the same series, away from the
    edges.
    """
    at_rest = written(prior, tmp_path, still())
    poses, moved = still(), series.copy()
    for t in range(VOLUMES):
        if t % 2:
            moved[..., t] = np.roll(series[..., t], 1, axis=0)
            poses[t][0, 3] = 3.0
    save_image(moved.astype(np.float32), AFFINE, tmp_path / "run.nii", tr=2.0)
    found = written(prior, tmp_path, poses, "moved.nii")
    inside = (slice(6, -6), slice(6, -6))
    assert np.abs(found - at_rest)[inside].max() < 0.02 * np.ptp(at_rest[inside])


def test_a_constant_and_another_space_get_what_is_added(prior, series, tmp_path):
    shape, affine = hr_grid(SHAPE, AFFINE, FACTOR)
    constant = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    plain = written(prior, tmp_path, still())
    points = np.argwhere(np.ones(shape, bool)) @ affine[:3, :3].T + affine[:3, 3]
    own = PlacedGrid(
        entities={},
        shape=shape,
        affine=affine,
        inside=np.ones(shape, bool),
        points=points.astype(np.float32),
    )
    elsewhere = {tmp_path / "space.nii": own}
    more = written(
        prior, tmp_path, still(), "more.nii", made={"constant": constant}, elsewhere=elsewhere
    )
    np.testing.assert_allclose(more, plain + constant[..., None], atol=2e-3)
    np.testing.assert_allclose(load_image(tmp_path / "space.nii")[0], more, atol=0.02)
