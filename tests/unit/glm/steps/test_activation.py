"""Test activation maps of small series: values, names and sidecars."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from data.short_names import measure_of

from bids_sr.engine.artifacts import Derivative
from bids_sr.engine.metric_rows import COLUMNS
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.regressors import Events
from bids_sr.glm.steps.activation import MapSettings, join_quality, map_series
from bids_sr.glm.steps.activation_texts import read_fitted_models
from bids_sr.glm.steps.linear_models import DesignInputs, LinearModel
from bids_sr.glm.steps.map_comparison import compare_maps
from bids_sr.glm.steps.mapped_series import MaskedSeries
from bids_sr.io.confound_names import MOTION_REGRESSORS
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.io.volume import Volume
from bids_sr.preproc.model_confounds import model_confounds
from bids_sr.preproc.steps.aligned_series import BoldBrain, BrainMasks

CONTRASTS = {
    "thumb": {"thumb": 1.0},
    "little": {"little": 1.0},
    "thumbMinusLittle": {"thumb": 1.0, "little": -1.0},
}
SHAPE, HIGH_SHAPE = (10, 9, 4), (20, 18, 4)
AFFINE = np.array([[4.0, 0, 0, -20], [0, 4.0, 0, -18], [0, 0, 4.0, -8], [0, 0, 0, 1]])
HIGH_AFFINE = np.array([[2.0, 0, 0, -21], [0, 2.0, 0, -19], [0, 0, 4.0, -8], [0, 0, 0, 1]])


def block_response(period, phase):
    """Return blocks of 16 s, the first after 8 s and the phase, delayed by 5 s like a response."""
    times = np.arange(80) * 2.0 + 1 - 5
    return ((times - 8 - phase) % period < 16) & (times >= 8 + phase)


def write_series(path, shape, affine, *, scale):
    rng = np.random.default_rng(0)
    with SeriesWriter(path, (*shape, 80), affine, 2.0) as writer:
        for t in range(80):
            volume = 1000 + 8 * rng.standard_normal(shape)
            volume[2 * scale : 3 * scale, 3 * scale : 4 * scale, 1] += (
                50 * block_response(64, 0)[t]
            )
            volume[6 * scale : 7 * scale, 5 * scale : 6 * scale, 2] += (
                50 * block_response(64, 32)[t]
            )
            volume[0] = 0
            writer.append(volume + (400 if t < 2 else 0))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Write series on both grids; return them with masks, events and confounds."""
    folder = tmp_path_factory.mktemp("in")
    write_series(folder / "raw.nii", SHAPE, AFFINE, scale=1)
    write_series(folder / "fine.nii", HIGH_SHAPE, HIGH_AFFINE, scale=2)
    rows = {
        "onset": [8.0 + k * 32 for k in range(5)],
        "duration": 16.0,
        "trial_type": [("thumb", "little")[k % 2] for k in range(5)],
    }
    rng = np.random.default_rng(1)
    confounds = pd.DataFrame(
        {
            name: [
                np.nan if t == 0 and "der" in name else round(rng.standard_normal(), 5)
                for t in range(80)
            ]
            for name in MOTION_REGRESSORS
        }
    )
    return {
        "series": {"acquired": folder / "raw.nii", "fine": folder / "fine.nii"},
        "mask": {"acquired": mask_of(SHAPE, AFFINE), "fine": mask_of(HIGH_SHAPE, HIGH_AFFINE)},
        "regressors": Events(pd.DataFrame(rows)),
        "confounds": confounds,
    }


def mask_of(shape, affine) -> Volume:
    inside = np.ones(shape, dtype=bool)
    inside[-1] = False
    return Volume(inside, affine)


BOLDREF = Volume(np.full(SHAPE, 500.0, np.float32), AFFINE)
SETTINGS = MapSettings(
    smoothing=[5.0],
    kinds=["cc", "glm"],
    low_pass=0.1,
    thresholds=["quarter", "fdr", "3.1"],
    axis_order=(0, 1, 2),
)


