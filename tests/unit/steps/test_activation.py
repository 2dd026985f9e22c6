"""Test activation maps of small series: values, names, sidecars and methods text."""

import json
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from checking import listed
from data.short_names import measure_of

from bids_sr.glm.activation_maps import ActivationSettings, map_activation
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.model_confounds import model_confounds
from bids_sr.glm.regressors import Events, read_events
from bids_sr.io.confound_names import MOTION_REGRESSORS
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import COLUMNS, read_frame
from bids_sr.pipeline.artifacts import Derivative, Map
from bids_sr.pipeline.store import derivative_path
from bids_sr.steps.activation import MapSettings, SeriesMaps, join_quality, map_series
from bids_sr.steps.activation_texts import (
    DescribedMaps,
    describe_contrasts,
    describe_correlation,
    describe_excluded,
    describe_maps,
    describe_noise,
    describe_nuisance,
    read_fitted_models,
)
from bids_sr.steps.linear_models import DesignInputs, LinearModel
from bids_sr.steps.map_comparison import compare_maps

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


SETTINGS = MapSettings(
    smoothing=[5.0],
    kinds=["cc", "glm"],
    low_pass=0.1,
    thresholds=["quarter", "fdr", "3.1"],
    factor=(2.0, 2.0, 1.0),
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
    zerofilled=None,
    zerofilled_maps=None,
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
            reader,
            run["mask"][grid],
            run["mask"][grid],
            model,
            Path(tempfile.mkdtemp(dir=tmp_path)),
            zerofilled=zerofilled,
            zerofilled_maps=zerofilled_maps,
            series_name=series,
            settings=replace(SETTINGS, **changes),
        )
    return tuple(getattr(results, name) for name in map_series.outputs)


def described(*, at_rest=False, high_pass=1 / 128, nuisance=None, **changes):
    return DescribedMaps(
        settings=replace(SETTINGS, **changes),
        design=DesignSettings(high_pass=high_pass),
        nuisance=nuisance,
        at_rest=at_rest,
    )


def values(rows):
    return {(row.contrast, measure_of(row)): row.value for row in rows}


def by_name(maps: list[Derivative]) -> dict[str, Derivative]:
    return {map_.name: map_ for map_ in maps}


def test_confounds_of_the_correlation_are_in_its_sidecar(run, tmp_path):
    options = {"nuisance": ["trans_[xy]"], "correlation_confounds": True}
    name = "space-boldref_contrast-thumb_stat-cc_desc-acquiredFwhm50_statmap"
    cc = by_name(maps_of(run, "acquired", tmp_path, **options)[0])[name]
    without_confounds = by_name(maps_of(run, "acquired", tmp_path, nuisance=["trans_[xy]"])[0])[
        name
    ]
    assert cc.sidecar["Model"]["Confounds"] == ["trans_x", "trans_y"]
    assert "Confounds" not in without_confounds.sidecar["Model"]
    assert not np.allclose(cc.volume.data, without_confounds.volume.data, equal_nan=True)
    nuisance = options.pop("nuisance")
    text = describe_correlation(described(at_rest=True, nuisance=nuisance, **options))
    assert "corrected for confounds (`trans_[xy]`) and correlated" in text


def test_selected_confounds_replace_the_default(run, tmp_path, caplog):
    """Check the model, the sidecars of maps, and the methods text."""
    confounds = ["trans_[xy]", "csf"]
    maps, *_ = maps_of(run, "acquired", tmp_path, nuisance=confounds)
    [message] = caplog.messages
    assert "confounds of this run do not include csf" in message
    t = by_name(maps)["space-boldref_contrast-thumb_stat-t_desc-acquiredFwhm50_statmap"]
    assert t.sidecar["Model"]["Confounds"] == ["trans_x", "trans_y"]
    for selected_map, default_map in zip(
        maps_of(run, "acquired", tmp_path, nuisance=list(MOTION_REGRESSORS))[0],
        maps_of(run, "acquired", tmp_path)[0],
        strict=True,
    ):
        assert selected_map.sidecar == default_map.sidecar
        assert np.array_equal(selected_map.volume.data, default_map.volume.data, equal_nan=True)
    planned = describe_nuisance(described(nuisance=confounds))
    assert "and the selected confounds (`trans_[xy], csf`)" in planned
    assert "aCompCor" not in planned


