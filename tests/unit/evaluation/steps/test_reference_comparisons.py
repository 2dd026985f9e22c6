"""Test evaluation steps on small series: effects, split halves, references, and series without
signal.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data.maps import mapped
from data.short_names import against_of, measure_of

from bids_sr.engine.artifacts import Derivative
from bids_sr.evaluation.steps.reference_comparisons import (
    EffectsComparison,
    compare_halves,
    compare_images,
    compare_with_truth,
    gather_fine_effects,
)
from bids_sr.evaluation.steps.self_test_rows import gather_self_tests
from bids_sr.glm.block_effects import Effects
from bids_sr.glm.design import DesignSettings, frame_times
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.glm.regressors import Events
from bids_sr.glm.steps.block_effects import measure_effects
from bids_sr.glm.steps.linear_models import DesignInputs
from bids_sr.glm.steps.mapped_series import MaskedSeries
from bids_sr.io.confound_names import MOTION_REGRESSORS
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.io.series import PCA_RANKS
from bids_sr.io.volume import Volume

SHAPE, N = (16, 14, 3), 100
AFFINE = np.array([[2.0, 0, 0, -16], [0, 2.0, 0, -14], [0, 0, 4.0, -4], [0, 0, 0, 1]])
CONTRASTS = {
    "thumb": {"thumb": 1.0},
    "little": {"little": 1.0},
    "all": {"thumb": 0.5, "little": 0.5},
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
    """Write a measured series and two series made from it: smoothed along the first axis
    (bspline), and halfway between (sbl).
    """
    folder = tmp_path_factory.mktemp("in")
    rng = np.random.default_rng(0)
    responses = EVENTS.responses(frame_times(N, 2.0), HemodynamicResponse())
    regressors = {name: columns[:, 0] for name, columns in responses.items()}
    data = (
        500
        + rng.normal(0, 2, (*SHAPE, N))
        + 20 * rng.random(SHAPE)[..., None] * regressors["thumb"]
    )
    data += 20 * rng.random(SHAPE)[..., None] * regressors["little"]
    smoothed = (data + np.roll(data, 1, 0) + np.roll(data, -1, 0)) / 3
    series = {"measured": data, "bspline": smoothed, "sbl": (data + smoothed) / 2}
    for name, values in series.items():
        with SeriesWriter(folder / f"{name}.nii", values.shape, AFFINE, 2.0) as writer:
            for t in range(N):
                writer.append(values[..., t])
    return {name: folder / f"{name}.nii" for name in series}


def effects(files, series, here, confounds=None, n_dummy=2, **changes) -> Effects:
    inputs = DesignInputs(
        regressors=EVENTS, confounds=confounds, n_dummy=n_dummy, design=DesignSettings()
    )
    with SeriesReader(files[series]) as reader:
        masked = MaskedSeries(series_name=series, series=reader, mask=brain())
        file = measure_effects(masked, inputs, here, **{"has_measured": True} | changes)
    return Effects.load(file)


def comparison_with(**options: int) -> EffectsComparison:
    return EffectsComparison(
        bold_mask_hr=brain(), roi_hr=brain(), contrasts=CONTRASTS, factor=FACTOR, **options
    )


@pytest.fixture(scope="module")
def effects_files(files, tmp_path_factory) -> dict[str, Path]:
    here = tmp_path_factory.mktemp("effects")
    return {name: effects(files, name, here).save(here / name) for name in files}


def test_options_change_the_effects(files, effects_files, tmp_path):
    sbl_effects = Effects.load(effects_files["sbl"])
    assert sbl_effects.series == "sbl"
    assert sbl_effects.smooth_variance is None
    assert Effects.load(effects_files["measured"]).smooth_variance is not None
    assert Effects.load(effects_files["bspline"]).ranks == PCA_RANKS
    assert effects(files, "bspline", tmp_path, has_measured=False).ranks == ()
    assert len(sbl_effects.blocks) == 8
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {name: rng.standard_normal(N) for name in (*MOTION_REGRESSORS, "a_comp_cor_00")}
    )
    with_confounds = effects(files, "sbl", tmp_path, table)
    # motion and its derivatives
    assert with_confounds.leak.shape[1] == sbl_effects.leak.shape[1] + 12
    with_dummies = effects(files, "sbl", tmp_path, n_dummy=20)
    assert sum(block.used for block in with_dummies.blocks) == 7


def test_the_table_of_split_halves_has_gains_controls_and_maps(effects_files, tmp_path):
    comparison = comparison_with(n_boot=100, random_seed=3)
    table = compare_halves(effects_files, comparison)
    rows = {
        (row.series, against_of(row), row.contrast, row.region, measure_of(row)): row
        for row in table
    }
    gain = rows["sbl", "bspline", "all", "brain", "gain_split_r_beyond"]
    assert gain.value > 0
    assert gain.lower < gain.value < gain.upper
    assert gain.n == 8
    assert ("bsplinePca", "measured", "all", "brain", "split_r_beyond") in rows
    figures = gather_fine_effects(effects_files, comparison, tmp_path)
    with np.load(figures) as maps:
        assert maps["beyond_sbl"].shape == (15, 14, 3)
    assert str(compare_halves(effects_files, comparison)) == str(table)


def make_statmap(values: np.ndarray, series: str, stat: str) -> Derivative:
    entities = {"suffix": "statmap", "stat": stat, "contrast": "thumb", "desc": series}
    return mapped(Volume(values.astype(np.float32), AFFINE), entities)


def test_maps_are_compared_with_measured_and_known_activation(effects_files):
    rng = np.random.default_rng(0)
    maps = [
        make_statmap(5 * rng.normal(size=SHAPE), f"{series}Fwhm35", stat)
        for series in ("measured", "bspline", "sbl", "acquired")
        for stat in ("t", "effect", "z")
    ]
    rows = compare_with_truth(
        maps,
        comparison_with(random_seed=0),
        effects_files,
        {"thumb": Volume(rng.random(SHAPE), AFFINE)},
        at_rest=False,
    )
    assert {row.fwhm_mm for row in rows if measure_of(row) == "truth_r_t"} == {3.5}
    assert {against_of(row) for row in rows if measure_of(row) == "truth_r_effect"} == {
        "measured",
        "truth",
    }
    assert {against_of(row) for row in rows if measure_of(row) == "truth_ap"} == {"truth"}
    assert {row.series for row in rows} == {"measured", "bspline", "sbl"}
    assert any(
        measure_of(row) == "truth_r_beyond"
        and row.contrast == "all"
        and against_of(row) == "measured"
        for row in rows
    )


def test_known_activation_gives_gains_with_intervals_for_unsmoothed_maps(effects_files):
    mean = Effects.load(effects_files["bspline"]).mean
    maps = [
        make_statmap(mean, f"{series}{width}", "effect")
        for series in ("bspline", "sbl")
        for width in ("", "Fwhm35")
    ]
    known_activation = {
        "thumb": Volume(Effects.load(effects_files["measured"]).betas[..., 0], AFFINE)
    }
    files = {name: effects_files[name] for name in ("bspline", "sbl")}
    tables = []
    for changes in ({}, {"random_seed": 5}, {"n_boot": 0}):
        rows = compare_with_truth(
            maps,
            comparison_with(**{"random_seed": 0} | changes),
            files,
            known_activation,
            at_rest=False,
        )
        tables.append(
            {
                (row.series, against_of(row), row.fwhm_mm, row.region, measure_of(row)): row
                for row in rows
            }
        )
        assert len(tables[-1]) == len(rows)  # No row is repeated.
    key = ("sbl", "bspline", 0.0, "brain", "gain_truth_r_beyond")
    assert 0 < tables[0][key].lower < tables[0][key].value < tables[0][key].upper
    assert tables[0][key].n == 4
    assert tables[1][key].lower != tables[0][key].lower
    assert not np.isfinite(tables[2][key].lower)
    level = ("sbl", "truth", 0.0, "brain", "truth_r_effect")
    assert tables[0][level].lower < tables[0][level].value < tables[0][level].upper
    assert not np.isfinite(tables[0]["sbl", "truth", 3.5, "brain", "truth_r_effect"].lower)


def test_images_are_compared_with_measured_volumes(files):
    series = {
        name: SeriesReader(path)
        for name, path in (*files.items(), ("bsplinePca", files["bspline"]))
    }
    table = compare_images(series, brain(), n_dummy=2, random_seed=0)
    rows = {(row.series, against_of(row), measure_of(row)): row for row in table}
    # Neither controls nor the measured series itself are included.
    assert {key[0] for key in rows} == {"bspline", "sbl"}
    gain = rows["sbl", "bspline", "gain_truth_psnr"]
    assert gain.value == pytest.approx(20 * np.log10(2), abs=1e-3)  # half the error of bspline
    assert gain.n == round(60**0.5)  # segments of at most 60 volumes
    assert gain.unit == "dB"
    assert (
        rows["sbl", "measured", "truth_ssim"].value
        > rows["bspline", "measured", "truth_ssim"].value
    )


def test_self_test_scores_are_gathered_with_reasons_for_missing_ones():
    tested = {"share": 0.2, "lower": 0.1, "upper": 0.3, "calibrated": True}
    cards = [
        {"sbl": tested | {"stretches": 5, "stretch_volumes": 8}},
        {"sdmod": {"share": 0.1, "stretches": 0, "stretch_volumes": 0}},
    ]
    rows, summary = gather_self_tests(
        cards,
        series_names=["bspline", "zerofill", "sdmod", "inject", "ratio", "srgan", "sbl"],
        network_names=["srgan"],
        voxel=(3.0, 3.0, 4.0),
        factor=(2.0, 2.0, 1.0),
    )
    found = [(row.series, row.value, row.n) for row in rows]
    assert found == [("sdmod", 0.1, None), ("sbl", 0.2, 5)]
    assert (rows[1].lower, rows[1].upper) == (0.1, 0.3)
    assert (summary["from_mm"], summary["to_mm"]) == ([6.0, 6.0, 4.0], [3.0, 3.0, 4.0])
    facts = [summary[name] for name in ("stretches", "stretch_volumes", "calibrated")]
    assert facts == [5, 8, True]
    assert "zerofill" not in summary["series"]
    assert summary["series"]["sbl"] == tested
    reasons = {name: entry.get("reason", "") for name, entry in summary["series"].items()}
    assert {name for name in reasons if reasons[name]} == {"srgan", "inject", "ratio", "bspline"}
    assert len(set(reasons.values())) == 5  # one is empty
    assert "from 6 mm to 3 mm" in reasons["srgan"]
