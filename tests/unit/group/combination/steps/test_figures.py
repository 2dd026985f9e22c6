"""Test the map of all runs on a participant's page: values of the table, and the maps drawn."""

import re
from dataclasses import replace

import numpy as np
import pytest
from data.rows import make_tested_rows

from bids_sr.config.levels import StoredMaps
from bids_sr.engine.artifacts import Derivative
from bids_sr.engine.metric_rows import metric_rows
from bids_sr.group.combination.run_combination import RunEstimate, combine_estimates
from bids_sr.group.combination.steps import figures as combined_figures
from bids_sr.io.volume import Volume
from bids_sr.report.figure_steps.run_maps import SceneImages

SHAPE, AFFINE = (24, 24, 4), np.diag([3.0, 3.0, 4.0, 1.0])
BRAIN = np.zeros(SHAPE, bool)
BRAIN[3:-3, 3:-3] = True
ACTIVE = np.zeros(SHAPE, bool)
ACTIVE[10:14, 10:14, 1:3] = True
NAMES = ("run-1", "run-2", "run-3")


def volume(values: object) -> Volume:
    return Volume(np.where(BRAIN, np.asarray(values, np.float32), 0).astype(np.float32), AFFINE)


def statmap(series: str, stat: str, values: object, **facts: object) -> Derivative:
    entities = {"space": "firstBoldref", "contrast": "all", "stat": stat, "desc": series}
    common = {"SourceSeries": series, "SmoothingFWHM": 0.0}
    return Derivative(volume(values), {**entities, "suffix": "statmap"}, {**common, **facts})


def combined_maps(series: str, *, sd: bool = True, **facts: object) -> list[Derivative]:
    sidecar = {
        "RunWeights": dict.fromkeys(NAMES, 1 / 3),
        "RunsLeftOut": {},
        **({"SharedErrorCorrelation": 0.75} if sd else {}),
        **facts,
    }
    effect = np.where(ACTIVE, 4.0, 0.2)
    values = {"effect": effect, "variance": 0.04, "t": 5 * effect, "personsd": 0.4}
    values |= {"sd": 0.6} if sd else {}
    region = {"space": "firstBoldref", "label": "all", "desc": f"{series}Fdr", "suffix": "mask"}
    mask = Volume(ACTIVE.astype(np.uint8), AFFINE)
    labels = {"SourceSeries": series, "SmoothingFWHM": 0.0, "ThresholdLabel": "Fdr"}
    return [
        *(statmap(series, stat, value, **sidecar) for stat, value in values.items()),
        Derivative(mask, region, labels),
    ]


def run_maps(run: str, *, sd: bool = True) -> list[Derivative]:
    values = {"effect": np.where(ACTIVE, 4.0, 0.2), "variance": 0.16}
    values |= {"sd": 0.7} if sd else {}
    facts = {"NotApplied": not sd, "Model": {"DegreesOfFreedom": 90}}
    return [statmap("sbl", stat, value, Run=run, **facts) for stat, value in values.items()]


def draw(maps: list[Derivative], runs: list[Derivative], **changes: object) -> list[Derivative]:
    brain = Volume(BRAIN, AFFINE)
    options = {
        "entities": {"subject": "01", "task": "tap", "datatype": "func"},
        "over_sessions": False,
        "at_rest": False,
        "factor": (2, 2, 1),
        "stored": StoredMaps(
            level="standard",
            smoothing=(0.0, 5.0),
            thresholds=("quarter", "fdr"),
            methods=["sbl"],
            kinds=("glm",),
            primary="sbl",
        ),
    }
    rows = changes.pop("rows", None) or metric_rows(
        "sbl", {"voxels": 20}, threshold="signReliable", contrast="all"
    )
    run_rows = {
        "run-1": [
            *metric_rows("sbl", {"voxels": 10}, threshold="signReliable", contrast="all"),
        ]
    }
    return combined_figures.draw_participant(
        maps,
        runs,
        rows,
        SceneImages(bold_mask_hr=brain, roi_hr=brain, boldref=volume(500.0)),
        run_rows=run_rows,
        **{key: changes.pop(key) for key in ("regions",) if key in changes},
        page=combined_figures.ParticipantPage(**{**options, **changes}),
    )


MAPS = [
    *(
        statmap(name, stat, np.where(ACTIVE, 4, 0.2))
        for name in ("acquired", "bspline")
        for stat in ("effect", "t")
    ),
    *combined_maps("sbl"),
]
RUNS = [run_map for name in NAMES for run_map in run_maps(name)]


def texts(figures: list[Derivative]) -> str:
    html = " ".join(str(item.content) for item in figures if isinstance(item.content, str))
    return " ".join(re.sub(r"<[^>]+>", " ", html).replace("\N{NO-BREAK SPACE}", " ").split())


