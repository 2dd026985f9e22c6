"""Test maps of runs that are transformed to the first run and combined, with sidecars and
regions.
"""

import re
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from data.rows import make_tested_rows
from scipy import ndimage, stats
from scipy.spatial.transform import Rotation

from bids_sr.engine.artifacts import Derivative
from bids_sr.glm.activation_regions import fdr_region
from bids_sr.group.combination.run_combination import widen_error
from bids_sr.group.combination.steps.combined_runs import (
    Combination,
    combine_maps,
    contrast_runs,
    describe_combination,
    describe_contrast_over_runs,
    describe_shared_error,
)
from bids_sr.group.combination.steps.resampled_runs import register_to_first_run, resample_run_maps
from bids_sr.io.volume import Volume
from bids_sr.survey.preflight.combined_runs import RunTerm

SHAPE = (16, 14, 6)
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
RUNS = {
    name: {"subject": "01", "task": "tap", "run": name[-1], "datatype": "func"}
    for name in ("run-1", "run-2", "run-3")
}


def brain():
    mask = np.zeros(SHAPE, bool)
    mask[2:-2, 2:-2] = True
    return Volume(mask, AFFINE)


def maps_of(
    seed,
    *,
    effect=4.0,
    dof=60,
    sd=1.0,
    stats=("effect", "variance", "sd"),
    space=None,
    constant=None,
    mean_signal=200.0,
):
    rng = np.random.default_rng(seed)
    mask = brain().data
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), 1.5)
    values = {
        "effect": effect + 10 * smooth + rng.normal(size=SHAPE) / 10,
        "variance": rng.uniform(0.5, 2, SHAPE),
        "sd": np.full(SHAPE, sd),
        "t": np.full(SHAPE, 1.0),
    }
    if constant is not None:
        values["effect"] = np.full(SHAPE, constant)
    sidecar = {
        "SourceSeries": "sbl",
        "SmoothingFWHM": 0.0,
        "SkullStripped": True,
        "ContrastWeights": {"hand": 1.0},
        "Model": {"DegreesOfFreedom": dof},
        "MeanSignal": mean_signal,
    }
    base = {"space": space} if space else {"res": "hr"}
    return [
        Derivative(
            Volume(np.where(mask, values[stat], 0).astype(np.float32), AFFINE),
            {**base, "contrast": "hand", "stat": stat, "desc": "sbl", "suffix": "statmap"},
            sidecar,
        )
        for stat in stats
    ]


def carry(folder, run, seed=1, xfm=None, card=None, over_sessions=False, run_scale=None, **maps):
    """Return the maps of a run in the frame of the first run, with the SD of its error."""
    folder = folder / run
    folder.mkdir(parents=True)
    source_maps = maps_of(seed, **maps)
    sd_maps = [
        replace(
            map_,
            entities={"space": "firstBoldref", **map_.entities},
            sidecar={**map_.sidecar, "Run": run},
        )
        for map_ in source_maps
        if map_.entities["stat"] == "sd"
    ]
    return sd_maps + resample_run_maps(
        source_maps,
        brain(),
        brain(),
        first2run_xfm=xfm,
        card=card,
        run_scale=run_scale,
        here=folder,
        run=run,
        contrasts=["hand"],
        over_sessions=over_sessions,
    )


def combine(folder, run_maps, **changes):
    folder = folder / "combined"
    folder.mkdir(parents=True)
    names = [run for run in RUNS if any(map_.sidecar["Run"] == run for map_ in run_maps)]
    runs = {name: RUNS[name] for name in names}
    combination, arguments = combination_of({"runs": runs} | changes)
    arguments = {"contrasts": {"hand": names}} | arguments
    return combine_maps(run_maps, brain(), here=folder, combination=combination, **arguments)


def combination_of(changes):
    """Return the combination with changed fields, and all other changed arguments."""
    values = {
        "series_name": "sbl",
        "runs": RUNS,
        "left_out": {},
        "missing_contrasts": {},
        "thresholds": ["quarter", "fdr", "3.1"],
        "calibrated": False,
        "voxel_mm": 6.0,
    }
    others = {name: value for name, value in changes.items() if name not in values}
    values |= {name: value for name, value in changes.items() if name in values}
    return Combination(**values), others


