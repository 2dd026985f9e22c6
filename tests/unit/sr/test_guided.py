"""Kernels learned from the run: linear in the change, consistent with the data, better than zero filling where changes
follow what is static, the same bits after a kill, and in the pose of the head."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bids_sr.spatial.nifti import SeriesReader, SeriesWriter, save_image
from bids_sr.spatial.resample import sample_volume
from bids_sr.spatial.transforms import hr_grid, rigid_matrix
from bids_sr.sr import guided_apply, guides, infer, levels, temporal
from bids_sr.sr.card import log_tsv
from bids_sr.sr.guided_train import LowerLevel, TrainingSeries, _box, fit_series, lower_level, relative_error
from bids_sr.sr.loop import TrainingDiverged
from bids_sr.sr.method import get_method
from bids_sr.sr.model import LoadedModel, load_model, save_model
from bids_sr.sr.networks.kernelnet import KernelNet, apply_kernels, offsets

GUIDED = get_method("guided")
FAST = GUIDED.recipes["fast"]
TWO = (2.0, 2.0, 1.0)
AFFINE = np.diag([3.0, 3, 4, 1])
SHORT = replace(FAST, iterations=20, evaluate_every=5, batch=2, components_a_step=4)


def scene(shape=(48, 48, 8), count=24, seed=0):
    """A fine series whose changes happen inside dark tubes only, and the anatomy that shows them: (static, series)."""
    rng = np.random.default_rng(seed)
    x, y, z = np.indices(shape).astype(float)
    dark = np.zeros(shape, bool)
    for _ in range(14):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-20, 20)
        away = (x - shape[0] / 2) * np.cos(angle) + (y - shape[1] / 2) * np.sin(angle) - offset + 0.3 * z
        dark |= np.abs(away) < 0.8
    static = np.where(dark, 60.0, 100.0)
    patches = [np.exp(-(((x - a) ** 2 + (y - b) ** 2) / 128 + (z - c) ** 2 / 8)) for a, b, c in
               rng.uniform((0, 0, 0), shape, (6, 3))]  # fmt: skip
    course = rng.normal(size=(6, count))
    change = sum(p[..., None] * c for p, c in zip(patches, course, strict=True)) * dark[..., None] * 8
    return static, (static[..., None] + change).astype(np.float32)


def acquired(fine, factor=TWO):
    """What a scanner sees of (X, Y, Z[, T]) with a matrix smaller by the factor."""
    shape = tuple(round(n / f) for n, f in zip(fine.shape[:3], factor, strict=True))
    level = levels.Level(shape, fine.shape[:3])
    if fine.ndim == 3:
        return levels.to_volume(level.down(levels.to_slices(fine)))
    return np.stack([acquired(fine[..., t], factor) for t in range(fine.shape[3])], -1)


def statistics_of(series, folder, mask):
    save_image(series, AFFINE, folder / "run.nii", tr=2.0)
    with SeriesReader(folder / "run.nii") as reader:
        return temporal.temporal_statistics(reader, mask)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(data to learn from, fine static, fine series, coarse series)."""
    folder = tmp_path_factory.mktemp("run")
    static, fine = scene()
    coarse = acquired(fine) + np.random.default_rng(1).normal(0, 0.02, (24, 24, 8, 24)).astype(np.float32)
    mask = np.ones(coarse.shape[:3], bool)
    mask[:2] = mask[-2:] = False
    data = TrainingSeries(
        statistics=statistics_of(coarse, folder, mask), mask=mask, affine=AFFINE, factor=TWO,
        guide=static.astype(np.float32), guide_kind="highres",
    )  # fmt: skip
    return data, static, fine, coarse


def fit(data, work_dir, recipe=SHORT, **given):
    return fit_series(GUIDED, recipe, data, **{"recipe_name": "fast", "seed": 3, "work_dir": work_dir} | given)


def restless(ndim=2):
    """A network whose kernels are not zero."""
    torch.manual_seed(0)
    net = KernelNet(width=8, depth=2, ndim=ndim)
    torch.nn.init.normal_(net.head.weight, std=0.1)
    return net.eval().requires_grad_(False)


