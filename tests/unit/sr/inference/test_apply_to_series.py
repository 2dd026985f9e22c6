"""Test inference: identity, one intensity scale per run, upsampling with motion, and guides in the
pose of each volume.
"""

import numpy as np
import pytest
import torch
from checking import inconsistency
from data.known_positions import blob, centroid_mm
from torch import nn

from bids_sr.io.nifti import SeriesReader, SeriesWriter, load_image
from bids_sr.spatial import matrices
from bids_sr.spatial.matrices import downsample, kspace_crop
from bids_sr.spatial.transforms import hr_grid, rigid_matrix
from bids_sr.sr.inference import apply_to_series, guided_baselines, upsamplers
from bids_sr.sr.inference.posed_image import PosedImage
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.method import get_method
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.model import LoadedModel

AFFINE = np.array([[-3.0, 0, 0, 40], [0, 3.0, 0, -30], [0, 0, 3.5, 5], [0, 0, 0, 1.0]])
TWO = (2.0, 2.0, 1.0)
FAST = get_method("dcnet").recipes["fast"]


def untrained(factor=TWO, *, spread=0.0):
    """Return the fast generator; `spread` is the SD of the weights of its last layer."""
    torch.manual_seed(0)
    net = FAST.build_generator(1, factor)
    if spread:
        nn.init.normal_(net.tail.weight, std=spread)
    return LoadedModel(generator=net.eval(), recipe=FAST, card=ModelCard(method="srgan"))


def write_series(path, volumes, affine=AFFINE):
    """Write volumes to a 4D file and return its path."""
    with SeriesWriter(path, (*volumes[0].shape, len(volumes)), affine, 2.0) as writer:
        for volume in volumes:
            writer.append(volume.astype(np.float32))
    return path


def run(tmp_path, volumes, upsampler, xfms, factor=TWO, **options):
    """Return the super-resolved series and its affine."""
    source = write_series(tmp_path / "in.nii", volumes)
    with SeriesReader(source) as reader:
        shape, affine = hr_grid(reader.shape[:3], reader.affine, factor)
        apply_to_series.write_series(
            reader, tmp_path / "out.nii", upsampler, xfms, shape, affine, factor=factor, **options
        )
    return load_image(tmp_path / "out.nii")[0], affine


