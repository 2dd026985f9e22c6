"""Maps and their figures on small series: what is made, named and said."""

import json
import sys
import tempfile
from pathlib import Path
from typing import get_args

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from checking import listed
from shortnames import measure_of

from bids_sr.glm.activation_maps import ActivationSettings, map_activation
from bids_sr.glm.model_confounds import MOTION, model_confounds
from bids_sr.glm.regressors import Events, read_events
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import COLUMNS, read_frame
from bids_sr.pipeline.artifacts import Derivative, Map
from bids_sr.pipeline.store import derivative_path
from bids_sr.steps.activation import describe_maps, join_quality, map_series
from bids_sr.steps.map_comparison import compare_maps

CONTRASTS = {
    "thumb": {"thumb": 1.0},
    "little": {"little": 1.0},
    "thumbMinusLittle": {"thumb": 1.0, "little": -1.0},
}
SHAPE, FINE = (10, 9, 4), (20, 18, 4)
AFFINE = np.array([[4.0, 0, 0, -20], [0, 4.0, 0, -18], [0, 0, 4.0, -8], [0, 0, 0, 1]])
FINE_AFFINE = np.array([[2.0, 0, 0, -21], [0, 2.0, 0, -19], [0, 0, 4.0, -8], [0, 0, 0, 1]])


def course(period, phase):
    """Blocks of 16 s, the first after 8 s and the phase, as a response that comes 5 s late would
    follow them.
    """
    times = np.arange(80) * 2.0 + 1 - 5
    return ((times - 8 - phase) % period < 16) & (times >= 8 + phase)


