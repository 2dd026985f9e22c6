"""Test smoothing before super-resolution (`input_smoothing`): values, graph, methods text
and errors.
"""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from data.dataset import BidsMaker
from scipy import ndimage

from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings
from bids_sr.io.nifti import SeriesReader
from bids_sr.pipeline.graph import Graph
from bids_sr.pipeline.nodes import Node
from bids_sr.preflight import check
from bids_sr.steps import acquired_series
from bids_sr.workflows.participant import make_graph

STEPS = ("super_resolve", "correct_motion")


def settings_for(maker: BidsMaker, *extra: str, level: str = "participant") -> Settings:
    line = [str(maker.root), str(maker.root.parent / "out"), level, "--skip-bids-validation"]
    return parse_settings([*line, *extra]).resolve(run_uuid="x")


def graph(maker: BidsMaker, *extra: str) -> Graph:
    settings = settings_for(maker, *extra)
    plan = check(settings)
    assert not plan.problems
    return make_graph(settings, plan, "0")


def source_of(graph: Graph, node: Node, name: str) -> str:
    [input_handle] = graph.wires[node][name].handles
    return input_handle.source.name


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


def test_every_series_is_computed_from_the_smoothed_series(maker: BidsMaker) -> None:
    graph_of_run = graph(maker, "--set", "preprocessing.input_smoothing=3.5", "--smoothing", "0")
    steps = [node for node in graph_of_run.nodes if node.step.__name__ in STEPS]
    assert {node.step.__name__ for node in steps} == set(STEPS)
    names = {node.settings["series_name"] for node in steps if "series_name" in node.settings}
    assert {"bspline", "zerofill", "sbl"} <= names
    assert {source_of(graph_of_run, node, "stc") for node in steps} == {"smooth_acquired"}
    [smoothing_node] = [
        node for node in graph_of_run.nodes if node.step.__name__ == "smooth_acquired"
    ]
    assert graph_of_run.settings[smoothing_node]["input_smoothing"] == 3.5
    map_nodes = [node for node in graph_of_run.nodes if node.step.__name__ == "map_series"]
    assert {graph_of_run.settings[node]["input_smoothing"] for node in map_nodes} == {3.5}
    names = ("store_series", "store_preproc")
    stored = [node for node in graph_of_run.nodes if node.name in names]
    assert stored
    for node in stored:
        sidecar = graph_of_run.settings[node]["own_sidecar"]
        assert isinstance(sidecar, dict)
        assert sidecar["InputSmoothingFWHM"] == 3.5
    # Head motion is estimated without smoothing.
    [motion_node] = [
        node for node in graph_of_run.nodes if node.step.__name__ == "estimate_motion"
    ]
    assert source_of(graph_of_run, motion_node, "bold") == "replace_outliers"
    text = graph_of_run.methods_text()
    assert "smoothed with a Gaussian kernel of 3.5 mm FWHM" in text
    [facts] = [
        graph_of_run.settings[node]["run_facts"]
        for node in graph_of_run.nodes
        if node.step.__name__ == "summarize_run"
    ]
    assert facts["Smoothing before super-resolution (mm FWHM)"] == 3.5


def test_nothing_is_smoothed_by_default(maker: BidsMaker) -> None:
    graph_of_run = graph(maker)
    assert not [node for node in graph_of_run.nodes if node.step.__name__ == "smooth_acquired"]
    assert "before super-resolution" not in graph_of_run.methods_text()


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
def test_options_that_do_not_allow_smoothing_are_rejected(
    maker: BidsMaker, options: tuple[str, ...], reason: str
) -> None:
    arguments = [option.format(maker.root.parent) for option in options]
    plan = check(settings_for(maker, "--set", "preprocessing.input_smoothing=3.5", *arguments))
    assert reason in "\n".join(str(problem) for problem in plan.problems)