@pytest.mark.parametrize(("size", "scale"), [((12, 12, 5), 1.0), ((11, 9, 3), 873.13)])
def test_an_identity_network_returns_its_input_exactly(tmp_path, size, scale):
    rng = np.random.default_rng(0)
    volumes = [rng.random(size, dtype=np.float32) * 900 for _ in range(3)]
    model = LoadedModel(generator=nn.Identity(), recipe=FAST, card=ModelCard(method="srgan"))
    upsampler = upsamplers.make_upsampler(
        "dcnet", UpsamplerInputs(factor=(1, 1, 1), scale=scale), model
    )
    out, _ = run(tmp_path, volumes, upsampler, np.repeat(np.eye(4)[None], 3, 0), (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(out, np.stack(volumes, -1))


@pytest.mark.parametrize("size", [(12, 12, 5), (11, 9, 3), (10, 13, 1)])
def test_any_matrix_size_is_accepted_and_slices_are_independent(size):
    model = untrained(spread=0.1)
    upsampler = upsamplers.make_upsampler("dcnet", UpsamplerInputs(factor=TWO, scale=1.0), model)
    volume = np.random.default_rng(0).random(size, dtype=np.float32)
    result = upsampler(volume, np.eye(4))
    assert result.shape == (2 * size[0], 2 * size[1], size[2])
    for z in range(size[2]):
        np.testing.assert_allclose(
            result[..., z], upsampler(volume[..., z : z + 1], np.eye(4))[..., 0], atol=1e-5
        )


def test_the_intensity_scale_is_constant_over_the_run():
    upsampler = upsamplers.make_upsampler(
        "dcnet", UpsamplerInputs(factor=TWO, scale=1000.0), untrained(spread=0.1)
    )
    volume = np.random.default_rng(0).random((12, 12, 4), dtype=np.float32) * 1000
    result, brighter = upsampler(volume, np.eye(4)), upsampler(volume * 1.1, np.eye(4))
    # Networks with PReLUs and biases are not linear: scaling each volume by its own level would
    # make this exact.
    assert np.abs(brighter - 1.1 * result).max() > 1e-2
    scaled_upsampler = upsamplers.make_upsampler(
        "dcnet", UpsamplerInputs(factor=TWO, scale=1100.0), untrained(spread=0.1)
    )
    np.testing.assert_allclose(
        scaled_upsampler(volume * 1.1, np.eye(4)), 1.1 * result, rtol=1e-4, atol=0.05
    )


@pytest.mark.parametrize("name", [*matrices.MATRICES, "dcnet"])
def test_upsampling_with_motion_restores_the_position_of_a_blob(tmp_path, name):
    volume_grid = (22, 24, 16)
    position = AFFINE @ [11.3, 12.1, 7.8, 1]
    model = untrained() if name == "dcnet" else None
    upsampler = upsamplers.make_upsampler(name, UpsamplerInputs(factor=TWO), model)
    xfms, volumes = [], []
    for params in ([0, 0, 0, 0, 0, 0], [2.0, -1.5, 1.0, 0.03, -0.02, 0.04]):
        pose = rigid_matrix(np.array(params), position[:3])
        center = np.linalg.inv(AFFINE) @ pose @ position
        volumes.append(blob(volume_grid, center[:3], (2.2, 2.2, 1.9)))
        xfms.append(pose)
    out, affine = run(tmp_path, volumes, upsampler, np.array(xfms))
    for t in range(2):
        shift = np.linalg.inv(affine)[:3, :3] @ (
            centroid_mm(np.clip(out[..., t], 1e-2, None) - 1e-2, affine) - position[:3]
        )
        assert np.abs(shift).max() < 0.05


def posed_scene(pose):
    """Return (low-resolution volume in pose, high-resolution guide in the pose of the boldref, its
    affine, high-resolution image in pose) of three blobs.
    """
    shape, affine = hr_grid((24, 24, 14), AFFINE, TWO)
    centers = [(20.0, 22.0, 6.0), (27.3, 30.1, 7.4), (30.2, 19.7, 6.6)]
    guide = sum(blob(shape, c, (0.9, 0.9, 1.8)) for c in centers)
    moved = sum(
        blob(shape, (np.linalg.inv(affine) @ pose @ affine @ [*c, 1])[:3], (0.9, 0.9, 1.8))
        for c in centers
    )
    volume, _ = kspace_crop(moved, affine, factor=TWO)
    return volume, guide, affine, moved


def test_the_guide_is_used_in_the_pose_of_the_volume():
    pose = rigid_matrix(np.array([2.5, -1.5, 0, 0, 0, 0.0]), np.zeros(3))
    volume, guide, affine, moved = posed_scene(pose)
    # The high-resolution image was acquired in a third position: boldref point -> high-resolution
    # point.
    to_high_res = rigid_matrix(np.array([6.0, 3.0, 0, 0, 0, 0]), np.zeros(3))
    posed = PosedImage(data=guide, affine=to_high_res @ affine, from_boldref=to_high_res)
    upsampler = upsamplers.make_upsampler(
        "inject", UpsamplerInputs(factor=TWO, affine=AFFINE, guide=posed)
    )
    error = np.abs(upsampler(volume, pose) - moved).max()
    for wrong_pose in (np.eye(4), np.linalg.inv(pose)):
        assert np.abs(upsampler(volume, wrong_pose) - moved).max() > 4 * error
    assert error < 0.05


def test_inject_keeps_the_band_of_the_volume_and_adds_the_detail_of_the_guide():
    rng = np.random.default_rng(0)
    volume, guide = rng.random((8, 10, 3)), rng.random((16, 20, 3))
    result = apply_to_series.enforce_consistency(guide, volume, TWO)
    np.testing.assert_allclose(downsample(result, volume.shape), volume, atol=1e-10)
    low_res, _ = kspace_crop(guide, np.eye(4), factor=TWO)
    np.testing.assert_allclose(
        apply_to_series.enforce_consistency(guide, low_res, TWO), guide, atol=1e-10
    )


def test_ratio_equals_the_guide_without_changes_and_scales_with_changes():
    rng = np.random.default_rng(0)
    mean, guide = 500 + rng.random((8, 8, 3)), rng.random((16, 16, 3)) * 900
    np.testing.assert_allclose(
        guided_baselines.scale_guide(mean, mean, guide, TWO, 500.0), guide, rtol=1e-6
    )
    np.testing.assert_allclose(
        guided_baselines.scale_guide(1.02 * mean, mean, guide, TWO, 500.0), 1.02 * guide, rtol=1e-5
    )


def test_the_gain_of_the_guide_is_constant_over_the_run():
    volume, guide, _, _ = posed_scene(np.eye(4))
    mask = volume > 0.2
    assert guided_baselines.match_gain(guide * 7, volume * 3, mask) == pytest.approx(
        3 / 7, rel=1e-6
    )
    with pytest.raises(ValueError, match="do not overlap"):
        guided_baselines.match_gain(guide * 0, volume, mask)


def test_data_consistency_is_enforced_before_motion_correction(tmp_path):
    rng = np.random.default_rng(0)
    volumes = [rng.random((10, 9, 4)) * 100 for _ in range(2)]
    moves = np.array(
        [rigid_matrix(np.array([0.4 * t, 0, 0, 0, 0, 0.01]), np.zeros(3)) for t in range(2)]
    )
    linear = upsamplers.make_upsampler("linear", UpsamplerInputs(factor=TWO))
    free, _ = run(tmp_path, volumes, linear, moves, consistency="off")
    enforced, _ = run(tmp_path, volumes, linear, moves, consistency="enforce")
    assert np.abs(free - enforced).max() > 1
    high_res = linear(volumes[0], np.eye(4))
    assert inconsistency(high_res, volumes[0]) > 0.05
    assert (
        inconsistency(apply_to_series.enforce_consistency(high_res, volumes[0], TWO), volumes[0])
        < 1e-6
    )


@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        ("dcnet", {}, "dcnet"),
        ("inject", {}, "inject"),
        ("acquired", {}, "acquired"),
        ("dcnet", {"scale": 0.0}, "scale"),
    ],
)
def test_missing_inputs_are_named(name, inputs, message):
    model = untrained() if inputs else None
    with pytest.raises(apply_to_series.InvalidInput, match=message):
        upsamplers.make_upsampler(name, UpsamplerInputs(factor=TWO, **inputs), model)


def test_too_few_transforms_are_an_error_and_write_no_file(tmp_path):
    volumes = [np.ones((6, 6, 2)), np.ones((6, 6, 2))]
    with pytest.raises(apply_to_series.InvalidInput, match="1 transforms for 2 volumes"):
        run(
            tmp_path,
            volumes,
            upsamplers.make_upsampler("linear", UpsamplerInputs(factor=TWO)),
            np.eye(4)[None],
        )
    assert not (tmp_path / "out.nii").exists()


def test_values_that_are_not_finite_stop_the_run(tmp_path):
    infinite = untrained(spread=0.1)
    with torch.no_grad():
        infinite.generator.tail.bias.fill_(float("inf"))
    volumes = [np.random.default_rng(0).random((6, 6, 2))]
    with pytest.raises(apply_to_series.InvalidInput, match="volume 0"):
        run(
            tmp_path,
            volumes,
            upsamplers.make_upsampler("dcnet", UpsamplerInputs(factor=TWO), infinite),
            np.eye(4)[None],
        )
