"""Test sizes of regions, the grown region, flags and the verdict."""

import json
import re
from dataclasses import replace
from math import nan

import numpy as np
import pandas as pd
import pytest
from data.maps import mapped
from data.rows import make_tested_rows
from data.short_names import named_row

from bids_sr.engine.artifacts import Derivative
from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.large_effects import LargeEffects
from bids_sr.evaluation.qc_flags import Flag
from bids_sr.evaluation.steps.reference_comparisons import join_evaluation
from bids_sr.evaluation.steps.region_checks import check_region
from bids_sr.evaluation.steps.run_verdict import add_large_effects, decide_verdict, raise_flags
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.regressors import Events
from bids_sr.glm.steps.activation import MapSettings, map_series
from bids_sr.glm.steps.linear_models import DesignInputs, LinearModel
from bids_sr.glm.steps.mapped_series import MaskedSeries
from bids_sr.glm.steps.region_growth import grow_region
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.io.volume import Volume
from bids_sr.preproc.steps.aligned_series import BoldBrain, BrainMasks
from bids_sr.preproc.steps.registration import TrainingPair

CONTRASTS = {
    "thumb": {"thumb": 1.0},
    "little": {"little": 1.0},
    "thumbMinusLittle": {"thumb": 1.0, "little": -1.0},
}
SHAPE, HIGH_SHAPE = (12, 10, 4), (24, 20, 4)
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
HIGH_AFFINE = np.diag([2.0, 2.0, 4.0, 1.0])
HIGH_AFFINE[:2, 3] = -1.0
VOXEL, FACTOR = (4.0, 4.0, 4.0), (2.0, 2.0, 1.0)
PAIR = ("thumb", "little")
EVENTS = Events(
    pd.DataFrame(
        {
            "onset": [8.0 + k * 32 for k in range(5)],
            "duration": 16.0,
            "trial_type": [PAIR[k % 2] for k in range(5)],
        }
    )
)
INPUTS = DesignInputs(regressors=EVENTS, n_dummy=0, design=DesignSettings())
NO_MOTION = pd.DataFrame({"framewise_displacement": [nan, 0.0]})


def block_response(phase):
    """Return blocks of 16 s every 64 s, delayed by 5 s like a response."""
    times = np.arange(80) * 2.0 - 4
    return ((times - 8 - phase) % 64 < 16) & (times >= 8 + phase)


def write_series(path, shape, affine, scale):
    rng = np.random.default_rng(0)
    with SeriesWriter(path, (*shape, 80), affine, 2.0) as writer:
        for t in range(80):
            volume = 1000 + 4 * rng.standard_normal(shape)
            volume[4 * scale : 8 * scale, 3 * scale : 5 * scale, 1] += 60 * block_response(0)[t]
            volume[6 * scale : 9 * scale, 5 * scale : 7 * scale, 2] += 60 * block_response(32)[t]
            writer.append(volume)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("in")
    write_series(folder / "lr.nii", SHAPE, AFFINE, 1)
    write_series(folder / "hr.nii", HIGH_SHAPE, HIGH_AFFINE, 2)
    return {"acquired": folder / "lr.nii", "bspline": folder / "hr.nii"}


def mask_of(series: str) -> Volume:
    return (
        Volume(np.ones(SHAPE, bool), AFFINE)
        if series == "acquired"
        else Volume(np.ones(HIGH_SHAPE, bool), HIGH_AFFINE)
    )


def bold_brain(mask: Volume | None = None) -> BoldBrain:
    """Return a boldref of 500 with a brain mask, by default of the acquired series."""
    boldref = Volume(np.full(SHAPE, 500.0, np.float32), AFFINE)
    return BoldBrain(boldref=boldref, bold_mask=mask or mask_of("acquired"), factor=FACTOR)


def roi_of(series: str) -> Volume:
    """Return a region of interest whose border cuts both activations."""
    mask, scale = mask_of(series), 1 if series == "acquired" else 2
    roi = np.zeros(mask.data.shape, bool)
    roi[3 * scale : 7 * scale, 2 * scale : 8 * scale, 1:3] = True
    return Volume(roi, mask.affine)


@pytest.fixture(scope="module")
def raw_maps(files, tmp_path_factory) -> tuple[list[Derivative], list[MetricRow]]:
    with SeriesReader(files["acquired"]) as reader:
        results = map_series(
            MaskedSeries(series_name="acquired", series=reader, mask=mask_of("acquired")),
            roi_of("acquired"),
            LinearModel(inputs=INPUTS, contrasts=CONTRASTS),
            bold_brain(),
            tmp_path_factory.mktemp("acquired"),
            settings=MapSettings(
                smoothing=[0.0],
                kinds=["cc", "glm"],
                thresholds=("quarter", "fdr", "3.1"),
                axis_order=(0, 1, 2),
                low_pass=0.1,
            ),
        )
    return results.maps, results.map_metrics


