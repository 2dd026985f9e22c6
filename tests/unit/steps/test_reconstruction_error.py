"""The error of the reconstruction: its maps and regions, and its intervals one level down."""

import json
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage, special
from variance_helpers import fluctuation, patchy, prior_of, whole_of

from bids_sr.glm.activation_regions import fdr_region
from bids_sr.glm.regressors import Events, Seeds
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import metric_rows
from bids_sr.pipeline.artifacts import Derivative
from bids_sr.series import map_label
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import save_model
from bids_sr.sr.operators import level_below
from bids_sr.sr.threads import torch_threads
from bids_sr.sr.variance import lower_resolution_errors, one_level_down
from bids_sr.sr.variance.in_reference import Detail, raise_slice
from bids_sr.sr.variance.posterior import DRAWS, effect_scale, error_draws
from bids_sr.sr.variance.prior import Prior, VarianceMaps
from bids_sr.steps.reconstruction_error import check_intervals, measure_error

SHAPE, FACTOR = (14, 12, 3), (2.0, 2.0, 1.0)
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
FINE, FINE_AFFINE = hr_grid(SHAPE, AFFINE, FACTOR)
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
    save_image(np.zeros((*FINE, 9), np.float32), FINE_AFFINE, folder / "filled.nii", tr=2.0)
    paths = folder / "errors.nii", folder / "seen.nii"
    with SeriesReader(folder / "filled.nii") as reader:
        Detail(change=prior).add(reader, folder / "fine.nii", paths, seed=1)
    return paths


def effects_of(prior, seed):
    """An effect of the prior (X, Y, Z), as acquired and on the high-resolution grid."""
    truth = 5 * fluctuation(prior, torch.Generator().manual_seed(seed))
    low = prior.whole.level.down(truth)
    return [np.moveaxis(each.numpy(), 0, 2) for each in (low, truth)]


def maps_of(series, effects, affine, variance=4.0):
    """Maps of a linear model at both smoothings, and one of another kind."""
    found = []
    for width in WIDTHS:
        for name, effect in effects.items():
            noise = np.broadcast_to(np.asarray(variance, np.float32), effect.shape)
            effect = effect * brain(effect.shape, affine).data
            t = effect / np.sqrt(np.where(noise > 0, noise, np.inf))
            values = dict(zip(STATS, (effect, noise, t, t), strict=True)) | {"cc": effect}
            for stat, data in values.items():
                entities = {"contrast": name, "stat": stat, "desc": map_label(series, width)}
                told = {
                    "SourceSeries": series,
                    "SmoothingFWHM": width,
                    "ContrastWeights": CONTRASTS[name],
                    "Units": "arbitrary",
                }
                content = Volume(np.asarray(data, np.float32), affine)
                found.append(Derivative(content, entities | {"suffix": "statmap"}, told))
    return found


def covered(**coverage):
    rows = []
    for name, value in coverage.items():
        values = {"coverage_one_level_down": value}
        rows += metric_rows("sbl", values, region="brain", contrast=name, n=100)
    return rows


def measured(maps, acquired_maps, draws, folder, rows):
    with SeriesReader(draws[0]) as errors, SeriesReader(draws[1]) as seen:
        found, table = measure_error(
            maps,
            acquired_maps,
            brain(FINE, FINE_AFFINE),
            brain(SHAPE, AFFINE),
            rows,
            errors,
            seen,
            here=folder,
            series_name="sbl",
            smoothing=WIDTHS,
        )
    return {named(each.entities): each for each in found}, table


def named(entities):
    """Entities in one order."""
    keys = [key for key in ("contrast", "label", "stat", "desc") if key in entities]
    assert len(keys) == len(entities) - 1
    return "_".join([*(f"{key}-{entities[key]}" for key in keys), entities["suffix"]])


@pytest.fixture(scope="module")
def effects(prior):
    found = {name: effects_of(prior, seed) for seed, name in enumerate(CONTRASTS)}
    return [{name: each[k] for name, each in found.items()} for k in range(2)]


def both(effects, **given):
    low, fine = effects
    return (
        maps_of("sbl", fine, FINE_AFFINE, **given),
        maps_of("raw", low, AFFINE, **given),
    )