def by_stat(maps):
    return {
        derivative.entities.get("stat", derivative.entities["desc"]): derivative
        for derivative in maps
        if derivative.entities["suffix"] in ("statmap", "mask")
    }


@pytest.fixture
def two_runs(tmp_path):
    return [*carry(tmp_path, "run-1", 1), *carry(tmp_path, "run-2", 2, sd=3.0, dof=50)]


def test_maps_are_moved_to_the_first_run(tmp_path):
    """Maps of the first run are unchanged; those of another run are displaced by a voxel."""
    xfm = np.eye(4)[None].copy()
    xfm[0, 0, 3] = 3.0
    first = by_stat(carry(tmp_path, "run-1", 1))
    moved = by_stat(carry(tmp_path, "run-2", 1, xfm=xfm))
    inside = brain().data[1:] & brain().data[:-1]
    for source in maps_of(1, stats=("effect", "variance")):
        stat, values = source.entities["stat"], source.volume.data
        np.testing.assert_array_equal(first[stat].volume.data, values)
        assert first[stat].entities["space"] == "firstBoldref"
        assert (first[stat].sidecar["Run"], first[stat].sidecar["NotApplied"]) == ("run-1", False)
        np.testing.assert_allclose(
            moved[stat].volume.data[:-1][inside], values[1:][inside], rtol=1e-5
        )
    assert not moved["variance"].volume.data[~brain().data].any()
    xfm[0, :2, 3] = 1.5
    constant = by_stat(carry(tmp_path / "edge", "run-2", xfm=xfm, constant=5.0))
    values = constant["effect"].volume.data  # without ringing at the edge of the brain
    np.testing.assert_allclose(values[values != 0], 5.0, atol=1e-4)


@pytest.mark.parametrize(
    ("series", "slices", "share"),
    [("acquired", 3, "50 %"), ("acquired", 0, " 0 %"), ("acquired", 5, ""), ("sbl", 3, "")],
)
@pytest.mark.parametrize("first_is_larger", [False, True])
def test_a_small_overlap_of_masks_is_reported_once(
    tmp_path, caplog, series, slices, share, first_is_larger
):
    full, part = brain(), brain()
    part.data[..., slices:] = False
    maps = [replace(map_, sidecar={**map_.sidecar, "SourceSeries": series}) for map_ in maps_of(1)]
    resample_run_maps(
        maps,
        full if first_is_larger else part,
        part if first_is_larger else full,
        first2run_xfm=np.eye(4)[None],
        here=tmp_path,
        run="run-2",
        contrasts=["hand"],
        over_sessions=False,
    )
    assert ("run-2" in caplog.text) == bool(share)
    assert share in caplog.text


