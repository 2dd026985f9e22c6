"""Test detection metrics against definitions, worked examples and known activation, and undefined
values.
"""

import math
from functools import partial

import numpy as np
import pytest
from data.short_names import against_of, measure_of

from bids_sr.evaluation.agreement import agreement_rows
from bids_sr.evaluation.effects_of_run import RunEffects
from bids_sr.evaluation.reference_maps import (
    _rank_voxels,
    _score_detection,
    make_known_effects,
    reference_map_rows,
)
from bids_sr.evaluation.references import make_known_reference, make_map_reference
from bids_sr.glm.block_effects import Effects, save_effects
from bids_sr.glm.blocks import TaskBlock, _assign_halves
from bids_sr.io.volume import Volume
from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.spatial.transforms import hr_grid

SHAPE = (12, 10, 4)
AFFINE = np.array([[2.0, 0, 0, -10], [0, 2.0, 0, -8], [0, 0, 3.0, -4], [0, 0, 0, 1]])
CONTRASTS = {
    "thumb": {"thumb": 1.0},
    "little": {"little": 1.0},
    "thumbMinusLittle": {"thumb": 1.0, "little": -1.0},
}


@pytest.mark.parametrize("levels", [1000, 5])
def test_average_precision_equals_its_definition(levels):
    """Precision at or above the score of each active voxel."""
    rng = np.random.default_rng(levels)
    active = rng.random(400) < 0.1
    score = np.round((rng.normal(size=400) + active) * levels) / levels
    precision = np.mean([active[score >= threshold].mean() for threshold in score[active]])
    assert _rank_voxels(score, active)[1] == pytest.approx(precision, abs=1e-12)


def test_undefined_metrics_are_nan():
    no_voxels, score = np.zeros(5, dtype=bool), np.arange(5.0)
    assert math.isnan(_rank_voxels(score, no_voxels)[1])
    assert math.isnan(_rank_voxels(score[:0], no_voxels[:0])[1])
    empty = np.zeros(SHAPE, dtype=bool)
    metrics = _score_detection(np.random.default_rng(0).normal(size=SHAPE), empty, ~empty)
    assert all(math.isnan(value) for value in metrics.values())


def test_dice_at_matched_size_equals_a_worked_value():
    t = np.zeros(SHAPE, dtype=np.float32)
    active = np.zeros(SHAPE, dtype=bool)
    active[2:6, 3, 1] = True
    t[4:8, 3, 1] = [9, 8, 7, 6]
    t[0, 0, 0] = 100
    region = np.ones(SHAPE, dtype=bool)
    region[0] = False
    metrics = _score_detection(t, active, region)
    assert metrics["active_dice"] == pytest.approx(0.5)
    assert metrics["average_precision"] == pytest.approx(
        (1 + 1 + 2 * 4 / region.sum()) / 4
    )  # the other active voxels tie with all zeros


def simulated_maps(seed=0):
    """Simulate maps of measured, bspline and a method with sharper foci, by series and (contrast,
    stat).
    """
    rng = np.random.default_rng(seed)
    true = {name: np.zeros(SHAPE, dtype=np.float32) for name in ("thumb", "little")}
    true["thumb"][3:6, 3:6, 1], true["little"][7:10, 3:6, 1] = 10, 8
    out = {}
    for series, share in (("measured", 1.0), ("bspline", 0.5), ("sbl", 0.8)):
        noise = {k: 0.1 * rng.normal(size=SHAPE) for k in true}
        maps = {k: (share * v + noise[k]).astype(np.float32) for k, v in true.items()}
        maps["thumbMinusLittle"] = maps["thumb"] - maps["little"]
        out[series] = {(k, stat): v for k, v in maps.items() for stat in ("t", "effect")}
    return out, true


def values_by_key(maps, **changes):
    roi = np.zeros(SHAPE, dtype=bool)
    roi[2:11, 2:7] = True
    options = {
        "grid": Volume(data=np.ones(SHAPE, dtype=bool), affine=AFFINE),
        "roi": roi,
        "known": {},
    } | changes
    files = {
        0.0: {s: {key: (s, key) for key in maps_of_series} for s, maps_of_series in maps.items()}
    }
    rows = reference_map_rows(files, lambda path: maps[path[0]][path[1]], CONTRASTS, **options)
    return {(r.series, against_of(r), r.contrast, r.region, measure_of(r)): r.value for r in rows}