def test_errors_are_medians_over_the_same_voxels_in_percent() -> None:
    text = texts(draw(MAPS, RUNS))
    # SD of the noise .2, of the reconstruction error .6, of both .63
    for part in (
        "± 1.2 %",
        "0.20 % for the SD of the noise and 0.60 %",
        f"the {ACTIVE.sum()} significant voxels",
        "all runs together 0.20 0.60 1.24",
        "run-1 0.33 0.40 0.70 1.58",  # of both .81
        "1.58 0.4 run-2",  # 10 sign reliable voxels of 36 mm³
        # SD is .4, and .75 of .7² repeats, so the variation between runs is negligible.
        "± 0.78 %",
        "desc-bspline_statmap.nii.gz",
        "B-spline",
    ):
        assert part in text
    # t distribution with 2 degrees of freedom, if no part of the error repeats
    independent = [*MAPS[:4], *combined_maps("sbl", SharedErrorCorrelation=0.0)]
    assert f"± {4.303 * 0.4:.1f} %" in texts(draw(independent, RUNS))


def rename(maps: list[Derivative], contrast: str) -> list[Derivative]:
    """Return maps and regions of another contrast."""
    return [
        replace(
            map_,
            entities={
                key: contrast if key in ("contrast", "label") else label
                for key, label in map_.entities.items()
            },
        )
        for map_ in maps
    ]


@pytest.mark.parametrize(
    ("contrasts", "tested", "shown"),
    [
        (("face", "house", "all"), ("house",), "house"),
        (("face", "house", "all"), (), "all"),
        (("face", "house"), ("house",), "house"),
        (("face", "house"), (), "face"),
    ],
)
def test_the_shown_contrast_has_a_result_or_is_all(
    contrasts: tuple[str, ...], tested: tuple[str, ...], shown: str
) -> None:
    estimate = (0.5, 0.1)
    rows = make_tested_rows(
        {name: (estimate, estimate) if name in tested else None for name in contrasts}
    )
    maps, runs = (
        [map_ for name in contrasts for map_ in rename(sources, name)] for sources in (MAPS, RUNS)
    )
    figures = draw(maps, runs, rows=rows, uncombined=["toe (only in run-1)"])
    text = texts(figures)
    assert f"(contrast {shown}, not smoothed)" in text
    assert "toe (only in run-1)" in text
    for name in contrasts:
        assert ("✓ yes 50 [40, 60]" in text) is bool(tested)
        assert name in text
    assert f"Effect of {shown}" in text


def test_the_error_of_the_largest_effects_is_named() -> None:
    effect, sd = np.where(ACTIVE, 4.0, 0.2), np.full(SHAPE, 0.6)
    effect[10, 10, 1:3], sd[10, 10, 1:3] = 8, 1.2  # 2 of 32 voxels
    maps = [
        replace(combined_map, content=volume({"effect": effect, "sd": sd}[stat]))
        if (stat := combined_map.entities.get("stat")) in ("effect", "sd")
        and combined_map.entities["desc"] == "sbl"
        else combined_map
        for combined_map in MAPS
    ]
    # 1.96 times the root of .2² + 1.2²
    assert "largest effects, the median interval is ± 2.4 %" in texts(draw(maps, RUNS))


def test_the_smallest_change_of_a_voxel_depends_on_the_degrees_of_freedom() -> None:
    """With noise of .2 and 5 degrees of freedom, and an error of .001, t is 2.57 + .92."""
    facts = {
        "Terms": [{"contrast": "all", "runs": list(NAMES)}],
        "PlaceErrorShare": 0.1,
        "DegreesOfFreedom": 5,
    }
    maps = [
        statmap("sbl", "sd", 0.001, **item.sidecar) if item.entities.get("stat") == "sd" else item
        for item in combined_maps("sbl", **facts)
    ]
    assert "a change of 0.70 % in a voxel is found" in texts(draw(maps, RUNS))


def test_a_run_without_the_method_is_named() -> None:
    maps = [*MAPS[:4], *combined_maps("sbl", sd=False, NotAppliedIn=["run-2"])]
    text = texts(draw(maps, [*run_maps("run-1"), *run_maps("run-2", sd=False)]))
    assert "not applied to run-2" in text
    assert "run-2 0.33 0.40 n/a" in text


def test_a_method_that_was_applied_to_no_run_is_named_as_on_the_pages_of_runs() -> None:
    runs = ["run-1", "run-2", "run-3"]
    maps = [*MAPS[:4], *combined_maps("sbl", sd=False, NotAppliedIn=runs)]
    assert "sbl was not applied (zero filled)" in texts(draw(maps, RUNS))