def grow(files, tmp_path, roi=None, smoothing=(0.0,)):
    with SeriesReader(files["acquired"]) as reader:
        return grow_region(
            reader,
            BrainMasks(bold_mask=mask_of("acquired"), bold_mask_hr=mask_of("bspline")),
            roi or roi_of("acquired"),
            roi_of("bspline"),
            replace(INPUTS, design=DesignSettings(high_pass=0.0)),
            tmp_path,
            contrasts=CONTRASTS,
            smoothing=smoothing,
            low_pass=0.1,
        )


def test_the_grown_region_includes_the_cut_activation(files, tmp_path):
    roi, high_res_roi, facts = grow(files, tmp_path)
    added_voxels = np.argwhere(roi.data & ~roi_of("acquired").data)
    assert {tuple(voxel) for voxel in added_voxels} == {
        (7, 3, 1),
        (7, 4, 1),
        (7, 5, 2),
        (7, 6, 2),
        (8, 5, 2),
        (8, 6, 2),
    }
    assert int((high_res_roi.data & ~roi_of("bspline").data).sum()) == 4 * len(added_voxels)
    assert high_res_roi.data[14:16, 6:10, 1].all()
    np.testing.assert_array_equal(high_res_roi.affine, HIGH_AFFINE)
    assert facts["roi_grown_voxels"] == len(added_voxels)
    # The largest smoothing is used.
    smoothed_roi, _, _ = grow(files, tmp_path, smoothing=(0.0, 4.0))
    assert smoothed_roi.data.sum() > roi_of("acquired").data.sum()


OPTIONS = {"contrasts": CONTRASTS, "factor": FACTOR, "at_rest": False}


def flags_of(raw_maps, *tables, pair=None, cards=None, methods=(), **changes):
    """Return all flags of a run, and the rows that the flags add to its evaluation."""
    flags, activation_rows = raise_flags(
        list(tables),
        raw_maps[0],
        mask_of("acquired"),
        roi_of("acquired"),
        pair,
        **OPTIONS | changes,
    )
    _, rows, evidence = decide_verdict(
        [*tables, activation_rows],
        {},
        NO_MOTION,
        flags,
        cards,
        method_names=methods,
        series_names=methods,
        margin=None,
    )
    flag_rows = [row for row in rows if row.statistic.startswith("flag_")]
    return evidence.flags, [*activation_rows, *flag_rows]


def raised_by_region(files, raw_maps, roi, brain=None):
    """Return the raised checks of a region of interest."""
    with SeriesReader(files["acquired"]) as reader:
        flags = check_region(
            reader,
            raw_maps[0],
            bold_brain(brain),
            Volume(roi, AFFINE),
            LinearModel(inputs=INPUTS, contrasts=CONTRASTS),
        )
    return {flag.name: flag.raised for flag in flags}, {flag.name: flag.text for flag in flags}


def test_the_region_is_compared_with_the_brain_in_all_conditions(files, raw_maps):
    """The region of both activations is fine, a region elsewhere in the brain is not active."""
    fine = {"no_response": False, "region_not_active": False, "region_misplaced": False}
    assert raised_by_region(files, raw_maps, roi_of("acquired").data)[0] == fine
    elsewhere = np.zeros(SHAPE, bool)
    elsewhere[0:2, 7:10] = True
    raised, texts = raised_by_region(files, raw_maps, elsewhere)
    assert raised == fine | {"region_not_active": True}
    # a change of 60 is 12 % of the mean signal of 500
    (strongest,) = re.findall(r"cluster is ([0-9.]+) %", texts["region_not_active"])
    assert float(strongest) == pytest.approx(12, rel=0.1)
    beside = np.zeros(SHAPE, bool)
    beside[4:8, 2, 1] = True
    assert raised_by_region(files, raw_maps, beside)[0] == fine | {"region_misplaced": True}


def test_a_run_without_active_voxels_has_no_response(files, raw_maps):
    """The activations are outside of the brain mask."""
    brain = np.ones(SHAPE, bool)
    brain[4:9, 3:7, 1:3] = False
    roi = np.zeros(SHAPE, bool)
    roi[0:3, 0:3] = True
    for region in (roi, brain):
        raised, _ = raised_by_region(files, raw_maps, region, Volume(brain, AFFINE))
        assert raised["no_response"] is True
        assert raised["region_not_active"] is raised["region_misplaced"] is None


