"""Interfaces of the evaluation on small files: effects, split halves, truth, one table."""

import json
from pathlib import Path

import numpy as np
import pytest

from bids_sr.interfaces.evaluation.split_halves import (
    BlockEffects,
    SplitHalf,
    TruthImages,
    TruthMaps,
)
from bids_sr.interfaces.steps import MergeEvaluation
from bids_sr.io.nifti import SeriesWriter, save_image
from bids_sr.metrics.long_tables import MetricRow, read_table, table_text
from bids_sr.series import PCA_RANKS
from bids_sr.stats.glm.block_effects import load_effects
from bids_sr.stats.glm.design import MOTION
from bids_sr.stats.glm.regressors import read_events

SHAPE, N = (16, 14, 3), 100
AFFINE = np.array([[2.0, 0, 0, -16], [0, 2.0, 0, -14], [0, 0, 4.0, -4], [0, 0, 0, 1]])
CONTRASTS = {"thumb": {"thumb": 1.0}, "little": {"little": 1.0}, "all": {"thumb": 0.5, "little": 0.5}}


@pytest.fixture
def files(tmp_path):
    """A measured series, and two made of it: smoothed along the first axis (bspline), and with noise (sbl)."""
    folder = tmp_path / "in"
    folder.mkdir()
    lines = [f"{6 + 24 * k}\t12\t{('thumb', 'little')[k % 2]}\n" for k in range(8)]
    (folder / "events.tsv").write_text("onset\tduration\ttrial_type\n" + "".join(lines))
    rng = np.random.default_rng(0)
    from bids_sr.stats.glm.design import frame_times

    courses = read_events(folder / "events.tsv").courses(frame_times(N, 2.0))
    data = 500 + rng.normal(0, 2, (*SHAPE, N)) + 20 * rng.random(SHAPE)[..., None] * courses["thumb"]
    data += 20 * rng.random(SHAPE)[..., None] * courses["little"]
    smoothed = (data + np.roll(data, 1, 0) + np.roll(data, -1, 0)) / 3
    series = {"measured": data, "bspline": smoothed, "sbl": (data + smoothed) / 2}
    for name, values in series.items():
        with SeriesWriter(folder / f"{name}.nii", values.shape, AFFINE, 2.0) as writer:
            for t in range(N):
                writer.append(values[..., t])
    mask = np.ones(SHAPE, dtype=np.uint8)
    mask[-1] = 0
    save_image(mask, AFFINE, folder / "mask.nii.gz")
    values = [["n/a" if t == 0 and "der" in m else f"{rng.standard_normal():.5f}" for m in MOTION] for t in range(N)]
    (folder / "confounds.tsv").write_text("\n".join("\t".join(row) for row in [MOTION, *values]) + "\n")
    return folder


def effects(files, series, cwd, **changes):
    given = {
        "in_file": files / f"{series}.nii", "mask": files / "mask.nii.gz", "events_file": files / "events.tsv",
        "n_dummy": 2, "tr": 2.0, "series": series, "high_pass": 1 / 128, "with_t": series == "measured",
    } | changes  # fmt: skip
    if series == "bspline":
        given["pca_ranks"] = [2, 5]
    cwd.mkdir(exist_ok=True)
    return BlockEffects(**given).run(cwd=cwd).outputs.effects_file


@pytest.fixture
def made(files, tmp_path):
    return [effects(files, name, tmp_path / "e") for name in ("measured", "bspline", "sbl")]


def split(files, made, cwd, **changes):
    cwd.mkdir()
    given = {
        "effects_files": made, "mask": files / "mask.nii.gz", "roi": files / "mask.nii.gz", "factor": (2.0, 2.0, 1.0),
        "contrasts": CONTRASTS, "n_boot": 100, "seed": 3,
    } | changes  # fmt: skip
    return SplitHalf(**given).run(cwd=cwd).outputs


def test_options_of_the_effects_act(files, made, tmp_path):
    plain = load_effects(made[2])
    assert plain.series == "sbl"
    assert plain.smooth_variance is None
    assert load_effects(made[0]).smooth_variance is not None
    assert load_effects(made[1]).ranks == (2, 5)
    assert len(plain.blocks) == 8
    table = files / "confounds.tsv"
    some = load_effects(effects(files, "sbl", tmp_path / "s", confounds_tsv=table, confound_names=["trans_x"]))
    every = load_effects(effects(files, "sbl", tmp_path / "f", confounds_tsv=table))
    columns = plain.leak.shape[1]
    assert (some.leak.shape[1], every.leak.shape[1]) == (columns + 1, columns + 12)
    late = load_effects(effects(files, "sbl", tmp_path / "d", n_dummy=20))
    assert sum(b.used for b in late.blocks) == 7
    assert sum(b.used for b in load_effects(effects(files, "sbl", tmp_path / "m", n_dummy=20, min_share=0)).blocks) == 8


def test_split_halves_are_tabled_with_gains_controls_and_maps(files, made, tmp_path):
    found = split(files, made, tmp_path / "a")
    rows = {(r.series, r.against, r.contrast, r.region, r.measure): r for r in read_table(found.out_file)}
    gain = rows["sbl", "bspline", "all", "brain", "gain_split_r_beyond"]
    assert gain.value > 0
    assert gain.lower < gain.value < gain.upper
    assert gain.n == 8
    assert ("bsplinePca", "measured", "all", "brain", "split_r_beyond") in rows
    with np.load(found.figures_npz) as maps:
        assert maps["beyond_sbl"].shape == (15, 14, 3)
    again = split(files, made, tmp_path / "b")
    assert Path(again.out_file).read_bytes() == Path(found.out_file).read_bytes()