def write_series(path, shape, affine, *, scale):
    rng = np.random.default_rng(0)
    with SeriesWriter(path, (*shape, 80), affine, 2.0) as writer:
        for t in range(80):
            volume = 1000 + 8 * rng.standard_normal(shape)
            volume[2 * scale : 3 * scale, 3 * scale : 4 * scale, 1] += 50 * course(64, 0)[t]
            volume[6 * scale : 7 * scale, 5 * scale : 6 * scale, 2] += 50 * course(64, 32)[t]
            volume[0] = 0
            writer.append(volume + (400 if t < 2 else 0))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Series on both grids, their masks, events and confounds."""
    folder = tmp_path_factory.mktemp("in")
    write_series(folder / "raw.nii", SHAPE, AFFINE, scale=1)
    write_series(folder / "fine.nii", FINE, FINE_AFFINE, scale=2)
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
            for name in MOTION
        }
    )
    return {
        "series": {"raw": folder / "raw.nii", "fine": folder / "fine.nii"},
        "mask": {"raw": mask_of(SHAPE, AFFINE), "fine": mask_of(FINE, FINE_AFFINE)},
        "regressors": Events(pd.DataFrame(rows)),
        "confounds": confounds,
    }


def mask_of(shape, affine) -> Volume:
    inside = np.ones(shape, dtype=bool)
    inside[-1] = False
    return Volume(inside, affine)


OPTIONS = {
    "n_dummy": 2,
    "tr": 2.0,
    "smoothing": [5.0],
    "contrasts": CONTRASTS,
    "kinds": ["cc", "glm"],
    "low_pass": 0.1,
    "high_pass": 1 / 128,
    "thresholds": ["quarter", "fdr", "3.1"],
    "factor": (2.0, 2.0, 1.0),
    "start_time": 1.0,
    "axis_order": (0, 1, 2),
    "nuisance": None,
    "correlation_confounds": False,
}


def maps_of(run, series, tmp_path, *, confounds=True, **changes):
    grid = "raw" if series == "raw" else "fine"
    with SeriesReader(run["series"][grid]) as reader:
        return map_series(
            reader,
            run["mask"][grid],
            run["mask"][grid],
            run["regressors"],
            Path(tempfile.mkdtemp(dir=tmp_path)),
            run["confounds"] if confounds else None,
            series_name=series,
            **OPTIONS | changes,
        )


def text_of(*, at_rest, **changes):
    told = ("kinds", "thresholds", "smoothing", "high_pass", "low_pass", "nuisance")
    options = OPTIONS | changes
    return describe_maps(
        **{name: options[name] for name in (*told, "correlation_confounds")}, at_rest=at_rest
    )


def values(rows):
    return {(row.contrast, measure_of(row)): row.value for row in rows}


def by_name(maps: list[Derivative]) -> dict[str, Derivative]:
    return {each.name: each for each in maps}


def test_confounds_of_the_correlation_are_in_its_sidecar(run, tmp_path):
    chosen = {"nuisance": ["trans_[xy]"], "correlation_confounds": True}
    name = "contrast-thumb_stat-cc_desc-rawFwhm50_statmap"
    cc = by_name(maps_of(run, "raw", tmp_path, **chosen)[0])[name]
    plain = by_name(maps_of(run, "raw", tmp_path, nuisance=["trans_[xy]"])[0])[name]
    assert cc.sidecar["Model"]["Confounds"] == ["trans_x", "trans_y"]
    assert "Confounds" not in plain.sidecar["Model"]
    assert not np.allclose(cc.volume.data, plain.volume.data, equal_nan=True)
    text = text_of(at_rest=True, **chosen)
    assert "corrected for confounds (`trans_[xy]`) and correlated" in text


def test_confounds_that_are_named_take_the_place_of_the_default_ones(run, tmp_path, caplog):
    """In the model, in the sidecar of every map, and in the methods text."""
    chosen = ["trans_[xy]", "csf"]
    maps, *_ = maps_of(run, "raw", tmp_path, nuisance=chosen)
    [said] = caplog.messages
    assert "confounds of this run do not include csf" in said
    t = by_name(maps)["contrast-thumb_stat-t_desc-rawFwhm50_statmap"]
    assert t.sidecar["Model"]["Confounds"] == ["trans_x", "trans_y"]
    for one, other in zip(
        maps_of(run, "raw", tmp_path, nuisance=list(MOTION))[0],
        maps_of(run, "raw", tmp_path)[0],
        strict=True,
    ):
        assert one.sidecar == other.sidecar
        assert np.array_equal(one.volume.data, other.volume.data, equal_nan=True)
    text = text_of(at_rest=False, nuisance=chosen)
    assert "and the selected confounds (`trans_[xy], csf`)" in text
    assert "aCompCor" not in text


def test_maps_are_named_and_described(run, tmp_path):
    maps, *_ = maps_of(run, "srgan", tmp_path)
    assert len(maps) == 3 * 5 + 3 * 3
    found = by_name(maps)["res-hr_contrast-thumbMinusLittle_stat-t_desc-srganFwhm50_statmap"]
    bids = derivative_path(
        {
            "subject": "01",
            "task": "tap",
            "datatype": "func",
            "extension": ".nii.gz",
            **found.entities,
        }
    )
    assert bids == (
        "sub-01/func/sub-01_task-tap_res-hr_contrast-thumbMinusLittle_stat-t_desc-srganFwhm50"
        "_statmap.nii.gz"
    )
    data = found.volume.data
    assert data.dtype == np.float32
    np.testing.assert_allclose(found.volume.affine, FINE_AFFINE)
    assert np.isfinite(data).all()
    assert not data[-1].any()
    assert np.unravel_index(data.argmax(), FINE)[2] == 1
    assert np.unravel_index(data.argmin(), FINE)[2] == 2
    sidecar = found.sidecar
    assert sidecar["SkullStripped"] is True
    assert "2 x 2 x 4 mm" in sidecar["Resolution"]
    assert sidecar["Model"]["Confounds"] == list(MOTION)
    assert sidecar["Model"]["DegreesOfFreedom"] == 78 - sidecar["Model"]["DesignRank"]
    assert sidecar["Model"]["NoiseModel"].startswith("autoregressive of order 6")
    json.dumps([dict(each.sidecar) for each in maps])
    t, effect, variance = (
        by_name(maps)[f"res-hr_contrast-thumb_stat-{stat}_desc-srganFwhm50_statmap"].volume.data
        for stat in ("t", "effect", "variance")
    )
    inside = t != 0
    np.testing.assert_allclose(effect[inside] / np.sqrt(variance[inside]), t[inside], rtol=1e-4)
    region = by_name(maps)["res-hr_label-little_desc-srganFwhm50Fdr_mask"]
    assert region.entities == {
        "res": "hr",
        "label": "little",
        "desc": "srganFwhm50Fdr",
        "suffix": "mask",
    }
    assert nib.load(region.content).get_data_dtype() == np.uint8
    assert region.sidecar["Type"] == "ROI"
    assert not list(tmp_path.glob("*.raw"))


def test_raw_has_no_resolution_and_no_division(run, tmp_path):
    maps, rows, *_ = maps_of(run, "raw", tmp_path, smoothing=[0.0])
    assert all("res" not in each.entities for each in maps)
    assert all("Resolution" not in each.sidecar for each in maps)
    assert {each.entities["desc"] for each in maps} == {"raw", "rawQuarter", "rawFdr", "rawZ31"}
    found = values(rows)
    assert found["thumb", "quarter_paper"] == found["thumb", "quarter_voxels"]
    fine = values(maps_of(run, "bspline", tmp_path, smoothing=[0.0])[1])
    assert fine["thumb", "quarter_paper"] == fine["thumb", "quarter_voxels"] / 4
    assert [found["thumb", f"peak_at_{axis}"] for axis in "xyz"] == [-12, -6, -4]


def test_the_sidecar_names_the_noise_model_that_was_fitted(run, tmp_path):
    """A design that leaves few degrees of freedom gets fewer lags; the sidecar says how many."""
    maps, *_ = maps_of(run, "raw", tmp_path, n_dummy=44, high_pass=0.0)
    told = [
        each.sidecar["Model"]
        for each in maps
        if each.sidecar.get("Model", {}).get("Type") == "glm"
    ]
    assert told
    for model in told:
        assert model["NoiseModel"].startswith(
            f"autoregressive of order {model['DegreesOfFreedom'] // 6},"
        )
        assert model["DegreesOfFreedom"] // 6 < 6


def test_maps_of_a_series_that_is_the_zero_filled_one_are_named_anew(run, tmp_path, monkeypatch):
    """As of a method that was not applied: the same values, under its own name, read once."""
    folders = [tmp_path / name for name in ("zerofill", "again", "sbl")]
    for folder in folders:
        folder.mkdir()
    direct = maps_of(run, "sbl", folders[1])
    maps, rows, quality, middle, tsnr = maps_of(run, "zerofill", folders[0])
    kind = get_args(Map)[1]
    stored = [kind.load(kind.save(one, one.content)[0]) for one in maps]
    monkeypatch.setattr("bids_sr.steps.activation.fitted", None)
    linked = maps_of(
        run,
        "sbl",
        folders[2],
        zerofilled=SeriesReader(run["series"]["fine"]),
        zerofilled_maps=stored,
        zerofilled_metrics=rows,
        zerofilled_quality=quality,
        zerofilled_tsnr=tsnr,
    )
    assert linked[1:3] == direct[1:3]
    with SeriesReader(run["series"]["fine"]) as reader:
        np.testing.assert_array_equal(middle.data, reader.volume(reader.shape[3] // 2))
    for one, other in zip(linked[3:], direct[3:], strict=True):
        np.testing.assert_array_equal(one.data, other.data)
    for one, other in zip(linked[0], direct[0], strict=True):
        assert (one.entities, one.sidecar) == (other.entities, other.sidecar)
        np.testing.assert_array_equal(one.volume.data, other.volume.data)
        assert one.content.stat().st_nlink == 2


def test_options_act(run, tmp_path):
    plain, *_ = maps_of(run, "raw", tmp_path)
    for name, changes in {
        "fwhm": {"smoothing": [8.0]},
        "low": {"low_pass": None},
        "high": {"high_pass": 1 / 60},
        "dummy": {"n_dummy": 0},
        "stc": {"start_time": 0.0},
        "conf": {"confounds": False},
    }.items():
        other, *_ = maps_of(run, "raw", tmp_path, **changes)
        stat = 0 if name == "low" else 2  # cc, effect, t, z of the first contrast
        assert not np.allclose(plain[stat].volume.data, other[stat].volume.data), name
    only, rows, *_ = maps_of(run, "raw", tmp_path, kinds=["cc"], thresholds=["quarter", "fdr"])
    assert {each.entities.get("stat") for each in only} == {"cc", None}
    assert {each.entities["desc"] for each in only} == {"rawFwhm50", "rawFwhm50Quarter"}
    assert ("n/a", "dof") not in values(rows)


def test_a_series_is_read_once_for_all_smoothings_and_its_quality(run, tmp_path, monkeypatch):
    alone = [maps_of(run, "raw", tmp_path, smoothing=[width]) for width in (0.0, 5.0)]
    seen, volume = [], SeriesReader.volume
    monkeypatch.setattr(SeriesReader, "volume", lambda self, t: seen.append(t) or volume(self, t))
    maps, rows, quality, *_ = maps_of(run, "raw", tmp_path, smoothing=[0.0, 5.0])
    assert seen == [40, *range(2, 80)], "the middle one for figures, then each once"
    assert [each.entities for each in maps] == [e.entities for own, *_ in alone for e in own]
    for each, other in zip(maps, (e for own, *_ in alone for e in own), strict=True):
        np.testing.assert_array_equal(each.volume.data, other.volume.data)
    assert rows == [row for _, own, *_ in alone for row in own]
    assert quality == alone[0][2] == alone[1][2]


def test_maps_of_series_are_compared(run, tmp_path):
    found = [maps_of(run, name, tmp_path) for name in ("raw", "bspline", "srgan")]
    rows, described = compare_maps(
        [each for maps, *_ in found for each in maps],
        [rows for _, rows, *_ in found],
        run["mask"]["raw"],
        run["mask"]["fine"],
        run["mask"]["fine"],
        contrasts=CONTRASTS,
        thresholds=["quarter", "fdr"],
        factor=(2.0, 2.0, 1.0),
    )
    by = {(row.series, row.contrast, measure_of(row)): row for row in rows}
    assert by["rawSpline", "thumb", "quarter_volume"].fwhm_mm == 5
    assert by["rawSpline", "thumb+little", "quarter_dice"].value < 0.05  # foci are 16 mm apart
    # figures of each series are in the same table
    assert by["raw", "thumb", "quarter_voxels"].value > 0
    assert set(described["statistic"]["Levels"]) == {row.statistic for row in rows}


def test_quality_of_all_series_is_one_table(run, tmp_path):
    tables = [maps_of(run, name, tmp_path, kinds=["cc"])[2] for name in ("raw", "fine")]
    rows, described = join_quality(tables)
    by = {(row.series, measure_of(row)): row.value for row in rows}
    assert by["raw", "tsnr_median"] == pytest.approx(1000 / 8, rel=0.05)
    assert by["raw", "volumes"] == 78
    assert by["fine", "volumes"] == 78
    assert tuple(described) == tuple(COLUMNS)
    assert set(described["statistic"]["Levels"]) == {row.statistic for row in rows}


def saved(image: Volume, path: Path) -> Path:
    nib.save(nib.Nifti1Image(image.data.astype(np.uint8), image.affine), path)
    return path


def test_as_an_interface_it_writes_the_same_bytes_in_every_folder(run, tmp_path):
    """Maps have their names and sidecars, the table six digits."""
    mask = saved(run["mask"]["raw"], tmp_path / "mask.nii")
    blocks = ("8\t16\tthumb", "40\t16\tlittle", "72\t16\tthumb")
    (tmp_path / "events.tsv").write_text(
        "\n".join(["onset\tduration\ttrial_type", *blocks]) + "\n"
    )
    given = {
        "series": run["series"]["raw"],
        "mask": mask,
        "roi": mask,
        "regressors": tmp_path / "events.tsv",
    }
    texts = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        step = map_series.interface(**given, series_name="raw", **OPTIONS)
        found = step.run(cwd=str(tmp_path / name)).outputs
        files = sorted([*listed(found.maps), Path(found.map_metrics)])
        texts.append({file.name: file.read_bytes() for file in files})
    assert texts[0] == texts[1]
    told = json.loads(texts[0]["contrast-thumb_stat-z_desc-rawFwhm50_statmap.json"])
    assert told["ContrastWeights"] == {"thumb": 1.0}
    rows = read_frame(tmp_path / "one" / "map_metrics.tsv")
    assert set(rows["fwhm_mm"]) == {5.0}
    events = read_events(tmp_path / "events.tsv")
    inside = run["mask"]["raw"]
    with SeriesReader(run["series"]["raw"]) as reader:
        maps, *_ = map_series(
            reader, inside, inside, events, tmp_path, series_name="raw", **OPTIONS
        )
    stored = nib.load(tmp_path / "one" / f"{maps[3].name}.nii")
    assert stored.get_data_dtype() == np.float32, "not compressed, as not all is stored"
    np.testing.assert_array_equal(np.asarray(stored.dataobj), maps[3].volume.data)


def test_the_methods_text_tells_what_was_asked_for() -> None:
    text = describe_maps(
        kinds=("cc", "glm"),
        thresholds=("quarter",),
        smoothing=(0.0, 5.0),
        high_pass=0.008,
        low_pass=0.1,
        nuisance=None,
        correlation_confounds=False,
        at_rest=False,
    )
    assert "first five aCompCor components [@behzadi2007]" in text
    assert text.startswith(
        "Activation was mapped in all series with the same model, after smoothing with a Gaussian"
        " kernel of 0 and 5 mm FWHM (0 mm"
    )
    assert "low-pass filtered at 0.1 Hz" in text
    assert "[@nilearn]" in text
    assert "false discovery rate" not in text


def test_components_of_acompcor_enter_where_the_run_can_spare_them():
    columns = ["global_signal", *MOTION, "a_comp_cor_00", "a_comp_cor_01"]
    for volumes, expected in ((49, MOTION), (50, (*MOTION, "a_comp_cor_00", "a_comp_cor_01"))):
        assert (
            model_confounds(pd.DataFrame(0.0, index=range(volumes), columns=columns)) == expected
        )
    assert model_confounds(None) == ()


def test_few_classes_stand_between_events_and_a_t_map(run, tmp_path):
    """Values that the statistics take or make on the way; private ones are no concept, readers of
    files none of it.
    """
    seen = {type(run["regressors"])}

    def made(frame, event, _argument):
        if event == "call" and frame.f_code.co_name == "__init__" and frame.f_code.co_argcount:
            seen.add(type(frame.f_locals[frame.f_code.co_varnames[0]]))

    with SeriesReader(run["series"]["fine"]) as reader:
        sys.setprofile(made)
        try:
            settings = ActivationSettings(tr=2.0, n_dummy=2, kinds=("glm",))
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
    own = sorted(
        each.__name__
        for each in seen
        if each.__module__.startswith("bids_sr") and each.__name__[0] != "_"
    )
    assert own == [
        "ActivationMaps",
        "ActivationSettings",
        "ContrastModel",
        "Design",
        "Events",
        "NoiseModel",
        "VoxelTimeSeries",
    ]
