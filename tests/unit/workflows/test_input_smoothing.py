"""Smoothing before super-resolution (``--input-smoothing``): values, wiring, text and refusals."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bidsmaker import BidsMaker
from scipy import ndimage

from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings
from bids_sr.io.nifti import SeriesReader
from bids_sr.pipeline.graph import Graph
from bids_sr.pipeline.nodes import Node
from bids_sr.preflight import check
from bids_sr.steps import acquired_series
from bids_sr.workflows.participant import graph_of

STEPS = ("super_resolve", "undo_motion")


def settings_for(maker: BidsMaker, *extra: str, level: str = "participant") -> Settings:
    line = [str(maker.root), str(maker.root.parent / "out"), level, "--skip-bids-validation"]
    return parse_settings([*line, *extra]).resolved(run_uuid="x")


def graph(maker: BidsMaker, *extra: str) -> Graph:
    settings = settings_for(maker, *extra)
    plan = check(settings)
    assert not plan.problems
    return graph_of(settings, plan, "0")


def source_of(graph: Graph, placed: Node, name: str) -> str:
    [maker] = graph.wires[placed][name].handles
    return maker.source.name


def test_each_volume_is_smoothed_in_mm(tmp_path: Path) -> None:
    zooms = (2.0, 3.0, 4.0)
    data = np.random.default_rng(0).normal(100, 10, (12, 11, 9, 5)).astype(np.float32)
    nib.Nifti1Image(data, np.diag([*zooms, 1])).to_filename(tmp_path / "a.nii")
    series = acquired_series.smooth_acquired(
        SeriesReader(tmp_path / "a.nii"), here=tmp_path, input_smoothing=6.0
    )
    sigma = [6 / 2.354820 / mm for mm in zooms]
    for t in range(5):
        expected = ndimage.gaussian_filter(
            data[..., t].astype(float), sigma, mode="nearest", truncate=4
        )
        np.testing.assert_allclose(series.volume(t), expected, rtol=1e-4)
    np.testing.assert_allclose(series.affine, np.diag([*zooms, 1]))


def test_every_series_is_made_of_the_smoothed_one(maker: BidsMaker) -> None:
    made = graph(maker, "--input-smoothing", "3.5", "--smoothing", "0")
    steps = [one for one in made.nodes if one.step.__name__ in STEPS]
    assert {one.step.__name__ for one in steps} == set(STEPS)
    names = {one.settings["series_name"] for one in steps if "series_name" in one.settings}
    assert {"bspline", "zerofill", "sbl"} <= names
    assert {source_of(made, one, "stc") for one in steps} == {"smooth_acquired"}
    [smoothed] = [one for one in made.nodes if one.step.__name__ == "smooth_acquired"]
    assert made.settings[smoothed]["input_smoothing"] == 3.5
    mapped = [one for one in made.nodes if one.step.__name__ == "map_series"]
    assert {made.settings[one]["input_smoothing"] for one in mapped} == {3.5}
    stored = [one for one in made.nodes if one.name in ("keep_series", "keep_preproc")]
    assert stored
    for one in stored:
        sidecar = made.settings[one]["own_sidecar"]
        assert isinstance(sidecar, dict)
        assert sidecar["InputSmoothingFWHM"] == 3.5
    # head motion is estimated without smoothing
    [moved] = [one for one in made.nodes if one.step.__name__ == "estimate_motion"]
    assert source_of(made, moved, "bold") == "import_series"
    text = made.methods_text()
    assert "smoothed with a Gaussian kernel of 3.5 mm FWHM" in text
    [facts] = [
        made.settings[one]["run_facts"]
        for one in made.nodes
        if one.step.__name__ == "summarize_run"
    ]
    assert facts["Smoothing before super-resolution (mm FWHM)"] == 3.5


def test_by_default_nothing_is_smoothed_before(maker: BidsMaker) -> None:
    made = graph(maker)
    assert not [one for one in made.nodes if one.step.__name__ == "smooth_acquired"]
    assert "before super-resolution" not in made.methods_text()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            ("--compare", "tedana={}"),
            "a series computed by another program (--compare) is not smoothed",
        ),
        (("--calibration", "highres"), "unsmoothed calibration run"),
        (("--sr-target", "anat"), "cannot be combined with --sr-target anat"),
    ],
)
def test_what_is_not_smoothed_alike_is_refused(
    maker: BidsMaker, options: tuple[str, ...], reason: str
) -> None:
    given = [each.format(maker.root.parent) for each in options]
    plan = check(settings_for(maker, "--input-smoothing", "3.5", *given))
    assert reason in "\n".join(str(problem) for problem in plan.problems)
