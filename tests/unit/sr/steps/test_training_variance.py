"""Test the estimation of prior SD maps of a run, and their use."""

import json
from dataclasses import fields
from functools import wraps
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from checking import inconsistency
from data.short_run import COUNT, DUMMIES, FACTOR, FINE, make_run
from scipy.ndimage import gaussian_filter

from bids_sr.evaluation.steps.self_test_rows import gather_self_tests
from bids_sr.io.nifti import SeriesReader, load_image, save_image
from bids_sr.io.notices import UsageError
from bids_sr.io.volume import Volume
from bids_sr.preproc.steps.aligned_series import AlignedSeries, PosedBrain
from bids_sr.spatial.itk_files import read_itk
from bids_sr.spatial.output_grids import OutputGrid
from bids_sr.sr.models.model import load_model, save_model
from bids_sr.sr.models.request import ModelSettings
from bids_sr.sr.operators import level_above, to_slices
from bids_sr.sr.recipe_changes import RecipeChange
from bids_sr.sr.steps.super_resolution import Guide, Inference, super_resolve
from bids_sr.sr.steps.training import estimate_variance

METHODS = ("sbl", "sdmod")
SHAPE = (62, 58, 5)  # twice an odd matrix


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Write a run whose head drifts and fluctuates along folds, with a high-resolution image."""
    return make_run(tmp_path_factory.mktemp("files"), SHAPE)


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
    run = {name: others.pop(name) for name in ("factor", "outliers") if name in others}
    training = ModelSettings(**({"method": method, "sloppy": True} | options))
    with SeriesReader(folder_in / bold) as preproc:
        posed = PosedBrain(bold_mask=load_mask(folder_in), hmc_xfms=hmc_xfms, **run)
        return estimate_variance(preproc, posed, here=folder, training=training, **others)


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
            hmc_xfms=read_itk(files / "hmc.txt")[: stc.shape[3]],
            factor=options.pop("factor", FACTOR),
        )
        result = super_resolve(
            aligned,
            None if estimation is None else estimation.model_file,
            guide=guide if static else None,
            here=folder,
            series_name=series,
            inference=Inference(**settings),
            **options,
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
    assert estimation.weight.data.shape == SHAPE
    np.testing.assert_allclose(estimation.weight.affine, FINE, atol=1e-5)
    maps = load_model(estimation.model_file).generator.weight.numpy()
    np.testing.assert_allclose(
        estimation.weight.data, np.moveaxis(np.sqrt((maps**2).sum(0)), 0, 2), rtol=1e-5
    )


def test_series_are_tested_at_half_the_resolution_or_have_a_reason(files, tmp_path, estimation):
    tested = estimate(files, tmp_path / "own", interpolations=("bspline",)).self_tests
    tested_control = estimate(files, tmp_path / "control", "sdmod").self_tests
    assert tested["sbl"] == estimation.self_tests["sbl"]
    assert tested["sbl"]["share"] == card_of(estimation)["held_out"]["explained_over_zerofill"]
    rows, summary = gather_self_tests(
        [tested, tested_control],
        series_names=["bspline", "sdmod", "inject", "srgan", "sbl"],
        network_names=["srgan"],
        voxel=(6.00000013, 5.9999998, 4.0),
        factor=FACTOR,
    )
    assert (summary["from_mm"], summary["to_mm"]) == ([12.0, 12.0, 4.0], [6.0, 6.0, 4.0])
    assert summary["calibrated"] is False
    for name in ("srgan", "inject"):
        assert set(summary["series"][name]) == {"reason"}
    rows = {row.series: row for row in rows}
    assert set(rows) == {"bspline", "sdmod", "sbl"}
    # the map is that of the run, and B-spline adds nothing
    assert rows["sbl"].value > max(rows["bspline"].value, 0)
    for name, row in rows.items():
        entry = summary["series"][name]
        assert (row.statistic, row.region, row.n) == (
            "tested_share",
            "brain",
            summary["stretches"],
        )
        assert (row.value, row.lower, row.upper) == tuple(
            entry[key] for key in ("share", "lower", "upper")
        )
        assert row.lower < row.value < row.upper


def test_known_head_motion_is_regressed_out(files, tmp_path, estimation):
    card = card_of(estimate(files, tmp_path / "node", hmc_xfms=read_itk(files / "hmc.txt")))
    assert set(card["data_sha256"]) == {"series", "mask", "nuisance"}
    assert card["data_sha256"]["series"] == card_of(estimation)["data_sha256"]["series"]


@pytest.mark.parametrize(
    ("method", "n_volumes", "has_signal"),
    [("sbl", 22, True), ("sbl", 5, True), ("sdmod", 5, True), ("sbl", 44, False)],
)
def test_short_runs_and_noise_are_zero_filled_with_a_reason(
    files, tmp_path, method, n_volumes, has_signal
):
    bold = nib.load(files / "bold.nii")
    values = data(files / "bold.nii")[..., :n_volumes]
    if not has_signal:
        values = 1000 + np.random.default_rng(1).normal(0, 10, values.shape).astype(np.float32)
    path = tmp_path / "bold.nii"
    save_image(values, bold.affine, path, tr=2.0)
    estimation = estimate(files, tmp_path / "node", method, bold=path)
    card = card_of(estimation)
    assert card["applied"] is False
    assert card["held_out"]["model"].startswith("zero filling: ")
    assert ("volumes" in card["held_out"]["model"]) == has_signal
    if has_signal:
        assert not estimation.weight.data.any()
    series = data(resolve(files, tmp_path / "series", estimation, method, bold=path))
    expected = zerofilled(files, tmp_path / "zerofill", bold=path)
    np.testing.assert_allclose(series, expected, atol=2e-6 * series.max())


@pytest.mark.parametrize("method", METHODS)
def test_a_series_has_the_right_grid_and_is_consistent_with_the_data(files, tmp_path, method):
    estimation = estimate(files, tmp_path / "node", method)
    assert card_of(estimation)["applied"]
    path = resolve(files, tmp_path / "series", estimation, method)
    image = nib.load(path)
    assert image.shape == (*SHAPE, COUNT)
    np.testing.assert_allclose(image.affine, FINE, atol=1e-5)
    # The first volume has no motion to correct.
    assert inconsistency(data(path)[..., 0], data(files / "bold.nii")[..., 0]) < 1e-5
    zero_filled_series = zerofilled(files, tmp_path / "zerofill")
    assert np.abs(np.asarray(image.dataobj) - zero_filled_series)[..., DUMMIES:].std() > 0.3


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


def test_a_single_slice_is_sufficient(files, tmp_path):
    for name in ("bold.nii", "boldref.nii", "mask.nii"):
        image = nib.load(files / name)
        save_image(np.asarray(image.dataobj)[:, :, 2:3], image.affine, tmp_path / name, tr=2.0)
    estimation = estimate(files, tmp_path / "node", folder_in=tmp_path)
    assert card_of(estimation)["applied"]
    path = resolve(files, tmp_path / "series", estimation, folder_in=tmp_path)
    assert nib.load(path).shape == (*SHAPE[:2], 1, COUNT)


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


def test_maps_of_another_run_are_used_but_not_tested_on_this_run(files, tmp_path, estimation):
    """They are resampled to the grid of the run."""
    model = load_model(estimation.model_file)
    half = model.generator.weight[:, :, ::2, ::2].contiguous()
    state = model.generator.state_dict() | {"weight": half}
    half_path = save_model(tmp_path / "half", state, dict(model.card.json))[0]
    options = {"pretrained": half_path, "n_dummy": DUMMIES + 2}
    reused = estimate(files, tmp_path / "node", **options)
    assert set(reused.self_tests["sbl"]) == {"reason"}
    smoothed = [gaussian_filter(found.weight.data, 2) for found in (reused, estimation)]
    assert np.corrcoef(smoothed[0].ravel(), smoothed[1].ravel())[0, 1] > 0.9
    assert resolve(files, tmp_path / "series", reused).exists()


def test_maps_of_another_factor_or_voxel_size_are_rejected(files, tmp_path, estimation):
    """Voxel sizes may differ by half."""
    model = load_model(estimation.model_file)
    for size, is_allowed in ((4.0, True), (6.5, False)):
        card = dict(model.card.json)
        card["resolution"] = {**card["resolution"], "lowres_mm": [size, size, 4.0]}
        other = save_model(tmp_path / f"size{size:g}", model.generator.state_dict(), card)[0]
        if not is_allowed:
            with pytest.raises(UsageError, match=r"50 %"):
                estimate(files, tmp_path / "not", pretrained=other)
        estimate(files, tmp_path / f"fits{size:g}", pretrained=other, force=not is_allowed)
    other_factor = {"factor": (1.5, 1.5, 1.0)}
    with pytest.raises(UsageError, match="factor"):
        estimate(files, tmp_path / "a", pretrained=estimation.model_file, **other_factor)
    with pytest.raises(UsageError, match="factor"):
        resolve(files, tmp_path / "series", estimation, **other_factor)


def test_detail_is_added_in_another_space(files, tmp_path, estimation, series):
    """On the same grid, the series differ only by one more interpolation of the detail."""
    shape = SHAPE
    points = np.argwhere(np.ones(shape, bool)) @ FINE[:3, :3].T + FINE[:3, 3]
    grid = OutputGrid(
        entities={"space": "T1w"},
        shape=shape,
        affine=FINE,
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