def test_maps_of_the_error_lie_beside_those_of_the_model(prior, effects, draws, tmp_path):
    maps, own = both(effects)
    rows = covered(hand=0.95, foot=0.95)
    found, table = measured(maps, own, draws, tmp_path, rows)
    statmaps = {name for name in found if name.endswith("statmap")}
    assert statmaps == {
        f"contrast-{name}_stat-{stat}_desc-{desc}_statmap"
        for name in CONTRASTS
        for desc, stats in (
            ("sbl", ("sd", "wrongsign")),
            ("sblFwhm50", ("sd", "wrongsign", "tTotal", "zTotal")),
        )
        for stat in stats
    }
    assert found.keys() - statmaps == {
        f"label-{name}_desc-{desc}Reliable_mask"
        for name in CONTRASTS
        for desc in ("sbl", "sblFwhm50")
    }
    mask = brain(FINE, FINE_AFFINE).data
    for name, each in found.items():
        data = each.volume.data
        assert data.shape == FINE
        assert np.isfinite(data).all()
        assert not data[~mask].any(), name
        np.testing.assert_allclose(each.volume.affine, FINE_AFFINE)
        assert each.sidecar["SourceSeries"] == "sbl"
        assert each.sidecar["SmoothingFWHM"] == (5.0 if "Fwhm50" in name else 0.0)
        json.dumps(each.sidecar)
    about = found["contrast-hand_stat-wrongsign_desc-sbl_statmap"].sidecar
    assert about["ContrastWeights"] == {"hand": 1.0}
    assert about["Units"] == "1"
    assert "not a p value" in about["Description"]

    # by hand, unsmoothed: tau^2 of the acquired effect times the mean square of the draws
    with SeriesReader(draws[0]) as errors, SeriesReader(draws[1]) as seen:
        unit, power = ((each.slab(0, 3).astype(float) ** 2).mean(-1) for each in (errors, seen))
    low, fine = (each["hand"] for each in effects)
    coarse = brain(SHAPE, AFFINE).data
    scale = effect_scale(low, np.full(SHAPE, 4.0), power, coarse, (3, 3, 4))
    scale = ndimage.zoom(scale, (2, 2, 1), order=1, mode="nearest", grid_mode=True)
    sd = found["contrast-hand_stat-sd_desc-sbl_statmap"].volume.data
    np.testing.assert_allclose(sd, np.where(mask, np.sqrt(scale * unit), 0), atol=1e-3)
    wrong = found["contrast-hand_stat-wrongsign_desc-sbl_statmap"].volume.data
    known = np.where(mask, special.ndtr(-np.abs(fine) / np.sqrt(4 + sd**2)), 0)
    np.testing.assert_allclose(wrong, known, atol=1e-5)
    # smoothed, all of the error in one t
    sd = found["contrast-hand_stat-sd_desc-sblFwhm50_statmap"].volume.data
    total = found["contrast-hand_stat-tTotal_desc-sblFwhm50_statmap"].volume.data
    np.testing.assert_allclose(total, np.where(mask, fine / np.sqrt(4 + sd**2), 0), atol=1e-4)
    region = found["label-hand_desc-sblFwhm50Reliable_mask"].volume.data > 0
    np.testing.assert_array_equal(region, fdr_region(total, mask)[0])

    reliable = found["label-hand_desc-sblReliable_mask"].volume.data > 0
    active = fdr_region(fine / 2, mask)[0]
    assert 0 < reliable.sum() < active.sum()
    assert not (reliable & ~active).any()
    assert wrong[reliable].mean() <= 0.05 < wrong[active].mean()
    values = {
        (row.statistic, row.threshold): row.value
        for row in table
        if (row.contrast, row.fwhm_mm) == ("hand", 0.0)
    }
    assert values["voxels", "fdr"] == active.sum()
    assert values["voxels", "reliable"] == reliable.sum()
    assert values["expected_wrong", "fdr"] == pytest.approx(wrong[active].mean(), rel=1e-4)
    assert values["expected_wrong", "reliable"] == pytest.approx(wrong[reliable].mean(), rel=1e-4)
    assert table[: len(rows)] == rows


