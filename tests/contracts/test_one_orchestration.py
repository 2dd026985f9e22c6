"""The Python interface and the program compute identical series and tests of a run.

The graph of the program is run in this process, as a workflow would run it.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data.dataset import BidsMaker
from data.short_run import EVENTS, TR, make_run
from graphmaker import planned_graph
from graphrunner import GraphRunner, handle_of

from bids_sr import SuperResolver, recovered_detail
from bids_sr.evaluation.support_table import tabulate_support
from bids_sr.io.nifti import load_image, save_image

RUN = "sub-01_task-tap"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a folder with a run, a measured series and a calibration run."""
    folder = make_run(tmp_path_factory.mktemp("images"), (44, 40, 5))
    data, affine = load_image(folder / "truth.nii")
    rng = np.random.default_rng(4)
    noisy = data[..., :30] + rng.normal(0, 2, (*data.shape[:3], 30))
    save_image(noisy.astype(np.float32), affine, folder / "calibration.nii", tr=TR)
    return folder


@pytest.fixture(scope="module")
def program(images: Path, tmp_path_factory: pytest.TempPathFactory) -> GraphRunner:
    """Return a runner of the program's graph."""
    root = tmp_path_factory.mktemp("program")
    maker = BidsMaker(root / "data")
    func = maker.root / "sub-01" / "func"
    truth = maker.root / "derivatives" / "ground-truth" / "sub-01" / "func"
    for folder in (func, truth):
        folder.mkdir(parents=True)
    sidecar = {"RepetitionTime": TR, "TaskName": "tap"}
    for name, file in ((RUN, "bold"), (f"{RUN}_acq-highres", "calibration")):
        (func / f"{name}_bold.nii").symlink_to(images / f"{file}.nii")
        (func / f"{name}_bold.json").write_text(json.dumps(sidecar))
    EVENTS.to_csv(func / f"{RUN}_events.tsv", sep="\t", index=False)
    (truth / f"{RUN}_bold.nii").symlink_to(images / "truth.nii")
    graph = planned_graph(maker, root, "--sr-method", "sbl", "--truth", "auto")
    (root / "steps").mkdir()
    return GraphRunner(graph, root / "steps")


@pytest.fixture(scope="module")
def resolver(images: Path) -> SuperResolver:
    """Return the estimator, fitted to the run in Python."""
    return SuperResolver("sbl").fit(images / "bold.nii", calibration=images / "calibration.nii")


def test_the_series_are_equal(images: Path, program: GraphRunner, resolver: SuperResolver) -> None:
    image = resolver.transform(images / "bold.nii")
    (series,) = program.load(handle_of(program.graph, "super_resolve", "series", "sbl"))
    assert resolver.applied_
    np.testing.assert_array_equal(np.asarray(image.dataobj), load_image(series.path)[0])
    (facts,) = program.load(handle_of(program.graph, "measure_calibration", "calibration_facts"))
    assert facts["usable"]
    assert resolver.facts_["calibration"] == facts


def test_the_detail_of_a_calibrated_run_is_equal(
    images: Path, program: GraphRunner, resolver: SuperResolver
) -> None:
    table = recovered_detail(images / "bold.nii", images / "events.tsv", resolver=resolver)
    (rows,) = program.load(handle_of(program.graph, "check_intervals", "coverage_rows"))
    contrasts = ["little", "thumb", "all", "littleMinusThumb"]
    expected = tabulate_support(rows, {"sbl": ""}, contrasts)
    pd.testing.assert_frame_equal(table, expected, rtol=0, atol=0)