def maps_of(
    run,
    series,
    tmp_path,
    *,
    confounds=True,
    nuisance=None,
    n_dummy=2,
    design=DesignSettings(),
    **changes,
):
    grid = "acquired" if series == "acquired" else "fine"
    model = LinearModel(
        inputs=DesignInputs(
            regressors=run["regressors"],
            confounds=run["confounds"] if confounds else None,
            n_dummy=n_dummy,
            design=design,
        ),
        contrasts=CONTRASTS,
        nuisance=nuisance,
    )
    with SeriesReader(run["series"][grid]) as reader:
        results = map_series(
            MaskedSeries(series_name=series, series=reader, mask=run["mask"][grid]),
            run["mask"][grid],
            model,
            BoldBrain(boldref=BOLDREF, bold_mask=run["mask"]["acquired"], factor=(2.0, 2.0, 1.0)),
            Path(tempfile.mkdtemp(dir=tmp_path)),
            settings=replace(SETTINGS, **changes),
        )
    return tuple(getattr(results, name) for name in map_series.outputs)


def values(rows):
    return {(row.contrast, measure_of(row)): row.value for row in rows}


def by_name(maps: list[Derivative]) -> dict[str, Derivative]:
    return {map_.name: map_ for map_ in maps}


def test_confounds_of_models_and_correlations_are_in_the_sidecars(run, tmp_path, caplog):
    """By default, the model has the head motion, and correlations are not corrected."""
    stem = "space-boldref_contrast-thumb_stat-{}_desc-acquiredFwhm50_statmap"
    chosen, default, all_motion, corrected = (
        by_name(maps_of(run, "acquired", tmp_path, **options)[0])
        for options in (
            {"nuisance": ["trans_[xy]", "csf"]},
            {},
            {"nuisance": list(MOTION_REGRESSORS)},
            {"nuisance": ["trans_[xy]"], "correlation_confounds": True},
        )
    )
    [message] = caplog.messages
    assert "csf" in message
    t, cc = (stem.format(stat) for stat in ("t", "cc"))
    assert chosen[t].sidecar["Model"]["Confounds"] == ["trans_x", "trans_y"]
    assert corrected[cc].sidecar["Model"]["Confounds"] == ["trans_x", "trans_y"]
    assert "Confounds" not in default[cc].sidecar["Model"]
    assert not np.allclose(corrected[cc].volume.data, chosen[cc].volume.data)
    for name, map_ in default.items():
        assert all_motion[name].sidecar == map_.sidecar
        np.testing.assert_array_equal(all_motion[name].volume.data, map_.volume.data)


def test_maps_have_values_entities_and_a_sidecar(run, tmp_path):
    maps, *_ = maps_of(run, "srgan", tmp_path)
    assert len(maps) == 3 * 5 + 3 * 3
    named = by_name(maps)
    statmap = named[
        "space-boldref_res-hr_contrast-thumbMinusLittle_stat-t_desc-srganFwhm50_statmap"
    ]
    data = statmap.volume.data
    assert data.dtype == np.float32
    np.testing.assert_allclose(statmap.volume.affine, HIGH_AFFINE)
    assert np.isfinite(data).all()
    assert not data[-1].any()
    assert np.unravel_index(data.argmax(), HIGH_SHAPE)[2] == 1
    assert np.unravel_index(data.argmin(), HIGH_SHAPE)[2] == 2
    sidecar = statmap.sidecar
    assert sidecar["SkullStripped"] is True
    assert "2 x 2 x 4 mm" in sidecar["Resolution"]
    assert sidecar["Model"]["Confounds"] == list(MOTION_REGRESSORS)
    assert sidecar["Model"]["DegreesOfFreedom"] == 78 - sidecar["Model"]["DesignRank"]
    assert "memory of 12 s" in sidecar["Model"]["NoiseModel"]
    json.dumps([dict(map_.sidecar) for map_ in maps])
    t, effect, variance = (
        named[f"space-boldref_res-hr_contrast-thumb_stat-{stat}_desc-srganFwhm50_statmap"]
        for stat in ("t", "effect", "variance")
    )
    inside = t.volume.data != 0
    standard_error = np.sqrt(variance.volume.data[inside])
    np.testing.assert_allclose(
        effect.volume.data[inside] / standard_error, t.volume.data[inside], rtol=1e-4
    )
    region = named["space-boldref_res-hr_label-little_desc-srganFwhm50Fdr_mask"]
    assert nib.load(region.content).get_data_dtype() == np.uint8
    assert region.sidecar["Type"] == "ROI"
    assert not list(tmp_path.glob("*.raw"))


