"""Tests of a copy of the program with the lines of docs/changing.md.

`test_changes_of_the_page.py` makes the copy and runs these tests with it.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from data.dataset import BidsMaker
from graphmaker import made_by, nodes_of, planned_graph, stage_minutes

import bids_sr
from bids_sr.cli.models.commands.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.evaluation.steps.signal_drift import measure_drift
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.volume import Volume
from bids_sr.report.figure_steps import tsnr
from bids_sr.report.metric_tables import QUALITY, tables_html
from bids_sr.sr.method import method_names_without_controls
from bids_sr.sr.models.model import load_model
from bids_sr.workflows.call_checks import check
from bids_sr.workflows.figure_declarations import figure_declarations

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    """Data set of one run."""
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    return maker


def test_the_copy_is_tested() -> None:
    assert Path(bids_sr.__file__).parents[1] == Path(os.environ["PYTHONPATH"])


def test_the_method_is_offered_planned_and_trained(
    maker: BidsMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "new-net" in method_names_without_controls()
    options = ["--sr-method", "new-net"]
    argv = [str(maker.root), str(tmp_path / "out"), "participant", "--skip-bids-validation"]
    settings = parse_settings([*argv, *options]).resolve(run_uuid="x")
    assert 10 <= stage_minutes(settings)["training"] < 11
    rejected = check(parse_settings([*argv, *options, "--recipe", "paper"]).resolve(run_uuid="x"))
    assert len(rejected.problems) == 1
    graph = planned_graph(maker, tmp_path, *options)
    made = {node.scope.name for node in nodes_of(graph, "super_resolve")}
    assert made > {"newnet", "bspline"}
    assert {graph.settings[node]["method"] for node in nodes_of(graph, "train_on_pair")} == {
        "new-net"
    }
    text = graph.methods_text()
    assert "new-net" in text
    assert "small residual network, trained with squared error [@srgan]" in text

    image = maker.path("sub-01_T1w.nii.gz", "anat")
    trained = tmp_path / "trained"
    argv = ["train", "new-net", str(trained), "--fine", str(image), "--max-minutes", "0.1"]
    assert main(argv) == 0
    assert load_model(trained.with_suffix(".safetensors")).card.method == "new-net"
    assert main(["list"]) == 0
    assert "new-net" in capsys.readouterr().out


def test_the_metric_is_computed_in_each_run_and_shown(maker: BidsMaker, tmp_path: Path) -> None:
    graph = planned_graph(maker, tmp_path)
    [node] = nodes_of(graph, "measure_drift")
    assert [source.name for source in made_by(graph, node, "preproc")] == ["correct_motion"]
    [join] = nodes_of(graph, "join_evaluation")
    assert node in made_by(graph, join, "rows")

    # 100 to 109.5 after the dummy volumes: 9.5 divided by the mean, 104.75
    signal = np.concatenate([[900, 500], 100 + 0.5 * np.arange(20)])
    series = np.ones((4, 4, 2, 1), np.float32) * signal.astype(np.float32)
    series[0, 0] = 7
    save_image(series, AFFINE, tmp_path / "preproc.nii", tr=2.0)
    mask = Volume(series[..., 0] > 7, AFFINE)
    with SeriesReader(tmp_path / "preproc.nii") as preproc:
        [row] = measure_drift(preproc, mask, n_dummy=2)
    assert row.value == pytest.approx(100 * 9.5 / 104.75, rel=1e-5)
    assert row.unit == "%"
    html = tables_html([QUALITY], [row])
    assert "signal drift" in html
    assert "9.07 %" in html


def test_the_figure_is_drawn_and_placed_in_each_run(maker: BidsMaker, tmp_path: Path) -> None:
    graph = planned_graph(maker, tmp_path)
    [node] = nodes_of(graph, "draw_tsnr")
    assert [source.name for source in made_by(graph, node, "preproc")] == ["correct_motion"]
    [declared] = [spec for spec in figure_declarations() if spec.desc == "tsnr"]
    assert declared.section == "motion"

    rng = np.random.default_rng(0)
    noise = rng.normal(100, 2, (8, 8, 4, 20)).astype(np.float32)
    save_image(noise, AFFINE, tmp_path / "preproc.nii", tr=2.0)
    mask = Volume(np.ones((8, 8, 4), bool), AFFINE)
    with SeriesReader(tmp_path / "preproc.nii") as preproc:
        [drawn] = tsnr.draw_tsnr(preproc, mask, n_dummy=2)
    assert sum(bar.get_height() for bar in drawn.content.axes[0].patches) == 256
