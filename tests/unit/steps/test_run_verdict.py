"""Test sizes of regions, the grown region, flags and the verdict."""

import json
from dataclasses import replace
from math import nan

import numpy as np
import pandas as pd
import pytest
from data.maps import mapped
from data.short_names import against_of, measure_of

from bids_sr.evaluation.statements import Statement
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.regressors import Events
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import MetricRow
from bids_sr.pipeline.artifacts import Derivative
from bids_sr.steps.activation import MapSettings, map_series
from bids_sr.steps.evaluation import join_evaluation
from bids_sr.steps.linear_models import DesignInputs, LinearModel
from bids_sr.steps.map_comparison import sort_maps_of_run
from bids_sr.steps.region_growth import grow_region
from bids_sr.steps.registration import TrainingPair
from bids_sr.steps.run_verdict import _select_acquired_maps, decide_verdict, raise_flags

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
            reader,
            mask_of("acquired"),
            roi_of("acquired"),
            LinearModel(inputs=INPUTS, contrasts=CONTRASTS),
            tmp_path_factory.mktemp("acquired"),
            series_name="acquired",
            settings=MapSettings(
                smoothing=[0.0],
                kinds=["cc", "glm"],
                thresholds=("quarter", "fdr", "3.1"),
                factor=FACTOR,
                axis_order=(0, 1, 2),
                low_pass=0.1,
            ),
        )
    return results.maps, results.map_metrics


def test_correlation_maps_are_the_acquired_maps_with_the_largest_smoothing():
    def statmap(desc, contrast="thumb", stat="cc"):
        return mapped(
            Volume(np.zeros((1, 1, 1)), np.eye(4)),
            {"contrast": contrast, "stat": stat, "desc": desc, "suffix": "statmap"},
        )

    maps = [
        statmap("acquired"),
        statmap("acquiredFwhm50"),
        statmap("bsplineFwhm132"),
        statmap("acquiredFwhm50", stat="t"),
        statmap("acquired", "all"),
        mapped("region", {"label": "thumb", "desc": "acquiredQuarter", "suffix": "mask"}),
    ]
    correlation_maps = _select_acquired_maps(sort_maps_of_run(maps)[0], "cc", ["thumb"])
    assert list(correlation_maps) == ["thumb"]
    assert correlation_maps["thumb"] is maps[1].volume.data


