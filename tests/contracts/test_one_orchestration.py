"""The Python interface and the program compute identical series and tests of a run.

The graph of the program is run in this process, as a workflow would run it. A list states which
steps the interface calls itself, instead of a function of `workflows` that calls them.
"""

import ast
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data.dataset import BidsMaker
from data.short_run import EVENTS, TR, make_run
from graphmaker import planned_graph
from graphrunner import GraphRunner, handle_of

from bids_sr import SuperResolver, recovered_detail
from bids_sr.evaluation import contrast_results, evidence, run_evidence
from bids_sr.evaluation.support_table import tabulate_support
from bids_sr.io.nifti import load_image, save_image
from bids_sr.pipeline.nodes import Handle
from bids_sr.pipeline.step import Step

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
    (facts,) = program.load(handle_of(program.graph, "gather_self_tests", "self_test_facts"))
    contrasts = ["little", "thumb", "all", "littleMinusThumb"]
    expected = tabulate_support(rows, {"sbl": ""}, contrasts, self_test=facts)
    pd.testing.assert_frame_equal(table, expected, rtol=0, atol=0)


READERS_OF_THE_EVIDENCE = (
    "draw_overview",
    "draw_evaluation",
    "draw_quality",
    "draw_output",
    "show_clusters",
    "show_viewer",
)
"""Steps of figures with the best method of the evidence, or its contrast."""


def test_the_evidence_of_a_run_is_gathered_once(
    program: GraphRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [
        count_calls(monkeypatch, function, *arguments)
        for function, *arguments in (
            (run_evidence.gather_evidence,),
            (evidence.find_strongest, "function"),
            (contrast_results.collect_results,),
        )
    ]
    graph = program.graph
    nodes = {node.step.__name__: node for node in graph.nodes}
    for name in READERS_OF_THE_EVIDENCE:
        inputs = graph.wires[nodes[name]]
        assert [str(handle.node) for handle in inputs["evidence"].handles] == [
            str(nodes["decide_verdict"])
        ]
        program.load(*(Handle(nodes[name], output) for output in nodes[name].step.outputs))
    assert [len(arguments) for arguments in calls] == [1, 1, 1]


def count_calls(
    monkeypatch: pytest.MonkeyPatch, function: Callable[..., object], *first_arguments: object
) -> list[tuple[object, ...]]:
    """Return a list that gets the arguments of each call of a function, in whichever module.

    If there are `first_arguments`, only calls that begin with them are counted.
    """
    calls = []

    def counted(*arguments: object, **options: object) -> object:
        if arguments[: len(first_arguments)] == first_arguments:
            calls.append(arguments)
        return function(*arguments, **options)

    for module in [*sys.modules.values()]:
        if getattr(module, function.__name__, None) is function:
            monkeypatch.setattr(module, function.__name__, counted)
    return calls


STEPS_OF_THE_INTERFACE = {
    "replace_same_volumes": "outlier volumes of the run of an earlier `fit` are known",
    "estimate_residual_motion": "`realigned` is only an option of the interface",
    "mask_head": "head of a calibration run whose motion was corrected",
    "register_to_pair": "the guide is registered without the other registrations of a run",
    "motion_confounds": "confounds are arguments, otherwise only head motion is modeled",
    "gather_self_tests": "self-tests of fitted estimators, without control methods",
}
"""Steps that `bids_sr.api` calls itself, with the reason."""


def _steps_called_in(file: Path) -> Iterator[str]:
    """Yield the names of the steps that a module imports and mentions."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    values: dict[str, object] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bids_sr.steps"):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{module.__name__}.{alias.name}")
                values[alias.asname or alias.name] = getattr(module, alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            value = getattr(values.get(node.value.id), node.attr, None)
        else:
            value = values.get(node.id) if isinstance(node, ast.Name) else None
        if isinstance(value, Step):
            yield value.__name__


def test_the_interface_leaves_the_order_of_steps_to_workflows() -> None:
    folder = Path(__file__).parents[2] / "bids_sr" / "api"
    called = {name for file in folder.glob("*.py") for name in _steps_called_in(file)}
    assert called == set(STEPS_OF_THE_INTERFACE)