def upsampler_of(net, data, factor=TWO, **given):
    """Upsampler of a network on the run of some data."""
    fine_affine = hr_grid(data.mask.shape, data.affine, data.factor)[1]
    anatomy = None if data.guide is None else guides.PosedImage(data=data.guide, affine=fine_affine)
    static = guided_apply.Guides(data.statistics, data.mask, data.affine, factor, anatomy)
    return guided_apply.GuidedUpsampler(net, static, **given)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_zero_kernels_at_the_start():
    assert KernelNet()(torch.rand(2, 5, 9, 8)).abs().max() == 0
    assert KernelNet(ndim=3)(torch.rand(1, 5, 4, 9, 8)).shape == (1, 27, 4, 9, 8)


@pytest.mark.parametrize("ndim", [2, 3])
def test_kernels_are_sums_over_neighbors(ndim):
    rng = np.random.default_rng(0)
    grid = (6, 5) if ndim == 2 else (4, 6, 5)
    change, kernels = rng.normal(size=(1, 2, *grid)), rng.normal(size=(1, 3**ndim, *grid))
    found = apply_kernels(torch.from_numpy(change), torch.from_numpy(kernels)).numpy()
    padded = np.pad(change, [(0, 0), (0, 0)] + [(1, 1)] * ndim, mode="edge")
    for _ in range(20):
        at = tuple(rng.integers(0, n) for n in grid)
        wanted = sum(
            kernels[(0, tap, *at)] * padded[(0, 1, *(a + 1 + s for a, s in zip(at, step, strict=True)))]
            for tap, step in enumerate(offsets(ndim))
        )
        assert found[(0, 1, *at)] == pytest.approx(wanted)


def test_the_fast_application_is_the_plain_one():
    image, taps = torch.rand(3, 9, 7), torch.rand(9, 3, 9, 7)
    plain = apply_kernels(image[:, None], taps.transpose(0, 1))[:, 0]
    torch.testing.assert_close(guided_apply._applied(image, taps, 2), plain)


@pytest.mark.parametrize("ndim", [2, 3])
def test_nothing_in_nothing_out_and_sums_add_up(run, ndim):
    up = upsampler_of(restless(ndim), run[0])
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(24, 24, 8)).astype(np.float32) for _ in range(2))
    pose = np.eye(4)
    assert up.detail(np.zeros((24, 24, 8), np.float32), pose).abs().max() == 0
    assert up.detail(a, pose).abs().max() > 0.1
    torch.testing.assert_close(
        up.detail(a + 2 * b, pose), up.detail(a, pose) + 2 * up.detail(b, pose), atol=1e-4, rtol=0
    )
    mean = run[0].statistics.mean
    filled = infer.make_upsampler("zerofill", TWO)(mean, pose)
    np.testing.assert_allclose(up(mean, pose), filled, atol=1e-3)


def test_zero_kernels_are_zero_filling(run):
    up = upsampler_of(KernelNet().eval().requires_grad_(False), run[0])
    volume = run[3][..., 3]
    np.testing.assert_allclose(
        up(volume, np.eye(4)), infer.make_upsampler("zerofill", TWO)(volume, np.eye(4)), atol=1e-3
    )


def test_what_was_measured_comes_back_in_any_pose(run):
    up = upsampler_of(restless(), run[0])
    for angle in (0.0, 0.02, 0.1):
        pose = rigid_matrix([0.3, -0.2, 0.1, angle, 0, angle], np.array([36.0, 36, 16]))
        fine = up(run[3][..., 2], pose)
        assert infer.inconsistency(fine, run[3][..., 2]) < 1e-5


def test_the_loss_of_zero_filling_is_one():
    source, target = torch.rand(2, 3, 6, 5), torch.rand(2, 3, 6, 5)
    assert float(relative_error(source, source, target, torch.ones(2, 1, 6, 5))) == pytest.approx(1)
    half = source + 0.5 * (target - source)
    assert float(relative_error(half, source, target, torch.ones(2, 1, 6, 5))) == pytest.approx(0.25)


def test_weight_confines_the_loss():
    source, target = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    weight = torch.zeros(1, 1, 4, 4)
    weight[..., :2] = 1
    output = torch.where(weight > 0, 1.0, 7.0)
    assert float(relative_error(output, source, target, weight)) == 0


