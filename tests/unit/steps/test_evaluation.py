"""Steps of the evaluation on small series: effects, split halves, references, series without
signal.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mapmaker import mapped
from shortnames import against_of, measure_of

from bids_sr.glm.block_effects import Effects, load_effects, save_effects
from bids_sr.glm.design import frame_times
from bids_sr.glm.model_confounds import MOTION
from bids_sr.glm.regressors import Events
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.io.volume import Volume
from bids_sr.pipeline.artifacts import Derivative
from bids_sr.series import PCA_RANKS
from bids_sr.steps.block_effects import measure_effects
from bids_sr.steps.evaluation import (
    compare_halves,
    compare_images,
    compare_with_truth,
    gather_fine_effects,
)
from bids_sr.steps.self_test import gather_tested

SHAPE, N = (16, 14, 3), 100
AFFINE = np.array([[2.0, 0, 0, -16], [0, 2.0, 0, -14], [0, 0, 4.0, -4], [0, 0, 0, 1]])
CONTRASTS = {
    "thumb": {"thumb": 1.0},
    "little": {"little": 1.0},
    "all": {"thumb": 0.5, "little": 0.5},
}
HOW = {
    "n_dummy": 2,
    "tr": 2.0,
    "high_pass": 1 / 128,
    "start_time": 1.0,
    "has_measured": True,
}
FACTOR = (2.0, 2.0, 1.0)
EVENTS = Events(
    pd.DataFrame(
        {
            "onset": [6.0 + 24 * k for k in range(8)],
            "duration": 12.0,
            "trial_type": ["thumb", "little"] * 4,
        }
    )
)


def brain(shape=SHAPE) -> Volume:
    inside = np.ones(shape, dtype=bool)
    inside[-1] = False
    return Volume(inside, AFFINE)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A measured series, and two made of it: smoothed along the first axis (bspline), and with
    noise (sbl).
    """
    folder = tmp_path_factory.mktemp("in")
    rng = np.random.default_rng(0)
    courses = EVENTS.courses(frame_times(N, 2.0))
    data = (
        500 + rng.normal(0, 2, (*SHAPE, N)) + 20 * rng.random(SHAPE)[..., None] * courses["thumb"]
    )
    data += 20 * rng.random(SHAPE)[..., None] * courses["little"]
    smoothed = (data + np.roll(data, 1, 0) + np.roll(data, -1, 0)) / 3
    series = {"measured": data, "bspline": smoothed, "sbl": (data + smoothed) / 2}
    for name, values in series.items():
        with SeriesWriter(folder / f"{name}.nii", values.shape, AFFINE, 2.0) as writer:
            for t in range(N):
                writer.append(values[..., t])
    return {name: folder / f"{name}.nii" for name in series}


def effects(files, series, here, confounds=None, **changes) -> Effects:
    with SeriesReader(files[series]) as reader:
        file = measure_effects(
            reader, brain(), EVENTS, here, confounds, series_name=series, **HOW | changes
        )
    return load_effects(file)


@pytest.fixture(scope="module")
def made(files, tmp_path_factory) -> dict[str, Path]:
    here = tmp_path_factory.mktemp("effects")
    return {name: save_effects(effects(files, name, here), here / f"{name}.npz") for name in files}


def test_options_of_the_effects_act(files, made, tmp_path):
    plain = load_effects(made["sbl"])
    assert plain.series == "sbl"
    assert plain.smooth_variance is None
    assert load_effects(made["measured"]).smooth_variance is not None
    assert load_effects(made["bspline"]).ranks == PCA_RANKS
    assert effects(files, "bspline", tmp_path, has_measured=False).ranks == ()
    assert len(plain.blocks) == 8
    rng = np.random.default_rng(1)
    table = pd.DataFrame({name: rng.standard_normal(N) for name in (*MOTION, "a_comp_cor_00")})
    every = effects(files, "sbl", tmp_path, table)
    assert every.leak.shape[1] == plain.leak.shape[1] + 12  # motion and its derivatives
    late = effects(files, "sbl", tmp_path, n_dummy=20)
    assert sum(b.used for b in late.blocks) == 7


