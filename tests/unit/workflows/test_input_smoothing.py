"""Test smoothing before super-resolution (`input_smoothing`): values, graph, methods text
and errors.
"""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from data.calls import plan_for
from data.dataset import BidsMaker
from graphmaker import made_by, nodes_of, planned_graph
from scipy import ndimage

from bids_sr.io.nifti import SeriesReader
from bids_sr.preproc.steps import acquired_series

STEPS = ("super_resolve", "correct_motion")
TABLES = ("compare_maps", "join_quality", "join_evaluation")
SMOOTHED = ("--set", "preprocessing.input_smoothing=3.5")


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
    """Head motion is estimated without smoothing, which is written to sidecars and the text."""
    graph = planned_graph(maker, maker.root.parent, *SMOOTHED, "--smoothing", "0")
    made = [node for step in STEPS for node in nodes_of(graph, step)]
    names = {node.settings["series_name"] for node in made if "series_name" in node.settings}
    assert {"bspline", "zerofill", "sbl"} <= names
    assert {source.step.__name__ for n in made for source in made_by(graph, n, "stc")} == {
        "smooth_acquired"
    }
    for step in (*("smooth_acquired", "map_series"), *TABLES):
        settings = [graph.settings[node]["input_smoothing"] for node in nodes_of(graph, step)]
        assert set(settings) == {3.5}
    stored = [node for node in graph.nodes if node.name in ("store_series", "store_preproc")]
    sidecars = [graph.settings[node]["own_sidecar"] for node in stored]
    assert {sidecar["InputSmoothingFWHM"] for sidecar in sidecars} == {3.5}
    [motion] = nodes_of(graph, "estimate_motion")
    assert [source.step.__name__ for source in made_by(graph, motion, "bold")] == [
        "replace_outliers"
    ]
    assert "3.5 mm" in graph.methods_text()
    [summary] = nodes_of(graph, "summarize_run")
    assert 3.5 in graph.settings[summary]["run_facts"].values()
    assert not nodes_of(planned_graph(maker, maker.root.parent), "smooth_acquired")


@pytest.mark.parametrize(
    "options",
    [("--calibration", "highres"), ("--sr-target", "anat")],
)
def test_options_that_do_not_allow_smoothing_are_rejected(
    maker: BidsMaker, options: tuple[str, ...]
) -> None:
    plan = plan_for(maker, *SMOOTHED, *options)
    problems = [problem for problem in plan.problems if "input_smoothing" in str(problem)]
    assert any(options[0] in str(problem) or options[1] in str(problem) for problem in problems)


@pytest.mark.parametrize(
    ("changes", "fwhm_mm"), [((), 13.2), (("--set", "preprocessing.input_smoothing=0"), 0)]
)
def test_the_preset_of_ota_is_run_with_and_without_its_smoothing(
    maker: BidsMaker, changes: tuple[str, ...], fwhm_mm: float
) -> None:
    maker.subject()
    options = ("--config-file", "ota2022", "--dummy-scans", "0", "--set", "srgan.patch=16")
    graph = planned_graph(maker, maker.root.parent, *options, *changes)
    for step in ("map_series", *TABLES):
        settings = [graph.settings[node]["input_smoothing"] for node in nodes_of(graph, step)]
        assert set(settings) == {fwhm_mm}, step
    assert bool(nodes_of(graph, "smooth_acquired")) is bool(fwhm_mm)
    widths = [graph.settings[node]["smoothing"] for node in nodes_of(graph, "map_series")]
    assert {tuple(width) for width in widths} == {(0.0,)}
