"""Sizes of regions, the grown region, flags and the verdict, from values."""

import json
from math import nan

import numpy as np
import pandas as pd
import pytest
from mapmaker import mapped
from shortnames import against_of, measure_of

from bids_sr.glm.regressors import Events
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import MetricRow
from bids_sr.pipeline.artifacts import Derivative
from bids_sr.steps.activation import map_series
from bids_sr.steps.evaluation import join_evaluation
from bids_sr.steps.judgment import _maps_of_raw, judge, raise_flags
from bids_sr.steps.map_comparison import sorted_maps
from bids_sr.steps.region_growth import grow_region

CONTRASTS = {
    "thumb": {"thumb": 1.0},
    "little": {"little": 1.0},
    "thumbMinusLittle": {"thumb": 1.0, "little": -1.0},
}
SHAPE, FINE = (12, 10, 4), (24, 20, 4)
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
FINE_AFFINE = np.diag([2.0, 2.0, 4.0, 1.0])
FINE_AFFINE[:2, 3] = -1.0
VOXEL, FACTOR = (4.0, 4.0, 4.0), (2.0, 2.0, 1.0)
MODEL = {"tr": 2.0, "n_dummy": 0, "low_pass": 0.1, "start_time": 1.0}
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
STILL = pd.DataFrame({"framewise_displacement": [nan, 0.0]})


def course(phase):
    """Blocks of 16 s every 64 s, 5 s late as the response is."""
    times = np.arange(80) * 2.0 - 4
    return ((times - 8 - phase) % 64 < 16) & (times >= 8 + phase)


def write_series(path, shape, affine, scale):
    rng = np.random.default_rng(0)
    with SeriesWriter(path, (*shape, 80), affine, 2.0) as writer:
        for t in range(80):
            volume = 1000 + 4 * rng.standard_normal(shape)
            volume[4 * scale : 8 * scale, 3 * scale : 5 * scale, 1] += 60 * course(0)[t]
            volume[6 * scale : 9 * scale, 5 * scale : 7 * scale, 2] += 60 * course(32)[t]
            writer.append(volume)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("in")
    write_series(folder / "lr.nii", SHAPE, AFFINE, 1)
    write_series(folder / "hr.nii", FINE, FINE_AFFINE, 2)
    return {"raw": folder / "lr.nii", "bspline": folder / "hr.nii"}


def mask_of(series: str) -> Volume:
    return (
        Volume(np.ones(SHAPE, bool), AFFINE)
        if series == "raw"
        else Volume(np.ones(FINE, bool), FINE_AFFINE)
    )


def roi_of(series: str) -> Volume:
    """Its border cuts both activations."""
    mask, scale = mask_of(series), 1 if series == "raw" else 2
    roi = np.zeros(mask.data.shape, bool)
    roi[3 * scale : 7 * scale, 2 * scale : 8 * scale, 1:3] = True
    return Volume(roi, mask.affine)


@pytest.fixture(scope="module")
def raw_maps(files, tmp_path_factory) -> tuple[list[Derivative], list[MetricRow]]:
    with SeriesReader(files["raw"]) as reader:
        maps, rows, *_ = map_series(
            reader,
            mask_of("raw"),
            roi_of("raw"),
            EVENTS,
            tmp_path_factory.mktemp("raw"),
            series_name="raw",
            smoothing=[0.0],
            contrasts=CONTRASTS,
            kinds=["cc", "glm"],
            thresholds=("quarter", "fdr", "3.1"),
            factor=FACTOR,
            high_pass=1 / 128,
            axis_order=(0, 1, 2),
            nuisance=None,
            **MODEL,
        )
    return maps, rows


def test_correlation_maps_are_those_maps_of_raw_at_its_widest_smoothing():
    def own(desc, contrast="thumb", stat="cc"):
        return mapped(
            Volume(np.zeros((1, 1, 1)), np.eye(4)),
            {"contrast": contrast, "stat": stat, "desc": desc, "suffix": "statmap"},
        )

    maps = [
        own("raw"),
        own("rawFwhm50"),
        own("bsplineFwhm132"),
        own("rawFwhm50", stat="t"),
        own("raw", "all"),
        mapped("region", {"label": "thumb", "desc": "rawQuarter", "suffix": "mask"}),
    ]
    found = _maps_of_raw(sorted_maps(maps)[0], "cc", ["thumb"])
    assert list(found) == ["thumb"]
    assert found["thumb"] is maps[1].volume.data


