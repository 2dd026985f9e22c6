"""Derivatives of fMRIPrep are reused rather than estimated again, and every output lists its
sources.
"""

from pathlib import Path

import numpy as np
import pytest
from data.dataset import BidsMaker
from data.fmriprep import FmriprepMaker
from graphmaker import made_by, nodes_of, planned_graph, steps_of

from bids_sr.engine.graph import Graph
from bids_sr.engine.store import store

ANATOMY = {
    "correct_head",
    "mask_brain",
    "correct_brain",
    "find_start",
    "normalize_t1w",
    "segment_tissues",
}
FUNCTION = {
    "estimate_motion",
    "average_volumes",
    "mask_head",
    "mask_bold",
    "register_to_t1w",
    "gather_confounds",
}


def _data(root: Path) -> BidsMaker:
    maker = BidsMaker(root / "bids")
    maker.subject()
    maker.bold(
        sidecar={
            "PhaseEncodingDirection": "j",
            "TotalReadoutTime": 0.05,
            "SliceTiming": [0.1 * k for k in range(6)],
        }
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
def full_graph(tmp_path_factory: pytest.TempPathFactory):
    """Plan the graph with complete derivatives, for tests that do not change it."""
    data = _data(tmp_path_factory.mktemp("whole"))
    _prepared(data)
    return graph(data)


def graph(data: BidsMaker, *options: str):
    root = data.root.parent
    return planned_graph(data, root, "-d", str(root / "prep"), *options)


def test_nothing_is_estimated_again(full_graph):
    assert not steps_of(full_graph) & (ANATOMY | FUNCTION)


def test_everything_is_estimated_if_the_participant_has_no_derivatives(data, prepared):
    prepared.root.rename(prepared.root.parent / "away")
    FmriprepMaker(prepared.root)
    (prepared.root / "sub-01").mkdir()
    assert steps_of(graph(data)) >= (ANATOMY - {"find_start"}) | FUNCTION


@pytest.mark.parametrize("version", ["20.2.7", "22.0.2", "23.1.4"])
def test_nothing_is_estimated_again_with_older_versions(data, version):
    maker = FmriprepMaker(data.root.parent / "prep", version)
    maker.anat(data.path("sub-01_T1w.nii.gz", "anat"))
    maker.run(data.path("sub-01_task-tap_bold.nii.gz", "func"))
    workflow = graph(data)
    assert not steps_of(workflow) & (ANATOMY | FUNCTION)
    assert ("rebuild_motion" in steps_of(workflow)) is (version != "23.1.4")
    assert ("import_motion" in steps_of(workflow)) is (version == "23.1.4")


@pytest.mark.parametrize(
    ("deleted", "estimated"),
    [
        ("func/*confounds*", {"gather_confounds"}),
        ("func/*coreg_xfm*", {"register_to_t1w"}),
        ("func/*hmc_xfm*", set()),
        ("func/*", FUNCTION),
        ("func/*desc-brain_mask*", {"mask_bold"}),
        ("anat/*probseg*", {"segment_tissues"}),
        ("anat/*MNI*xfm*", {"find_start", "normalize_t1w"}),
    ],
)
def test_only_missing_derivatives_are_estimated(data, prepared, deleted, estimated):
    for path in (prepared.root / "sub-01").glob(deleted):
        path.unlink()
    assert steps_of(graph(data)) & (ANATOMY | FUNCTION) == estimated


def test_networks_get_the_volumes_as_acquired_and_every_series_undoes_the_distortion(
    full_graph: Graph,
) -> None:
    """Series are resampled from the imported run, without outlier volumes, after slice-timing
    correction only.
    """
    series = nodes_of(full_graph, "super_resolve")
    assert len(series) > 3
    for placed in series:
        [timed] = made_by(full_graph, placed, "stc")
        [replaced] = made_by(full_graph, timed, "bold")
        [read] = made_by(full_graph, replaced, "acquired")
        steps = [node.step.__name__ for node in (timed, replaced, read)]
        assert steps == ["correct_slice_timing", "replace_outliers", "import_series"]
        [file] = made_by(full_graph, read, "bold_file")
        assert file.name == "sub-01_task-tap_bold.nii.gz"
    for placed in (*series, *nodes_of(full_graph, "correct_motion")):
        [distortion] = made_by(full_graph, placed, "distortion")
        assert distortion.step.__name__ == "field_to_shift"


def test_images_list_the_files_of_fmriprep_among_their_sources(full_graph: Graph) -> None:
    uris = {
        uri
        for placed in full_graph.nodes
        if placed.step is store
        for uri in full_graph.settings[placed]["sources"]
    }
    for name in (
        "desc-preproc_T1w.nii.gz",
        "desc-hmc_xfm.txt",
        "desc-coreg_xfm.txt",
        "desc-preproc_fieldmap.nii.gz",
    ):
        assert any(
            uri.startswith("bids:fmriprep:sub-01/") and uri.endswith(name) for uri in uris
        ), name
    assert "bids:raw:sub-01/func/sub-01_task-tap_bold.nii.gz" in uris


def test_dummy_scans_are_taken_from_the_confounds_table(data, prepared):
    def count(case_graph: Graph) -> list[int]:
        return [
            case_graph.settings[placed]["dummy_scans"]
            for placed in nodes_of(case_graph, "count_dummies")
        ]

    assert count(graph(data)) == [3]
    assert count(graph(data, "--dummy-scans", "1")) == [1]
