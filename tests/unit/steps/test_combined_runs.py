"""Maps of runs brought to the first run's frame and combined, with sidecars and regions."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage, stats

from bids_sr.glm.activation_regions import fdr_region
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import metric_rows
from bids_sr.pipeline.artifacts import Derivative
from bids_sr.steps.combined_runs import (
    carry_maps,
    combine_maps,
    describe_combination,
    register_to_first_run,
)

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


def maps_of(seed, *, effect=4.0, dof=60, sd=1.0, stats=("effect", "variance", "sd"), space=None):
    rng = np.random.default_rng(seed)
    mask = brain().data
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), 1.5)
    values = {
        "effect": effect + 10 * smooth + rng.normal(size=SHAPE) / 10,
        "variance": rng.uniform(0.5, 2, SHAPE),
        "sd": np.full(SHAPE, sd),
        "t": np.full(SHAPE, 1.0),
    }
    sidecar = {
        "SourceSeries": "sbl",
        "SmoothingFWHM": 0.0,
        "SkullStripped": True,
        "ContrastWeights": {"hand": 1.0},
        "Model": {"DegreesOfFreedom": dof},
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


def carry(folder, run, seed=1, xfm=None, card=None, percent=False, **maps):
    folder = folder / run
    folder.mkdir(parents=True)
    return carry_maps(
        maps_of(seed, **maps),
        brain(),
        brain(),
        Volume(np.full(SHAPE, 200.0), AFFINE),
        brain(),
        first2run_xfm=xfm,
        card=card,
        here=folder,
        run=run,
        contrasts=["hand"],
        percent=percent,
    )


def combine(folder, carried, **changed):
    folder = folder / "combined"
    folder.mkdir()
    names = [run for run in RUNS if any(one.sidecar["Run"] == run for one in carried)]
    arguments = {
        "series_name": "sbl",
        "contrasts": {"hand": names},
        "runs": {name: RUNS[name] for name in names},
        "left_out": {},
        "without": {},
        "thresholds": ["quarter", "fdr", "3.1"],
        "calibrated": False,
        "percent": False,
        **changed,
    }
    return combine_maps(carried, brain(), here=folder, **arguments)


def by_stat(maps):
    return {
        one.entities.get("stat", one.entities["desc"]): one
        for one in maps
        if one.entities["suffix"] in ("statmap", "mask")
    }


@pytest.fixture
def two(tmp_path):
    return [*carry(tmp_path, "run-1", 1), *carry(tmp_path, "run-2", 2, sd=3.0, dof=50)]


def test_the_first_run_stays_as_it_is(tmp_path):
    carried = by_stat(carry(tmp_path, "run-1", 1))
    for one in maps_of(1):
        made = carried[one.entities["stat"]]
        np.testing.assert_array_equal(made.volume.data, one.volume.data)
        assert made.entities["space"] == "boldref"
        assert made.sidecar["Run"] == "run-1"
        assert made.sidecar["NotApplied"] is False


def test_other_runs_are_brought_to_its_place(tmp_path):
    xfm = np.eye(4)[None].copy()
    xfm[0, 0, 3] = 3.0  # one voxel
    carried = by_stat(carry(tmp_path, "run-2", 1, xfm=xfm))
    given = by_stat(maps_of(1))
    inside = brain().data[1:] & brain().data[:-1]
    for stat in ("effect", "variance", "sd"):
        moved = carried[stat].volume.data[:-1]
        expected = given[stat].volume.data[1:]
        np.testing.assert_allclose(moved[inside], expected[inside], rtol=1e-5)
    assert not carried["variance"].volume.data[~brain().data].any()


@pytest.mark.parametrize(
    ("series", "slices", "share"),
    [("raw", 3, "50 %"), ("raw", 0, " 0 %"), ("raw", 5, ""), ("sbl", 3, "")],
)
@pytest.mark.parametrize("of_first", [False, True])
def test_a_small_part_in_common_is_told_once(tmp_path, caplog, series, slices, share, of_first):
    whole, part = brain(), brain()
    part.data[..., slices:] = False
    maps = [replace(one, sidecar={**one.sidecar, "SourceSeries": series}) for one in maps_of(1)]
    carry_maps(
        maps,
        whole if of_first else part,
        part if of_first else whole,
        Volume(np.full(SHAPE, 200.0), AFFINE),
        brain(),
        first2run_xfm=np.eye(4)[None],
        here=tmp_path,
        run="run-2",
        contrasts=["hand"],
        percent=False,
    )
    assert ("run-2: after registration" in caplog.text) == bool(share)
    assert f"share {share.strip()} of the larger mask" in caplog.text or not share


def test_the_edge_of_the_brain_does_not_ring(tmp_path):
    xfm = np.eye(4)[None].copy()
    xfm[0, :2, 3] = 1.5
    folder = tmp_path / "run"
    folder.mkdir()
    flat = [
        Derivative(Volume(np.where(brain().data, 5.0, 0), AFFINE), one.entities, one.sidecar)
        for one in maps_of(1)
    ]
    carried = carry_maps(
        flat,
        brain(),
        brain(),
        Volume(np.full(SHAPE, 200.0), AFFINE),
        brain(),
        first2run_xfm=xfm,
        here=folder,
        run="run-2",
        contrasts=["hand"],
        percent=False,
    )
    for one in carried:
        values = one.volume.data
        np.testing.assert_allclose(values[values != 0], 5.0, atol=1e-4)


def test_effects_in_percent(tmp_path):
    carried = by_stat(carry(tmp_path, "run-1", 1, percent=True))
    given = by_stat(maps_of(1))
    for stat, factor in (("effect", 0.5), ("variance", 0.25), ("sd", 0.5)):
        expected = factor * given[stat].volume.data
        np.testing.assert_allclose(carried[stat].volume.data, expected, rtol=1e-6)


def test_combined_maps_have_the_closed_form(tmp_path, two):
    maps, elsewhere, _ = combine(tmp_path, two)
    made, inside = by_stat(maps), brain().data
    assert elsewhere == []
    effects, variances = (
        [one.volume.data for one in two if one.entities["stat"] == stat]
        for stat in ("effect", "variance")
    )
    np.testing.assert_allclose(made["effect"].volume.data, np.mean(effects, axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        made["variance"].volume.data, np.sum(variances, axis=0) / 4, rtol=1e-5
    )
    sd = np.sqrt(0.25 * (1 + 9) / 4 + 0.75 * (4 / 2) ** 2)
    np.testing.assert_allclose(made["sd"].volume.data[inside], sd, rtol=1e-5)
    total = made["variance"].volume.data[inside] + sd**2
    wrong = stats.norm.sf(np.abs(made["effect"].volume.data[inside]) / np.sqrt(total))
    np.testing.assert_allclose(made["wrongsign"].volume.data[inside], wrong, atol=1e-5)
    active = fdr_region(made["z"].volume.data, inside)[0]
    np.testing.assert_array_equal(made["sblFdr"].volume.data > 0, active)
    np.testing.assert_array_equal(
        made["sblZ31"].volume.data > 0, inside & (made["z"].volume.data >= 3.1)
    )
    assert "personsd" not in made
    assert "sblQuarter" not in made


def test_sidecars_say_which_runs_and_how(tmp_path, two):
    left_out = {"run-3": "another factor"}
    made = by_stat(combine(tmp_path, two, left_out=left_out)[0])
    about = made["effect"].sidecar
    assert about["RunWeights"] == {"run-1": 0.5, "run-2": 0.5}
    assert about["RunsLeftOut"] == left_out
    assert about["DegreesOfFreedom"] == 110
    assert about["SharedErrorCorrelation"] == 0.75
    assert about["ContrastWeights"] == {"hand": 1.0}
    assert about["Units"] == "arbitrary"
    assert about["Sources"] == [
        f"bids::sub-01/func/sub-01_task-tap_run-{run}_res-hr_contrast-hand_stat-effect_desc-sbl"
        "_statmap.nii.gz"
        for run in (1, 2)
    ]
    assert "NotAppliedIn" not in about
    assert "Run" not in about
    assert "_stat-t_" in made["t"].sidecar["Sources"][0]
    assert "_stat-effect_" in made["sblFdr"].sidecar["Sources"][0]
    for stat in ("variance", "t", "z", "sd", "wrongsign", "sblFdr"):
        assert made[stat].sidecar["RunWeights"] == about["RunWeights"]
    assert made["effect"].entities == {
        "space": "boldref",
        "res": "hr",
        "contrast": "hand",
        "stat": "effect",
        "desc": "sbl",
        "suffix": "statmap",
    }


def test_three_runs_have_a_spread(tmp_path, two):
    made = by_stat(combine(tmp_path, [*two, *carry(tmp_path, "run-3", 3)])[0])
    effects = [by_stat(maps_of(seed))["effect"].volume.data for seed in (1, 2, 3)]
    sds = [1.0, 3.0, 1.0]
    expected = np.var(effects, axis=0, ddof=1) / 3 + 0.75 * np.mean(sds) ** 2
    inside = brain().data
    np.testing.assert_allclose(
        made["personsd"].volume.data[inside], np.sqrt(expected[inside]), rtol=1e-4
    )


def test_a_run_that_the_method_was_not_applied_to_enters_and_is_named(tmp_path):
    carried = [
        *carry(tmp_path, "run-1", 1, card={"applied": True}),
        *carry(tmp_path, "run-2", 2, card={"applied": False}, stats=("effect", "variance")),
    ]
    maps, _, rows = combine(tmp_path, carried)
    made = by_stat(maps)
    assert not {"sd", "wrongsign", "tTotal", "sblReliable"} & made.keys()
    about = made["effect"].sidecar
    assert about["NotAppliedIn"] == ["run-2"]
    assert about["RunWeights"] == {"run-1": 0.5, "run-2": 0.5}
    assert "There is no stat-sd map, because sbl was not applied to run-2" in str(
        about["ErrorOfReconstruction"]
    )
    assert "SharedErrorCorrelation" not in about
    assert {row.statistic for row in rows} == {"voxels"}


@pytest.mark.parametrize(("coverage", "given"), [(0.95, True), (0.85, False), (None, False)])
def test_the_reliable_region_needs_coverage_in_every_run(tmp_path, two, coverage, given):
    rows = [
        metric_rows("sbl", {"coverage_one_level_down": value}, contrast="hand")
        for value in (0.95, coverage)
        if value is not None
    ]
    maps, _, made = combine(tmp_path, two, coverage_rows=rows)
    assert ("sblReliable" in by_stat(maps)) is given
    assert ("reliable" in {row.threshold for row in made}) is given
    assert "expected_wrong" in {row.statistic for row in made}


def test_with_a_calibration_the_whole_error_repeats(tmp_path, two):
    made = by_stat(combine(tmp_path, two, calibrated=True)[0])
    np.testing.assert_allclose(made["sd"].volume.data[brain().data], 2.0, rtol=1e-5)
    assert made["sd"].sidecar["SharedErrorCorrelation"] == 1.0


def test_maps_in_other_spaces_are_combined_apart(tmp_path):
    carried = []
    for run, seed in (("run-1", 1), ("run-2", 2)):
        folder = tmp_path / run
        folder.mkdir()
        carried += carry_maps(
            maps_of(seed),
            brain(),
            brain(),
            Volume(np.full(SHAPE, 200.0), AFFINE),
            brain(),
            space_maps=maps_of(seed, space="T1w"),
            here=folder,
            run=run,
            contrasts=["hand"],
            percent=False,
        )
    maps, elsewhere, _ = combine(tmp_path, carried)
    there = by_stat(elsewhere)
    assert {one.entities["space"] for one in elsewhere} == {"T1w"}
    assert {one.entities["space"] for one in maps} == {"boldref"}
    np.testing.assert_allclose(
        there["effect"].volume.data, by_stat(maps)["effect"].volume.data, rtol=1e-6
    )
    assert "_run-1_space-T1w_contrast-hand_stat-effect_" in there["effect"].sidecar["Sources"][0]


def test_a_contrast_that_one_run_lacks_is_combined_without_it(tmp_path, two):
    carried = [*two, *carry(tmp_path, "run-3", 3, stats=("sd",))]
    about = by_stat(combine(tmp_path, carried)[0])["effect"].sidecar
    assert about["RunsLeftOut"] == {"run-3": "the contrast could not be estimated in this run"}
    assert about["RunWeights"] == {"run-1": 0.5, "run-2": 0.5}


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


def test_runs_on_different_grids_are_not_combined(tmp_path, caplog):
    carried = carry(tmp_path, "run-1", 1)
    maps, _, _ = combine(tmp_path, [*carried, *on_another_grid("boldref")])
    assert maps == []
    assert "different grids" in caplog.text


def test_a_space_with_different_grids_is_named_once(tmp_path, two, caplog):
    in_space = [
        replace(run_map, entities={**run_map.entities, "space": "T1w"})
        for run_map in carry(tmp_path / "space", "run-1", 1)
    ]
    unsmoothed = [*in_space, *on_another_grid("T1w")]
    smoothed = [
        replace(run_map, sidecar={**run_map.sidecar, "SmoothingFWHM": 5.0})
        for run_map in unsmoothed
    ]
    maps, space_maps, _ = combine(tmp_path, [*two, *unsmoothed, *smoothed])
    assert maps
    assert space_maps == []
    (record,) = caplog.records
    text = record.getMessage()
    assert "different grids in the space T1w+hr (run-1: 16 x 14 x 6 voxels of 3 × 3 × 4 mm" in text
    assert "run-2: 15 x 14 x 6 voxels" in text
    assert "--output-spaces" in text


def test_brains_without_a_common_voxel_have_no_map_and_a_warning(tmp_path, two, caplog):
    halves = {"run-1": np.s_[:8], "run-2": np.s_[8:]}
    apart = []
    for run_map in two:
        data = run_map.volume.data.copy()
        data[halves[run_map.sidecar["Run"]]] = 0
        apart.append(replace(run_map, content=Volume(data, AFFINE)))
    maps, space_maps, rows = combine(tmp_path, apart, series_name="raw")
    assert (maps, space_maps, list(rows)) == ([], [], [])
    (record,) = caplog.records
    assert "run-1 and run-2: after registration" in record.getMessage()
    assert "have no voxel in common" in record.getMessage()


def test_a_head_is_found_where_it_moved(tmp_path):
    rng = np.random.default_rng(0)
    shape = (32, 32, 16)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = [-62, -62, -30]
    x, y, z = ((np.indices(shape).T @ affine[:3, :3].T + affine[:3, 3]).T[k] for k in range(3))
    texture = ndimage.gaussian_filter(rng.normal(size=shape), 1.5)

    def head(shift):
        inside = ((x.T - shift[0]) / 50) ** 2 + (y.T / 45) ** 2 + (z.T / 26) ** 2 < 1
        return inside.T if inside.shape != shape else inside

    shift_mm = np.array([4.0, 0.0, 0.0])  # one voxel
    first = np.where(head((0, 0, 0)), 600 + 200 * texture / texture.std(), 10)
    moved = np.roll(first, 1, axis=0)
    found = register_to_first_run(
        Volume(moved.astype(np.float32), affine),
        Volume(first.astype(np.float32), affine),
        Volume(moved > 100, affine),
        Volume(first > 100, affine),
        tmp_path,
        random_seed=1,
    )
    assert found.shape == (1, 4, 4)
    np.testing.assert_allclose(found[0][:3, 3], shift_mm, atol=0.3)


def test_the_methods_text_says_what_applies():
    text = describe_combination(over_sessions=False, in_spaces=False, with_error=False)
    assert "fixed effects" in text
    assert "percent" not in text
    assert "correlation between runs" not in text
    text = describe_combination(over_sessions=True, in_spaces=True, with_error=True)
    for words in ("percent of the mean", "In other spaces", "correlation between runs of .75"):
        assert words in text


def test_noise_passes_as_often_as_it_should_although_heads_moved(tmp_path):
    """24 data sets without activation: share of p < .001, mean of both tails."""
    shape, affine = (32, 32, 16), np.diag([3.0, 3.0, 4.0, 1.0])
    mask = np.zeros(shape, bool)
    mask[1:-1, 1:-1, 1:-1] = True
    brain = Volume(mask, affine)
    rng = np.random.default_rng(0)
    dof, inside, above, size = 100, (slice(4, -4),) * 3, 0, 0
    for number in range(24):
        carried = []
        for run in ("run-1", "run-2"):
            white = rng.normal(size=shape)
            effect = ndimage.gaussian_filter(white, (0.5, 0.5, 0.0), mode="wrap")
            effect *= 2 / effect.std()
            variance = 4 * rng.chisquare(dof, shape) / dof
            values = {"effect": effect, "variance": variance, "t": effect / np.sqrt(variance)}
            maps = [
                Derivative(
                    Volume(np.where(mask, values[stat], 0).astype(np.float32), affine),
                    {"contrast": "hand", "stat": stat, "desc": "raw", "suffix": "statmap"},
                    {
                        "SourceSeries": "raw",
                        "SmoothingFWHM": 0.0,
                        "Model": {"DegreesOfFreedom": dof},
                    },
                )
                for stat in values
            ]
            xfm = np.eye(4)[None].copy()
            xfm[0, :3, 3] = rng.uniform(-4, 4, 3)
            (folder := tmp_path / f"{number}{run}").mkdir()
            carried += carry_maps(
                maps,
                brain,
                brain,
                brain,
                brain,
                first2run_xfm=None if run == "run-1" else xfm,
                here=folder,
                run=run,
                contrasts=["hand"],
                percent=False,
            )
        (folder := tmp_path / str(number)).mkdir()
        maps, _, _ = combine(folder, carried, series_name="raw")
        z = by_stat(maps)["z"].volume.data[inside]
        above += np.count_nonzero(np.abs(z) > stats.norm.isf(0.001)) / 2
        size += z.size
    assert 0.0008 <= above / size <= 0.00125