def test_a_combined_map_with_far_fewer_significant_voxels_than_a_run_fails_the_check() -> None:
    few = np.zeros(SHAPE, np.uint8)
    few[10, 10, 1:3] = 1
    maps = [
        replace(map_, content=Volume(few, AFFINE)) if map_.entities["suffix"] == "mask" else map_
        for map_ in MAPS
    ]
    larger = np.zeros(SHAPE, bool)
    larger[6:16, 6:16, 1:3] = True
    runs = [
        replace(map_, content=volume(np.where(larger, 4.0, 0.2)))
        if map_.entities["stat"] == "effect" and map_.sidecar["Run"] == "run-2"
        else map_
        for map_ in RUNS
    ]
    failed = "significant voxels of run-2"
    assert failed in texts(draw(maps, runs))
    assert failed not in texts(draw(MAPS, RUNS))


@pytest.mark.parametrize(
    ("n_runs", "spread", "noise", "sd"), [(3, 4, 5, 6), (3, 8, 3, 3), (6, 0, 5, 6), (6, 8, 3, 3)]
)
def test_the_interval_for_the_participant_covers_the_true_effect(
    n_runs: int, spread: float, noise: float, sd: float
) -> None:
    """Simulate runs with a spread between runs, noise, and an error that repeats (rho .75)."""
    rng, size = np.random.default_rng(0), (20_000, 1, 1)
    common = np.sqrt(0.75) * sd * rng.normal(size=size)
    runs = [
        common + np.sqrt(spread**2 + noise**2 + 0.25 * sd**2) * rng.normal(size=size)
        for _ in range(n_runs)
    ]
    combined = combine_estimates(
        [
            RunEstimate(
                effect=effect,
                variance=np.full(size, noise**2),
                dof=80,
                sd=np.full(size, float(sd)),
            )
            for effect in runs
        ],
        shared=0.75,
    )
    person_sd, inside = combined.person_sd, np.ones(size, bool)
    assert person_sd is not None
    sd_map = Derivative(Volume(np.full(size, sd, np.float32), np.eye(4)), {})
    interval = combined_figures._person_interval(
        person_sd[inside],
        {f"run-{k}": {"sd": sd_map} for k in range(n_runs)},
        {f"run-{k}": 1 / n_runs for k in range(n_runs)},
        0.75,
        inside,
        widening=1.0,
    )
    covered = float((np.abs(combined.effect[inside]) < interval).mean())
    assert 0.915 < covered < 0.96
    # if the repeated error is the largest part, the interval is hardly wider than for these runs
    of_these_runs = 1.96 * np.sqrt(combined.total_variance[inside])
    ratio = float(np.median(interval) / np.median(of_these_runs))
    assert ratio < 1.1 if sd > noise else ratio > 1.3


def test_missing_maps_of_all_runs_are_explained() -> None:
    """Brains do not overlap, or one run alone has a contrast."""
    apart = texts(draw([], RUNS))
    assert "run-1, run-2 and run-3" in apart
    assert "--run-id" in apart
    only_one = texts(draw([], RUNS[:3]))
    assert only_one != apart
    assert "run-2" not in only_one
    for maps in ([], [MAPS[-1]]):
        assert draw(maps, []) == []


def test_a_small_shared_part_of_the_brain_is_on_the_page() -> None:
    runs = [
        replace(run_map, sidecar={**run_map.sidecar, "SharedBrain": share})
        for run_map in RUNS
        for name, share in (("run-2", 0.4), ("run-3", 0.8))
        if run_map.sidecar["Run"] == name
    ]
    text = texts(draw(MAPS, [*run_maps("run-1"), *runs]))
    assert "(run-2 40 %)" in text
    assert "40 %" not in texts(draw(MAPS, RUNS))


def test_a_space_in_which_runs_are_on_different_grids_is_on_the_page() -> None:
    def in_template(run_map: Derivative, n_slices: int) -> Derivative:
        data = run_map.volume.data[..., :n_slices]
        entities = {**run_map.entities, "space": "MNI"}
        return replace(run_map, entities=entities, content=Volume(data, AFFINE))

    elsewhere = [in_template(run_map, 4) for run_map in run_maps("run-1")]
    same = [in_template(run_map, 4) for run_map in run_maps("run-2")]
    other = [in_template(run_map, 3) for run_map in run_maps("run-2")]
    assert "different grids" not in texts(draw(MAPS, [*RUNS, *elsewhere, *same]))
    text = texts(draw(MAPS, [*RUNS, *elsewhere, *other]))
    assert "MNI" in text
    assert "run-2: 24 x 24 x 3 voxels" in text