def test_split_halves_are_tabled_with_gains_controls_and_maps(made, tmp_path):
    given = {"contrasts": CONTRASTS, "factor": FACTOR, "n_boot": 100, "random_seed": 3}
    table = compare_halves(made, brain(), brain(), **given)
    rows = {(r.series, against_of(r), r.contrast, r.region, measure_of(r)): r for r in table}
    gain = rows["sbl", "bspline", "all", "brain", "gain_split_r_beyond"]
    assert gain.value > 0
    assert gain.lower < gain.value < gain.upper
    assert gain.n == 8
    assert ("bsplinePca", "measured", "all", "brain", "split_r_beyond") in rows
    figures = gather_fine_effects(
        made, brain(), brain(), tmp_path, contrasts=CONTRASTS, factor=FACTOR
    )
    with np.load(figures) as maps:
        assert maps["beyond_sbl"].shape == (15, 14, 3)
    assert str(compare_halves(made, brain(), brain(), **given)) == str(table)


def map_of(values: np.ndarray, series: str, stat: str) -> Derivative:
    entities = {"suffix": "statmap", "stat": stat, "contrast": "thumb", "desc": series}
    return mapped(Volume(values.astype(np.float32), AFFINE), entities)


def test_maps_are_held_against_both_truths(made):
    rng = np.random.default_rng(0)
    maps = [
        map_of(5 * rng.normal(size=SHAPE), f"{series}Fwhm35", stat)
        for series in ("measured", "bspline", "sbl", "raw")
        for stat in ("t", "effect", "z")
    ]
    rows = compare_with_truth(
        maps,
        brain(),
        brain(),
        made,
        {"thumb": Volume(rng.random(SHAPE), AFFINE)},
        contrasts=CONTRASTS,
        factor=FACTOR,
        at_rest=False,
        random_seed=0,
    )
    assert {r.fwhm_mm for r in rows if measure_of(r) == "truth_r_t"} == {3.5}
    assert {against_of(r) for r in rows if measure_of(r) == "truth_r_effect"} == {
        "measured",
        "truth",
    }
    assert {against_of(r) for r in rows if measure_of(r) == "truth_auc"} == {"truth"}
    assert {r.series for r in rows} == {"measured", "bspline", "sbl"}
    assert any(
        measure_of(r) == "truth_r_beyond" and r.contrast == "all" and against_of(r) == "measured"
        for r in rows
    )


def test_known_activation_alone_gives_gains_with_intervals_at_no_smoothing(made):
    mean = load_effects(made["bspline"]).mean
    maps = [
        map_of(mean, f"{series}{width}", "effect")
        for series in ("bspline", "sbl")
        for width in ("", "Fwhm35")
    ]
    known = {"thumb": Volume(load_effects(made["measured"]).betas[..., 0], AFFINE)}
    files = {name: made[name] for name in ("bspline", "sbl")}
    tables = []
    for changes in ({}, {"random_seed": 5}, {"n_boot": 0}):
        rows = compare_with_truth(
            maps,
            brain(),
            brain(),
            files,
            known,
            contrasts=CONTRASTS,
            factor=FACTOR,
            at_rest=False,
            **{"random_seed": 0} | changes,
        )
        tables.append(
            {(r.series, against_of(r), r.fwhm_mm, r.region, measure_of(r)): r for r in rows}
        )
        assert len(tables[-1]) == len(rows)  # nothing is told twice
    key = ("sbl", "bspline", 0.0, "brain", "gain_truth_r_beyond")
    assert 0 < tables[0][key].lower < tables[0][key].value < tables[0][key].upper
    assert tables[0][key].n == 4
    assert tables[1][key].lower != tables[0][key].lower
    assert not np.isfinite(tables[2][key].lower)
    level = ("sbl", "truth", 0.0, "brain", "truth_r_effect")
    assert tables[0][level].lower < tables[0][level].value < tables[0][level].upper
    assert not np.isfinite(tables[0]["sbl", "truth", 3.5, "brain", "truth_r_effect"].lower)