def test_a_reliable_region_ends_with_the_active_voxels(draws, tmp_path):
    """Those below the threshold are not taken in, sure as the active ones may be."""
    fine = np.full(FINE, 2.0)
    fine[10:14, 8:14] = 14.0
    maps, own = both([{"hand": np.zeros(SHAPE)}, {"hand": fine}])
    found, _ = measured(maps, own, draws, tmp_path, covered(hand=0.95))
    region = found["label-hand_desc-sblReliable_mask"].volume.data > 0
    np.testing.assert_array_equal(region, fine > 7)


def test_smoothed_errors_are_smaller(effects, draws, tmp_path):
    maps, own = both(effects)
    found, _ = measured(maps, own, draws, tmp_path, [])
    narrow, wide = (
        found[f"contrast-foot_stat-sd_desc-{desc}_statmap"].volume.data
        for desc in ("sbl", "sblFwhm50")
    )
    assert 0 < wide.mean() < 0.7 * narrow.mean()


@pytest.mark.parametrize("coverage", [{"hand": 0.89, "foot": 0.9}, {"foot": 0.93}])
def test_without_enough_coverage_there_is_no_reliable_region(effects, draws, tmp_path, coverage):
    """Too low one level of resolution down, or not tested there."""
    maps, own = both(effects)
    found, table = measured(maps, own, draws, tmp_path, covered(**coverage))
    regions = {name for name in found if name.endswith("mask")}
    assert regions == {
        "label-foot_desc-sblReliable_mask",
        "label-foot_desc-sblFwhm50Reliable_mask",
    }
    told = {(row.contrast, row.threshold) for row in table if row.statistic == "voxels"}
    assert told == {("hand", "fdr"), ("foot", "fdr"), ("foot", "reliable")}
    assert "contrast-hand_stat-sd_desc-sbl_statmap" in found


def test_an_effect_below_its_noise_has_no_error_of_reconstruction(effects, draws, tmp_path):
    """A scale of 0 everywhere: what is left is the noise."""
    maps, own = both(effects, variance=1e8)
    found, table = measured(maps, own, draws, tmp_path, covered(hand=0.95, foot=0.95))
    for name, each in found.items():
        assert np.isfinite(each.volume.data).all()
        if "stat-sd" in name or name.endswith("_mask"):
            assert not each.volume.data.any(), name
    wrong = found["contrast-hand_stat-wrongsign_desc-sbl_statmap"].volume.data
    assert wrong[brain(FINE, FINE_AFFINE).data].min() > 0.48
    expected = [row.value for row in table if row.statistic == "expected_wrong"]
    assert len(expected) == 8
    assert np.isnan(expected).all()
    assert {row.value for row in table if row.statistic == "voxels"} == {0}


def test_voxels_and_contrasts_without_variance(effects, draws, tmp_path):
    """Voxels that do not vary, and a contrast of which the model says nothing."""
    low, fine = ({name: np.copy(values) for name, values in each.items()} for each in effects)
    for each, part in ((low, 5), (fine, 10)):
        each["foot"][:] = 0
        each["hand"][part : part + 2] = 0
    noise = {"hand": [np.full(SHAPE, 4.0), np.full(FINE, 4.0)]}
    noise["hand"][0][5:7], noise["hand"][1][10:12] = 0, 0
    noise["foot"] = [np.zeros(SHAPE), np.zeros(FINE)]
    maps, own = [], []
    for name, (coarse, finer) in noise.items():
        maps += maps_of("sbl", {name: fine[name]}, FINE_AFFINE, variance=finer)
        own += maps_of("raw", {name: low[name]}, AFFINE, variance=coarse)
    with np.errstate(all="raise", under="ignore"):
        found, table = measured(maps, own, draws, tmp_path, covered(hand=0.95, foot=0.95))
    assert all(np.isfinite(each.volume.data).all() for each in found.values())
    foot = {name: each.volume.data for name, each in found.items() if "foot" in name}
    mask = brain(FINE, FINE_AFFINE).data
    assert not foot["contrast-foot_stat-sd_desc-sbl_statmap"].any()
    assert (foot["contrast-foot_stat-wrongsign_desc-sbl_statmap"][mask] == 0.5).all()
    assert not foot["contrast-foot_stat-zTotal_desc-sblFwhm50_statmap"].any()
    assert not foot["label-foot_desc-sblReliable_mask"].any()
    assert all(not np.isinf(row.value) for row in table)