def test_the_level_below_is_built_as_the_level_above(run):
    data = run[0]
    level = lower_level(data, 40)
    assert isinstance(level, LowerLevel)
    step, _ = levels.level_below((24, 24, 8), TWO)
    box = _box(levels.to_slices(data.mask))
    first = levels.to_slices(data.statistics.components[0]) / data.statistics.sd_unit(data.mask)
    torch.testing.assert_close(level.target[0], first[(..., *box)])
    torch.testing.assert_close(level.source[0], step.up(step.down(first))[(..., *box)])
    static = levels.level_above((24, 24, 8), TWO).down(levels.to_slices(data.guide)) / data.static_unit
    torch.testing.assert_close(level.guides[0], static[(..., *box)])


def test_without_a_guide_the_anatomy_has_no_detail_of_its_own(run):
    data = TrainingSeries(
        statistics=run[0].statistics, mask=run[0].mask, affine=AFFINE, factor=TWO, guide=None, guide_kind="none"
    )  # fmt: skip
    assert lower_level(data, 10).guides[2].abs().max() < 1e-5
    up = upsampler_of(restless(), data)
    assert up.guides.channels(np.eye(4))[2].abs().max() < 1e-5


def test_changes_that_follow_dark_tubes_are_found_a_level_up(run, tmp_path):
    data, _, fine, coarse = run
    recipe = replace(FAST, iterations=100, evaluate_every=50, batch=4, components_a_step=6)
    made = fit(data, tmp_path, recipe)
    net = recipe.build_generator(1, TWO)
    net.load_state_dict(dict(made.state))
    up = upsampler_of(net.eval().requires_grad_(False), data)
    truth = fine - fine.mean(-1, keepdims=True)
    mean = coarse.mean(-1)
    plain = infer.make_upsampler("zerofill", TWO)
    inside = np.kron(data.mask, np.ones((2, 2, 1))) > 0
    wrong = {"guided": 0.0, "zerofill": 0.0}
    for t in range(0, 24, 4):
        volume, filled = coarse[..., t], plain(mean, np.eye(4))
        wrong["guided"] += float(((up(volume, np.eye(4)) - filled - truth[..., t])[inside] ** 2).sum())
        wrong["zerofill"] += float(((plain(volume, np.eye(4)) - filled - truth[..., t])[inside] ** 2).sum())
    assert made.card["held_out"]["explained_over_zerofill"] > 0.1
    assert wrong["guided"] < 0.9 * wrong["zerofill"]


@pytest.mark.parametrize("kill_at", [10, 13])
def test_ten_stop_ten_equals_twenty(run, tmp_path, kill_at):
    class Stopped(Exception):
        """Stands for a kill."""

    whole = fit(run[0], tmp_path / "whole")

    def stop(phase, iteration, _total):
        if iteration == kill_at:
            raise Stopped

    with pytest.raises(Stopped):
        fit(run[0], tmp_path / "cut", progress=stop)
    seen = []
    resumed = fit(run[0], tmp_path / "cut", progress=lambda _, iteration, __: seen.append(iteration))
    assert seen[0] == kill_at // 5 * 5 + 1, "it began anew"
    assert same(whole.state, resumed.state)
    assert log_tsv(whole.log) == log_tsv(resumed.log)
    assert whole.card == resumed.card
    assert not same(whole.state, fit(run[0], tmp_path / "other", seed=4).state)


def test_the_clock_stops_it_and_the_card_says_so(run, tmp_path):
    made = fit(run[0], tmp_path, replace(SHORT, iterations=500), max_minutes=1e-6)
    assert not made.card["reproducible"]
    assert "clock" in made.card["not_reproducible_because"]


def test_kernels_that_do_no_good_on_held_out_slices_are_not_kept(run, tmp_path):
    noise = np.random.default_rng(0).normal(size=(12, 24, 24, 8)).astype(np.float32)
    white = temporal.TemporalStatistics(mean=run[0].statistics.mean, sd=np.abs(noise[0]), components=noise)
    made = fit(replace(run[0], statistics=white), tmp_path, replace(SHORT, learning_rate=0.5, schedule="constant"))
    assert made.card["held_out"]["iteration"] == 0
    assert made.card["held_out"]["explained_over_zerofill"] == pytest.approx(0, abs=1e-6)