def test_maps_are_held_against_both_truths(files, made, tmp_path):
    rng = np.random.default_rng(0)
    paths, entities = [], []
    for series in ("measured", "bspline", "sbl", "raw"):
        for stat in ("t", "effect", "z"):
            path = tmp_path / f"{series}_{stat}.nii.gz"
            save_image(5 * rng.normal(size=SHAPE), AFFINE, path)
            paths.append(path)
            entities.append({"suffix": "statmap", "stat": stat, "contrast": "thumb", "desc": f"{series}Fwhm35"})
    save_image(rng.random(SHAPE), AFFINE, tmp_path / "thumb.nii.gz")
    (tmp_path / "t").mkdir()
    out = TruthMaps(
        in_files=paths, in_entities=entities, mask=files / "mask.nii.gz", roi=files / "mask.nii.gz",
        factor=(2.0, 2.0, 1.0), contrasts=CONTRASTS, truth_files={"thumb": str(tmp_path / "thumb.nii.gz")},
        effects_files=made,
    ).run(cwd=tmp_path / "t").outputs.out_file  # fmt: skip
    rows = read_table(out)
    assert {r.fwhm_mm for r in rows if r.measure == "truth_r_t"} == {3.5}
    assert {r.against for r in rows if r.measure == "truth_auc"} == {"measured", "truth"}
    assert {r.series for r in rows} == {"measured", "bspline", "sbl"}
    assert any(r.measure == "truth_r_beyond" and r.contrast == "all" and r.against == "measured" for r in rows)


def test_known_activation_alone_gives_gains_with_intervals_at_no_smoothing(files, made, tmp_path):
    paths, entities = [], []
    for series in ("bspline", "sbl"):
        for width in ("", "Fwhm35"):
            path = tmp_path / f"{series}{width}.nii.gz"
            save_image(load_effects(made[1]).mean, AFFINE, path)
            paths.append(path)
            entities.append({"suffix": "statmap", "stat": "effect", "contrast": "thumb", "desc": f"{series}{width}"})
    save_image(load_effects(made[0]).betas[..., 0], AFFINE, tmp_path / "thumb.nii.gz")
    given = {
        "in_files": paths, "in_entities": entities, "mask": files / "mask.nii.gz", "roi": files / "mask.nii.gz",
        "factor": (2.0, 2.0, 1.0), "contrasts": CONTRASTS, "truth_files": {"thumb": str(tmp_path / "thumb.nii.gz")},
    }  # fmt: skip
    folders = [tmp_path / name for name in "abc"]
    tables = []
    for folder, changes in zip(folders, ({}, {"seed": 5}, {"n_boot": 0}), strict=True):
        folder.mkdir()
        out = TruthMaps(effects_files=made[1:], **given, **changes).run(cwd=folder).outputs.out_file
        rows = read_table(out)
        tables.append({(r.series, r.against, r.fwhm_mm, r.region, r.measure): r for r in rows})
        assert len(tables[-1]) == len(rows)  # nothing is told twice
    key = ("sbl", "bspline", 0.0, "brain", "gain_truth_r_beyond")
    assert 0 < tables[0][key].lower < tables[0][key].value < tables[0][key].upper
    assert tables[0][key].n == 4
    assert tables[1][key].lower != tables[0][key].lower
    assert not np.isfinite(tables[2][key].lower)
    level = ("sbl", "truth", 0.0, "brain", "truth_r_effect")
    assert tables[0][level].lower < tables[0][level].value < tables[0][level].upper
    assert not np.isfinite(tables[0]["sbl", "truth", 3.5, "brain", "truth_r_effect"].lower)


def test_images_are_held_against_measured_volumes(files, tmp_path):
    names = ["bspline", "measured", "sbl"]
    given = {
        "series_files": [files / f"{name}.nii" for name in names], "series_names": names, "n_dummy": 2,
        "measured_file": files / "measured.nii", "mask": files / "mask.nii.gz", "max_volumes": 16,
    }  # fmt: skip
    rows = {
        (r.series, r.against, r.measure): r for r in read_table(TruthImages(**given).run(cwd=tmp_path).outputs.out_file)
    }
    assert {key[0] for key in rows} == {"bspline", "sbl"}
    gain = rows["sbl", "bspline", "gain_truth_psnr"]
    assert gain.value == pytest.approx(20 * np.log10(2), abs=1e-3)  # half of the error of bspline
    assert gain.n == 4
    assert gain.unit == "dB"
    assert rows["sbl", "measured", "truth_ssim"].value > rows["bspline", "measured", "truth_ssim"].value
    with pytest.raises(ValueError, match="named twice"):
        TruthImages(**given | {"series_names": ["bspline", "sbl", "sbl"]}).run(cwd=tmp_path)


def test_ranks_of_the_control_are_at_hand_for_workflows():
    assert {2, 10} <= set(PCA_RANKS)


def test_tables_are_joined_and_described(tmp_path):
    for name, measure in (("a", "split_r_beyond"), ("b", "truth_ap")):
        row = MetricRow(series="sbl", measure=measure, value=0.5)
        (tmp_path / name).write_text(table_text([row]))
    done = MergeEvaluation(in_files=[tmp_path / "a", tmp_path / "b"]).run(cwd=tmp_path).outputs
    assert [r.measure for r in read_table(done.out_file)] == ["split_r_beyond", "truth_ap"]
    with open(done.out_json, encoding="utf-8") as stream:
        assert set(json.load(stream)["measure"]["Levels"]) == {"split_r_beyond", "truth_ap"}