def test_effects_are_in_percent_of_the_mean_of_the_boldref(run, tmp_path):
    """All series and tables have the divisor of the acquired run; t and cc do not change."""
    region = mask_of(SHAPE, AFFINE)
    region.data[4:] = False
    results = []
    for mean_signal in (100.0, 250.0):
        boldref = BOLDREF.like(np.where(region.data, mean_signal, 9.0).astype(np.float32))
        with SeriesReader(run["series"]["acquired"]) as reader:
            results.append(
                map_series(
                    MaskedSeries(
                        series_name="acquired", series=reader, mask=run["mask"]["acquired"]
                    ),
                    region,
                    LinearModel(
                        inputs=DesignInputs(
                            regressors=run["regressors"],
                            confounds=run["confounds"],
                            n_dummy=2,
                            design=DesignSettings(),
                        ),
                        contrasts=CONTRASTS,
                    ),
                    BoldBrain(boldref=boldref, bold_mask=region, factor=(2.0, 2.0, 1.0)),
                    Path(tempfile.mkdtemp(dir=tmp_path)),
                    settings=SETTINGS,
                )
            )
    factors = {"effect": 2.5, "variance": 2.5**2, "t": 1, "z": 1, "cc": 1}
    units = {"effect": "percent", "variance": "percent^2", "t": "1", "z": "1", "cc": "1"}
    for in_signal, in_percent in zip(results[0].maps, results[1].maps, strict=True):
        stat = in_signal.entities.get("stat")
        if stat is None:
            continue
        assert in_percent.sidecar["Units"] == units[stat]
        assert in_percent.sidecar["MeanSignal"] == 250.0
        first, second = in_signal.volume.data, in_percent.volume.data
        if factors[stat] == 1:
            np.testing.assert_array_equal(first, second)
        else:
            np.testing.assert_allclose(first, factors[stat] * second, rtol=1e-6)
    for first, second in zip(*(result.map_metrics for result in results), strict=True):
        factor = 2.5 if first.statistic == "peak_effect" else 1
        assert first.value == pytest.approx(factor * second.value, rel=1e-5, nan_ok=True)


def test_fewer_degrees_of_freedom_allow_fewer_lags(run, tmp_path):
    maps, *_ = maps_of(run, "acquired", tmp_path, n_dummy=44, design=DesignSettings(high_pass=0.0))
    model = by_name(maps)["space-boldref_contrast-thumb_stat-t_desc-acquiredFwhm50_statmap"]
    dof = model.sidecar["Model"]["DegreesOfFreedom"]
    assert dof // 6 < 6
    assert f"memory of {dof // 6 * 2} s" in model.sidecar["Model"]["NoiseModel"]
    (tmp_path / "step").mkdir()
    (tmp_path / "step" / "a_statmap.json").write_text(json.dumps(dict(model.sidecar)))
    (fitted,) = read_fitted_models([tmp_path / "step"])
    assert (fitted.dof, fitted.n_dummy, fitted.confounds) == (dof, 44, MOTION_REGRESSORS)