def test_images_are_held_against_measured_volumes(files, monkeypatch):
    monkeypatch.setattr("bids_sr.steps.evaluation._MOST_VOLUMES", 16)
    series = {
        name: SeriesReader(path)
        for name, path in (*files.items(), ("sblMirror", files["bspline"]))
    }
    found = compare_images(series, brain(), n_dummy=2, random_seed=0)
    rows = {(r.series, against_of(r), measure_of(r)): r for r in found}
    # no placebo, nor the measured series itself
    assert {key[0] for key in rows} == {"bspline", "sbl"}
    gain = rows["sbl", "bspline", "gain_truth_psnr"]
    assert gain.value == pytest.approx(20 * np.log10(2), abs=1e-3)  # half of the error of bspline
    assert gain.n == 4
    assert gain.unit == "dB"
    assert (
        rows["sbl", "measured", "truth_ssim"].value
        > rows["bspline", "measured", "truth_ssim"].value
    )


def test_what_was_tested_one_level_down_is_told_with_the_reason_where_it_was_not():
    tried = [
        {
            "sbl": {
                "share": 0.2,
                "lower": 0.1,
                "upper": 0.3,
                "stretches": 5,
                "stretch_volumes": 8,
                "calibrated": True,
            }
        },
        {"sdmod": {"share": 0.1, "stretches": 0, "stretch_volumes": 0}},
    ]
    rows, told = gather_tested(
        tried,
        series_names=["bspline", "zerofill", "sdmod", "inject", "ratio", "srgan", "sbl"],
        network_names=["srgan"],
        voxel=(3.0, 3.0, 4.0),
        factor=(2.0, 2.0, 1.0),
    )
    assert [(r.series, r.value, r.n) for r in rows] == [("sdmod", 0.1, None), ("sbl", 0.2, 5)]
    assert (rows[1].lower, rows[1].upper) == (0.1, 0.3)
    assert (told["from_mm"], told["to_mm"]) == ([6.0, 6.0, 4.0], [3.0, 3.0, 4.0])
    assert (told["stretches"], told["stretch_volumes"], told["calibrated"]) == (5, 8, True)
    assert "zerofill" not in told["series"]
    assert told["series"]["sbl"] == {"share": 0.2, "lower": 0.1, "upper": 0.3, "calibrated": True}
    reasons = {name: each.get("reason", "") for name, each in told["series"].items()}
    assert "from 6 mm to 3 mm" in reasons["srgan"]
    assert "constant over time" in reasons["inject"]
    assert "T2*-weighted image at the acquired resolution" in reasons["ratio"]
    assert "too few volumes" in reasons["bspline"]


def test_effects_go_through_their_file_from_step_to_step(files, tmp_path):
    """The interface of the step writes what the comparison reads, named by the series."""
    from bids_sr.io.nifti import save_image

    save_image(brain().data, AFFINE, tmp_path / "mask.nii")
    lines = [
        f"{row.onset}\t{row.duration}\t{row.trial_type}\n" for row in EVENTS.table.itertuples()
    ]
    (tmp_path / "events.tsv").write_text("onset\tduration\ttrial_type\n" + "".join(lines))
    made = {}
    for name in ("measured", "sbl"):
        (tmp_path / name).mkdir()
        step = measure_effects.interface(
            series=files[name],
            mask=tmp_path / "mask.nii",
            regressors=tmp_path / "events.tsv",
            series_name=name,
            **HOW,
        )
        made[name] = step.run(cwd=str(tmp_path / name)).outputs.effects
    step = compare_halves.interface(
        effects=list(made.values()),
        effects_names=list(made),
        bold_mask_hr=tmp_path / "mask.nii",
        roi_hr=tmp_path / "mask.nii",
        contrasts=CONTRASTS,
        factor=FACTOR,
        random_seed=3,
    )
    found = step.run(cwd=str(tmp_path)).outputs
    assert "\tev\tbeyond\tmeasured\t" in Path(found.split_half).read_text()
