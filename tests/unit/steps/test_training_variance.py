"""Test the estimation of prior SD maps of a run, and their use."""

import json
from dataclasses import fields
from functools import wraps
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from checking import inconsistency
from data.short_names import against_of, measure_of
from scipy.ndimage import gaussian_filter

from bids_sr.io.nifti import SeriesReader, load_image, save_image
from bids_sr.io.volume import Volume
from bids_sr.notices import UsageError
from bids_sr.spatial.output_grids import OutputGrid
from bids_sr.sr.matrices import kspace_crop
from bids_sr.sr.models.model import load_model, save_model
from bids_sr.sr.models.request import ModelSettings
from bids_sr.sr.operators import level_above, to_slices
from bids_sr.sr.prior_maps.add_detail import _displace
from bids_sr.sr.recipe_changes import RecipeChange
from bids_sr.steps import training
from bids_sr.steps.self_test import gather_self_tests
from bids_sr.steps.super_resolution import AlignedSeries, Guide, Inference, super_resolve
from bids_sr.steps.training import estimate_variance

FACTOR = (2.0, 2.0, 1.0)
COUNT = 44
DUMMIES = 2
HIGH_AFFINE = np.diag([-1.5, 1.5, 4, 1.0])
METHODS = ("sbl", "sdmod")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Write a run with an odd matrix, whose head drifts and fluctuates along folds, its mask,
    boldref and transforms, and a high-resolution image.
    """
    folder = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    x, y, _ = np.indices((62, 58, 5), dtype=float)
    head = ((x - 26) / 23) ** 2 + ((y - 28) / 25) ** 2 < 1
    anatomy = (head * (500 + 500 * rng.random(head.shape))).astype(np.float32)
    folds = head * (np.abs(np.sin(x / 3.1 + 0.8 * np.sin(y / 7))) > 0.85) * (1 + (x > 30))
    white = rng.standard_normal((12, *head.shape))
    modes = (
        60
        * folds
        * gaussian_filter(white, (0, 1.5, 1.5, 0))
        / gaussian_filter(white, (0, 1.5, 1.5, 0)).std()
    )
    time_courses = rng.standard_normal((COUNT, 12))
    lowres, affine = kspace_crop(anatomy, HIGH_AFFINE, factor=FACTOR)
    bold = np.stack(
        [
            1.5
            * kspace_crop(anatomy + np.tensordot(weights, modes, 1), HIGH_AFFINE, factor=FACTOR)[0]
            + rng.normal(0, 0.5, lowres.shape)
            for weights in time_courses
        ],
        -1,
    ).astype(np.float32)
    bold[..., :DUMMIES] *= 1.3
    poses = np.repeat(np.eye(4)[None], COUNT, 0)
    poses[:, 0, 3] = 0.03 * np.arange(COUNT)
    save_image(anatomy, HIGH_AFFINE, folder / "fine.nii")
    save_image(head[::2, ::2].astype(np.uint8), affine, folder / "mask.nii", dtype=np.uint8)
    save_image(bold, affine, folder / "bold.nii", tr=2.0)
    save_image(bold, affine, folder / "bold.nii.gz", tr=2.0)
    save_image(bold[..., : DUMMIES + 20], affine, folder / "short.nii", tr=2.0)
    save_image(bold[..., DUMMIES:].mean(-1), affine, folder / "boldref.nii")
    np.save(folder / "hmc.npy", poses)
    return folder


def volume(path):
    return Volume(*load_image(path))


def load_mask(files):
    image = volume(files / "mask.nii")
    return image.like(image.data > 0.5)


def card_of(estimation):
    """Return the model card, which the step has written to a file."""
    return json.loads(estimation.card_file.read_text())


def estimate(
    files, folder, method="sbl", *, bold="bold.nii", folder_in=None, hmc_xfms=None, **options
):
    """Run a sloppy estimation in a folder and return its results."""
    folder.mkdir(exist_ok=True)
    folder_in = folder_in or files
    names = {"factor", "n_dummy", "interpolations", "outliers", "calibration"}
    others = {"factor": FACTOR, "n_dummy": DUMMIES}
    others |= {name: options.pop(name) for name in names & options.keys()}
    training = ModelSettings(**({"method": method, "sloppy": True} | options))
    with SeriesReader(folder_in / bold) as preproc:
        return estimate_variance(
            preproc, load_mask(folder_in), hmc_xfms, here=folder, training=training, **others
        )


def resolve(
    files,
    folder,
    estimation,
    series="sbl",
    *,
    static=False,
    bold="bold.nii",
    folder_in=None,
    **options,
):
    """Return the path of the series in a folder."""
    folder.mkdir(exist_ok=True)
    folder_in = folder_in or files
    names = {item.name for item in fields(Inference)}
    settings = {name: options.pop(name) for name in names & options.keys()}
    guide = Guide(highres_file=files / "fine.nii", highres2boldref_xfm=np.eye(4)[None])
    with SeriesReader(folder_in / bold) as stc:
        aligned = AlignedSeries(
            stc=stc,
            boldref=volume(folder_in / "boldref.nii"),
            bold_mask=load_mask(folder_in),
            hmc_xfms=np.load(files / "hmc.npy")[: stc.shape[3]],
        )
        result = super_resolve(
            aligned,
            None if estimation is None else estimation.model_file,
            guide=guide if static else None,
            here=folder,
            series_name=series,
            inference=Inference(**settings),
            **({"factor": FACTOR} | options),
        )
    return Path(result.series.path)


def zerofilled(files, folder, **options):
    """Return the zero-filled series."""
    return data(resolve(files, folder, None, "zerofill", **options))


def data(path):
    return np.asarray(nib.load(path).dataobj)


def steady(path):
    """Return the series without dummies, minus its mean over time."""
    values = data(path)[..., DUMMIES:].astype(float)
    return values - values.mean(-1, keepdims=True)


@pytest.fixture(scope="module")
def estimation(files, tmp_path_factory):
    return estimate(files, tmp_path_factory.mktemp("found") / "node")


@pytest.fixture(scope="module")
def series(files, estimation, tmp_path_factory):
    return resolve(files, tmp_path_factory.mktemp("series") / "node", estimation)


def test_an_estimation_writes_model_card_log_and_map(files, estimation):
    card = card_of(estimation)
    assert (card["method"], card["trained_on"], card["applied"]) == ("sbl", "series", True)
    assert card["held_out"]["explained_over_zerofill"] > 0.02
    assert set(card["data_sha256"]) == {"series", "mask"}
    assert estimation.log_file.read_text().startswith("phase\titeration\t")
    assert len(estimation.log_file.read_text().splitlines()) == 1 + 2, "a row for each round"
    assert estimation.weight.data.shape == (62, 58, 5)
    np.testing.assert_allclose(estimation.weight.affine, HIGH_AFFINE, atol=1e-5)
    maps = load_model(estimation.model_file).generator.weight.numpy()
    np.testing.assert_allclose(
        estimation.weight.data, np.moveaxis(np.sqrt((maps**2).sum(0)), 0, 2), rtol=1e-5
    )


def test_series_are_tested_at_half_the_resolution_or_have_a_reason(files, tmp_path, estimation):
    tested = estimate(files, tmp_path / "own", interpolations=("bspline",)).self_tests
    tested_control = estimate(files, tmp_path / "control", "sdmod").self_tests
    card = card_of(estimation)
    assert tested["sbl"] == estimation.self_tests["sbl"]
    assert tested["sbl"]["share"] == card["held_out"]["explained_over_zerofill"], (
        "the gate's figure"
    )
    assert tested["sbl"]["lower"] < tested["sbl"]["share"] < tested["sbl"]["upper"]
    rows, summary = gather_self_tests(
        [tested, tested_control],
        series_names=["bspline", "sdmod", "inject", "srgan", "sbl"],
        network_names=["srgan"],
        voxel=(6.00000013, 5.9999998, 4.0),
        factor=FACTOR,
    )
    assert (summary["from_mm"], summary["to_mm"], summary["calibrated"]) == (
        [12.0, 12.0, 4.0],
        [6.0, 6.0, 4.0],
        False,
    )
    assert summary["series"]["srgan"] == {
        "reason": (
            "the network was trained to super-resolve 6 mm data to 3 mm; a self-test from 12 mm to"
            " 6 mm would require a separately trained network"
        )
    }
    assert "is constant over time" in summary["series"]["inject"]["reason"]
    rows = {row.series: row for row in rows}
    assert set(rows) == {"bspline", "sdmod", "sbl"}
    assert rows["sbl"].value > max(rows["bspline"].value, 0), (
        "the map is that of the run, and B-spline adds nothing"
    )
    for name, row in rows.items():
        entry = summary["series"][name]
        assert (measure_of(row), against_of(row), row.region, row.n) == (
            "tested_share",
            "zerofill",
            "brain",
            summary["stretches"],
        )
        assert (row.value, row.lower, row.upper) == tuple(
            entry[key] for key in ("share", "lower", "upper")
        )


def test_maps_of_another_run_are_not_tested_on_this_run(files, tmp_path, estimation):
    estimation_of_another_run = estimate(
        files, tmp_path / "node", pretrained=estimation.model_file, n_dummy=DUMMIES + 2
    )
    assert "another run" in estimation_of_another_run.self_tests["sbl"]["reason"]


def test_known_head_motion_is_regressed_out(files, tmp_path, estimation):
    card = card_of(estimate(files, tmp_path / "node", hmc_xfms=np.load(files / "hmc.npy")))
    assert set(card["data_sha256"]) == {"series", "mask", "nuisance"}
    assert card["data_sha256"]["series"] == card_of(estimation)["data_sha256"]["series"]


@pytest.mark.parametrize("method", METHODS)
def test_a_series_has_the_right_grid_and_is_consistent_with_the_data(files, tmp_path, method):
    estimation = estimate(files, tmp_path / "node", method)
    assert card_of(estimation)["applied"]
    path = resolve(files, tmp_path / "series", estimation, method)
    image = nib.load(path)
    assert image.shape == (62, 58, 5, COUNT)
    np.testing.assert_allclose(image.affine, HIGH_AFFINE, atol=1e-5)
    # The first volume has no motion to correct.
    assert inconsistency(data(path)[..., 0], data(files / "bold.nii")[..., 0]) < 1e-5
    zero_filled_series = zerofilled(files, tmp_path / "zerofill")
    assert np.abs(np.asarray(image.dataobj) - zero_filled_series)[..., DUMMIES:].std() > 0.3


def test_a_network_without_prior_sd_maps_is_rejected_by_name(files, tmp_path):
    with pytest.raises(ValueError, match="srgan does not use prior SD maps"):
        estimate(files, tmp_path / "node", "srgan")


@pytest.mark.parametrize("displace", ["mirror", "shift"])
def test_displaced_maps_give_another_series(files, tmp_path, estimation, series, displace):
    displaced_path = resolve(files, tmp_path / "series", estimation, placebo=displace)
    change, displaced_change, zero_filled_series = (
        steady(series),
        steady(displaced_path),
        zerofilled(files, tmp_path / "zerofill"),
    )
    zero_filled_series = zero_filled_series[..., DUMMIES:] - zero_filled_series[
        ..., DUMMIES:
    ].mean(-1, keepdims=True)
    detail, displaced_detail = change - zero_filled_series, displaced_change - zero_filled_series
    assert displaced_detail.std() > 0.2 * detail.std(), (
        "a placebo that adds nothing is beaten by anything"
    )
    assert np.corrcoef(detail.ravel(), displaced_detail.ravel())[0, 1] < 0.7
    assert inconsistency(data(displaced_path)[..., 0], data(files / "bold.nii")[..., 0]) < 1e-5


@pytest.mark.parametrize(("affine", "axis"), [(HIGH_AFFINE, 2), (HIGH_AFFINE[[1, 0, 2, 3]], 3)])
def test_a_mirrored_map_stays_on_an_off_center_head(affine, axis):
    weight = torch.zeros(2, 3, 30, 26)
    weight[:, :, 2:18, 1:17] = 1 + torch.rand(2, 3, 16, 16)
    mirrored = _displace(weight, "mirror", affine, FACTOR)
    head = weight > 0
    assert float((mirrored[head] > 0).float().mean()) > 0.9, "it was taken off the head"
    assert not torch.equal(mirrored, weight)
    # Values move along this axis only.
    torch.testing.assert_close(mirrored.sum(axis), weight.sum(axis))
    assert torch.equal(_displace(mirrored, "mirror", affine, FACTOR), weight)
    zeros = torch.zeros_like(weight)
    assert torch.equal(_displace(zeros, "mirror", affine, FACTOR), zeros)


def test_static_detail_is_only_added_with_a_high_resolution_image(
    files, tmp_path, estimation, series
):
    with_detail, without_detail = (
        resolve(files, tmp_path / "series", estimation, static=True),
        series,
    )
    beyond = level_above((31, 29, 5), FACTOR).select_above_nyquist
    frames = {}
    for name, path in (("with", with_detail), ("without", without_detail)):
        frames[name] = beyond(to_slices(data(path)[..., DUMMIES:].mean(-1))).numpy().ravel()
    high_res_detail = beyond(to_slices(data(files / "fine.nii"))).numpy().ravel()
    assert np.corrcoef(frames["with"], high_res_detail)[0, 1] > 0.8
    assert np.corrcoef(frames["without"], high_res_detail)[0, 1] < 0.5
    # Static detail is a single image.
    np.testing.assert_allclose(steady(with_detail), steady(without_detail), atol=1e-2)


def test_a_run_with_too_few_volumes_is_zero_filled(files, tmp_path):
    estimation = estimate(files, tmp_path / "node", bold="short.nii")
    card = card_of(estimation)
    assert not card["applied"]
    reason = card["held_out"]["model"]
    assert reason.startswith("zero filling: the run has too few volumes")
    assert "noise" in reason
    assert not estimation.weight.data.any()
    series = data(resolve(files, tmp_path / "series", estimation, bold="short.nii"))
    zero_filled_series = zerofilled(files, tmp_path / "zerofill", bold="short.nii")
    np.testing.assert_allclose(series, zero_filled_series, atol=2e-6 * series.max())


@pytest.mark.parametrize("method", ["sbl", "sdmod"])
def test_a_run_of_five_volumes_has_no_prior_sd_map(files, tmp_path, method):
    bold = nib.load(files / "bold.nii")
    save_image(np.asarray(bold.dataobj)[..., :5], bold.affine, tmp_path / "five.nii", tr=2.0)
    estimation = estimate(files, tmp_path / "node", method, bold=tmp_path / "five.nii", n_dummy=0)
    card = card_of(estimation)
    assert (card["applied"], card["held_out"]["model"]) == (
        False,
        "zero filling: the run has too few volumes to estimate signal variance",
    )
    assert not estimation.weight.data.any()


def test_noise_is_zero_filled(files, tmp_path):
    bold = nib.load(files / "bold.nii")
    noise = 1000 + np.random.default_rng(1).normal(0, 10, bold.shape).astype(np.float32)
    save_image(noise, bold.affine, tmp_path / "noise.nii", tr=2.0)
    card = card_of(estimate(files, tmp_path / "node", bold=tmp_path / "noise.nii"))
    assert not card["applied"]
    assert "at least 2% is required" in card["held_out"]["model"]


def test_a_single_slice_is_sufficient(files, tmp_path):
    for name in ("bold.nii", "boldref.nii", "mask.nii"):
        image = nib.load(files / name)
        save_image(np.asarray(image.dataobj)[:, :, 2:3], image.affine, tmp_path / name, tr=2.0)
    estimation = estimate(files, tmp_path / "node", folder_in=tmp_path)
    assert card_of(estimation)["applied"]
    path = resolve(files, tmp_path / "series", estimation, folder_in=tmp_path)
    assert nib.load(path).shape == (62, 58, 1, COUNT)


def test_a_compressed_run_gives_the_same_maps(files, tmp_path, estimation):
    from_compressed = estimate(files, tmp_path / "node", bold="bold.nii.gz")
    assert from_compressed.model_file.read_bytes() == estimation.model_file.read_bytes()
    assert from_compressed.log_file.read_bytes() == estimation.log_file.read_bytes(), (
        "times differ from run to run"
    )
    assert not (tmp_path / "node" / "unpacked.nii").exists()


def test_changed_settings_are_in_the_maps_the_card_and_the_loaded_recipe(
    files, tmp_path, estimation
):
    change = RecipeChange(method="sbl", field="smooth", value=1.5)
    changed = estimate(files, tmp_path / "node", recipe_changes=(change,))
    card = card_of(changed)
    assert (card["settings"]["smooth"], card["changed_settings"]) == (1.5, {"smooth": 1.5})
    assert "changed_settings" not in card_of(estimation)
    assert load_model(changed.model_file).recipe.smooth == 1.5
    assert load_model(estimation.model_file).recipe.smooth == 0.7
    # more smoothing of the ratios gives smoother maps
    roughness = [
        np.abs(np.diff(maps.weight.data, axis=0)).mean() / maps.weight.data.mean()
        for maps in (changed, estimation)
    ]
    assert roughness[0] < 0.97 * roughness[1]


def test_only_maps_of_the_same_run_and_settings_are_reused(
    files, tmp_path, estimation, monkeypatch
):
    from bids_sr.sr.models import model_store

    folder, fits = estimation.model_file.parent, []
    estimate_tested_prior = model_store.estimate_tested_prior

    @wraps(estimate_tested_prior)  # counts as the same code
    def record_fit(*arguments, **options):
        fits.append(1)
        return estimate_tested_prior(*arguments, **options)

    monkeypatch.setattr(model_store, "estimate_tested_prior", record_fit)
    reused = estimate(files, tmp_path / "same", model_dir=folder)
    assert not fits
    assert reused.model_file.read_bytes() == estimation.model_file.read_bytes()
    for name, changes in {
        "seed": {"random_seed": 5},
        "run": {"n_dummy": DUMMIES + 1},
        "method": {"method": "sdmod"},
        "setting": {"recipe_changes": (RecipeChange(method="sbl", field="step", value=0.4),)},
    }.items():
        estimate(files, tmp_path / name, model_dir=folder, **changes)
    assert len(fits) == 4, "another seed, another part of the run, another method or setting"


def test_maps_of_another_run_are_used_if_specified(files, tmp_path, estimation):
    reused = estimate(files, tmp_path / "node", pretrained=estimation.model_file, n_dummy=4)
    assert reused.model_file.read_bytes() == estimation.model_file.read_bytes()
    assert resolve(files, tmp_path / "series", reused).exists()


def test_maps_on_another_grid_are_resampled_to_the_run(files, tmp_path, estimation):
    model = load_model(estimation.model_file)
    half = model.generator.weight[:, :, ::2, ::2].contiguous()
    half_path = save_model(
        tmp_path / "half", model.generator.state_dict() | {"weight": half}, dict(model.card.json)
    )[0]
    resampled = estimate(files, tmp_path / "node", pretrained=half_path)
    resampled_map, original_map = resampled.weight.data, estimation.weight.data
    assert resampled_map.shape == original_map.shape
    assert (
        np.corrcoef(
            gaussian_filter(resampled_map, 2).ravel(), gaussian_filter(original_map, 2).ravel()
        )[0, 1]
        > 0.9
    )
    assert resolve(files, tmp_path / "series", resampled).exists()


def test_maps_of_another_factor_are_rejected(files, tmp_path, estimation):
    with pytest.raises(UsageError, match="factor"):
        estimate(
            files, tmp_path / "factor", pretrained=estimation.model_file, factor=(1.5, 1.5, 1.0)
        )
    with pytest.raises(UsageError, match="factor"):
        resolve(files, tmp_path / "series", estimation, factor=(1.5, 1.5, 1.0))


def test_detail_is_added_to_an_existing_zero_filled_series(files, tmp_path, estimation, series):
    zero_filled_series = zerofilled(files, tmp_path / "zerofill", bold="bold.nii")
    existing = tmp_path / "given.nii"
    save_image(zero_filled_series + 1, HIGH_AFFINE, existing, tr=2.0)
    with SeriesReader(existing) as reader:
        result = data(resolve(files, tmp_path / "series", estimation, zerofilled=reader))
    np.testing.assert_allclose(result, data(series) + 1, atol=0.1)


def test_detail_is_added_in_another_space(files, tmp_path, estimation, series):
    """On the same grid, the series differ only by one more interpolation of the detail."""
    shape = (62, 58, 5)
    points = np.argwhere(np.ones(shape, bool)) @ HIGH_AFFINE[:3, :3].T + HIGH_AFFINE[:3, 3]
    grid = OutputGrid(
        entities={"space": "T1w"},
        shape=shape,
        affine=HIGH_AFFINE,
        inside=np.ones(shape, bool),
        points=points.astype(np.float32),
    )
    resolve(files, tmp_path / "series", estimation, space_grids=[grid])
    (space_path,) = (tmp_path / "series").glob("*space-T1w*.nii")
    in_space, expected = data(space_path), data(series)
    assert np.abs(expected - zerofilled(files, tmp_path / "zerofill")).max() > 5
    inside = in_space != 0  # 0 marks voxels outside the field of view of a volume.
    assert inside.mean() > 0.999
    np.testing.assert_allclose(in_space[inside], expected[inside], atol=2e-3 * expected.max())


def test_voxel_sizes_may_differ_by_half(files, tmp_path, estimation):
    model = load_model(estimation.model_file)
    card = dict(model.card.json)
    for size, is_allowed in ((4.0, True), (6.5, False)):
        card["resolution"] = {**card["resolution"], "lowres_mm": [size, size, 4.0]}
        other_model = save_model(tmp_path / f"size{size:g}", model.generator.state_dict(), card)[0]
        if is_allowed:
            estimate(files, tmp_path / "fits", pretrained=other_model)
        else:
            with pytest.raises(UsageError, match=r"allowed difference: 50 %"):
                estimate(files, tmp_path / "not", pretrained=other_model)
            estimate(files, tmp_path / "forced", pretrained=other_model, force=True)


def test_maps_in_half_precision_give_a_finite_sd_map():
    """Use fluctuations of several hundred signal units, whose squares overflow in half
    precision.
    """
    network = torch.nn.Module()
    network.register_buffer("weight", torch.full((2, 3, 8, 8), 400.0).half())
    data = SimpleNamespace(
        statistics=SimpleNamespace(mean=np.zeros((4, 4, 3))), affine=np.eye(4), factor=FACTOR
    )
    sd_map = training._compute_prior_sd_map(SimpleNamespace(generator=network), data)
    np.testing.assert_allclose(sd_map.data, 400 * 2**0.5, rtol=1e-3)