def test_flags_of_a_run_are_rows_with_a_remedy(raw_maps):
    """Slice 3 of the low-resolution image of the pair has an artifact."""
    rng = np.random.default_rng(2)
    high_res = np.zeros((32, 32, 8), dtype=np.float32)
    high_res[8:24, 8:24] = 100
    high_res += rng.standard_normal(high_res.shape).astype(np.float32)
    low_res = high_res.reshape(16, 2, 16, 2, 8).mean(axis=(1, 3))
    low_res[:, :, 3] += 40 * rng.standard_normal((16, 16))
    mask = np.zeros(low_res.shape, dtype=bool)
    mask[5:11, 5:11] = True
    pair = TrainingPair(
        train_highres=Volume(high_res, HIGH_AFFINE),
        train_lowres=Volume(low_res, AFFINE),
        pair_mask=Volume(mask, AFFINE),
    )
    edges = [MetricRow(series="run", statistic="edge_mismatch", value=2.5)]
    flags, flag_rows = flags_of(raw_maps, edges, pair=pair, registration={"clipped_voxels": 7})
    rows = {(row.statistic, row.contrast): row.value for row in flag_rows}
    assert rows["flag_task_not_done", "thumb"] == 0.0
    assert rows["flag_artifact", "n/a"] == rows["flag_distortion", "n/a"] == 1.0
    assert rows["flag_clipped", "n/a"] == 1.0
    assert len(rows) == 9
    flags_by_name = {flag.name: flag for flag in flags}
    assert " 3 " in flags_by_name["artifact"].text
    assert flags_by_name["distortion"].remedy
    # Checks of a run with a linear model replace the rules of the paper for the region.
    checks = (Flag(name="no_response", raised=True, text="None."),)
    _, rows = flags_of(raw_maps, [], region_flags=checks)
    assert {row.statistic for row in rows} == {"flag_no_response", "flag_broad"}
    # Without a pair, only activation is checked; a seed does not show that the task was done.
    _, rows = flags_of(raw_maps, [])
    names = {"flag_task_not_done", "flag_broad", "flag_roi_misplaced"}
    assert {row.statistic for row in rows} == names
    assert flags_of(raw_maps, [], at_rest=True) == ((), [])
    # A flag that is raised in a table is not repeated.
    raised = [*edges, MetricRow(series="run", statistic="flag_distortion", value=1.0)]
    flags, rows = flags_of(raw_maps, raised)
    assert "flag_distortion" not in {row.statistic for row in rows}
    assert {flag.name: flag.raised for flag in flags}["distortion"] is True


@pytest.mark.parametrize("at_rest", [False, True])
def test_lost_activation_is_detected_without_a_reference(raw_maps, at_rest):
    """Nearest-neighbor copies of the acquired effect, and copies that contain another image."""
    rng = np.random.default_rng(0)
    maps = list(raw_maps[0])
    for derivative in raw_maps[0]:
        if derivative.entities.get("stat") != "effect":
            continue
        fine = np.kron(derivative.volume.data, np.ones((2, 2, 1)))
        for name, values in (
            ("bspline", fine),
            ("srgan", 0.2 * fine),
            ("measured", 0 * fine),
            ("tv", fine + 200 * np.kron(rng.standard_normal(SHAPE), np.ones((2, 2, 1)))),
        ):
            entities = {**derivative.entities, "desc": name, "res": "hr"}
            maps.append(mapped(Volume(values.astype(np.float32), HIGH_AFFINE), entities))
    flags, rows = flags_of((maps, []), at_rest=at_rest)
    raised = {flag.series: flag.raised for flag in flags if flag.name == "lost_activation"}
    assert raised == {"bspline": False, "srgan": True, "tv": True}
    slopes = {
        row.series: row.value
        for row in rows
        if (row.statistic, row.contrast) == ("acquired_slope", "thumb")
    }
    assert slopes["bspline"] == pytest.approx(1.0, abs=0.1)
    assert slopes["srgan"] == pytest.approx(slopes["bspline"] / 5)


def explained(series, value, *, minus="n/a"):
    """Return the row of the explained detail of a series, with an interval of ±.05."""
    return named_row(
        series,
        "split_ev_beyond" if minus == "n/a" else "gain_split_ev_beyond",
        value,
        against="measured" if minus == "n/a" else minus,
        lower=value - 0.05,
        upper=value + 0.05,
        contrast="all",
        region="brain",
    )