def test_maps_are_named_and_described(run, tmp_path):
    maps, *_ = maps_of(run, "srgan", tmp_path)
    assert len(maps) == 3 * 5 + 3 * 3
    statmap = by_name(maps)[
        "space-boldref_res-hr_contrast-thumbMinusLittle_stat-t_desc-srganFwhm50_statmap"
    ]
    bids = derivative_path(
        {
            "subject": "01",
            "task": "tap",
            "datatype": "func",
            "extension": ".nii.gz",
            **statmap.entities,
        }
    )
    assert bids == (
        "sub-01/func/sub-01_task-tap_space-boldref_res-hr_contrast-thumbMinusLittle_stat-t_desc-srganFwhm50"
        "_statmap.nii.gz"
    )
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
    assert sidecar["Model"]["NoiseModel"].startswith("autoregressive of order 6")
    json.dumps([dict(map_.sidecar) for map_ in maps])
    t, effect, variance = (
        by_name(maps)[
            f"space-boldref_res-hr_contrast-thumb_stat-{stat}_desc-srganFwhm50_statmap"
        ].volume.data
        for stat in ("t", "effect", "variance")
    )
    inside = t != 0
    np.testing.assert_allclose(effect[inside] / np.sqrt(variance[inside]), t[inside], rtol=1e-4)
    region = by_name(maps)["space-boldref_res-hr_label-little_desc-srganFwhm50Fdr_mask"]
    assert region.entities == {
        "space": "boldref",
        "res": "hr",
        "label": "little",
        "desc": "srganFwhm50Fdr",
        "suffix": "mask",
    }
    assert nib.load(region.content).get_data_dtype() == np.uint8
    assert region.sidecar["Type"] == "ROI"
    assert not list(tmp_path.glob("*.raw"))


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


def test_the_sidecar_describes_the_fitted_noise_model(run, tmp_path):
    """Fewer degrees of freedom allow fewer lags; the sidecar states their number."""
    maps, *_ = maps_of(run, "acquired", tmp_path, n_dummy=44, design=DesignSettings(high_pass=0.0))
    models = [
        map_.sidecar["Model"]
        for map_ in maps
        if map_.sidecar.get("Model", {}).get("Type") == "glm"
    ]
    assert models
    for model in models:
        assert model["NoiseModel"].startswith(
            f"autoregressive of order {model['DegreesOfFreedom'] // 6},"
        )
        assert model["DegreesOfFreedom"] // 6 < 6