def test_combined_maps_match_closed_forms(tmp_path, two_runs):
    maps, other_spaces, _ = combine(tmp_path, two_runs)
    combined, inside = by_stat(maps), brain().data
    assert other_spaces == []
    effects, variances = (
        [map_.volume.data for map_ in two_runs if map_.entities["stat"] == stat]
        for stat in ("effect", "variance")
    )
    np.testing.assert_allclose(combined["effect"].volume.data, np.mean(effects, axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        combined["variance"].volume.data, np.sum(variances, axis=0) / 4, rtol=1e-5
    )
    # the error is taken to be the same in two runs, and its SD is widened
    sd = widen_error(0, n_runs=2) * (1 + 3) / 2
    np.testing.assert_allclose(combined["sd"].volume.data[inside], sd, rtol=1e-5)
    total = combined["variance"].volume.data[inside] + sd**2
    np.testing.assert_allclose(combined["sdTotal"].volume.data[inside], np.sqrt(total), rtol=1e-5)
    expected = stats.norm.sf(np.abs(combined["effect"].volume.data[inside]) / np.sqrt(total))
    np.testing.assert_allclose(combined["wrongsign"].volume.data[inside], expected, atol=1e-5)
    active = fdr_region(combined["z"].volume.data, inside)[0]
    np.testing.assert_array_equal(combined["sblFdr"].volume.data > 0, active)
    np.testing.assert_array_equal(
        combined["sblZ31"].volume.data > 0, inside & (combined["z"].volume.data >= 3.1)
    )
    assert "personsd" not in combined
    assert "sblQuarter" not in combined


def test_sidecars_list_runs_and_weights(tmp_path, two_runs):
    left_out = {"run-3": "another factor"}
    combined = by_stat(combine(tmp_path, two_runs, left_out=left_out)[0])
    sidecar = combined["effect"].sidecar
    assert sidecar["RunWeights"] == {"run-1": 0.5, "run-2": 0.5}
    assert sidecar["RunsLeftOut"] == left_out
    assert sidecar["DegreesOfFreedom"] == 110
    assert sidecar["SharedErrorCorrelation"] == 1.0
    assert sidecar["ErrorWidening"] == pytest.approx(1.0451)
    assert sidecar["ContrastWeights"] == {"hand": 1.0}
    assert {stat: combined[stat].sidecar["Units"] for stat in ("effect", "variance", "t")} == {
        "effect": "percent",
        "variance": "percent^2",
        "t": "1",
    }
    assert {combined[stat].sidecar["Units"] for stat in ("sd", "sdTotal")} == {"percent"}
    assert {combined[stat].sidecar["MeanSignal"] for stat in ("effect", "sdTotal")} == {200.0}
    assert sidecar["Sources"] == [
        f"bids::sub-01/func/sub-01_task-tap_run-{run}_space-boldref_res-hr_contrast-hand_stat-effect_desc-sbl"
        "_statmap.nii.gz"
        for run in (1, 2)
    ]
    assert "NotAppliedIn" not in sidecar
    assert "Run" not in sidecar
    assert "_stat-t_" in combined["t"].sidecar["Sources"][0]
    assert "_stat-effect_" in combined["sblFdr"].sidecar["Sources"][0]
    for stat in ("variance", "t", "z", "sd", "wrongsign", "sblFdr"):
        assert combined[stat].sidecar["RunWeights"] == sidecar["RunWeights"]
    assert combined["effect"].entities == {
        "space": "firstBoldref",
        "res": "hr",
        "contrast": "hand",
        "stat": "effect",
        "desc": "sbl",
        "suffix": "statmap",
    }


def test_the_error_of_three_runs(tmp_path, two_runs):
    """The error repeats in part, or entirely with a calibration run."""
    runs = [*two_runs, *carry(tmp_path, "run-3", 3)]
    combined = by_stat(combine(tmp_path / "a", runs)[0])
    effects = [by_stat(maps_of(seed))["effect"].volume.data for seed in (1, 2, 3)]
    sds = widen_error(0, n_runs=3) * np.array([1.0, 3.0, 1.0])
    expected = np.var(effects, axis=0, ddof=1) / 3 + 0.75 * np.mean(sds) ** 2
    inside = brain().data
    np.testing.assert_allclose(
        combined["personsd"].volume.data[inside], np.sqrt(expected[inside]), rtol=1e-4
    )
    combined = by_stat(combine(tmp_path / "b", runs, calibrated=True)[0])
    np.testing.assert_allclose(combined["sd"].volume.data[inside], np.mean(sds), rtol=1e-5)
    assert combined["sd"].sidecar["SharedErrorCorrelation"] == 1.0


def test_runs_without_the_method_or_the_contrast_are_left_out_and_named(tmp_path):
    applied = {"run-1": True, "run-2": False, "run-3": True}
    without_error = ("effect", "variance")
    runs = {
        run: carry(
            tmp_path,
            run,
            seed,
            card={"applied": applied[run]},
            **({} if applied[run] else {"stats": without_error}),
        )
        for seed, run in enumerate(RUNS, 1)
    }
    combined = by_stat(combine(tmp_path / "a", [*chain(*runs.values())])[0])
    assert {"sd", "wrongsign"} <= combined.keys()
    sidecar = combined["effect"].sidecar
    assert sidecar["RunWeights"] == {"run-1": 0.5, "run-3": 0.5}
    assert list(sidecar["RunsLeftOut"]) == ["run-2"]
    assert "NotAppliedIn" not in sidecar
    # The only run with the method is the map of the participant.
    combined = by_stat(combine(tmp_path / "b", [*runs["run-1"], *runs["run-2"]])[0])
    assert combined["effect"].sidecar["RunWeights"] == {"run-1": 1.0}
    for stat, source in by_stat(runs["run-1"]).items():
        np.testing.assert_allclose(combined[stat].volume.data, source.volume.data, rtol=1e-6)
    only_sd = carry(tmp_path / "no contrast", "run-2", stats=("sd",))
    combined = by_stat(combine(tmp_path / "c", [*runs["run-1"], *only_sd, *runs["run-3"]])[0])
    assert list(combined["effect"].sidecar["RunsLeftOut"]) == ["run-2"]
    assert combined["effect"].sidecar["RunWeights"] == {"run-1": 0.5, "run-3": 0.5}


def test_zero_filled_runs_are_combined_without_the_error_if_there_are_no_other_runs(tmp_path):
    run_maps = [
        carried
        for seed, run in enumerate(("run-1", "run-2"))
        for carried in carry(
            tmp_path, run, seed, card={"applied": False}, stats=("effect", "variance")
        )
    ]
    maps, _, rows = combine(tmp_path, run_maps)
    combined = by_stat(maps)
    assert not {"sd", "wrongsign", "tTotal", "sblSignReliable"} & combined.keys()
    sidecar = combined["effect"].sidecar
    assert sidecar["NotAppliedIn"] == ["run-1", "run-2"]
    assert sidecar["RunWeights"] == {"run-1": 0.5, "run-2": 0.5}
    assert "run-1" in str(sidecar["ErrorOfReconstruction"])
    assert "SharedErrorCorrelation" not in sidecar
    assert {row.statistic for row in rows} == {"voxels"}


@pytest.mark.parametrize(
    ("over_sessions", "run_scale", "factor"),
    # 300 % of the mean signal of the run is 450 % of the first, but the run has 4 times its signal
    [(False, 4.0, 300 / 200 / 4), (True, 1.5, 1.0)],
)
def test_runs_are_brought_to_the_scale_of_the_first(tmp_path, over_sessions, run_scale, factor):
    """Effects in signal units are divided by the scale of the run and the divisor of the first."""
    first, scaled = (
        carry(tmp_path, run, seed, run_scale=scale, mean_signal=mean, over_sessions=over_sessions)
        for run, seed, scale, mean in (
            ("run-1", 1, None, 200.0),
            ("run-3", 2, {"SignalRatio": 4.0, "FirstMeanSignal": 200.0}, 300.0),
        )
    )
    for source in maps_of(2, stats=("effect", "variance")):
        stat = source.entities["stat"]
        power = {"effect": 1, "variance": 2}[stat]
        np.testing.assert_allclose(
            by_stat(scaled)[stat].volume.data, factor**power * source.volume.data, rtol=1e-6
        )
    maps, _, _ = combine(tmp_path, [*first, *scaled])
    sidecar = by_stat(maps)["effect"].sidecar
    assert sidecar["RunScales"] == {"run-1": 1.0, "run-3": run_scale}
    assert sidecar["MeanSignal"] == 200.0
    in_signal = by_stat(maps_of(2))["effect"].volume.data * 300 / 100
    np.testing.assert_allclose(
        by_stat(scaled)["effect"].volume.data, 100 * in_signal / (run_scale * 200), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("key", "weights", "left_out"),
    [
        ("LeftOut", ["run-1", "run-3"], {"run-2": "reversed"}),
        ("Disagreeing", ["run-1", "run-2", "run-3"], {}),
    ],
)
def test_runs_that_disagree_are_left_out_or_named(tmp_path, key, weights, left_out):
    run_maps = [carried for seed, run in enumerate(RUNS) for carried in carry(tmp_path, run, seed)]
    agreement = {"LeftOut": {}, "Disagreeing": {}, key: {"run-2": "reversed"}}
    maps, _, _ = combine(tmp_path, run_maps, run_agreement=agreement)
    combined = by_stat(maps)
    for stat in ("effect", "sblFdr"):
        sidecar = combined[stat].sidecar
        assert list(sidecar["RunWeights"]) == weights
        assert sidecar["RunsLeftOut"] == left_out
        assert sidecar.get("DisagreeingRuns", {}) == agreement["Disagreeing"]


def test_runs_can_be_weighted_by_their_noise(tmp_path):
    run_maps = [*carry(tmp_path, "run-1", 1), *carry(tmp_path, "run-2", 2)]
    noisy = [
        replace(
            map_,
            content=Volume(9 * map_.volume.data, AFFINE)
            if map_.entities["stat"] == "variance"
            else map_.content,
        )
        for map_ in carry(tmp_path, "run-3", 1)
    ]
    maps, _, _ = combine(tmp_path, [*run_maps[:3], *noisy], weights="precision")
    combined = by_stat(maps)
    assert combined["effect"].sidecar["RunWeights"] == pytest.approx({"run-1": 0.9, "run-3": 0.1})
    variance = by_stat(run_maps[:3])["variance"].volume.data
    np.testing.assert_allclose(combined["variance"].volume.data, 0.9 * variance, rtol=1e-5)


@pytest.mark.parametrize(
    ("tested", "coverage", "expected"),
    [
        ((0.5, 0.1), 0.95, True),
        ((0.5, 0.1), 0.85, False),
        ((0.05, 0.1), 0.95, False),
        ((0.1, 0.9), 0.95, False),
        (None, 0.95, False),
    ],
)
def test_masks_of_voxels_require_coverage_and_recovered_detail(
    tmp_path, two_runs, tested, coverage, expected
):
    """Detail that is not supported, not testable or not tested is not sufficient."""
    rows = make_tested_rows(
        {"hand": None if tested is None else (tested, tested)}, coverage=coverage
    )
    rows = [row for row in rows if row.threshold == "n/a"]
    maps, _, rows_combined = combine(tmp_path, two_runs, tested_rows=rows)
    assert ("sblSignReliable" in by_stat(maps)) is expected
    assert ("signReliable" in {row.threshold for row in rows_combined}) is expected
    assert "expected_wrong" in {row.statistic for row in rows_combined}
    assert rows_combined[: len(rows)] == rows


def test_maps_in_other_spaces_are_combined_separately(tmp_path):
    run_maps = []
    for run, seed in (("run-1", 1), ("run-2", 2)):
        folder = tmp_path / run
        folder.mkdir()
        run_maps += resample_run_maps(
            maps_of(seed),
            brain(),
            brain(),
            space_maps=maps_of(seed, space="T1w"),
            here=folder,
            run=run,
            contrasts=["hand"],
            over_sessions=False,
        )
    maps, other_spaces, _ = combine(tmp_path, run_maps)
    t1w_maps = by_stat(other_spaces)
    assert {map_.entities["space"] for map_ in other_spaces} == {"T1w"}
    assert {map_.entities["space"] for map_ in maps} == {"firstBoldref"}
    np.testing.assert_allclose(
        t1w_maps["effect"].volume.data, by_stat(maps)["effect"].volume.data, rtol=1e-6
    )
    assert (
        "_run-1_space-T1w_contrast-hand_stat-effect_" in t1w_maps["effect"].sidecar["Sources"][0]
    )


def on_another_grid(space):
    """Return the maps of run-2 in a space, on a grid that lacks some voxels."""
    return [
        Derivative(
            Volume(run_map.volume.data[1:], AFFINE),
            {"space": space, **run_map.entities},
            {**run_map.sidecar, "Run": "run-2"},
        )
        for run_map in maps_of(2)
    ]


def test_a_space_with_different_grids_is_named_once(tmp_path, two_runs, caplog):
    in_space = [
        replace(run_map, entities={**run_map.entities, "space": "T1w"})
        for run_map in carry(tmp_path / "space", "run-1", 1)
    ]
    unsmoothed = [*in_space, *on_another_grid("T1w")]
    smoothed = [
        replace(run_map, sidecar={**run_map.sidecar, "SmoothingFWHM": 5.0})
        for run_map in unsmoothed
    ]
    maps, space_maps, _ = combine(tmp_path, [*two_runs, *unsmoothed, *smoothed])
    assert maps
    assert space_maps == []
    (record,) = caplog.records
    text = record.getMessage()
    for part in ("T1w", "run-1: 16 x 14 x 6", "run-2: 15 x 14 x 6", "--output-spaces"):
        assert part in text
    (tmp_path / "same").mkdir()
    maps, _, _ = combine(tmp_path / "same", [*two_runs[:3], *on_another_grid("firstBoldref")])
    assert maps == []


def test_brains_without_a_common_voxel_have_no_map_and_a_warning(tmp_path, two_runs, caplog):
    halves = {"run-1": np.s_[:8], "run-2": np.s_[8:]}
    apart = []
    for run_map in two_runs:
        data = run_map.volume.data.copy()
        data[halves[run_map.sidecar["Run"]]] = 0
        apart.append(replace(run_map, content=Volume(data, AFFINE)))
    maps, space_maps, rows = combine(tmp_path, apart, series_name="acquired")
    assert (maps, space_maps, list(rows)) == ([], [], [])
    (record,) = caplog.records
    assert "run-1 and run-2" in record.getMessage()


def test_the_displacement_of_a_head_is_recovered(tmp_path):
    rng = np.random.default_rng(0)
    shape = (32, 32, 16)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = [-62, -62, -30]
    x, y, z = ((np.indices(shape).T @ affine[:3, :3].T + affine[:3, 3]).T[k] for k in range(3))
    texture = ndimage.gaussian_filter(rng.normal(size=shape), 1.5)

    def head(shift):
        inside = ((x.T - shift[0]) / 50) ** 2 + (y.T / 45) ** 2 + (z.T / 26) ** 2 < 1
        return inside.T if inside.shape != shape else inside

    true_shift_mm = np.array([4.0, 0.0, 0.0])  # mm, one voxel
    first = np.where(head((0, 0, 0)), 600 + 200 * texture / texture.std(), 10)
    shifted = np.roll(first, 1, axis=0)
    xfm = register_to_first_run(
        Volume(shifted.astype(np.float32), affine),
        Volume(first.astype(np.float32), affine),
        Volume(shifted > 100, affine),
        Volume(first > 100, affine),
        tmp_path,
        random_seed=1,
    )
    assert xfm.shape == (1, 4, 4)
    np.testing.assert_allclose(xfm[0][:3, 3], true_shift_mm, atol=0.3)


def test_the_methods_text_describes_the_combination_and_its_error():
    options = {"weights": "equal", "combine_all": False}
    plain, full = (
        describe_combination(over_sessions=full, in_spaces=full, with_spread=full, **options)
        for full in (False, True)
    )
    for words in ("Over sessions", "other spaces", "spread"):
        assert (words in plain, words in full) == (False, True)
    for n_runs, calibrated, numbers in (
        (3, False, ["3", "0.75", "1.03", "0.8", "5"]),
        (2, False, ["2", "1", "1.05", "1", "5"]),
        (3, True, ["3", "1", "1.03", "1", "5"]),
    ):
        text = describe_shared_error(
            (0.0, 5.0), n_runs=n_runs, calibrated=calibrated, voxel_mm=6.0
        )
        assert re.findall(r"\d+\.?\d*(?=\D)", text)[: len(numbers)] == numbers


def test_the_false_positive_rate_of_combined_maps_is_correct_despite_head_motion(tmp_path):
    """Simulate 24 data sets without activation; count p < .001, averaged over both tails."""
    shape, affine = (32, 32, 16), np.diag([3.0, 3.0, 4.0, 1.0])
    mask = np.zeros(shape, bool)
    mask[1:-1, 1:-1, 1:-1] = True
    brain = Volume(mask, affine)
    rng = np.random.default_rng(0)
    dof, inside, above, size = 100, (slice(4, -4),) * 3, 0, 0
    for number in range(24):
        run_maps = []
        for run in ("run-1", "run-2"):
            white = rng.normal(size=shape)
            effect = ndimage.gaussian_filter(white, (0.5, 0.5, 0.0), mode="wrap")
            effect *= 2 / effect.std()
            variance = 4 * rng.chisquare(dof, shape) / dof
            values = {"effect": effect, "variance": variance, "t": effect / np.sqrt(variance)}
            maps = [
                Derivative(
                    Volume(np.where(mask, values[stat], 0).astype(np.float32), affine),
                    {"contrast": "hand", "stat": stat, "desc": "acquired", "suffix": "statmap"},
                    {
                        "SourceSeries": "acquired",
                        "SmoothingFWHM": 0.0,
                        "Model": {"DegreesOfFreedom": dof},
                        "MeanSignal": 200.0,
                    },
                )
                for stat in values
            ]
            xfm = np.eye(4)[None].copy()
            xfm[0, :3, 3] = rng.uniform(-4, 4, 3)
            (folder := tmp_path / f"{number}{run}").mkdir()
            run_maps += resample_run_maps(
                maps,
                brain,
                brain,
                first2run_xfm=None if run == "run-1" else xfm,
                here=folder,
                run=run,
                contrasts=["hand"],
                over_sessions=False,
            )
        (folder := tmp_path / str(number)).mkdir()
        maps, _, _ = combine(folder, run_maps, series_name="acquired")
        z = by_stat(maps)["z"].volume.data[inside]
        above += np.count_nonzero(np.abs(z) > stats.norm.isf(0.001)) / 2
        size += z.size
    assert 0.0008 <= above / size <= 0.00125


def make_rigid(shift_mm, rotation, center):
    """Return a rotation (rad) around a center, followed by a shift (4 x 4)."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec(rotation).as_matrix()
    pose[:3, 3] = shift_mm + center - pose[:3, :3] @ center
    return pose


def contrast(folder, run_maps, terms, place_errors=None, **changes):
    folder = folder / "contrast"
    folder.mkdir(parents=True, exist_ok=True)
    combination, arguments = combination_of({"thresholds": ["fdr"]} | changes)
    arguments = {"over_runs": {"change": terms}} | arguments
    maps, rows = contrast_runs(
        run_maps, place_errors or {}, [], here=folder, combination=combination, **arguments
    )
    return by_stat(maps), rows


def term(weight, *names):
    return RunTerm(label="x", contrast="hand", weight=weight, runs=names)


def test_terms_are_subtracted_with_the_error_that_they_do_not_share(tmp_path):
    runs = [
        *carry(tmp_path, "run-1", 1, constant=2.0),
        *carry(tmp_path, "run-2", 2, constant=3.0),
        *carry(tmp_path, "run-3", 3, constant=6.0),
    ]
    change, _ = contrast(tmp_path, runs, [term(1, "run-3"), term(-1, "run-1", "run-2")])
    brain_voxels = brain().data
    effect, sd, t = (change[stat].volume.data[brain_voxels] for stat in ("effect", "sd", "t"))
    np.testing.assert_allclose(effect, 3.5, rtol=1e-5)
    variance = np.concatenate(
        [[m.volume.data[brain_voxels]] for m in runs if m.entities["stat"] == "variance"]
    )
    noise = variance[2] + (variance[0] + variance[1]) / 4
    np.testing.assert_allclose(t, effect / np.sqrt(noise + sd**2), rtol=1e-4)
    # SD 1 per run: (1 - .75) 1.5 + .75 (1 + 1) - 2 rho, with rho .35 or .67
    widening = widen_error(0, n_runs=3)
    shared = {round(float(value), 3) for value in (1.875 - (sd / widening) ** 2) / 2}
    assert shared <= {0.35, 0.67}
    sidecar = change["effect"].sidecar
    assert sidecar["RunWeights"] == {"run-3": 1.0, "run-1": -0.5, "run-2": -0.5}
    assert "variance, t and z" not in sidecar["ErrorOfReconstruction"]  # t contains the error
    assert "run-1_" in sidecar["Sources"][1]
    assert "contrast-hand" in sidecar["Sources"][0]
    assert change["effect"].entities["contrast"] == "change"
    swapped, _ = contrast(
        tmp_path / "swapped", runs, [term(-1, "run-3"), term(1, "run-1", "run-2")]
    )
    for stat in ("effect", "t"):
        np.testing.assert_allclose(swapped[stat].volume.data, -change[stat].volume.data, atol=1e-5)


def test_contrasts_over_runs_have_the_written_weights(tmp_path):
    """Draw weights and signs; the weight of a term is divided among its runs."""
    rng = np.random.default_rng(7)
    effects = dict(zip(RUNS, (2.0, 3.0, 6.0), strict=True))
    runs = [
        image
        for seed, (name, effect) in enumerate(effects.items())
        for image in carry(tmp_path, name, seed, constant=effect)
    ]
    variances = {
        image.sidecar["Run"]: image.volume.data
        for image in runs
        if image.entities["stat"] == "variance"
    }
    for number in range(10):
        first, second = (round(float(value), 2) for value in rng.uniform(0.1, 3, 2))
        second *= 1 if number < 6 else -1
        terms = [
            RunTerm(label="ses-1", contrast="hand", weight=first, runs=("run-1", "run-2")),
            RunTerm(label="ses-2", contrast="hand", weight=second, runs=("run-3",)),
        ]
        maps, _ = contrast(tmp_path / str(number), runs, terms)
        weights = {"run-1": first / 2, "run-2": first / 2, "run-3": second}
        effect = sum(weights[name] * effects[name] for name in effects)
        variance = sum(weights[name] ** 2 * variances[name] for name in effects)
        inside = brain().data
        np.testing.assert_allclose(maps["effect"].volume.data[inside], effect, atol=1e-4)
        np.testing.assert_allclose(
            maps["variance"].volume.data[inside], variance[inside], rtol=1e-5
        )
        assert maps["effect"].sidecar["RunWeights"] == pytest.approx(weights)
        assert "personsd" not in maps
        sign = "-" if second < 0 else "+"
        assert describe_contrast_over_runs("d", terms) == (
            f"The contrast d was {first:g}*hand in ses-1 {sign} {abs(second):g}*hand in ses-2."
        )


def test_a_contrast_needs_a_run_of_each_term(tmp_path, caplog):
    runs = [*carry(tmp_path, "run-1", 1), *carry(tmp_path, "run-2", 2)]
    agreement = {"OtherHead": {"run-2": "another head"}, "LeftOut": {"run-1": "other effects"}}
    change, rows = contrast(
        tmp_path, runs, [term(1, "run-2"), term(-1, "run-1")], run_agreement=agreement
    )
    assert (change, rows) == ({}, [])
    assert "run-2: another head" in caplog.text


@pytest.mark.parametrize("with_place", [True, False])
def test_a_small_misplacement_is_no_difference(tmp_path, with_place):
    """Two runs with equal effects whose registration is wrong by .5 mm and .5 degrees have no
    significant voxel in most draws; without the error of the place, they have some.
    """
    shape, affine = (36, 36, 16), np.diag([3.0, 3.0, 3.0, 1.0])
    points = np.moveaxis(np.indices(shape), 0, -1) * 3.0
    middle = points.reshape(-1, 3).mean(axis=0)
    foci = np.random.default_rng(0).uniform(0, 1, (60, 3)) * points[-1, -1, -1]
    rng = np.random.default_rng(1)
    mask = Volume(np.ones(shape, bool), affine)
    n_with_voxels = 0
    sizes = np.array([0.5, np.deg2rad(0.5)])
    place = {
        "Covariance": (with_place * np.diag(np.repeat(sizes**2 / 3, 3))).tolist(),
        "Center": middle.tolist(),
    }

    def activate(moved_points):
        distances = np.square(moved_points[..., None, :] - foci).sum(axis=-1)
        return 10 * np.exp(-distances / (2 * 2.7**2)).sum(axis=-1)

    for draw in range(12):
        xfm = make_rigid(rng.uniform(-1.5, 1.5, 3), np.zeros(3), middle)
        directions = rng.normal(size=(2, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        error = make_rigid(*(sizes[:, None] * directions), middle)
        to_first = np.linalg.inv(error @ xfm)
        truth, moved = activate(points), activate(points @ to_first[:3, :3].T + to_first[:3, 3])
        maps = []
        for name, effect, pose in (("run-1", truth, None), ("run-2", moved, xfm[None])):
            sidecar = {
                "SmoothingFWHM": 0.0,
                "MeanSignal": 100.0,
                "Model": {"DegreesOfFreedom": 1000},
            }
            values = {
                "effect": effect + rng.normal(0, 0.25, shape),
                "variance": np.full(shape, 0.0625),
            }
            values["t"] = values["effect"] / 0.25
            source = [
                Derivative(
                    Volume(data.astype(np.float32), affine),
                    {"contrast": "hand", "stat": stat, "desc": "sbl", "suffix": "statmap"},
                    sidecar,
                )
                for stat, data in values.items()
            ]
            folder = tmp_path / f"{name}-{draw}-{with_place}"
            folder.mkdir()
            maps += resample_run_maps(
                source,
                mask,
                mask,
                first2run_xfm=pose,
                here=folder,
                run=name,
                contrasts=["hand"],
                over_sessions=True,
            )
        change, _ = contrast(
            tmp_path,
            maps,
            [term(1, "run-2"), term(-1, "run-1")],
            {"run-2": place},
        )
        n_with_voxels += bool(change["sblFdr"].volume.data[3:-3, 3:-3, 3:-3].any())
    if with_place:
        assert n_with_voxels <= 2
    else:
        assert n_with_voxels >= 6