def grow(files, tmp_path, roi=None, smoothing=(0.0,)):
    with SeriesReader(files["acquired"]) as reader:
        return grow_region(
            reader,
            mask_of("acquired"),
            roi or roi_of("acquired"),
            mask_of("bspline"),
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


def test_an_empty_region_names_reason_and_remedy(files, tmp_path):
    empty = mask_of("acquired").like(np.zeros(SHAPE, bool))
    with pytest.raises(ValueError, match=r"region of interest.*does not overlap the brain.*--roi"):
        grow(files, tmp_path, roi=empty)


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


def test_flags_are_rows_and_sentences(raw_maps):
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
    flags, flag_rows = flags_of(
        raw_maps, [MetricRow(series="run", statistic="edge_mismatch", value=2.5)], pair=pair
    )
    rows = {(measure_of(row), row.contrast): row.value for row in flag_rows}
    assert rows["flag_task_not_done", "thumb"] == 0.0
    assert rows["flag_artifact", "n/a"] == 1.0
    assert rows["flag_distortion", "n/a"] == 1.0
    assert len(rows) == 8
    flags_by_name = {flag.name: flag for flag in flags}
    assert "slices 3 " in flags_by_name["artifact"].text
    assert flags_by_name["distortion"].remedy


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


def test_flags_without_a_pair_and_tables(raw_maps):
    _, rows = flags_of(raw_maps, [])
    assert {measure_of(row) for row in rows} == {
        "flag_task_not_done",
        "flag_broad",
        "flag_roi_misplaced",
    }
    # Correlation with a seed does not show that the task was done.
    assert flags_of(raw_maps, [], at_rest=True) == ((), [])


def test_a_flag_raised_in_a_table_is_not_repeated(raw_maps):
    edges = [
        MetricRow(series="run", statistic=measure, value=1.0)
        for measure in ("edge_mismatch", "flag_distortion")
    ]
    flags, rows = flags_of(raw_maps, edges)
    assert "flag_distortion" not in {measure_of(row) for row in rows}
    assert {flag.name: flag.raised for flag in flags}["distortion"] is True


def test_a_harmful_method_is_flagged_unless_it_was_not_applied(raw_maps):
    halves = [
        MetricRow(
            series=series,
            statistic="ev",
            band="beyond",
            reference="measured",
            value=-1.6,
            lower=-1.9,
            upper=-1.3,
            contrast="all",
            region="brain",
        )
        for series in ("srgan", "sbl")
    ]
    flags, rows = flags_of(
        raw_maps, halves, cards={"sbl": {"applied": False}}, methods=("srgan", "sbl")
    )
    assert [(row.series, row.value) for row in rows if measure_of(row) == "flag_harm"] == [
        ("srgan", 1.0)
    ]
    (flag,) = [listed_flag for listed_flag in flags if listed_flag.name == "harm"]
    assert flag.raised
    assert "detail added by srgan is wrong" in flag.text


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
    return *join_evaluation(list(tables), verdict_rows), verdict


def test_large_motion_and_the_self_test_affect_the_verdict():
    confounds = pd.DataFrame({"framewise_displacement": [nan, 0.8, 0.9], "trans_x": 0})
    facts = {
        "from_mm": [12, 12, 3],
        "to_mm": [6, 6, 3],
        "series": {"sbl": {"reason": "the matrix is too small"}},
    }
    _, _, verdict = judge_tables([], confounds=confounds, self_test_facts=facts)
    assert "100 %" in verdict["motion_text"]
    assert verdict["headline"].startswith(Statement.NOT_MEASURED)
    assert Statement.AS_INTERPOLATED.format(series="sbl") in verdict["headline"]
    assert verdict["headline"].endswith("finer than 6 mm.")


def gains(*pairs):
    return [
        MetricRow(
            series=series,
            minus=baseline,
            statistic="ev",
            band="beyond",
            reference="measured",
            value=0.1,
            lower=0.05,
            upper=0.15,
            contrast="all",
            region="brain",
        )
        for series, baseline in pairs
    ]


def test_verdict_and_all_tables_form_one_table():
    level = MetricRow(
        series="sbl",
        statistic="ev",
        band="beyond",
        reference="measured",
        value=0.3,
        lower=0.2,
        upper=0.4,
        contrast="all",
        region="brain",
    )
    halves = [*gains(("sbl", "bspline"), ("sbl", "inject")), level]
    rows, columns, verdict = judge_tables(
        halves,
        [MetricRow(series="sbl", statistic="average_precision", reference="truth", value=0.5)],
        baselines=("bspline", "inject"),
    )
    assert verdict["headline"].startswith("sbl recovers detail")
    assert [measure_of(row) for row in rows][:4] == ["gain_split_ev_beyond"] * 2 + [
        "split_ev_beyond",
        "truth_ap",
    ]
    assert {measure_of(row) for row in rows[4:]} == {
        "flag_harm",
        "verdict",
        "verdict_margin",
        "verdict_function",
        "verdict_image",
        "verdict_specific",
        "verdict_applied",
    }
    assert set(columns["statistic"]["Levels"]) == {row.statistic for row in rows}
    json.dumps(verdict, allow_nan=False)


@pytest.mark.parametrize(
    "card",
    [
        {"applied": False},
        {"held_out": {"model": "zero filling: less than 2% of its error was explained"}},
    ],
)
def test_a_zero_filled_method_is_removed_from_all_comparisons(card):
    halves = gains(
        ("sbl", "bspline"), ("sbl", "sblMirror"), ("srgan", "sbl"), ("srgan", "bspline")
    )
    halves.append(
        MetricRow(series="sbl", statistic="ev", band="beyond", reference="measured", value=0.0)
    )
    cards = {"sbl": card, "tv": {"applied": True, "held_out": {"model": "it is the one here"}}}
    rows, _, verdict = judge_tables(halves, cards=cards, methods=("srgan", "sbl", "tv"))
    assert verdict["not_applied_text"].startswith(
        Statement.ZERO_FILLED.format(series="sbl", were="was")
    )
    assert not any(
        "sbl" in (sentence["series"], sentence.get("minus")) for sentence in verdict["sentences"]
    )
    assert {row.series: row.value for row in rows if measure_of(row) == "verdict_applied"} == {
        "srgan": 1.0,
        "tv": 1.0,
        "sbl": 0.0,
    }
    remaining = {
        (row.series, against_of(row)) for row in rows if measure_of(row) == "gain_split_ev_beyond"
    }
    assert remaining == {("srgan", "bspline")}
    assert any(measure_of(row) == "split_ev_beyond" for row in rows)