def test_maps_of_a_zero_filled_series_are_renamed_without_fitting_again(
    run, tmp_path, monkeypatch
):
    """Methods that were not applied have the zero-filled values under their own names."""
    folders = [tmp_path / name for name in ("zerofill", "again", "sbl")]
    for folder in folders:
        folder.mkdir()
    fitted_results = maps_of(run, "sbl", folders[1])
    maps, rows, quality, middle, tsnr, region_rows = maps_of(run, "zerofill", folders[0])
    kind = get_args(Map)[1]
    stored = [kind.load(kind.save(map_, map_.content)[0]) for map_ in maps]
    monkeypatch.setattr("bids_sr.steps.activation.map_contrasts", None)
    linked_results = maps_of(
        run,
        "sbl",
        folders[2],
        zerofilled=SeriesReader(run["series"]["fine"]),
        zerofilled_maps=SeriesMaps(
            maps=stored,
            map_metrics=rows,
            quality=quality,
            middle=middle,
            tsnr=tsnr,
            region_rows=region_rows,
        ),
    )
    assert linked_results[1:3] == fitted_results[1:3]
    with SeriesReader(run["series"]["fine"]) as reader:
        np.testing.assert_array_equal(middle.data, reader.volume(reader.shape[3] // 2))
    for linked_image, fitted_image in zip(linked_results[3:5], fitted_results[3:5], strict=True):
        np.testing.assert_array_equal(linked_image.data, fitted_image.data)
    for linked_map, fitted_map in zip(linked_results[0], fitted_results[0], strict=True):
        assert (linked_map.entities, linked_map.sidecar) == (
            fitted_map.entities,
            fitted_map.sidecar,
        )
        np.testing.assert_array_equal(linked_map.volume.data, fitted_map.volume.data)
        assert linked_map.content.stat().st_nlink == 2


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


def test_a_series_is_read_once_for_all_smoothings_and_its_quality(run, tmp_path, monkeypatch):
    separate_results = [
        maps_of(run, "acquired", tmp_path, smoothing=[width]) for width in (0.0, 5.0)
    ]
    volumes_read, read_volume = [], SeriesReader.volume
    monkeypatch.setattr(
        SeriesReader, "volume", lambda self, t: volumes_read.append(t) or read_volume(self, t)
    )
    maps, rows, quality, *_ = maps_of(run, "acquired", tmp_path, smoothing=[0.0, 5.0])
    assert volumes_read == [40, *range(2, 80)], "the middle one for figures, then each once"
    assert [map_.entities for map_ in maps] == [
        separate_map.entities
        for separate_maps, *_ in separate_results
        for separate_map in separate_maps
    ]
    for map_, expected_map in zip(
        maps,
        (separate_map for separate_maps, *_ in separate_results for separate_map in separate_maps),
        strict=True,
    ):
        np.testing.assert_array_equal(map_.volume.data, expected_map.volume.data)
    assert rows == [row for _, separate_rows, *_ in separate_results for row in separate_rows]
    assert quality == separate_results[0][2] == separate_results[1][2]


def test_maps_of_series_are_compared(run, tmp_path):
    results = [maps_of(run, name, tmp_path) for name in ("acquired", "bspline", "srgan")]
    rows, columns = compare_maps(
        [map_ for maps, *_ in results for map_ in maps],
        [rows for _, rows, *_ in results],
        run["mask"]["acquired"],
        run["mask"]["fine"],
        run["mask"]["fine"],
        contrasts=CONTRASTS,
        thresholds=["quarter", "fdr"],
        factor=(2.0, 2.0, 1.0),
    )
    row_by_key = {(row.series, row.contrast, measure_of(row)): row for row in rows}
    assert row_by_key["acquiredSpline", "thumb", "quarter_volume"].fwhm_mm == 5
    # Foci are 16 mm apart.
    assert row_by_key["acquiredSpline", "thumb+little", "quarter_dice"].value < 0.05
    # The table also contains the values of each series.
    assert row_by_key["acquired", "thumb", "quarter_voxels"].value > 0
    assert set(columns["statistic"]["Levels"]) == {row.statistic for row in rows}


def test_quality_of_all_series_is_in_one_table(run, tmp_path):
    tables = [maps_of(run, name, tmp_path, kinds=["cc"])[2] for name in ("acquired", "fine")]
    rows, columns = join_quality(tables)
    value_by_key = {(row.series, measure_of(row)): row.value for row in rows}
    assert value_by_key["acquired", "tsnr_median"] == pytest.approx(1000 / 8, rel=0.05)
    assert value_by_key["acquired", "volumes"] == 78
    assert value_by_key["fine", "volumes"] == 78
    assert tuple(columns) == tuple(COLUMNS)
    assert set(columns["statistic"]["Levels"]) == {row.statistic for row in rows}


def save_mask(image: Volume, path: Path) -> Path:
    nib.save(nib.Nifti1Image(image.data.astype(np.uint8), image.affine), path)
    return path


def test_the_step_writes_the_same_bytes_in_every_folder(run, tmp_path):
    """Maps have names and sidecars, and the table has six digits."""
    mask = save_mask(run["mask"]["acquired"], tmp_path / "mask.nii")
    blocks = ("8\t16\tthumb", "40\t16\tlittle", "72\t16\tthumb")
    (tmp_path / "events.tsv").write_text(
        "\n".join(["onset\tduration\ttrial_type", *blocks]) + "\n"
    )
    inputs = {
        "series": run["series"]["acquired"],
        "mask": mask,
        "roi": mask,
        "regressors": tmp_path / "events.tsv",
        "series_name": "acquired",
        "contrasts": CONTRASTS,
        "n_dummy": 2,
        **asdict(SETTINGS),
    }
    texts = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        step = map_series.interface(**inputs)
        outputs = step.run(cwd=str(tmp_path / name)).outputs
        files = sorted([*listed(outputs.maps), Path(outputs.map_metrics)])
        texts.append({file.name: file.read_bytes() for file in files})
    assert texts[0] == texts[1]
    sidecar = json.loads(
        texts[0]["space-boldref_contrast-thumb_stat-z_desc-acquiredFwhm50_statmap.json"]
    )
    assert sidecar["ContrastWeights"] == {"thumb": 1.0}
    rows = read_frame(tmp_path / "one" / "map_metrics.tsv")
    assert set(rows["fwhm_mm"]) == {5.0}
    events = read_events(tmp_path / "events.tsv")
    inside = run["mask"]["acquired"]
    with SeriesReader(run["series"]["acquired"]) as reader:
        inputs = DesignInputs(regressors=events, n_dummy=2, design=DesignSettings())
        model = LinearModel(inputs=inputs, contrasts=CONTRASTS)
        maps = map_series(
            reader, inside, inside, model, tmp_path, series_name="acquired", settings=SETTINGS
        ).maps
    stored = nib.load(tmp_path / "one" / f"{maps[3].name}.nii")
    assert stored.get_data_dtype() == np.float32, "not compressed, as not all is stored"
    np.testing.assert_array_equal(np.asarray(stored.dataobj), maps[3].volume.data)


def test_the_methods_text_describes_the_options() -> None:
    assert describe_maps(replace(SETTINGS, smoothing=(0.0, 5.0)), at_rest=False) == (
        "Activation was mapped in all series with the same general linear model (generalized least"
        " squares), without smoothing and after Gaussian smoothing with 5 mm FWHM."
    )
    text = describe_nuisance(described(high_pass=0.008))
    for words in ("up to 0.008 Hz", "first 5 aCompCor components [@behzadi2007]"):
        assert words in text
    assert "aCompCor" not in describe_nuisance(replace(described(), has_components=False))
    assert "low-pass filtered at 0.1 Hz" in describe_correlation(described())


@pytest.mark.parametrize(
    ("thresholds", "sentence"),
    [
        (("quarter",), ""),
        (("quarter", "fdr"), "at a false discovery rate (FDR) of .05 [@benjamini1995]."),
        (("fdr", "3.1"), "of .05 [@benjamini1995] and z of at least 3.1."),
    ],
)
def test_the_methods_text_lists_contrasts_and_thresholds(thresholds, sentence) -> None:
    contrasts = {
        "thumb": {"thumb": 1.0},
        "all": {"thumb": 0.5, "little": 0.5},
        "thumbMinusOthers": {"thumb": 1.0, "little": -1.0},
    }
    text = describe_contrasts(described(thresholds=thresholds), contrasts, ["thumbMinusOthers"])
    assert "thumb against baseline; all; each condition minus the mean of the others." in text
    assert "Active voxels" in text or not sentence
    assert text.rstrip().endswith(sentence or "per sustained block.")


def test_the_methods_text_states_the_fitted_model(run, tmp_path) -> None:
    """Take dummies, degrees of freedom and confounds from the maps of finished steps."""
    folders = []
    for nuisance in (["trans_x"], ["trans_x", "trans_y"]):
        maps, *_ = maps_of(run, "acquired", tmp_path, nuisance=nuisance)
        folder = tmp_path / "_".join(nuisance)
        folder.mkdir()
        for statmap in maps:
            (folder / f"{statmap.name}.json").write_text(json.dumps(dict(statmap.sidecar)))
        folders.append(folder)
    first, second = read_fitted_models(folders)
    assert (first.confounds, second.confounds) == (("trans_x",), ("trans_x", "trans_y"))
    assert first.dof == second.dof + 1
    asked = described(nuisance=["trans_*"])
    assert f"had {first.dof} degrees of freedom" in describe_noise(folders[:1])
    assert f"had {second.dof} to {first.dof} degrees of freedom" in describe_noise(folders)
    assert "degrees of freedom" not in describe_noise()
    assert "selected confounds (`trans_x, trans_y`)" in describe_nuisance(asked, folders)
    assert f"({first.n_dummy} volumes per run)" in describe_excluded(None, folders, 0)


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


def test_few_classes_are_involved_between_events_and_a_t_map(run, tmp_path):
    """Count public classes of values that the statistics take or create."""
    classes = {type(run["regressors"])}

    def record_class(frame, event, _argument):
        if event == "call" and frame.f_code.co_name == "__init__" and frame.f_code.co_argcount:
            classes.add(type(frame.f_locals[frame.f_code.co_varnames[0]]))

    with SeriesReader(run["series"]["fine"]) as reader:
        sys.setprofile(record_class)
        try:
            settings = ActivationSettings(n_dummy=2, kinds=("glm",))
            mask, events = run["mask"]["fine"].data, run["regressors"]
            map_activation(
                reader,
                mask,
                events,
                CONTRASTS,
                settings,
                scratch=tmp_path,
                confounds=run["confounds"],
            )
        finally:
            sys.setprofile(None)
    public_names = sorted(
        class_.__name__
        for class_ in classes
        if class_.__module__.startswith("bids_sr") and class_.__name__[0] != "_"
    )
    assert public_names == [
        "ActivationMaps",
        "ActivationSettings",
        "ContrastModel",
        "Design",
        "Events",
        "NoiseModel",
        "VoxelTimeSeries",
    ]
