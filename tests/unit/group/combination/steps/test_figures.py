"""Test the map of all runs on a participant's page: values of the table, and the maps drawn."""

import re
from dataclasses import replace

import numpy as np
import pytest
from data.page import Page
from data.rows import make_tested_rows

from bids_sr.config.levels import StoredMaps
from bids_sr.engine.artifacts import Derivative
from bids_sr.engine.metric_rows import metric_rows
from bids_sr.evaluation.changes import find_change, write_change
from bids_sr.glm.region_means import MeanEffect
from bids_sr.group.combination.steps import figures as combined_figures
from bids_sr.group.combination.steps.runs_verdict import judge_runs
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
        "factor": (2, 2, 1),
        "n_runs": 3,
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
    page = combined_figures.ParticipantPage(
        **{
            **options,
            **{key: value for key, value in changes.items() if key not in ("regions", "changes")},
        }
    )
    _, result = judge_runs(
        maps,
        rows,
        {},
        changes.get("changes"),
        series="sbl",
        names=page.names,
        tested_mm=None,
        runs={},
    )
    return combined_figures.draw_participant(
        maps,
        runs,
        rows,
        SceneImages(bold_mask_hr=brain, roi_hr=brain, boldref=volume(500.0)),
        result,
        **{key: changes[key] for key in ("regions",) if key in changes},
        page=page,
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
    assert "toe (only in run-1)" in text
    for name in contrasts:
        assert ("✓ yes 50 [40, 60]" in text) is bool(tested)
        assert name in text
    assert f"Effect of {shown}" in text


def test_the_page_of_a_difference_is_about_what_changed() -> None:
    """The difference is shown at the safe width, with its mask, region table and row."""
    terms = [{"contrast": "all", "runs": ["run-1", "run-2"]}]
    facts = {"Terms": terms, "PlaceErrorShare": 0.1, "SmoothingFWHM": 5.0}
    weights = {"run-1": -1.0, "run-2": 1.0}
    acquired = [statmap("acquired", stat, 4.0, **facts) for stat in ("effect", "t")]
    smooth = [
        replace(
            item,
            entities={**item.entities, "desc": item.entities["desc"].replace("sbl", "sblFwhm50")},
            sidecar={**item.sidecar, "SmoothingFWHM": 5.0},
        )
        for item in combined_maps("sbl", RunWeights=weights, **facts)
    ]
    unsmoothed = [replace(item, sidecar={**item.sidecar, "SmoothingFWHM": 0.0}) for item in smooth]
    difference = rename([*acquired, *smooth, *unsmoothed], "change")
    means = {("roi", "v1"): MeanEffect(effect=1.0, noise_sd=0.1, noise_dof=40.0)}
    change, _ = find_change("change", "all@run-2 − all@run-1", means)
    rows = make_tested_rows({"all": ((0.5, 0.1), (0.4, 0.1)), "change": None})
    rows += metric_rows("sbl", {"expected_wrong": 0.01}, threshold="fdr", contrast="all")
    names = {"change": change.name}
    runs = [
        replace(item, sidecar={**item.sidecar, "SmoothingFWHM": width})
        for item in RUNS
        for width in (0.0, 5.0)
    ]
    screen, _, _ = draw([*MAPS, *difference], runs, rows=rows, changes=(change,), names=names)
    page = Page(screen.content)
    assert page.all("p", "answer")[0].text == write_change(change)
    first, *_ = page.all("table", "answers")[0].all("tbody")[0].all("tr")
    assert first.all("th")[0].text == change.name
    links = [link for link in page.links if "change" in link]
    assert links
    assert all("Fwhm50" in link for link in links)
    assert "FDR .05 outlined" in page.text
    lost = texts(draw(MAPS, runs, names=names))
    assert f"{change.name} has no map of sbl" in lost


def test_a_run_without_the_method_is_named() -> None:
    maps = [*MAPS[:4], *combined_maps("sbl", sd=False, NotAppliedIn=["run-2"])]
    text = texts(draw(maps, [*run_maps("run-1"), *run_maps("run-2", sd=False)]))
    assert "not applied to run-2" in text


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
