"""Truth: detection figures against definitions, worked examples, known activation, what is not
defined.
"""

import math
from functools import partial

import numpy as np
import pytest
from shortnames import against_of, measure_of

from bids_sr.evaluation.agreement import agreement_rows
from bids_sr.evaluation.effects_of_run import RunEffects
from bids_sr.evaluation.reference_maps import _detection, _ranking, known_truths, truth_rows
from bids_sr.evaluation.references import known_activation, measured_map
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
def test_precision_and_roc_are_what_their_definitions_say_with_and_without_ties(levels):
    """Precision at or above the score of each active voxel; share of pairs that are ordered, ties
    half.
    """
    rng = np.random.default_rng(levels)
    active = rng.random(400) < 0.1
    score = np.round((rng.normal(size=400) + active) * levels) / levels
    precision = np.mean([active[score >= own].mean() for own in score[active]])
    assert _ranking(score, active)[1] == pytest.approx(precision, abs=1e-12)
    apart = score[active][:, None] - score[~active]
    assert _ranking(score, active)[2] == pytest.approx(
        np.mean((apart > 0) + 0.5 * (apart == 0)), abs=1e-12
    )


def test_what_is_not_defined_is_not_a_number():
    nothing, score = np.zeros(5, dtype=bool), np.arange(5.0)
    assert math.isnan(_ranking(score, nothing)[1])
    assert math.isnan(_ranking(score, nothing)[2])
    assert math.isnan(_ranking(score, ~nothing)[2])
    assert math.isnan(_ranking(score[:0], nothing[:0])[1])
    empty = np.zeros(SHAPE, dtype=bool)
    found = _detection(np.random.default_rng(0).normal(size=SHAPE), empty, ~empty, AFFINE)
    assert all(math.isnan(value) for value in found.values())


def test_dice_and_centers_at_matched_size_by_hand():
    t = np.zeros(SHAPE, dtype=np.float32)
    active = np.zeros(SHAPE, dtype=bool)
    active[2:6, 3, 1] = True
    t[4:8, 3, 1] = [9, 8, 7, 6]
    t[0, 0, 0] = 100
    region = np.ones(SHAPE, dtype=bool)
    region[0] = False
    found = _detection(t, active, region, AFFINE)
    assert found["active_dice"] == pytest.approx(0.5)
    assert found["active_distance"] == pytest.approx(4.0)  # two voxels of 2 mm
    assert found["average_precision"] == pytest.approx(
        (1 + 1 + 2 * 4 / region.sum()) / 4
    )  # both others tie with all that is zero


def world(seed=0):
    """Maps of measured, bspline and a method with sharper foci; by series and (contrast, stat)."""
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


def rows_of(maps, **changes):
    roi = np.zeros(SHAPE, dtype=bool)
    roi[2:11, 2:7] = True
    given = {
        "grid": Volume(data=np.ones(SHAPE, dtype=bool), affine=AFFINE),
        "roi": roi,
        "known": {},
    } | changes
    files = {0.0: {s: {key: (s, key) for key in found} for s, found in maps.items()}}
    rows = truth_rows(files, lambda at: maps[at[0]][at[1]], CONTRASTS, **given)
    return {(r.series, against_of(r), r.contrast, r.region, measure_of(r)): r.value for r in rows}


def test_maps_are_held_against_the_measured_ones_and_gains_are_over_bspline():
    maps, _ = world()
    rows = rows_of(maps)
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
    assert not any("dice" in key[-1] for key in rows), (
        "a measured map is no truth that voxels are found by"
    )
    assert ("measured", "measured", *key, "truth_r_t") not in rows
    foci = {
        s: rows[s, "measured", "thumb+little", "roi", "truth_foci"] for s in ("bspline", "sbl")
    }
    assert foci["sbl"] == pytest.approx(0.8, abs=0.05)
    assert foci["bspline"] == pytest.approx(0.5, abs=0.05)


def test_known_activation_on_another_grid_has_its_own_active_voxels_and_differences_follow():
    maps, true = world()
    shift = AFFINE.copy()
    shift[:3, 3] -= AFFINE[:3, :3] @ [2, 0, 0]  # two voxels more at the start of the first axis
    known = {k: (np.pad(v, ((2, 0), (0, 0), (0, 0))), shift) for k, v in true.items()}
    grid = Volume(data=np.ones(SHAPE, dtype=bool), affine=AFFINE)
    truths = known_truths(known, CONTRASTS, grid)
    np.testing.assert_allclose(truths["thumbMinusLittle"].effect, true["thumb"] - true["little"])
    assert truths["thumbMinusLittle"].active.sum() == 9
    rows = rows_of(maps, known=known)
    assert rows["measured", "truth", "little", "roi", "truth_dice"] == 1
    assert rows["sbl", "truth", "thumb+little", "roi", "truth_foci"] == pytest.approx(
        0.8, abs=0.05
    )
    assert rows["sbl", "truth", "thumb", "active", "truth_r_effect"] != 0
    assert ("sbl", "truth", "thumb", "brain", "truth_r_t") not in rows
    assert not any(
        key[0] == "sbl" and key[1] == "bspline" and "gain" not in key[-1] for key in rows
    )


