"""Test the reconstruction error: its maps and regions, and its intervals at half the
resolution.
"""

import json
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from data.known_priors import fluctuation, patchy, prior_of, whole_of
from data.rows import make_tested_rows
from scipy import ndimage, special

from bids_sr.engine.artifacts import Derivative
from bids_sr.engine.metric_rows import MISSING
from bids_sr.evaluation.steps.half_resolution_maps import load_half_resolution_maps
from bids_sr.evaluation.steps.reconstruction_error import (
    check_intervals,
    measure_error,
    scale_by_contrast,
)
from bids_sr.glm.activation_regions import fdr_region
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.region_means import weigh_means
from bids_sr.glm.regressors import Events, Seeds
from bids_sr.glm.steps.linear_models import DesignInputs, LinearModel
from bids_sr.glm.steps.mapped_series import ErrorDraws
from bids_sr.io.nifti import SeriesReader, load_image, save_image
from bids_sr.io.series import map_label
from bids_sr.io.volume import Volume
from bids_sr.preproc.steps.aligned_series import BoldBrain, PosedBrain
from bids_sr.spatial.smoothing import smooth
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.models.model import save_model
from bids_sr.sr.prior_maps.add_detail import Detail
from bids_sr.sr.prior_maps.posterior import effect_scale
from bids_sr.sr.prior_maps.prior import Prior, PriorMaps
from bids_sr.sr.steps.error_samples import ErrorSamples

SHAPE, FACTOR = (14, 12, 3), (2.0, 2.0, 1.0)
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
HIGH_SHAPE, HIGH_AFFINE = hr_grid(SHAPE, AFFINE, FACTOR)
WIDTHS = (0.0, 5.0)
CONTRASTS = {"hand": {"hand": 1.0}, "foot": {"foot": 1.0}}
STATS = ("effect", "variance", "t", "z")