def grown(files, tmp_path, roi=None, smoothing=(0.0,)):
    with SeriesReader(files["raw"]) as reader:
        return grow_region(
            reader,
            mask_of("raw"),
            roi or roi_of("raw"),
            mask_of("bspline"),
            roi_of("bspline"),
            EVENTS,
            tmp_path,
            contrasts=CONTRASTS,
            smoothing=smoothing,
            **MODEL,
        )


def test_grown_region_takes_in_what_the_border_cut(files, tmp_path):
    roi, fine, facts = grown(files, tmp_path)
    added = np.argwhere(roi.data & ~roi_of("raw").data)
    assert {tuple(v) for v in added} == {
        (7, 3, 1),
        (7, 4, 1),
        (7, 5, 2),
        (7, 6, 2),
        (8, 5, 2),
        (8, 6, 2),
    }
    assert int((fine.data & ~roi_of("bspline").data).sum()) == 4 * len(added)
    assert fine.data[14:16, 6:10, 1].all()
    np.testing.assert_array_equal(fine.affine, FINE_AFFINE)
    assert facts["roi_grown_voxels"] == len(added)
    wide, _, _ = grown(files, tmp_path, smoothing=(0.0, 4.0))  # the widest is followed
    assert wide.data.sum() > roi_of("raw").data.sum()


def test_empty_region_names_reason_and_fix(files, tmp_path):
    empty = mask_of("raw").like(np.zeros(SHAPE, bool))
    with pytest.raises(ValueError, match=r"region of interest.*does not overlap the brain.*--roi"):
        grown(files, tmp_path, roi=empty)


GIVEN = {"contrasts": CONTRASTS, "factor": FACTOR, "method_names": (), "at_rest": False}


def flags_of(raw_maps, *tables, pair=(), cards=None, **changes):
    brain, roi = mask_of("raw"), roi_of("raw")
    found, rows = raise_flags(
        list(tables), raw_maps[0], brain, roi, *pair, card_file=cards, **GIVEN | changes
    )
    json.dumps(found)
    return found["flags"], rows


def test_flags_are_rows_and_words(raw_maps):
    rng = np.random.default_rng(2)
    high = np.zeros((32, 32, 8), dtype=np.float32)
    high[8:24, 8:24] = 100
    high += rng.standard_normal(high.shape).astype(np.float32)
    low = high.reshape(16, 2, 16, 2, 8).mean(axis=(1, 3))
    low[:, :, 3] += 40 * rng.standard_normal((16, 16))
    mask = np.zeros(low.shape, dtype=bool)
    mask[5:11, 5:11] = True
    pair = Volume(high, FINE_AFFINE), Volume(low, AFFINE), Volume(mask, AFFINE)
    flags, told = flags_of(
        raw_maps, [MetricRow(series="run", statistic="edge_mismatch", value=2.5)], pair=pair
    )
    rows = {(measure_of(r), r.contrast): r.value for r in told}
    assert rows["flag_task_not_done", "thumb"] == 0.0
    assert rows["flag_artifact", "n/a"] == 1.0
    assert rows["flag_distortion", "n/a"] == 1.0
    assert len(rows) == 8
    words = {each["name"]: each for each in flags}
    assert "slices 3 " in words["artifact"]["text"]
    assert words["distortion"]["remedy"]


def test_flags_without_pair_and_tables(raw_maps):
    _, rows = flags_of(raw_maps, [])
    assert {measure_of(r) for r in rows} == {
        "flag_task_not_done",
        "flag_broad",
        "flag_roi_misplaced",
    }
    # correlation with a seed is no sign of a task
    assert flags_of(raw_maps, [], at_rest=True) == ([], [])


def test_a_flag_that_was_raised_elsewhere_is_not_repeated(raw_maps):
    edges = [
        MetricRow(series="run", statistic=m, value=1.0)
        for m in ("edge_mismatch", "flag_distortion")
    ]
    flags, rows = flags_of(raw_maps, edges)
    assert "flag_distortion" not in {measure_of(r) for r in rows}
    assert {each["name"]: each["raised"] for each in flags}["distortion"] is True