def test_maps_are_compared_with_measured_maps_and_gains_with_bspline():
    maps, _ = simulated_maps()
    rows = values_by_key(maps)
    a, b = maps["sbl"]["thumb", "t"], maps["measured"]["thumb", "t"]
    key = ("thumb", "brain")
    assert rows["sbl", "measured", *key, "truth_r_t"] == pytest.approx(
        np.corrcoef(a.ravel(), b.ravel())[0, 1]
    )
    active = np.abs(b) > 4
    expected = np.corrcoef(a[active], b[active])[0, 1]
    assert rows["sbl", "measured", "thumb", "active40", "truth_r_t"] == pytest.approx(
        expected, abs=1e-6
    )
    assert rows["sbl", "bspline", *key, "gain_truth_r_t"] == pytest.approx(
        rows["sbl", "measured", *key, "truth_r_t"] - rows["bspline", "measured", *key, "truth_r_t"]
    )
    assert not any("dice" in key[-1] for key in rows), "detection requires known activation"
    assert ("measured", "measured", *key, "truth_r_t") not in rows


def test_known_activation_is_resampled_to_the_grid_of_the_maps():
    maps, true = simulated_maps()
    shift = AFFINE.copy()
    shift[:3, 3] -= AFFINE[:3, :3] @ [2, 0, 0]  # two more voxels at the start of the first axis
    activation = {k: (np.pad(v, ((2, 0), (0, 0), (0, 0))), shift) for k, v in true.items()}
    grid = Volume(data=np.ones(SHAPE, dtype=bool), affine=AFFINE)
    truths = make_known_effects(activation, CONTRASTS, grid)
    np.testing.assert_allclose(truths["thumbMinusLittle"].effect, true["thumb"] - true["little"])
    assert truths["thumbMinusLittle"].active.sum() == 9
    rows = values_by_key(maps, known=activation)
    assert rows["measured", "truth", "little", "roi", "truth_dice"] == 1
    assert rows["sbl", "truth", "thumb", "active", "truth_r_effect"] != 0
    assert ("sbl", "truth", "thumb", "brain", "truth_r_t") not in rows
    assert not any(
        key[0] == "sbl" and key[1] == "bspline" and "gain" not in key[-1] for key in rows
    )


def test_values_of_empty_regions_and_zero_activation_are_nan(caplog):
    maps, _ = simulated_maps()
    rows = values_by_key(maps, roi=np.zeros(SHAPE, dtype=bool))
    assert "region of interest contains no voxels" in caplog.text
    roi_values = {key: value for key, value in rows.items() if key[3] == "roi"}
    assert roi_values
    assert all(math.isnan(value) for value in roi_values.values())
    rows = values_by_key(maps, known={"thumb": (np.zeros(SHAPE, dtype=np.float32), AFFINE)})
    assert math.isnan(rows["sbl", "truth", "thumb", "roi", "truth_dice"])
    assert math.isnan(rows["sbl", "truth", "thumb", "brain", "truth_ap"])


def test_maps_of_another_grid_are_rejected():
    maps, _ = simulated_maps()
    maps["measured"] = {key: value[1:] for key, value in maps["measured"].items()}
    with pytest.raises(ValueError, match="not on the grid"):
        values_by_key(maps)


