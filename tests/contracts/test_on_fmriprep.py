"""On top of fMRIPrep nothing that it has estimated is estimated again, and every output says where it comes from."""

import re
from pathlib import Path

import numpy as np
import pytest
from bidsmaker import BidsMaker
from fmriprepmaker import FmriprepMaker
from graphmaker import planned_graph
from nipype.interfaces import utility as niu
from nipype.interfaces.base import isdefined

from bids_sr.workflows.base import methods_text

ANATOMY = {"CorrectBias", "MaskBrain", "NormalizeT1w", "SegmentTissues"}
FUNCTION = {"EstimateMotion", "MakeBoldRef", "BoldMask", "MaskBold", "RegisterBoldToT1w", "Confounds"}


def _data(root: Path) -> BidsMaker:
    maker = BidsMaker(root / "bids")
    maker.subject()
    maker.bold(
        sidecar={"PhaseEncodingDirection": "j", "TotalReadoutTime": 0.05, "SliceTiming": [0.1 * k for k in range(6)]}
    )
    return maker


def _prepared(data: BidsMaker) -> FmriprepMaker:
    maker = FmriprepMaker(data.root.parent / "prep")
    bold = data.path("sub-01_task-tap_bold.nii.gz", "func")
    maker.anat(data.path("sub-01_T1w.nii.gz", "anat"))
    maker.run(bold, n_dummy=3)
    maker.field(bold, np.zeros((8, 8, 8)), np.diag([6.0, 6, 6, 1]))
    return maker


@pytest.fixture
def data(tmp_path: Path) -> BidsMaker:
    return _data(tmp_path)


@pytest.fixture
def prepared(data: BidsMaker) -> FmriprepMaker:
    return _prepared(data)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory):
    """The graph where nothing is missing, for tests that only look at it."""
    data = _data(tmp_path_factory.mktemp("whole"))
    _prepared(data)
    return graph(data)


def graph(data: BidsMaker, *options: str):
    root = data.root.parent
    return planned_graph(data, root, "-d", str(root / "prep"), *options)


def steps(workflow) -> set[str]:
    return {type(workflow.get_node(name).interface).__name__ for name in workflow.list_node_names()}


def test_nothing_is_estimated_again(whole):
    assert not steps(whole) & (ANATOMY | FUNCTION)


def test_without_it_all_of_that_is_estimated(data, prepared):
    prepared.root.rename(prepared.root.parent / "away")
    FmriprepMaker(prepared.root)
    (prepared.root / "sub-01").mkdir()
    assert steps(graph(data)) >= ANATOMY | FUNCTION


@pytest.mark.parametrize("version", ["20.2.7", "22.0.2", "23.1.4"])
def test_of_older_versions_nothing_is_estimated_again_either(data, version):
    maker = FmriprepMaker(data.root.parent / "prep", version)
    maker.anat(data.path("sub-01_T1w.nii.gz", "anat"))
    maker.run(data.path("sub-01_task-tap_bold.nii.gz", "func"))
    workflow = graph(data)
    assert not steps(workflow) & (ANATOMY | FUNCTION)
    motion = [workflow.get_node(name) for name in workflow.list_node_names() if name.endswith("import_motion")]
    assert [isdefined(node.inputs.in_table) for node in motion] == [version != "23.1.4"]
    assert [isdefined(node.inputs.hmc_xfms) for node in motion] == [version == "23.1.4"]
    assert ("rebuilt from the six parameters that MCFLIRT reported" in methods_text(workflow)) is (version != "23.1.4")


@pytest.mark.parametrize(
    ("gone", "made"),
    [
        ("func/*confounds*", {"Confounds"}),
        ("func/*coreg_xfm*", {"RegisterBoldToT1w"}),
        ("func/*hmc_xfm*", set()),
        ("func/*", FUNCTION),
        ("func/*desc-brain_mask*", {"MaskBold"}),
        ("anat/*probseg*", {"SegmentTissues"}),
        ("anat/*MNI*xfm*", {"MaskBrain", "NormalizeT1w"}),
    ],
)
def test_what_is_missing_alone_is_made(data, prepared, gone, made):
    for path in (prepared.root / "sub-01").glob(gone):
        path.unlink()
    assert steps(graph(data)) & (ANATOMY | FUNCTION) == made


def test_networks_see_the_volumes_as_acquired(whole):
    """What comes to a series is the imported run, its slices shifted in time and nothing else."""
    flat = whole._create_flat_graph()
    series = [node for node in flat.nodes() if type(node.interface).__name__ == "SuperResolve"]
    assert len(series) > 3
    for node in series:
        path = []
        field = "in_file"
        while True:
            found = [
                (source, out)
                for source, _, edge in flat.in_edges(node, data=True)
                for out, into in edge["connect"]
                if into == field
            ]
            if not found:
                break
            ((node, field),) = found
            if not isinstance(node.interface, niu.IdentityInterface):
                path.append(type(node.interface).__name__)
                field = "in_file"
        assert path == ["SliceTiming", "ImportSeries"]
        assert str(getattr(node.inputs, field)).endswith("bids/sub-01/func/sub-01_task-tap_bold.nii.gz")


def test_every_series_undoes_the_distortion(whole):
    flat = whole._create_flat_graph()
    for node in flat.nodes():
        if type(node.interface).__name__ == "SuperResolve":
            wired = {into for _, _, edge in flat.in_edges(node, data=True) for _, into in edge["connect"]}
            assert "shift_map" in wired, node.fullname


def test_images_name_what_they_were_made_from(whole):
    flat = whole._create_flat_graph()
    sources = [
        node.inputs.sources for node in flat.nodes()
        if type(node.interface).__name__ == "WriteDerivatives" and isdefined(node.inputs.sources)
    ]  # fmt: skip
    every = {uri for uris in sources for uri in uris}
    for name in ("desc-preproc_T1w.nii.gz", "desc-hmc_xfm.txt", "desc-coreg_xfm.txt", "desc-preproc_fieldmap.nii.gz"):
        assert any(uri.startswith("bids:fmriprep:sub-01/") and uri.endswith(name) for uri in every), name
    assert "bids:raw:sub-01/func/sub-01_task-tap_bold.nii.gz" in every


def test_the_text_and_the_report_say_what_was_taken_over(whole):
    workflow = whole
    text = methods_text(workflow)
    for words in (
        "the preprocessed T1-weighted image", "the head-motion transforms of the run", "the confounds",
        "its registration to the T1-weighted image", "Its field map", "networks saw the distorted volumes",
    ):  # fmt: skip
        assert words in text
    assert "Gauss-Newton minimization" not in text
    assert "N4" not in text
    shown = [
        workflow.get_node(name).inputs.summary for name in workflow.list_node_names()
        if type(workflow.get_node(name).interface).__name__ == "SummaryReport"
    ]  # fmt: skip
    listed = " ".join(str(facts.get("Taken over from fMRIPrep 24.1.1", "")) for facts in shown)
    for name in ("sub-01_desc-brain_mask.nii.gz", "desc-hmc_xfm.txt", "confounds_timeseries.tsv"):
        assert name in listed


def test_dummies_are_those_that_its_table_marks(data, prepared):
    def count(workflow) -> list[int]:
        nodes = [workflow.get_node(name) for name in workflow.list_node_names() if re.search(r"\.dummies$", name)]
        return [node.inputs.n_dummy for node in nodes]

    assert count(graph(data)) == [3]
    assert count(graph(data, "--dummy-scans", "1")) == [1]
