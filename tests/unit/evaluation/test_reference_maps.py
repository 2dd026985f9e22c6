"""Test comparisons of maps: detection against its definition and a worked example, known networks,
and undefined values.
"""

from functools import partial

import numpy as np
import pytest
from data.block_effects import make_blocks, write_effects
from data.short_names import against_of, measure_of

from bids_sr.evaluation.agreement import agreement_rows
from bids_sr.evaluation.effects_of_run import RunEffects
from bids_sr.evaluation.reference_maps import make_known_effects, reference_map_rows
from bids_sr.evaluation.references import make_known_reference, make_map_reference
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


def simulated_maps(seed=0):
    """Simulate maps of measured, bspline and a method with sharper foci, by series and (contrast,
    stat), and true maps.
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


def values_by_key(maps, *, roi=None, known=None):
    if roi is None:
        roi = np.zeros(SHAPE, dtype=bool)
        roi[2:11, 2:7] = True
    names = {name: {key: (name, key) for key in of_series} for name, of_series in maps.items()}
    rows = reference_map_rows(
        {0.0: names},
        lambda path: maps[path[0]][path[1]],
        CONTRASTS,
        grid=Volume(data=np.ones(SHAPE, dtype=bool), affine=AFFINE),
        roi=roi,
        known=known or {},
    )
    return {(r.series, against_of(r), r.contrast, r.region, measure_of(r)): r.value for r in rows}


def scores_of(t, active, region=None, stat="t"):
    """Return the scores of a map with known active voxels, in the region of interest."""
    known = {"thumb": (active.astype(np.float32), AFFINE)}
    rows = values_by_key({"sbl": {("thumb", stat): t}}, roi=region, known=known)
    return {key[4]: value for key, value in rows.items() if key[3] == "roi"}


@pytest.mark.parametrize("levels", [1000, 5])
def test_average_precision_equals_its_definition(levels):
    """Precision at or above the score of each active voxel."""
    rng = np.random.default_rng(levels)
    active = rng.random(SHAPE) < 0.1
    t = np.round((rng.normal(size=SHAPE) + active) * levels) / levels
    precision = np.mean([active[t >= threshold].mean() for threshold in t[active]])
    scores = scores_of(t, active, np.ones(SHAPE, dtype=bool))
    assert scores["truth_ap"] == pytest.approx(precision, abs=1e-6)


def test_dice_at_matched_size_equals_a_worked_value():
    t = np.zeros(SHAPE, dtype=np.float32)
    active, region = np.zeros(SHAPE, dtype=bool), np.ones(SHAPE, dtype=bool)
    active[2:6, 3, 1] = True
    t[4:8, 3, 1] = [9, 8, 7, 6]
    t[0, 0, 0], region[0] = 100, False
    scores = scores_of(t, active, region)
    assert scores["truth_dice"] == pytest.approx(0.5)
    # the other active voxels tie with all zeros
    assert scores["truth_ap"] == pytest.approx((1 + 1 + 2 * 4 / region.sum()) / 4)


def test_maps_are_compared_with_measured_maps_and_gains_with_bspline():
    maps, _ = simulated_maps()
    rows = values_by_key(maps)
    a, b = maps["sbl"]["thumb", "t"], maps["measured"]["thumb", "t"]
    expected = np.corrcoef(a.ravel(), b.ravel())[0, 1]
    place = ("thumb", "brain", "truth_r_t")
    assert rows["sbl", "measured", *place] == pytest.approx(expected)
    active = np.abs(b) > 4
    expected = np.corrcoef(a[active], b[active])[0, 1]
    value = rows["sbl", "measured", "thumb", "active40", "truth_r_t"]
    assert value == pytest.approx(expected, abs=1e-6)
    assert rows["sbl", "bspline", "thumb", "brain", "gain_truth_r_t"] == pytest.approx(
        rows["sbl", "measured", *place] - rows["bspline", "measured", *place]
    )
    assert not any("dice" in key[-1] for key in rows), "detection requires known activation"
    assert not any(key[0] == "measured" for key in rows)


def test_known_activation_is_resampled_to_the_grid_of_the_maps():
    maps, true = simulated_maps()
    shift = AFFINE.copy()
    shift[:3, 3] -= AFFINE[:3, :3] @ [2, 0, 0]  # two more voxels at the start of the first axis
    activation = {k: (np.pad(v, ((2, 0), (0, 0), (0, 0))), shift) for k, v in true.items()}
    grid = Volume(data=np.ones(SHAPE, dtype=bool), affine=AFFINE)
    truth = make_known_effects(activation, CONTRASTS, grid)["thumbMinusLittle"]
    np.testing.assert_allclose(truth.effect, true["thumb"] - true["little"])
    assert truth.active.sum() == 9
    rows = values_by_key(maps, known=activation)
    assert rows["measured", "truth", "little", "roi", "truth_dice"] == 1
    expected = np.corrcoef(maps["sbl"]["thumb", "effect"].ravel(), true["thumb"].ravel())[0, 1]
    value = rows["sbl", "truth", "thumb", "brain", "truth_r_effect"]
    assert value == pytest.approx(expected, abs=1e-6)
    assert ("sbl", "truth", "thumb", "brain", "truth_r_t") not in rows


def test_detail_above_nyquist_is_filtered_before_masking(tmp_path):
    rng = np.random.default_rng(0)
    shape, affine = hr_grid((6, 5, 4), np.diag([4.0, 4.0, 3.0, 1.0]), (2, 2, 1))
    true = rng.normal(size=shape).astype(np.float32)
    fine = beyond_nyquist(true, (2, 2, 1))
    files, maps = {}, {}
    for name, share in (("measured", 1.0), ("bspline", 0.0), ("sbl", 0.5)):
        maps[name] = true - fine + share * fine + rng.normal(size=shape) * 0.5
        betas = np.repeat(maps[name][..., None], 4, -1)
        files[name] = write_effects(tmp_path, name, betas, make_blocks(["thumb"] * 4), affine)
    mask = np.zeros(shape, dtype=bool)
    mask[2:10, 2:8] = True
    options = {"files": files, "contrasts": CONTRASTS, "mask": mask, "affine": affine, "roi": mask}
    known = partial(make_known_reference, known={"thumb": (true, affine)})
    rows = agreement_rows(RunEffects(**options, factor=(2, 2, 1)), make_map_reference, known)
    r = {
        (row.series, against_of(row)): row.value
        for row in rows
        if measure_of(row) == "truth_r_beyond" and row.region == "brain"
    }
    expected = np.corrcoef(beyond_nyquist(maps["sbl"], (2, 2, 1))[mask], fine[mask])[0, 1]
    assert r["sbl", "truth"] == pytest.approx(expected, abs=1e-5)
    assert r["sbl", "truth"] > r["bspline", "truth"] + 0.3
    assert r["sbl", "measured"] > r["bspline", "measured"]
    gains = [row for row in rows if measure_of(row) == "gain_truth_r_beyond"]
    assert {(row.series, against_of(row)) for row in gains} == {("sbl", "bspline")}
    assert agreement_rows(RunEffects(**options, factor=(1, 1, 1)), make_map_reference) == []


@pytest.mark.parametrize("is_known", [True, False])
def test_connected_voxels_are_compared_with_the_known_or_the_measured_network(is_known):
    """As in Table 3 of the paper, the network of the original series at .5 is the reference."""
    maps, true = simulated_maps()
    rng = np.random.default_rng(6)
    for name in ("measured", "bspline", "sbl"):
        maps[name]["thumb", "cc"] = rng.uniform(-1, 1, SHAPE).astype(np.float32)
    network = maps["measured"]["thumb", "cc"] >= 0.5
    if is_known:
        network = true["thumb"] >= 0.25 * true["thumb"].max()
    rows = values_by_key(maps, known={"thumb": (true["thumb"], AFFINE)} if is_known else {})
    for name in ("bspline", "sbl"):
        connected = maps[name]["thumb", "cc"] >= 0.5
        expected = {
            "acc": (connected == network).mean(),
            "fdr": 1 - network[connected].mean(),
            "jaccard": (connected & network).sum() / (connected | network).sum(),
        }
        place = (name, "truth" if is_known else "measured", "thumb", "brain")
        found = {measure: rows[*place, f"truth_connected_{measure}"] for measure in expected}
        assert found == pytest.approx(expected)
