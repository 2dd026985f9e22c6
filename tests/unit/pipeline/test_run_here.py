"""Steps of a graph run in this process: what is asked for, once, with values and files that are
given.
"""

import numpy as np
import pandas as pd
import pytest

from bids_sr.io.grids import Volume
from bids_sr.io.nifti import SeriesReader, load_image, save_image
from bids_sr.pipeline.artifacts import (
    Derivative,
    Facts,
    File,
    Image,
    Map,
    Mask,
    Series,
    Table,
    Transforms,
)
from bids_sr.pipeline.graph import Scope, GraphError
from bids_sr.pipeline.run_here import RunHere
from bids_sr.pipeline.step import step

RAN: list[str] = []
VALUES = np.arange(96, dtype=np.float32).reshape(4, 4, 2, 3)
AFFINE = np.diag([2.0, 2, 3, 1])


@step(makes="n_dummy")
def count(bold: Series) -> int:
    """A plain value, a setting of others."""
    RAN.append("count")
    return bold.shape[3] - 2


@step(makes="boldref")
def average(bold: Series, *, n_dummy: int) -> Image:
    """The mean of steady volumes."""
    RAN.append("average")
    return Volume(
        np.mean([bold.volume(t) for t in range(n_dummy, bold.shape[3])], axis=0), bold.affine
    )


@step(makes="series")
def shifted(bold: Series, hmc_xfms: Transforms, mask: Mask, here, *, series_name: str) -> Series:
    """A series is a file."""
    RAN.append(series_name)
    moved = VALUES + hmc_xfms[0, 0, 3] + 10 * (series_name == "sbl")
    save_image(moved * mask.data[..., None], bold.affine, here / "shifted.nii", tr=2.0)
    return SeriesReader(here / "shifted.nii")


@step(makes="maps")
def two_maps(boldref: Image, *, series_name: str) -> list[Map]:
    """Maps with sidecars beside them."""
    about = {"Units": "1"}
    return [
        Derivative(
            boldref.like(factor * boldref.data),
            {"desc": series_name, "stat": name, "suffix": "statmap"},
            about,
        )
        for name, factor in (("t", 1), ("z", 2))
    ]


@step()
def summary(
    series: dict[str, Series],
    maps: list[Map],
    truth_maps: dict[str, Image] | None = None,
    notes: Facts | None = None,
) -> Table:
    """What all inner scopes make, and what is given by name."""
    rows = [(name, float(one.volume(0).mean())) for name, one in series.items()]
    rows += [(each.name, float(each.volume.data.mean())) for each in maps]
    rows += [(name, float(each.data.mean())) for name, each in (truth_maps or {}).items()]
    return pd.DataFrame(rows, columns=["name", "value"])


@step()
def fails(boldref: Image, weights: File) -> Facts:
    """What is asked for by nobody."""
    raise AssertionError


@pytest.fixture
def scope(tmp_path):
    """A run with two series; reference and head motion are values, the series is a file."""
    RAN.clear()
    save_image(VALUES, AFFINE, tmp_path / "bold.nii", tr=2.0)
    xfms = np.repeat(np.eye(4)[None], 3, 0)
    xfms[:, 0, 3] = 0.5
    found = Scope("run", {"n_dummy": 0})
    mask = Volume(np.ones((4, 4, 2), bool), AFFINE)
    found.give(bold=tmp_path / "bold.nii", hmc_xfms=xfms, brain=mask, weights=tmp_path / "none")
    for name in ("bspline", "sbl"):
        found.within(name, alias={"mask": "brain"}, series_name=name).add(shifted)
    return found


def test_what_is_asked_for_is_made_and_nothing_else(scope, tmp_path):
    scope.add(count, average, fails)
    here = RunHere(scope, tmp_path)
    boldref, seen = here.load(scope["boldref"], scope["n_dummy"])
    assert seen == 1  # what a step makes comes before a setting of that name
    np.testing.assert_array_equal(boldref.data, VALUES[..., 1:].mean(-1))
    np.testing.assert_array_equal(boldref.affine, AFFINE)
    assert RAN == ["count", "average"]
    (series,) = here.load(scope.inner[1]["series"])
    np.testing.assert_array_equal(load_image(series.path)[0], VALUES + 10.5)
    assert RAN == ["count", "average", "sbl"]
    assert not (tmp_path / "run.bspline.shifted").exists()


def test_steps_may_be_placed_between_two_requests_and_each_runs_once(scope, tmp_path):
    here = RunHere(scope, tmp_path)
    here.load(scope.inner[0]["series"])
    scope.add(count, average)
    scope.inner[0].add(two_maps)
    scope.add(summary)
    (table,) = here.load(scope["summary"])
    steady, first = VALUES[..., 1:].mean(), VALUES[..., 0].mean()
    assert dict(table.itertuples(index=False)) == pytest.approx(
        {
            "bspline": first + 0.5,
            "sbl": first + 10.5,
            "desc-bspline_stat-t_statmap": steady,
            "desc-bspline_stat-z_statmap": 2 * steady,
        }
    )
    assert RAN == ["bspline", "sbl", "count", "average"]
    (again,) = here.load(scope["summary"])
    pd.testing.assert_frame_equal(again, table)
    assert RAN == ["bspline", "sbl", "count", "average"]


def test_a_list_of_which_nothing_is_made_is_empty_and_volumes_are_given_by_name(scope, tmp_path):
    scope.give(
        truth_maps={
            name: Volume(np.full((4, 4, 2), value), AFFINE)
            for name, value in (("a", 3.0), ("b", 4.0))
        }
    )
    scope.add(summary)
    (table,) = RunHere(scope, tmp_path).load(scope["summary"])
    assert table.name.tolist() == ["bspline", "sbl", "a", "b"]
    assert table.value.tolist()[2:] == [3.0, 4.0]


def test_what_nobody_makes_is_told_before_anything_runs(scope, tmp_path):
    scope.within("other", series_name="other").add(two_maps)
    with pytest.raises(GraphError, match="no step has an output named boldref"):
        RunHere(scope, tmp_path).load(scope.inner[0]["series"])
    assert RAN == []