def test_detail_above_nyquist_is_filtered_before_masking(tmp_path):
    rng = np.random.default_rng(0)
    shape, affine = hr_grid((6, 5, 4), np.diag([4.0, 4.0, 3.0, 1.0]), (2, 2, 1))
    blocks = tuple(
        _assign_halves(
            [TaskBlock(condition="thumb", events=((20.0 * k, 10.0),)) for k in range(4)]
        )
    )
    true = rng.normal(size=shape).astype(np.float32)
    fine = beyond_nyquist(true, (2, 2, 1))
    files = {}
    for name, share in (("measured", 1.0), ("bspline", 0.0), ("sbl", 0.5)):
        maps = true - fine + share * fine + rng.normal(size=shape) * 0.5
        effects = Effects(
            series=name,
            affine=affine,
            mask=np.ones(shape, dtype=bool),
            betas=np.repeat(maps[..., None], 4, -1).astype(np.float32),
            mean=np.ones(shape, dtype=np.float32),
            blocks=blocks,
            covariance=np.eye(4),
            leak=np.zeros((4, 5)),
        )
        files[name] = save_effects(effects, tmp_path / f"{name}.npz")
    mask = np.zeros(shape, dtype=bool)
    mask[2:10, 2:8] = True
    options = {"files": files, "contrasts": CONTRASTS, "mask": mask, "affine": affine, "roi": mask}
    run = RunEffects(**options, factor=(2, 2, 1))
    rows = agreement_rows(
        run, make_map_reference, partial(make_known_reference, known={"thumb": (true, affine)})
    )
    correlations = {
        (r.series, against_of(r), r.region): r.value
        for r in rows
        if measure_of(r) == "truth_r_beyond"
    }
    sbl = np.load(files["sbl"])["betas"][..., 0]
    expected = np.corrcoef(beyond_nyquist(sbl, (2, 2, 1))[mask], fine[mask])[0, 1]
    assert correlations["sbl", "truth", "brain"] == pytest.approx(expected, abs=1e-5)
    assert correlations["sbl", "truth", "brain"] > correlations["bspline", "truth", "brain"] + 0.3
    assert correlations["sbl", "measured", "brain"] > correlations["bspline", "measured", "brain"]
    gains = [r for r in rows if measure_of(r) == "gain_truth_r_beyond" and r.region == "brain"]
    assert [(r.series, against_of(r)) for r in gains] == [("sbl", "bspline")]
    assert agreement_rows(RunEffects(**options, factor=(1, 1, 1)), make_map_reference) == []


def test_connected_voxels_are_compared_with_the_known_network():
    maps, true = simulated_maps()
    maps["sbl"]["thumb", "cc"] = cc = (
        np.random.default_rng(5).uniform(-1, 1, SHAPE).astype(np.float32)
    )
    network = {"thumb": (true["thumb"], AFFINE)}
    rows = values_by_key(maps, known=network)
    connected, true_network = cc >= 0.5, true["thumb"] >= 0.25 * true["thumb"].max()
    place = ("thumb", "brain")
    assert rows["sbl", "truth", *place, "truth_connected_acc"] == pytest.approx(
        (connected == true_network).mean()
    )
    assert rows["sbl", "truth", *place, "truth_connected_fdr"] == pytest.approx(
        1 - true_network[connected].mean()
    )
    jaccard = (connected & true_network).sum() / (connected | true_network).sum()
    assert rows["sbl", "truth", *place, "truth_connected_jaccard"] == pytest.approx(jaccard)
    # bspline has no correlation map in this test
    assert ("bspline", "truth", *place, "truth_connected_acc") not in rows


def test_connected_voxels_are_compared_with_the_network_of_the_measured_series():
    """As in Table 3 of the paper, the network of the original series at .5 is the reference."""
    maps, _ = simulated_maps()
    rng = np.random.default_rng(6)
    for name in ("measured", "bspline", "sbl"):
        maps[name]["thumb", "cc"] = rng.uniform(-1, 1, SHAPE).astype(np.float32)
    rows = values_by_key(maps)
    measured_network = maps["measured"]["thumb", "cc"] >= 0.5
    place = ("thumb", "brain")
    for name in ("bspline", "sbl"):
        connected = maps[name]["thumb", "cc"] >= 0.5
        metrics = {
            measure: rows[name, "measured", *place, f"truth_connected_{measure}"]
            for measure in ("acc", "fdr", "jaccard")
        }
        assert metrics == pytest.approx(
            {
                "acc": (connected == measured_network).mean(),
                "fdr": 1 - measured_network[connected].mean(),
                "jaccard": (connected & measured_network).sum()
                / (connected | measured_network).sum(),
            }
        )
    assert not any(key[0] == "measured" for key in rows)
    assert not any("active" in key[-1] for key in rows)  # truly active voxels are unknown