def test_an_empty_region_and_silence_are_not_a_number(caplog):
    maps, _ = world()
    rows = rows_of(maps, roi=np.zeros(SHAPE, dtype=bool))
    assert "region of interest contains no voxels" in caplog.text
    inside = {key: value for key, value in rows.items() if key[3] == "roi"}
    assert inside
    assert all(math.isnan(value) for value in inside.values())
    rows = rows_of(maps, known={"thumb": (np.zeros(SHAPE, dtype=np.float32), AFFINE)})
    assert math.isnan(rows["sbl", "truth", "thumb", "roi", "truth_dice"])
    assert math.isnan(rows["sbl", "truth", "thumb", "brain", "truth_ap"])


def test_maps_of_another_grid_are_refused():
    maps, _ = world()
    maps["measured"] = {key: value[1:] for key, value in maps["measured"].items()}
    with pytest.raises(ValueError, match="not on the grid"):
        rows_of(maps)


def test_detail_beyond_nyquist_comes_from_whole_slices(tmp_path):
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
    given = {"files": files, "contrasts": CONTRASTS, "mask": mask, "affine": affine, "roi": mask}
    run = RunEffects(**given, factor=(2, 2, 1))
    rows = agreement_rows(
        run, measured_map, partial(known_activation, known={"thumb": (true, affine)})
    )
    found = {
        (r.series, against_of(r), r.region): r.value
        for r in rows
        if measure_of(r) == "truth_r_beyond"
    }
    sbl = np.load(files["sbl"])["betas"][..., 0]
    expected = np.corrcoef(beyond_nyquist(sbl, (2, 2, 1))[mask], fine[mask])[0, 1]
    assert found["sbl", "truth", "brain"] == pytest.approx(expected, abs=1e-5)
    assert found["sbl", "truth", "brain"] > found["bspline", "truth", "brain"] + 0.3
    assert found["sbl", "measured", "brain"] > found["bspline", "measured", "brain"]
    gains = [r for r in rows if measure_of(r) == "gain_truth_r_beyond" and r.region == "brain"]
    assert [(r.series, against_of(r)) for r in gains] == [("sbl", "bspline")]
    assert agreement_rows(RunEffects(**given, factor=(1, 1, 1)), measured_map) == []


def test_seed_correlation_sorts_voxels_as_the_known_network_does():
    maps, true = world()
    maps["sbl"]["thumb", "cc"] = cc = (
        np.random.default_rng(5).uniform(-1, 1, SHAPE).astype(np.float32)
    )
    known = {"thumb": (true["thumb"], AFFINE)}
    rows = rows_of(maps, known=known)
    here, there = cc >= 0.5, true["thumb"] >= 0.25 * true["thumb"].max()
    at = ("thumb", "brain")
    assert rows["sbl", "truth", *at, "truth_connected_acc"] == pytest.approx(
        (here == there).mean()
    )
    assert rows["sbl", "truth", *at, "truth_connected_fdr"] == pytest.approx(
        1 - there[here].mean()
    )
    jaccard = (here & there).sum() / (here | there).sum()
    assert rows["sbl", "truth", *at, "truth_connected_jaccard"] == pytest.approx(jaccard)
    assert ("bspline", "truth", *at, "truth_connected_acc") not in rows  # it has no such map here


def test_seed_correlation_sorts_voxels_as_the_network_of_the_measured_series_does():
    """Table 3 of the paper: the network of the original series at .5 is the reference."""
    maps, _ = world()
    rng = np.random.default_rng(6)
    for name in ("measured", "bspline", "sbl"):
        maps[name]["thumb", "cc"] = rng.uniform(-1, 1, SHAPE).astype(np.float32)
    rows = rows_of(maps)
    there = maps["measured"]["thumb", "cc"] >= 0.5
    at = ("thumb", "brain")
    for name in ("bspline", "sbl"):
        here = maps[name]["thumb", "cc"] >= 0.5
        found = {
            measure: rows[name, "measured", *at, f"truth_connected_{measure}"]
            for measure in ("acc", "fdr", "jaccard")
        }
        assert found == pytest.approx(
            {
                "acc": (here == there).mean(),
                "fdr": 1 - there[here].mean(),
                "jaccard": (here & there).sum() / (here | there).sum(),
            }
        )
    assert not any(key[0] == "measured" for key in rows)
    assert not any("active" in key[-1] for key in rows)  # truly active voxels stay unknown