def test_kernels_that_explain_too_little_are_not_trusted(run, tmp_path):
    recipe = replace(FAST, iterations=100, evaluate_every=50, batch=4, components_a_step=6)
    trusted, other = (fit(run[0], tmp_path / str(k), replace(recipe, least_explained=k)) for k in (0.03, 0.99))
    assert trusted.card["held_out"]["explained_over_zerofill"] == other.card["held_out"]["explained_over_zerofill"]
    assert "zero filling" in other.card["held_out"]["model"]
    assert "zero filling" not in trusted.card["held_out"]["model"]
    net = recipe.build_generator(1, TWO)
    moved = []
    for made in (trusted, other):
        net.load_state_dict(dict(made.state))
        up = upsampler_of(net.eval().requires_grad_(False), run[0])
        volume, plain = run[3][..., 5], infer.make_upsampler("zerofill", TWO)
        moved.append(float(np.abs(up(volume, np.eye(4)) - plain(volume, np.eye(4))).max()))
    assert moved[0] > 1e-3
    assert moved[1] < 1e-6 * np.abs(run[3]).max()  # rounding of single precision, which differs between processors


def test_a_loss_that_is_no_number_stops(run, tmp_path):
    with pytest.raises(TrainingDiverged, match="no longer a number"):
        fit(run[0], tmp_path, replace(SHORT, learning_rate=float("inf"), schedule="constant"))


def test_data_that_do_not_belong_together_are_refused(run):
    data = run[0]
    for wrong, text in (
        ({"mask": np.ones((3, 3, 3))}, "not on the grid"), ({"mask": np.zeros((24, 24, 8))}, "empty"),
        ({"guide": None}, "is missing"), ({"guide": np.ones((4, 4, 4))}, "fine grid"),
        ({"guide": np.ones((48, 48, 8))}, "constant"),
    ):  # fmt: skip
        with pytest.raises(temporal.SeriesError, match=text):
            replace(data, **wrong)


def test_kernels_go_with_the_head(run):
    """Detail made in another pose and carried back is that of the unmoved head; kernels left behind give another."""
    data, core = run[0], (slice(8, 40), slice(8, 40), slice(2, 6))
    shape, grid = hr_grid((24, 24, 8), AFFINE, TWO)
    net = restless()
    change = 20 * guided_blob((24, 24, 8))
    still, moving = upsampler_of(net, data), upsampler_of(net, data)
    left_behind = upsampler_of(net, data, tolerance=np.inf)
    left_behind.anchor(np.eye(4))
    wanted = np.moveaxis(still.detail(change, np.eye(4)).numpy(), 0, 2)[core].ravel()
    for step in (0.0, 1.3, 2.6):
        pose = rigid_matrix([step, -step, 0, 0, 0, 0.01 * step], np.array([36.0, 36, 16]))
        seen = sample_volume(change, AFFINE, (24, 24, 8), AFFINE, np.linalg.inv(pose))

        def carried_back(up, seen=seen, pose=pose):
            detail = np.ascontiguousarray(levels.to_volume(up.detail(seen, pose)))
            return np.corrcoef(sample_volume(detail, grid, shape, grid, pose)[core].ravel(), wanted)[0, 1]

        assert carried_back(moving) > (0.7 if step else 0.9999)
        if step:
            assert carried_back(left_behind) < carried_back(moving) - 0.5
    assert moving.anchors == 3


def guided_blob(shape):
    x, y, z = (g - n / 2 for g, n in zip(np.indices(shape), shape, strict=True))
    return np.exp(-(x**2 + y**2) / 18 - z**2 / 8).astype(np.float32)


def test_between_poses_the_mean_follows_its_gradient(run):
    data = run[0]
    smooth = 1000 * guided_blob((24, 24, 8))
    smooth_run = temporal.TemporalStatistics(mean=smooth, sd=data.statistics.sd, components=data.statistics.components)
    up = upsampler_of(restless(), replace(data, statistics=smooth_run))
    up.change(smooth, np.eye(4))
    pose = rigid_matrix([0.2, -0.1, 0.1, 0.002, 0, 0.003], np.array([36.0, 36, 16]))
    volume = sample_volume(smooth, AFFINE, smooth.shape, AFFINE, np.linalg.inv(pose))
    assert up.moved(pose) < guided_apply.TOLERANCE
    left = np.abs(up.change(volume, pose))[2:-2, 2:-2, 1:-1].max()
    assert up.anchors == 1
    assert left < 0.03 * np.abs(volume - smooth).max()