def test_a_series_without_a_prior_has_none(effects, tmp_path):
    maps, own = both(effects)
    found = measure_error(
        maps,
        own,
        brain(FINE, FINE_AFFINE),
        brain(SHAPE, AFFINE),
        [],
        here=tmp_path,
        series_name="bspline",
        smoothing=WIDTHS,
    )
    assert found == ([], [])
    assert not list(tmp_path.iterdir())


class Run(NamedTuple):
    bold: np.ndarray
    regressors: Events | Seeds
    contrasts: dict
    confounds: pd.DataFrame | None = None


VOLUMES, LARGE = 60, (24, 22, 2)


def run_of(shape=LARGE, *, strength=60.0, thermal=2.0, seed=0):
    """A run that fluctuates as its prior does, with two conditions whose effects do so, too."""
    x, y, z = shape
    whole = whole_of((x // 2, y // 2, z), FACTOR)
    prior = Prior(whole=whole, weight=10 * patchy(whole, 5)[None], fwhm=(3.0,), noise=0.0)
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
        on = [row.onset for row in events.table.itertuples() if row.trial_type == name]
        course = sum(((times > start + 4) & (times < start + 14)) for start in on)
        effect = strength / 10 * fluctuation(prior, generator)
        series += torch.from_numpy(np.float32(course))[:, None, None, None] * effect
    series += thermal * torch.randn(series.shape, generator=generator)
    bold = 500 + np.moveaxis(series.numpy(), (1, 0), (2, 3))
    return Run(bold, events, CONTRASTS)


def checked(run, folder, **card):
    mask = np.ones(run.bold.shape[:3], bool)
    mask[:2], mask[-1] = False, False
    save_image(run.bold.astype(np.float32), AFFINE, folder / "bold.nii", tr=2.0)
    fits = {
        "method": "sbl",
        "recipe": "fast",
        "factor": list(FACTOR),
        "contrast": "T2starw",
        "orientation": "I-S",
        "resolution": {"lowres_mm": [3.0, 3.0, 4.0]},
        "trained_on": "run",
    }
    model, _ = save_model(folder / "model", VarianceMaps(None).state_dict(), fits | card)
    with SeriesReader(folder / "bold.nii") as reader:
        return check_intervals(
            reader,
            Volume(mask, AFFINE),
            np.tile(np.eye(4), (VOLUMES, 1, 1)),
            model,
            run.regressors,
            run.confounds,
            here=folder,
            series_name="sbl",
            contrasts=run.contrasts,
            factor=FACTOR,
            tr=2.0,
            n_dummy=0,
            high_pass=0.0,
            start_time=1.0,
            nuisance=None if run.confounds is None else list(run.confounds),
            random_seed=1,
            omp_nthreads=1,
        )


def test_intervals_hold_one_level_down_and_leave_no_series(tmp_path):
    rows = checked(run_of(), tmp_path)
    assert [(row.statistic, row.contrast, row.region) for row in rows] == [
        ("coverage_one_level_down", name, "brain") for name in CONTRASTS
    ]
    for row in rows:
        assert 0.92 < row.value < 0.985
        assert row.n > 500
    assert not (tmp_path / "low.nii").exists()
    assert not (tmp_path / "errors.nii").exists()


def test_errors_and_what_was_seen_one_level_down_have_one_scale(tmp_path, monkeypatch):
    """Fluctuations of a known prior over its draws: alike in the errors and in what was seen."""

    def known(_, whole, __, *, seed):
        weight = 10 * patchy(whole, 5)[None]
        return Prior(whole=whole, weight=weight, fwhm=(3.0,), noise=0.04)

    monkeypatch.setattr(one_level_down, "estimate_prior", known)
    monkeypatch.setattr(lower_resolution_errors, "estimate_prior", known)
    run = run_of(strength=0.0, thermal=0.2)
    save_image(run.bold.astype(np.float32), AFFINE, tmp_path / "bold.nii", tr=2.0)
    recipe = get_method("sbl").variance
    with SeriesReader(tmp_path / "bold.nii") as reader:
        found = lower_resolution_errors.errors_below(
            reader, np.ones(LARGE, bool), FACTOR, recipe, tmp_path
        )
    scales = []
    for path, power, mask in (
        (found.low, found.power, found.low_mask),
        (found.errors, found.error_power, found.mask),
    ):
        with SeriesReader(path) as reader:
            values = reader.slab(0, LARGE[2])
        scales.append(values.var(-1)[mask].mean() / power[mask].mean())
    assert scales[1] == pytest.approx(scales[0], rel=0.2)


@pytest.mark.parametrize("threads", [1, 2])
def test_slices_side_by_side_have_the_errors_of_slices_in_turn(tmp_path, monkeypatch, threads):
    priors = []

    def known(_, whole, __, *, seed):
        weight = patchy(whole, 5)[None]
        priors.append(Prior(whole=whole, weight=weight, fwhm=(3.0,), noise=0.04))
        return priors[-1]

    monkeypatch.setattr(one_level_down, "estimate_prior", known)
    monkeypatch.setattr(lower_resolution_errors, "estimate_prior", known)
    shape, seed = (24, 22, 5), 3
    bold = run_of(shape).bold.astype(np.float32)
    save_image(bold, AFFINE, tmp_path / "bold.nii", tr=2.0)
    recipe = get_method("sbl").variance
    with torch_threads(threads), SeriesReader(tmp_path / "bold.nii") as reader:
        mask = np.ones(shape, bool)
        found = lower_resolution_errors.errors_below(
            reader, mask, FACTOR, recipe, tmp_path, seed=seed
        )
    with SeriesReader(found.errors) as reader:
        errors = reader.slab(0, shape[2])
    level, (x, y, z) = level_below(shape, FACTOR)
    plane = level.in_plane()
    for k in range(shape[2]):
        acquired = torch.from_numpy(bold[x, y, z][:, :, k]).permute(2, 0, 1)
        raised = plane.up(plane.down(acquired))
        raise_slice(plane, priors[0].at(k), raised)
        np.testing.assert_allclose(
            errors[:, :, k], (raised - acquired).permute(1, 2, 0), atol=1e-2
        )
        missed, drawn = error_draws(priors[0], k, priors[0].at(k), DRAWS, seed + k)
        np.testing.assert_allclose(found.power[..., k], drawn.square().mean(0), rtol=1e-4)
        np.testing.assert_allclose(
            found.error_power[..., k], missed.square().mean(0), rtol=1e-3, atol=1e-5
        )


def test_intervals_of_one_slice_of_seeds_and_of_a_design_that_repeats_itself(tmp_path):
    run = run_of((24, 22, 1))
    run.bold[4] = 500.0  # voxels that do not vary
    course = run.bold[10, 10, 0]
    seeds = Seeds.of(pd.DataFrame({"here": course, "there": run.bold[16, 9, 0]}))
    twice = pd.DataFrame({"drift": np.linspace(-1, 1, VOLUMES)})
    twice["again"] = twice["drift"]
    for each in (
        run._replace(regressors=seeds, contrasts={"here": {"here": 1.0}}),
        run._replace(confounds=twice),
    ):
        rows = checked(each, tmp_path)
        assert [row.contrast for row in rows] == list(each.contrasts)
        assert all(0.7 < row.value <= 1 for row in rows)


def test_a_method_that_is_not_applied_and_a_run_that_is_too_small_have_no_test(tmp_path, caplog):
    run = run_of((24, 22, 1))
    assert checked(run, tmp_path, applied=False) == []
    assert checked(run, tmp_path, method="sdmod") == []
    assert not caplog.messages
    still = run._replace(bold=np.full_like(run.bold, 500.0))
    assert checked(still, tmp_path) == []
    assert "sbl: the confidence intervals could not be tested" in caplog.text