def test_a_harmful_method_is_flagged_unless_it_was_not_applied(raw_maps):
    halves = [explained(series, -1.6) for series in ("srgan", "sbl")]
    cards = {"sbl": {"applied": False}}
    flags, rows = flags_of(raw_maps, halves, cards=cards, methods=("srgan", "sbl"))
    harmful = [(row.series, row.value) for row in rows if row.statistic == "flag_harm"]
    assert harmful == [("srgan", 1.0)]
    assert [(flag.series, flag.raised) for flag in flags if flag.name == "harm"] == [
        ("srgan", True)
    ]


def judge_tables(
    *tables,
    cards=None,
    confounds=NO_MOTION,
    self_test_facts=None,
    methods=("sbl",),
    baselines=("bspline",),
):
    verdict, verdict_rows, _ = decide_verdict(
        list(tables),
        self_test_facts or {},
        confounds,
        card_file=cards,
        method_names=methods,
        series_names=(*baselines, *methods),
        margin=None,
    )
    return *join_evaluation(list(tables), verdict_rows, input_smoothing=nan), verdict


def test_the_stored_verdict_has_large_effects_of_recovered_contrasts():
    effects = LargeEffects(
        median=1.0,
        p95=5.0,
        n=20,
        n_active=300,
        detail_share=0.4,
        dark_share=0.5,
        other_dark_share=0.1,
    )
    rows = make_tested_rows()
    verdict, _, _ = decide_verdict(
        [rows], {}, NO_MOTION, method_names=["sbl"], series_names=["bspline", "sbl"], margin=None
    )
    for contrast in ("body", "scene"):  # the detail of scene is not recovered
        rows += effects.list_rows("sbl", contrast, 0.0)
    stored = add_large_effects(verdict, rows)
    by_contrast = {facts["contrast"]: facts for facts in stored["contrasts"]}
    assert [name for name, facts in by_contrast.items() if "large_effects" in facts] == ["body"]
    assert by_contrast["body"]["large_effects"]["dark_voxels"] == 10
    assert by_contrast["body"].items() >= verdict["contrasts"][1].items()
    assert json.loads(json.dumps(stored)) == stored


def test_verdict_and_all_tables_form_one_table():
    halves = [explained("sbl", 0.1, minus=name) for name in ("bspline", "inject")]
    known = named_row("sbl", "truth_ap", 0.5, against="truth")
    rows, columns, verdict = judge_tables(
        [*halves, explained("sbl", 0.3)], [known], baselines=("bspline", "inject")
    )
    assert verdict["headline"].startswith("sbl ")
    assert rows[:4] == [*halves, explained("sbl", 0.3), known]
    verdicts = ("", "_margin", "_function", "_image", "_applied")
    assert {row.statistic for row in rows[4:]} == {
        "flag_harm",
        *(f"verdict{name}" for name in verdicts),
    }
    assert set(columns["statistic"]["Levels"]) == {row.statistic for row in rows}
    json.dumps(verdict, allow_nan=False)


def test_a_network_that_was_stopped_early_is_not_applied_and_named_with_its_reason():
    card = {"phases": {"search": {"iterations": 4, "of": 100_000, "stopped_by": "time"}}}
    rows, _, verdict = judge_tables(
        [explained("srgan", 0.1, minus="bspline")], cards={"srgan": card}, methods=("srgan",)
    )
    assert sum("4 of 100,000 steps" in warning for warning in verdict["warnings"]) == 1
    assert verdict["not_applied"] == ["srgan"]
    assert verdict["status"] == "not applied"
    applied = {row.series: row.value for row in rows if row.statistic == "verdict_applied"}
    assert applied == {"srgan": 0.0}


@pytest.mark.parametrize(
    "card",
    [
        {"applied": False},
        {"held_out": {"model": "zero filling: less than 2% of its error was explained"}},
    ],
)
def test_a_zero_filled_method_is_removed_from_all_comparisons(card):
    pairs = [("sbl", "bspline"), ("srgan", "sbl"), ("srgan", "bspline")]
    gains = [explained(series, 0.1, minus=minus) for series, minus in pairs]
    cards = {"sbl": card, "tv": {"applied": True, "held_out": {"model": "it is the one here"}}}
    rows, _, verdict = judge_tables(
        [*gains, explained("sbl", 0.0)], cards=cards, methods=("srgan", "sbl", "tv")
    )
    assert any("sbl was not applied" in warning for warning in verdict["warnings"])
    compared = {(line["series"], line.get("minus")) for line in verdict["sentences"]}
    assert not any("sbl" in pair for pair in compared)
    applied = {row.series: row.value for row in rows if row.statistic == "verdict_applied"}
    assert applied == {"srgan": 1.0, "tv": 1.0, "sbl": 0.0}
    detail = [row for row in rows if row.statistic == "ev"]
    assert detail == [gains[2], explained("sbl", 0.0)]