def test_the_constant_is_added_after_the_interpolation(run, tmp_path):
    data, _, _, coarse = run
    shape, grid = hr_grid((24, 24, 8), AFFINE, TWO)
    constant = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    poses = np.stack([rigid_matrix([0.4 * t, 0, 0, 0, 0, 0], np.zeros(3)) for t in range(3)])
    outs = []
    for name, given in (("without", None), ("with", constant)):
        up = upsampler_of(restless(), data, constant=given)
        save_image(coarse[..., :3], AFFINE, tmp_path / "in.nii", tr=2.0)
        with SeriesReader(tmp_path / "in.nii") as reader, \
             SeriesWriter(tmp_path / f"{name}.nii", (*shape, 3), grid, 2.0) as writer:  # fmt: skip
            off = infer.super_resolve_series(reader, writer, up, poses, shape, grid, factor=TWO)
        assert off.max() < 1e-5
        with SeriesReader(tmp_path / f"{name}.nii") as reader:
            outs.append(reader.volume(2))
    np.testing.assert_allclose(outs[1] - outs[0], constant, atol=1e-3)


def test_kernel_maps_of_known_kernels():
    taps = torch.zeros(9, 1, 1, 3)
    at = {step: tap for tap, step in enumerate(offsets(2))}
    for step in ((0, -1), (0, 1)):  # averages along the second axis
        taps[at[step], 0, 0, 0] = 0.25
    for step in ((-1, 0), (1, 0), (0, -1), (0, 1)):  # sharpens alike in all directions
        taps[at[step], 0, 0, 1] = -0.25
    for step in ((-1, -1), (1, 1)):  # averages along a diagonal
        taps[at[step], 0, 0, 2] = 0.1
    maps = guided_apply.kernel_maps(taps)
    assert maps.shape == (1, 3, 1, 4)
    np.testing.assert_allclose(maps[0, 0, 0], [-0.25, 0.25, -1, 0], atol=1e-6)
    np.testing.assert_allclose(maps[0, 1, 0, :2], [0.5, 0], atol=1e-6)
    np.testing.assert_allclose(maps[0, 2, 0], [-0.2, 0.2, 0, 1], atol=1e-6)


def test_a_guide_with_small_voxels_is_smoothed_by_what_it_lacks():
    data = np.zeros((41, 41, 41), np.float32)
    data[20, 20, 20] = 1
    made = guides.smooth_for(data, np.eye(4), np.eye(4), np.diag([2.0, 1, 4, 1]))
    spread = [np.sqrt((made.sum(tuple(a for a in range(3) if a != axis)) * (np.arange(41) - 20) ** 2).sum())
              for axis in range(3)]  # fmt: skip
    wanted = np.sqrt(np.array([2.0, 1, 4]) ** 2 - 1) / 2.3548
    np.testing.assert_allclose(spread, wanted, rtol=0.05, atol=1e-6)


def test_a_model_of_another_guide_is_refused(run, tmp_path):
    made = fit(run[0], tmp_path / "work", replace(SHORT, iterations=2, evaluate_every=1))
    model = load_model(save_model(tmp_path / "model", made.state, made.card)[0])
    assert isinstance(model, LoadedModel)
    common = {"affine": AFFINE, "model": model, "statistics": run[0].statistics, "mask": run[0].mask}
    with pytest.raises(infer.InferenceError, match="highres"):
        infer.make_upsampler("guided", TWO, **common)
    with pytest.raises(infer.InferenceError, match="components"):
        infer.make_upsampler("guided", TWO, model=model, affine=AFFINE)
    guide = guides.PosedImage(data=run[0].guide, affine=hr_grid((24, 24, 8), AFFINE, TWO)[1])
    up = infer.make_upsampler("guided", TWO, guide=guide, gain=2.0, **common)
    level = levels.level_above((24, 24, 8), TWO)
    assert level.down(levels.to_slices(up.constant)).abs().max() < 1e-2
    assert np.abs(up.constant).max() > 1


def test_kernels_are_made_again_only_where_the_head_is_new(run):
    up = upsampler_of(restless(), run[0])
    for step in (0.0, 0.1, 2.0, 0.1, 2.1, 0.0, 4.0, 6.0, 8.0):
        up.anchor(rigid_matrix([step, 0, 0, 0, 0, 0], np.zeros(3)))
    assert up.anchors == 5
    up.anchor(rigid_matrix([2.0, 0, 0, 0, 0, 0], np.zeros(3)))
    assert up.anchors == 6, "more are kept than memory was promised for"