def test_tables_of_series_are_joined_and_compared(run, tmp_path):
    results = [maps_of(run, name, tmp_path) for name in ("acquired", "bspline", "srgan")]
    rows, columns = compare_maps(
        [map_ for maps, *_ in results for map_ in maps],
        [rows for _, rows, *_ in results],
        BrainMasks(bold_mask=run["mask"]["acquired"], bold_mask_hr=run["mask"]["fine"]),
        run["mask"]["fine"],
        contrasts=CONTRASTS,
        thresholds=["quarter", "fdr"],
        factor=(2.0, 2.0, 1.0),
        input_smoothing=3.5,
    )
    assert {row.input_fwhm_mm for row in rows} == {3.5}
    row_by_key = {(row.series, row.contrast, measure_of(row)): row for row in rows}
    assert row_by_key["acquiredSpline", "thumb", "quarter_volume"].fwhm_mm == 5
    # Foci are 16 mm apart.
    assert row_by_key["acquiredSpline", "thumb+little", "quarter_dice"].value < 0.05
    # The table also contains the values of each series.
    assert row_by_key["acquired", "thumb", "quarter_voxels"].value > 0
    assert set(columns["statistic"]["Levels"]) == {row.statistic for row in rows}
    rows, columns = join_quality(
        [quality for _, _, quality, *_ in results[:2]], input_smoothing=3.5
    )
    assert {row.input_fwhm_mm for row in rows} == {3.5}
    values_by_key = {(row.series, measure_of(row)): row.value for row in rows}
    assert values_by_key["acquired", "tsnr_median"] == pytest.approx(1000 / 8, rel=0.05)
    assert values_by_key["acquired", "volumes"] == values_by_key["bspline", "volumes"] == 78
    assert tuple(columns) == tuple(COLUMNS)


def test_acquired_maps_have_no_resolution_and_volumes_in_acquired_voxels(run, tmp_path):
    maps, rows, *_ = maps_of(run, "acquired", tmp_path, smoothing=[0.0])
    assert all("res" not in map_.entities for map_ in maps)
    assert all("Resolution" not in map_.sidecar for map_ in maps)
    assert {map_.entities["desc"] for map_ in maps} == {
        "acquired",
        "acquiredQuarter",
        "acquiredFdr",
        "acquiredZ31",
    }
    acquired_values = values(rows)
    assert acquired_values["thumb", "quarter_paper"] == acquired_values["thumb", "quarter_voxels"]
    upsampled_values = values(maps_of(run, "bspline", tmp_path, smoothing=[0.0])[1])
    assert (
        upsampled_values["thumb", "quarter_paper"]
        == upsampled_values["thumb", "quarter_voxels"] / 4
    )
    assert [acquired_values["thumb", f"peak_at_{axis}"] for axis in "xyz"] == [-12, -6, -4]


def test_options_change_the_maps(run, tmp_path):
    default_maps, *_ = maps_of(run, "acquired", tmp_path)
    for name, changes in {
        "fwhm": {"smoothing": [8.0]},
        "low": {"low_pass": None},
        "high": {"design": DesignSettings(high_pass=1 / 60)},
        "dummy": {"n_dummy": 0},
        "stc": {"design": DesignSettings(start_time=0.0)},
        "conf": {"confounds": False},
    }.items():
        changed_maps, *_ = maps_of(run, "acquired", tmp_path, **changes)
        stat = 0 if name == "low" else 2  # order: cc, effect, t, z of the first contrast
        assert not np.allclose(default_maps[stat].volume.data, changed_maps[stat].volume.data), (
            name
        )
    correlation_maps, rows, *_ = maps_of(
        run, "acquired", tmp_path, kinds=["cc"], thresholds=["quarter", "fdr"]
    )
    assert {map_.entities.get("stat") for map_ in correlation_maps} == {"cc", None}
    assert {map_.entities["desc"] for map_ in correlation_maps} == {
        "acquiredFwhm50",
        "acquiredFwhm50Quarter",
    }
    assert ("n/a", "dof") not in values(rows)


def test_acompcor_is_used_if_the_run_has_enough_volumes():
    columns = ["global_signal", *MOTION_REGRESSORS, "a_comp_cor_00", "a_comp_cor_01"]
    for volumes, expected in (
        (49, MOTION_REGRESSORS),
        (50, (*MOTION_REGRESSORS, "a_comp_cor_00", "a_comp_cor_01")),
    ):
        assert (
            model_confounds(pd.DataFrame(0.0, index=range(volumes), columns=columns)) == expected
        )
    assert model_confounds(None) == ()