def brain(shape, affine):
    mask = np.ones(shape, bool)
    mask[: shape[0] // 7] = False
    return Volume(mask, affine)


@pytest.fixture(scope="module")
def prior():
    return prior_of(SHAPE, FACTOR, noise=0.01)


@pytest.fixture(scope="module")
def draws(prior, tmp_path_factory):
    folder = tmp_path_factory.mktemp("draws")
    save_image(np.zeros((*HIGH_SHAPE, 9), np.float32), HIGH_AFFINE, folder / "filled.nii", tr=2.0)
    paths = folder / "errors.nii", folder / "seen.nii"
    with SeriesReader(folder / "filled.nii") as reader:
        Detail(source=prior).add(reader, folder / "fine.nii", paths, seed=1)
    return paths


def effects_of(prior, seed):
    """Draw an effect (X, Y, Z) from the prior; return it as acquired and on the high-resolution
    grid.
    """
    truth = 5 * fluctuation(prior, torch.Generator().manual_seed(seed))
    low_res = prior.region.level.downsample(truth)
    return [np.moveaxis(image.numpy(), 0, 2) for image in (low_res, truth)]


def maps_of(series, effects, affine, variance=4.0):
    """Return maps of a linear model at both smoothings, and one map of another kind."""
    derivatives = []
    for width in WIDTHS:
        for name, effect in effects.items():
            noise = np.broadcast_to(np.asarray(variance, np.float32), effect.shape)
            effect = effect * brain(effect.shape, affine).data
            t = effect / np.sqrt(np.where(noise > 0, noise, np.inf))
            values = dict(zip(STATS, (effect, noise, t, t), strict=True)) | {"cc": effect}
            for stat, data in values.items():
                entities = {"contrast": name, "stat": stat, "desc": map_label(series, width)}
                sidecar = {
                    "SourceSeries": series,
                    "SmoothingFWHM": width,
                    "ContrastWeights": CONTRASTS[name],
                    "Units": "percent",
                    "MeanSignal": 500.0,
                }
                content = Volume(np.asarray(data, np.float32), affine)
                derivatives.append(Derivative(content, entities | {"suffix": "statmap"}, sidecar))
    return derivatives


def coverage_rows(**coverage):
    """Return results of the self-test in which the detail of all contrasts is recovered."""
    estimates = ((0.5, 0.1), (0.5, 0.1))
    return [
        row
        for name, value in coverage.items()
        for width in WIDTHS
        for row in make_tested_rows({name: estimates}, coverage=value, fwhm_mm=width)
        if row.threshold == MISSING
    ]


def bold_brain(signal):
    boldref = Volume(np.full(SHAPE, signal, np.float32), AFFINE)
    return BoldBrain(boldref=boldref, bold_mask=brain(SHAPE, AFFINE), factor=FACTOR)


def measure(maps, acquired_maps, draws, folder, rows):
    with SeriesReader(draws[0]) as errors, SeriesReader(draws[1]) as acquired_draws:
        maps_found, table, _ = measure_error(
            maps,
            acquired_maps,
            ErrorDraws(
                series_name="sbl",
                mask=brain(HIGH_SHAPE, HIGH_AFFINE),
                error_draws=errors,
                acquired_draws=acquired_draws,
            ),
            bold_brain(500.0),
            rows,
            here=folder,
            smoothing=WIDTHS,
        )
    return {map_name(map_.entities): map_ for map_ in maps_found}, table


def map_name(entities):
    """Return entities in a fixed order."""
    keys = [key for key in ("contrast", "label", "stat", "desc") if key in entities]
    assert len(keys) == len(entities) - 1
    return "_".join([*(f"{key}-{entities[key]}" for key in keys), entities["suffix"]])


@pytest.fixture(scope="module")
def effects(prior):
    effects_by_name = {name: effects_of(prior, seed) for seed, name in enumerate(CONTRASTS)}
    return [{name: pair[k] for name, pair in effects_by_name.items()} for k in range(2)]


def maps_on_both_grids(effects, **options):
    low_res, high_res = effects
    return (
        maps_of("sbl", high_res, HIGH_AFFINE, **options),
        maps_of("acquired", low_res, AFFINE, **options),
    )


def test_error_maps_are_stored_next_to_the_maps_of_the_model(prior, effects, draws, tmp_path):
    maps, acquired_maps = maps_on_both_grids(effects)
    rows = coverage_rows(hand=0.95, foot=0.95)
    error_maps, table = measure(maps, acquired_maps, draws, tmp_path, rows)
    statmaps = {name for name in error_maps if name.endswith("statmap")}
    assert statmaps == {
        f"contrast-{name}_stat-{stat}_desc-{desc}_statmap"
        for name in CONTRASTS
        for desc, stats in (
            ("sbl", ("sd", "sdTotal", "wrongsign")),
            ("sblFwhm50", ("sd", "sdTotal", "wrongsign", "tTotal", "zTotal")),
        )
        for stat in stats
    }
    assert error_maps.keys() - statmaps == {
        f"label-{name}_desc-{desc}SignReliable_mask"
        for name in CONTRASTS
        for desc in ("sbl", "sblFwhm50")
    }
    mask = brain(HIGH_SHAPE, HIGH_AFFINE).data
    for name, error_map in error_maps.items():
        data = error_map.volume.data
        assert data.shape == HIGH_SHAPE
        assert np.isfinite(data).all()
        assert not data[~mask].any(), name
        np.testing.assert_allclose(error_map.volume.affine, HIGH_AFFINE)
        assert error_map.sidecar["SourceSeries"] == "sbl"
        assert error_map.sidecar["SmoothingFWHM"] == (5.0 if "Fwhm50" in name else 0.0)
        json.dumps(error_map.sidecar)
    sidecar = error_maps["contrast-hand_stat-wrongsign_desc-sbl_statmap"].sidecar
    assert sidecar["ContrastWeights"] == {"hand": 1.0}
    assert sidecar["Units"] == "1"
    assert "not a p value" in sidecar["Description"]
    for stat in ("sd", "sdTotal"):
        sidecar = error_maps[f"contrast-hand_stat-{stat}_desc-sbl_statmap"].sidecar
        assert (sidecar["Units"], sidecar["MeanSignal"]) == ("percent", 500.0)

    # Unsmoothed, the variance is tau^2 of the acquired effect times the mean square of the draws.
    with SeriesReader(draws[0]) as errors, SeriesReader(draws[1]) as acquired_draws:
        unit, power = (
            (load_image(reader.path)[0].astype(float) ** 2).mean(-1)
            for reader in (errors, acquired_draws)
        )
    low_res, high_res = (effect["hand"] for effect in effects)
    low_res_mask = brain(SHAPE, AFFINE).data
    scale = effect_scale(low_res, np.full(SHAPE, 4.0), power, low_res_mask, (3, 3, 4))
    scale = ndimage.zoom(scale, (2, 2, 1), order=1, mode="nearest", grid_mode=True)
    sd = error_maps["contrast-hand_stat-sd_desc-sbl_statmap"].volume.data
    np.testing.assert_allclose(sd, np.where(mask, np.sqrt(scale * unit), 0), atol=1e-3)
    total = error_maps["contrast-hand_stat-sdTotal_desc-sbl_statmap"].volume.data
    np.testing.assert_allclose(total, np.where(mask, np.sqrt(4.0 + sd**2), 0), rtol=1e-6)
    wrong_sign = error_maps["contrast-hand_stat-wrongsign_desc-sbl_statmap"].volume.data
    total_sd = np.sqrt(4 + sd**2)
    expected = np.where(mask, special.ndtr(-np.abs(high_res) / total_sd), 0)
    np.testing.assert_allclose(wrong_sign, expected, atol=1e-5)
    # Smoothed t values include the entire error.
    sd = error_maps["contrast-hand_stat-sd_desc-sblFwhm50_statmap"].volume.data
    total = error_maps["contrast-hand_stat-tTotal_desc-sblFwhm50_statmap"].volume.data
    np.testing.assert_allclose(total, np.where(mask, high_res / np.sqrt(4 + sd**2), 0), atol=1e-4)
    region = error_maps["label-hand_desc-sblFwhm50SignReliable_mask"].volume.data > 0
    np.testing.assert_array_equal(region, fdr_region(total, mask)[0])

    sign_reliable = error_maps["label-hand_desc-sblSignReliable_mask"].volume.data > 0
    active = fdr_region(high_res / 2, mask)[0]
    assert 0 < sign_reliable.sum() < active.sum()
    assert not (sign_reliable & ~active).any()
    assert wrong_sign[sign_reliable].mean() <= 0.05 < wrong_sign[active].mean()
    values = {
        (row.statistic, row.threshold): row.value
        for row in table
        if (row.contrast, row.fwhm_mm) == ("hand", 0.0)
    }
    assert values["voxels", "fdr"] == active.sum()
    assert values["voxels", "signReliable"] == sign_reliable.sum()
    assert values["expected_wrong", "fdr"] == pytest.approx(wrong_sign[active].mean(), rel=1e-4)
    assert values["expected_wrong", "signReliable"] == pytest.approx(
        wrong_sign[sign_reliable].mean(), rel=1e-4
    )
    assert table[: len(rows)] == rows


def test_large_effects_are_listed_for_contrasts_with_recovered_detail(draws, tmp_path):
    """All effects are below 5 %, and only one contrast was tested."""
    effect = np.zeros(SHAPE)
    effect[3:9, 2:6, 1], effect[3:5, 2:6, 1] = 20.0, 40.0
    high_res = np.repeat(np.repeat(effect, 2, axis=0), 2, axis=1) / 10
    effects = [{"hand": effect, "foot": effect}, {"hand": high_res, "foot": high_res}]
    maps, acquired_maps = maps_on_both_grids(effects)
    _, table = measure(maps, acquired_maps, draws, tmp_path, coverage_rows(hand=0.95))
    large = [row for row in table if row.region in ("largeEffect", "otherEffect")]
    assert {(row.contrast, row.fwhm_mm) for row in large} == {("hand", 0.0)}
    values = {(row.region, row.statistic): row.value for row in large}
    assert values["largeEffect", "voxels"] == 0
    assert values["otherEffect", "dark_share"] == 0


def test_the_sign_reliable_region_is_limited_to_active_voxels(draws, tmp_path):
    """Voxels below the threshold are excluded, even if their sign is as certain as in active
    voxels.
    """
    effect = np.full(HIGH_SHAPE, 2.0)
    effect[10:14, 8:14] = 14.0
    maps, acquired_maps = maps_on_both_grids([{"hand": np.zeros(SHAPE)}, {"hand": effect}])
    error_maps, _ = measure(maps, acquired_maps, draws, tmp_path, coverage_rows(hand=0.95))
    region = error_maps["label-hand_desc-sblSignReliable_mask"].volume.data > 0
    np.testing.assert_array_equal(region, effect > 7)


@pytest.mark.parametrize("coverage", [{"hand": 0.89, "foot": 0.9}, {"foot": 0.93}])
def test_without_enough_coverage_there_are_no_masks_of_voxels(effects, draws, tmp_path, coverage):
    """Coverage is too low at half the resolution, or was not tested."""
    maps, acquired_maps = maps_on_both_grids(effects)
    error_maps, table = measure(maps, acquired_maps, draws, tmp_path, coverage_rows(**coverage))
    regions = {name for name in error_maps if name.endswith("mask")}
    assert regions == {
        f"label-foot_desc-{desc}_mask" for desc in ("sblSignReliable", "sblFwhm50SignReliable")
    }
    thresholds = {(row.contrast, row.threshold) for row in table if row.threshold != MISSING}
    assert thresholds == {("hand", "fdr"), ("foot", "fdr"), ("foot", "signReliable")}
    assert "contrast-hand_stat-sd_desc-sbl_statmap" in error_maps


def test_an_effect_below_its_noise_has_a_small_reconstruction_error(effects, draws, tmp_path):
    """The scale is small but above 0, so that almost only noise remains."""
    mask = brain(HIGH_SHAPE, HIGH_AFFINE).data
    maps, acquired_maps = maps_on_both_grids(effects, variance=1e8)
    error_maps, table = measure(
        maps, acquired_maps, draws, tmp_path, coverage_rows(hand=0.95, foot=0.95)
    )
    for name, map_ in error_maps.items():
        assert np.isfinite(map_.volume.data).all()
        if name.endswith("_mask"):
            assert not map_.volume.data.any(), name
        if "_stat-sd_" in name:
            assert map_.volume.data[mask].min() > 0, name
            assert map_.volume.data.max() < 1e-2 * 1e4, name
    wrong_sign = error_maps["contrast-hand_stat-wrongsign_desc-sbl_statmap"].volume.data
    assert wrong_sign[mask].min() > 0.48
    expected = [row.value for row in table if row.statistic == "expected_wrong"]
    assert len(expected) == 8
    assert np.isnan(expected).all()
    sizes = {row.value for row in table if row.statistic == "voxels" and row.threshold != MISSING}
    assert sizes == {0}


def test_constant_voxels_and_contrasts_without_variance_are_finite(effects, draws, tmp_path):
    """Some voxels are constant, and the model does not estimate one contrast."""
    low_res, high_res = (
        {name: np.copy(values) for name, values in effect_maps.items()} for effect_maps in effects
    )
    for effect_maps, part in ((low_res, 5), (high_res, 10)):
        effect_maps["foot"][:] = 0
        effect_maps["hand"][part : part + 2] = 0
    noise = {"hand": [np.full(SHAPE, 4.0), np.full(HIGH_SHAPE, 4.0)]}
    noise["hand"][0][5:7], noise["hand"][1][10:12] = 0, 0
    noise["foot"] = [np.zeros(SHAPE), np.zeros(HIGH_SHAPE)]
    maps, acquired_maps = [], []
    for name, (low_res_noise, high_res_noise) in noise.items():
        maps += maps_of("sbl", {name: high_res[name]}, HIGH_AFFINE, variance=high_res_noise)
        acquired_maps += maps_of("acquired", {name: low_res[name]}, AFFINE, variance=low_res_noise)
    with np.errstate(all="raise", under="ignore"):
        error_maps, table = measure(
            maps, acquired_maps, draws, tmp_path, coverage_rows(hand=0.95, foot=0.95)
        )
    assert all(np.isfinite(map_.volume.data).all() for map_ in error_maps.values())
    foot = {name: map_.volume.data for name, map_ in error_maps.items() if "foot" in name}
    mask = brain(HIGH_SHAPE, HIGH_AFFINE).data
    assert not foot["contrast-foot_stat-sd_desc-sbl_statmap"].any()
    assert (foot["contrast-foot_stat-wrongsign_desc-sbl_statmap"][mask] == 0.5).all()
    assert not foot["contrast-foot_stat-zTotal_desc-sblFwhm50_statmap"].any()
    assert not foot["label-foot_desc-sblSignReliable_mask"].any()
    assert all(not np.isinf(row.value) for row in table)


class Run(NamedTuple):
    bold: np.ndarray
    regressors: Events | Seeds
    contrasts: dict
    confounds: pd.DataFrame | None = None


VOLUMES, LARGE = 60, (24, 22, 2)


def run_of(shape=LARGE, *, strength=60.0, thermal=2.0, seed=0):
    """Return a run whose fluctuations and effects of two conditions follow one prior."""
    x, y, z = shape
    grid = whole_of((x // 2, y // 2, z), FACTOR)
    prior = Prior(region=grid, weight=10 * patchy(grid, 5)[None], fwhm=(3.0,), noise=0.0)
    generator = torch.Generator().manual_seed(seed)
    series = torch.stack([fluctuation(prior, generator) for _ in range(VOLUMES)])
    events = Events(
        pd.DataFrame(
            {
                "onset": [6.0 + 20 * k for k in range(6)],
                "duration": 10.0,
                "trial_type": ["hand", "foot"] * 3,
            }
        )
    )
    times = 2.0 * np.arange(VOLUMES)
    for name in CONTRASTS:
        onsets = [row.onset for row in events.table.itertuples() if row.trial_type == name]
        time_course = sum(((times > start + 4) & (times < start + 14)) for start in onsets)
        effect = strength / 10 * fluctuation(prior, generator)
        series += torch.from_numpy(np.float32(time_course))[:, None, None, None] * effect
    series += thermal * torch.randn(series.shape, generator=generator)
    bold = 500 + np.moveaxis(series.numpy(), (1, 0), (2, 3))
    return Run(bold, events, CONTRASTS)


def assert_untested(result):
    rows, half_resolution_maps = result
    assert rows == []
    assert load_half_resolution_maps(half_resolution_maps) is None


def check_run(run, folder, **card):
    mask = np.ones(run.bold.shape[:3], bool)
    mask[:2], mask[-1] = False, False
    save_image(run.bold.astype(np.float32), AFFINE, folder / "bold.nii", tr=2.0)
    card_entries = {
        "method": "sbl",
        "recipe": "fast",
        "factor": list(FACTOR),
        "contrast": "T2starw",
        "orientation": "I-S",
        "resolution": {"lowres_mm": [3.0, 3.0, 4.0]},
        "trained_on": "run",
    }
    model, _ = save_model(folder / "model", PriorMaps(None).state_dict(), card_entries | card)
    with SeriesReader(folder / "bold.nii") as reader:
        return check_intervals(
            reader,
            PosedBrain(
                bold_mask=Volume(mask, AFFINE),
                hmc_xfms=np.tile(np.eye(4), (VOLUMES, 1, 1)),
                factor=FACTOR,
            ),
            model,
            LinearModel(
                inputs=DesignInputs(
                    regressors=run.regressors,
                    confounds=run.confounds,
                    n_dummy=0,
                    design=DesignSettings(high_pass=0.0),
                ),
                contrasts=run.contrasts,
                nuisance=None if run.confounds is None else list(run.confounds),
            ),
            here=folder,
            series_name="sbl",
            smoothing=(0.0,),
            random_seed=1,
            omp_nthreads=1,
        )


def test_intervals_have_the_right_coverage_at_half_the_resolution(tmp_path):
    rows, _ = check_run(run_of(), tmp_path)
    coverage = [row for row in rows if row.statistic == "coverage_one_level_down"]
    assert [(row.contrast, row.region) for row in coverage] == [(n, "brain") for n in CONTRASTS]
    for row in coverage:
        assert 0.92 < row.value < 0.985
        assert row.n > 500
    assert {path.name for path in tmp_path.iterdir()}.isdisjoint({"low.nii", "errors.nii"})


def test_intervals_of_a_single_slice_with_seeds_and_with_a_singular_design(tmp_path):
    run = run_of((24, 22, 1))
    run.bold[4] = 500.0  # constant voxels
    time_course = run.bold[10, 10, 0]
    seeds = Seeds.standardize(pd.DataFrame({"here": time_course, "there": run.bold[16, 9, 0]}))
    confounds = pd.DataFrame({"drift": np.linspace(-1, 1, VOLUMES)})
    confounds["again"] = confounds["drift"]
    for variant in (
        run._replace(regressors=seeds, contrasts={"here": {"here": 1.0}}),
        run._replace(confounds=confounds),
    ):
        rows = [r for r in check_run(variant, tmp_path)[0] if r.statistic.startswith("coverage")]
        assert [row.contrast for row in rows] == list(variant.contrasts)
        assert all(0.7 < row.value <= 1 for row in rows)


@pytest.mark.parametrize(("n_events", "detail_contrasts"), [(3, {"hand"}), (2, set())])
def test_conditions_with_too_few_blocks_are_listed_by_contrast(
    tmp_path, n_events, detail_contrasts
):
    """The first events are of hand, foot and hand."""
    run = run_of((24, 22, 1))
    contrasts = {**CONTRASTS, "all": {"hand": 0.5, "foot": 0.5}}
    events = Events(run.regressors.table.head(n_events))
    rows, _ = check_run(run._replace(regressors=events, contrasts=contrasts), tmp_path)
    assert {row.contrast for row in rows if row.statistic == "ev"} == detail_contrasts
    blocks = {(row.contrast, row.region): row.value for row in rows if row.statistic == "blocks"}
    n_hand = n_events - 1
    expected = {
        ("foot", "foot"): 1,
        ("all", "foot"): 1,
        ("hand", "hand"): n_hand,
        ("all", "hand"): n_hand,
    }
    assert blocks == expected


def test_methods_that_are_not_applied_and_runs_too_small_are_not_tested(tmp_path, caplog):
    run = run_of((24, 22, 1))
    assert_untested(check_run(run, tmp_path, applied=False))
    assert_untested(check_run(run, tmp_path, method="sdmod"))
    assert not caplog.messages
    constant_run = run._replace(bold=np.full_like(run.bold, 500.0))
    assert_untested(check_run(constant_run, tmp_path))
    assert "sbl: the confidence intervals could not be tested" in caplog.text
    calibrated = {"weight": 0.3, "position_correction": np.eye(4).tolist()}
    caplog.clear()
    assert_untested(check_run(run, tmp_path, held_out=calibrated))  # without its calibration run
    assert "sbl" in caplog.text


BRAIN_HR, BRAIN = brain(HIGH_SHAPE, HIGH_AFFINE), brain(SHAPE, AFFINE)


def test_the_error_of_a_mean_is_that_of_scaled_smoothed_and_averaged_samples(effects, draws):
    maps = maps_of("acquired", effects[0], AFFINE, variance=0.01)
    region = np.zeros(HIGH_SHAPE, bool)
    region[8:13, 5:8, 1:3] = True
    voxels, zooms = np.flatnonzero(region.ravel(order="F")), BRAIN_HR.zooms.tolist()
    with SeriesReader(draws[0]) as error_draws, SeriesReader(draws[1]) as acquired_draws:
        samples_of_run = ErrorSamples(
            errors=error_draws, acquired=acquired_draws, brain=BRAIN, brain_hr=BRAIN_HR
        )
        scales = scale_by_contrast(
            samples_of_run, maps, samples_of_run.compute_acquired_power(0.0), 0.0
        )
        weights = weigh_means([(voxels, width) for width in WIDTHS], HIGH_SHAPE, zooms)
        found = samples_of_run.compute_mean_sds(weights, list(scales.values()))
        samples = list(error_draws.volumes())
    for scale, sds in zip(scales.values(), found, strict=True):
        for width, sd in zip(WIDTHS, sds, strict=True):
            means = [
                smooth(np.sqrt(scale) * sample, zooms, width)[region].mean() for sample in samples
            ]
            assert sd == pytest.approx(np.sqrt(np.mean(np.square(means))), rel=1e-4)