def test_a_method_that_does_harm_is_flagged_unless_it_was_not_applied(raw_maps):
    halves = [
        MetricRow(
            series=one,
            statistic="ev",
            band="beyond",
            reference="measured",
            value=-1.6,
            lower=-1.9,
            upper=-1.3,
            contrast="all",
            region="brain",
        )
        for one in ("srgan", "sbl")
    ]
    flags, rows = flags_of(
        raw_maps, halves, cards={"sbl": {"applied": False}}, method_names=("srgan", "sbl")
    )
    assert [(r.series, r.value) for r in rows if measure_of(r) == "flag_harm"] == [("srgan", 1.0)]
    (said,) = [each for each in flags if each["name"] == "harm"]
    assert said["raised"]
    assert "detail added by srgan is wrong" in said["text"]


def judged(
    *tables, cards=None, confounds=STILL, one_level=None, methods=("sbl",), others=("bspline",)
):
    verdict, verdict_rows = judge(
        list(tables),
        one_level or {},
        confounds,
        cards,
        method_names=methods,
        series_names=(*others, *methods),
        margin=None,
    )
    return *join_evaluation(list(tables), verdict_rows), verdict


def test_large_motion_and_the_test_one_level_down_reach_the_verdict():
    moved = pd.DataFrame({"framewise_displacement": [nan, 0.8, 0.9], "trans_x": 0})
    facts = {
        "from_mm": [12, 12, 3],
        "to_mm": [6, 6, 3],
        "series": {"sbl": {"reason": "the matrix is too small"}},
    }
    _, _, said = judged([], confounds=moved, one_level=facts)
    assert said["motion_text"].endswith("in 100 % of the volumes.")
    assert said["headline"].startswith("Accuracy was not measured in this run.")
    assert "Treat the sbl maps as interpolated maps" in said["headline"]
    assert said["headline"].endswith("finer than 6 mm.")


def gains(*pairs):
    return [
        MetricRow(
            series=one,
            minus=other,
            statistic="ev",
            band="beyond",
            reference="measured",
            value=0.1,
            lower=0.05,
            upper=0.15,
            contrast="all",
            region="brain",
        )
        for one, other in pairs
    ]


def test_verdict_and_all_tables_are_one_table():
    own = MetricRow(
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
    halves = [*gains(("sbl", "bspline"), ("sbl", "inject")), own]
    rows, described, said = judged(
        halves,
        [MetricRow(series="sbl", statistic="average_precision", reference="truth", value=0.5)],
        others=("bspline", "inject"),
    )
    assert said["headline"].startswith("sbl recovers detail")
    assert [measure_of(r) for r in rows][:4] == ["gain_split_ev_beyond"] * 2 + [
        "split_ev_beyond",
        "truth_ap",
    ]
    assert {measure_of(r) for r in rows[4:]} == {
        "verdict",
        "verdict_margin",
        "verdict_function",
        "verdict_image",
        "verdict_specific",
        "verdict_applied",
    }
    assert set(described["statistic"]["Levels"]) == {r.statistic for r in rows}
    json.dumps(said, allow_nan=False)


@pytest.mark.parametrize(
    "card",
    [
        {"applied": False},
        {"held_out": {"model": "zero filling: less than 2% of its error was explained"}},
    ],
)
def test_a_card_that_says_zero_filling_takes_its_method_out_of_all_comparisons(card):
    halves = gains(
        ("sbl", "bspline"), ("sbl", "sblMirror"), ("srgan", "sbl"), ("srgan", "bspline")
    )
    halves.append(
        MetricRow(series="sbl", statistic="ev", band="beyond", reference="measured", value=0.0)
    )
    cards = {"sbl": card, "tv": {"applied": True, "held_out": {"model": "it is the one here"}}}
    rows, _, said = judged(halves, cards=cards, methods=("srgan", "sbl", "tv"))
    assert said["not_applied_text"].startswith("sbl was not applied (zero filled).")
    assert not any("sbl" in (each["series"], each.get("minus")) for each in said["sentences"])
    assert {r.series: r.value for r in rows if measure_of(r) == "verdict_applied"} == {
        "srgan": 1.0,
        "tv": 1.0,
        "sbl": 0.0,
    }
    left = {(r.series, against_of(r)) for r in rows if measure_of(r) == "gain_split_ev_beyond"}
    assert left == {("srgan", "bspline")}
    assert any(measure_of(r) == "split_ev_beyond" for r in rows)
