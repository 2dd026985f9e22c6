"""Activation and metrics interfaces on small files: what is written, named and said."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from planmaker import ACTIVATION, UNTIMED

from bids_sr.interfaces.derivatives_sink import derivative_path
from bids_sr.interfaces.statmap_interfaces import ActivationMaps, CompareMaps, default_confounds
from bids_sr.interfaces.steps import MergeMetrics, SeriesQuality
from bids_sr.io.nifti import SeriesWriter, save_image
from bids_sr.metrics.long_tables import SERIES, read_cells
from bids_sr.stats.glm.design import MOTION
from bids_sr.workflows.bold.map_activation import init_activation_wf, init_comparison_wf

CONTRASTS = {"thumb": {"thumb": 1.0}, "little": {"little": 1.0}, "thumbMinusLittle": {"thumb": 1.0, "little": -1.0}}
SHAPE, FINE = (10, 9, 4), (20, 18, 4)
AFFINE = np.array([[4.0, 0, 0, -20], [0, 4.0, 0, -18], [0, 0, 4.0, -8], [0, 0, 0, 1]])
FINE_AFFINE = np.array([[2.0, 0, 0, -21], [0, 2.0, 0, -19], [0, 0, 4.0, -8], [0, 0, 0, 1]])


def course(period, phase):
    """Blocks of 16 s, the first after 8 s and the phase, as a response that comes 5 s late would follow them."""
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


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write_series(folder / "raw.nii", SHAPE, AFFINE, scale=1)
    write_series(folder / "fine.nii", FINE, FINE_AFFINE, scale=2)
    for name, shape, affine in (("lr", SHAPE, AFFINE), ("hr", FINE, FINE_AFFINE)):
        mask = np.ones(shape, dtype=np.uint8)
        mask[-1] = 0
        save_image(mask, affine, folder / f"mask_{name}.nii.gz")
    rows = [f"{8 + k * 32}\t16\t{('thumb', 'little')[k % 2]}\n" for k in range(5)]
    (folder / "events.tsv").write_text("onset\tduration\ttrial_type\n0\t8\trest\n" + "".join(rows))
    rng = np.random.default_rng(1)
    lines = ["\t".join(["n/a" if t == 0 and "der" in m else f"{rng.standard_normal():.5f}" for m in MOTION])
             for t in range(80)]  # fmt: skip
    (folder / "confounds.tsv").write_text("\n".join(["\t".join(MOTION), *lines]) + "\n")
    return folder


def maps_of(files, series, cwd, **changes):
    grid = "lr" if series == "raw" else "hr"
    given = {
        "in_file": files / ("raw.nii" if series == "raw" else "fine.nii"),
        "mask": files / f"mask_{grid}.nii.gz", "roi": files / f"mask_{grid}.nii.gz",
        "events_file": files / "events.tsv", "confounds_tsv": files / "confounds.tsv", "n_dummy": 2, "tr": 2.0,
        "series": series, "fwhm_mm": 5.0, "contrasts": CONTRASTS, "kinds": ["cc", "glm"], "low_pass": 0.1,
        "high_pass": 1 / 128, "thresholds": ["quarter", "fdr", "3.1"], "factor": (2.0, 2.0, 1.0),
    } | changes  # fmt: skip
    cwd.mkdir()
    return ActivationMaps(**given).run(cwd=cwd).outputs


def values(path):
    return {(r["contrast"], r["measure"]): r["value"] for r in read_cells(path, SERIES).to_dict("records")}


def test_maps_are_written_named_and_described(files, tmp_path):
    found = maps_of(files, "srgan", tmp_path / "out")
    assert len(found.out_files) == len(found.out_entities) == len(found.out_sidecars) == 3 * 4 + 3 * 3
    by_entities = {
        (e.get("contrast", e.get("label")), e.get("stat"), e["desc"]): (path, e, side)
        for path, e, side in zip(found.out_files, found.out_entities, found.out_sidecars, strict=True)
    }
    path, entities, sidecar = by_entities["thumbMinusLittle", "t", "srganFwhm50"]
    bids = derivative_path({"subject": "01", "task": "tap", "datatype": "func", "extension": ".nii.gz", **entities})
    assert bids == "sub-01/func/sub-01_task-tap_res-hr_contrast-thumbMinusLittle_stat-t_desc-srganFwhm50_statmap.nii.gz"
    image = nib.load(path)
    assert image.get_data_dtype() == np.float32
    np.testing.assert_allclose(image.affine, FINE_AFFINE)
    data = image.get_fdata()
    assert np.isfinite(data).all()
    assert not data[-1].any()
    assert np.unravel_index(data.argmax(), FINE)[2] == 1
    assert np.unravel_index(data.argmin(), FINE)[2] == 2
    assert sidecar["SkullStripped"] is True
    assert "2 x 2 x 4 mm" in sidecar["Resolution"]
    assert sidecar["Model"]["Confounds"] == list(MOTION)
    assert sidecar["Model"]["DegreesOfFreedom"] == 78 - sidecar["Model"]["DesignRank"]
    assert sidecar["Model"]["NoiseModel"].startswith("autoregressive of order 6")
    json.dumps(found.out_sidecars)
    mask_path, entities, sidecar = by_entities["little", None, "srganFwhm50Fdr"]
    assert entities == {"res": "hr", "label": "little", "desc": "srganFwhm50Fdr", "suffix": "mask"}
    assert nib.load(mask_path).get_data_dtype() == np.uint8
    assert sidecar["Type"] == "ROI"
    assert not list((tmp_path / "out").glob("*.raw"))


def test_raw_has_no_resolution_and_no_division(files, tmp_path):
    raw = maps_of(files, "raw", tmp_path / "raw", fwhm_mm=0.0)
    assert all("res" not in e for e in raw.out_entities)
    assert all("Resolution" not in s for s in raw.out_sidecars)
    assert {e["desc"] for e in raw.out_entities} == {"raw", "rawQuarter", "rawFdr", "rawZ31"}
    found = values(raw.metrics_tsv)
    assert found["thumb", "quarter_paper"] == found["thumb", "quarter_voxels"]
    fine = values(maps_of(files, "bspline", tmp_path / "fine", fwhm_mm=0.0).metrics_tsv)
    assert float(fine["thumb", "quarter_paper"]) == float(fine["thumb", "quarter_voxels"]) / 4
    assert (found["thumb", "peak_at_x"], found["thumb", "peak_at_y"], found["thumb", "peak_at_z"]) == (
        "-12",
        "-6",
        "-4",
    )


def test_the_sidecar_names_the_noise_model_that_was_fitted(files, tmp_path):
    """A design that leaves few degrees of freedom gets fewer lags, and the sidecar says how many."""
    found = maps_of(files, "raw", tmp_path / "out", n_dummy=44, high_pass=0.0)
    models = [side["Model"] for side in found.out_sidecars if side.get("Model", {}).get("Type") == "glm"]
    assert models
    for model in models:
        assert model["NoiseModel"].startswith(f"autoregressive of order {model['DegreesOfFreedom'] // 6},")
        assert model["DegreesOfFreedom"] // 6 < 6


def test_options_act(files, tmp_path):
    plain = maps_of(files, "raw", tmp_path / "a")
    for name, changes in {
        "fwhm": {"fwhm_mm": 8.0}, "low": {"low_pass": None}, "high": {"high_pass": 1 / 60},
        "dummy": {"n_dummy": 0}, "stc": {"has_stc": True, "slice_time_ref": 0.0}, "conf": {"confound_names": []},
    }.items():  # fmt: skip
        other = maps_of(files, "raw", tmp_path / name, **changes)
        stat = 0 if name == "low" else 2  # cc, effect, t, z of the first contrast
        one, two = (nib.load(o.out_files[stat]).get_fdata() for o in (plain, other))
        assert not np.allclose(one, two), name
    only = maps_of(files, "raw", tmp_path / "cc", kinds=["cc"], thresholds=["quarter", "fdr"])
    assert {e.get("stat") for e in only.out_entities} == {"cc", None}
    assert {e["desc"] for e in only.out_entities} == {"rawFwhm50", "rawFwhm50Quarter"}
    assert ("", "dof") not in values(only.metrics_tsv)


def test_same_bytes_in_another_folder(files, tmp_path):
    one, two = (maps_of(files, "raw", tmp_path / name) for name in ("one", "two"))
    for a, b in zip([*one.out_files, one.metrics_tsv], [*two.out_files, two.metrics_tsv], strict=True):
        with open(a, "rb") as first, open(b, "rb") as second:
            assert first.read() == second.read()


def test_maps_of_series_are_compared(files, tmp_path):
    found = [maps_of(files, name, tmp_path / name) for name in ("raw", "bspline", "srgan")]
    compare = CompareMaps(
        in_files=[p for f in found for p in f.out_files], in_entities=[e for f in found for e in f.out_entities],
        raw_mask=files / "mask_lr.nii.gz", mask=files / "mask_hr.nii.gz", roi=files / "mask_hr.nii.gz",
        contrasts=CONTRASTS, thresholds=["quarter", "fdr"], factor=(2.0, 2.0, 1.0),
    )  # fmt: skip
    (tmp_path / "cmp").mkdir()
    rows = read_cells(compare.run(cwd=tmp_path / "cmp").outputs.metrics_tsv, SERIES).to_dict("records")
    by = {(r["series"], r["contrast"], r["measure"]): r for r in rows}
    assert float(by["srgan", "thumb", "r_t_with_bspline"]["value"]) == pytest.approx(1.0)  # here the same file
    assert 0.3 < float(by["srgan", "thumb", "r_effect_with_raw"]["value"]) < 1
    assert by["rawSpline", "thumb", "quarter_volume"]["fwhm_mm"] == "5"
    assert float(by["rawSpline", "thumb+little", "quarter_dice"]["value"]) < 0.05  # foci are 16 mm apart


def test_quality_and_merged_tables(files, tmp_path):
    tables = []
    for name, path in (("raw", "raw.nii"), ("bspline", "fine.nii")):
        (tmp_path / name).mkdir()
        grid = "lr" if name == "raw" else "hr"
        quality = SeriesQuality(in_file=files / path, mask=files / f"mask_{grid}.nii.gz", n_dummy=2, series=name)
        tables.append(quality.run(cwd=tmp_path / name).outputs.metrics_tsv)
    merged = MergeMetrics(in_files=tables).run(cwd=tmp_path).outputs
    rows = read_cells(merged.out_file, SERIES).to_dict("records")
    by = {(r["series"], r["measure"]): r["value"] for r in rows}
    assert float(by["raw", "tsnr_median"]) == pytest.approx(1000 / 8, rel=0.05)
    assert by["raw", "volumes"] == "78"
    described = json.loads(Path(merged.out_json).read_text())
    assert tuple(described) == tuple(SERIES)
    assert set(described["measure"]["Levels"]) == {r["measure"] for r in rows}


def test_workflows_run(files, tmp_path):
    activation = replace(ACTIVATION, contrasts=CONTRASTS, high_pass=1 / 128)
    workflow = init_activation_wf(series="raw", activation=activation, acquisition=UNTIMED)
    workflow.base_dir = tmp_path
    node = workflow.get_node("inputnode").inputs
    node.series_file, node.n_dummy = files / "raw.nii", 2
    node.mask = node.roi = files / "mask_lr.nii.gz"
    node.events_file, node.confounds_tsv = files / "events.tsv", files / "confounds.tsv"
    graph = workflow.run()
    results = {n.name: n.result.outputs for n in graph.nodes}
    assert len(results["merge_files"].out) == len(results["merge_entities"].out) == 2 * (3 * 4 + 3 * 2)
    rows = read_cells(results["metrics"].out_file, SERIES).to_dict("records")
    assert {r["fwhm_mm"] for r in rows} == {"0", "5"}
    assert "[@nilearn]" in workflow.visit_desc()
    compare = init_comparison_wf(activation=activation, factor=(2, 2, 1))
    assert compare.get_node("compare").inputs.factor == (2.0, 2.0, 1.0)


def test_components_of_acompcor_enter_where_the_run_can_spare_them(tmp_path):
    columns = ["global_signal", *MOTION, "a_comp_cor_00", "a_comp_cor_01"]
    for volumes, expected in ((49, MOTION), (50, (*MOTION, "a_comp_cor_00", "a_comp_cor_01"))):
        table = tmp_path / f"{volumes}.tsv"
        table.write_text("\n".join(["\t".join(columns), *["\t".join("0" * len(columns))] * volumes]) + "\n")
        assert default_confounds(str(table)) == expected


def test_amplitudes_of_fluctuations_are_written_named_and_told(files, tmp_path):
    plain = maps_of(files, "srgan", tmp_path / "plain")
    found = maps_of(files, "srgan", tmp_path / "out", band=(0.01, 0.1))
    assert len(found.out_files) == len(plain.out_files) + 2
    for path, entities, sidecar in list(zip(found.out_files, found.out_entities, found.out_sidecars, strict=True))[-2:]:
        stat = entities["stat"]
        named = derivative_path(
            {"subject": "01", "task": "rest", "datatype": "func", "extension": ".nii.gz", **entities}
        )
        assert named == f"sub-01/func/sub-01_task-rest_res-hr_stat-{stat}_desc-srganFwhm50_boldmap.nii.gz"
        assert sidecar["FrequencyBandHz"] == [0.01, 0.1]
        assert set(sidecar["Model"]["Confounds"]) == set(MOTION)
        image = nib.load(path).get_fdata()
        assert image[:-1].max() > 0
        assert (image[-1] == 0).all()
        assert stat == "alff" or image.max() <= 1
    told = values(found.metrics_tsv)
    assert float(told["n/a", "alff_median"]) > 0
    assert 0 < float(told["n/a", "falff_median"]) < 1
    assert ("n/a", "alff_median") not in values(plain.metrics_tsv)
